"""Patches: their order, their guards and their effect, applied as the API server would apply them."""

import json
from copy import deepcopy
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from saffire.kube.manifest import Manifest, uid_of
from saffire.kube.workload import OwnerReference, Owners, describe
from saffire.policy.decide import Gathered
from saffire.policy.history import ANNOTATION, History
from saffire.policy.patch import Patch, images_found_instead, render, render_again
from saffire.policy.plan import Failover, Leave, Plan, Reason, Step, Wait
from saffire.policy.reach import FaultEvidence
from saffire.pulls.failure import PullFailure, find_pull_failures
from saffire.registry.availability import Unreachable
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
    source,
    waiting,
    workload,
)
from testkit.decisions import decide
from testkit.rfc6902 import PatchFailed, patched
from testkit.strategies import KINDS, gathered_failures

TEMPLATE, PODS = Step.TEMPLATE, Step.PODS
NAMESPACE = {"metadata": {"name": "shop"}}
HISTORY_PATH = "/metadata/annotations/saffire.fairwinds.com~1history"


def plans(manifest: Object, owners: Owners, **spec: Any) -> list[Plan]:
    """Return the plan for every failure of the pod."""
    declared = source(["quay.io/acme/web", "ghcr.io/acme/web", "registry.example:5000/mirror/web"], **spec)
    gathered = Gathered(namespace=NAMESPACE, pod=manifest, sources=(declared,), owners=owners)
    return [decide(failure, gathered, now=NOW) for failure in find_pull_failures(manifest)]


def rendered(manifest: Object, owners: Owners, **spec: Any) -> tuple[Patch, ...]:
    """Return the patches for all failures of the pod."""
    failovers = [plan for plan in plans(manifest, owners, **spec) if isinstance(plan, Failover)]
    return flat(manifest, *failovers)


def flat(pod: Manifest, *plans: Failover, now: datetime = NOW) -> tuple[Patch, ...]:
    """Return the patches for the failovers of one pod, in order."""
    return tuple(patch for stage in render([(pod, plans)], now=now) for patch in stage)


def shapes(patches: tuple[Patch, ...]) -> list[str]:
    """Return step and object of each patch, in order."""
    return [f"{patch.step.name} {describe(patch.target)}" for patch in patches]


def applied(patch: Patch, target: Manifest | None = None) -> Object:
    """Return the patch's target, or another object, after the patch."""
    result: Object = patched(target or patch.target, patch.operations)
    return result


def changed_paths(before: Any, after: Any, path: str = "") -> set[str]:
    """Return the paths at which two documents differ."""
    if isinstance(before, dict) and isinstance(after, dict):
        keys = before.keys() | after.keys()
        return set[str]().union(*(changed_paths(before.get(key), after.get(key), f"{path}/{key}") for key in keys))
    if isinstance(before, list) and isinstance(after, list) and len(before) == len(after):
        pairs = enumerate(zip(before, after, strict=True))
        return set[str]().union(*(changed_paths(*pair, f"{path}/{index}") for index, pair in pairs))
    return set() if before == after else {path}


def test_a_patch_tests_before_it_replaces() -> None:
    """It tests uid, name and image, then replaces the image, then tests the history and writes it."""
    (patch,) = rendered(pod(waiting()), chain("Deployment"))
    container = "/spec/template/spec/containers/0"
    history = History((moved(FAILING, SECOND, reason="ErrImagePull", fault="unproven"),)).rendered()
    assert (
        {"op": "test", "path": "/metadata/uid", "value": "deployment-uid"},
        {"op": "test", "path": f"{container}/name", "value": "web"},
        {"op": "test", "path": f"{container}/image", "value": FAILING},
        {"op": "replace", "path": f"{container}/image", "value": SECOND},
        {"op": "test", "path": "/metadata/annotations", "value": None},
        {"op": "add", "path": "/metadata/annotations", "value": {ANNOTATION: history}},
    ) == patch.operations


EARLIER = moved("x:1", FAILING)


