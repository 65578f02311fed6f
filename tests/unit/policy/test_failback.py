"""Failing back: which containers may return, what blocks the others, and how many return at once."""

from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from saffire.kube.kinds import Kinds
from saffire.kube.workload import Owners
from saffire.policy.decide import Gathered
from saffire.policy.failback import (
    OnAlternative,
    Returnable,
    blocking_failure,
    count_returning,
    find_on_alternative,
    next_batch,
    plan_return,
)
from saffire.policy.history import ANNOTATION, FAILED_BACK, Entry, History, timestamp
from saffire.policy.patch import render
from saffire.policy.plan import Failover, Step
from saffire.policy.running_images import RunningImages
from saffire.pulls.failure import PullFailure, Section
from saffire.registry.availability import Proof
from saffire.sources.spec import Source
from testkit.builders import (
    FAILING,
    NOW,
    OPT_OUT,
    SECOND,
    THIRD,
    Object,
    annotated,
    cluster_source,
    moved,
    pod,
    source,
    workload,
)
from testkit.decisions import decide
from testkit.rfc6902 import patched

MINUTE = timedelta(minutes=1)
FAIL_BACK_AFTER = 30 * MINUTE
AUTOMATIC = {"policy": "Automatic"}
KINDS = Kinds()
MOVED_AWAY = moved(FAILING, SECOND)
MOVED_BACK = moved(SECOND, FAILING, NOW, reason=FAILED_BACK)


def entry(name: str = "web", container: str = "web", **fields: Any) -> Object:
    """Return an entry of `status.active`."""
    kind = {"group": "apps", "version": "v1", "kind": "Deployment"}
    target = {"name": name, "namespace": "shop", "type": kind, "container": container, "uid": "deployment-uid"}
    times = {"since": timestamp(NOW)}
    return {"target": target, "container": container, "from": FAILING, "to": SECOND, **times, **fields}


def of_kind(kind: Any, group: str = "apps", version: str = "v1") -> Object:
    """Return an entry of a workload of that kind."""
    deployment = entry()
    return {
        **deployment,
        "target": {**deployment["target"], "type": {"group": group, "version": version, "kind": kind}},
    }


def automatic(**spec: Any) -> Source:
    """Return a source with `failBack.policy: Automatic`."""
    return source(**{"failBack": AUTOMATIC, **spec})


def on_alternative(active_entry: Object | None = None, **spec: Any) -> OnAlternative:
    """Return a container that may return."""
    container = find_on_alternative(active_entry or entry(), automatic(**spec), [automatic(**spec)], KINDS)
    assert isinstance(container, OnAlternative)
    return container


def live(*entries: Entry, image: str = SECOND, **images: str) -> Object:
    """Return a Deployment whose template names an image, and whose history has these entries."""
    deployment = workload("Deployment", **(images or {"web": image}))
    return annotated(deployment, {ANNOTATION: History(entries).rendered()})


# Which containers may return


def test_a_container_that_may_return_has_both_images() -> None:
    """The original is written as in the workload, not as in the source."""
    container = on_alternative(
        entry(**{"from": "nginx:1", "to": "ghcr.io/acme/nginx:1"}), **sets("docker.io/library/nginx")
    )
    assert ("nginx:1", "docker.io/library/nginx:1") == (container.original.image, str(container.original.reference))
    assert ("ghcr.io/acme/nginx:1", FAIL_BACK_AFTER) == (container.alternative.image, container.fail_back_after)


def sets(repository: str) -> dict[str, Any]:
    """Return the fields of a source with one set."""
    return {"imageSourceReplacements": [{"equivalentRepositories": [repository, "ghcr.io/acme/nginx"]}]}


