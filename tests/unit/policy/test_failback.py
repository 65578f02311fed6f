"""Failing back: who may return, what keeps the others, and how many go at once."""

from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from saffire.kube.kinds import Kinds
from saffire.kube.workload import Owners
from saffire.policy.decide import Gathered, decide
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
from saffire.policy.plan import FailBack, Failover, Step
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
from testkit.rfc6902 import patched

MINUTE = timedelta(minutes=1)
PATIENCE = 30 * MINUTE
AUTOMATIC = {"policy": "Automatic"}
KINDS = Kinds()
AWAY = moved(FAILING, SECOND)
BACK = moved(SECOND, FAILING, NOW, reason=FAILED_BACK)


def entry(name: str = "web", container: str = "web", **fields: Any) -> Object:
    """Return an entry of `active`."""
    kind = {"group": "apps", "version": "v1", "kind": "Deployment"}
    target = {"name": name, "namespace": "shop", "type": kind, "container": container, "uid": "deployment-uid"}
    times = {"since": timestamp(NOW)}
    return {"target": target, "container": container, "from": FAILING, "to": SECOND, **times, **fields}


def of_kind(kind: Any, group: str = "apps", version: str = "v1") -> Object:
    """Return an entry about a workload of that kind."""
    found = entry()
    return {**found, "target": {**found["target"], "type": {"group": group, "version": version, "kind": kind}}}


def automatic(**spec: Any) -> Source:
    """Return a source that wants workloads to return."""
    return source(**{"failBack": AUTOMATIC, **spec})


def away(found: Object | None = None, **spec: Any) -> OnAlternative:
    """Return one that may return."""
    one = find_on_alternative(found or entry(), automatic(**spec), [automatic(**spec)], KINDS)
    assert isinstance(one, OnAlternative)
    return one


def live(*entries: Entry, image: str = SECOND, **images: str) -> Object:
    """Return a Deployment whose template names an image, and whose annotation tells of these moves."""
    found = workload("Deployment", **(images or {"web": image}))
    return annotated(found, {ANNOTATION: History(entries).rendered()})


# Who may return


def test_who_is_away_knows_both_images() -> None:
    """The original is written as its author wrote it, and not as the source does."""
    one = away(entry(**{"from": "nginx:1", "to": "ghcr.io/acme/nginx:1"}), **sets("docker.io/library/nginx"))
    assert ("nginx:1", "docker.io/library/nginx:1") == (one.original.image, str(one.original.reference))
    assert ("ghcr.io/acme/nginx:1", PATIENCE) == (one.alternative.image, one.patience)


def sets(repository: str) -> dict[str, Any]:
    """Return the fields of a source with one set."""
    return {"imageSourceReplacements": [{"equivalentRepositories": [repository, "ghcr.io/acme/nginx"]}]}


