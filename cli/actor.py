"""Who runs a command, as the ledgers note it. Belongs here: that. Does not: who approved it."""

from __future__ import annotations

import getpass
import socket


def actor() -> str:
    """Name the user and the machine: `user@host`."""
    return f"{getpass.getuser()}@{socket.gethostname()}"
