"""
The plan: every rung of the ladder, and which comes first.

`Case` holds every factor of the decision. A row of a table changes one or two of them.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import timedelta
from itertools import combinations
from typing import Any

import pytest
from hypothesis import given

from saffire.kube.workload import OwnerReference, Owners, describe
from saffire.policy.decide import Gathered, check_pod, decide
from saffire.policy.history import ANNOTATION, Entry, History
from saffire.policy.plan import Failover, Leave, Plan, Reason, Step, Wait
from saffire.pulls.cause import Cause, Remedy
from saffire.pulls.failure import PullFailure, Section, find_pull_failures
from saffire.registry.availability import Proof
from saffire.registry.reference import Reference
from saffire.sources.candidates import candidates
from saffire.sources.spec import Mode, Source, Strategy, Verification, opted_out
from testkit.builders import (
    FAILING,
    NOW,
    OPT_OUT,
    SECOND,
    THIRD,
    Object,
    annotated,
    chain,
    cluster_source,
    moved,
    pod,
    source,
    waiting,
    workload,
)
from testkit.strategies import KINDS, scenes

TEMPLATE, PODS = Step.TEMPLATE, Step.PODS
MINUTE = timedelta(minutes=1)
WIDGET = OwnerReference(api_version="example.com/v1", kind="Widget", name="web", uid="widget-uid")
SOURCE = source()


@dataclass(frozen=True, kw_only=True)
class Case:
    """A container `web` of a Deployment's pod that waits for its pull, and whatever a row changes of that."""

    namespace: Object = field(default_factory=lambda: {"metadata": {"name": "shop"}})
    pod: Object = field(default_factory=lambda: pod(waiting()))
    owners: Owners = field(default_factory=lambda: chain("Deployment"))
    sources: tuple[Source, ...] = (SOURCE,)
    cause: Cause = Cause.REFUSED
    image: str = FAILING
    section: Section = Section.CONTAINERS

    @property
    def scene(self) -> Gathered:
        """What `decide` gets to see."""
        return Gathered(namespace=self.namespace, pod=self.pod, sources=self.sources, owners=self.owners)

    @property
    def failure(self) -> PullFailure:
        """The failure that is decided about."""
        found = PullFailure(section=self.section, container="web", image=self.image, reason="ErrImagePull")
        return replace(found, cause=self.cause)

    def decided(self) -> Plan:
        """Return the plan."""
        return decide(self.failure, self.scene, now=NOW)


def remembering(manifest: Object, *entries: Entry) -> Object:
    """Return the object with that history."""
    return annotated(manifest, {ANNOTATION: History(entries).rendered()})


def below(owners: Owners, change: Callable[[Object], Object]) -> Owners:
    """Return the owners with the one on top changed."""
    return replace(owners, chain=(*owners.chain[:-1], change(dict(owners.chain[-1]))))


def spelled(**changes: Any) -> tuple[Source, ...]:
    """Return the usual source with other choices in its spec."""
    return (source(**changes),)


# Leave: each rung of the ladder, from the first to the last

