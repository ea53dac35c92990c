"""The Iceberg REST catalog: Iceberg's adapter over SQLite, in Jetty. Belongs here: its files and probe."""

from __future__ import annotations

import http.client
import json
from pathlib import Path

from local.services.base import HOST, Runtime, Service, data_of, java_properties
from local.services.s3proxy import BUCKET
from local.state import REGION, Secrets

NAME = "catalog"
_SERVER = Path(__file__).with_name("catalog.xml")


def catalog(runtime: Runtime, port: int, s3_port: int, secrets: Secrets) -> Service:
    """The REST catalog on `port`, whose files lie in the object store on `s3_port`."""
    conf, data = runtime.home / "run" / "catalog.properties", data_of(runtime.home, NAME)
    return Service(
        name=NAME,
        options=("-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",),
        main=("org.eclipse.jetty.xml.XmlConfiguration", str(conf), str(_SERVER)),
        jars=runtime.class_path("catalog"),
        conf=conf,
        conf_text=java_properties(_properties(data, port, s3_port, secrets)),
        port=port,
        is_ready=lambda: answers(port),
        prepare=lambda: data.mkdir(parents=True, exist_ok=True),
    )


def _properties(data: Path, port: int, s3_port: int, secrets: Secrets) -> dict[str, object]:
    return {
        # The log is flushed at every commit: what was answered survives a kill and a power cut.
        "catalog.uri": f"jdbc:sqlite:{data / 'catalog.db'}?journal_mode=WAL&synchronous=FULL",
        "catalog.warehouse": f"s3://{BUCKET}",
        "catalog.host": HOST,
        "catalog.port": port,
        "s3.endpoint": f"http://{HOST}:{s3_port}",
        "s3.access-key-id": secrets.access_key,
        "s3.secret-access-key": secrets.secret_key,
        "client.region": REGION,
    }


def answers(port: int) -> bool:
    """Whether an Iceberg REST catalog answers there, with its database open."""
    connection = http.client.HTTPConnection(HOST, port, timeout=10)
    try:
        connection.request("GET", "/v1/namespaces")
        response = connection.getresponse()
        return response.status == http.HTTPStatus.OK and "namespaces" in json.loads(response.read())
    except (OSError, http.client.HTTPException, ValueError):
        return False
    finally:
        connection.close()
