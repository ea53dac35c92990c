"""The keyring: one key per person however many ask, destroyed for good, unavailable rather than wrong."""

from __future__ import annotations

import secrets
import sqlite3
from collections.abc import Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import pytest

from lakehouse.erasure import Eraser
from lakehouse.errors import ErasureRefused, KeyringUnavailable
from lakehouse.keyring import CachedKeys, KeyringConfig, Order, SqliteKeyring
from quality.sealing import KEY_BYTES, SubjectKey

MASTER = b"m" * KEY_BYTES
ORDER = Order("request 4711", "jo", "ann@desk")


@pytest.fixture
def config(tmp_path: Path) -> KeyringConfig:
    return KeyringConfig(tmp_path / "keyring" / "subjects.sqlite", MASTER)


@pytest.fixture
def keyring(config: KeyringConfig) -> SqliteKeyring:
    return config.open()


def one(keyring: SqliteKeyring, subject: str = "acct-1") -> SubjectKey:
    return keyring.made((subject,))[subject]


def made_elsewhere(config: KeyringConfig, subjects: Collection[str]) -> dict[str, str]:
    """What another process gets; at the top of the module, so that it can be started there."""
    return {subject: key.id for subject, key in config.open().made(subjects).items()}


def test_a_key_is_made_once_and_found_again(config: KeyringConfig, keyring: SqliteKeyring) -> None:
    first = one(keyring)
    assert len(first.secret) == KEY_BYTES
    assert one(keyring) == one(config.open()) == first
    assert keyring.keys("acct-1") == (first,)
    other = one(keyring, "acct-2")
    assert (other.id, other.secret) != (first.id, first.secret)
    assert keyring.keys("acct-3") == ()
    assert keyring.states("acct-3") == ()


def test_ids_are_letters_and_say_nothing_of_the_person(keyring: SqliteKeyring) -> None:
    ids = {key.id for key in keyring.made([f"acct-{n}" for n in range(50)]).values()}
    assert len(ids) == 50
    assert all(key_id.isalpha() and key_id.islower() for key_id in ids)


def test_two_who_want_the_first_key_at_once_get_the_same(config: KeyringConfig) -> None:
    subjects = [f"acct-{n}" for n in range(40)]
    with ThreadPoolExecutor(4) as pool:
        told = list(pool.map(lambda _: made_elsewhere(config, subjects), range(8)))
    assert all(each == told[0] for each in told)


def test_two_processes_get_the_same(config: KeyringConfig) -> None:
    subjects = [f"acct-{n}" for n in range(40)]
    with get_context("spawn").Pool(2) as pool:
        told = pool.starmap(made_elsewhere, [(config, subjects), (config, subjects[::-1])])
    assert told[0] == told[1]


def test_a_key_that_was_destroyed_is_in_no_file_and_leaves_its_stone(
    config: KeyringConfig, keyring: SqliteKeyring
) -> None:
    key = one(keyring)
    with sqlite3.connect(config.path) as file:
        ((wrapped,),) = file.execute("SELECT wrapped FROM subject_keys").fetchall()
    assert any(wrapped in path.read_bytes() for path in config.path.parent.iterdir())
    assert keyring.destroy("acct-1", ORDER) == (key.id,)
    assert not any(wrapped in path.read_bytes() for path in config.path.parent.iterdir())
    assert keyring.keys("acct-1") == ()
    (state,) = keyring.states("acct-1")
    assert (state.key_id, state.generation, state.order) == (key.id, 1, ORDER)
    assert state.destroyed_at is not None
    assert state.as_json()["reason"] == "request 4711"
    assert keyring.destroy("acct-1", ORDER) == keyring.destroy("never-seen", ORDER) == ()