ALL_FAILED = (moved(FAILING, SECOND), moved(SECOND, THIRD), moved(THIRD, FAILING))
LADDER: dict[str, tuple[Reason, Callable[[Case], Case]]] = {
    "helpless": (Reason.CANNOT_HELP, lambda case: replace(case, cause=Cause.PLATFORM)),
    "no-reference": (Reason.INVALID_REFERENCE, lambda case: replace(case, image="quay.io/Acme/web")),
    "not-listed": (
        Reason.NOT_LISTED,
        lambda case: replace(case, sources=tuple(replace(one, sets=()) for one in case.sources)),
    ),
    "paused": (
        Reason.PAUSED,
        lambda case: replace(case, sources=tuple(replace(one, mode=Mode.PAUSED) for one in case.sources)),
    ),
    "namespace-opted-out": (
        Reason.OPTED_OUT,
        lambda case: replace(case, namespace=annotated(case.namespace, OPT_OUT)),
    ),
    "pod-opted-out": (Reason.OPTED_OUT, lambda case: replace(case, pod=annotated(case.pod, OPT_OUT))),
    "terminating": (
        Reason.TERMINATING,
        lambda case: replace(
            case, pod={**case.pod, "metadata": {**case.pod["metadata"], "deletionTimestamp": "2026-11-23T02:00:00Z"}}
        ),
    ),
    "finished": (
        Reason.FINISHED,
        lambda case: replace(case, pod={**case.pod, "status": {**case.pod["status"], "phase": "Failed"}}),
    ),
    "static": (
        Reason.STATIC_POD,
        lambda case: replace(case, pod=annotated(case.pod, {"kubernetes.io/config.mirror": "cea3"})),
    ),
    "ephemeral": (Reason.EPHEMERAL_CONTAINER, lambda case: replace(case, section=Section.EPHEMERAL_CONTAINERS)),
    "owner-opted-out": (
        Reason.OPTED_OUT,
        lambda case: replace(case, owners=below(case.owners, lambda owner: annotated(owner, OPT_OUT))),
    ),
    "owner-forbidden": (
        Reason.OWNER_UNSEEN,
        lambda case: replace(case, owners=replace(case.owners, unreadable=WIDGET, forbidden=True)),
    ),
    "rollout-under-way": (
        Reason.ROLLOUT,
        lambda case: replace(case, owners=below(case.owners, lambda owner: {**owner, "spec": moved_on(owner)["spec"]})),
    ),
    "all-failed": (Reason.EXHAUSTED, lambda case: replace(case, pod=remembering(case.pod, *ALL_FAILED))),
    "strict": (
        Reason.UNPROVEN,
        lambda case: replace(
            case, sources=tuple(replace(one, verification=Verification.STRICT) for one in case.sources)
        ),
    ),
}
# Up to here nothing has to be known of the owners.
SCREENED = list(LADDER)[: list(LADDER).index("ephemeral") + 1]


def moved_on(owner: Object) -> Object:
    """Return the owner with a template that names another image."""
    return workload(owner["kind"], web=SECOND)


@pytest.mark.parametrize("rung", LADDER)
def test_each_rung_has_its_reason(rung: str) -> None:
    """One fault, one reason: the reason is where an operator looks first."""
    reason, change = LADDER[rung]
    plan = change(Case()).decided()
    assert isinstance(plan, Leave | Wait)
    assert (reason, "web") == (plan.reason, plan.failure and plan.failure.container)


@pytest.mark.parametrize(("first", "then"), list(combinations(LADDER, 2)))
def test_of_two_faults_the_earlier_rung_is_told(first: str, then: str) -> None:
    """The ladder has one order, whichever two of its rungs hold."""
    reason, change = LADDER[first]
    plan = change(LADDER[then][1](Case())).decided()
    assert isinstance(plan, Leave | Wait)
    assert reason == plan.reason


def test_without_a_fault_the_container_moves() -> None:
    """The first equivalent repository, tag kept, on the word of its source."""
    case = Case()
    plan = case.decided()
    assert isinstance(plan, Failover)
    assert (SECOND, "shop", Proof.UNVERIFIED) == (plan.candidate.image, plan.candidate.source.name, plan.proof)
    assert ("Deployment/a-deployment", (TEMPLATE,)) == (describe(plan.workload), plan.steps)
    assert (False, "", case.failure) == (plan.observed, plan.note, plan.failure)


