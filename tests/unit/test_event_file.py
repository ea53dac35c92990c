"""Reading files of events: bytes as they are, CSV recognised by its header, clear errors for the rest."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from streaming.errors import InputFileError, ProfileError
from streaming.event_file import open_event_file, standard_input

HEADER = b"TRANSACTION_ID,TX_DATETIME,CUSTOMER_ID,TERMINAL_ID,TX_AMOUNT,TX_FRAUD\n"
ROW = b"1,2019-03-05 00:20:15,20,145,58.03,0\n"


def values(path: Path) -> list[bytes]:
    with open_event_file(path) as file:
        assert file.format == "jsonl"
        found = [m.value for m in file.messages()]
        assert file.bytes_read == file.size
        return found


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", []),
        (b'{"a":1}\n{"b":2}\n', [b'{"a":1}', b'{"b":2}']),
        (b'{"a":1}\nno end', [b'{"a":1}', b"no end"]),
        (b"broken\n\n \xff\r\n", [b"broken", b"", b" \xff\r"]),
        (b"\n", [b""]),
        (b'{"a":"\xe2\x80\xa8\x0b\x0c\x1c"}\n', [b'{"a":"\xe2\x80\xa8\x0b\x0c\x1c"}']),
    ],
)
def test_every_line_of_jsonl_is_a_message_of_the_same_bytes(
    tmp_path: Path, content: bytes, expected: list[bytes]
) -> None:
    path = tmp_path / "events.jsonl"
    path.write_bytes(content)
    assert values(path) == expected


def test_csv_is_recognised_by_its_header_whatever_the_file_is_called(tmp_path: Path) -> None:
    for name in ("day.csv", "day.txt", "day", "day.jsonl"):
        path = tmp_path / name
        path.write_bytes(b"\xef\xbb\xbf" + HEADER.replace(b"\n", b"\r\n") + ROW)
        with open_event_file(path) as file:
            assert file.profile is not None
            assert (file.format, file.profile.name) == ("csv", "card-transactions")
            assert len(list(file.messages())) == 1


def test_a_pipe_is_jsonl_unless_its_header_is_known() -> None:
    with standard_input(io.BytesIO(b"anything\n")) as file:
        assert [m.value for m in file.messages()] == [b"anything"]
    with standard_input(io.BytesIO(HEADER + ROW)) as file:
        assert file.format == "csv"


def test_the_source_may_be_named(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    path.write_bytes(b"{}\n")
    with open_event_file(path, source="acme") as file:
        (message,) = file.messages()
    assert ("ce_source", b"acme") in message.headers


def test_no_card_number_of_a_row_or_a_files_name_gets_out(tmp_path: Path) -> None:
    path = tmp_path / "of-4111111111111111.csv"
    path.write_bytes(HEADER + ROW.replace(b",145,", b",4111-1111-1111-1111,") + b"broken\n" + ROW)
    with open_event_file(path) as file:
        broken, event = file.messages()
    assert (file.refused.count, file.refused.lines) == (1, [2])
    assert dict(broken.headers)["file"] == b"of-[card number].csv"
    assert broken.value == b"broken"
    assert b"145" in event.value
    path.write_bytes(b"4111111111111111,a\n1,2\n")
    with pytest.raises(ProfileError) as caught, open_event_file(path):
        pass
    assert "'[card number],a'" in str(caught.value)


@pytest.mark.parametrize("name", ["day.csv", "day.txt", "day"])
def test_an_unknown_header_is_an_error_that_shows_it(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(b"a,b,c\n1,2,3\n")
    with pytest.raises(ProfileError, match=r"no profile fits .*'a,b,c'") as caught, open_event_file(path):
        pass
    assert "card-transactions" in caught.value.hint


def test_a_wrong_or_unknown_profile_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    path.write_bytes(b'{"a":1}\n')
    with (
        pytest.raises(ProfileError, match="does not fit"),
        open_event_file(path, profile="card-transactions"),
    ):
        pass
    with pytest.raises(ProfileError, match="no profile 'acme'"), open_event_file(path, profile="acme"):
        pass
    with pytest.raises(ProfileError, match="cannot read profile"), open_event_file(path, profile="no.toml"):
        pass


def test_an_unreadable_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InputFileError, match="cannot read"), open_event_file(tmp_path / "absent"):
        pass
    with pytest.raises(InputFileError, match="cannot read"), open_event_file(tmp_path):
        pass
