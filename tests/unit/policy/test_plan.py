"""Plans: which images a failover writes in each step, and the steps that settle each kind."""

from dataclasses import replace
from typing import Any

import pytest

from saffire.kube.kinds import Kinds
from saffire.kube.workload import ImageField
from saffire.policy.plan import Failover, MissingSecret, Rollout, Step, rollout_cost, steps
from saffire.pulls.failure import PullFailure, Section
from saffire.registry.reference import Reference
from saffire.sources.candidates import Candidate
from testkit.builders import FAILING, SECOND, Object, pod, source, workload

TEMPLATE, PODS = Step.TEMPLATE, Step.PODS
KINDS = Kinds()
DIGEST = "sha256:" + 64 * "a"


def failover(image: str, template_image: str | None) -> Failover:
    """Return a failover from `image`; the template is patched if it names a `template_image`."""
    candidate = SECOND.partition(":")[0] + Reference.parse(image).suffix
    image_field = None
    if template_image:
        image_field = ImageField(
            template=("spec", "template"), section="containers", index=0, name="web", image=template_image
        )
    return Failover(
        failure=PullFailure(section=Section.CONTAINERS, container="web", image=image, reason="ErrImagePull"),
        candidate=Candidate(image=candidate, reference=Reference.parse(candidate), source=source()),
        workload=workload("Deployment"),
        steps=(Step.TEMPLATE, Step.PODS),
        image_field=image_field,
    )


REPOSITORY = FAILING.partition(":")[0]
RESOLVED = f"{REPOSITORY}@{DIGEST}"


@pytest.mark.parametrize(
    ("expected", "step", "image", "template_image"),
    [
        pytest.param((FAILING, SECOND), Step.TEMPLATE, FAILING, FAILING, id="same-spelling"),
        pytest.param((FAILING, SECOND), Step.PODS, FAILING, FAILING, id="pod"),
        pytest.param((FAILING, SECOND), Step.TEMPLATE, RESOLVED, FAILING, id="template-keeps-its-tag"),
        pytest.param(
            (RESOLVED, f"{SECOND.partition(':')[0]}@{DIGEST}"), Step.PODS, RESOLVED, FAILING, id="pod-keeps-its-digest"
        ),
        pytest.param((FAILING, SECOND), Step.TEMPLATE, FAILING, None, id="no-template"),
    ],
)
def test_a_failover_keeps_the_spelling_of_the_object_that_it_patches(
    expected: tuple[str, str], step: Step, image: str, template_image: str | None
) -> None:
    """Knative resolves a template's tag to a digest in the pod: the template keeps its tag, the pod its digest."""
    assert expected == failover(image, template_image).images(step)


VOLUME = replace(failover(FAILING, FAILING).failure, section=Section.VOLUMES)


@pytest.mark.parametrize(
    ("expected", "changes"),
    [
        pytest.param((PODS,), {}, id="template-then-pods"),
        pytest.param((PODS,), {"steps": (TEMPLATE,), "note": "its rollout ends each ready pod"}, id="template"),
        pytest.param((), {"missing_secret": MissingSecret(secret="pull")}, id="pull-secret"),  # noqa: S106 - its name
        pytest.param((), {"failure": VOLUME}, id="volume"),
    ],
)
def test_if_its_template_is_denied_a_live_pod_moves_as_far_as_it_can_be_changed(
    expected: tuple[Step, ...], changes: dict[str, Any]
) -> None:
    """The note says why the template stays, and nothing of a rollout that never comes."""
    left = replace(failover(FAILING, FAILING), **changes).after_denial("no")
    assert (expected, "its template stays, since the API server refused to patch it: no") == (left.steps, left.note)


# The steps of a kind


def with_spec(kind: str, *, ready: int = 0, **spec: Any) -> Object:
    """Return a workload with these fields in its spec, of which so many pods are `ready`."""
    manifest = workload(kind)
    status = {"numberReady" if kind == "DaemonSet" else "readyReplicas": ready}
    return {**manifest, "spec": {**manifest["spec"], **spec}, "status": status}


def rolling(*, ready: int = 0, replicas: int = 1, **limits: Any) -> Object:
    """Return a Deployment with `strategy: RollingUpdate` and these limits."""
    strategy = {"type": "RollingUpdate", "rollingUpdate": limits}
    return with_spec("Deployment", ready=ready, replicas=replicas, strategy=strategy)


