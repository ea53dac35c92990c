"""The embedded stack as a whole: up, down, status. Belongs here: which servers run, in what order.

Does not: what a server is told (`services/`), how processes are handled (`process.py`).
"""

from __future__ import annotations

import fcntl
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from config.settings import Settings
from local import process, state
from local.errors import ServiceFailed, StackDown, StackError
from local.jars import KINDS, ensure_sets
from local.java import find_java
from local.ports import choose_ports
from local.process import Process
from local.services import catalog, kafka, s3proxy
from local.services.base import HOST, Runtime, Service, config_mark, data_of, log_of, marks, write_private
from local.services.kafka import Broker

_PORT_RACES = 3
_POLL_S = 0.1
_TAIL_LINES = 15
_PROBES = {s3proxy.NAME: s3proxy.answers, catalog.NAME: catalog.answers}
Report = Callable[[str], None]


@dataclass(frozen=True)
class Endpoints:
    """Where the servers listen, and which of them this `up` had to start."""

    kafka: str
    s3: str
    catalog: str
    brokers: int
    started: tuple[str, ...] = ()


@dataclass(frozen=True)
class ServiceStatus:
    """One server now. `state` is running, stopped or `not answering`; sizes in bytes, times in seconds."""

    name: str
    state: str
    pid: int | None
    port: int | None
    memory_bytes: int
    uptime_s: float
    data_bytes: int
    log: Path


class _PortTaken(Exception):
    """Somebody took a port between our choice and the server's start."""


def up(settings: Settings, brokers: int | None = None, report: Report = lambda _: None) -> Endpoints:
    """Start what is not running and return when all of it answers; does nothing when all of it does.

    `brokers` is 1 or 3, fixed at a home's first start. Raises StackError with the tail of the log.
    """
    with _locked(settings.home, report):
        runtime = Runtime(find_java().path, settings.home, ensure_sets(KINDS, settings.cache))
        cluster = state.cluster_of(settings.home, brokers)
        for attempt in range(_PORT_RACES):
            ports = _ports(settings, cluster.brokers)
            services = _services(runtime, cluster, ports)
            state.remember(settings.home, ports, _as_settings(runtime, cluster, ports))
            try:
                started = _start_all(runtime, services, settings, report)
            except _PortTaken as error:
                if attempt + 1 == _PORT_RACES:
                    raise ServiceFailed(str(error)) from None
                continue
            return _endpoints(ports, cluster.brokers, started)
        raise AssertionError("unreachable")


def down(settings: Settings, report: Report = lambda _: None) -> tuple[str, ...]:
    """Stop whatever runs, the data stays; returns the names of the servers that were stopped."""
    with _locked(settings.home, report):
        running = {name: found for name in _names(settings.home) if (found := find(settings.home, name))}
        # The catalog writes to the object store: it goes first, the others together.
        for batch in ([catalog.NAME], [name for name in running if name != catalog.NAME]):
            with ThreadPoolExecutor(8) as pool:
                ending = [running[name] for name in batch if name in running]
                list(pool.map(lambda one: process.stop(one, settings.stack.stop_timeout_s), ending))
        for name in running:
            _pid_file(settings.home, name).unlink(missing_ok=True)
        # Another stack may take our ports now: nobody shall find it under our name.
        state.remember(settings.home, state.remembered_ports(settings.home), settings={})
        return tuple(running)


def status(settings: Settings) -> list[ServiceStatus]:
    """What each server is doing now; empty before the first start."""
    ports = state.remembered_ports(settings.home)
    return [_status_of(settings.home, name, ports.get(name)) for name in _names(settings.home)]


def require_up(settings: Settings) -> None:
    """Raise StackDown unless every server of the embedded stack runs; does nothing with other profiles."""
    if not settings.is_local:
        return
    names = _names(settings.home)
    stopped = [name for name in names if find(settings.home, name) is None]
    if stopped or not names:
        raise StackDown(
            f"the embedded stack in {settings.home} is not running: {', '.join(stopped) or 'never started'}",
            hint="run `paywave up`",
        )


