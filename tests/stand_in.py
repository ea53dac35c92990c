"""The stand-in for Snowflake as tests drive it: its process, the real connector, and what waits for it.

Belongs here: starting, asking, killing. Does not: what is asserted of the answers.
"""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import snowflake.connector
from snowflake.connector import SnowflakeConnection

from config.settings import Settings
from local.ports import free_port

PATIENCE_S = 30.0
Row = tuple[Any, ...]


@dataclass
class StandIn:
    """A stand-in over a stack's catalog, with one connection."""

    settings: Settings
    port: int = field(default_factory=free_port)
    _process: subprocess.Popen[bytes] | None = None
    _connection: SnowflakeConnection | None = None

    def start(self) -> None:
        """Start it, and return when it listens."""
        told = ("--home", str(self.home), "--port", str(self.port))
        with (self.home / "logs" / "snowflake.log").open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "local.snowflake", *told],
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        until(self._listens)

    def kill(self) -> None:
        """SIGKILL it."""
        if self._process:
            self._process.kill()
            self._process.wait()
        self._connection = None

    @property
    def home(self) -> Path:
        return self.settings.home

    def _listens(self) -> bool:
        assert self._process is not None and self._process.poll() is None, self.log
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    @property
    def log(self) -> str:
        return (self.home / "logs" / "snowflake.log").read_text()

    def connect(self, **choices: Any) -> SnowflakeConnection:
        """Log in with the real connector, as its file of this home says."""
        login = json.loads((self.home / "run" / "snowflake.json").read_text())
        return snowflake.connector.connect(**{**login, "login_timeout": 20, **choices})

    def ask(self, *statements: str) -> list[Row]:
        """Run statements one after the other; returns the rows of the last."""
        self._connection = self._connection or self.connect()
        cursor = self._connection.cursor()
        for sql in statements:
            cursor.execute(sql)
        return list(cursor.fetchall())

    def status(self, table: str) -> dict[str, Any]:
        """What SYSTEM$AUTO_REFRESH_STATUS says."""
        found = json.loads(self.ask(f"SELECT SYSTEM$AUTO_REFRESH_STATUS('{table}')")[0][0])
        assert isinstance(found, dict)
        return found


def until(holds: Callable[[], object]) -> None:
    """Wait until something holds; how long that takes is not judged."""
    deadline = time.monotonic() + PATIENCE_S
    while not holds():
        assert time.monotonic() < deadline, "it did not come to hold"
        time.sleep(0.1)
