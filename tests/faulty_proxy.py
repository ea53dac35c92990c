"""An HTTP proxy in front of the REST catalog that misbehaves as told: drops answers, delays, lies.

Belongs here: the proxy and how requests are picked. Does not: what the protocol should do about it.
"""

from __future__ import annotations

import http.client
import json
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum, auto
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

ALWAYS = 1_000_000
_LONGEST_SECONDS = 60.0
_OF_THE_CONNECTION = {
    "connection",
    "keep-alive",
    "transfer-encoding",
    "content-length",
    "host",
    "date",
    "server",
}


@dataclass(frozen=True)
class Request:
    """A request as the proxy sees it."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def updates(self) -> list[dict[str, Any]]:
        """The updates of a commit; none for any other request."""
        try:
            found = json.loads(self.body).get("updates", [])
        except (ValueError, AttributeError):
            return []
        return found if isinstance(found, list) else []

    def is_of(self, table: str) -> bool:
        """Tell whether it speaks to a table, `db.table`."""
        return self.path.split("?")[0].endswith("/namespaces/{}/tables/{}".format(*table.split(".")))


Match = Callable[[Request], bool]


def swaps(table: str) -> Match:
    """The commit that publishes: it sets main."""
    return lambda r: r.method == "POST" and r.is_of(table) and "main" in _refs_set(r) and not _adds(r)


def opens(table: str) -> Match:
    """The commit that creates a stage's branch."""
    return lambda r: r.is_of(table) and any(ref.startswith("stage_") for ref in _refs_set(r)) and not _adds(r)


def stages(table: str) -> Match:
    """The engine's commit of a snapshot."""
    return lambda r: r.method == "POST" and r.is_of(table) and _adds(r)


def drops(table: str) -> Match:
    """The commit that drops a branch and does nothing else."""
    return lambda r: r.is_of(table) and {u["action"] for u in r.updates} == {"remove-snapshot-ref"}


def reads(table: str) -> Match:
    """The request that loads the table."""
    return lambda r: r.method == "GET" and r.is_of(table)


def anything(_: Request) -> bool:
    """Every request."""
    return True


def _refs_set(request: Request) -> set[str]:
    return {u["ref-name"] for u in request.updates if u["action"] == "set-snapshot-ref"}


def _adds(request: Request) -> bool:
    return any(u["action"] == "add-snapshot" for u in request.updates)


class Kind(Enum):
    """What happens to a request that was picked."""

    DROP_ANSWER = auto()
    DROP_REQUEST = auto()
    DELAY = auto()
    ANSWER = auto()
    APPLY_AND_ANSWER = auto()
    PASS = auto()


@dataclass
class Fault:
    """One misbehaviour, for the next `times` requests that match.

    `statuses` are the catalog's answers to what was forwarded. `before` runs before the request is forwarded
    (or not), `after` runs when the catalog has answered and the client has not yet heard of it.
    """

    match: Match
    kind: Kind
    times: int = 1
    status: int = 0
    before: Callable[[], None] = lambda: None
    after: Callable[[], None] = lambda: None
    hits: int = 0
    statuses: list[int] = field(default_factory=list)
    caught: threading.Event = field(default_factory=threading.Event)
    _released: threading.Event = field(default_factory=threading.Event)
    _landed: threading.Event = field(default_factory=threading.Event)

    def release(self) -> int:
        """Let the delayed request go on to the catalog; returns the catalog's status."""
        assert self.caught.is_set(), "nothing was delayed"
        self._released.set()
        assert self._landed.wait(_LONGEST_SECONDS)
        return self.statuses[-1]

    def cancel(self) -> None:
        """Let every further request pass."""
        self.times = self.hits