def on_nodes(nodes: int, *, ready: int = 0, **limits: Any) -> Object:
    """Return a DaemonSet of so many nodes, with these limits of a rolling update."""
    manifest = updating("DaemonSet", "RollingUpdate", ready=ready, **limits)
    return {**manifest, "status": {**manifest["status"], "desiredNumberScheduled": nodes}}


def updating(kind: str, strategy: str, *, ready: int = 0, policy: str = "OrderedReady", **limits: Any) -> Object:
    """Return a StatefulSet or a DaemonSet with this update strategy and these limits of a rolling update."""
    spec = {"updateStrategy": {"type": strategy, "rollingUpdate": limits}}
    return with_spec(kind, ready=ready, **spec, **({"podManagementPolicy": policy} if kind == "StatefulSet" else {}))


def parallel(strategy: str = "RollingUpdate", *, ready: int = 0, **limits: Any) -> Object:
    """Return a StatefulSet of three pods that makes them all at once, with so many of them `ready`."""
    manifest = updating("StatefulSet", strategy, ready=ready, policy="Parallel", **limits)
    return {**manifest, "spec": {**manifest["spec"], "replicas": 3}}


RECREATE = {"type": "Recreate"}
LEFT = "its template is left alone, since its rollout could end every ready pod before a new one runs"
IN_TURN = "its rollout ends each ready pod before it starts a new one in its place"
LATER = "its template follows once all its pods are ready, since its rollout could end ready pods first"


