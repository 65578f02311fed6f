"""The target: which object is patched, below foreign kinds, with Knative, and for image volumes."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from saffire.kube.kinds import Kinds
from saffire.kube.workload import OwnerReference, Owners, describe
from saffire.policy.history import ANNOTATION, History, timestamp
from saffire.policy.plan import Leave, Reason, Step
from saffire.policy.target import Target, find_target
from saffire.pulls.failure import PullFailure, Section
from testkit.builders import (
    FAILING,
    NOW,
    OPT_OUT,
    SECOND,
    THIRD,
    Object,
    annotated,
    chain,
    moved,
    pod,
    waiting,
    workload,
)

TEMPLATE, PODS = Step.TEMPLATE, Step.PODS
DIGEST = "quay.io/acme/web@sha256:" + 64 * "a"
REDEPLOYED = [workload("ReplicaSet", web=DIGEST), workload("Deployment", web=DIGEST)]


def find(
    owners: Owners, image: str = FAILING, section: Section = Section.CONTAINERS, name: str = "web"
) -> Target | Leave:
    """Return the target, or the reason for none, of a waiting pod's container or volume."""
    failure = PullFailure(section=section, container=name, image=image, reason="ErrImagePull")
    return find_target(failure, pod(waiting(image=image), web=image), owners, now=NOW)


def find_patched(owners: Owners, image: str = FAILING) -> Target:
    """Return the target of a waiting pod's container; target must be one."""
    target = find(owners, image)
    assert isinstance(target, Target)
    return target


# Foreign kinds


@pytest.mark.parametrize("kind", ["Rollout", "CloneSet", "Service", "DeploymentConfig"])
def test_the_template_of_a_foreign_kind_is_patched_and_then_the_pods(kind: str) -> None:
    """Its controller may hold back old pods, or new ones."""
    target = find_patched(Owners(chain=(workload(kind),)))
    assert (kind, (TEMPLATE, PODS), FAILING) == (
        target.workload["kind"],
        target.steps,
        target.image_field and target.image_field.image,
    )


def test_a_kind_that_an_operator_added_has_its_template_where_it_says() -> None:
    """A kind of `SAFFIRE_KINDS` is patched like any other foreign kind."""
    widget = workload("Widget")
    widget["spec"] = {"pod": widget["spec"]["template"]}
    kinds = Kinds().extended("example.com/Widget=spec.pod")
    target = find_patched(Owners(chain=(workload("ReplicaSet"), widget), kinds=kinds))
    assert "/spec/pod/spec/containers/0/image" == (target.image_field.image_pointer if target.image_field else "")
    assert ("Widget/a-widget", (TEMPLATE, PODS)) == (describe(target.workload), target.steps)


def referring(**images: str) -> Owners:
    """Return the owners of a pod whose Rollout takes its template from a Deployment."""
    rollout = {**workload("Rollout"), "spec": {"workloadRef": {"kind": "Deployment", "name": "a-deployment"}}}
    return Owners(chain=(workload("ReplicaSet"), rollout, workload("Deployment", **images)))


def test_a_template_in_another_workload_is_patched_in_it() -> None:
    """The Rollout may hold back its pods, so they are patched too."""
    target = find_patched(referring())
    assert ("Deployment/a-deployment", (TEMPLATE, PODS)) == (describe(target.workload), target.steps)


def test_a_stale_pod_of_a_template_in_another_workload_is_patched() -> None:
    """Its Rollout may take any time to replace the pod."""
    target = find_patched(referring(web=SECOND))
    assert ((PODS,), SECOND) == (target.steps, target.template_image)


def test_a_workload_below_a_foreign_kind_is_not_patched() -> None:
    """If only a lower template has the container (Knative's queue-proxy), the foreign owner would undo the patch."""
    target = find_patched(Owners(chain=(workload("Deployment"), workload("Service", app=FAILING))))
    assert ((PODS,), "its owner Service/a-service may revert it") == (target.steps, target.note)


# Kinds without a template


def test_a_pod_of_an_operator_is_patched_in_place() -> None:
    """The operator makes pods by rules of its own, and is the workload that records name."""
    target = find_patched(Owners(chain=(workload("Cluster"),)))
    assert ("Cluster/a-cluster", (PODS,)) == (describe(target.workload), target.steps)
    assert "its owner Cluster/a-cluster may revert it" == target.note


