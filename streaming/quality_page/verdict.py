"""The page's top: does it balance, and what needs a person? Pure.

Belongs here: what follows from reconciliation, gates and the rest for whoever reads. Does not: figures
(`model.py`), reconciling or closing gates.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from lakehouse.gates import HELD, GateEvent
from quality.drift import shown
from quality.partner_hour import figure_text
from streaming.quality_page.material import Identity, Material

NO_NAME = "(no partner named)"
DEEP = "deep"
_AT = "%Y-%m-%d %H:%M"


class Need(NamedTuple):
    """Something that a person should look at; `grave`: it keeps data from readers, or makes it wrong.

    `next` is the command that tells more.
    """

    grave: bool
    what: str
    next: str


class Verdict(NamedTuple):
    """An answer to a question of the page's top: good, bad, or not known (None)."""

    is_good: bool | None
    answer: str
    detail: str


def name_of(source: str | None) -> str:
    """A partner's name as it may be shown."""
    return shown(source) if source else NO_NAME


def current(identities: Sequence[Identity]) -> list[Identity]:
    """What the reconciliation says now, the newest first: no newer run looked at the same as deeply.

    Runs of one identity only are compared: the hours are counted one by one, the tables as a whole.
    """
    newest_first = sorted(identities, key=lambda one: (one.made_at, one.run), reverse=True)
    runs_of: dict[str, dict[str, Identity]] = {}
    for one in newest_first:
        runs = runs_of.setdefault(one.identity, {})
        if one.run not in runs and not any(_says_more(newer, one) for newer in runs.values()):
            runs[one.run] = one
    return [one for one in newest_first if one.run in runs_of[one.identity]]


def _says_more(newer: Identity, older: Identity) -> bool:
    """Tell whether a newer run looked at all that an older one did, as deeply; None: no limit there.

    Counts of everything say nothing of an hour: one row too many there makes up for one too few elsewhere.
    """
    is_whole, was_whole = ((one.scope_from, one.scope_to) == (None, None) for one in (newer, older))
    if newer.depth != DEEP and is_whole and not was_whole:
        return False
    begins = newer.scope_from is None or (
        older.scope_from is not None and newer.scope_from <= older.scope_from
    )
    ends = newer.scope_to is None or (older.scope_to is not None and newer.scope_to >= older.scope_to)
    return begins and ends and newer.depth in (DEEP, older.depth)


def balance(material: Material, identities: Sequence[Identity]) -> Verdict:
    """Answer whether it balances, from the identities that are current."""
    if not identities:
        why = "there is no table of reconciliations" if material.identities is None else "no run yet"
        return Verdict(None, "Not known", f"Nothing was reconciled yet ({why}): `paywave reconcile`.")
    broken = [one for one in identities if one.is_broken]
    if broken:
        first = broken[0]
        where = first.first_break or f"{first.left} against {first.right}"
        said = f"{len(broken)} of {len(identities)} do not hold; the newest: {first.formula} ({where})."
        return Verdict(False, "No", said)
    kinds = len({one.identity for one in identities})
    newest = identities[0].made_at
    return Verdict(True, "Yes", f"All {kinds} identities hold, the newest as of {newest:{_AT}} UTC.")


def needs(material: Material, identities: Sequence[Identity], gates: Sequence[GateEvent]) -> list[Need]:
    """List what a person should look at, what is grave first."""
    found = [need for part in (_broken(identities), _closed(gates), _to_look_at(material)) for need in part]
    return sorted(found, key=lambda need: not need.grave)


def _broken(identities: Sequence[Identity]) -> Iterator[Need]:
    for one in identities:
        if one.is_broken:
            what = f"Broken in {one.scope}: {one.formula}. {one.first_break or ''}"
            yield Need(True, what.strip(), "paywave reconcile")


def _closed(gates: Sequence[GateEvent]) -> Iterator[Need]:
    for gate in gates:
        whole = gate.table_name or "everything"
        what = f"the records of {name_of(gate.source)}" if gate.event == HELD else whole
        said = f"{gate.gate}: {what} {gate.event} since {gate.at:{_AT}} UTC. {gate.reason}"
        yield Need(True, said, "paywave gate status")


def _to_look_at(material: Material) -> Iterator[Need]:
    waiting = sum(counted.open for counted in material.counted)
    if waiting and material.reasons:
        most = max(material.reasons, key=lambda reason: reason.open)
        often = f"most often {most.rule} {most.field} from {name_of(most.source)} ({most.open:,})"
        yield Need(False, f"{waiting:,} records are open in quarantine, {often}.", "paywave quarantine list")
    if material.anomalies.found:
        many, first = len(material.anomalies.found), material.anomalies.found[0]
        now, expected = (figure_text(first.metric, v) for v in first.comparison[:2])
        said = f"{first.metric} of {name_of(first.source)} at {first.hour:{_AT}}: {now}, {expected} expected."
        yield Need(False, f"{many:,} unusual figures, the furthest off: {said}", "paywave quality anomalies")
    new = [field for field in material.drift if field.first_seen >= material.start]
    if new:
        said = f"the newest: {new[0].field} from {name_of(new[0].source)}."
        yield Need(False, f"{len(new):,} fields beside the contract are new, {said}", "paywave schemas drift")
    if material.made_from.not_counted:
        what = f"{material.made_from.not_counted:,} records are not counted on this page yet."
        yield Need(False, what, "`paywave stream profile --once`")
