"""Which objects Snowflake should have, from the lakehouse's tables and a deployment.

Belongs here: names, policies, roles and grants. Does not: queries (`consumer_views.py`), statements
(`ddl.py`).

The deploying role owns all of it. Readers have their domain's view, and no way past it to the tables.
"""

from __future__ import annotations

from collections.abc import Iterator

from lakehouse.definitions import BY_NAME, PAYMENTS, TRANSACTIONS, VERSIONS
from snowflake_external.consumer_views import View, views
from snowflake_external.deployment import Deployment
from snowflake_external.resources import MARK, Estate, Grant, Key, Kind, Resource, hung, tagged
from snowflake_external.sql import Group, Value, Word, identifier, literal

EXPOSED = (VERSIONS, PAYMENTS, TRANSACTIONS)
_NAMESPACE = "curated"
_GOVERNANCE = "GOVERNANCE"
_MASKED = "card_id"
_PARTNER = "source"


class Names:
    """What everything is called."""

    def __init__(self, deployment: Deployment) -> None:
        prefix = deployment.prefix
        self.monitor, self.warehouse = f"{prefix}_READERS", f"{prefix}_READERS"
        self.volume, self.catalog = f"{prefix}_LAKE", f"{prefix}_LAKE"
        # The lake's database may be one that follows the catalog: there is room for nothing else in it.
        self.lake, self.readers = f"{prefix}_LAKE", prefix
        self.cardholder, self.all_partners = f"{prefix}_CARDHOLDER", f"{prefix}_ALL_PARTNERS"
        self.auditor = f"{prefix}_AUDITOR"
        self._prefix, self._is_linked = prefix, deployment.linked

    def reader(self, domain: str) -> str:
        return f"{self._prefix}_{domain}_READER"

    def partner(self, source: str) -> str:
        """A partner's own role, which people make and grant as they take partners in."""
        return f"{self._prefix}_PARTNER_{source.upper()}"

    def table(self, name: str) -> tuple[str, str, str]:
        """A table in the database of the lake; one that follows the catalog calls it as the catalog does."""
        namespace, table = (name if self._is_linked else name.upper()).split(".")
        return self.lake, namespace, table

    def view(self, view: View) -> tuple[str, str, str]:
        return self.readers, view.domain, view.name

    def governed(self, name: str) -> tuple[str, str, str]:
        return self.readers, _GOVERNANCE, name


def estate_of(deployment: Deployment) -> Estate:
    """Say what Snowflake should have."""
    names = Names(deployment)
    resources = [
        *_account(deployment, names),
        *_lake(deployment, names),
        *_governance(names),
        *(_view(view, names) for view in views()),
    ]
    return Estate(tuple(resources), tuple(_grants(names)), deployment.prefix, _sealed(names))


def _sealed(names: Names) -> tuple[Key, ...]:
    """The lake's tables, and the schema that they are in: the views' masks and policies are not on them."""
    tables = [names.table(name) for name in EXPOSED]
    schemas = sorted({table[:2] for table in tables})
    return (
        *(Key(Kind.SCHEMA, schema) for schema in schemas),
        *(Key(Kind.ICEBERG_TABLE, table) for table in tables),
    )


def _account(deployment: Deployment, names: Names) -> Iterator[Resource]:
    yield Resource(
        Key(Kind.MONITOR, (names.monitor,)),
        "What readers may use in a month",
        (
            ("CREDIT_QUOTA", deployment.credits_per_month),
            ("FREQUENCY", Word("MONTHLY")),
            ("NOTIFY_AT", "80%"),
            ("SUSPEND_AT", "100%"),
        ),
    )
    yield Resource(
        Key(Kind.WAREHOUSE, (names.warehouse,)),
        "Where readers' queries run",
        (
            ("WAREHOUSE_SIZE", Word(deployment.warehouse_size)),
            ("AUTO_SUSPEND", deployment.auto_suspend_s),
            ("AUTO_RESUME", True),
            ("RESOURCE_MONITOR", Word(identifier(names.monitor))),
        ),
        on=(Key(Kind.MONITOR, (names.monitor,)),),
    )
    roles = {
        **{names.reader(view.domain): f"Reads {view.domain}.{view.name}" for view in views()},
        names.cardholder: "Sees tokens of cards; without it they are masked",
        names.all_partners: "Sees the rows of every partner",
        names.auditor: "Reads everything that others may read",
    }
    for role, meaning in roles.items():
        yield Resource(Key(Kind.ROLE, (role,)), meaning)
    yield Resource(
        Key(Kind.VOLUME, (names.volume,)), "The lake's files, read only", deployment.volume.properties()
    )
    yield Resource(
        Key(Kind.CATALOG, (names.catalog,)),
        "The lake's Iceberg REST catalog",
        deployment.catalog.properties(deployment.refresh_s),
    )


