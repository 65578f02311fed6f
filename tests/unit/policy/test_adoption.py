"""Adoption: which stuck pod of a StatefulSet becomes one of its new revision, and the patch that makes it one."""

from typing import Any

import pytest

from saffire.kube.workload import Owners
from saffire.policy.adoption import adopting, may_adopt, revisions
from saffire.policy.decide import Gathered
from saffire.policy.patch import Patch, render
from saffire.policy.plan import Failover, Step
from saffire.pulls.failure import find_pull_failures
from testkit.builders import FAILING, NOW, SECOND, THIRD, Object, pod, running, source, waiting, workload
from testkit.decisions import decide
from testkit.rfc6902 import PatchFailed, patched

LABEL = "controller-revision-hash"
OWNER = {"apiVersion": "apps/v1", "kind": "StatefulSet", "name": "web", "uid": "statefulset-uid", "controller": True}
OTHER = {**OWNER, "name": "other", "uid": "other-uid"}


def stateful_set(**fields: Any) -> Object:
    """Return the StatefulSet `web`, whose newest revision is `web-2`; `fields` are those of its spec."""
    manifest = workload("StatefulSet")
    status = {"observedGeneration": 2, "updateRevision": "web-2"}
    metadata = {**manifest["metadata"], "name": "web", "generation": 2}
    return {**manifest, "metadata": metadata, "spec": {**manifest["spec"], **fields}, "status": status}


def stuck(*statuses: Object, name: str = "web-0", owner: Object = OWNER, label: str = "web-1") -> Object:
    """Return a pod of the revision `web-1` whose container `web` waits, besides these statuses."""
    manifest = pod(waiting(), *statuses)
    metadata = {**manifest["metadata"], "name": name, "ownerReferences": [owner], "labels": {LABEL: label}}
    return {**manifest, "metadata": metadata}


ROLLING = "RollingUpdate"
BELOW = {**stateful_set()["metadata"], "ownerReferences": [{**OTHER, "kind": "CloudNativeCluster"}]}


@pytest.mark.parametrize(
    ("expected", "failing", "top"),
    [
        pytest.param(True, stuck(), stateful_set(), id="ordered-by-default"),
        pytest.param(
            True,
            stuck(),
            stateful_set(podManagementPolicy="OrderedReady", updateStrategy={"type": ROLLING}),
            id="ordered",
        ),
        pytest.param(False, stuck(), stateful_set(podManagementPolicy="Parallel"), id="parallel"),
        pytest.param(False, stuck(), stateful_set(updateStrategy={"type": "OnDelete"}), id="on-delete"),
        pytest.param(False, stuck(), stateful_set(updateStrategy={"type": "Recreate"}), id="recreate"),
        pytest.param(False, stuck(), {**stateful_set(), "apiVersion": "apps.kruise.io/v1beta1"}, id="OpenKruise"),
        pytest.param(False, stuck(), {**stateful_set(), "kind": "DaemonSet"}, id="another-kind"),
        pytest.param(False, stuck(), {**stateful_set(), "metadata": BELOW}, id="below-an-operator"),
        pytest.param(False, stuck(owner=OTHER), stateful_set(), id="of-another"),
        pytest.param(False, {**stuck(), "metadata": {"name": "web-0"}}, stateful_set(), id="of-nobody"),
        pytest.param(False, stuck(name="web-x"), stateful_set(), id="without-ordinal"),
        pytest.param(False, stuck({**running("side"), "ready": True}), stateful_set(), id="a-container-is-ready"),
        pytest.param(True, stuck({**running("side"), "ready": False}), stateful_set(), id="a-container-is-not-ready"),
    ],
)
def test_a_pod_of_an_ordered_stateful_set_may_be_adopted(failing: Object, top: Object, *, expected: bool) -> None:
    """Only there does the rollout wait for the stuck pod, and would then make it again."""
    assert expected is may_adopt(failing, top)


@pytest.mark.parametrize("section", ["containerStatuses", "initContainerStatuses"])
@pytest.mark.parametrize(("expected", "state"), [(False, {"running": {"startedAt": "x"}}), (True, {"terminated": {}})])
def test_a_pod_that_serves_is_not_adopted(section: str, state: Object, *, expected: bool) -> None:
    """A sidecar may be ready while another container waits; an init container that is done counts as ready too."""
    failing = stuck()
    statuses = [{"name": "side", "ready": True, "state": state}]
    assert expected is may_adopt({**failing, "status": {**failing["status"], section: statuses}}, stateful_set())


@pytest.mark.parametrize(
    ("expected", "ordinal", "start", "partition"),
    [(True, 0, 0, 0), (False, 1, 0, 2), (True, 2, 0, 2), (False, 6, 5, 2), (True, 7, 5, 2), (True, 12, 5, 7)],
)
def test_a_pod_below_the_partition_keeps_its_revision(
    ordinal: int, start: int, partition: int, *, expected: bool
) -> None:
    """The first ordinal may be another than 0 (`spec.ordinals.start`)."""
    strategy = {"type": ROLLING, "rollingUpdate": {"partition": partition}}
    top = stateful_set(updateStrategy=strategy, ordinals={"start": start})
    assert expected is may_adopt(stuck(name=f"web-{ordinal}"), top)


