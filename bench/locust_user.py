"""The same requests by Locust, a public load tool: `locust -f bench/locust_user.py`, settings in `BENCH_*`.

Belongs here: what one of its users does. Does not: running it (`gateway.py`).
"""

from __future__ import annotations

import os
import random
import time
from pathlib import Path

from locust import FastHttpUser, task

from bench.load import Bodies
from streaming.gateway.signature import signed_headers

_KEY = Path(os.environ["BENCH_KEY"])
_SECRET = _KEY.read_bytes().strip()
_PER_USER = float(os.environ["BENCH_RATE"]) / int(os.environ["BENCH_USERS"])
_BODIES = Bodies(int(os.environ["BENCH_BATCH"]))
MEASURED = "measured"
_MEASURED_FROM = time.monotonic() + float(os.environ["BENCH_WARM"])


class Partner(FastHttpUser):
    """Posts signed batches, paced or as fast as the answers come."""

    def wait_time(self) -> float:
        """Wait as chance has it: Locust starts its users together, and paced evenly they stay in step."""
        return random.expovariate(_PER_USER) if _PER_USER else 0.0

    @task
    def post(self) -> None:
        """Post one batch; anything but 202 is a failure."""
        body = _BODIES.next()
        headers = signed_headers(_KEY.stem, _SECRET, body, time.time())
        with self.client.post(
            "/v1/events",
            data=body,
            headers={"content-type": "application/json", **headers},
            name=MEASURED if time.monotonic() > _MEASURED_FROM else "warming up",
            catch_response=True,
        ) as answer:
            if answer.status_code != 202:
                answer.failure(f"status {answer.status_code}")