STAYS: dict[str, tuple[Object, dict[str, Any], str]] = {
    "nobody wants it": (entry(), {"failBack": {"policy": "Never"}}, ""),
    "nothing was said": (entry(), {"failBack": None}, ""),
    "its template was never moved": (entry(), {"strategy": "Pods"}, "strategy: Pods leaves the template alone"),
    "nobody asks": (
        entry(),
        {"verification": "Off"},
        "verification: Off asks no registry, so that nothing is proven",
    ),
    "a pod": (of_kind("Pod", ""), {}, "the template of a Pod cannot be changed"),
    "a Job": (of_kind("Job", "batch"), {}, "the template of a Job cannot be changed"),
    "a kind that is not known": (of_kind("Widget", "example.com"), {}, "the template of a Widget cannot be changed"),
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


@pytest.mark.parametrize(("found", "spec", "why"), STAYS.values(), ids=STAYS)
def test_who_may_not_return(found: Object, spec: dict[str, Any], why: str) -> None:
    """The entry will say why, unless nobody wants it to."""
    assert why == find_on_alternative(found, automatic(**spec), [automatic(**spec)], KINDS)


@pytest.mark.parametrize(
    ("own", "why"),
    [
        ([], ""),
        ([["quay.io/acme/api", "ghcr.io/acme/api"]], ""),
        ([["ghcr.io/acme/web", "quay.io/acme/web"]], "a source of the namespace itself speaks for it by now"),
    ],
    ids=["alone", "beside another word", "behind the same word"],
)
def test_a_cluster_wide_source_brings_back_whom_nobody_else_speaks_for(own: list[list[str]], why: str) -> None:
    """What a namespace's owner has said since, that workloads never return, holds for what was moved before."""
    wide = cluster_source(failBack=AUTOMATIC)
    found = find_on_alternative(entry(), wide, [*(source(one) for one in own), wide], KINDS)
    assert why == (found if isinstance(found, str) else "")


@pytest.mark.parametrize(
    ("kind", "group", "version"),
    [
        ("Deployment", "apps", "v1"),
        ("CronJob", "batch", "v1"),
        ("ReplicationController", "", "v1"),
        ("Rollout", "argoproj.io", "v1alpha1"),
    ],
)
def test_whoever_has_a_template_may_return(kind: str, group: str, version: str) -> None:
    """Of whatever kind."""
    assert SECOND == away(of_kind(kind, group, version)).alternative.image


# How


def test_the_template_alone_is_patched() -> None:
    """Pods follow by their rollout; those in place are healthy, and not to be restarted by us."""
    plan = plan_return(away(), live(AWAY), KINDS)
    assert isinstance(plan, FailBack)
    assert ((Step.TEMPLATE,), (SECOND, FAILING)) == (plan.steps, plan.images(Step.TEMPLATE))
    assert (FAILED_BACK, Proof.EQUAL, False) == (plan.failure.reason, plan.proof, plan.observed)


@pytest.mark.parametrize("section", [Section.CONTAINERS, Section.INIT_CONTAINERS])
def test_a_container_of_either_sort_returns(section: Section) -> None:
    """It is found where the template has it."""
    found = annotated(workload("Deployment", section=section, web=SECOND), {ANNOTATION: History((AWAY,)).rendered()})
    plan = plan_return(away(), found, KINDS)
    assert isinstance(plan, FailBack)
    assert (section, section) == (plan.failure.section, plan.image_field.section if plan.image_field else "")


def test_an_image_volume_returns() -> None:
    """A template names those too."""
    found = live(replace(AWAY, container="data"), web="elsewhere.example/web:1")
    found["spec"]["template"]["spec"]["volumes"] = [{"name": "data", "image": {"reference": SECOND}}]
    plan = plan_return(away(entry(container="data")), found, KINDS)
    assert isinstance(plan, FailBack)
    assert (Section.VOLUMES, "data") == (plan.failure.section, plan.failure.container)


def test_a_source_that_observes_patches_nothing() -> None:
    """It tells what would be done."""
    plan = plan_return(away(mode="Observe"), live(AWAY), KINDS)
    assert isinstance(plan, FailBack)
    assert plan.observed


def test_whoever_was_moved_on_returns_to_where_it_came_from() -> None:
    """Two failovers are one way back."""
    plan = plan_return(away(entry(to=THIRD)), live(AWAY, moved(SECOND, THIRD), image=THIRD), KINDS)
    assert isinstance(plan, FailBack)
    assert (THIRD, FAILING) == plan.images(Step.TEMPLATE)


NAME = "Deployment/a-deployment"
ELSEWHERE = f"{NAME} names another image by now"
UNTOLD = f"the history of {NAME} does not tell that it was moved there"
KEPT: dict[str, tuple[Object, str]] = {
    "another of its name": (
        {**live(AWAY), "metadata": {**live(AWAY)["metadata"], "uid": "another"}},
        f"{NAME} is gone",
    ),
    "it is being deleted": (
        {**live(AWAY), "metadata": {**live(AWAY)["metadata"], "deletionTimestamp": "now"}},
        f"{NAME} is gone",
    ),
    "it opted out": (annotated(live(AWAY), OPT_OUT), f"{NAME} opted out"),
    "somebody put it back": (live(AWAY, image=FAILING), ELSEWHERE),
    "somebody moved it": (live(AWAY, image=THIRD), ELSEWHERE),
    "it has no such container": (live(AWAY, other=SECOND), ELSEWHERE),
    "somebody made us forget": (live(), UNTOLD),
    "somebody put it there after it returned": (live(AWAY, BACK), UNTOLD),
    "it was moved elsewhere last": (live(AWAY, moved(SECOND, THIRD)), UNTOLD),
    "another container was moved": (live(moved(FAILING, SECOND, container="other")), UNTOLD),
    "it never had the original": (live(moved(THIRD, SECOND)), UNTOLD),
}


@pytest.mark.parametrize(("found", "why"), KEPT.values(), ids=KEPT)
def test_who_is_left_where_it_is(found: Object, why: str) -> None:
    """The live object decides, with what its own history tells."""
    assert why == plan_return(away(), found, KINDS)


# There and back again


def sent(found: Object, plan: Failover, now: datetime) -> Object:
    """Return the workload after the patch of a plan."""
    ((patch,),) = render([(pod(web=plan.failure.image), [plan])], now=now)
    changed: Object = patched(found, patch.operations)
    return changed


@given(minutes=st.lists(st.integers(0, 90), min_size=3, max_size=12))
@settings(deadline=None)
def test_whoever_returned_fails_over_as_if_it_had_never_been_away(minutes: list[int]) -> None:
    """However often and fast: no cooldown of the alternative, no reversion, and each way back is found."""
    found, now = workload("StatefulSet"), NOW
    for gap in minutes:
        now += gap * MINUTE
        scene = Gathered(
            namespace={"metadata": {"name": "shop"}},
            pod=pod(web=FAILING),
            sources=(automatic(verification="Off"),),
            owners=Owners(chain=(found,)),
        )
        plan = decide(failure(FAILING), scene, now=now)
        assert isinstance(plan, Failover)
        assert ((Step.TEMPLATE, Step.PODS), SECOND, "") == (plan.steps, plan.candidate.image, plan.note)
        found = sent(found, replace(plan, steps=(Step.TEMPLATE,)), now)
        there = of_kind("StatefulSet")
        there["target"]["uid"] = "statefulset-uid"
        back = plan_return(away(there), found, KINDS)
        assert isinstance(back, FailBack)
        found = sent(found, back, now)
        assert FAILING == found["spec"]["template"]["spec"]["containers"][0]["image"]


# Trouble


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
    ids=["calm", "none that a source lists", "an alternative", "a name that may be wrong"],
)
def test_nobody_returns_while_anything_fails(expected: str, images: Iterable[str]) -> None:
    """Of all that a source lists; what nobody lists is none of our weather."""
    assert expected == blocking_failure(map(failure, images), [source()])