BLOCKED: dict[str, tuple[Object, dict[str, Any], str]] = {
    "policy Never": (entry(), {"failBack": {"policy": "Never"}}, ""),
    "no failBack": (entry(), {"failBack": None}, ""),
    "strategy Pods": (entry(), {"strategy": "Pods"}, "strategy: Pods leaves the template alone"),
    "verification Off": (
        entry(),
        {"verification": "Off"},
        "verification: Off asks no registry, so that nothing is proven",
    ),
    "a pod": (of_kind("Pod", ""), {}, "the template of a Pod cannot be changed"),
    "a Job": (of_kind("Job", "batch"), {}, "the template of a Job cannot be changed"),
    "an unknown kind": (of_kind("Widget", "example.com"), {}, "the template of a Widget cannot be changed"),
    "a kind that is no text": (of_kind([]), {}, "the entry cannot be read"),
    "an image that is none": (entry(to="UPPER:1"), {}, "the entry cannot be read"),
    "the source has changed": (
        entry(to="ghcr.io/acme/other:1.2"),
        {},
        "the source does not list both repositories as equivalent",
    ),
    "another tag": (
        entry(to="ghcr.io/acme/web:2"),
        {},
        "the source does not list both repositories as equivalent",
    ),
}


@pytest.mark.parametrize(("active_entry", "spec", "why"), BLOCKED.values(), ids=BLOCKED)
def test_which_containers_may_not_return(active_entry: Object, spec: dict[str, Any], why: str) -> None:
    """The entry gets the reason, unless the source does not want workloads to return."""
    assert why == find_on_alternative(active_entry, automatic(**spec), [automatic(**spec)], KINDS)


@pytest.mark.parametrize(
    ("own", "why"),
    [
        ([], ""),
        ([["quay.io/acme/api", "ghcr.io/acme/api"]], ""),
        ([["ghcr.io/acme/web", "quay.io/acme/web"]], "a source of the namespace itself lists it by now"),
    ],
    ids=["alone", "beside a source of another image", "behind a source of this image"],
)
def test_a_cluster_wide_source_returns_what_no_own_source_lists(own: list[list[str]], why: str) -> None:
    """If the namespace's own source lists the image by now, it decides, even for earlier failovers."""
    cluster_wide = cluster_source(failBack=AUTOMATIC)
    result = find_on_alternative(entry(), cluster_wide, [*map(source, own), cluster_wide], KINDS)
    assert why == (result if isinstance(result, str) else "")


@pytest.mark.parametrize(
    ("kind", "group", "version"),
    [
        ("Deployment", "apps", "v1"),
        ("CronJob", "batch", "v1"),
        ("ReplicationController", "", "v1"),
        ("Rollout", "argoproj.io", "v1alpha1"),
    ],
)
def test_every_kind_with_a_template_may_return(kind: str, group: str, version: str) -> None:
    """Kubernetes' own kinds and foreign ones are alike here."""
    assert SECOND == on_alternative(of_kind(kind, group, version)).alternative.image


# The plan of a return


def test_only_the_template_is_patched() -> None:
    """The rollout replaces the pods; no patch restarts a pod in place, since it is healthy."""
    plan = plan_return(on_alternative(), live(MOVED_AWAY), KINDS)
    assert isinstance(plan, Failover)
    assert ((Step.TEMPLATE,), (SECOND, FAILING)) == (plan.steps, plan.images(Step.TEMPLATE))
    assert (True, FAILED_BACK, Proof.EQUAL) == (plan.is_back, plan.failure.reason, plan.proof)
    assert not plan.observed


@pytest.mark.parametrize("section", [Section.CONTAINERS, Section.INIT_CONTAINERS])
def test_a_container_of_either_sort_returns(section: Section) -> None:
    """The plan names the section of the template."""
    deployment = annotated(
        workload("Deployment", section=section, web=SECOND), {ANNOTATION: History((MOVED_AWAY,)).rendered()}
    )
    plan = plan_return(on_alternative(), deployment, KINDS)
    assert isinstance(plan, Failover)
    assert (section, section) == (plan.failure.section, plan.image_field.section if plan.image_field else "")


def test_an_image_volume_returns() -> None:
    """A template names the images of volumes too."""
    deployment = live(replace(MOVED_AWAY, container="data"), web="elsewhere.example/web:1")
    deployment["spec"]["template"]["spec"]["volumes"] = [{"name": "data", "image": {"reference": SECOND}}]
    plan = plan_return(on_alternative(entry(container="data")), deployment, KINDS)
    assert isinstance(plan, Failover)
    assert (Section.VOLUMES, "data") == (plan.failure.section, plan.failure.container)


