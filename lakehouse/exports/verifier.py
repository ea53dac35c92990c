# ruff: noqa: E401, E501, I001, UP035
# fmt: off
"""Verifies an export, or a proof of one row, with Python's standard library and pyarrow alone.
    python verify.py [FOLDER | PROOF.json] [PUBLIC_KEY.pem]      exit 0: whole; 1: it names what was altered
"""
import base64, hashlib, json, sys
from decimal import Decimal
from pathlib import Path
from typing import Any, Iterable, Iterator
import pyarrow as pa, pyarrow.compute as pc, pyarrow.parquet as pq
P, ORDER = 2**255 - 19, 2**252 + 27742317777372353535851937790883648493
D = -121665 * pow(121666, -1, P) % P
Point = tuple[int, int, int, int]  # of edwards25519: X, Y, Z, T as in RFC 8032, 5.1.4
def add(a: Point, b: Point) -> Point:
    low, high = (a[1] - a[0]) * (b[1] - b[0]), (a[1] + a[0]) * (b[1] + b[0])
    c, z = 2 * a[3] * b[3] * D, 2 * a[2] * b[2]
    e, f, g, h = high - low, z - c, z + c, high + low
    return e * f % P, g * h % P, f * g % P, e * h % P
def times(n: int, point: Point) -> Point:
    rest: Point = times(n >> 1, add(point, point)) if n else (0, 1, 1, 0)
    return add(rest, point) if n & 1 else rest
def point_of(data: bytes) -> Point:
    y, sign = int.from_bytes(data, "little") & (1 << 255) - 1, data[31] >> 7
    square = (y * y - 1) * pow(D * y * y + 1, -1, P) % P
    x = pow(square, (P + 3) // 8, P)
    x = x if (x * x - square) % P == 0 else x * pow(2, (P - 1) // 4, P) % P
    if y >= P or (x * x - square) % P or (x == 0 and sign):
        raise ValueError("no point of the curve")
    x = P - x if x & 1 != sign else x
    return x, y, 1, x * y % P
def is_signed(key: bytes, message: bytes, signature: bytes) -> bool:  # Ed25519: RFC 8032, 5.1.7
    if (len(key), len(signature)) != (32, 64) or int.from_bytes(signature[32:], "little") >= ORDER:
        return False
    try:
        a, r, base = point_of(key), point_of(signature[:32]), point_of(b"\x58" + b"\x66" * 31)
    except ValueError:
        return False
    h = int.from_bytes(hashlib.sha512(signature[:32] + key + message).digest(), "little") % ORDER
    left, right = times(int.from_bytes(signature[32:], "little"), base), add(r, times(h, a))
    return all((left[i] * right[2] - right[i] * left[2]) % P == 0 for i in (0, 1))
def says(manifest: bytes) -> bytes:  # what is signed
    return b"paywave audit manifest sha256:" + hashlib.sha256(manifest).hexdigest().encode()
def plain(v: Any) -> Any:
    if isinstance(v, dict | list):
        return {k: plain(e) for k, e in v.items()} if isinstance(v, dict) else [plain(e) for e in v]
    return format(v, "f") if isinstance(v, Decimal) else base64.b64encode(v).decode() if isinstance(v, bytes) else v
def leaf_of(row: Any) -> bytes:  # RFC 6962, 2.1; the row as JSON, its fields sorted
    return hashlib.sha256(b"\x00" + json.dumps(plain(row), sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()).digest()
def leaves_in(path: Any) -> Iterator[bytes]:
    for batch in pq.ParquetFile(path).iter_batches(8192):  # times as text first: Python's end at the year 9999
        columns = [pc.strftime(c.cast(pa.timestamp("us")), format="%Y-%m-%dT%H:%M:%SZ") if pa.types.is_timestamp(c.type) else c for c in batch.columns]
        yield from map(leaf_of, pa.RecordBatch.from_arrays(columns, names=batch.schema.names).to_pylist())
def root_of(leaves: Iterable[bytes]) -> str:
    full: list[bytes] = []
    def join() -> None:
        full.append(hashlib.sha256(b"\x01" + full.pop(-2) + full.pop()).digest())
    for size, leaf in enumerate(leaves, 1):
        full.append(leaf)
        for _ in range((size & -size).bit_length() - 1):
            join()
    while len(full) > 1:
        join()
    return (full[0] if full else hashlib.sha256(b"").digest()).hex()
def wrong_in_proof(proof: Any, key: bytes) -> Iterator[str]:
    if not is_signed(key, says(proof["manifest"].encode()), bytes.fromhex(proof["signature"])):
        yield "manifest: not signed by this key"
    file = next(f for f in json.loads(proof["manifest"])["files"] if f["path"] == proof["file"])
    found, index, last = leaf_of(proof["row"]), proof["index"], file["rows"] - 1
    for other in map(bytes.fromhex, proof["path"]):  # RFC 9162, 2.1.3.2
        pair = other + found if index % 2 or index == last else found + other
        while index == last and index % 2 == 0 and index:
            index, last = index // 2, last // 2
        found, index, last = hashlib.sha256(b"\x01" + pair).digest(), index // 2, last // 2
    if last or found.hex() != file["root"] or not 0 <= proof["index"] < file["rows"] or proof["table"] != file["table"]:
        yield f"row: not in {proof['file']}"
def wrong_in_export(folder: Path, key: bytes) -> Iterator[str]:
    data, signature = (folder / "manifest.json").read_bytes(), folder / "manifest.json.sig"
    if not is_signed(key, says(data), signature.read_bytes() if signature.exists() else b""):
        yield "manifest.json: not what manifest.json.sig signs by this key"
    files = {f["path"]: f for f in json.loads(data)["files"]}
    there = {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()} - {"manifest.json"}
    yield from (f"{path}: {'missing' if path in files else 'not in the manifest'}" for path in sorted(there - {signature.name} ^ set(files)))
    for path in sorted(there & set(files)):
        with (folder / path).open("rb") as file:
            if hashlib.file_digest(file, "sha256").hexdigest() != files[path]["sha256"] or ("root" in files[path] and files[path]["root"] != root_of(leaves_in(folder / path))):
                yield f"{path}: altered"
    if json.loads(data)["root"] != root_of(leaf_of(f["root"]) for f in files.values() if "root" in f):
        yield "manifest.json: its root is not that of its files"
if __name__ == "__main__":
    place, pem = [*map(Path, sys.argv[1:3]), *(Path(__file__).parent / name for name in ("", "public-key.pem")[len(sys.argv) - 1 :])]
    found: list[str] = []
    try:
        if len(sys.argv) < 3:
            print(f"by the key beside it, which may be replaced: compare sha256 {hashlib.sha256(pem.read_bytes()).hexdigest()} of {pem.name} with the signer's")
        public = base64.b64decode(pem.read_text().split("-----")[2])[-32:]
        found += wrong_in_proof(json.loads(place.read_text()), public) if place.is_file() else wrong_in_export(place, public)
    except Exception as error:
        found.append(f"{place}: cannot be read: {error!r}")
    sys.exit("\n".join(found) or print("whole: nothing was altered"))
