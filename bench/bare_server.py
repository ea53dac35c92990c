"""A server without any check, to measure the gateway by: the same server and producer, nothing in between.

Belongs here: cutting a body at its array's elements and producing them. Does not: signatures, rules, limits.
"""

from __future__ import annotations

import json
import os
from functools import partial
from typing import Any

import msgspec

from streaming.gateway.link import KafkaLink
from streaming.gateway.server import Listener, serve
from streaming.message import Message

_ARRAY = msgspec.json.Decoder(list[msgspec.Raw])


def make_app(topic: str, bootstrap: str) -> Any:
    """Make the application: read, cut, produce, answer 202 after the acknowledgements."""
    link = KafkaLink(topic, {"bootstrap.servers": bootstrap}, 10)

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            await receive()
            link.start()
            await send({"type": "lifespan.startup.complete"})
            await receive()
            link.stop(5)
            await send({"type": "lifespan.shutdown.complete"})
            return
        body = b""
        while True:
            message = await receive()
            body += message.get("body", b"")
            if not message.get("more_body"):
                break
        if body:
            values = [bytes(raw) for raw in _ARRAY.decode(body)] if body[:1] == b"[" else [body]
            await link.send((Message(value, None, ()) for value in values), ())
        await send({"type": "http.response.start", "status": 202 if body else 200, "headers": []})
        await send({"type": "http.response.body", "body": b"{}"})

    return app


if __name__ == "__main__":
    given = json.loads(os.environ["BENCH_BARE"])
    serve(partial(make_app, given["topic"], given["bootstrap"]), Listener("127.0.0.1", given["port"], 60, 10))