@pytest.mark.parametrize(
    ("guard", "kept", "annotations"),
    [
        pytest.param(None, (), {"team": "web"}, id="first-failover"),
        pytest.param(History((EARLIER,)).rendered(), (EARLIER,), {}, id="after-another"),
        pytest.param("garbage", (), {}, id="not-ours-to-read"),
    ],
)
def test_the_history_is_guarded_against_another_writer(guard: str | None, kept: Any, annotations: Any) -> None:
    """The annotation must still be what was read, to the letter; other annotations stay."""
    written = {**annotations, **({ANNOTATION: guard} if guard else {})}
    (patch,) = rendered(annotated(pod(waiting()), written), Owners())
    reference = OwnerReference(api_version="v1", kind="Pod", name="web-0", uid="pod-uid")
    entry = moved(FAILING, SECOND, reason="ErrImagePull", fault="unproven", workload=reference)
    history = History((*kept, entry)).rendered()
    expected = [
        {"op": "test", "path": HISTORY_PATH, "value": guard},
        {"op": "add", "path": HISTORY_PATH, "value": history},
    ]
    assert expected == list(patch.operations[-2:])
    assert {**written, ANNOTATION: history} == applied(patch)["metadata"]["annotations"]


ORDER = {
    "Deployment": ["TEMPLATE Deployment/a-deployment"],
    "ReplicaSet": ["TEMPLATE ReplicaSet/a-replicaset", "PODS Pod/web-0"],
    "ReplicationController": ["TEMPLATE ReplicationController/a-replicationcontroller", "PODS Pod/web-0"],
    "StatefulSet": ["TEMPLATE StatefulSet/a-statefulset", "PODS Pod/web-0"],
    "DaemonSet": ["TEMPLATE DaemonSet/a-daemonset"],
    "CronJob": ["TEMPLATE CronJob/a-cronjob", "PODS Pod/web-0"],
    "Job": ["PODS Pod/web-0"],
    "Pod": ["PODS Pod/web-0"],
}


@pytest.mark.parametrize("kind", KINDS)
def test_patches_come_in_the_order_of_the_kind(kind: str) -> None:
    """The patch that frees the stuck pods soonest comes first."""
    assert ORDER[kind] == shapes(rendered(pod(waiting()), chain(kind)))


@pytest.mark.parametrize("kind", KINDS)
def test_the_strategy_pods_patches_only_the_pod(kind: str) -> None:
    """For every kind there is no rollout, and no difference from Git."""
    assert ["PODS Pod/web-0"] == shapes(rendered(pod(waiting()), chain(kind), strategy="Pods"))


@pytest.mark.parametrize("kind", KINDS)
def test_a_failover_that_is_only_observed_is_not_patched(kind: str) -> None:
    """The source's status records the decision."""
    assert () == rendered(pod(waiting()), chain(kind), mode="Observe")


def test_a_cron_job_s_template_lies_deeper() -> None:
    """The path leads through the template of its Jobs."""
    template, _ = rendered(pod(waiting()), chain("CronJob"))
    assert "/spec/jobTemplate/spec/template/spec/containers/0/image" == template.operations[3]["path"]


TWO = {"web": FAILING, "ok": FAILING, "api": "quay.io/acme/web:2"}


@pytest.mark.parametrize("value", ["\u00e9", "a<b", "a&b", "\x7f"])
def test_a_history_that_go_escapes_otherwise_is_guarded_by_the_resource_version(value: str) -> None:
    """The API server compares JSON texts, so a `test` of such a value would fail for ever."""
    manifest = annotated(pod(waiting()), {ANNOTATION: value})
    manifest["metadata"]["resourceVersion"] = "7"
    (patch,) = rendered(manifest, Owners())
    tests = {operation["path"]: operation["value"] for operation in patch.operations if operation["op"] == "test"}
    assert "7" == tests["/metadata/resourceVersion"]
    assert HISTORY_PATH not in tests


