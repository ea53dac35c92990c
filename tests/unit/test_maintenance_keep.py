"""Which snapshots expire: none that a ref, a hint, age or number keeps; all others."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from lakehouse.maintenance.keep import Keep, Known, expirable

EVERYTHING = Keep(newest=1, since_ms=1_000)
# main: 1 <- 2 <- ... <- 9; a stage leaves it at 7: 7 <- 20 <- 21; 30 was staged at 5 and dropped
HISTORY = [Known(i, i - 1 if i > 1 else None, i * 10) for i in range(1, 10)]
STAGED = [Known(20, 7, 95), Known(21, 20, 96), Known(30, 5, 55)]
ALL = [*HISTORY, *STAGED]


def gone(**changes: object) -> set[int]:
    given: dict[str, object] = {"branches": [], "tags": [], "hints": [], "keep": EVERYTHING, **changes}
    return expirable(ALL, 9, **given)  # type: ignore[arg-type]


def test_without_any_reason_to_keep_only_mains_tip_stays() -> None:
    assert gone() == {s.snapshot_id for s in ALL} - {9}


def test_a_tag_keeps_its_snapshot_and_nothing_before_it() -> None:
    assert gone() - gone(tags=[3]) == {3}


def test_a_branch_is_kept_down_to_where_it_left_main() -> None:
    assert gone() - gone(branches=[21]) == {21, 20, 7}


def test_a_hint_keeps_what_its_reader_has_still_to_read() -> None:
    assert gone() - gone(hints=[6]) == {6, 7, 8}
    assert gone(hints=[6, 4]) == gone(hints=[4])
    assert gone(hints=[30, 99]) == gone(), "of another branch, or of another table"


def test_number_and_age_keep_what_either_of_them_says() -> None:
    assert gone() - gone(keep=Keep(3, 1_000)) == {8, 7}
    assert gone() - gone(keep=Keep(1, 55)) == {6, 7, 8, 20, 21, 30}


@st.composite
def histories(draw: st.DrawFn) -> tuple[list[Known], int]:
    """Snapshots that grow from one another as chance has it, and the one that main is at."""
    parents = draw(st.lists(st.integers(0, 30), min_size=1, max_size=30))
    found = [Known(0, None, 0)]
    for i, parent in enumerate(parents, start=1):
        found.append(Known(i, parent % i, i))
    return found, draw(st.sampled_from(found)).snapshot_id


@given(histories(), st.data())
def test_what_is_needed_is_never_chosen_and_to_keep_more_expires_less(
    history: tuple[list[Known], int], data: st.DataObject
) -> None:
    snapshots, main = history
    ids = st.lists(st.sampled_from([s.snapshot_id for s in snapshots]), max_size=3)
    branches, tags, hints = data.draw(ids), data.draw(ids), data.draw(ids)
    newest, since = data.draw(st.integers(1, 5)), data.draw(st.integers(0, 40))
    chosen = expirable(snapshots, main, branches, tags, hints, Keep(newest, since))
    assert not chosen & {main, *branches, *tags}
    assert all(s.at_ms < since for s in snapshots if s.snapshot_id in chosen)
    assert chosen <= expirable(snapshots, main, [], [], [], Keep(1, 41))
    assert chosen >= expirable(snapshots, main, branches, tags, hints, Keep(newest + 1, since))
    # once more changes nothing: what was kept is still kept for its reason
    left = [s for s in snapshots if s.snapshot_id not in chosen]
    assert not expirable(left, main, branches, tags, hints, Keep(newest, since))
