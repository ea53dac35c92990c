"""The object store: S3Proxy over a folder. Belongs here: its files and its probe."""

from __future__ import annotations

import http.client
from pathlib import Path

from local.services.base import HOST, Runtime, Service, data_of, java_properties
from local.state import Secrets

NAME = "s3"
BUCKET = "warehouse"


def s3proxy(runtime: Runtime, port: int, secrets: Secrets) -> Service:
    """S3Proxy on `port`; the bucket is a folder, made before the start."""
    conf, data = runtime.home / "run" / "s3.properties", data_of(runtime.home, NAME)
    # S3Proxy turns stderr into log lines: a logger that writes to stderr would feed itself for ever.
    options = ("-Dorg.slf4j.simpleLogger.logFile=System.out", "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn")
    return Service(
        name=NAME,
        options=options,
        main=("org.gaul.s3proxy.Main", "--properties", str(conf)),
        jars=runtime.class_path("s3proxy"),
        conf=conf,
        conf_text=java_properties(_properties(data, port, secrets)),
        port=port,
        is_ready=lambda: answers(port),
        prepare=lambda: _make_bucket(data / BUCKET),
    )


def _properties(data: Path, port: int, secrets: Secrets) -> dict[str, object]:
    return {
        "s3proxy.endpoint": f"http://{HOST}:{port}",
        "s3proxy.authorization": "aws-v2-or-v4",
        "s3proxy.identity": secrets.access_key,
        "s3proxy.credential": secrets.secret_key,
        "jclouds.provider": "filesystem-nio2",
        "jclouds.filesystem.basedir": data,
    }


def _make_bucket(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o700)  # S3Proxy takes a folder that others may read for a public bucket


def answers(port: int) -> bool:
    """Whether an S3 server answers there: any request without a signature is refused with 403."""
    connection = http.client.HTTPConnection(HOST, port, timeout=5)
    try:
        connection.request("GET", f"/{BUCKET}")
        return connection.getresponse().status == http.HTTPStatus.FORBIDDEN
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