def test_all_containers_of_an_object_are_in_one_patch() -> None:
    """Two failing containers start one rollout, and the healthy container between them is not changed."""
    both = pod(waiting(), waiting("api", "quay.io/acme/web:2"), **TWO)
    template, in_place = rendered(both, chain("StatefulSet", **TWO))
    for patch, spec in (
        (template, applied(template)["spec"]["template"]["spec"]),
        (in_place, applied(in_place)["spec"]),
    ):
        images = [container["image"] for container in spec["containers"]]
        assert [SECOND, FAILING, "ghcr.io/acme/web:2"] == images
        assert ["web", "api"] == [failover.failure.container for failover in patch.failovers]
        assert ["web", "api"] == [entry.container for entry in History.of(applied(patch)).entries]


def test_an_init_container_is_found_in_its_own_list() -> None:
    """Pod and template are patched in the section of the failing container."""
    failing = pod(waiting(), section="initContainers")
    template, in_place = rendered(failing, Owners(chain=(workload("StatefulSet", section="initContainers"),)))
    expected = {"/spec/initContainers/0/image", "/spec/template/spec/initContainers/0/image"}
    assert expected == {patch.operations[3]["path"] for patch in (in_place, template)}


def test_an_injected_container_moves_in_place_after_the_template() -> None:
    """If one container is in the template and another was injected, the template is patched first."""
    both = pod(waiting(), waiting("api", "quay.io/acme/web:2"), **TWO)
    patches = rendered(both, chain("Deployment", web=FAILING))
    assert ["TEMPLATE Deployment/a-deployment", "PODS Pod/web-0"] == shapes(patches)
    assert [["web"], ["api"]] == [[failover.failure.container for failover in patch.failovers] for patch in patches]


def test_each_container_s_workload_is_patched() -> None:
    """It may be that only a lower owner's template has the container."""
    both = pod(waiting(), waiting("api", "quay.io/acme/web:2"), **TWO)
    owners = Owners(chain=(workload("ReplicaSet", **TWO), workload("Deployment", web=FAILING)))
    expected = ["TEMPLATE Deployment/a-deployment", "TEMPLATE ReplicaSet/a-replicaset", "PODS Pod/web-0"]
    assert expected == shapes(rendered(both, owners))


@pytest.mark.parametrize(
    ("expected", "ready"),
    [
        pytest.param(["TEMPLATE StatefulSet/a-statefulset"], 0, id="none-is-ready"),
        pytest.param(["PODS Pod/web-0"], 2, id="some-are-ready"),
        pytest.param(["PODS Pod/web-0", "TEMPLATE StatefulSet/a-statefulset"], 3, id="all-are-ready"),
    ],
)
def test_the_template_of_a_parallel_stateful_set_waits_for_its_pods(expected: list[str], ready: int) -> None:
    """Its rollout could end ready pods while one is stuck. A sweep moves the template once all are ready."""
    owner = workload("StatefulSet")
    owner = {
        **owner,
        "spec": {**owner["spec"], "podManagementPolicy": "Parallel", "replicas": 3},
        "status": {"readyReplicas": ready},
    }
    failing = pod(waiting())
    (failure,) = find_pull_failures(failing)
    gathered = Gathered(
        namespace=NAMESPACE,
        pod=failing,
        sources=(source(),),
        owners=Owners(chain=(owner,)),
        faults={failure: FaultEvidence(answer=Unreachable("it answered 503", is_silent=True, is_server_error=True))},
    )
    plan = decide(failure, gathered, now=NOW)
    assert isinstance(plan, Failover)
    patches = flat(failing, plan)
    assert expected == shapes(patches)
    entries = [entry for patch in patches if patch.step is PODS for entry in History.of(applied(patch)).entries]
    assert all(entry.template_next for entry in entries)


def test_without_a_failover_there_is_no_patch() -> None:
    """Without a patch, no request is sent."""
    assert () == render([], now=NOW)


