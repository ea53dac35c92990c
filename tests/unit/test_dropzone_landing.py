"""The landing folder: lines whatever their length, copies under their digest, links left alone."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from quality.canonical import MAX_BYTES
from streaming.dropzone.landing import Landing, LocalLanding, open_landing


@pytest.fixture
def landing(tmp_path: Path) -> Landing:
    landing = open_landing(str(tmp_path / "landing"), {})
    landing.prepare("bank")
    return landing


def put(landing: Landing, content: bytes) -> str:
    landing.write_receipt("bank", "f", content)
    return landing.copy("bank", "f").digest


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.sampled_from([b"", b"a,b", b"\r", b"x" * 5000, b"\xff\x00"]), max_size=9), st.booleans())
def test_lines_are_read_from_any_of_their_starts(
    landing: Landing, lines: list[bytes], is_whole: bool
) -> None:
    content = b"\n".join(lines) + (b"\n" if is_whole else b"")
    digest = put(landing, content)
    assert digest == hashlib.sha256(content).hexdigest()
    found = list(landing.lines("bank", digest))
    assert b"".join(line for line, _ in found) == content
    for at, (_, end) in enumerate(found):
        assert list(landing.lines("bank", digest, end)) == found[at + 1 :]


def test_a_line_without_end_takes_no_memory_and_the_next_one_is_whole(landing: Landing) -> None:
    content = b"first\n" + b"x" * 5_000_000 + b"\nlast\n" + b"y" * 3_000_000
    found = list(landing.lines("bank", put(landing, content)))
    assert [line[:6] for line, _ in found] == [b"first\n", b"xxxxxx", b"last\n", b"yyyyyy"]
    assert all(len(line) <= MAX_BYTES + 1025 for line, _ in found)
    assert [end for _, end in found] == [6, 5_000_007, 5_000_012, len(content)]


def test_a_copy_says_whether_its_last_line_ends(landing: Landing) -> None:
    for content, ends in ((b"a\n", True), (b"a", False), (b"", False)):
        put(landing, content)
        copy = landing.copy("bank", "f")
        assert (copy.size, copy.ends_a_line) == (len(content), ends)
        assert landing.has_copy("bank", copy.digest)
        landing.write_journal("bank", copy.digest, b"{}")
        landing.drop_copy("bank", copy.digest)
        landing.drop_copy("bank", copy.digest)
        assert not landing.has_copy("bank", copy.digest)
        assert landing.journal("bank", copy.digest) is None


def test_only_what_a_kill_left_long_ago_is_cleared_away(landing: Landing, tmp_path: Path) -> None:
    digest = put(landing, b"a\n")
    ours = tmp_path / "landing" / ".dropzone" / "bank"
    (ours / "x.copying").touch()
    assert landing.copies("bank") == [digest]
    assert landing.copies("bank", standing_s=60) == []
    assert (ours / "x.copying").exists()
    for path in ours.iterdir():
        os.utime(path, (0, 0))
    assert landing.copies("bank", standing_s=60) == [digest]
    assert not (ours / "x.copying").exists()


def test_files_are_known_by_more_than_what_a_client_can_set(tmp_path: Path) -> None:
    landing = LocalLanding(tmp_path)
    landing.prepare("bank")
    folder = tmp_path / "bank"
    (folder / "day.csv").write_bytes(b"1")
    (folder / "link").symlink_to(folder / "day.csv")
    (folder / "inner").mkdir()
    Path(os.fsdecode(os.fsencode(folder) + b"/\xff")).touch()
    (before,) = landing.files("bank").values()
    facts = (folder / "day.csv").stat()
    (folder / "day.csv").write_bytes(b"2")
    os.utime(folder / "day.csv", ns=(facts.st_atime_ns, facts.st_mtime_ns))
    (after,) = landing.files("bank").values()
    assert before.name == after.name == "day.csv"
    assert before.fingerprint != after.fingerprint
