"""Accounts of Snowflake for tests, and `paywave snowflake` on one: the stand-in's, or a real one's.

Belongs here: which account, a scratch in it that is removed again. Does not: what must hold there.

A real account is given by variables: PAYWAVE_LIVE_SNOWFLAKE_HOME is a folder with a paywave.toml that says
where the lake is, and how Snowflake reaches it. Nothing is written to that folder; to the lake only what
`apply` and `query` leave in the access trail: so it takes leave to write audit.access_log, and rows stay
there. Any other variable PAYWAVE_LIVE_SNOWFLAKE_X is the setting `snowflake.x`. While tests run, nobody else
should write to that lake. Policies take Snowflake's Enterprise Edition.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from unittest.mock import patch

from click.testing import CliRunner, Result

from assets.snowflake_account import deployment_of, login_of
from cli.context import catalog_of
from cli.main import paywave
from config.settings import Settings, load_settings
from lakehouse.query import run_query
from local.snowflake.launch import variables
from local.snowflake.trouble import Trouble, make_trouble
from snowflake_external import ddl
from snowflake_external.errors import SnowflakeError
from snowflake_external.estate import estate_of
from snowflake_external.resources import ORDER
from snowflake_external.session import Session
from snowflake_external.sql import identifier
from tests.stand_in import Row, StandIn

LIVE = "PAYWAVE_LIVE_SNOWFLAKE_"
_NEEDED = ("HOME", "ACCOUNT", "USER", "PRIVATE_KEY_FILE")
_SETTING = "PAYWAVE_SNOWFLAKE__"


@dataclass
class Snowflake:
    """The command on an account, as its variables say."""

    environment: Mapping[str, str]

    def run(self, *arguments: str) -> Result:
        return self.paywave("snowflake", *arguments)

    def paywave(self, *arguments: str) -> Result:
        return CliRunner().invoke(paywave, list(arguments), env=dict(self.environment))

    def json(self, *arguments: str, code: int = 0) -> Any:
        done = self.run(*arguments, "--output", "json")
        assert done.exit_code == code, (done.output, done.exception)
        return json.loads(done.stdout)

    def plan(self) -> list[tuple[str, str]]:
        return [(change["action"], change["what"]) for change in self.json("plan")["changes"]]

    def stale(self) -> list[str]:
        done = self.run("status", "--output", "json")
        return [one["table"] for one in json.loads(done.stdout)["tables"] if one["behind"]]

    def settings(self) -> Settings:
        with patch.dict(os.environ, self.environment):
            return load_settings()

    def ask(self, *statements: str) -> list[Row]:
        """Run statements as an administrator would by hand; returns the rows of the last."""
        with Session(login_of(self.settings()), "tests") as session:
            rows = [session.fetch(one).rows for one in statements]
        return rows[-1]

    def own(self, sql: str) -> list[Row]:
        """Rows of a query as the lake's own reader has them."""
        settings = self.settings()
        return run_query(catalog_of(settings), settings.catalog_properties(), sql).rows

    def see_all(self) -> None:
        """Let who asks see every row of the views: owning their policy shows nobody a row, a role does."""
        ((role,),) = self.ask("SELECT CURRENT_ROLE()")
        self.ask(f"GRANT ROLE {identifier(f'{self.prefix}_AUDITOR')} TO ROLE {identifier(role)}")

    def but(self, **settings: str) -> Snowflake:
        """The same with other settings of Snowflake."""
        return Snowflake({**self.environment, **{f"{_SETTING}{name}": one for name, one in settings.items()}})

    @property
    def is_stand_in(self) -> bool:
        """Whether it has a password: Snowflake itself lets no service user in by one."""
        return self.settings().snowflake.password is not None

    @property
    def prefix(self) -> str:
        return self.settings().snowflake.prefix


@contextmanager
def scratch(account: Snowflake) -> Iterator[Snowflake]:
    """An account where all that is made has a name of its own; it is removed, whatever happens."""
    # It does not begin as another prefix does: else that one's plan would take all of this for its own.
    prefix = f"SCRATCH_{datetime.now(UTC):%Y%m%d_%H%M%S}_{secrets.token_hex(3).upper()}"
    snowflake = account.but(PREFIX=prefix, WAREHOUSE=f"{prefix}_READERS")
    try:
        yield snowflake
    finally:
        left = list(_removed(snowflake))
        assert not left, f"left behind in the account: {left}"


def _removed(snowflake: Snowflake) -> Iterator[str]:
    """Drop what an estate has in the account itself, and so what is in it, the last made first.

    Yields what could not be dropped: the others are dropped nevertheless.
    """
    settings = snowflake.settings()
    keys = [one.key for one in estate_of(deployment_of(settings)).resources if len(one.key.name) == 1]
    with Session(login_of(settings), "tests") as session:
        for key in sorted(keys, key=lambda key: -ORDER[key.kind]):
            try:
                session.ask(ddl.drop(key).text)
            except SnowflakeError as error:
                yield f"{key}: {error}"


def missing(environment: Mapping[str, str]) -> list[str]:
    """The variables that a real account takes and that are not set."""
    return [f"{LIVE}{name}" for name in _NEEDED if not environment.get(f"{LIVE}{name}")]


def real_account(environment: Mapping[str, str], home: Path) -> Snowflake:
    """The account that variables give, with a home of its own for what is kept."""
    shutil.copy(Path(environment[f"{LIVE}HOME"]) / "paywave.toml", home)
    given = {name.removeprefix(LIVE): value for name, value in environment.items() if name.startswith(LIVE)}
    settings = {f"{_SETTING}{name}": value for name, value in given.items() if name != "HOME"}
    return Snowflake({"PAYWAVE_HOME": str(home), **settings})


@contextmanager
def stand_in_account(stack: Settings) -> Iterator[tuple[StandIn, Snowflake]]:
    """A running stand-in over a stack, with nothing in it, and the settings that lead to it."""
    (stack.home / "snowflake" / "state.json").unlink(missing_ok=True)
    make_trouble(stack.home, Trouble())
    stand_in = StandIn(stack)
    stand_in.start()
    own = {"PAYWAVE_HOME": str(stack.home)}
    try:
        yield stand_in, Snowflake({**variables(stack.home), **own})
    finally:
        stand_in.kill()
        make_trouble(stack.home, Trouble())
