"""The stand-in as a process: starting it, and the settings that lead a client to it.

Belongs here: what tests and benchmarks share. Does not: what the process does (`__main__.py`).
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

from local.errors import ServiceFailed
from local.services.base import listens, log_of

_START_S = 60.0
_POLL_S = 0.1
_TAIL = 2_000
_LOGIN = ("account", "user", "password", "host", "port", "protocol")


def started(home: Path, port: int) -> subprocess.Popen[bytes]:
    """Start it over a home's stack, and return when it listens. Raises ServiceFailed."""
    command = [sys.executable, "-m", "local.snowflake", "--home", str(home), "--port", str(port)]
    log = log_of(home, "snowflake")
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as said:
        process = subprocess.Popen(command, stdout=said, stderr=said, start_new_session=True)
    deadline = time.monotonic() + _START_S
    while not listens(port):
        if process.poll() is not None or time.monotonic() > deadline:
            process.kill()
            process.wait()
            tail = log.read_text(errors="replace")[-_TAIL:]
            raise ServiceFailed(f"the stand-in for Snowflake does not listen: {tail}", f"see {log}")
        time.sleep(_POLL_S)
    return process


def login(home: Path) -> dict[str, str]:
    """How the connector logs in to the stand-in of a home, once that has started."""
    found = json.loads((home / "run" / "snowflake.json").read_text(encoding="utf-8"))
    return {name: found[name] for name in _LOGIN}


def variables(home: Path) -> dict[str, str]:
    """The settings of `snowflake.*` that lead `paywave` there, as variables of the environment."""
    own = {"role": "ACCOUNTADMIN", "catalog_auth": "bearer", "bearer_token": "any"}
    own |= {"warehouse": "PAYWAVE_READERS"}  # which `apply` makes; without one a plan sees no policies
    return {f"PAYWAVE_SNOWFLAKE__{name.upper()}": str(one) for name, one in {**login(home), **own}.items()}
