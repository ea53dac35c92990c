"""A stand-in for a Kubernetes cluster: the few calls of its API that launch a pod, with processes as pods.

Belongs here: pods that run, say something and end. Does not: images, scheduling, limits, permissions: a
cluster checks these, nothing here does.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Condition, Thread
from typing import Any
from urllib.parse import parse_qs, urlsplit

_KUBECONFIG = """
apiVersion: v1
kind: Config
current-context: here
clusters: [{{name: here, cluster: {{server: "http://127.0.0.1:{port}"}}}}]
users: [{{name: me, user: {{}}}}]
contexts: [{{name: here, context: {{cluster: here, user: me}}}}]
"""


@dataclass
class Pod:
    """A pod as it was asked for, its process, and what it said so far, as the kubelet keeps it."""

    asked: dict[str, Any]
    process: subprocess.Popen[bytes]
    said: list[bytes] = field(default_factory=list)
    news: Condition = field(default_factory=Condition)
    is_over: bool = False

    def listen(self) -> None:
        assert self.process.stdout
        for line in self.process.stdout:
            with self.news:
                self.said.append(f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%S.%fZ} ".encode() + line)
                self.news.notify_all()
        self.process.wait()
        with self.news:
            self.is_over = True
            self.news.notify_all()

    def lines(self) -> Iterator[bytes]:
        """What it says, until it is over."""
        sent, is_over = 0, False
        while not is_over:
            with self.news:
                while len(self.said) == sent and not self.is_over:
                    self.news.wait()
                new, is_over = self.said[sent:], self.is_over
            yield from new
            sent += len(new)

    def to_json(self) -> dict[str, Any]:
        container = self.asked["spec"]["containers"][0]
        state: dict[str, Any] = {"running": {}}
        if self.is_over:
            # a process that a signal ended has what the kernel says of it
            code = self.process.returncode
            state = {"terminated": {"exitCode": code if code >= 0 else 128 - code}}
        status = {
            "name": container["name"], "image": container["image"], "imageID": "", "restartCount": 0,
            "ready": not self.is_over, "state": state,
        }  # fmt: skip
        return {**self.asked, "status": {"containerStatuses": [status]}}


class _Server(ThreadingHTTPServer):
    def __init__(self, cluster: Cluster) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.cluster = cluster


class Cluster:
    """Serves the API on loopback; a context manager. `secrets` are environments by name."""

    def __init__(self, folder: Path, secrets: dict[str, dict[str, str]]) -> None:
        self.kubeconfig = folder / "kubeconfig"
        self.secrets = secrets
        self.pods: dict[str, Pod] = {}
        self.removed: list[Pod] = []
        self._server = _Server(self)
        self.kubeconfig.write_text(_KUBECONFIG.format(port=self._server.server_port))

    def launch(self, asked: dict[str, Any]) -> Pod:
        container = asked["spec"]["containers"][0]
        environment = {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
        for source in container.get("envFrom", ()):
            environment |= self.secrets[source["secretRef"]["name"]]
        environment |= {one["name"]: one["value"] for one in container["env"]}
        process = subprocess.Popen(
            container["command"], env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        pod = self.pods[asked["metadata"]["name"]] = Pod(asked, process)
        Thread(target=pod.listen, daemon=True).start()
        return pod

    def remove(self, name: str) -> Pod:
        pod = self.pods.pop(name)
        pod.process.kill()
        self.removed.append(pod)
        return pod

    def __enter__(self) -> Cluster:
        Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        for name in list(self.pods):
            self.remove(name)
        self._server.shutdown()
        self._server.server_close()


class _Handler(BaseHTTPRequestHandler):
    server: _Server

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self._answer(201, self.server.cluster.launch(asked).to_json())

    def do_DELETE(self) -> None:
        name = urlsplit(self.path).path.split("/")[-1]
        self._answer(200, self.server.cluster.remove(name).to_json())

    def do_GET(self) -> None:
        where, pods = urlsplit(self.path), self.server.cluster.pods
        if where.path.endswith("/log"):
            self._stream(pods[where.path.split("/")[-2]])
            return
        name = parse_qs(where.query)["fieldSelector"][0].removeprefix("metadata.name=")
        found = [pods[name].to_json()] if name in pods else []
        self._answer(200, {"kind": "PodList", "apiVersion": "v1", "items": found})

    def _answer(self, status: int, what: dict[str, Any]) -> None:
        content = json.dumps(what).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def _stream(self, pod: Pod) -> None:
        self.send_response(200)
        self.end_headers()
        for line in pod.lines():
            self.wfile.write(line)
            self.wfile.flush()

    def log_message(self, *_: object) -> None:
        pass