def test_a_stateful_set_of_an_operator_keeps_its_template() -> None:
    """The operator would put it back, and delete its pods."""
    target = find_patched(Owners(chain=(workload("StatefulSet"), workload("postgresql"))))
    assert ("postgresql/a-postgresql", (PODS,)) == (describe(target.workload), target.steps)
    assert "its owner postgresql/a-postgresql may revert it" == target.note


def test_an_operator_s_object_may_opt_out() -> None:
    """The annotation counts on each owner that Saffire reads."""
    leave = find(Owners(chain=(annotated(workload("Cluster"), OPT_OUT),)))
    assert isinstance(leave, Leave)
    assert (Reason.OPTED_OUT, "Cluster/a-cluster") == (leave.reason, leave.detail)


# Pods whose claims are not believed


def claiming(owner: Object) -> Object:
    """Return a waiting pod that claims `owner` as its controller."""
    manifest = pod(waiting())
    reference = {"apiVersion": owner["apiVersion"], "kind": owner["kind"], "name": owner["metadata"]["name"]}
    owned = {**manifest["metadata"], "ownerReferences": [{**reference, "uid": "u", "controller": True}]}
    return {**manifest, "metadata": owned}


@pytest.mark.parametrize(
    ("why", "owners"),
    [
        pytest.param("Deployment/a-deployment makes no pods itself", chain("Deployment").chain[1:], id="deployment"),
        pytest.param("Service/a-service makes no pods itself", (workload("Service"),), id="knative-service"),
        pytest.param("its owner Pod/web-0 is a pod", (pod(), *chain("CronJob").chain), id="spark-driver"),
    ],
)
def test_a_pod_that_claims_an_owner_speaks_for_itself(why: str, owners: tuple[Object, ...]) -> None:
    """Whoever may create pods could otherwise have the template of any workload moved."""
    failing = claiming(owners[0])
    failure = PullFailure(section=Section.CONTAINERS, container="web", image=FAILING, reason="ErrImagePull")
    target = find_target(failure, failing, Owners(chain=owners), now=NOW)
    note = f"{why}, so Saffire takes the pod for one without owner"
    assert Target(workload=failing, steps=(PODS,), note=note) == target
    mounted = replace(failure, section=Section.VOLUMES)
    leave = find_target(mounted, failing, Owners(chain=owners), now=NOW)
    assert isinstance(leave, Leave)
    assert Reason.IMAGE_VOLUME is leave.reason


# Rollouts that are blocked


@pytest.mark.parametrize(
    ("expected", "conditions"),
    [
        pytest.param(None, [], id="nothing-said"),
        pytest.param(None, [("ReplicaFailure", "False"), ("Progressing", "True")], id="it-makes-pods"),
        pytest.param(PODS, [("Progressing", "True"), ("ReplicaFailure", "True")], id="it-cannot"),
    ],
)
def test_a_stale_pod_is_left_to_its_rollout_unless_that_is_blocked(
    expected: Step | None, conditions: list[tuple[str, str]]
) -> None:
    """If a quota has no room for another pod, the stale pod would wait for ever: it is patched, with a note."""
    deployment = workload("Deployment", web=SECOND)
    deployment["status"] = {
        "conditions": [{"type": kind, "status": status, "message": "exceeded quota"} for kind, status in conditions]
    }
    target = find(Owners(chain=(workload("ReplicaSet"), deployment)))
    if expected is None:
        assert isinstance(target, Leave)
        assert Reason.ROLLOUT is target.reason
        return
    assert isinstance(target, Target)
    assert ((expected,), SECOND) == (target.steps, target.template_image)
    assert "Deployment/a-deployment cannot make new pods: exceeded quota" == target.note


def stuck(labels: Object, *owners: Object) -> Target | Leave:
    """Return the target of a waiting pod with these labels, whose workload has moved to another image."""
    manifest = pod(waiting())
    labelled = {**manifest, "metadata": {**manifest["metadata"], "labels": labels}}
    failure = PullFailure(section=Section.CONTAINERS, container="web", image=FAILING, reason="ErrImagePull")
    return find_target(failure, labelled, Owners(chain=owners), now=NOW)


