"""Databases that follow a catalog: its tables appear in them by themselves, called as the catalog calls them.

Belongs here: looking for tables, again and again. Does not: keeping a table at its newest (`refresh.py`).
"""

from __future__ import annotations

import logging
import threading
import time
from typing import Any

from local.snowflake import answers
from local.snowflake.account import Account
from local.snowflake.catalogs import said_as_snowflake, short
from local.snowflake.refresh import AUTOMATED
from local.snowflake.registry import Entry
from local.snowflake.words import Name, Words

_TICK_S = 0.1
_log = logging.getLogger("local.snowflake")


def start(account: Account) -> None:
    """Look for tables from now on, in a thread: at once, then as often as each database says."""
    threading.Thread(target=_follow, args=(account,), name="linked", daemon=True).start()


def check_open(name: Name, account: Account) -> None:
    """Raise what Snowflake would say if somebody makes an object of their own in such a database."""
    database = account.registry.find("DATABASE", name[:1])
    if len(name) > 1 and database is not None and "LINKED_CATALOG" in database.options:
        raise answers.invalid(f"{'.'.join(name)} cannot be created in a catalog-linked database.")


def update(words: Words, link: dict[str, Any]) -> None:
    """What ALTER DATABASE … UPDATE LINKED_CATALOG says of how a database follows its catalog."""
    allowed = list(link.get("ALLOWED_NAMESPACES") or [])
    if words.take("SET"):
        found = words.options({"SYNC_INTERVAL_SECONDS": int, "ALLOWED_WRITE_OPERATIONS": ("NONE", "ALL")})
        if not found:
            raise words.wrong()
        link |= found
    elif words.take("ADD"):
        link["ALLOWED_NAMESPACES"] = list(dict.fromkeys((*allowed, *words.texts())))
        words.need("TO ALLOWED_NAMESPACES")
    elif words.take("REMOVE"):
        gone = words.texts()
        words.need("FROM ALLOWED_NAMESPACES")
        link["ALLOWED_NAMESPACES"] = [one for one in allowed if one not in gone]
    else:
        raise words.wrong()


def discover(database: Entry, account: Account) -> None:
    """Let each table of the catalog that is allowed and not there yet be there."""
    link = database.options["LINKED_CATALOG"]
    integration = account.registry.need("CATALOG INTEGRATION", (link["CATALOG"],))
    with said_as_snowflake(integration.full_name):
        catalog = account.catalogs.connect(integration)
        allowed = link.get("ALLOWED_NAMESPACES") or [".".join(one) for one in catalog.list_namespaces()]
        found = [(space, name[-1]) for space in allowed for name in catalog.list_tables(space)]
    for space, name in found:
        if account.registry.find("ICEBERG TABLE", (*database.name, space, name)) is None:
            _add(database, space, name, account)


def _add(database: Entry, space: str, name: str, account: Account) -> None:
    options = {
        "EXTERNAL_VOLUME": database.options["EXTERNAL_VOLUME"],
        "CATALOG": database.options["LINKED_CATALOG"]["CATALOG"],
        "CATALOG_NAMESPACE": space,
        "CATALOG_TABLE_NAME": name,
        "AUTO_REFRESH": True,
    }
    table = Entry("ICEBERG TABLE", (*database.name, space, name), options, owner=database.owner)
    account.refresher.refresh(table, AUTOMATED)
    with account.registry.lock:
        if account.registry.find("SCHEMA", table.name[:2]) is None:
            account.registry.add(Entry("SCHEMA", table.name[:2], {}, owner=database.owner))
            account.engine.create_schema(table.name[:2])
        account.registry.add(table)
        account.refresher.show(table)
        account.registry.save()
    account.make_relations()


def _follow(account: Account) -> None:
    looked: dict[str, float] = {}
    while True:
        time.sleep(_TICK_S)
        for database in list(account.registry.of_kind("DATABASE")):
            every = database.options.get("LINKED_CATALOG", {}).get("SYNC_INTERVAL_SECONDS")
            if every is None or time.monotonic() - looked.get(database.full_name, -every) < every:
                continue
            looked[database.full_name] = time.monotonic()
            try:
                discover(database, account)
            except Exception as error:
                _log.warning("%s does not find its tables: %s", database.full_name, short(error))
