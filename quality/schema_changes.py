"""What a newer JSON Schema refuses that an older one allowed (BACKWARD compatibility).

Belongs here: comparing two schemas, keyword by keyword. Does not: which versions are compared (`streaming/`).
What cannot be shown to be compatible counts as a break.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from itertools import product
from typing import Any

Schema = dict[str, Any]
_Rule = Callable[[Any, Schema, str], Iterator[str]]

# Words for people and tools: no validator looks at them.
_REMARKS = frozenset({"$schema", "$id", "$comment", "title", "description", "examples", "default", "format"})


def breaks(old: Schema, new: Schema, where: str = "the event") -> list[str]:
    """Say in which ways `new` could refuse what `old` allowed; empty when it cannot.

    A field that only `new` knows is no break if it is optional: the older contract promised nothing about it.
    """
    found: list[str] = []
    for keyword, wanted in new.items():
        if _is_remark(keyword) or old.get(keyword) == wanted:
            continue
        found += _RULES.get(keyword, _unknown(keyword))(wanted, old, where)
    return found


def same_rules(one: Schema, other: Schema) -> bool:
    """Whether two schemas differ in nothing but remarks."""
    return bool(_without_remarks(one) == _without_remarks(other))


def _without_remarks(schema: Any) -> Any:
    if isinstance(schema, list):
        return [_without_remarks(inner) for inner in schema]
    if not isinstance(schema, dict):
        return schema
    return {
        keyword: {name: _without_remarks(field) for name, field in inner.items()}
        if keyword == "properties"  # names of fields, whatever they are, are no keywords
        else _without_remarks(inner)
        for keyword, inner in schema.items()
        if not _is_remark(keyword)
    }


def _is_remark(keyword: str) -> bool:
    return keyword in _REMARKS or keyword.startswith("x-")


def _type(wanted: Any, old: Schema, where: str) -> Iterator[str]:
    allowed = set(_listed(wanted)) | ({"integer"} if "number" in _listed(wanted) else set())
    had = _listed(old["type"]) if "type" in old else ["anything"]
    lost = [kind for kind in had if kind not in allowed]
    if lost:
        yield f"{where}: type {' or '.join(lost)} was allowed, now {' or '.join(_listed(wanted))} is wanted"


def _enum(wanted: list[Any], old: Schema, where: str) -> Iterator[str]:
    if "enum" not in old:
        yield f"{where}: any value was allowed, now one of {len(wanted)} is wanted"
        return
    lost = [value for value in old["enum"] if value not in wanted]
    if lost:
        yield f"{where}: no longer allowed: {', '.join(map(str, lost))}"


def _required(wanted: list[str], old: Schema, where: str) -> Iterator[str]:
    for name in wanted:
        if name not in old.get("required", ()):
            yield f"{where}: {name} is now required"


def _properties(wanted: dict[str, Schema], old: Schema, _where: str) -> Iterator[str]:
    for name, schema in wanted.items():
        if name in old.get("properties", {}):
            yield from breaks(old["properties"][name], schema, name)


def _additional(wanted: Any, old: Schema, where: str) -> Iterator[str]:
    if wanted is not True and old.get("additionalProperties", True) is True:
        yield f"{where}: fields that the contract does not name were allowed"


def _any_of(wanted: list[Schema], old: Schema, where: str) -> Iterator[str]:
    for branch in old.get("anyOf", [old]):
        if all(breaks(branch, other) for other in wanted):
            yield f"{where}: one of the forms that were allowed is not any more"


def _all_of(wanted: list[Schema], old: Schema, where: str) -> Iterator[str]:
    """Conditions are compared for each value that they name: one for a value that is new binds nobody."""
    had = dict(_conditions(old.get("allOf", [])))
    found: dict[str, list[str]] = {}
    for case, then in _conditions(wanted):
        # Where no condition held before, what held for every event did.
        before = {"properties": {**old.get("properties", {}), **had.get(case, {}).get("properties", {})}}
        lost = breaks(before, then) if had.get(case) != then and _could_occur(case, old) else []
        if lost:
            said = " ".join(str(value) for _, value in case) or "every event"
            found.setdefault("; ".join(lost), []).append(said)
    for what, cases in found.items():
        yield f"{where}: for {', '.join(cases)}: {what}"


def _conditions(members: list[Schema]) -> Iterator[tuple[tuple[tuple[str, Any], ...], Schema]]:
    for member in members:
        condition = member.get("if", {})
        fields = condition.get("properties", {})
        is_of_values = set(condition.get("required", ())) == set(fields) and all(
            set(field) == {"enum"} for field in fields.values()
        )
        if set(member) == {"if", "then"} and is_of_values:
            choices = [[(name, value) for value in field["enum"]] for name, field in sorted(fields.items())]
            for case in product(*choices):
                yield case, member["then"]
        else:
            yield (), member


def _could_occur(case: tuple[tuple[str, Any], ...], old: Schema) -> bool:
    known = old.get("properties", {})
    return all(value in known.get(name, {}).get("enum", [value]) for name, value in case)


def _least(keyword: str) -> _Rule:
    def rule(wanted: Any, old: Schema, where: str) -> Iterator[str]:
        if keyword not in old or old[keyword] < wanted:
            yield f"{where}: {keyword} was {old.get(keyword, 'not set')}, now {wanted}"

    return rule


def _greatest(keyword: str) -> _Rule:
    def rule(wanted: Any, old: Schema, where: str) -> Iterator[str]:
        if keyword not in old or old[keyword] > wanted:
            yield f"{where}: {keyword} was {old.get(keyword, 'not set')}, now {wanted}"

    return rule


def _unknown(keyword: str) -> _Rule:
    def rule(wanted: Any, old: Schema, where: str) -> Iterator[str]:
        said = json.dumps(old[keyword]) if keyword in old else "not set"
        yield f"{where}: {keyword} was {said}, now {json.dumps(wanted)}"

    return rule


def _listed(value: Any) -> list[str]:
    return value if isinstance(value, list) else [value]


_RULES: dict[str, _Rule] = {
    "type": _type,
    "enum": _enum,
    "required": _required,
    "properties": _properties,
    "additionalProperties": _additional,
    "anyOf": _any_of,
    "allOf": _all_of,
    **{keyword: _least(keyword) for keyword in ("minLength", "minimum", "exclusiveMinimum", "minItems")},
    **{keyword: _greatest(keyword) for keyword in ("maxLength", "maximum", "exclusiveMaximum", "maxItems")},
}
