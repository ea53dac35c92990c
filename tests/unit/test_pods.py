"""What a pod of Dagster's work is asked for."""

from __future__ import annotations

from assets.pods import HOME, pod_environment, pod_spec
from config.groups import WorkSettings


def test_a_pod_has_what_it_asks_for_and_no_more() -> None:
    work = WorkSettings(secret="lake", service_account="keeper", cores=2, memory="8Gi", deadline_s=60)
    spec = pod_spec(work)
    (container,) = spec["containers"]
    assert container["resources"] == {k: {"cpu": "2", "memory": "8Gi"} for k in ("requests", "limits")}
    assert container["envFrom"] == [{"secretRef": {"name": "lake"}}]
    assert (spec["serviceAccountName"], spec["activeDeadlineSeconds"]) == ("keeper", 60)
    assert "volumes" not in spec
    assert pod_environment(work, "aws") == {"PAYWAVE_PROFILE": "aws"}, "the secret may name a home"


def test_a_claim_is_the_home_of_every_pod() -> None:
    work = WorkSettings(volume_claim="homes")
    spec = pod_spec(work)
    (volume,), (mount,) = spec["volumes"], spec["containers"][0]["volumeMounts"]
    assert volume["persistentVolumeClaim"] == {"claimName": "homes"}
    assert (mount["name"], mount["mountPath"]) == (volume["name"], HOME)
    assert pod_environment(work, "aws")["PAYWAVE_HOME"] == HOME