def test_what_comes_after_an_erasure_is_sealed_with_a_new_key(keyring: SqliteKeyring) -> None:
    first = one(keyring)
    keyring.destroy("acct-1", ORDER)
    second = one(keyring)
    assert second.id != first.id
    assert second.secret != first.secret
    assert [(s.generation, s.destroyed_at is None) for s in keyring.states("acct-1")] == [
        (1, False),
        (2, True),
    ]
    assert keyring.keys("acct-1") == (second,)
    assert keyring.destroy("acct-1", ORDER) == (second.id,)


def test_a_keyring_that_was_restored_shows_what_came_back(
    config: KeyringConfig, keyring: SqliteKeyring
) -> None:
    key, kept = one(keyring), one(keyring, "acct-2")
    keyring.close()
    backup = config.path.read_bytes()
    keyring.destroy("acct-1", ORDER)
    assert keyring.alive((key.id,)) == ()
    keyring.close()
    for path in config.path.parent.iterdir():
        path.unlink()
    config.path.write_bytes(backup)
    assert keyring.alive((key.id, "unknown")) == (key.id,)
    assert one(keyring, "acct-2") == kept


def test_another_master_key_opens_nothing(config: KeyringConfig, keyring: SqliteKeyring) -> None:
    one(keyring)
    other = SqliteKeyring(config.path, secrets.token_bytes(KEY_BYTES))
    with pytest.raises(KeyringUnavailable, match="another master key"):
        other.made(("acct-1",))


def test_a_row_that_was_moved_to_another_person_opens_nothing(
    config: KeyringConfig, keyring: SqliteKeyring
) -> None:
    one(keyring)
    with sqlite3.connect(config.path) as file:
        file.execute("UPDATE subject_keys SET subject = 'acct-2'")
    with pytest.raises(KeyringUnavailable):
        keyring.made(("acct-2",))


def test_a_file_that_is_no_keyring_is_unavailable_and_works_once_it_is_mended(config: KeyringConfig) -> None:
    config.path.parent.mkdir()
    config.path.write_bytes(b"not a database, by far not " * 100)
    keyring = config.open()
    with pytest.raises(KeyringUnavailable, match="cannot be used"):
        keyring.made(("acct-1",))
    config.path.unlink()
    assert keyring.made(("acct-1",))


def test_nothing_of_the_keyring_shows(config: KeyringConfig) -> None:
    assert "mmmm" not in repr(config)


class Counting:
    """A keyring that counts how often it is asked, and can be taken away."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, ...]] = []
        self.is_down = False

    def made(self, subjects: Collection[str]) -> Mapping[str, SubjectKey]:
        if self.is_down:
            raise KeyringUnavailable("away")
        self.asked.append(tuple(subjects))
        return {subject: SubjectKey(f"{subject}{len(self.asked)}", MASTER) for subject in subjects}


def test_keys_are_remembered_up_to_a_number_and_for_a_while() -> None:
    counting = Counting()
    keys = CachedKeys(counting, most=2, seconds=1000)  # type: ignore[arg-type]
    first = keys("a")
    assert keys("a") is first
    assert keys.missing(["a", "b", "b"]) == ["b"]
    keys.fetch(["b", "c"])
    assert keys.missing(["a", "b", "c"]) == ["a"]
    assert counting.asked == [("a",), ("b", "c")]
    counting.is_down = True
    keys("c")
    with pytest.raises(KeyringUnavailable):
        keys("a")
    forgetful = CachedKeys(Counting(), most=2, seconds=0)  # type: ignore[arg-type]
    assert forgetful("a") != forgetful("a")


def test_a_legal_hold_stands_against_erasing(keyring: SqliteKeyring) -> None:
    key = one(keyring)
    catalog: object = None
    eraser = Eraser(catalog, {}, keyring, lambda account: f"case 12 of {account}")  # type: ignore[arg-type]
    assert eraser.look("acct-1", counted=False).held == "case 12 of acct-1"
    with pytest.raises(ErasureRefused, match="case 12"):
        eraser.erase("acct-1", ORDER)
    assert keyring.keys("acct-1") == (key,)
