"""The SFTP server of the embedded stack: each partner in a folder of its own, let in by its public key.

Belongs here: who may come in, and what may be done there. Does not: what becomes of files (`watch.py`). In
production AWS Transfer Family stands here, and the dropzone watches what it gives.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import asyncssh
import structlog

from streaming.errors import StreamingError
from streaming.partners.registry import Registry

_LOGIN_S = 30
_KEEPALIVE_S = 60
_START_S = 15.0
_log = structlog.get_logger("paywave.dropzone")


class SftpServer:
    """Serves from a thread of its own between `start` and `stop`.

    Args:
        landing: the folder with one folder per partner.
        keys: for each user, lines of OpenSSH's authorized_keys.
        host_key: the server's private key.
    """

    def __init__(self, landing: Path, keys: Mapping[str, str], host_key: Path, host: str, port: int) -> None:
        self._landing = landing.resolve()
        self._keys = {user: asyncssh.import_authorized_keys(lines) for user, lines in keys.items() if lines}
        self._host_key = host_key
        self._host = host
        self.port = port
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="sftp", daemon=True)
        self._acceptor: asyncssh.SSHAcceptor | None = None

    def start(self) -> None:
        """Listen. Raises StreamingError where that cannot be."""
        self._thread.start()
        try:
            asyncio.run_coroutine_threadsafe(self._listen(), self._loop).result(_START_S)
        except (OSError, asyncssh.Error, TimeoutError) as error:
            self.stop()
            raise StreamingError(
                f"SFTP cannot listen at {self._host}:{self.port}: {error}",
                "set dropzone.sftp_port to a free port",
            ) from None

    def stop(self) -> None:
        """End all sessions; a file in the middle of its upload stays as it is, and is not complete."""
        if self._acceptor is not None:
            self._loop.call_soon_threadsafe(self._acceptor.close)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(_START_S)

    async def _listen(self) -> None:
        self._acceptor = await asyncssh.create_server(
            lambda: _Login(self._keys),
            self._host,
            self.port,
            server_host_keys=[str(self._host_key)],
            sftp_factory=lambda channel: _Folder(channel, self._landing),
            allow_scp=False,
            agent_forwarding=False,
            x11_forwarding=False,
            login_timeout=_LOGIN_S,
            keepalive_interval=_KEEPALIVE_S,
        )
        self.port = self._acceptor.get_port()


class _Login(asyncssh.SSHServer):
    """Lets a partner in by one of its public keys, and nobody else by anything."""

    def __init__(self, keys: Mapping[str, asyncssh.SSHAuthorizedKeys]) -> None:
        self._keys = keys
        self._connection: asyncssh.SSHServerConnection | None = None

    def connection_made(self, conn: asyncssh.SSHServerConnection) -> None:
        self._connection = conn

    def begin_auth(self, username: str) -> bool:
        if self._connection is not None and username in self._keys:
            self._connection.set_authorized_keys(self._keys[username])
        return True


class _Folder(asyncssh.SFTPServer):
    """A partner's own folder: files and folders, and no links."""

    def __init__(self, channel: asyncssh.SSHServerChannel[bytes], landing: Path) -> None:
        user = channel.get_extra_info("username")
        super().__init__(channel, chroot=str(landing / user).encode())

    def close(self, file_obj: Any) -> None:
        """What a client is told to be written is on the disk."""
        with contextlib.suppress(OSError, ValueError):  # a handle for reading
            file_obj.flush()
            os.fsync(file_obj.fileno())
        super().close(file_obj)

    def symlink(self, oldpath: bytes, newpath: bytes) -> None:
        del oldpath, newpath
        raise asyncssh.SFTPPermissionDenied("no links here")

    def link(self, oldpath: bytes, newpath: bytes) -> None:
        del oldpath, newpath
        raise asyncssh.SFTPPermissionDenied("no links here")


def made_key(path: Path) -> Path:
    """Make a private key of the embedded stack's own, unless it is there; whole or not at all."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        fresh = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
        fresh.touch(mode=0o600)
        asyncssh.generate_private_key("ssh-ed25519").write_private_key(fresh)
        with contextlib.suppress(FileExistsError):  # another process was first: its key is the key
            path.hardlink_to(fresh)
        fresh.unlink()
    return path


def authorized_keys(registry: Registry, dev_folder: Path | None) -> dict[str, str]:
    """Gather who may come in: the registry's keys; in the embedded stack also one that it makes per partner.

    The private half of that is `sftp-<partner>` in `dev_folder`.
    """
    found = {}
    for name, partner in registry.partners.items():
        if not partner.active or not partner.files:
            continue
        lines: Sequence[str] = partner.files.ssh_keys
        if dev_folder is not None:
            made = asyncssh.read_private_key(made_key(dev_folder / f"sftp-{name}"))
            lines = (*lines, made.export_public_key().decode().strip())
        found[name] = "\n".join(lines)
    return found
