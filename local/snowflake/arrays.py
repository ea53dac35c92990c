"""Functions over arrays that fakesnow hands to DuckDB as lists, though its arrays are JSON.

Belongs here: those that are used, over arrays of text. Any other array function fails, with an error.
"""

from __future__ import annotations

from sqlglot import exp

DATABASE = "_STAND_IN"
_NAMES: dict[type[exp.Expr], str] = {
    exp.ArrayContains: "array_contains",
    exp.ArrayOverlaps: "arrays_overlap",
    exp.ArrayToString: "array_to_string",
}
MACROS = (
    f"CREATE MACRO {DATABASE}.array_contains(a, value) AS "
    "list_contains(CAST(a AS VARCHAR[]), CAST(value AS VARCHAR))",
    f"CREATE MACRO {DATABASE}.arrays_overlap(a, b) AS "
    "list_has_any(CAST(a AS VARCHAR[]), CAST(b AS VARCHAR[]))",
    f"CREATE MACRO {DATABASE}.array_to_string(a, s) AS list_aggregate(CAST(a AS VARCHAR[]), 'string_agg', s)",
)


def with_arrays(query: exp.Expr) -> exp.Expr:
    """The query with these functions called as our macros."""
    return query.transform(_called)


def _called(node: exp.Expr) -> exp.Expr:
    name = _NAMES.get(type(node))
    if name is None:
        return node
    call = exp.Anonymous(this=name, expressions=[_plain(node.this), _plain(node.expression)])
    return exp.Dot.build([exp.to_identifier(DATABASE), exp.to_identifier("main"), call])


def _plain(value: exp.Expr) -> exp.Expr:
    """A value that is only made a VARIANT is meant as it is."""
    is_variant = isinstance(value, exp.Cast) and value.to.is_type(exp.DType.VARIANT)
    return value.this if is_variant else value