@pytest.mark.parametrize(
    ("expected", "cost", "manifest"),
    [
        pytest.param([TEMPLATE], "", workload("Deployment"), id="Deployment"),
        pytest.param([TEMPLATE], "", with_spec("Deployment", ready=3), id="Deployment-ready"),
        pytest.param([TEMPLATE], "", with_spec("Deployment", paused=False), id="Deployment-not-paused"),
        pytest.param([TEMPLATE], "", with_spec("Deployment", strategy={"type": "RollingUpdate"}), id="default-surge"),
        pytest.param([TEMPLATE], "", rolling(ready=3, maxSurge=1, maxUnavailable=0), id="surge-1"),
        pytest.param([TEMPLATE], "", rolling(ready=3, maxSurge="1%"), id="surge-1%"),
        pytest.param([TEMPLATE], "", rolling(ready=3, maxUnavailable=1), id="surge-left-out"),
        pytest.param([TEMPLATE], "", rolling(maxSurge=0), id="surge-0"),
        pytest.param([TEMPLATE], "", rolling(maxSurge="0%"), id="surge-0%"),
        pytest.param([PODS, TEMPLATE], IN_TURN, rolling(ready=1, maxSurge=0), id="surge-0-ready"),
        pytest.param([PODS, TEMPLATE], IN_TURN, rolling(ready=1, maxSurge="0%"), id="surge-0%-ready"),
        pytest.param([TEMPLATE], "", with_spec("Deployment", strategy=RECREATE), id="Recreate"),
        pytest.param([PODS], LEFT, with_spec("Deployment", ready=1, strategy=RECREATE), id="Recreate-ready"),
        pytest.param([PODS], LEFT, rolling(ready=1, replicas=3, maxUnavailable="100%"), id="all-unavailable-ready"),
        pytest.param([PODS], LEFT, rolling(ready=1, replicas=3, maxSurge=0, maxUnavailable=3), id="all-3-ready"),
        pytest.param([TEMPLATE], "", rolling(replicas=3, maxUnavailable="100%"), id="all-unavailable"),
        pytest.param([TEMPLATE], "", rolling(ready=1, replicas=3, maxUnavailable="99%"), id="nearly-all-unavailable"),
        pytest.param([PODS, TEMPLATE], "", with_spec("Deployment", ready=1, paused=True), id="paused"),
        pytest.param([PODS, TEMPLATE], "", with_spec("Deployment", paused=True, strategy=RECREATE), id="both"),
        pytest.param([TEMPLATE, PODS], "", with_spec("ReplicaSet", ready=1), id="ReplicaSet"),
        pytest.param([TEMPLATE, PODS], "", workload("ReplicationController"), id="ReplicationController"),
        pytest.param([TEMPLATE, PODS], "", workload("StatefulSet"), id="StatefulSet"),
        pytest.param([TEMPLATE, PODS], IN_TURN, updating("StatefulSet", "RollingUpdate", ready=1), id="ordered-ready"),
        pytest.param([TEMPLATE], "", parallel(), id="Parallel"),
        pytest.param([PODS, TEMPLATE], LATER, parallel(ready=1), id="Parallel-ready"),
        pytest.param([PODS, TEMPLATE], IN_TURN, parallel(ready=3), id="Parallel-all-ready"),
        pytest.param([PODS, TEMPLATE], LATER, parallel(ready=1, partition=1), id="Parallel-partition-ready"),
        pytest.param([PODS, TEMPLATE], "", parallel(ready=3, partition=1), id="Parallel-partition-all-ready"),
        pytest.param([TEMPLATE, PODS], "", parallel("OnDelete", ready=1), id="Parallel-OnDelete"),
        pytest.param([TEMPLATE, PODS], "", parallel(partition=1), id="partition"),
        pytest.param([TEMPLATE, PODS], "", updating("StatefulSet", "OnDelete", ready=1), id="StatefulSet-OnDelete"),
        pytest.param([TEMPLATE], "", updating("StatefulSet", "Recreate"), id="StatefulSet-Recreate"),
        pytest.param([PODS], LEFT, updating("StatefulSet", "Recreate", ready=1), id="StatefulSet-Recreate-ready"),
        pytest.param([TEMPLATE], "", workload("DaemonSet"), id="DaemonSet"),
        pytest.param([TEMPLATE], IN_TURN, updating("DaemonSet", "RollingUpdate", ready=2), id="DaemonSet-ready"),
        pytest.param([TEMPLATE], "", updating("DaemonSet", "RollingUpdate", ready=2, maxSurge=1), id="DaemonSet-surge"),
        pytest.param([PODS], LEFT, on_nodes(3, ready=2, maxUnavailable="100%"), id="DaemonSet-all-unavailable"),
        pytest.param([TEMPLATE], IN_TURN, on_nodes(3, ready=2, maxUnavailable=2), id="DaemonSet-some-unavailable"),
        pytest.param([TEMPLATE], "", on_nodes(1, maxUnavailable=1), id="DaemonSet-on-one-node"),
        pytest.param([PODS, TEMPLATE], "", updating("DaemonSet", "OnDelete", ready=2), id="DaemonSet-OnDelete"),
        pytest.param([TEMPLATE, PODS], "", workload("CronJob"), id="CronJob"),
        pytest.param([PODS], "", workload("Job"), id="Job"),
        pytest.param([PODS], "", pod(), id="Pod"),
        pytest.param([TEMPLATE, PODS], "", with_spec("Rollout", ready=1), id="Rollout"),
        pytest.param([TEMPLATE, PODS], "", workload("CloneSet"), id="CloneSet"),
        pytest.param(
            [TEMPLATE, PODS],
            "",
            {**workload("DaemonSet"), "apiVersion": "apps.kruise.io/v1beta1"},
            id="DaemonSet-of-OpenKruise",
        ),
        pytest.param([TEMPLATE, PODS], "", workload("Service"), id="Service-of-Knative"),
        pytest.param([PODS], "", workload("Revision"), id="Revision-of-Knative"),
        pytest.param([PODS], "", workload("Widget"), id="unknown-kind"),
    ],
)
def test_each_kind_has_its_steps(expected: list[Step], cost: str, manifest: Object) -> None:
    """Their order settles the workload first; the note says what that costs pods that are ready."""
    kind = KINDS.of(manifest)
    assert (expected, cost) == (list(steps(manifest, kind)), rollout_cost(manifest, kind))


@pytest.mark.parametrize(
    ("expected", "manifest"),
    [
        pytest.param(True, workload("Deployment"), id="Deployment"),
        pytest.param(True, with_spec("Deployment", ready=1, strategy=RECREATE), id="Recreate"),
        pytest.param(True, workload("DaemonSet"), id="DaemonSet"),
        pytest.param(False, with_spec("Deployment", paused=True), id="paused"),
        pytest.param(False, workload("StatefulSet"), id="ordered"),
        pytest.param(False, workload("ReplicaSet"), id="ReplicaSet"),
    ],
)
def test_a_rollout_may_replace_stuck_pods(manifest: Object, *, expected: bool) -> None:
    """Then a stuck pod of an old template needs no patch, whatever the steps were when the template moved."""
    assert expected is Rollout.of(manifest, KINDS.of(manifest)).replaces_stuck_pods


def test_a_kind_that_operators_add_has_the_steps_of_a_foreign_kind() -> None:
    """Its controller is not known here: it may hold back old pods, or new ones."""
    widget = Kinds().extended("example.com/Widget=spec.template").named("example.com/v1", "Widget")
    assert (TEMPLATE, PODS) == steps(workload("Widget"), widget)
