"""The demo's partners: one posts events to the gateway, one uploads a file to the dropzone over SFTP.

Belongs here: what partners do, and what must come of their file. Does not: gateway and dropzone, which are
the real ones.
"""

from __future__ import annotations

import asyncio
import hashlib
import http.client
import json
import secrets
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import islice
from pathlib import Path
from typing import Any

import asyncssh

from cli.commands.dropzone import make_dropzone
from cli.commands.gateway import gateway_config
from config.settings import Settings
from local.ports import free_port
from streaming.dropzone.landing import open_landing
from streaming.dropzone.sftp import SftpServer, authorized_keys, made_key
from streaming.errors import StreamingError
from streaming.gateway.signature import signed_headers
from streaming.partners.registry import Registry

_HOST = "127.0.0.1"
_POSTER, _UPLOADER = "demo-bank", "card-simulator"
_PER_REQUEST = 200
_AT_ONCE = 4
_START_S = 60.0
_RUN = "from cli.main import main; main()"
_ROWS = 500


@dataclass(frozen=True)
class PartnerFile:
    """A file that a partner uploads: its bytes, and what must come of it."""

    name: str
    content: bytes
    expected: dict[str, Any]


def partner_file(rows: int = _ROWS) -> PartnerFile:
    """Make up a file of card transactions in the partner's format, one row of which has no amount."""
    first, start = secrets.randbits(40), datetime.now(UTC).replace(microsecond=0) - timedelta(hours=1)
    lines, amount, frauds = (
        ["TRANSACTION_ID,TX_DATETIME,CUSTOMER_ID,TERMINAL_ID,TX_AMOUNT,TX_FRAUD"],
        Decimal(0),
        0,
    )
    for n in range(rows):
        is_fraud, cents = n % 50 == 7, 100 + n * 37 % 9900
        at = start + timedelta(seconds=n)
        paid = Decimal(cents).scaleb(-2)
        lines.append(f"{first + n},{at:%Y-%m-%d %H:%M:%S},{n % 60},{n % 25},{paid},{int(is_fraud)}")
        amount += paid * (1 + is_fraud)
        frauds += is_fraud
    lines.append(f"{first + rows},{start:%Y-%m-%d %H:%M:%S},1,1,cheap,0")
    counts = dict.fromkeys(("versions", "events", "payments"), rows + frauds)
    return PartnerFile(
        f"transactions-{first}.csv",
        ("\n".join(lines) + "\n").encode(),
        {**counts, "quarantined": 1, "amount": amount},
    )


@contextmanager
def running_gateway(settings: Settings) -> Iterator[int]:
    """Run the gateway as a process; yields its port. It drains and ends with the block."""
    port, log = free_port(), settings.home / "logs" / "gateway.log"
    with log.open("ab") as output:
        process = subprocess.Popen(
            [sys.executable, "-c", _RUN, "gateway", "--port", str(port)], stdout=output, stderr=output
        )
    try:
        _wait_until_ready(process, port, log)
        yield port
    finally:
        process.terminate()
        process.wait(_START_S)


def _wait_until_ready(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    deadline = time.monotonic() + _START_S
    while time.monotonic() < deadline and process.poll() is None:
        try:
            if _ask(port, "GET", "/readyz")[0] == 200:
                return
        except OSError:
            pass
        time.sleep(0.1)
    raise StreamingError("the gateway does not become ready", f"see {log}")


def post(settings: Settings, port: int, lines: Iterable[bytes]) -> Counter[str]:
    """Post events as NDJSON, some requests at a time. Returns how many were accepted and rejected."""
    config = gateway_config(settings)
    key = config.registry.partners[_POSTER].keys[0].id
    rest = iter(lines)
    bodies = iter(lambda: b"\n".join(islice(rest, _PER_REQUEST)), b"")
    found: Counter[str] = Counter()
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        for told in pool.map(lambda body: _post_one(port, key, config.secrets[key], body), bodies):
            found += Counter({name: told[name] for name in ("accepted", "rejected")})
    return found


def _post_one(port: int, key: str, secret: bytes, body: bytes) -> dict[str, int]:
    """Post one request; told to come later, it does, as a partner should."""
    while True:
        headers = signed_headers(key, secret, body, time.time())
        status, answer, wait = _ask(
            port, "POST", "/v1/events", body, {**headers, "content-type": "application/x-ndjson"}
        )
        if status in (202, 422):
            told: dict[str, int] = json.loads(answer)
            return told
        if status not in (429, 503):
            raise StreamingError(f"the gateway answered {status}: {answer.decode()[:200]}", "see its log")
        time.sleep(float(wait or 1))


def _ask(
    port: int, method: str, path: str, body: bytes | None = None, headers: dict[str, str] | None = None
) -> tuple[int, bytes, str | None]:
    connection = http.client.HTTPConnection(_HOST, port, timeout=_START_S)
    try:
        connection.request(method, path, body, headers or {})
        answer = connection.getresponse()
        return answer.status, answer.read(), answer.getheader("retry-after")
    finally:
        connection.close()


def upload(settings: Settings, registry: Registry, file: PartnerFile) -> list[Counter[str]]:
    """Upload a file over SFTP: cut off in the middle, then whole, then once more.

    Returns what the dropzone found after each of the three.
    """
    landing, keys = settings.home / "landing", settings.dev_keys
    assert keys is not None  # the demo runs on the embedded stack
    # nobody else writes there, and each upload is over before the dropzone looks
    at_once = settings.model_copy(update={"dropzone": settings.dropzone.model_copy(update={"quiet_s": 0.0})})
    zone = make_dropzone(at_once, registry, open_landing(str(landing), settings.catalog_properties()))
    zone.prepare()
    server = SftpServer(
        landing, authorized_keys(registry, keys), made_key(keys / "sftp-host"), _HOST, free_port()
    )
    server.start()
    try:
        key, whole = keys / f"sftp-{_UPLOADER}", file.content
        looks = []
        for name, content, is_done in (
            (file.name, whole[: len(whole) // 2], False),
            (file.name, whole, True),
            (file.name, whole, True),
        ):
            asyncio.run(_put(server.port, key, name, content, is_done))
            looks.append(zone.scan())
        return looks
    finally:
        server.stop()


async def _put(port: int, key: Path, name: str, content: bytes, is_done: bool) -> None:
    async with (
        asyncssh.connect(
            _HOST, port, username=_UPLOADER, client_keys=[str(key)], known_hosts=None, config=[]
        ) as connection,
        connection.start_sftp_client() as sftp,
    ):
        files = {name: content}
        if is_done:
            files[f"{name}.sha256"] = f"{hashlib.sha256(content).hexdigest()}  {name}\n".encode()
        for path, data in files.items():
            async with sftp.open(path, "wb") as remote:
                await remote.write(data)