def find(home: Path, name: str) -> Process | None:
    """The live process of a server: by its pid file, else by its command line."""
    known = process.read_pid_file(_pid_file(home, name))
    if known and known.was_told(*marks(home, name)):
        return known
    return process.find_marked(marks(home, name))


def _names(home: Path) -> list[str]:
    cluster = state.existing_cluster(home)
    brokers = range(1, cluster.brokers + 1) if cluster else ()
    return [*(f"kafka-{node}" for node in brokers), *([s3proxy.NAME, catalog.NAME] if cluster else [])]


def _ports(settings: Settings, brokers: int) -> dict[str, int]:
    """The ports of all uses; a running server keeps its own."""
    first = settings.stack.kafka_port
    preferred = {s3proxy.NAME: settings.stack.s3_port, catalog.NAME: settings.stack.catalog_port}
    for node in range(1, brokers + 1):
        preferred[f"kafka-{node}"] = first + 2 * (node - 1)
        preferred[f"kafka-{node}-controller"] = first + 2 * (node - 1) + 1
    remembered = state.remembered_ports(settings.home)
    held = {
        use: remembered[use]
        for use in preferred
        if use in remembered and find(settings.home, use.removesuffix("-controller"))
    }
    rest = {use: port for use, port in preferred.items() if use not in held}
    return held | choose_ports(rest, remembered, taken=frozenset(held.values()))


def _services(runtime: Runtime, cluster: state.Cluster, ports: dict[str, int]) -> list[Service]:
    secrets = state.secrets_of(runtime.home)
    nodes = range(1, cluster.brokers + 1)
    brokers = [Broker(node, ports[f"kafka-{node}"], ports[f"kafka-{node}-controller"]) for node in nodes]
    return [
        *kafka.kafka(runtime, brokers, cluster.id),
        s3proxy.s3proxy(runtime, ports[s3proxy.NAME], secrets),
        catalog.catalog(runtime, ports[catalog.NAME], ports[s3proxy.NAME], secrets),
    ]


def _endpoints(ports: dict[str, int], brokers: int, started: Sequence[str] = ()) -> Endpoints:
    return Endpoints(
        kafka=",".join(f"{HOST}:{ports[f'kafka-{node}']}" for node in range(1, brokers + 1)),
        s3=f"http://{HOST}:{ports[s3proxy.NAME]}",
        catalog=f"http://{HOST}:{ports[catalog.NAME]}",
        brokers=brokers,
        started=tuple(started),
    )


def _as_settings(runtime: Runtime, cluster: state.Cluster, ports: dict[str, int]) -> dict[str, Any]:
    where, secrets = _endpoints(ports, cluster.brokers), state.secrets_of(runtime.home)
    kept = {"replication_factor": 3, "min_insync_replicas": 2} if cluster.brokers == 3 else {}
    return {
        "kafka": {"bootstrap_servers": where.kafka, **kept},
        "s3": {
            "endpoint": where.s3,
            "region": state.REGION,
            "access_key": secrets.access_key,
            "secret_key": secrets.secret_key,
        },
        "catalog": {"uri": where.catalog},
        "spark": {"jars": [str(path) for path in runtime.jars["spark"]]},
    }


def _start_all(
    runtime: Runtime, services: Sequence[Service], settings: Settings, report: Report
) -> tuple[str, ...]:
    """Bring all servers to readiness side by side; returns the names of those that had to be started."""
    (runtime.home / "run" / "tmp").mkdir(parents=True, exist_ok=True)
    with ThreadPoolExecutor(len(services)) as pool:
        tasks = [pool.submit(_ensure, runtime, service, settings, report) for service in services]
    failures = [error for task in tasks if (error := task.exception())]
    # A lost race for a port is worth another try only if nothing worse happened.
    for error in sorted(failures, key=lambda error: isinstance(error, _PortTaken)):
        raise error
    return tuple(service.name for service, task in zip(services, tasks, strict=True) if task.result())