@pytest.mark.parametrize(
    ("expected", "case"),
    [
        pytest.param("no source lists quay.io/acme/web", Case(sources=()), id="not-listed"),
        pytest.param("AlternateImageSource/shop is paused", Case(sources=spelled(mode="Paused")), id="paused"),
        pytest.param(
            "AlternateImageSource/a is paused",
            Case(sources=(source(name="b", mode="Paused"), source(name="a", mode="Paused"))),
            id="both-paused",
        ),
        pytest.param(Cause.PROXY.in_words("quay.io"), Case(cause=Cause.PROXY), id="helpless"),
        pytest.param(
            "its node's kubelet reads it from disk, not from the API server",
            LADDER["static"][1](Case()),
            id="static",
        ),
        pytest.param("its image cannot be changed", LADDER["ephemeral"][1](Case()), id="ephemeral"),
        pytest.param(
            f"{FAILING}: quay.io refused the connection; {SECOND}: ghcr.io was not asked; "
            f"{THIRD}: registry.example:5000 was not asked; wait until ghcr.io or registry.example:5000 answers",
            LADDER["strict"][1](Case()),
            id="strict",
        ),
        pytest.param("Pod/web-0", Case(pod=annotated(pod(), OPT_OUT)), id="pod-opted-out"),
        pytest.param(
            "Job/a-job",
            Case(owners=Owners(chain=(annotated(workload("Job"), OPT_OUT), workload("CronJob")))),
            id="an-owner-between-opted-out",
        ),
        pytest.param(
            "ReplicaSet/a-replicaset",
            Case(owners=Owners(chain=(annotated(workload("ReplicaSet"), OPT_OUT),))),
            id="a-replicaset-alone-opted-out",
        ),
        pytest.param(
            "Widget/web may not be read",
            Case(owners=Owners(unreadable=WIDGET, forbidden=True)),
            id="owner-forbidden",
        ),
        pytest.param(
            f"Deployment/a-deployment names {SECOND} by now",
            LADDER["rollout-under-way"][1](Case()),
            id="rollout-under-way",
        ),
    ],
)
def test_a_reason_names_what_made_it_so(expected: str, case: Case) -> None:
    """The detail tells which object, image or setting to look at."""
    plan = case.decided()
    assert isinstance(plan, Leave)
    assert expected == plan.detail


@pytest.mark.parametrize("cause", list(Cause))
def test_a_cause_that_no_repository_helps_is_left(cause: Cause) -> None:
    """One that may be a wrong name is left too, as long as no registry proves it right; every other one moves."""
    plan = Case(cause=cause).decided()
    expected = {Remedy.LEAVE: Reason.CANNOT_HELP, Remedy.PROVEN: Reason.UNPROVEN, Remedy.MOVE: None}
    assert expected[cause.remedy] == (plan.reason if isinstance(plan, Leave) else None)


@pytest.mark.parametrize("phase", ["Failed", "Succeeded"])
def test_a_pod_that_has_ended_is_left(phase: str) -> None:
    """No kubelet pulls for it any more."""
    plan = Case(pod={**pod(waiting()), "status": {"phase": phase}}).decided()
    assert isinstance(plan, Leave)
    assert Reason.FINISHED == plan.reason


@pytest.mark.parametrize("rung", SCREENED)
def test_the_first_rungs_need_no_owners(rung: str) -> None:
    """What can be told without reading owners costs no request for them."""
    case = replace(LADDER[rung][1](Case()), owners=Owners())
    assert case.decided() == check_pod(case.failure, case.scene)


# Where to patch: every kind, every template, every strategy


def custom(owners: Owners) -> Owners:
    """Return the owners of a pod below a kind that we do not know."""
    return replace(owners, unreadable=WIDGET)


def recreating(owner: Object) -> Object:
    """Return a Deployment that ends every old pod before any new one."""
    return {**owner, "spec": {**owner["spec"], "strategy": {"type": "Recreate"}}}


TEMPLATES = {
    "same": {"web": FAILING},
    "other": {"web": SECOND},
    "injected": {"app": FAILING},
}
SAME = {"Deployment": (TEMPLATE,), "DaemonSet": (PODS, TEMPLATE), "Job": (PODS,), "Pod": (PODS,)}


@pytest.mark.parametrize("mode", ["Enforce", "Observe"])
@pytest.mark.parametrize("strategy", list(Strategy))
@pytest.mark.parametrize("template", TEMPLATES)
@pytest.mark.parametrize("kind", KINDS)
def test_what_is_patched(kind: str, template: str, strategy: Strategy, mode: str) -> None:
    """A template that names the image is patched as its kind wants it, all else in place, observed or not."""
    case = Case(owners=chain(kind, **TEMPLATES[template]), sources=spelled(strategy=strategy, mode=mode))
    plan = case.decided()
    assert isinstance(plan, Failover)
    expected = SAME.get(kind, (TEMPLATE, PODS)) if template == "same" and strategy is Strategy.CONTROLLER else (PODS,)
    assert (expected, mode == "Observe") == (plan.steps, plan.observed)


