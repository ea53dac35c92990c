"""Bloom filters as Parquet writes them: what a file holds is never denied, and nearly all else is."""

from __future__ import annotations

import io
from pathlib import Path
from uuid import UUID, uuid5

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lakehouse.investigations.bloom import may_hold, xxhash64

_SPACE = UUID("6ba7b811-9dad-11d1-80b4-00c04fd430c8")
NESTED = "headers.list.element.value"


def ids(count: int, of: str = "in") -> list[str]:
    return [str(uuid5(_SPACE, f"{of}-{i}")) for i in range(count)]


def parquet(options: dict[str, object] | bool = True, rows: int = 3000) -> io.BytesIO:
    """A file of two row groups with ids as text and, nested in a list, as bytes."""
    headers = [[{"key": "ce_id", "value": text.encode()}] for text in ids(rows)]
    table = pa.table({"id": ids(rows), "other": ids(rows, "other"), "headers": headers})
    file = io.BytesIO()
    wanted = {"id": {"ndv": rows}, NESTED: {"ndv": rows}} if options is True else options
    pq.write_table(table, file, row_group_size=rows // 2, bloom_filter_options=wanted or None)
    return file


@pytest.mark.parametrize(
    ("text", "hashed"),
    [
        (b"", 0xEF46DB3751D8E999),
        (b"a", 0xD24EC4F1A98C6E5B),
        (b"abc", 0x44BC2CF5AD770999),
        (b"Nobody inspects the spammish repetition", 0xFBCEA83C8A378BF1),
    ],
)
def test_the_hash_is_that_of_its_specification(text: bytes, hashed: int) -> None:
    assert xxhash64(text) == hashed


@pytest.mark.parametrize("path", ["id", NESTED])
def test_what_is_in_a_file_is_never_denied(path: str) -> None:
    file = parquet()
    assert all(may_hold(file, {path: [text.encode()]}) for text in ids(3000)[::37])


@pytest.mark.parametrize("path", ["id", NESTED])
def test_nearly_all_that_is_not_in_a_file_is_denied(path: str) -> None:
    file = parquet()
    assert sum(may_hold(file, {path: [text.encode()]}) for text in ids(300, "out")) < 30


def test_any_of_several_values_will_do() -> None:
    (inside,), (outside,) = ids(1), ids(1, "out")
    assert may_hold(parquet(), {"id": [outside.encode(), inside.encode()]})
    assert may_hold(parquet(), {"id": [outside.encode()], NESTED: [inside.encode()]})
    assert not may_hold(parquet(), {"id": [outside.encode()], NESTED: [outside.encode()]})


def test_a_large_column_without_a_filter_may_hold_everything_and_a_missing_one_nothing() -> None:
    file = parquet(options={}, rows=30_000)
    assert may_hold(file, {"other": [b"anything"]})
    assert not may_hold(file, {"no_such_column": [b"anything"]})


@pytest.mark.parametrize("path", ["id", NESTED])
def test_a_small_column_without_a_filter_is_read_itself(path: str) -> None:
    """As Java's writer leaves it out where a dictionary holds all values."""
    file = parquet(options={})
    assert all(may_hold(file, {path: [text.encode()]}) for text in ids(3000)[::500])
    assert not any(may_hold(file, {path: [text.encode()]}) for text in ids(20, "out"))
    assert not may_hold(file, {path: [b"\xff\x00"]})


def test_duckdb_and_we_read_the_same_filter_alike(tmp_path: Path) -> None:
    """A reader that is not ours says the same of a file, row group by row group."""
    path = tmp_path / "ids.parquet"
    path.write_bytes(parquet().getvalue())
    texts = [*ids(40), *ids(200, "out"), "", "x" * 31, "é" * 40, "y" * 100]
    sql = "SELECT bool_and(bloom_filter_excludes) FROM parquet_bloom_probe(?, 'id', ?)"
    with duckdb.connect() as connection, path.open("rb") as file:
        for text in texts:
            ((excludes,),) = connection.execute(sql, [str(path), text]).fetchall()
            assert may_hold(file, {"id": [text.encode()]}) is not excludes, text