def test_a_source_that_observes_patches_nothing() -> None:
    """The plan says what would be done."""
    plan = plan_return(on_alternative(mode="Observe"), live(MOVED_AWAY), KINDS)
    assert isinstance(plan, Failover)
    assert plan.observed


def test_after_two_failovers_a_container_returns_to_its_original() -> None:
    """One fail back undoes both failovers."""
    plan = plan_return(on_alternative(entry(to=THIRD)), live(MOVED_AWAY, moved(SECOND, THIRD), image=THIRD), KINDS)
    assert isinstance(plan, Failover)
    assert (THIRD, FAILING) == plan.images(Step.TEMPLATE)


NAME = "Deployment/a-deployment"
ELSEWHERE = f"{NAME} names another image by now"
ORIGINAL = f"the template of {NAME} names the original: pods stay until they are replaced"
NOT_IN_HISTORY = f"the history of {NAME} does not tell that it was moved there"
LEFT_ALONE: dict[str, tuple[Object, str]] = {
    "another of its name": (
        {**live(MOVED_AWAY), "metadata": {**live(MOVED_AWAY)["metadata"], "uid": "another"}},
        f"{NAME} is gone",
    ),
    "it is being deleted": (
        {**live(MOVED_AWAY), "metadata": {**live(MOVED_AWAY)["metadata"], "deletionTimestamp": "now"}},
        f"{NAME} is gone",
    ),
    "it opted out": (annotated(live(MOVED_AWAY), OPT_OUT), f"{NAME} opted out"),
    "somebody put it back": (live(MOVED_AWAY, image=FAILING), ORIGINAL),
    "only its pods were moved, in place": (live(image=FAILING), ORIGINAL),
    "somebody moved it": (live(MOVED_AWAY, image=THIRD), ELSEWHERE),
    "it has no such container": (live(MOVED_AWAY, other=SECOND), ELSEWHERE),
    "somebody made us forget": (live(), NOT_IN_HISTORY),
    "somebody put it there after it returned": (live(MOVED_AWAY, MOVED_BACK), NOT_IN_HISTORY),
    "it was moved elsewhere last": (live(MOVED_AWAY, moved(SECOND, THIRD)), NOT_IN_HISTORY),
    "another container was moved": (live(moved(FAILING, SECOND, container="other")), NOT_IN_HISTORY),
    "it never had the original": (live(moved(THIRD, SECOND)), NOT_IN_HISTORY),
}


@pytest.mark.parametrize(("deployment", "why"), LEFT_ALONE.values(), ids=LEFT_ALONE)
def test_which_containers_stay(deployment: Object, why: str) -> None:
    """The live workload decides, by its template and its history."""
    assert why == plan_return(on_alternative(), deployment, KINDS)


# Failovers and fail backs in turn


def sent(manifest: Object, plan: Failover, now: datetime) -> Object:
    """Return the workload after the patch of a plan."""
    ((patch,),) = render([(pod(web=plan.failure.image), [plan])], now=now)
    changed: Object = patched(manifest, patch.operations)
    return changed


@given(minutes=st.lists(st.integers(0, 90), min_size=3, max_size=12))
@settings(deadline=None)
def test_a_container_that_returned_fails_over_as_the_first_time(minutes: list[int]) -> None:
    """After any number of returns there is no cooldown of the alternative and no reversion, and it returns again."""
    manifest, now = workload("StatefulSet"), NOW
    for gap in minutes:
        now += gap * MINUTE
        gathered = Gathered(
            namespace={"metadata": {"name": "shop"}},
            pod=pod(web=FAILING),
            sources=(automatic(verification="Off"),),
            owners=Owners(chain=(manifest,)),
        )
        plan = decide(failure(FAILING), gathered, now=now)
        assert isinstance(plan, Failover)
        assert ((Step.TEMPLATE, Step.PODS), SECOND, "") == (plan.steps, plan.candidate.image, plan.note)
        manifest = sent(manifest, replace(plan, steps=(Step.TEMPLATE,)), now)
        active_entry = of_kind("StatefulSet")
        active_entry["target"]["uid"] = "statefulset-uid"
        fail_back = plan_return(on_alternative(active_entry), manifest, KINDS)
        assert isinstance(fail_back, Failover)
        manifest = sent(manifest, fail_back, now)
        assert FAILING == manifest["spec"]["template"]["spec"]["containers"][0]["image"]