@pytest.mark.parametrize(
    ("expected", "label", "newest"),
    [(("web-1", "web-2"), "web-1", "web-2"), (None, "web-2", "web-2"), (None, "", "web-2"), (None, "web-1", "")],
)
def test_both_revisions_are_named(expected: object, label: str, newest: str) -> None:
    """A pod of the newest revision needs no adoption."""
    assert expected == revisions(stuck(label=label), {"status": {"updateRevision": newest}})


# The patch


def in_place(failing: Object) -> Patch:
    """Return the patch in place of a pod whose template has moved with it."""
    owners = Owners(chain=(stateful_set(),))
    gathered = Gathered(namespace={}, pod=failing, sources=(source(verification="Off"),), owners=owners)
    plans = [decide(failure, gathered, now=NOW) for failure in find_pull_failures(failing)]
    moving = [plan for plan in plans if isinstance(plan, Failover)]
    stages = render([(failing, moving)], now=NOW)
    (patch,) = (patch for stage in stages for patch in stage if patch.step is Step.PODS)
    return patch


def revision(name: str, owner: Object = OWNER, /, annotations: Object | None = None, **images: str) -> Object:
    """Return a ControllerRevision with a template that has these images, by container name."""
    containers = [{"name": name, "image": image} for name, image in images.items()]
    template = {"metadata": {"annotations": annotations or {}}, "spec": {"containers": containers}, "$patch": "replace"}
    return {"metadata": {"name": name, "ownerReferences": [owner]}, "data": {"spec": {"template": template}}}


OLD, NEW = revision("web-1", web=FAILING), revision("web-2", web=SECOND)


def test_the_patch_of_an_adoption_sets_the_label_too() -> None:
    """It does all that the patch in place does, and the pod is of the new revision after it."""
    failing = stuck()
    patch = in_place(failing)
    adoption = adopting(patch, stateful_set(), OLD, NEW)
    assert adoption
    after, without = patched(failing, adoption.operations), patched(failing, patch.operations)
    assert {LABEL: "web-2"} == after["metadata"].pop("labels")
    assert {LABEL: "web-1"} == without["metadata"].pop("labels")
    assert without == after


def test_a_pod_of_another_revision_is_not_adopted() -> None:
    """The label is guarded: a pod that became one of another revision meanwhile stays as it is."""
    adoption = adopting(in_place(stuck()), stateful_set(), OLD, NEW)
    assert adoption
    with pytest.raises(PatchFailed):
        patched(stuck(label="web-0"), adoption.operations)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        pytest.param(OLD, revision("web-2", web=THIRD), id="another-image"),
        pytest.param(OLD, revision("web-2", web=SECOND, side=SECOND), id="another-container"),
        pytest.param(revision("web-1", web=FAILING, side=FAILING), NEW, id="a-container-less"),
        pytest.param(
            revision("web-1", web=FAILING, side=FAILING),
            revision("web-2", web=SECOND, side=SECOND),
            id="an-image-that-the-patch-leaves",
        ),
        pytest.param(OLD, revision("web-2", annotations={"restartedAt": "now"}, web=SECOND), id="an-annotation"),
        pytest.param(revision("web-1", OTHER, web=FAILING), NEW, id="old-revision-of-another"),
        pytest.param(OLD, revision("web-2", OTHER, web=SECOND), id="new-revision-of-another"),
        pytest.param(OLD, {**NEW, "data": "garbage"}, id="data-that-is-no-object"),
        pytest.param({**OLD, "data": {"spec": {"template": []}}}, NEW, id="no-template"),
    ],
)
def test_revisions_that_differ_otherwise_are_not_adopted(old: Object, new: Object) -> None:
    """The pod would not be what the StatefulSet makes."""
    assert adopting(in_place(stuck()), stateful_set(), old, new) is None


def test_what_the_two_revisions_share_keeps_no_pod_from_adoption() -> None:
    """A container that the patch leaves has the same image in both, and so has everything beside the template."""
    old, new = (revision(name, web=image, side=THIRD) for name, image in (("web-1", FAILING), ("web-2", SECOND)))
    for of_both in (old, new):
        of_both["data"]["spec"]["minReadySeconds"] = 5
        of_both["data"]["spec"]["template"]["spec"]["initContainers"] = [{"name": "prepare", "image": THIRD}]
    assert adopting(in_place(stuck()), stateful_set(), old, new)
    old["data"]["spec"]["minReadySeconds"] = 6
    assert adopting(in_place(stuck()), stateful_set(), old, new) is None


def test_a_template_may_be_spelled_otherwise_before() -> None:
    """The pod has moved in place before, to an image that failed too: the newest template counts."""
    assert adopting(in_place(stuck()), stateful_set(), revision("web-1", web=THIRD), NEW)
