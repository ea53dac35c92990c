"""The log: Apache Kafka in KRaft mode, one broker or three. Belongs here: its files, formatting and probe."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from local.errors import ServiceFailed
from local.services.base import HOST, JVM, Runtime, Service, data_of, java_properties, listens

_LOGGING = Path(__file__).with_name("log4j2.xml")


@dataclass(frozen=True)
class Broker:
    """One node, broker and controller in one."""

    node: int
    port: int
    controller_port: int

    @property
    def name(self) -> str:
        """The service's name."""
        return f"kafka-{self.node}"


def kafka(runtime: Runtime, brokers: Sequence[Broker], cluster_id: str) -> list[Service]:
    """The services of a cluster; ready when each broker sees all of them."""
    return [_service(runtime, broker, brokers, cluster_id) for broker in brokers]


def server_properties(broker: Broker, brokers: Sequence[Broker], data: Path) -> dict[str, object]:
    """What a broker is told. Of three brokers each keeps every internal topic, and two must be in sync."""
    copies = min(3, len(brokers))
    in_sync = max(1, copies - 1)
    return {
        "process.roles": "broker,controller",
        "node.id": broker.node,
        "controller.quorum.voters": ",".join(f"{b.node}@{HOST}:{b.controller_port}" for b in brokers),
        "listeners": f"BROKER://{HOST}:{broker.port},CONTROLLER://{HOST}:{broker.controller_port}",
        "advertised.listeners": f"BROKER://{HOST}:{broker.port}",
        "listener.security.protocol.map": "BROKER:PLAINTEXT,CONTROLLER:PLAINTEXT",
        "inter.broker.listener.name": "BROKER",
        "controller.listener.names": "CONTROLLER",
        "log.dirs": data,
        "default.replication.factor": copies,
        "min.insync.replicas": in_sync,
        "offsets.topic.replication.factor": copies,
        "offsets.topic.num.partitions": 4,
        "transaction.state.log.replication.factor": copies,
        "transaction.state.log.min.isr": in_sync,
        "transaction.state.log.num.partitions": 4,
        "share.coordinator.state.topic.replication.factor": copies,
        "share.coordinator.state.topic.min.isr": in_sync,
        # A topic made by a typing error, or records thrown away for speed: neither may happen silently.
        "auto.create.topics.enable": "false",
        "unclean.leader.election.enable": "false",
        "group.initial.rebalance.delay.ms": 0,
        "num.network.threads": 2,
        "num.io.threads": 4,
        # A killed broker reads its segments again on start; each folder has its own thread.
        "num.recovery.threads.per.data.dir": 2,
        "log.cleaner.dedupe.buffer.size": 8 * 1024 * 1024,
    }


def is_formatted(data: Path) -> bool:
    """Whether the folder already belongs to a cluster: it must never be formatted again."""
    return (data / "meta.properties").exists()


def sees_all(port: int, brokers: int) -> bool:
    """Whether the broker on `port` answers and knows all brokers of the cluster."""
    if not listens(port):
        return False
    try:
        client = AdminClient({"bootstrap.servers": f"{HOST}:{port}", "log_level": 0})
        return len(client.list_topics(timeout=5).brokers) >= brokers
    except KafkaException:
        return False


def answers(port: int) -> bool:
    """Whether a broker answers on this port."""
    return sees_all(port, 1)


def _service(runtime: Runtime, broker: Broker, brokers: Sequence[Broker], cluster_id: str) -> Service:
    conf, data = runtime.home / "run" / f"{broker.name}.properties", data_of(runtime.home, broker.name)
    jars = runtime.class_path("kafka")

    def prepare() -> None:
        data.mkdir(parents=True, exist_ok=True)
        if not is_formatted(data):
            _format(runtime.java, conf, cluster_id, jars)

    return Service(
        name=broker.name,
        options=(f"-Dlog4j2.configurationFile={_LOGGING.as_uri()}",),
        main=("kafka.Kafka", str(conf)),
        jars=jars,
        conf=conf,
        conf_text=java_properties(server_properties(broker, brokers, data)),
        port=broker.port,
        is_ready=lambda: sees_all(broker.port, len(brokers)),
        prepare=prepare,
    )


def _format(java: Path, conf: Path, cluster_id: str, jars: str) -> None:
    # --ignore-formatted: a format that was cut off half-way is finished instead of refused.
    command = [str(java), *JVM, "kafka.tools.StorageTool", "format", "--ignore-formatted"]
    done = subprocess.run(
        [*command, "-t", cluster_id, "-c", str(conf)],
        env={**os.environ, "CLASSPATH": jars},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    if done.returncode:
        raise ServiceFailed(f"Kafka's folder could not be formatted:\n{(done.stderr or done.stdout).strip()}")