def test_a_pod_from_a_list_is_patched_although_it_has_no_kind() -> None:
    """The API server leaves `apiVersion` and `kind` out of the items of a list."""
    item = {key: value for key, value in pod(waiting()).items() if key not in {"apiVersion", "kind"}}
    (patch,) = rendered(item, Owners())
    assert "/spec/containers/0/image" == patch.operations[3]["path"]


# Guards

PATCHES = [
    pytest.param(patch, id=f"{kind}-{patch.step.name}")
    for kind in KINDS
    for patch in rendered(pod(waiting()), chain(kind))
]


def changed(target: Manifest, old: str, new: str) -> Object:
    """Return the object with a text replaced everywhere."""
    result: Object = json.loads(json.dumps(target).replace(f'"{old}"', f'"{new}"'))
    return result


@pytest.mark.parametrize(
    ("old", "new"),
    [
        pytest.param("-uid", "-uid-2", id="another-object-of-that-name"),
        pytest.param("web", "renamed", id="another-container"),
        pytest.param(FAILING, SECOND, id="moved-already"),
        pytest.param(FAILING, "quay.io/acme/web:1.3", id="another-version"),
    ],
)
@pytest.mark.parametrize("patch", PATCHES)
def test_an_object_that_changed_is_not_patched(patch: Patch, old: str, new: str) -> None:
    """If several patches race, one is applied, and the others change nothing."""
    uid = uid_of(patch.target)
    target = changed(patch.target, uid if old == "-uid" else old, uid + "-2" if old == "-uid" else new)
    assert target != patch.target
    with pytest.raises(PatchFailed):
        applied(patch, target)


@pytest.mark.parametrize("patch", PATCHES)
def test_a_patch_is_its_own_lock(patch: Patch) -> None:
    """If an Event is delivered twice, the second patch fails its tests."""
    with pytest.raises(PatchFailed):
        applied(patch, applied(patch))


@pytest.mark.parametrize("patch", PATCHES)
@pytest.mark.parametrize("annotations", [{"someone": "else"}, {ANNOTATION: "{}"}])
def test_an_annotation_that_appeared_meanwhile_is_not_lost(patch: Patch, annotations: dict[str, str]) -> None:
    """If the patch expects no annotations, it fails when there are any, and is rendered again."""
    with pytest.raises(PatchFailed):
        applied(patch, annotated(dict(patch.target), annotations))


# Annotations near their limit

LIMIT = 256 * 1024


def crowded(manifest: Object, room: int) -> Object:
    """Return an object with another annotation that leaves so many characters for the history, with its key."""
    return annotated(manifest, {"example.com/config": "x" * (LIMIT - len("example.com/config") - room)})


def test_older_entries_make_room_in_annotations_that_are_nearly_full() -> None:
    """The API server refuses an object with more than 256 KiB of annotations."""
    before = History(tuple(moved("x:1", "y:1") for _ in range(20)))
    full = crowded(annotated(pod(waiting()), {ANNOTATION: before.rendered()}), 1000)
    (patch,) = rendered(full, Owners())
    after = applied(patch)
    entries = History.of(after).entries
    assert 0 < len(entries) < 20
    assert SECOND == entries[-1].after
    assert LIMIT >= sum(len(key) + len(value) for key, value in after["metadata"]["annotations"].items())


def test_a_container_moves_though_annotations_are_full() -> None:
    """Then the status of the source alone has the failover."""
    full = crowded(pod(waiting()), 100)
    (patch,) = rendered(full, Owners())
    assert {"/spec/containers/0/image"} == changed_paths(full, applied(patch))


def test_entries_of_the_future_are_not_written_again() -> None:
    """A user made them up."""
    made_up = History((moved(THIRD, FAILING, NOW + timedelta(days=1)),))
    (patch,) = rendered(annotated(pod(waiting()), {ANNOTATION: made_up.rendered()}), Owners())
    assert [SECOND] == [entry.after for entry in History.of(applied(patch)).entries]


# Rendering again, after a conflict

IN_PLACE = rendered(pod(waiting(), waiting("api", "quay.io/acme/web:2"), **TWO), Owners())[0]