class FaultyProxy:
    """Forwards everything to `upstream`, a base URL, but for the faults that are set."""

    def __init__(self, upstream: str) -> None:
        self._upstream = urlsplit(upstream)
        self._faults: list[Fault] = []
        self._lock = threading.Lock()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self.url = f"http://127.0.0.1:{self._server.server_port}{self._upstream.path}"

    def __enter__(self) -> FaultyProxy:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        for fault in self._faults:
            fault._released.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def drop_answer(self, match: Match, times: int = 1, after: Callable[[], None] = lambda: None) -> Fault:
        """Forward, and close the connection instead of answering."""
        return self._set(Fault(match, Kind.DROP_ANSWER, times, after=after))

    def drop_request(self, match: Match, times: int = 1) -> Fault:
        """Close the connection without forwarding."""
        return self._set(Fault(match, Kind.DROP_REQUEST, times))

    def delay(self, match: Match) -> Fault:
        """Forward one request only when it is released: after the client's time-out."""
        return self._set(Fault(match, Kind.DELAY))

    def answer(self, match: Match, status: int, times: int = 1) -> Fault:
        """Answer with an error without forwarding."""
        return self._set(Fault(match, Kind.ANSWER, times, status))

    def apply_and_answer(self, match: Match, status: int, times: int = 1) -> Fault:
        """Forward, and answer with an error although it was applied."""
        return self._set(Fault(match, Kind.APPLY_AND_ANSWER, times, status))

    def meanwhile(self, match: Match, before: Callable[[], None]) -> Fault:
        """Let something else happen before one request is forwarded as it is."""
        return self._set(Fault(match, Kind.PASS, before=before))

    def _set(self, fault: Fault) -> Fault:
        with self._lock:
            self._faults.append(fault)
        return fault

    def _pick(self, request: Request) -> Fault | None:
        with self._lock:
            for fault in self._faults:
                if fault.hits < fault.times and fault.match(request):
                    fault.hits += 1
                    return fault
        return None

    def handle(self, request: Request) -> tuple[int, dict[str, str], bytes] | None:
        """Return the answer for the client; None closes the connection."""
        fault = self._pick(request)
        if fault is None:
            return self._forward(request)
        fault.before()
        if fault.kind is Kind.DROP_REQUEST:
            return None
        if fault.kind is Kind.ANSWER:
            return _error(fault.status)
        if fault.kind is Kind.DELAY:
            fault.caught.set()
            fault._released.wait(_LONGEST_SECONDS)
        answer = self._forward(request)
        fault.statuses.append(answer[0])
        fault.after()
        fault._landed.set()
        if fault.kind is Kind.PASS:
            return answer
        return _error(fault.status) if fault.kind is Kind.APPLY_AND_ANSWER else None

    def _forward(self, request: Request) -> tuple[int, dict[str, str], bytes]:
        connection = http.client.HTTPConnection(self._upstream.netloc, timeout=_LONGEST_SECONDS)
        try:
            connection.request(request.method, request.path, request.body or None, request.headers)
            answer = connection.getresponse()
            body = answer.read()
            return answer.status, _end_to_end(answer.headers.items()), body
        finally:
            connection.close()


def _end_to_end(headers: Any) -> dict[str, str]:
    return {name: value for name, value in headers if name.lower() not in _OF_THE_CONNECTION}


def _error(status: int) -> tuple[int, dict[str, str], bytes]:
    error = {"message": "told to fail", "type": "FaultyProxy", "code": status}
    return status, {"Content-Type": "application/json"}, json.dumps({"error": error}).encode()


def _handler(proxy: FaultyProxy) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _handle(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            answer = proxy.handle(Request(self.command, self.path, _end_to_end(self.headers.items()), body))
            if answer is None:
                self.close_connection = True
                return
            status, headers, data = answer
            try:
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(data)
            except OSError:  # the client has gone: it timed out
                self.close_connection = True

        do_GET = do_POST = do_DELETE = do_HEAD = do_PUT = _handle

        def log_message(self, format: str, *args: Any) -> None:
            """Stay quiet: the tests' output is for their failures."""

    return Handler
