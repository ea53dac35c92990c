"""Which ports the servers get. Belongs here: the choice. Does not: who listens on them."""

from __future__ import annotations

import socket
from collections.abc import Callable, Mapping

from local.services.base import HOST


def choose_ports(
    preferred: Mapping[str, int],
    remembered: Mapping[str, int],
    taken: frozenset[int] = frozenset(),
    is_free: Callable[[int], bool] | None = None,
    any_free: Callable[[], int] | None = None,
) -> dict[str, int]:
    """One port per use: the remembered, else the preferred, else any free one; none twice or in `taken`."""
    is_free, any_free = is_free or can_bind, any_free or free_port
    chosen: dict[str, int] = {}
    for use, port in preferred.items():
        candidates = [remembered[use], port] if use in remembered else [port]
        given = taken.union(chosen.values())
        fitting = (port for port in candidates if port not in given and is_free(port))
        chosen[use] = next(fitting, 0) or _another(given, any_free)
    return chosen


def can_bind(port: int) -> bool:
    """Whether a server could listen on this port of the loopback now."""
    with socket.socket() as probe:
        # As Java does it: a port whose last connections are still closing is free.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
            probe.listen(1)
        except OSError:
            return False
        return True


def free_port() -> int:
    """A port that is free now, chosen by the system."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


def _another(given: frozenset[int], any_free: Callable[[], int]) -> int:
    while True:
        port = any_free()
        if port not in given:
            return port
