"""Is this machine fit, and is the stack well? One check per thing that can be wrong, each with what to do.

Belongs here: checks of Python, Java, disk, jars, ports and servers. Does not: checks of topics and tables
(`cli/commands/stack.py` adds them: they belong to other rooms).
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from config.settings import Settings
from local import stack
from local.errors import StackError
from local.jars import KINDS, cache_dir, locked_sets, verify
from local.java import find_java
from local.ports import can_bind

OLDEST_PYTHON = (3, 11)
NEEDED_DISK_BYTES = 2 * 1024**3


@dataclass(frozen=True)
class Check:
    """One finding. `hint` says what to do next when it is not ok."""

    name: str
    ok: bool
    detail: str
    hint: str = ""


def examine(settings: Settings) -> Iterator[Check]:
    """All checks of the machine and the servers, each as soon as it is known; none raises."""
    yield _python()
    yield attempt("Java", lambda: (lambda java: f"{java.version} at {java.path}")(find_java()))
    yield _disk(settings.home)
    yield attempt("jars", lambda: _jars(settings))
    if not settings.is_local:
        return
    services = stack.status(settings)
    if not services:
        yield from _ports(settings)
        yield Check("stack", False, f"never started in {settings.home}", "run `paywave up`")
    for service in services:
        yield _server(service)


def attempt(name: str, check: Callable[[], str]) -> Check:
    """Run a check that raises when it fails; its error becomes the finding."""
    try:
        return Check(name, True, check())
    except Exception as error:
        hint = getattr(error, "hint", None) or "run it again with --debug to see more"
        return Check(name, False, str(error).splitlines()[0] if str(error) else type(error).__name__, hint)


def _python() -> Check:
    version = ".".join(map(str, sys.version_info[:3]))
    wanted = ".".join(map(str, OLDEST_PYTHON))
    return Check("Python", sys.version_info >= OLDEST_PYTHON, version, f"install Python {wanted} or newer")


def _disk(home: Path) -> Check:
    existing = next(path for path in (home, *home.parents) if path.exists())
    free = shutil.disk_usage(existing).free
    detail = f"{free / 1024**3:.1f} GiB free at {existing}"
    return Check(
        "disk", free >= NEEDED_DISK_BYTES, detail, "free at least 2 GiB, or set PAYWAVE_HOME elsewhere"
    )


def _jars(settings: Settings) -> str:
    folder = cache_dir(settings.cache)
    jars = {jar for jars in locked_sets(KINDS).values() for jar in jars}
    missing = [jar for jar in jars if not (folder / jar.file_name).exists()]
    if missing:
        raise StackError(f"{len(missing)} of {len(jars)} are not in {folder}", hint="run `make setup`")
    for jar in jars:
        verify(jar, folder / jar.file_name)
    return f"{len(jars)} verified in {folder}"


def _ports(settings: Settings) -> Iterator[Check]:
    wanted = settings.stack
    for name, port in (
        ("kafka", wanted.kafka_port),
        ("s3", wanted.s3_port),
        ("catalog", wanted.catalog_port),
    ):
        said = "is free" if can_bind(port) else "is taken: `up` will take a free one"
        yield Check(f"port of {name}", True, f"{port} {said}")


def _server(service: stack.ServiceStatus) -> Check:
    ok = service.state == "running"
    where = f"{service.state}, port {service.port}" + (f", pid {service.pid}" if service.pid else "")
    hint = (
        "run `paywave up`"
        if service.state == "stopped"
        else f"read {service.log}, then `paywave down` and `up`"
    )
    return Check(service.name, ok, where, hint)