# Batches


def ready(
    name: str, container: str = "web", *, since: int = 60, healthy: int = 30, observed: bool = False
) -> Returnable:
    """Return a container of a workload, away and its original healthy for so many minutes."""
    found = entry(name, container, since=timestamp(NOW - since * MINUTE))
    found["target"]["uid"] = f"{name}-uid"
    by_now = {**found, "healthySince": timestamp(NOW - healthy * MINUTE), "provenAt": timestamp(NOW)}
    plan = plan_return(away(), live(AWAY), KINDS)
    assert isinstance(plan, FailBack)
    named = replace(plan, workload={"metadata": {"name": name, "uid": f"{name}-uid"}}, observed=observed)
    return Returnable(
        container=away(found), entry=by_now, plan=replace(named, failure=replace(plan.failure, container=container))
    )


def chosen(*found: Returnable, active: int = 0, on_the_way: int = 0, now: datetime = NOW) -> list[str]:
    """Return the names of those that return."""
    plans = next_batch(found, active=active, on_the_way=on_the_way, now=now)
    return [f"{plan.workload['metadata']['name']}/{plan.failure.container}" for plan in plans]


@pytest.mark.parametrize(
    ("active", "on_the_way", "expected"),
    [(1, 0, 1), (9, 0, 1), (12, 0, 1), (12, 1, 0), (25, 0, 2), (25, 1, 1), (25, 2, 0), (25, 3, 0), (40, 0, 4)],
)
def test_a_tenth_at_once(active: int, on_the_way: int, expected: int) -> None:
    """One at least, and nobody before the others have arrived."""
    many = [ready(f"web-{number:02}") for number in range(active)]
    assert expected == len(chosen(*many, active=active, on_the_way=on_the_way))


def test_who_has_been_away_for_longest_goes_first() -> None:
    """Whatever its name."""
    found = [ready("a", since=50), ready("b", since=70), ready("c", since=60)]
    assert ["b/web", "c/web"] == chosen(*found, active=20)