def counting(count: str, web: str = SECOND, **spec: Any) -> Object:
    """Return a DaemonSet that has moved, with the number of its template."""
    manifest = annotated(workload("DaemonSet", web=web), {"deprecated.daemonset.template.generation": count})
    return {**manifest, "spec": {**manifest["spec"], **spec}}


def revised(policy: str, web: str = SECOND) -> Object:
    """Return a StatefulSet that has moved; its newest revision is `db-2`."""
    manifest = workload("StatefulSet", web=web)
    spec = {**manifest["spec"], "podManagementPolicy": policy}
    return {**manifest, "spec": spec, "status": {"updateRevision": "db-2"}}


@pytest.mark.parametrize(
    ("expected", "labels", "controller"),
    [
        pytest.param(Leave, {"pod-template-generation": "1"}, counting("2"), id="DaemonSet"),
        pytest.param(Target, {"pod-template-generation": "2"}, counting("2"), id="DaemonSet-admission-rewrote-it"),
        pytest.param(
            Target,
            {"pod-template-generation": "1"},
            counting("2", updateStrategy={"type": "OnDelete"}),
            id="DaemonSet-OnDelete",
        ),
        pytest.param(Leave, {"controller-revision-hash": "db-1"}, revised("Parallel"), id="Parallel"),
        pytest.param(Target, {"controller-revision-hash": "db-2"}, revised("Parallel"), id="Parallel-rewritten"),
        pytest.param(Target, {"controller-revision-hash": "db-1"}, revised("OrderedReady"), id="ordered"),
    ],
)
def test_a_stale_pod_is_left_where_the_rollout_replaces_it(expected: type, labels: Object, controller: Object) -> None:
    """A patch in place would start it twice. If no rollout replaces it, it gets the image of the template."""
    target = stuck(labels, controller)
    assert isinstance(target, expected)
    if isinstance(target, Target):
        assert ((PODS,), SECOND) == (target.steps, target.template_image)


@pytest.mark.parametrize(
    ("expected", "ready", "updated"),
    [
        pytest.param(Leave, 1, 1, id="only-new-pods-are-ready"),
        pytest.param(Target, 2, 1, id="an-old-pod-is-ready"),
    ],
)
def test_a_stale_pod_does_not_wait_for_ready_pods_to_be_ended(expected: type, ready: int, updated: int) -> None:
    """A parallel StatefulSet ends the highest ordinal first, so a stuck pod below would be stuck until last."""
    rolling = revised("Parallel")
    rolling["status"] |= {"readyReplicas": ready, "updatedReplicas": updated}
    assert isinstance(stuck({"controller-revision-hash": "db-1"}, rolling), expected)


def test_the_note_says_what_a_rollout_costs() -> None:
    """A StatefulSet ends each pod before it starts a new one, so a ready pod is away for a while."""
    ready = {**workload("StatefulSet"), "status": {"readyReplicas": 2}}
    note = "its rollout ends each ready pod before it starts a new one in its place"
    assert ["", note] == [find_patched(Owners(chain=(owner,))).note for owner in (workload("StatefulSet"), ready)]


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


def test_the_tag_of_an_init_container_is_resolved_alike() -> None:
    """Knative names the digests of init containers in a list of their own (`status.initContainerStatuses`)."""
    section = Section.INIT_CONTAINERS
    resolved = {
        **revision(),
        "spec": {section.value: [{"name": "web", "image": FAILING}]},
        "status": {"initContainerStatuses": [{"name": "web", "imageDigest": DIGEST}]},
    }
    redeployed = (workload(kind, section=section, web=DIGEST) for kind in ("ReplicaSet", "Deployment"))
    written = (workload(kind, section=section, web=FAILING) for kind in ("Configuration", "Service"))
    failure = PullFailure(section=section, container="web", image=DIGEST, reason="ErrImagePull")
    failing = pod(waiting(image=DIGEST), section=section, web=DIGEST)
    target = find_target(failure, failing, Owners(chain=(*redeployed, resolved, *written)), now=NOW)
    assert isinstance(target, Target)
    assert ("Service/a-service", FAILING) == (
        describe(target.workload),
        target.image_field and target.image_field.image,
    )


def test_the_tag_that_a_revision_resolved_is_patched_in_the_service() -> None:
    """The pod has the digest, and the Service the tag of which it is the digest."""
    target = find_patched(knative(revision()), DIGEST)
    assert ("Service/a-service", (TEMPLATE, PODS)) == (describe(target.workload), target.steps)
    assert FAILING == (target.image_field.image if target.image_field else "")


