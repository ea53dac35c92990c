"""The stand-in for Snowflake as tests drive it: its process, the real connector, and what waits for it.

Belongs here: starting, asking, killing. Does not: what is asserted of the answers.
"""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import snowflake.connector
from snowflake.connector import SnowflakeConnection

from config.settings import Settings
from local.ports import free_port
from local.snowflake.launch import login, started

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
        self._process = started(self.home, self.port)

    def kill(self) -> None:
        """SIGKILL it."""
        if self._process:
            self._process.kill()
            self._process.wait()
        self._connection = None

    @property
    def home(self) -> Path:
        return self.settings.home

    def connect(self, **choices: Any) -> SnowflakeConnection:
        """Log in with the real connector, as its file of this home says."""
        return snowflake.connector.connect(**{**login(self.home), "login_timeout": 20, **choices})

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
