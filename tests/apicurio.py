"""A real Apicurio Registry for a test: from the locked archive, on a free port of the loopback, in memory."""

from __future__ import annotations

import socket
import subprocess
import time
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from local.jars import ensure_jars
from local.java import find_java
from streaming.errors import SchemaError
from streaming.schemas.registry import Registry

_PATIENCE_S = 120
_OPTIONS = ("-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1")


@contextmanager
def apicurio(folder: Path) -> Iterator[Registry]:
    """Start it in a folder of its own, hand it over when it answers, end it."""
    (archive,) = ensure_jars("registry")
    with zipfile.ZipFile(archive) as packed:
        packed.extractall(folder)
    (jar,) = folder.glob("*-runner.jar")
    port = _free_port()
    told = ["-Dquarkus.http.host=127.0.0.1", f"-Dquarkus.http.port={port}", "-Dapicurio.storage.sql.kind=h2"]
    log = folder / "registry.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [str(find_java().path), *_OPTIONS, *told, "-jar", str(jar)],
            cwd=folder, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT,
        )  # fmt: skip
    try:
        registry = Registry(f"http://127.0.0.1:{port}/apis/ccompat/v7")
        _wait(registry, process, log)
        yield registry
    finally:
        process.kill()
        process.wait()


def _wait(registry: Registry, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + _PATIENCE_S
    while True:
        try:
            registry.ask("GET", "subjects")
            return
        except SchemaError as error:
            said = log.read_text(errors="replace")[-2000:]
            assert process.poll() is None, said
            assert time.monotonic() < deadline, f"{error}\n{said}"
            time.sleep(0.2)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