@pytest.mark.parametrize(
    ("expected", "owners"),
    [
        pytest.param(
            "Deployment/a-deployment (PODS, TEMPLATE)", below(chain("Deployment"), recreating), id="recreating"
        ),
        pytest.param("ReplicaSet/a-replicaset (PODS)", custom(chain("ReplicaSet")), id="below-a-custom-kind"),
        pytest.param("Pod/web-0 (PODS)", custom(Owners()), id="right-below-a-custom-kind"),
        pytest.param("CronJob/a-cronjob (TEMPLATE, PODS)", chain("CronJob"), id="above-a-job"),
        pytest.param("Deployment/a-deployment (PODS)", chain("Deployment", app=FAILING), id="injected-container"),
        pytest.param(
            "ReplicaSet/a-replicaset (TEMPLATE, PODS)",
            Owners(chain=(workload("ReplicaSet"), workload("Deployment", app=FAILING))),
            id="only-a-lower-template-has-it",
        ),
        pytest.param(
            "Deployment/a-deployment (PODS)",
            Owners(chain=(workload("ReplicaSet", web=SECOND), workload("Deployment", web=SECOND))),
            id="admission-rewrote-the-pod's-image",
        ),
        pytest.param(
            "Deployment/a-deployment (PODS)",
            Owners(chain=(workload("ReplicaSet"), recreating(workload("Deployment", web=SECOND)))),
            id="stale-and-nobody-replaces-it",
        ),
        pytest.param(
            "Deployment/a-deployment (PODS)",
            Owners(chain=(workload("ReplicaSet", app=FAILING), workload("Deployment", web=SECOND))),
            id="only-a-higher-template-has-it",
        ),
        pytest.param("StatefulSet/a-statefulset (PODS)", chain("StatefulSet", web=SECOND), id="stale-in-a-StatefulSet"),
    ],
)
def test_the_right_ancestor_is_chosen(expected: str, owners: Owners) -> None:
    """The highest one whose template has the container; below a kind we do not know only the pod is safe to patch."""
    plan = Case(owners=owners).decided()
    assert isinstance(plan, Failover)
    steps = ", ".join(step.name for step in plan.steps)
    assert expected == f"{describe(plan.workload)} ({steps})"


@pytest.mark.parametrize("section", [Section.CONTAINERS, Section.INIT_CONTAINERS])
def test_init_containers_move_like_the_others(section: Section) -> None:
    """The template's own list of the same section is looked at."""
    template = workload("DaemonSet", section=section)
    plan = Case(section=section, owners=Owners(chain=(template,))).decided()
    assert isinstance(plan, Failover)
    assert (PODS, TEMPLATE) == plan.steps


def test_an_owner_we_do_not_know_is_named() -> None:
    """Whoever made the pod may undo what is done to it, and an operator should know."""
    plan = Case(owners=custom(chain("ReplicaSet"))).decided()
    assert isinstance(plan, Failover)
    assert "its owner Widget/web may revert it" == plan.note


def test_a_stale_pod_follows_its_template() -> None:
    """Where the template has moved already is where its pods go, though another candidate comes first in order."""
    plan = Case(owners=chain("StatefulSet", web=THIRD)).decided()
    assert isinstance(plan, Failover)
    assert THIRD == plan.candidate.image


def test_a_stale_pod_of_another_version_takes_the_first_candidate() -> None:
    """If the template names no equivalent of the failing image, the order of the source decides."""
    plan = Case(owners=chain("StatefulSet", web="ghcr.io/acme/web:2.0")).decided()
    assert isinstance(plan, Failover)
    assert SECOND == plan.candidate.image


# Somebody puts the old image back


def reverted(times: int, ago: timedelta = MINUTE) -> tuple[Entry, ...]:
    """Return a history of failovers that were each undone, the last one just now."""
    return tuple(moved(FAILING, THIRD, NOW - ago * (times - number)) for number in range(times))