# Failures that block returns


def failure(image: str) -> PullFailure:
    """Return the failed pull of an image."""
    return PullFailure(section=Section.CONTAINERS, container="web", image=image, reason="ErrImagePull")


@pytest.mark.parametrize(
    ("expected", "images"),
    [
        ("", []),
        ("", ["elsewhere.example/web:1", "UPPER:1"]),
        (f"{SECOND} cannot be pulled", ["UPPER:1", SECOND, FAILING]),
        ("quay.io/acme/web:typo cannot be pulled", ["quay.io/acme/web:typo"]),
    ],
    ids=["no failure", "none that a source lists", "an alternative", "a name that may be wrong"],
)
def test_no_container_returns_while_a_listed_image_fails(expected: str, images: Iterable[str]) -> None:
    """An image that no source lists does not count."""
    assert expected == blocking_failure(map(failure, images), [source()])


# Batches


def returnable(
    name: str, container: str = "web", *, since: int = 60, healthy: int = 30, observed: bool = False
) -> Returnable:
    """Return a container that left its original `since` minutes ago; that has been `healthy` for so many minutes."""
    active_entry = entry(name, container, since=timestamp(NOW - since * MINUTE))
    active_entry["target"]["uid"] = f"{name}-uid"
    proven_entry = {**active_entry, "healthySince": timestamp(NOW - healthy * MINUTE), "provenAt": timestamp(NOW)}
    plan = plan_return(on_alternative(), live(MOVED_AWAY), KINDS)
    assert isinstance(plan, Failover)
    named = replace(plan, workload={"metadata": {"name": name, "uid": f"{name}-uid"}}, observed=observed)
    return Returnable(
        container=on_alternative(active_entry),
        entry=proven_entry,
        plan=replace(named, failure=replace(plan.failure, container=container)),
    )


def chosen(*containers: Returnable, active: int = 0, on_the_way: int = 0, now: datetime = NOW) -> list[str]:
    """Return the names of the containers that return now, with their workload."""
    plans = next_batch(containers, active=active, on_the_way=on_the_way, now=now)
    return [f"{plan.workload['metadata']['name']}/{plan.failure.container}" for plan in plans]


@pytest.mark.parametrize(
    ("active", "on_the_way", "expected"),
    [(1, 0, 1), (9, 0, 1), (12, 0, 1), (12, 1, 0), (25, 0, 2), (25, 1, 1), (25, 2, 0), (25, 3, 0), (40, 0, 4)],
)
def test_a_tenth_returns_at_once(active: int, on_the_way: int, expected: int) -> None:
    """At least one returns, and no more until the pods of the last batch have followed."""
    containers = [returnable(f"web-{number:02}") for number in range(active)]
    assert expected == len(chosen(*containers, active=active, on_the_way=on_the_way))


def test_the_container_that_left_its_original_first_returns_first() -> None:
    """Its name does not matter."""
    containers = [returnable("a", since=50), returnable("b", since=70), returnable("c", since=60)]
    assert ["b/web", "c/web"] == chosen(*containers, active=20)


def test_a_container_whose_original_was_healthy_too_briefly_stays() -> None:
    """It returns once the original has been healthy for long enough."""
    assert [] == chosen(returnable("a", healthy=29))
    assert ["a/web"] == chosen(returnable("a", healthy=29), now=NOW + MINUTE)


def test_containers_of_one_workload_return_together() -> None:
    """They wait for each other, since one rollout is better than two."""
    assert ["a/web", "a/init"] == chosen(returnable("a"), returnable("a", "init"), active=2)
    assert [] == chosen(returnable("a"), returnable("a", "init", healthy=29), active=2)


