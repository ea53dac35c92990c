"""Can a Parquet file hold a value? Asks its Bloom filters, and a small column without one itself.

Belongs here: the filters as the Parquet format defines them (split-block, xxHash64); pyarrow tells where they
are, and cannot ask them. Does not: which files are asked, and how they are opened (`lookup.py`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

_MASK = 2**64 - 1
_P1, _P2, _P3 = 0x9E3779B185EBCA87, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9
_P4, _P5 = 0x85EBCA77C2B2AE63, 0x27D4EB2F165667C5
_SALT = (
    0x47B6137B, 0x44974D91, 0x8824AD5B, 0xA2B7289D, 0x705495C7, 0x2DF1424B, 0x9EFC4947, 0x5C6BFB31,
)  # fmt: skip
_BLOCK_BYTES = 32
# What stands behind a filter's size where it is a split-block one, of xxHash, not compressed: the only kind.
_KIND = b"\x1c\x1c\x00\x00" * 3 + b"\x00"
_HEADER_BYTES = 32
# A chunk of a column that is no larger than the largest filter is read instead of one. Java's writer leaves
# the filter out where all values of a chunk went into its dictionary.
_SMALL_BYTES = 131_072

Wanted = Mapping[str, Iterable[bytes]]
"""Column, by its path in Parquet, to values in their plain encoding: any of any column is wanted."""


def may_hold(file: BinaryIO, wanted: Wanted) -> bool:
    """Tell whether a Parquet file may hold any of these values: False is certain, True is not.

    A large column without a filter may hold everything; one that the file does not have holds nothing.
    """
    parquet = pq.ParquetFile(file)
    values = {path: list(of_path) for path, of_path in wanted.items()}
    groups = range(parquet.metadata.num_row_groups)
    return any(_group_may_hold(parquet, file, group, values) for group in groups)


def _group_may_hold(
    parquet: pq.ParquetFile, file: BinaryIO, group: int, values: Mapping[str, list[bytes]]
) -> bool:
    metadata = parquet.metadata.row_group(group)
    for column in (metadata.column(i) for i in range(metadata.num_columns)):
        of_column = values.get(column.path_in_schema)
        if of_column is None:
            continue
        if column.bloom_filter_offset is not None:
            if _filter_may_hold(file, column, [xxhash64(value) for value in of_column]):
                return True
        elif column.total_compressed_size > _SMALL_BYTES or _holds(parquet, group, column, of_column):
            return True
    return False


def _holds(parquet: pq.ParquetFile, group: int, column: Any, values: list[bytes]) -> bool:
    """Read the values of a column in a row group, however deep in lists they stand."""
    found = parquet.read_row_group(group, columns=[column.path_in_schema]).column(0).combine_chunks()
    while not (pa.types.is_binary(found.type) or pa.types.is_string(found.type)):
        found = found.flatten() if pa.types.is_list(found.type) else found.field(0)
    return bool(pc.any(pc.is_in(found.cast(pa.binary()), value_set=pa.array(values, pa.binary()))).as_py())


def _filter_may_hold(file: BinaryIO, column: Any, hashes: Iterable[int]) -> bool:
    file.seek(column.bloom_filter_offset)
    filter_ = file.read(column.bloom_filter_length or _HEADER_BYTES)
    size, start = _size(filter_)
    if size is None:
        return True  # of a kind that is not known here
    if len(filter_) < start + size:
        filter_ += file.read(start + size - len(filter_))
    bits = memoryview(filter_)[start : start + size]
    return any(is_in(bits, value) for value in hashes)


def _size(filter_: bytes) -> tuple[int | None, int]:
    """Read a filter's header (Thrift's compact protocol): bytes of its bits, and where they begin."""
    if filter_[:1] != b"\x15":
        return None, 0
    number, shift, at = 0, 0, 1
    while at < len(filter_):
        byte = filter_[at]
        number |= (byte & 0x7F) << shift
        shift, at = shift + 7, at + 1
        if not byte & 0x80:
            break
    size, start = number >> 1, at + len(_KIND)  # zigzag: sizes are positive
    is_known = filter_[at:start] == _KIND and size > 0 and size % _BLOCK_BYTES == 0
    return (size, start) if is_known else (None, 0)


def is_in(bits: memoryview | bytes, hashed: int) -> bool:
    """Ask a split-block filter for a hash: eight bits of one block, one in each of its words."""
    block = ((hashed >> 32) * (len(bits) // _BLOCK_BYTES)) >> 32
    low, start = hashed & 0xFFFFFFFF, block * _BLOCK_BYTES
    for i, salt in enumerate(_SALT):
        word = int.from_bytes(bits[start + 4 * i : start + 4 * i + 4], "little")
        if not word >> (((low * salt) & 0xFFFFFFFF) >> 27) & 1:
            return False
    return True


def xxhash64(data: bytes) -> int:
    """Hash as Parquet does: xxHash64 with seed 0. The standard library has none; ids are short."""
    at, length = 0, len(data)
    if length >= 32:
        lanes = [(_P1 + _P2) & _MASK, _P2, 0, -_P1 & _MASK]
        while at + 32 <= length:
            for i in range(4):
                lanes[i] = _round(lanes[i], _word(data, at + 8 * i, 8))
            at += 32
        hashed = sum(_rotated(lane, by) for lane, by in zip(lanes, (1, 7, 12, 18), strict=True)) & _MASK
        for lane in lanes:
            hashed = ((hashed ^ _round(0, lane)) * _P1 + _P4) & _MASK
    else:
        hashed = _P5
    return _mixed(_tail(data, at, (hashed + length) & _MASK))


def _tail(data: bytes, at: int, hashed: int) -> int:
    while at + 8 <= len(data):
        hashed = (_rotated(hashed ^ _round(0, _word(data, at, 8)), 27) * _P1 + _P4) & _MASK
        at += 8
    if at + 4 <= len(data):
        hashed = (_rotated(hashed ^ (_word(data, at, 4) * _P1 & _MASK), 23) * _P2 + _P3) & _MASK
        at += 4
    for byte in data[at:]:
        hashed = _rotated(hashed ^ (byte * _P5 & _MASK), 11) * _P1 & _MASK
    return hashed


def _round(lane: int, word: int) -> int:
    return _rotated((lane + word * _P2) & _MASK, 31) * _P1 & _MASK


def _mixed(hashed: int) -> int:
    hashed = (hashed ^ hashed >> 33) * _P2 & _MASK
    hashed = (hashed ^ hashed >> 29) * _P3 & _MASK
    return hashed ^ hashed >> 32


def _rotated(number: int, by: int) -> int:
    return (number << by | number >> 64 - by) & _MASK


def _word(data: bytes, at: int, size: int) -> int:
    return int.from_bytes(data[at : at + size], "little")