@pytest.mark.parametrize("kind", ["Deployment", "StatefulSet", "DaemonSet", "CronJob"])
@pytest.mark.parametrize(
    ("fights", "entries"),
    [
        pytest.param(True, (), id="never"),
        pytest.param(True, reverted(1), id="once"),
        pytest.param(False, reverted(2), id="twice"),
        pytest.param(False, reverted(3), id="three-times"),
        pytest.param(True, reverted(2, 2 * 61 * MINUTE), id="twice-in-hours"),
        pytest.param(True, (moved(FAILING, THIRD, container="other"),) * 3, id="another-container"),
    ],
)
def test_a_template_that_is_put_back_twice_is_left_alone(fights: bool, entries: tuple[Entry, ...], kind: str) -> None:  # noqa: FBT001 - the row's expectation
    """From then on only pods are rescued, in place, and the record says why."""
    owners = below(chain(kind), lambda owner: remembering(owner, *entries))
    plan = Case(owners=owners).decided()
    assert isinstance(plan, Failover)
    assert fights is (TEMPLATE in plan.steps)
    assert fights is ("was put back twice" not in plan.note)


@pytest.mark.parametrize(("who", "manager"), [("argocd", "argocd"), ("an unknown field manager", "")])
def test_who_puts_an_image_back_is_named(who: str, manager: str) -> None:
    """The record tells the operator where to look: who wrote the template's image last."""
    image: Object = {"f:template": {"f:spec": {"f:containers": {'k:{"name":"web"}': {"f:image": {}}}}}}
    owner = remembering(workload("StatefulSet"), *reverted(2))
    owner["metadata"]["managedFields"] = [{"manager": manager, "fieldsV1": {"f:spec": image}}] if manager else []
    plan = Case(owners=Owners(chain=(owner,))).decided()
    assert isinstance(plan, Failover)
    assert f"StatefulSet/a-statefulset was put back twice, last by {who}, so its template is left alone" == plan.note


# Which candidate


@pytest.mark.parametrize(
    ("expected", "entries"),
    [
        pytest.param(SECOND, (), id="first-in-order"),
        pytest.param(THIRD, (moved(SECOND, FAILING),), id="the-first-failed-just-now"),
        pytest.param(SECOND, (moved(SECOND, FAILING, NOW - MINUTE / 2),), id="cooldown-over"),
        pytest.param(THIRD, (moved(SECOND, FAILING, NOW - MINUTE / 2 + timedelta(seconds=1)),), id="a-second-left"),
        pytest.param(SECOND, (moved(SECOND, FAILING, container="other"),), id="failed-in-another-container"),
        pytest.param(SECOND, (moved(FAILING, SECOND),), id="what-was-chosen-has-not-failed"),
        pytest.param(
            THIRD, tuple(moved(SECOND, FAILING, NOW - MINUTE * ago) for ago in (9, 5, 1)), id="cooldown-doubled"
        ),
    ],
)
@pytest.mark.parametrize("place", ["pod", "workload"])
def test_what_failed_lately_is_passed_over(expected: str, entries: tuple[Entry, ...], place: str) -> None:
    """The histories of the pod and of its workload both count."""
    case = Case(owners=chain("StatefulSet"))
    if place == "pod":
        case = replace(case, pod=remembering(case.pod, *entries))
    else:
        case = replace(case, owners=below(case.owners, lambda owner: remembering(owner, *entries)))
    plan = case.decided()
    assert isinstance(plan, Failover)
    assert expected == plan.candidate.image


def test_waiting_has_an_end() -> None:
    """When every candidate failed lately, the plan tells when the first may be tried again."""
    entries = (moved(THIRD, FAILING, NOW - timedelta(seconds=20)), moved(SECOND, THIRD, NOW - timedelta(seconds=5)))
    case = Case(pod=remembering(pod(waiting()), *entries))
    assert Wait(failure=case.failure, until=NOW + timedelta(seconds=10)) == case.decided()


def test_the_later_of_two_cooldowns_counts() -> None:
    """A pod that failed now and a workload that failed before: whichever lasts longer."""
    case = Case(
        pod=remembering(pod(waiting()), moved(SECOND, FAILING, NOW - timedelta(seconds=29)), moved(THIRD, FAILING)),
        owners=below(
            chain("Job"), lambda owner: remembering(owner, moved(SECOND, FAILING, NOW), moved(THIRD, FAILING))
        ),
    )
    assert Wait(failure=case.failure, until=NOW + timedelta(seconds=30)) == case.decided()