@pytest.mark.parametrize(
    "owners",
    [
        pytest.param(knative(revision(digest=DIGEST.replace("a", "b"))), id="resolved-to-another-digest"),
        pytest.param(knative(revision(), web=SECOND), id="the-service-has-moved-on"),
        pytest.param(knative(revision(image="quay.io/acme/web:0.9")), id="an-older-revision"),
    ],
)
def test_a_service_of_another_image_keeps_its_template(owners: Owners) -> None:
    """The Service is patched only if the failing pod was made from its current template."""
    assert (PODS,) == find_patched(owners, DIGEST).steps


def test_reversions_are_counted_in_the_template_s_spelling() -> None:
    """The history of a Service that was put back twice has its tag, never the pod's digest."""
    entries = tuple(moved(FAILING, SECOND, NOW - timedelta(minutes=ago)) for ago in (4, 2))
    owners = knative(revision())
    service = annotated(dict(owners.chain[-1]), {ANNOTATION: History(entries).rendered()})
    target = find_patched(replace(owners, chain=(*owners.chain[:-1], service)), DIGEST)
    assert (PODS,) == target.steps
    assert target.note.startswith("Service/a-service was put back twice")


def written(manifest: Object, manager: str, seconds: float) -> Object:
    """Return a workload whose template got its image from a field manager, so many seconds ago."""
    image: Object = {"f:template": {"f:spec": {"f:containers": {'k:{"name":"web"}': {"f:image": {}}}}}}
    entry = {"manager": manager, "time": timestamp(NOW - timedelta(seconds=seconds)), "fieldsV1": {"f:spec": image}}
    return {**manifest, "metadata": {**manifest["metadata"], "managedFields": [entry]}}


NEXT_VERSION = "quay.io/acme/web:1.3"
REPLICA_SET = workload("ReplicaSet")


@pytest.mark.parametrize(("expected", "seconds"), [(Leave, 0), (Leave, 59), (Target, 60)])
@pytest.mark.parametrize(
    ("manager", "image"),
    [
        pytest.param("saffire", SECOND, id="a-failover"),
        pytest.param("kubectl-set", NEXT_VERSION, id="somebody-s-next-version"),
        pytest.param("argocd-controller", "ghcr.io/acme/web:1.3", id="somebody-s-next-version-elsewhere"),
    ],
)
@pytest.mark.parametrize("kind", ["Deployment", "DaemonSet", "StatefulSet"])
def test_a_rollout_that_replaces_no_pod_is_not_waited_for(
    expected: type, seconds: int, manager: str, image: str, kind: str
) -> None:
    """There may be no room for a new pod, or none becomes ready: a minute later, the stuck pod is patched in place."""
    below = (REPLICA_SET,) if kind == "Deployment" else ()
    top = {
        "Deployment": workload("Deployment", web=image),
        "DaemonSet": counting("2", web=image),
        "StatefulSet": revised("Parallel", web=image),
    }[kind]
    labels = {"pod-template-generation": "1", "controller-revision-hash": "db-1"}
    target = stuck(labels, *below, written(top, manager, seconds))
    assert isinstance(target, expected)
    if isinstance(target, Target):
        # Without an image field, the template of the new version stays as it is.
        assert ((PODS,), None, image) == (target.steps, target.image_field, target.template_image)
        assert f"the rollout of {describe(top)} has not replaced the pod yet" == target.note


def test_a_pod_that_no_rollout_replaces_waits_for_none() -> None:
    """Admission moved the image when the pod was made, so the pod is of the newest template, however old that is."""
    owners = (workload("ReplicaSet", web=SECOND), written(workload("Deployment", web=SECOND), "helm", 3600))
    target = stuck({}, *owners)
    assert isinstance(target, Target)
    assert ((PODS,), SECOND, "") == (target.steps, target.template_image, target.note)


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
    """The live pod's cannot be changed, as the note says."""
    target = find(with_volume(kind), section=Section.VOLUMES, name="data")
    assert isinstance(target, Target)
    assert ((TEMPLATE,), "/spec/template/spec/volumes/0/image/reference") == (
        target.steps,
        target.image_field.image_pointer if target.image_field else "",
    )
    assert target.note.startswith("the image of a live pod's volume cannot be changed")


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
def test_the_image_of_a_volume_without_a_template_is_left(expected: str, owners: Owners) -> None:
    """The detail tells an operator why."""
    leave = find(owners, section=Section.VOLUMES, name="data")
    assert isinstance(leave, Leave)
    assert (Reason.IMAGE_VOLUME, expected) == (leave.reason, leave.detail)