@pytest.mark.parametrize(
    "target",
    [
        pytest.param(changed(IN_PLACE.target, "pod-uid", "another"), id="another-pod-of-that-name"),
        pytest.param(annotated(dict(IN_PLACE.target), OPT_OUT), id="opted-out-meanwhile"),
        pytest.param(applied(IN_PLACE), id="done-already"),
        pytest.param({**IN_PLACE.target, "spec": {}}, id="no-containers"),
    ],
)
def test_nothing_may_be_left_to_do(target: Object) -> None:
    """The patch may have been applied, the object may be another one, or it may have opted out."""
    assert render_again(IN_PLACE, target, now=NOW) is None


def test_the_containers_that_still_fail_are_patched() -> None:
    """One container has moved, the list was reordered, and the history was written: the other container moves."""
    target = annotated(changed(IN_PLACE.target, FAILING, SECOND), {ANNOTATION: History((moved("x", "y"),)).rendered()})
    target["spec"]["containers"].reverse()
    again = render_again(IN_PLACE, target, now=NOW)
    assert again
    after = applied(again, target)
    assert {"api": "ghcr.io/acme/web:2", "ok": SECOND, "web": SECOND} == {
        container["name"]: container["image"] for container in after["spec"]["containers"]
    }
    assert [("web", "y"), ("api", "ghcr.io/acme/web:2")] == [(e.container, e.after) for e in History.of(after).entries]
    assert ["api"] == [failover.failure.container for failover in again.failovers]


def test_a_template_is_rendered_again_as_a_template() -> None:
    """The second patch has the step of the first."""
    template, _ = rendered(pod(waiting()), chain("StatefulSet"))
    again = render_again(template, {**template.target, "status": {}}, now=NOW)
    assert again
    assert (template.step, template.operations) == (again.step, again.operations)


# What always holds


@given(gathered_failures())
def test_only_the_image_and_the_history_change(drawn: tuple[PullFailure, Gathered]) -> None:
    """Another container with the same image stays as it is, and so does every other field of the object."""
    failure, gathered = drawn
    plan = decide(failure, gathered, now=NOW)
    for patch in flat(gathered.pod, *[plan] if isinstance(plan, Failover) else []):
        before = deepcopy(patch.target)
        changes = changed_paths(before, applied(patch))
        assert before == patch.target
        images = {path for path in changes if path.endswith("/containers/0/image")}
        assert 1 == len(images)
        assert changes - images <= {"/metadata/annotations", f"/metadata/annotations/{ANNOTATION}"}
        assert 2 == len(changes)


def _counted(manifest: Object) -> Object:
    """Return the object as the API server has it: a DaemonSet with the number of its template."""
    is_daemon_set = manifest["kind"] == "DaemonSet"
    return annotated(manifest, {"deprecated.daemonset.template.generation": "2"}) if is_daemon_set else manifest


def after(patches: tuple[Patch, ...], gathered: Gathered) -> Gathered:
    """Return what is gathered once the patches are applied."""
    objects = {uid_of(manifest): manifest for manifest in (gathered.pod, *gathered.owners.chain)}
    for patch in patches:
        objects[uid_of(patch.target)] = _counted(applied(patch, objects[uid_of(patch.target)]))
    owners = tuple(objects[uid_of(owner)] for owner in gathered.owners.chain)
    return replace(gathered, pod=objects[uid_of(gathered.pod)], owners=replace(gathered.owners, chain=owners))


@given(gathered_failures())
def test_a_failover_is_not_decided_twice(drawn: tuple[PullFailure, Gathered]) -> None:
    """Once the patches are applied, the pod has no failure left, or its rollout is under way."""
    failure, gathered = drawn
    plan = decide(failure, gathered, now=NOW)
    if isinstance(plan, Failover) and not plan.observed:
        moved_on = after(flat(gathered.pod, plan), gathered)
        plans = [decide(failure, moved_on, now=NOW) for failure in find_pull_failures(moved_on.pod)]
        assert all(isinstance(plan, Leave) and plan.reason is Reason.ROLLOUT for plan in plans)