PAIR = ["quay.io/acme/web", "ghcr.io/acme/web"]
OTHER_PAIR = ["quay.io/acme/web", "registry.example:5000/mirror/web"]


@pytest.mark.parametrize(
    ("expected", "first", "second"),
    [
        pytest.param((SECOND, False), {}, {}, id="both-act"),
        pytest.param((THIRD, False), {"mode": "Observe"}, {}, id="who-acts-comes-before-who-watches"),
        pytest.param((SECOND, True), {"mode": "Observe"}, {"mode": "Observe"}, id="both-watch"),
        pytest.param((THIRD, False), {"mode": "Paused"}, {}, id="one-paused"),
        pytest.param((THIRD, True), {"mode": "Paused"}, {"mode": "Observe"}, id="one-paused-one-watches"),
        pytest.param((THIRD, False), {"verification": "Strict"}, {}, id="one-strict"),
        pytest.param((THIRD, True), {"verification": "Strict"}, {"mode": "Observe"}, id="one-strict-one-watches"),
        pytest.param((SECOND, False), {"verification": "Off"}, {}, id="verification-off"),
    ],
)
def test_each_source_decides_for_its_own_candidates(
    expected: tuple[str, bool], first: dict[str, str], second: dict[str, str]
) -> None:
    """Mode and verification are those of the source that declares the candidate."""
    sources = (source(PAIR, name="a", **first), source(OTHER_PAIR, name="b", **second))
    plan = Case(sources=sources).decided()
    assert isinstance(plan, Failover)
    assert expected == (plan.candidate.image, plan.observed)


@pytest.mark.parametrize("spec", [{"mode": "Observe"}, {"mode": "Paused"}, {"verification": "Strict"}])
def test_a_source_that_does_not_act_does_not_hide_one_that_does(spec: dict[str, str]) -> None:
    """Two sources declare the same repositories, and the one earlier in the alphabet may not act on it."""
    plan = Case(sources=(source(PAIR, name="a", **spec), source(PAIR, name="b"))).decided()
    assert isinstance(plan, Failover)
    assert ("b", False) == (plan.candidate.source.name, plan.observed)


def test_a_source_that_acts_is_not_held_up_by_one_that_watches() -> None:
    """Though a stale pod's template names what the watching source declares, the acting one's candidate is taken."""
    sources = (source(PAIR, name="a", mode="Observe"), source(OTHER_PAIR, name="b"))
    plan = Case(sources=sources, owners=chain("StatefulSet", web=SECOND)).decided()
    assert isinstance(plan, Failover)
    assert (THIRD, False) == (plan.candidate.image, plan.observed)


def test_a_cluster_wide_source_moves_what_no_other_lists() -> None:
    """Its record names the kind, since a namespace's own may have that name."""
    plan = Case(sources=(cluster_source(PAIR), source(["quay.io/bank/web", "ghcr.io/bank/web"]))).decided()
    assert isinstance(plan, Failover)
    assert (SECOND, "ClusterAlternateImageSource/shop") == (plan.candidate.image, plan.candidate.source.name)


def test_a_namespace_s_own_source_wins() -> None:
    """The cluster's is not even what comes when all that the own one lists has failed."""
    sources = (cluster_source(OTHER_PAIR), source(PAIR))
    plan = Case(sources=sources).decided()
    assert isinstance(plan, Failover)
    assert (SECOND, "shop") == (plan.candidate.image, plan.candidate.source.name)
    failed = replace(Case(sources=sources), pod=remembering(pod(waiting()), moved(SECOND, FAILING))).decided()
    assert isinstance(failed, Wait)


def test_a_namespace_s_own_source_that_watches_or_rests_wins_too() -> None:
    """What its owner does not want done is not done on the cluster's word."""
    watched = Case(sources=(cluster_source(OTHER_PAIR), source(PAIR, mode="Observe"))).decided()
    assert isinstance(watched, Failover)
    assert (SECOND, True) == (watched.candidate.image, watched.observed)
    rested = Case(sources=(cluster_source(OTHER_PAIR), source(PAIR, mode="Paused"))).decided()
    assert isinstance(rested, Leave)
    assert (Reason.PAUSED, "AlternateImageSource/shop is paused") == (rested.reason, rested.detail)


