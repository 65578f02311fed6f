"""The place: which object is patched, below kinds that Kubernetes does not know, and for images that are mounted."""

from dataclasses import replace
from datetime import timedelta

import pytest

from saffire.kube.kinds import Kinds
from saffire.kube.workload import OwnerReference, Owners, describe
from saffire.policy.history import ANNOTATION, History
from saffire.policy.plan import Leave, Reason, Step
from saffire.policy.target import Target, find_target
from saffire.pulls.failure import PullFailure, Section
from testkit.builders import FAILING, NOW, SECOND, Object, annotated, chain, moved, pod, waiting, workload

TEMPLATE, PODS = Step.TEMPLATE, Step.PODS
DIGEST = "quay.io/acme/web@sha256:" + 64 * "a"
REDEPLOYED = [workload("ReplicaSet", web=DIGEST), workload("Deployment", web=DIGEST)]


def found(
    owners: Owners, image: str = FAILING, section: Section = Section.CONTAINERS, name: str = "web"
) -> Target | Leave:
    """Return where to patch for a container, or volume, of a pod that waits."""
    failure = PullFailure(section=section, container=name, image=image, reason="ErrImagePull")
    return find_target(failure, pod(waiting(image=image), web=image), owners, now=NOW)


def place(owners: Owners, image: str = FAILING) -> Target:
    """Return where to patch; there is something to patch."""
    there = found(owners, image)
    assert isinstance(there, Target)
    return there


# Foreign kinds


@pytest.mark.parametrize("kind", ["Rollout", "CloneSet", "Service"])
def test_the_template_of_a_foreign_kind_is_patched_and_then_the_pods(kind: str) -> None:
    """Its controller may hold back old pods, or new ones."""
    there = place(Owners(chain=(workload(kind),)))
    assert (kind, (TEMPLATE, PODS), FAILING) == (
        there.workload["kind"],
        there.steps,
        there.image_field and there.image_field.image,
    )


def test_a_kind_that_an_operator_added_has_its_template_where_it_says() -> None:
    """It is patched like any other foreign kind."""
    widget = workload("Widget")
    widget["spec"] = {"pod": widget["spec"]["template"]}
    kinds = Kinds().extended("example.com/Widget=spec.pod")
    there = place(Owners(chain=(workload("ReplicaSet"), widget), kinds=kinds))
    assert "/spec/pod/spec/containers/0/image" == (there.image_field.image_pointer if there.image_field else "")
    assert ("Widget/a-widget", (TEMPLATE, PODS)) == (describe(there.workload), there.steps)


def referring(**images: str) -> Owners:
    """Return the owners of a pod whose Rollout takes its template from a Deployment."""
    rollout = {**workload("Rollout"), "spec": {"workloadRef": {"kind": "Deployment", "name": "a-deployment"}}}
    return Owners(chain=(workload("ReplicaSet"), rollout, workload("Deployment", **images)))


def test_a_template_that_lies_elsewhere_is_patched_there() -> None:
    """The pods are the Rollout's, which may hold them back, so they are patched too."""
    there = place(referring())
    assert ("Deployment/a-deployment", (TEMPLATE, PODS)) == (describe(there.workload), there.steps)


def test_a_stale_pod_of_a_template_that_lies_elsewhere_is_rescued() -> None:
    """Its Rollout may take any time to replace it."""
    there = place(referring(web=SECOND))
    assert ((PODS,), SECOND) == (there.steps, there.template_image)


def test_what_a_foreign_kind_manages_is_not_patched_below_it() -> None:
    """A container that only a lower template names (Knative's own queue-proxy) would be put back there."""
    there = place(Owners(chain=(workload("Deployment"), workload("Service", app=FAILING))))
    assert ((PODS,), "its owner Service/a-service may revert it") == (there.steps, there.note)


# Rollouts that cannot go on


@pytest.mark.parametrize(
    ("expected", "conditions"),
    [
        pytest.param(None, [], id="nothing-said"),
        pytest.param(None, [("ReplicaFailure", "False"), ("Progressing", "True")], id="it-makes-pods"),
        pytest.param(PODS, [("Progressing", "True"), ("ReplicaFailure", "True")], id="it-cannot"),
    ],
)
def test_a_stale_pod_is_left_to_its_rollout_unless_that_cannot_make_pods(
    expected: Step | None, conditions: list[tuple[str, str]]
) -> None:
    """A quota that has no room for one pod more would keep it waiting for ever: it is freed, and told why."""
    deployment = workload("Deployment", web=SECOND)
    said = [{"type": kind, "status": status, "message": "exceeded quota"} for kind, status in conditions]
    deployment["status"] = {"conditions": said}
    there = found(Owners(chain=(workload("ReplicaSet"), deployment)))
    if expected is None:
        assert isinstance(there, Leave)
        assert Reason.ROLLOUT is there.reason
        return
    assert isinstance(there, Target)
    assert ((expected,), SECOND) == (there.steps, there.template_image)
    assert "Deployment/a-deployment cannot make new pods: exceeded quota" == there.note


