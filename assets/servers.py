"""Dagster's code server, webserver and daemon as children of one process, which restarts what dies.

Belongs here: starting, watching and stopping them. Does not: what they serve (`definitions.py`), where they
keep it (`instance.py`).
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.parse
import urllib.request
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import structlog

from local.errors import ServiceFailed

WORKSPACE = Path(__file__).parent.parent / "workspace.yaml"
CODE, DAEMON = "code", "daemon"
_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS, _LOOK_SECONDS = 1.0, 30.0, 0.5
_READY_SECONDS, _STOP_SECONDS = 120.0, 20.0
_PR_SET_PDEATHSIG = 1
_LOADED = "{workspaceOrError {... on Workspace {locationEntries {locationOrLoadError {__typename}}}}}"
_log = structlog.get_logger(__name__)


@dataclass
class Server:
    """One child: its name, its command, and the process that runs it now."""

    name: str
    command: Sequence[str]
    log: Path
    process: subprocess.Popen[bytes] | None = None
    starts: int = 0


@dataclass
class Servers:
    """The three servers, on loopback ports that were found free.

    Args:
        environment: added to this process's own.
        logs: folder of their logs, one file each.
    """

    host: str
    port: int
    code_port: int
    environment: Mapping[str, str]
    logs: Path
    _servers: list[Server] = field(default_factory=list)
    _stopping: threading.Event = field(default_factory=threading.Event)

    @property
    def url(self) -> str:
        """Where the pages are."""
        return f"http://{self.host}:{self.port}"

    def start(self) -> None:
        """Start all three and wait until the pages show the graph. Raises `ServiceFailed`: where to look."""
        self.logs.mkdir(parents=True, exist_ok=True)
        self._prepare()
        self._servers[:] = [
            Server(name, [sys.executable, "-m", *command], self.logs / f"dagster-{name}.log")
            for name, command in self._commands().items()
        ]
        for server in self._servers:
            if server.name != DAEMON:
                self._launch(server)
        self._wait()
        self._launch_daemon()

    def pids(self) -> dict[str, int]:
        """The processes that run now."""
        return {s.name: s.process.pid for s in self._servers if s.process is not None}

    def watch(self) -> None:
        """Restart whichever dies, until `stop` is asked for; then stop all."""
        while not self._stopping.wait(_LOOK_SECONDS):
            for server in self._servers:
                if server.process is not None and server.process.poll() is not None:
                    _log.error("server died", server=server.name, code=server.process.returncode)
                    self._restart(server)
            self._launch_daemon()
        self._stop_all()

    def stop(self) -> None:
        """Ask `watch` to stop all; safe in a signal handler."""
        self._stopping.set()

    def _restart(self, server: Server) -> None:
        """Start one again, later and later; the runs of a code server went with it, and are given up."""
        if self._stopping.wait(min(_LONGEST_PAUSE_SECONDS, _PAUSE_SECONDS * server.starts)):
            return
        if server.name == CODE:
            for daemon in self._servers:
                if daemon.name == DAEMON and daemon.process is not None:
                    daemon.process.kill()
                    daemon.process.wait()
                    daemon.process = None
            self._prepare()
        self._launch(server)

    def _launch_daemon(self) -> None:
        """Start it once there are definitions: it tries but once to launch a lost run again."""
        for server in self._servers:
            if server.name == DAEMON and server.process is None and self._serves() and self._answers():
                self._launch(server)

    def _prepare(self) -> None:
        """Ready the storage for all three: when it is new, they would trip over each other making it."""
        log = self.logs / "dagster-storage.log"
        with log.open("ab") as output:
            done = subprocess.run(
                [sys.executable, "-m", "assets.storage"],
                env={**os.environ, **self.environment},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                check=False,
            )
        if done.returncode:
            raise ServiceFailed("Dagster's storage cannot be made ready", f"its log is {log}")

    def _commands(self) -> dict[str, list[str]]:
        workspace = ["--workspace", str(WORKSPACE)]
        return {
            CODE: [
                *("dagster", "api", "grpc", "--module-name", "assets.location"),
                *("--host", "127.0.0.1", "--port", str(self.code_port)),
                *("--use-python-environment-entry-point", "--location-name", "paywave"),
            ],
            "webserver": ["dagster_webserver", "--host", self.host, "--port", str(self.port), *workspace],
            DAEMON: ["dagster._daemon", "run", *workspace],
        }

    def _launch(self, server: Server) -> None:
        place = {
            "DAGSTER_CODE_SERVER_HOST": "127.0.0.1",
            "DAGSTER_CODE_SERVER_PORT": str(self.code_port),
        }
        with server.log.open("ab") as output:
            server.process = subprocess.Popen(
                server.command,
                env={**os.environ, **self.environment, **place},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                preexec_fn=_end_with_parent,
            )
        server.starts += 1

    def _wait(self) -> None:
        until = time.monotonic() + _READY_SECONDS
        while not self._answers():
            for server in self._servers:
                if server.process is not None and server.process.poll() is not None:
                    self._fail(f"Dagster's {server.name} ended with code {server.process.returncode}", server)
            if time.monotonic() > until:
                self._fail(f"Dagster's pages showed nothing within {_READY_SECONDS:.0f} s", self._servers[0])
            time.sleep(_LOOK_SECONDS)

    def _serves(self) -> bool:
        """Tell whether the code server does, which takes no call before it has loaded the definitions."""
        with suppress(OSError), socket.create_connection(("127.0.0.1", self.code_port), timeout=5):
            return True
        return False

    def _answers(self) -> bool:
        """Tell whether the pages know the definitions: they answer before they have them."""
        query = urllib.parse.urlencode({"query": _LOADED})
        with (
            suppress(OSError, ValueError, KeyError),
            urllib.request.urlopen(f"{self.url}/graphql?{query}", timeout=5) as answer,  # noqa: S310
        ):
            found = json.load(answer)["data"]["workspaceOrError"]["locationEntries"]
            return [entry["locationOrLoadError"]["__typename"] for entry in found] == ["RepositoryLocation"]
        return False

    def _fail(self, what: str, server: Server) -> None:
        self._stop_all()
        lines = server.log.read_text(errors="replace").splitlines()[-15:] if server.log.exists() else []
        raise ServiceFailed("\n".join([what, *lines]), f"its log is {server.log}")

    def _stop_all(self) -> None:
        """Stop the daemon first, so that it launches nothing more; kill what does not end in time."""
        running = [s.process for s in reversed(self._servers) if s.process is not None]
        for process in running:
            process.terminate()
        until = time.monotonic() + _STOP_SECONDS
        for process in running:
            try:
                process.wait(max(0.0, until - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _end_with_parent() -> None:
    """Have the system end this child with its parent, which may be killed; on Linux.

    At once: a code server that is only asked to end waits for its runs.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
