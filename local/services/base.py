"""What a server is to the stack manager: a name, a command and a probe. Nothing about any one server."""

from __future__ import annotations

import hashlib
import os
import socket
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

HOST = "127.0.0.1"
# The servers idle most of the time: a small heap, one collector thread and quick compilation start fastest.
JVM = ("-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-XX:-UsePerfData")


@dataclass(frozen=True)
class Service:
    """A server that can be started. `conf` gets `conf_text` just before, then `prepare` runs."""

    name: str
    options: tuple[str, ...]
    main: tuple[str, ...]
    jars: str
    conf: Path
    conf_text: str = field(repr=False)
    port: int
    is_ready: Callable[[], bool]
    prepare: Callable[[], None] = lambda: None

    @property
    def fingerprint(self) -> str:
        """Changes with anything that makes a running server another one than we would start now."""
        told = "\n".join((*self.options, *self.main, self.jars, self.conf_text))
        return hashlib.sha256(told.encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Runtime:
    """What every server needs: the Java to run on, the folder of this stack, the jars of the sets."""

    java: Path
    home: Path
    jars: Mapping[str, Sequence[Path]]

    def command(self, service: Service) -> tuple[str, ...]:
        """The command line of a server; the class path goes by the environment, which keeps `ps` readable."""
        scratch = f"-Djava.io.tmpdir={self.home / 'run' / 'tmp'}"
        told = (*marks(self.home, service.name), config_mark(service.fingerprint))
        return (str(self.java), *JVM, scratch, *service.options, *told, *service.main)

    def class_path(self, kind: str) -> str:
        """A set's class path."""
        return ":".join(map(str, self.jars[kind]))


def marks(home: Path, name: str) -> tuple[str, str]:
    """Arguments by which a server of this home is recognised among all processes."""
    return (f"-Dpaywave.home={home}", f"-Dpaywave.service={name}")


def config_mark(fingerprint: str) -> str:
    """The argument that says how a server was configured."""
    return f"-Dpaywave.config={fingerprint}"


def log_of(home: Path, name: str) -> Path:
    """A server's log."""
    return home / "logs" / f"{name}.log"


def data_of(home: Path, name: str) -> Path:
    """A server's data: everything else of it can be made again."""
    return home / name.replace("-", "/")


def write_private(path: Path, text: str) -> None:
    """Write a file that only its owner may read, never visible half written or to others."""
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    fresh.unlink(missing_ok=True)
    fresh.touch(mode=0o600, exist_ok=False)
    fresh.write_text(text, encoding="utf-8")
    fresh.replace(path)


def java_properties(values: Mapping[str, object]) -> str:
    """A Java properties file; escapes what its reader would take for syntax."""
    return "".join(f"{key}={str(value).replace(chr(92), chr(92) * 2)}\n" for key, value in values.items())


def listens(port: int) -> bool:
    """Whether something accepts connections on this port of the loopback."""
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex((HOST, port)) == 0