def reborn(gathered: Gathered) -> Gathered:
    """Return what is gathered after the rollout: a new pod with the template's image fails too."""
    top = gathered.owners.chain[-1]
    image = top["spec"]["template"]["spec"]["containers"][0]["image"]
    owners = (*chain(top["kind"], web=image).chain[:-1], top)
    return replace(gathered, pod=pod(waiting(image=image), web=image), owners=Owners(chain=owners))


def stuck(gathered: Gathered) -> Gathered:
    """Return what is gathered after the kubelet tried the pod's new image, which cannot be pulled either."""
    image = gathered.pod["spec"]["containers"][0]["image"]
    status = {**gathered.pod["status"], "containerStatuses": [waiting(image=image)]}
    return replace(gathered, pod={**gathered.pod, "status": status})


@pytest.mark.parametrize("strategy", ["Controller", "Pods"])
@pytest.mark.parametrize("kind", KINDS)
def test_when_all_registries_are_down_each_is_tried_once_and_then_saffire_waits(kind: str, strategy: str) -> None:
    """The history that each patch writes ends the search, in the pod or in the workload."""
    declared = source(strategy=strategy)
    gathered = Gathered(namespace=NAMESPACE, pod=pod(waiting()), sources=(declared,), owners=chain(kind))
    tried = []
    for _ in range(5):
        (failure,) = find_pull_failures(gathered.pod)
        plan = decide(failure, gathered, now=NOW)
        if not isinstance(plan, Failover):
            break
        tried.append(plan.candidate.image)
        gathered = after(flat(gathered.pod, plan), gathered)
        gathered = reborn(gathered) if plan.steps == (TEMPLATE,) else stuck(gathered)
    assert [SECOND, THIRD] == tried
    assert Wait(failure=failure, until=NOW + timedelta(seconds=30)) == plan


@given(st.sampled_from(KINDS), st.lists(st.sampled_from([5, 40, 700]), min_size=1, max_size=12))
def test_a_long_outage_never_loops(kind: str, pauses: list[int]) -> None:
    """Whenever an image fails, it is not tried again within its cooldown, and the annotation stays small."""
    gathered = Gathered(namespace=NAMESPACE, pod=pod(waiting()), sources=(source(),), owners=chain(kind))
    now, failed = NOW, dict[str, datetime]()
    for pause in pauses:
        plan = decide(find_pull_failures(gathered.pod)[0], gathered, now=now)
        if isinstance(plan, Failover):
            assert now - failed.get(plan.candidate.image, NOW - timedelta(days=1)) >= timedelta(seconds=30)
            failed[plan.failure.image] = now
            gathered = after(flat(gathered.pod, plan, now=now), gathered)
            gathered = reborn(gathered) if plan.steps == (TEMPLATE,) else stuck(gathered)
        now += timedelta(seconds=pause)
    for manifest in (gathered.pod, *gathered.owners.chain):
        assert len(manifest["metadata"].get("annotations", {}).get(ANNOTATION, "")) < 8192


@pytest.mark.parametrize(
    ("image", "instead"),
    [(SECOND, ()), (f"{SECOND}@sha256:{'1' * 64}", ()), (FAILING, (FAILING,)), (THIRD, (THIRD,)), (None, ("nothing",))],
)
@pytest.mark.parametrize("step", [TEMPLATE, PODS])
def test_an_image_that_admission_put_in_place_of_the_alternative_is_named(
    step: Step, image: str | None, instead: tuple[str, ...]
) -> None:
    """A webhook may put the old image back, put a third one there, or remove the container."""
    [patch] = [
        patch for patch in rendered(pod(waiting()), chain("StatefulSet"), verification="Off") if patch.step is step
    ]
    target = applied(patch)
    spec = target["spec"]["template"]["spec"] if step is TEMPLATE else target["spec"]
    spec["containers"] = [{"name": "web", "image": image}] if image else []
    assert instead == images_found_instead(patch, target)