# Placeholders, and digests that admission added


@pytest.mark.parametrize("image", ["auto", "<image>", " ", "${IMAGE}", "ko://example.com/app"])
@pytest.mark.parametrize("kind", ["Deployment", "StatefulSet", "CloneSet"])
def test_a_placeholder_in_a_template_is_left_as_it_is(kind: str, image: str) -> None:
    """Admission writes the image into the pod, so the container moves there."""
    target = find_patched(chain(kind, web=image))
    assert ((PODS,), None, "", "") == (target.steps, target.image_field, target.template_image, target.note)


PINNED = f"{FAILING}@sha256:{64 * 'a'}"


@pytest.mark.parametrize(
    ("is_same", "template", "image"),
    [
        pytest.param(True, FAILING, PINNED, id="tag-and-digest"),
        pytest.param(True, FAILING, DIGEST, id="digest-alone"),
        pytest.param(True, "nginx", "docker.io/library/nginx:latest", id="written-out"),
        pytest.param(True, "nginx", f"docker.io/library/nginx:latest@sha256:{64 * 'a'}", id="latest"),
        pytest.param(False, "quay.io/acme/web:1.3", PINNED, id="another-tag"),
        pytest.param(False, f"{FAILING}@sha256:{64 * 'b'}", PINNED, id="another-digest"),
        pytest.param(False, SECOND, PINNED, id="another-repository"),
        pytest.param(False, FAILING, "quay.io/acme/web:1.3", id="no-digest"),
    ],
)
@pytest.mark.parametrize("kind", ["Deployment", "StatefulSet"])
def test_a_digest_that_admission_added_moves_the_template(
    kind: str, template: str, image: str, *, is_same: bool
) -> None:
    """The template keeps its own spelling; the pod has the digest of the same tag."""
    result = find(chain(kind, web=template), image)
    assert is_same is (isinstance(result, Target) and TEMPLATE in result.steps)
    if isinstance(result, Target) and is_same:
        assert template == (result.image_field.image if result.image_field else "")


@pytest.mark.parametrize(
    ("expected", "written_image", "image"),
    [
        pytest.param(Leave, FAILING, FAILING, id="the-same"),
        pytest.param(Leave, FAILING, PINNED, id="tag-and-digest"),
        pytest.param(Leave, FAILING, DIGEST, id="digest-alone"),
        pytest.param(Leave, "nginx", "docker.io/library/nginx:latest", id="written-out"),
        pytest.param(Target, "quay.io/acme/web:1.1", PINNED, id="another-tag"),
        pytest.param(Target, f"{FAILING}@sha256:{64 * 'b'}", PINNED, id="another-digest"),
        pytest.param(Target, THIRD, PINNED, id="moved-in-place"),
        pytest.param(Target, "${IMAGE}", PINNED, id="a-placeholder"),
    ],
)
def test_a_pod_whose_digest_admission_added_is_left_to_its_rollout(
    expected: type, written_image: str, image: str
) -> None:
    """The template has just moved: a patch in place would start the pod twice."""
    moved_template = written(workload("Deployment", web=SECOND), "saffire", 1)
    result = find(Owners(chain=(workload("ReplicaSet", web=written_image), moved_template)), image)
    assert isinstance(result, expected)
    if isinstance(result, Leave):
        assert Reason.ROLLOUT is result.reason


def test_a_digest_of_an_older_template_does_not_move_the_newer_one() -> None:
    """The ReplicaSet of the pod still names the older tag, so the digest is not that of the Deployment's tag."""
    newer = written(workload("Deployment", web=NEXT_VERSION), "helm", 60)
    target = find(Owners(chain=(workload("ReplicaSet", web=FAILING), newer)), DIGEST)
    assert isinstance(target, Target)
    assert ((PODS,), NEXT_VERSION) == (target.steps, target.template_image)