def test_a_workload_of_many_containers_is_a_batch_of_its_own() -> None:
    """It is more than a tenth, so it returns alone, when no other workload is on the way."""
    large = [returnable("a", f"c{number}") for number in range(3)]
    assert 3 == len(chosen(*large, active=12))
    assert [] == chosen(*large, active=12, on_the_way=1)
    assert ["b/web"] == chosen(*large, returnable("b", since=70), active=25)
    assert ["a/c0", "a/c1", "a/c2", "b/web"] == chosen(*large, returnable("b", since=50), active=40)


def test_a_source_that_observes_plans_all_returns_at_once() -> None:
    """Nothing is patched, so no container is on the way."""
    assert 12 == len(chosen(*(returnable(f"web-{number}", observed=True) for number in range(12)), active=12))


@given(
    sizes=st.lists(st.integers(1, 4), min_size=1, max_size=40),
    others=st.integers(0, 60),
    on_the_way=st.integers(0, 10),
)
@settings(deadline=None)
def test_no_batch_is_more_than_a_tenth_but_for_one_workload(sizes: list[int], others: int, on_the_way: int) -> None:
    """The containers may be spread over any number of workloads."""
    containers = [
        returnable(f"web-{index}", f"c{number}") for index, size in enumerate(sizes) for number in range(size)
    ]
    active = len(containers) + others
    names = chosen(*containers, active=active, on_the_way=on_the_way)
    workloads = {name.partition("/")[0] for name in names}
    if len(names) + on_the_way > max(1, active // 10):
        assert len(workloads) <= 1
        assert not names or not on_the_way
    if not on_the_way:
        assert names


# On the way


def selecting(*entries: Entry, image: str = FAILING) -> Object:
    """Return a Deployment with a selector."""
    deployment = live(*entries, image=image)
    return {**deployment, "spec": {**deployment["spec"], "selector": {"matchLabels": {"app": "web"}}}}


def running_pods(*images: str) -> RunningImages:
    """Return the running images of the Deployment's pods, one pod for each image."""
    running_images = RunningImages()
    for image in images:
        manifest = pod({"name": "web", "image": image, "imageID": f"{image}@sha256:1"}, web=image)
        owner = {"kind": "ReplicaSet", "name": "a-deployment-abc", "controller": True}
        metadata = {**manifest["metadata"], "labels": {"app": "web"}, "ownerReferences": [owner]}
        running_images.observe({**manifest, "metadata": metadata})
    return running_images


@pytest.mark.parametrize(
    ("expected", "entries", "running", "later"),
    [
        pytest.param(1, (MOVED_AWAY, MOVED_BACK), running_pods(SECOND), 0, id="its old pods still run"),
        pytest.param(1, (MOVED_AWAY, MOVED_BACK), running_pods(SECOND, FAILING), 9, id="half of them"),
        pytest.param(0, (MOVED_AWAY, MOVED_BACK), running_pods(FAILING, FAILING), 0, id="it has arrived"),
        pytest.param(0, (MOVED_AWAY, MOVED_BACK), running_pods(SECOND), 10, id="its rollout is stuck"),
        pytest.param(
            0, (MOVED_AWAY, MOVED_BACK, moved(FAILING, SECOND)), running_pods(FAILING), 0, id="it failed again"
        ),
        pytest.param(0, (MOVED_AWAY,), running_pods(FAILING), 0, id="it is on the alternative"),
        pytest.param(
            0, (MOVED_AWAY, replace(MOVED_BACK, source="other")), running_pods(SECOND), 0, id="another source's"
        ),
        pytest.param(
            2,
            (MOVED_AWAY, MOVED_BACK, replace(MOVED_BACK, container="init")),
            running_pods(SECOND),
            0,
            id="each container counts",
        ),
    ],
)
def test_which_containers_are_on_the_way(
    expected: int, entries: tuple[Entry, ...], running: RunningImages, later: int
) -> None:
    """Those that returned in the last ten minutes, by the history, and whose pods have not all followed."""
    deployment = {**selecting(*entries), "status": {"observedGeneration": 1}}
    if expected == 2:
        deployment["metadata"] = {**deployment["metadata"], "generation": 2}
    assert expected == count_returning([deployment], running, source(), now=NOW + later * MINUTE)