def test_who_has_not_waited_long_enough_stays() -> None:
    """And goes once it has."""
    assert [] == chosen(ready("a", healthy=29))
    assert ["a/web"] == chosen(ready("a", healthy=29), now=NOW + MINUTE)


def test_containers_of_one_workload_go_together() -> None:
    """One rollout is better than two, and they wait for each other."""
    assert ["a/web", "a/init"] == chosen(ready("a"), ready("a", "init"), active=2)
    assert [] == chosen(ready("a"), ready("a", "init", healthy=29), active=2)


def test_a_workload_of_many_containers_is_a_batch_of_its_own() -> None:
    """It is more than a tenth of few, and would never return otherwise; but not beside others."""
    large = [ready("a", f"c{number}") for number in range(3)]
    assert 3 == len(chosen(*large, active=12))
    assert [] == chosen(*large, active=12, on_the_way=1)
    assert ["b/web"] == chosen(*large, ready("b", since=70), active=25)
    assert ["a/c0", "a/c1", "a/c2", "b/web"] == chosen(*large, ready("b", since=50), active=40)


def test_whoever_only_observes_tells_all_at_once() -> None:
    """Nothing is patched, so nobody is on the way."""
    assert 12 == len(chosen(*(ready(f"web-{number}", observed=True) for number in range(12)), active=12))


@given(
    sizes=st.lists(st.integers(1, 4), min_size=1, max_size=40),
    more=st.integers(0, 60),
    on_the_way=st.integers(0, 10),
)
@settings(deadline=None)
def test_no_batch_is_more_than_a_tenth_but_for_one_workload(sizes: list[int], more: int, on_the_way: int) -> None:
    """However the containers are spread."""
    found = [ready(f"web-{index}", f"c{number}") for index, size in enumerate(sizes) for number in range(size)]
    active = len(found) + more
    names = chosen(*found, active=active, on_the_way=on_the_way)
    workloads = {name.partition("/")[0] for name in names}
    if len(names) + on_the_way > max(1, active // 10):
        assert len(workloads) <= 1
        assert not names or not on_the_way
    if not on_the_way:
        assert names


# On the way


def selecting(*entries: Entry, image: str = FAILING) -> Object:
    """Return a Deployment with a selector."""
    found = live(*entries, image=image)
    return {**found, "spec": {**found["spec"], "selector": {"matchLabels": {"app": "web"}}}}


def seen(*images: str) -> RunningImages:
    """Return the pods of the Deployment, with these images, all of which have run."""
    found = RunningImages()
    for image in images:
        one = pod({"name": "web", "image": image, "imageID": f"{image}@sha256:1"}, web=image)
        owner = {"kind": "ReplicaSet", "name": "a-deployment-abc", "controller": True}
        found.observe({**one, "metadata": {**one["metadata"], "labels": {"app": "web"}, "ownerReferences": [owner]}})
    return found


@pytest.mark.parametrize(
    ("expected", "entries", "running", "later"),
    [
        pytest.param(1, (AWAY, BACK), seen(SECOND), 0, id="its old pods still run"),
        pytest.param(1, (AWAY, BACK), seen(SECOND, FAILING), 9, id="half of them"),
        pytest.param(0, (AWAY, BACK), seen(FAILING, FAILING), 0, id="it has arrived"),
        pytest.param(0, (AWAY, BACK), seen(SECOND), 10, id="its rollout is stuck"),
        pytest.param(0, (AWAY, BACK, moved(FAILING, SECOND)), seen(FAILING), 0, id="it failed again"),
        pytest.param(0, (AWAY,), seen(FAILING), 0, id="it is away"),
        pytest.param(0, (AWAY, replace(BACK, source="other")), seen(SECOND), 0, id="another source's"),
        pytest.param(2, (AWAY, BACK, replace(BACK, container="init")), seen(SECOND), 0, id="each container counts"),
    ],
)
def test_who_is_on_the_way(expected: int, entries: tuple[Entry, ...], running: RunningImages, later: int) -> None:
    """Whoever returned, as its history tells, and whose pods have not followed, for ten minutes."""
    found = {**selecting(*entries), "status": {"observedGeneration": 1}}
    if expected == 2:
        found["metadata"] = {**found["metadata"], "generation": 2}
    assert expected == count_returning([found], running, source(), now=NOW + later * MINUTE)
