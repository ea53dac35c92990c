"""`python -m local.snowflake --port P --home H`: the stand-in as a process of its own.

It takes the catalog's address and the object store's keys from the settings of that home. User and
password are in `run/snowflake.json` there, made at the first start. `--variables` instead of a port prints
what leads `paywave` to it, for a shell to read.
"""

from __future__ import annotations

import argparse
import json
import logging
import secrets
from collections.abc import Mapping
from pathlib import Path
from shlex import quote

import uvicorn

from config.settings import load_settings
from local.services.base import HOST, write_private
from local.snowflake import linked
from local.snowflake.account import Account
from local.snowflake.launch import variables
from local.snowflake.registry import Entry
from local.snowflake.server import application

_USER, _ACCOUNT = "PAYWAVE", "paywave"
_GRACE_S = 3  # for statements that run; connections stay open for as long as their clients like


def main() -> None:
    """Serve until the process is ended; the state is on disk at every moment."""
    parser = argparse.ArgumentParser(prog="python -m local.snowflake")
    parser.add_argument("--home", type=Path, required=True)
    serves = parser.add_mutually_exclusive_group(required=True)
    serves.add_argument("--port", type=int)
    serves.add_argument("--variables", action="store_true")
    given = parser.parse_args()
    if given.variables:
        print("\n".join(f"export {name}={quote(one)}" for name, one in variables(given.home).items()))
        return
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")

    def properties() -> Mapping[str, str]:
        return load_settings(home=given.home).catalog_properties()

    account = Account(given.home, properties)
    if account.registry.find("USER", (_USER,)) is None:
        account.registry.add(Entry("USER", (_USER,), {"NAME_": _USER, "DISABLED": False}))
        account.registry.save()
    password = _password(given.home, given.port)
    account.refresher.start()
    linked.start(account)
    server = application(account, _USER, password)
    uvicorn.run(server, host=HOST, port=given.port, log_level="warning", timeout_graceful_shutdown=_GRACE_S)


def _password(home: Path, port: int) -> str:
    """The password of this home, in a file for its owner only, with all else that a client needs."""
    path = home / "run" / "snowflake.json"
    known = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    password = str(known.get("password") or secrets.token_urlsafe(16))
    login = {"account": _ACCOUNT, "user": _USER, "password": password, "host": HOST, "port": port}
    write_private(path, json.dumps({**login, "protocol": "http"}, indent=1))
    return password


if __name__ == "__main__":
    main()