# Knative resolves tags


def revision(image: str = FAILING, digest: str = DIGEST) -> Object:
    """Return a Revision that resolved the tag of its image."""
    spec = {"containers": [{"name": "web", "image": image}]}
    return {
        **workload("Revision"),
        "spec": spec,
        "status": {"containerStatuses": [{"name": "web", "imageDigest": digest}]},
    }


def knative(resolved: Object, **images: str) -> Owners:
    """Return the owners of a pod of a Knative Service."""
    return Owners(chain=(*REDEPLOYED, resolved, workload("Configuration", **images), workload("Service", **images)))


def test_the_tag_that_a_revision_resolved_is_found_in_the_service() -> None:
    """The pod has a digest, the Service the tag that it was resolved from."""
    there = place(knative(revision()), DIGEST)
    assert ("Service/a-service", (TEMPLATE, PODS)) == (describe(there.workload), there.steps)
    assert FAILING == (there.image_field.image if there.image_field else "")


@pytest.mark.parametrize(
    "owners",
    [
        pytest.param(knative(revision(digest=DIGEST.replace("a", "b"))), id="resolved-to-another-digest"),
        pytest.param(knative(revision(), web=SECOND), id="the-service-has-moved-on"),
        pytest.param(knative(revision(image="quay.io/acme/web:0.9")), id="an-older-revision"),
    ],
)
def test_a_service_of_another_image_keeps_its_template(owners: Owners) -> None:
    """Only the template that the failing pod came from is patched."""
    assert (PODS,) == place(owners, DIGEST).steps


def test_reversions_are_counted_in_the_template_s_own_words() -> None:
    """A Service that was put back twice has its tag in its history, never the pod's digest."""
    entries = tuple(moved(FAILING, SECOND, NOW - timedelta(minutes=ago)) for ago in (4, 2))
    owners = knative(revision())
    service = annotated(dict(owners.chain[-1]), {ANNOTATION: History(entries).rendered()})
    there = place(replace(owners, chain=(*owners.chain[:-1], service)), DIGEST)
    assert (PODS,) == there.steps
    assert there.note.startswith("Service/a-service was put back twice")


@pytest.mark.parametrize(("expected", "seconds"), [(Leave, 59), (Target, 60)])
def test_a_rollout_that_replaces_nothing_is_not_waited_for(expected: type, seconds: int) -> None:
    """A quota may leave no room for the new pod: a minute after the move, the stuck one is freed in place."""
    entry = moved(FAILING, SECOND, NOW - timedelta(seconds=seconds))
    replica_set, deployment = chain("Deployment", web=FAILING).chain[0], chain("Deployment", web=SECOND).chain[-1]
    top = annotated(dict(deployment), {ANNOTATION: History((entry,)).rendered()})
    there = found(Owners(chain=(replica_set, top)))
    assert isinstance(there, expected)
    if isinstance(there, Target):
        assert ((PODS,), SECOND) == (there.steps, there.template_image)
        assert "the rollout of Deployment/a-deployment has not replaced the pod yet" == there.note


# Image volumes


def with_volume(kind: str, image: str = FAILING) -> Owners:
    """Return the owners of a pod whose template mounts an image."""
    owners = chain(kind)
    for owner in owners.chain:
        template = owner["spec"]["template"]
        template["spec"]["volumes"] = [{"name": "data", "image": {"reference": image}}]
    return owners


@pytest.mark.parametrize("kind", ["Deployment", "StatefulSet", "DaemonSet"])
def test_the_image_of_a_volume_is_changed_in_the_template(kind: str) -> None:
    """The live pod's cannot be changed, which an operator is told."""
    there = found(with_volume(kind), section=Section.VOLUMES, name="data")
    assert isinstance(there, Target)
    assert ((TEMPLATE,), "/spec/template/spec/volumes/0/image/reference") == (
        there.steps,
        there.image_field.image_pointer if there.image_field else "",
    )
    assert there.note.startswith("the image of a live pod's volume cannot be changed")


@pytest.mark.parametrize(
    ("expected", "owners"),
    [
        pytest.param("the image of a live pod's volume cannot be changed", Owners(), id="bare-pod"),
        pytest.param(
            "the image of a live pod's volume cannot be changed", chain("StatefulSet"), id="not-in-the-template"
        ),
        pytest.param(
            f"StatefulSet/a-statefulset names {SECOND} by now: the pod must be recreated",
            with_volume("StatefulSet", SECOND),
            id="template-moved",
        ),
        pytest.param(
            "its owner Widget/web may revert it",
            Owners(unreadable=OwnerReference(api_version="example.com/v1", kind="Widget", name="web", uid="u")),
            id="unknown-owner",
        ),
    ],
)
def test_the_image_of_a_volume_that_no_template_can_change_is_left(expected: str, owners: Owners) -> None:
    """The reason stands where operators look."""
    left = found(owners, section=Section.VOLUMES, name="data")
    assert isinstance(left, Leave)
    assert (Reason.IMAGE_VOLUME, expected) == (left.reason, left.detail)