def _ensure(runtime: Runtime, service: Service, settings: Settings, report: Report) -> bool:
    """Make one server ready; returns whether it had to be started."""
    running = find(runtime.home, service.name)
    if running and running.was_told(config_mark(service.fingerprint)):
        _wait(runtime.home, service, running, settings, offset=0)
        return False
    if running:  # it was told something else than now: other ports, jars or options
        process.stop(running, settings.stack.stop_timeout_s)
    began, log = time.monotonic(), log_of(runtime.home, service.name)
    write_private(service.conf, service.conf_text)
    service.prepare()
    offset = log.stat().st_size if log.exists() else 0
    pid_file = _pid_file(runtime.home, service.name)
    started = process.start(runtime.command(service), {"CLASSPATH": service.jars}, log, pid_file)
    _wait(runtime.home, service, started, settings, offset)
    report(f"{service.name} is up after {time.monotonic() - began:.1f} s")
    return True


def _wait(home: Path, service: Service, running: Process, settings: Settings, offset: int) -> None:
    """Return when the server answers; otherwise stop it and raise, with what it logged since `offset`."""
    limit = settings.stack.start_timeout_s
    deadline = time.monotonic() + limit
    while not (_owns(running, service.port) and service.is_ready()):
        ended = not running.alive
        if not ended and time.monotonic() < deadline:
            time.sleep(_POLL_S)
            continue
        process.stop(running, timeout_s=5)
        what = "ended before it was ready" if ended else f"was not ready after {limit:.0f} s"
        raise _failure(service.name, what, log_of(home, service.name), offset)


def _owns(running: Process, port: int) -> bool:
    """Whether this process is the one that listens there: another stack may answer on a port we lost."""
    return port in {listening for _, listening in running.listens_on()}


def _failure(name: str, what: str, log: Path, offset: int) -> Exception:
    with log.open("rb") as file:
        file.seek(min(offset, log.stat().st_size))
        lines = file.read().decode(errors="replace").splitlines()
    if any("Address already in use" in line or "Failed to bind" in line for line in lines):
        return _PortTaken(f"{name} found its port taken, again and again")
    tail = "\n".join(f"  | {line}" for line in lines[-_TAIL_LINES:]) or "  | (it logged nothing)"
    return ServiceFailed(
        f"{name} {what}. The end of {log}:\n{tail}", hint="run `paywave doctor`, or read the log"
    )


def _status_of(home: Path, name: str, port: int | None) -> ServiceStatus:
    found = find(home, name)
    answering = bool(found and port and _owns(found, port) and _PROBES.get(name, kafka.answers)(port))
    return ServiceStatus(
        name=name,
        state="running" if answering else "not answering" if found else "stopped",
        pid=found.pid if found else None,
        port=port,
        memory_bytes=found.memory_bytes if found else 0,
        uptime_s=round(found.uptime_s, 1) if found else 0.0,
        data_bytes=_size_of(data_of(home, name)),
        log=log_of(home, name),
    )


def _size_of(folder: Path) -> int:
    # Allocated size: Kafka's indexes are sparse files. A file may vanish while we look.
    total = 0
    for path in folder.rglob("*"):
        try:
            total += path.stat().st_blocks * 512 if path.is_file() else 0
        except OSError:
            continue
    return total


def _pid_file(home: Path, name: str) -> Path:
    return home / "run" / f"{name}.pid"


@contextmanager
def _locked(home: Path, report: Report) -> Iterator[None]:
    """One `up` or `down` per home at a time; a second one waits."""
    try:
        (home / "run").mkdir(parents=True, exist_ok=True)
        lock = (home / "run" / "stack.lock").open("w")
    except OSError as error:
        raise StackError(
            f"cannot write to {home}: {error}", hint="free some space, or set PAYWAVE_HOME to another folder"
        ) from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            report("another `paywave up` or `down` is at work on this stack: waiting for it")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield
