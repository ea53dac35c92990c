"""Dagster's work in pods: the real client on a stand-in for a cluster, real commands on the real stack."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from threading import Thread
from typing import Any

import dagster as dg
import pytest
from dagster_k8s.client import DagsterK8sError
from pyiceberg.catalog.rest import RestCatalog

from assets.definitions import build_defs
from assets.lake import Lake
from assets.pods import WorkInPods
from config.settings import Settings, load_settings
from lakehouse.definitions import BY_NAME
from lakehouse.tables import ensure_tables
from tests.cluster import Cluster

pytestmark = pytest.mark.integration
EXPIRY = dg.AssetKey(["maintenance", "expiry"])


class LakeOfPods(Lake):
    """The stack's lake, whose work goes to a cluster."""

    def settings(self) -> Settings:
        work = {"place": "kubernetes", "image": "paywave:1", "secret": "lake", "service_account": "lake"}
        return load_settings(home=self.home, work={**work, "deadline_s": 300, "poll_s": 0.1})


@pytest.fixture
def cluster(stack: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    home = {"PAYWAVE_HOME": str(stack.home), "HOME": os.environ["HOME"]}
    with Cluster(tmp_path, {"lake": home}) as cluster:
        monkeypatch.setenv("KUBECONFIG", str(cluster.kubeconfig))
        # the client reads it when it is imported
        monkeypatch.setattr(
            "kubernetes.config.kube_config.KUBE_CONFIG_DEFAULT_LOCATION", str(cluster.kubeconfig)
        )
        yield cluster


def test_a_pod_does_the_work_reports_it_and_is_removed(
    cluster: Cluster, stack: Settings, catalog: RestCatalog
) -> None:
    ensure_tables(catalog, stack.tables.buckets)
    defs = build_defs({"lake": LakeOfPods(home=str(stack.home))})
    with dg.DagsterInstance.ephemeral() as instance:
        job = defs.resolve_implicit_global_asset_job_def()
        done = job.execute_in_process(instance=instance, asset_selection=[EXPIRY], raise_on_error=False)
    assert done.success
    (event,) = done.get_asset_materialization_events()
    rows = event.materialization.metadata["tables"].records
    assert {row.data["table"] for row in rows} == set(BY_NAME)
    (pod,) = cluster.removed
    spec, (container,) = pod.asked["spec"], pod.asked["spec"]["containers"]
    assert container["command"][:3] == ["paywave", "maintain", "expire"]
    assert container["resources"]["limits"] == {"cpu": "4", "memory": "16Gi"}
    assert (container["image"], spec["serviceAccountName"]) == ("paywave:1", "lake")
    assert (spec["activeDeadlineSeconds"], spec["restartPolicy"]) == (300, "Never")
    assert "PAYWAVE_HOME" not in {one["name"] for one in container["env"]}, "it is the secret that says it"
    assert not cluster.pods


def test_a_pod_that_is_killed_is_a_failed_run(cluster: Cluster, stack: Settings) -> None:
    work: Any = WorkInPods(lake=LakeOfPods(home=str(stack.home)))

    @dg.asset
    def hours(context) -> None:  # type: ignore[no-untyped-def]  # Dagster reads its annotations
        work.run(context, ["stream", "raw"])

    def kill() -> None:
        while not any(pod.said for pod in cluster.pods.values()):
            time.sleep(0.05)
        for pod in cluster.pods.values():
            os.kill(pod.process.pid, signal.SIGKILL)

    killer = Thread(target=kill)
    killer.start()
    with pytest.raises(DagsterK8sError, match="exited with errors"):
        dg.materialize([hours])
    killer.join()
    assert not cluster.pods, "nothing is left of it"
