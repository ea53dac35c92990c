"""Work in a pod of a Kubernetes cluster: the same `paywave` commands, from an image of this project.

Belongs here: what a pod is asked for, and launching it. Does not: insisting on a result (`work.py`), the
image.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import dagster as dg
from dagster_k8s import PipesK8sClient

from assets.work import Context, Work
from config.groups import WorkSettings

# Where a pod finds the volume of `work.volume_claim`: the home folder that outlives it.
HOME = "/var/lib/paywave"
_VOLUME = "paywave-home"


class WorkInPods(Work):
    """Launches each command in a pod of its own, which is removed when it ended or its run is terminated.

    A pod whose run was killed goes on to its end or its deadline: every command may run beside another one
    like it. The cluster is the one that this process runs in, or the one of `KUBECONFIG`.
    """

    def launch(self, context: Context, command: Sequence[str]) -> dg.PipesClientCompletedInvocation:
        """Run a `paywave` command to its end; raises what Pipes' client does where the pod failed."""
        settings = self.settings()
        client = PipesK8sClient(poll_interval=settings.work.poll_s)
        return client.run(
            context=context,
            image=settings.need("work", "image"),
            command=["paywave", *command],
            namespace=settings.work.namespace,
            env=pod_environment(settings.work, settings.profile),
            base_pod_spec=pod_spec(settings.work),
            pod_wait_timeout=settings.work.deadline_s,
        )


def pod_environment(work: WorkSettings, profile: str) -> dict[str, str]:
    """Say what a pod's commands are told besides the secret: the profile, and the home on the volume."""
    return {"PAYWAVE_PROFILE": profile, **({"PAYWAVE_HOME": HOME} if work.volume_claim else {})}


def pod_spec(work: WorkSettings) -> Mapping[str, Any]:
    """Say what a pod is asked for: as much as it may take, so that no neighbour's need ends it."""
    asked = {"cpu": str(work.cores), "memory": work.memory}
    container: dict[str, Any] = {"resources": {"requests": asked, "limits": asked}}
    if work.secret is not None:
        container["envFrom"] = [{"secretRef": {"name": work.secret}}]
    spec: dict[str, Any] = {"containers": [container], "activeDeadlineSeconds": work.deadline_s}
    if work.volume_claim is not None:
        claim = {"claimName": work.volume_claim}
        spec["volumes"] = [{"name": _VOLUME, "persistentVolumeClaim": claim}]
        container["volumeMounts"] = [{"name": _VOLUME, "mountPath": HOME}]
    if work.service_account is not None:
        spec["serviceAccountName"] = work.service_account
    return spec