def _lake(deployment: Deployment, names: Names) -> Iterator[Resource]:
    key = Key(Kind.DATABASE, (names.lake,))
    files_and_catalog = (Key(Kind.VOLUME, (names.volume,)), Key(Kind.CATALOG, (names.catalog,)))
    if deployment.linked:
        meaning = "The lake's tables, as the catalog has them"
        is_linked = (("LINKED", True),)
        yield Resource(key, meaning, _linked(deployment, names), shown=is_linked, on=files_and_catalog)
        return
    yield Resource(key, "The lake's tables, read in place", shown=(("LINKED", False),))
    yield Resource(Key(Kind.SCHEMA, (names.lake, _NAMESPACE.upper())), "Curated tables, read in place")
    for name in EXPOSED:
        namespace, table = name.split(".")
        yield Resource(
            Key(Kind.ICEBERG_TABLE, names.table(name)),
            BY_NAME[name].meaning,
            (
                ("EXTERNAL_VOLUME", names.volume),
                ("CATALOG", names.catalog),
                ("CATALOG_TABLE_NAME", table),
                ("CATALOG_NAMESPACE", namespace),
                ("AUTO_REFRESH", True),
            ),
            on=files_and_catalog,
        )


def _linked(deployment: Deployment, names: Names) -> tuple[tuple[str, Value], ...]:
    catalog = (
        ("CATALOG", names.catalog),
        ("ALLOWED_NAMESPACES", (_NAMESPACE,)),
        ("ALLOWED_WRITE_OPERATIONS", Word("NONE")),
        ("SYNC_INTERVAL_SECONDS", deployment.refresh_s),
    )
    return (
        ("LINKED_CATALOG", Group(catalog, ", ")),
        ("EXTERNAL_VOLUME", names.volume),
        # The default, said: queries here name columns in any case.
        ("CATALOG_CASE_SENSITIVITY", Word("CASE_INSENSITIVE")),
    )


def _governance(names: Names) -> Iterator[Resource]:
    yield Resource(Key(Kind.DATABASE, (names.readers,)), "What readers have of the lake")
    schemas = {
        _GOVERNANCE: "Who may see what",
        **{v.domain: f"Views of the domain {v.domain}" for v in views()},
    }
    for schema, meaning in schemas.items():
        yield Resource(Key(Kind.SCHEMA, (names.readers, schema)), meaning)
    yield Resource(
        Key(Kind.TAG, names.governed("SENSITIVITY")),
        "How sensitive rows are",
        (("ALLOWED_VALUES", ("internal", "cardholder")),),
    )
    yield Resource(
        Key(Kind.MASKING_POLICY, names.governed("CARD_TOKEN")),
        "Tokens of cards are masked but for those who may see them",
        body="AS (token VARCHAR) RETURNS VARCHAR -> "
        f"CASE WHEN IS_ROLE_IN_SESSION({literal(names.cardholder)}) THEN token ELSE '***' END",
    )
    yield Resource(
        Key(Kind.ROW_POLICY, names.governed("PARTNER_ROWS")),
        "Rows of the partner whose role one has on: of all partners for those who may see them",
        body="AS (partner VARCHAR) RETURNS BOOLEAN -> "
        f"IS_ROLE_IN_SESSION({literal(names.all_partners)}) "
        f"OR CURRENT_ROLE() = {literal(names.partner(''))} || UPPER(partner)",
    )


def _view(view: View, names: Names) -> Resource:
    mask, rows, tag = (names.governed(name) for name in ("CARD_TOKEN", "PARTNER_ROWS", "SENSITIVITY"))
    is_masked = _MASKED in dict(view.columns)
    columns = ", ".join(
        f"{name}{f' WITH MASKING POLICY {identifier(*mask)}' if name == _MASKED else ''} "
        f"COMMENT {literal(meaning)}"
        for name, meaning in view.columns
    )
    sensitivity = "cardholder" if is_masked else "internal"
    tables = {name.split(".")[1]: identifier(*names.table(name)) for name in EXPOSED}
    body = (
        f"({columns}) "
        f"WITH ROW ACCESS POLICY {identifier(*rows)} ON ({_PARTNER}) "
        f"WITH TAG ({identifier(*tag)} = {literal(sensitivity)}) "
        f"COPY GRANTS COMMENT = {literal(f'{view.meaning} {MARK}')} "
        f"AS {' '.join(view.text(tables).split())}"
    )
    # What is hung on a view can be taken off it, and its text stays as it was.
    policies = [hung(rows, _PARTNER), *([hung(mask, _MASKED)] if is_masked else [])]
    shown: tuple[tuple[str, Value], ...] = (
        ("SECURE", True),
        ("POLICIES", tuple(policies)),
        ("TAGS", (tagged(tag, sensitivity),)),
    )
    on = [Key(Kind.MASKING_POLICY, mask), Key(Kind.ROW_POLICY, rows), Key(Kind.TAG, tag)]
    on += [Key(Kind.DATABASE, (names.lake,)), *_sealed(names)]
    return Resource(Key(Kind.VIEW, names.view(view)), view.meaning, body=body, shown=shown, on=tuple(on))


def _grants(names: Names) -> Iterator[Grant]:
    for view in views():
        role = names.reader(view.domain)
        yield Grant("USAGE", Key(Kind.WAREHOUSE, (names.warehouse,)), role)
        yield Grant("USAGE", Key(Kind.DATABASE, (names.readers,)), role)
        yield Grant("USAGE", Key(Kind.SCHEMA, (names.readers, view.domain)), role)
        yield Grant("SELECT", Key(Kind.VIEW, names.view(view)), role)
        yield Grant("USAGE", Key(Kind.ROLE, (role,)), names.auditor)
    for role in (names.cardholder, names.all_partners):
        yield Grant("USAGE", Key(Kind.ROLE, (role,)), names.auditor)