def test_a_paused_cluster_wide_source_is_named_as_such() -> None:
    """An operator knows which kind to look for."""
    plan = Case(sources=(cluster_source(PAIR, mode="Paused"),)).decided()
    assert isinstance(plan, Leave)
    assert "ClusterAlternateImageSource/shop is paused" == plan.detail


def test_the_strategy_is_the_chosen_candidate_s() -> None:
    """Two sources may want different things; the one whose candidate is taken is obeyed."""
    sources = (source(PAIR, name="a", strategy="Pods", mode="Paused"), source(OTHER_PAIR, name="b"))
    plan = Case(sources=sources).decided()
    assert isinstance(plan, Failover)
    assert (TEMPLATE,) == plan.steps


# What always holds


@given(scenes())
def test_a_failover_is_allowed_and_goes_elsewhere(drawn: tuple[PullFailure, Gathered]) -> None:
    """To a declared candidate of a source that is not paused or strict, and never past an opt-out."""
    failure, scene = drawn
    plan = decide(failure, scene, now=NOW)
    if isinstance(plan, Failover):
        chosen = plan.candidate.source
        assert plan.candidate in candidates(Reference.parse(failure.image), [chosen])
        assert chosen in scene.sources
        assert plan.candidate.reference.repository != Reference.parse(failure.image).repository
        assert chosen.mode is not Mode.PAUSED
        assert chosen.verification is not Verification.STRICT
        assert plan.observed is (chosen.mode is Mode.OBSERVE)
        below, top = scene.owners.chain[:-1], scene.owners.chain[-1:]
        own = [owner for owner in below if owner["kind"] != "ReplicaSet"]
        assert not any(map(opted_out, (scene.namespace, scene.pod, *own, *top)))


@given(scenes())
def test_what_failed_lately_is_never_chosen_and_waiting_always_ends(drawn: tuple[PullFailure, Gathered]) -> None:
    """Neither history lists the choice as cooling; a wait lasts ten minutes at most."""
    failure, scene = drawn
    plan = decide(failure, scene, now=NOW)
    if isinstance(plan, Failover):
        for manifest in (plan.workload, scene.pod):
            until = History.of(manifest).cooling_until("web", plan.candidate.image)
            assert until is None or until <= NOW
    if isinstance(plan, Wait):
        assert NOW < plan.until <= NOW + 10 * MINUTE


@given(scenes())
def test_the_same_scene_has_the_same_plan(drawn: tuple[PullFailure, Gathered]) -> None:
    """Deciding reads nothing but its arguments, and the order of the sources does not matter."""
    failure, scene = drawn
    assert decide(failure, scene, now=NOW) == decide(failure, scene, now=NOW)
    plans = [decide(failure, replace(scene, sources=order), now=NOW) for order in (scene.sources, scene.sources[::-1])]
    if len({one.name for one in scene.sources}) == len(scene.sources):
        assert plans[0] == plans[1]


@given(scenes())
def test_what_screen_leaves_stays_left(drawn: tuple[PullFailure, Gathered]) -> None:
    """Reading the owners never turns a Leave into a Failover."""
    failure, scene = drawn
    left = check_pod(failure, replace(scene, owners=Owners()))
    if left:
        assert left == decide(failure, scene, now=NOW)


def test_every_reason_that_is_decided_here_has_a_rung() -> None:
    """A new reason needs a row; the remaining ones are given where there is no scene to decide about."""
    elsewhere = {Reason.NO_SUCH_POD, Reason.NO_FAILURE, Reason.NO_SOURCE, Reason.ALREADY_MOVED}
    elsewhere |= {Reason.IMAGE_VOLUME, Reason.DENIED, Reason.UNREADABLE}
    assert set(Reason) - elsewhere == {reason for reason, _ in LADDER.values()}


def test_a_recorded_failure_is_decided_from_end_to_end() -> None:
    """What a pod's status shows leads to a plan about that very container."""
    manifest = pod(waiting(reason="ImagePullBackOff", message=f'Back-off pulling image "{FAILING}": x'))
    (failure,) = find_pull_failures(manifest)
    plan = decide(failure, replace(Case().scene, pod=manifest), now=NOW)
    assert isinstance(plan, Failover)
    assert failure == plan.failure
