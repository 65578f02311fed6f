"""
The decision: every rung of the ladder, and which comes first.

`Situation` holds every factor of the decision. A row of a table changes one or two of them.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import timedelta
from itertools import combinations
from typing import Any

import pytest
from hypothesis import given

from saffire.kube.workload import OwnerReference, Owners, describe
from saffire.policy.decide import Gathered, check_pod
from saffire.policy.history import ANNOTATION, NOTHING_RECORDED, Entry, History, RecordedMove, RecordedMoves
from saffire.policy.patch import render
from saffire.policy.plan import Failover, Leave, Plan, Reason, Step, Wait
from saffire.policy.reach import Fault, FaultEvidence
from saffire.policy.verification import Evidence
from saffire.pulls.cause import Cause, Remedy
from saffire.pulls.failure import PullFailure, Section, find_pull_failures
from saffire.registry.availability import (
    Availability,
    Available,
    NotFound,
    Proof,
    Throttled,
    Unreachable,
    WrongPlatform,
)
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
from testkit.decisions import decide
from testkit.rfc6902 import patched
from testkit.strategies import KINDS, gathered_failures

TEMPLATE, PODS = Step.TEMPLATE, Step.PODS
MINUTE = timedelta(minutes=1)
WIDGET = OwnerReference(api_version="example.com/v1", kind="Widget", name="web", uid="widget-uid")
SOURCE = source()
AVAILABLE = Available(digest="sha256:1")
OUTAGE = FaultEvidence(answer=Unreachable("it answered 503", is_silent=True, is_server_error=True))
NODE = FaultEvidence(answer=AVAILABLE)


@dataclass(frozen=True, kw_only=True)
class Situation:
    """By default a container `web` of a Deployment's pod whose image cannot be pulled; a row changes some factors."""

    namespace: Object = field(default_factory=lambda: {"metadata": {"name": "shop"}})
    pod: Object = field(default_factory=lambda: pod(waiting()))
    owners: Owners = field(default_factory=lambda: chain("Deployment"))
    sources: tuple[Source, ...] = (SOURCE,)
    cause: Cause = Cause.REFUSED
    image: str = FAILING
    section: Section = Section.CONTAINERS
    fault: FaultEvidence = OUTAGE
    recorded: RecordedMoves = NOTHING_RECORDED

    @property
    def gathered(self) -> Gathered:
        """The values that `decide` gets."""
        return Gathered(
            namespace=self.namespace,
            pod=self.pod,
            sources=self.sources,
            owners=self.owners,
            faults={self.failure: self.fault},
            recorded=self.recorded,
        )

    @property
    def failure(self) -> PullFailure:
        """The failure that is decided about."""
        failure = PullFailure(section=self.section, container="web", image=self.image, reason="ErrImagePull")
        return replace(failure, cause=self.cause)

    def decided(self) -> Plan:
        """Return the plan."""
        return decide(self.failure, self.gathered, now=NOW)


def remembering(manifest: Object, *entries: Entry) -> Object:
    """Return the object with that history."""
    return annotated(manifest, {ANNOTATION: History(entries).rendered()})


def below(owners: Owners, change: Callable[[Object], Object]) -> Owners:
    """Return the owners with the top one changed."""
    return replace(owners, chain=(*owners.chain[:-1], change(dict(owners.chain[-1]))))


def spelled(**changes: Any) -> tuple[Source, ...]:
    """Return the default source with these fields in its spec."""
    return (source(**changes),)


# Leave: each rung of the ladder, from the first to the last


def caused(situation: Situation, cause: Cause) -> Situation:
    """Return the situation with another cause, unless its own is one that no other repository can help."""
    return situation if situation.cause.remedy is Remedy.LEAVE else replace(situation, cause=cause)


ALL_FAILED = (moved(FAILING, SECOND), moved(SECOND, THIRD), moved(THIRD, FAILING))
UNDONE = RecordedMove(
    entry=moved(FAILING, SECOND, NOW - MINUTE), uid="deployment-uid", kind="Deployment", namespace="shop"
)
UNDONE_AGAIN = replace(UNDONE, entry=moved(FAILING, SECOND, NOW - MINUTE / 2))
LADDER: dict[str, tuple[Reason, Callable[[Situation], Situation]]] = {
    "helpless": (Reason.CANNOT_HELP, lambda situation: replace(situation, cause=Cause.PROXY)),
    "no-reference": (Reason.INVALID_REFERENCE, lambda situation: replace(situation, image="quay.io/Acme/web")),
    "not-listed": (
        Reason.NOT_LISTED,
        lambda situation: replace(situation, sources=tuple(replace(parsed, sets=()) for parsed in situation.sources)),
    ),
    "paused": (
        Reason.PAUSED,
        lambda situation: replace(
            situation, sources=tuple(replace(parsed, mode=Mode.PAUSED) for parsed in situation.sources)
        ),
    ),
    "namespace-opted-out": (
        Reason.OPTED_OUT,
        lambda situation: replace(situation, namespace=annotated(situation.namespace, OPT_OUT)),
    ),
    "pod-opted-out": (Reason.OPTED_OUT, lambda situation: replace(situation, pod=annotated(situation.pod, OPT_OUT))),
    "terminating": (
        Reason.TERMINATING,
        lambda situation: replace(
            situation,
            pod={
                **situation.pod,
                "metadata": {**situation.pod["metadata"], "deletionTimestamp": "2026-11-23T02:00:00Z"},
            },
        ),
    ),
    "finished": (
        Reason.FINISHED,
        lambda situation: replace(
            situation, pod={**situation.pod, "status": {**situation.pod["status"], "phase": "Failed"}}
        ),
    ),
    "static": (
        Reason.STATIC_POD,
        lambda situation: replace(situation, pod=annotated(situation.pod, {"kubernetes.io/config.mirror": "cea3"})),
    ),
    "ephemeral": (
        Reason.EPHEMERAL_CONTAINER,
        lambda situation: replace(situation, section=Section.EPHEMERAL_CONTAINERS),
    ),
    "owner-opted-out": (
        Reason.OPTED_OUT,
        lambda situation: replace(situation, owners=below(situation.owners, lambda owner: annotated(owner, OPT_OUT))),
    ),
    "owner-forbidden": (
        Reason.OWNER_UNSEEN,
        lambda situation: replace(situation, owners=replace(situation.owners, unreadable=WIDGET, forbidden=True)),
    ),
    "rollout-under-way": (
        Reason.ROLLOUT,
        lambda situation: replace(
            situation, owners=below(situation.owners, lambda owner: {**owner, "spec": moved_on(owner)["spec"]})
        ),
    ),
    "reverted": (Reason.REVERTED, lambda situation: replace(situation, recorded=RecordedMoves([UNDONE, UNDONE_AGAIN]))),
    "node-fault": (
        Reason.NODE_FAULT,
        lambda situation: replace(
            caused(situation, Cause.REFUSED), fault=replace(NODE, other_registries=frozenset({"ghcr.io"}))
        ),
    ),
    "taken-down": (
        Reason.TAKEN_DOWN,
        lambda situation: replace(
            caused(situation, Cause.ABSENT), fault=FaultEvidence(answer=NotFound(), other_image_is_there=True)
        ),
    ),
    "all-failed": (Reason.EXHAUSTED, lambda situation: replace(situation, pod=remembering(situation.pod, *ALL_FAILED))),
    "strict": (
        Reason.UNPROVEN,
        lambda situation: replace(
            situation, sources=tuple(replace(parsed, verification=Verification.STRICT) for parsed in situation.sources)
        ),
    ),
    "next-try": (
        Reason.NEXT_TRY,
        lambda situation: replace(situation, fault=FaultEvidence(answer=Unreachable("418"), in_status=False)),
    ),
}
# The rungs up to here need no owners.
OF_THE_POD_ALONE = list(LADDER)[: list(LADDER).index("ephemeral") + 1]


def moved_on(owner: Object) -> Object:
    """Return the owner with a template that names another image."""
    return workload(owner["kind"], web=SECOND)


@pytest.mark.parametrize("rung", LADDER)
def test_each_rung_has_its_reason(rung: str) -> None:
    """Each fault has its own reason, where an operator looks first."""
    reason, change = LADDER[rung]
    plan = change(Situation()).decided()
    assert isinstance(plan, Leave | Wait)
    assert (reason, "web") == (plan.reason, plan.failure and plan.failure.container)


@pytest.mark.parametrize(("first", "then"), list(combinations(LADDER, 2)))
def test_of_two_faults_the_earlier_rung_is_the_reason(first: str, then: str) -> None:
    """The order of the rungs is the same for every pair of faults."""
    reason, change = LADDER[first]
    plan = change(LADDER[then][1](Situation())).decided()
    assert isinstance(plan, Leave | Wait)
    assert reason == plan.reason


def test_without_a_fault_the_container_moves() -> None:
    """It moves to the first equivalent repository of its source, with the same tag."""
    situation = Situation()
    plan = situation.decided()
    assert isinstance(plan, Failover)
    assert (SECOND, "shop", Proof.UNVERIFIED) == (plan.candidate.image, plan.candidate.source.name, plan.proof)
    assert ("Deployment/a-deployment", (TEMPLATE,)) == (describe(plan.workload), plan.steps)
    assert (False, "", situation.failure) == (plan.observed, plan.note, plan.failure)


@pytest.mark.parametrize(
    ("expected", "situation"),
    [
        pytest.param("no source lists quay.io/acme/web", Situation(sources=()), id="not-listed"),
        pytest.param("AlternateImageSource/shop is paused", Situation(sources=spelled(mode="Paused")), id="paused"),
        pytest.param(
            "AlternateImageSource/a is paused",
            Situation(sources=(source(name="b", mode="Paused"), source(name="a", mode="Paused"))),
            id="both-paused",
        ),
        pytest.param(Cause.PROXY.in_words("quay.io"), Situation(cause=Cause.PROXY), id="helpless"),
        pytest.param(
            "its node's kubelet reads it from disk, not from the API server",
            LADDER["static"][1](Situation()),
            id="static",
        ),
        pytest.param("its image cannot be changed", LADDER["ephemeral"][1](Situation()), id="ephemeral"),
        pytest.param(
            f"{FAILING}: quay.io refused the connection; {SECOND}: ghcr.io was not asked; "
            f"{THIRD}: registry.example:5000 was not asked; wait until ghcr.io or registry.example:5000 answers",
            LADDER["strict"][1](Situation()),
            id="strict",
        ),
        pytest.param("Pod/web-0", Situation(pod=annotated(pod(), OPT_OUT)), id="pod-opted-out"),
        pytest.param(
            "Job/a-job",
            Situation(owners=Owners(chain=(annotated(workload("Job"), OPT_OUT), workload("CronJob")))),
            id="an-owner-between-opted-out",
        ),
        pytest.param(
            "ReplicaSet/a-replicaset",
            Situation(owners=Owners(chain=(annotated(workload("ReplicaSet"), OPT_OUT),))),
            id="a-replicaset-alone-opted-out",
        ),
        pytest.param(
            "Widget/web may not be read",
            Situation(owners=Owners(unreadable=WIDGET, forbidden=True)),
            id="owner-forbidden",
        ),
        pytest.param(
            f"Deployment/a-deployment names {SECOND} by now",
            LADDER["rollout-under-way"][1](Situation()),
            id="rollout-under-way",
        ),
    ],
)
def test_the_detail_of_a_reason_names_the_fact_behind_it(expected: str, situation: Situation) -> None:
    """It names the object, the image or the setting to look at."""
    plan = situation.decided()
    assert isinstance(plan, Leave)
    assert expected == plan.detail


def test_a_placeholder_is_no_image() -> None:
    """Istio's webhook replaces `auto`; if the webhook is down, no repository has such an image."""
    plan = Situation(image="auto", sources=(source(["auto", "ghcr.io/acme/web"]),)).decided()
    assert isinstance(plan, Leave)
    detail = "auto is a placeholder, which admission should have replaced"
    assert (Reason.INVALID_REFERENCE, detail) == (plan.reason, plan.detail)


@pytest.mark.parametrize("cause", list(Cause))
def test_a_failure_that_no_repository_can_help_is_left(cause: Cause) -> None:
    """If the image's name may be wrong, it is left too, without a proof; every other failure leads to a failover."""
    plan = Situation(cause=cause).decided()
    expected = {Remedy.LEAVE: Reason.CANNOT_HELP, Remedy.PROVEN: Reason.UNPROVEN, Remedy.MOVE: None}
    assert expected[cause.remedy] == (plan.reason if isinstance(plan, Leave) else None)


@pytest.mark.parametrize("phase", ["Failed", "Succeeded"])
def test_a_pod_that_has_ended_is_left(phase: str) -> None:
    """No kubelet pulls for it any more."""
    plan = Situation(pod={**pod(waiting()), "status": {"phase": phase}}).decided()
    assert isinstance(plan, Leave)
    assert Reason.FINISHED == plan.reason


@pytest.mark.parametrize("rung", OF_THE_POD_ALONE)
def test_the_first_rungs_need_no_owners(rung: str) -> None:
    """If the pod alone shows the reason, no owner is read."""
    situation = replace(LADDER[rung][1](Situation()), owners=Owners())
    assert situation.decided() == check_pod(situation.failure, situation.gathered)


# Where to patch: every kind, every template, every strategy


def custom(owners: Owners) -> Owners:
    """Return the owners of a pod below an unknown kind."""
    return replace(owners, unreadable=WIDGET)


def paused(owner: Object) -> Object:
    """Return a Deployment whose rollout replaces no pod for now."""
    return {**owner, "spec": {**owner["spec"], "paused": True}}


TEMPLATES = {
    "same": {"web": FAILING},
    "other": {"web": SECOND},
    "injected": {"app": FAILING},
}
SAME = {"Deployment": (TEMPLATE,), "DaemonSet": (TEMPLATE,), "Job": (PODS,), "Pod": (PODS,)}


@pytest.mark.parametrize("mode", ["Enforce", "Observe"])
@pytest.mark.parametrize("strategy", list(Strategy))
@pytest.mark.parametrize("template", TEMPLATES)
@pytest.mark.parametrize("kind", KINDS)
def test_the_steps_depend_on_kind_template_and_strategy(
    kind: str, template: str, strategy: Strategy, mode: str
) -> None:
    """If the template names the failing image, the steps are those of the kind; else the pod is patched in place."""
    situation = Situation(owners=chain(kind, **TEMPLATES[template]), sources=spelled(strategy=strategy, mode=mode))
    plan = situation.decided()
    assert isinstance(plan, Failover)
    expected = SAME.get(kind, (TEMPLATE, PODS)) if template == "same" and strategy is Strategy.CONTROLLER else (PODS,)
    assert (expected, mode == "Observe") == (plan.steps, plan.observed)


@pytest.mark.parametrize(
    ("expected", "owners"),
    [
        pytest.param("Deployment/a-deployment (PODS, TEMPLATE)", below(chain("Deployment"), paused), id="paused"),
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
            Owners(chain=(workload("ReplicaSet"), paused(workload("Deployment", web=SECOND)))),
            id="stale-and-no-rollout-replaces-it",
        ),
        pytest.param(
            "Deployment/a-deployment (PODS)",
            Owners(chain=(workload("ReplicaSet", app=FAILING), workload("Deployment", web=SECOND))),
            id="only-a-higher-template-has-it",
        ),
        pytest.param("StatefulSet/a-statefulset (PODS)", chain("StatefulSet", web=SECOND), id="stale-in-a-StatefulSet"),
    ],
)
def test_the_right_owner_is_the_target(expected: str, owners: Owners) -> None:
    """It is the highest one whose template has the container; below an unknown kind only the pod is patched."""
    plan = Situation(owners=owners).decided()
    assert isinstance(plan, Failover)
    steps = ", ".join(step.name for step in plan.steps)
    assert expected == f"{describe(plan.workload)} ({steps})"


@pytest.mark.parametrize("section", [Section.CONTAINERS, Section.INIT_CONTAINERS])
def test_init_containers_move_like_the_others(section: Section) -> None:
    """The template is patched in the section of the failing container."""
    template = workload("StatefulSet", section=section)
    plan = Situation(section=section, owners=Owners(chain=(template,))).decided()
    assert isinstance(plan, Failover)
    assert (TEMPLATE, PODS) == plan.steps


def test_an_unknown_owner_is_named() -> None:
    """The owner may undo the patch of the pod, and the note tells an operator."""
    plan = Situation(owners=custom(chain("ReplicaSet"))).decided()
    assert isinstance(plan, Failover)
    assert "its owner Widget/web may revert it" == plan.note


def test_a_stale_pod_follows_its_template() -> None:
    """If the template has moved already, its pods move to the same image, although another candidate comes first."""
    plan = Situation(owners=chain("StatefulSet", web=THIRD)).decided()
    assert isinstance(plan, Failover)
    assert THIRD == plan.candidate.image


def test_a_stale_pod_of_another_version_takes_the_first_candidate() -> None:
    """If the template names no equivalent of the failing image, the order of the source decides."""
    plan = Situation(owners=chain("StatefulSet", web="ghcr.io/acme/web:2.0")).decided()
    assert isinstance(plan, Failover)
    assert SECOND == plan.candidate.image


# Reversions


def reverted(times: int, ago: timedelta = MINUTE) -> tuple[Entry, ...]:
    """Return a history of failovers that were each undone, the last one just now."""
    return tuple(moved(FAILING, THIRD, NOW - ago * (times - number)) for number in range(times))


@pytest.mark.parametrize("kind", ["Deployment", "StatefulSet", "DaemonSet", "CronJob"])
@pytest.mark.parametrize(
    ("patches_template", "entries"),
    [
        pytest.param(True, (), id="never"),
        pytest.param(True, reverted(1), id="once"),
        pytest.param(False, reverted(2), id="twice"),
        pytest.param(False, reverted(3), id="three-times"),
        pytest.param(True, reverted(2, 2 * 61 * MINUTE), id="twice-in-hours"),
        pytest.param(True, (moved(FAILING, THIRD, container="other"),) * 3, id="another-container"),
    ],
)
def test_a_template_that_is_put_back_twice_is_left_alone(
    entries: tuple[Entry, ...], kind: str, *, patches_template: bool
) -> None:
    """From then on only pods are patched, in place, and the note says why."""
    owners = below(chain(kind), lambda owner: remembering(owner, *entries))
    plan = Situation(owners=owners).decided()
    assert isinstance(plan, Failover)
    assert patches_template is (TEMPLATE in plan.steps)
    assert patches_template is ("was put back twice" not in plan.note)


@pytest.mark.parametrize(("named", "manager"), [("argocd", "argocd"), ("an unknown field manager", "")])
def test_the_manager_that_puts_an_image_back_is_named(named: str, manager: str) -> None:
    """The note names the field manager that wrote the template's image last."""
    image: Object = {"f:template": {"f:spec": {"f:containers": {'k:{"name":"web"}': {"f:image": {}}}}}}
    owner = remembering(workload("StatefulSet"), *reverted(2))
    owner["metadata"]["managedFields"] = [{"manager": manager, "fieldsV1": {"f:spec": image}}] if manager else []
    plan = Situation(owners=Owners(chain=(owner,))).decided()
    assert isinstance(plan, Failover)
    assert f"StatefulSet/a-statefulset was put back twice, last by {named}, so its template is left alone" == plan.note


# Which candidate


@pytest.mark.parametrize(
    ("expected", "entries"),
    [
        pytest.param(SECOND, (), id="first-in-order"),
        pytest.param(THIRD, (moved(SECOND, FAILING),), id="the-first-failed-just-now"),
        pytest.param(SECOND, (moved(SECOND, FAILING, NOW - MINUTE / 2),), id="cooldown-over"),
        pytest.param(THIRD, (moved(SECOND, FAILING, NOW - MINUTE / 2 + timedelta(seconds=1)),), id="a-second-left"),
        pytest.param(SECOND, (moved(SECOND, FAILING, container="other"),), id="failed-in-another-container"),
        pytest.param(SECOND, (moved(FAILING, SECOND),), id="the-image-after-a-move-has-not-failed"),
        pytest.param(
            THIRD, tuple(moved(SECOND, FAILING, NOW - MINUTE * ago) for ago in (9, 5, 1)), id="cooldown-doubled"
        ),
    ],
)
@pytest.mark.parametrize("holder", ["pod", "workload"])
def test_an_image_that_failed_lately_is_not_taken(expected: str, entries: tuple[Entry, ...], holder: str) -> None:
    """The histories of the pod and of its workload both count."""
    situation = Situation(owners=chain("StatefulSet"))
    if holder == "pod":
        situation = replace(situation, pod=remembering(situation.pod, *entries))
    else:
        situation = replace(situation, owners=below(situation.owners, lambda owner: remembering(owner, *entries)))
    plan = situation.decided()
    assert isinstance(plan, Failover)
    assert expected == plan.candidate.image


def test_waiting_has_an_end() -> None:
    """If every candidate failed lately, the plan says when the first may be tried again."""
    entries = (moved(THIRD, FAILING, NOW - timedelta(seconds=20)), moved(SECOND, THIRD, NOW - timedelta(seconds=5)))
    situation = Situation(pod=remembering(pod(waiting()), *entries))
    assert Wait(failure=situation.failure, until=NOW + timedelta(seconds=10)) == situation.decided()


def test_the_later_of_two_cooldowns_counts() -> None:
    """If pod and workload have a cooldown of one image, the longer one counts."""
    situation = Situation(
        pod=remembering(pod(waiting()), moved(SECOND, FAILING, NOW - timedelta(seconds=29)), moved(THIRD, FAILING)),
        owners=below(
            chain("Job"), lambda owner: remembering(owner, moved(SECOND, FAILING, NOW), moved(THIRD, FAILING))
        ),
    )
    assert Wait(failure=situation.failure, until=NOW + timedelta(seconds=30)) == situation.decided()


PAIR = ["quay.io/acme/web", "ghcr.io/acme/web"]
OTHER_PAIR = ["quay.io/acme/web", "registry.example:5000/mirror/web"]


@pytest.mark.parametrize(
    ("expected", "first", "second"),
    [
        pytest.param((SECOND, False), {}, {}, id="both-enforce"),
        pytest.param((THIRD, False), {"mode": "Observe"}, {}, id="enforce-comes-before-observe"),
        pytest.param((SECOND, True), {"mode": "Observe"}, {"mode": "Observe"}, id="both-observe"),
        pytest.param((THIRD, False), {"mode": "Paused"}, {}, id="one-paused"),
        pytest.param((THIRD, True), {"mode": "Paused"}, {"mode": "Observe"}, id="one-paused-one-observes"),
        pytest.param((THIRD, False), {"verification": "Strict"}, {}, id="one-strict"),
        pytest.param((THIRD, True), {"verification": "Strict"}, {"mode": "Observe"}, id="one-strict-one-observes"),
        pytest.param((SECOND, False), {"verification": "Off"}, {}, id="verification-off"),
    ],
)
def test_each_source_decides_for_its_own_candidates(
    expected: tuple[str, bool], first: dict[str, str], second: dict[str, str]
) -> None:
    """Mode and verification are those of the source that declares the candidate."""
    sources = (source(PAIR, name="a", **first), source(OTHER_PAIR, name="b", **second))
    plan = Situation(sources=sources).decided()
    assert isinstance(plan, Failover)
    assert expected == (plan.candidate.image, plan.observed)


@pytest.mark.parametrize("spec", [{"mode": "Observe"}, {"mode": "Paused"}, {"verification": "Strict"}])
def test_a_source_that_may_not_act_does_not_hide_one_that_may(spec: dict[str, str]) -> None:
    """Two sources declare the same repositories; the first in the alphabet may not act, and the second does."""
    plan = Situation(sources=(source(PAIR, name="a", **spec), source(PAIR, name="b"))).decided()
    assert isinstance(plan, Failover)
    assert ("b", False) == (plan.candidate.source.name, plan.observed)


def test_a_source_that_observes_does_not_hold_up_one_that_enforces() -> None:
    """Even if a stale pod's template names a candidate of the observing source, the other source's is taken."""
    sources = (source(PAIR, name="a", mode="Observe"), source(OTHER_PAIR, name="b"))
    plan = Situation(sources=sources, owners=chain("StatefulSet", web=SECOND)).decided()
    assert isinstance(plan, Failover)
    assert (THIRD, False) == (plan.candidate.image, plan.observed)


def test_a_cluster_wide_source_moves_an_image_that_no_other_lists() -> None:
    """Its name in records has the kind, since a namespace's own source may have the same name."""
    plan = Situation(sources=(cluster_source(PAIR), source(["quay.io/bank/web", "ghcr.io/bank/web"]))).decided()
    assert isinstance(plan, Failover)
    assert (SECOND, "ClusterAlternateImageSource/shop") == (plan.candidate.image, plan.candidate.source.name)


def test_a_namespace_s_own_source_wins() -> None:
    """Even if all candidates of the own source failed, the cluster-wide one is not used."""
    sources = (cluster_source(OTHER_PAIR), source(PAIR))
    plan = Situation(sources=sources).decided()
    assert isinstance(plan, Failover)
    assert (SECOND, "shop") == (plan.candidate.image, plan.candidate.source.name)
    failed = replace(Situation(sources=sources), pod=remembering(pod(waiting()), moved(SECOND, FAILING))).decided()
    assert isinstance(failed, Wait)


def test_a_namespace_s_own_source_that_observes_or_is_paused_wins_too() -> None:
    """If the namespace's owner does not want a failover, a cluster-wide source makes none."""
    observing_plan = Situation(sources=(cluster_source(OTHER_PAIR), source(PAIR, mode="Observe"))).decided()
    assert isinstance(observing_plan, Failover)
    assert (SECOND, True) == (observing_plan.candidate.image, observing_plan.observed)
    paused_plan = Situation(sources=(cluster_source(OTHER_PAIR), source(PAIR, mode="Paused"))).decided()
    assert isinstance(paused_plan, Leave)
    assert (Reason.PAUSED, "AlternateImageSource/shop is paused") == (paused_plan.reason, paused_plan.detail)


def test_a_paused_cluster_wide_source_is_named_as_such() -> None:
    """The detail names the kind, so that an operator finds the object."""
    plan = Situation(sources=(cluster_source(PAIR, mode="Paused"),)).decided()
    assert isinstance(plan, Leave)
    assert "ClusterAlternateImageSource/shop is paused" == plan.detail


def test_the_strategy_is_that_of_the_candidate_s_source() -> None:
    """If two sources have different strategies, that of the source whose candidate is taken counts."""
    sources = (source(PAIR, name="a", strategy="Pods", mode="Paused"), source(OTHER_PAIR, name="b"))
    plan = Situation(sources=sources).decided()
    assert isinstance(plan, Failover)
    assert (TEMPLATE,) == plan.steps


# How far the repair goes

WITH_READY_PODS = below(chain("Deployment"), lambda owner: {**owner, "status": {"readyReplicas": 4}})


def test_a_proven_outage_is_told_with_the_failover() -> None:
    """The log names the fault for which the workload moved."""
    plan = Situation(owners=WITH_READY_PODS).decided()
    assert isinstance(plan, Failover)
    assert ((TEMPLATE,), Fault.OUTAGE, "") == (plan.steps, plan.fault, plan.note)


def test_a_fault_of_one_node_moves_the_stuck_pod_in_place_after_its_next_try() -> None:
    """The template stays, and the note says why."""
    first = Situation(owners=WITH_READY_PODS, fault=NODE).decided()
    assert isinstance(first, Wait)
    assert (NOW + timedelta(seconds=30), Reason.NEXT_TRY) == (first.until, first.reason)
    plan = Situation(owners=WITH_READY_PODS, fault=replace(NODE, tries=2)).decided()
    assert isinstance(plan, Failover)
    assert ((PODS,), Fault.NODE) == (plan.steps, plan.fault)
    assert "its template stays, since quay.io answers Saffire, so the fault is of the node, or passes" == plan.note


def test_any_failure_takes_a_kubelet_at_its_word() -> None:
    """That is how a source acts whose user asks for it."""
    plan = Situation(owners=WITH_READY_PODS, fault=NODE, sources=spelled(trigger="AnyFailure")).decided()
    assert isinstance(plan, Failover)
    assert (TEMPLATE,) == plan.steps


def test_an_event_alone_is_looked_at_again_once_the_status_may_show_the_failure() -> None:
    """Whoever may create Events could have made it up."""
    plan = Situation(fault=replace(NODE, in_status=False, tries=9)).decided()
    assert isinstance(plan, Wait)
    assert (NOW + timedelta(seconds=2), Reason.NEXT_TRY) == (plan.until, plan.reason)


@pytest.mark.parametrize("kind", ["Pod", "Job"])
def test_a_pod_without_a_rollout_above_it_moves_at_once_to_the_same_image(kind: str) -> None:
    """Nothing healthy is touched, and the image is proven to be the same."""
    image = f"{FAILING}@sha256:{'1' * 64}"
    answers: dict[str, Availability] = {
        repository.replace(FAILING, image): Available(digest=f"sha256:{'1' * 64}")
        for repository in (SECOND + f"@sha256:{'1' * 64}",)
    }
    situation = Situation(
        image=image, pod=pod(waiting(image=image), web=image), owners=chain(kind, web=image), fault=NODE
    )
    gathered = replace(situation.gathered, evidence=Evidence(answers=answers))
    plan = decide(situation.failure, gathered, now=NOW)
    assert isinstance(plan, Failover)
    assert ((PODS,), Proof.EQUAL) == (plan.steps, plan.proof)


def test_a_node_from_which_the_alternative_fails_too_is_left() -> None:
    """The pod was moved, its node cannot pull the alternative, and the alternative's registry answers Saffire."""
    for_node = moved(FAILING, SECOND, NOW - MINUTE, fault=Fault.NODE)
    moved_pod = remembering(pod(waiting(image=SECOND), web=SECOND), for_node)
    situation = Situation(image=SECOND, pod=moved_pod, owners=chain("Deployment", web=FAILING), fault=NODE)
    plan = situation.decided()
    assert isinstance(plan, Leave)
    assert (Reason.NODE_FAULT, "the pod's node cannot pull from ghcr.io either, which answers Saffire") == (
        plan.reason,
        plan.detail,
    )


AFTER_OUTAGE = moved(FAILING, SECOND, NOW - 9 * MINUTE, fault=Fault.OUTAGE)
AFTER_NODE = replace(AFTER_OUTAGE, fault=Fault.NODE)


def after_failovers(*entries: Entry, ready: int = 4) -> Situation:
    """Return a situation in which a template was moved to `SECOND`, which one node cannot pull though it answers."""
    owners = below(
        chain("Deployment", web=SECOND),
        lambda owner: {**remembering(owner, *entries), "status": {"readyReplicas": ready}},
    )
    stuck = pod(waiting(image=SECOND), web=SECOND)
    return Situation(image=SECOND, pod=stuck, owners=owners, fault=replace(NODE, tries=2))


@pytest.mark.parametrize(
    "situation",
    [
        pytest.param(after_failovers(AFTER_OUTAGE), id="outage"),
        pytest.param(
            after_failovers(replace(AFTER_OUTAGE, at=NOW - MINUTE / 6), ready=0),
            id="outage-and-the-original-has-its-cooldown",
        ),
        pytest.param(after_failovers(replace(AFTER_NODE, at=NOW - 90 * MINUTE), AFTER_OUTAGE), id="outage-at-last"),
        pytest.param(after_failovers(replace(AFTER_OUTAGE, fault=Fault.UNPROVEN)), id="unproven"),
        pytest.param(after_failovers(replace(AFTER_OUTAGE, fault="")), id="an-older-version-did-not-say"),
    ],
)
def test_a_node_that_loses_the_alternative_after_an_outage_takes_a_third(situation: Situation) -> None:
    """The original failed for everybody, so that says nothing of this node: its stuck pod moves on, in place."""
    plan = situation.decided()
    assert isinstance(plan, Failover)
    assert (THIRD, (PODS,), Fault.NODE) == (plan.candidate.image, plan.steps, plan.fault)
    # If it cannot pull from there either, the node is to blame, and the pod stays.
    third = remembering(pod(waiting(image=THIRD), web=THIRD), moved(SECOND, THIRD, NOW, fault=Fault.NODE))
    left = replace(situation, image=THIRD, pod=third).decided()
    assert isinstance(left, Leave)
    assert Reason.NODE_FAULT == left.reason


def test_nodes_that_all_lose_the_alternative_after_an_outage_move_the_template_on() -> None:
    """Several nodes say the same: a firewall may let them reach the third registry, and Saffire all of them."""
    situation = after_failovers(AFTER_OUTAGE)
    plan = replace(situation, fault=replace(situation.fault, nodes=2)).decided()
    assert isinstance(plan, Failover)
    assert (THIRD, (TEMPLATE,)) == (plan.candidate.image, plan.steps)


def test_an_hour_after_nodes_could_not_pull_the_original_is_tried_again() -> None:
    """What kept nodes from the original is long over, as far as anybody knows, and it is proven equal."""
    plan = after_failovers(replace(AFTER_NODE, at=NOW - 61 * MINUTE)).decided()
    assert isinstance(plan, Failover)
    assert (FAILING, (PODS,), Fault.NODE) == (plan.candidate.image, plan.steps, plan.fault)


def test_a_template_that_moved_since_nodes_could_not_pull_is_not_moved_on_for_a_node() -> None:
    """Both registries answer Saffire. Another failover would help the nodes no more than the first."""
    plan = after_failovers(AFTER_NODE).decided()
    assert isinstance(plan, Leave)
    assert Reason.NODE_FAULT == plan.reason


def test_a_node_fault_does_not_pass_because_it_lasts() -> None:
    """The pull began to fail soon after the failover, and has failed for hours since."""
    situation = after_failovers(replace(AFTER_NODE, at=NOW - 300 * MINUTE))
    plan = replace(situation, fault=replace(situation.fault, failing_for=250 * MINUTE)).decided()
    assert isinstance(plan, Leave)
    assert Reason.NODE_FAULT == plan.reason


def test_nothing_goes_back_to_the_original_while_the_alternative_runs_elsewhere() -> None:
    """Only a fail back does, unless an outage of the alternative's registry is proven."""
    owners = below(
        chain("Deployment", web=SECOND),
        lambda owner: {**remembering(owner, moved(FAILING, SECOND, NOW - 9 * MINUTE)), "status": {"readyReplicas": 4}},
    )
    throttled = replace(NODE, answer=Unreachable("it answered 418"), tries=2)
    situation = Situation(
        image=SECOND, pod=pod(waiting(image=SECOND), web=SECOND), owners=owners, cause=Cause.THROTTLED, fault=throttled
    )
    plan = situation.decided()
    assert isinstance(plan, Failover)
    assert THIRD == plan.candidate.image
    outage = replace(situation, fault=OUTAGE).decided()
    assert isinstance(outage, Failover)
    assert FAILING == outage.candidate.image


@pytest.mark.parametrize(("returns", "ago"), [(False, 60), (True, 61), (True, 7 * 24 * 60)])
def test_an_hour_later_the_image_that_was_left_is_a_candidate_again(ago: float, *, returns: bool) -> None:
    """With two repositories there is no other. Until then, the detail says why it is not taken."""
    owners = below(
        chain("Deployment", web=SECOND),
        lambda owner: {
            **remembering(owner, moved(FAILING, SECOND, NOW - ago * MINUTE)),
            "status": {"readyReplicas": 4},
        },
    )
    situation = Situation(
        image=SECOND,
        pod=pod(waiting(image=SECOND), web=SECOND),
        owners=owners,
        sources=(source(PAIR),),
        cause=Cause.THROTTLED,
        fault=FaultEvidence(answer=Throttled(), tries=2),
    )
    plan = decide(
        situation.failure, replace(situation.gathered, evidence=Evidence(answers={FAILING: AVAILABLE})), now=NOW
    )
    if returns:
        assert isinstance(plan, Failover)
        assert (FAILING, (PODS,)) == (plan.candidate.image, plan.steps)
        return
    assert isinstance(plan, Leave)
    why = f"{FAILING}: Deployment/a-deployment left it within the last hour; move it back to quay.io by hand"
    assert (Reason.UNPROVEN, why) == (plan.reason, plan.detail.partition("; ")[2])


# Whose pods are ready

IS_READY: Object = {"status": {"replicas": 4, "readyReplicas": 4}}
NONE_READY: Object = {"status": {"replicas": 4}}


@pytest.mark.parametrize(
    ("moves_at_once", "owners"),
    [
        pytest.param(
            False,
            (workload("ReplicaSet"), {**workload("Rollout"), **IS_READY}, workload("Deployment")),
            id="a-rollout-whose-template-a-deployment-without-pods-has",
        ),
        pytest.param(
            True,
            (workload("ReplicaSet"), {**workload("Rollout"), **NONE_READY}, workload("Deployment")),
            id="such-a-rollout-without-ready-pods",
        ),
        pytest.param(
            False,
            (workload("ReplicaSet"), {**workload("Deployment"), **IS_READY}, workload("Service")),
            id="a-knative-service",
        ),
        pytest.param(
            True,
            (workload("ReplicaSet"), {**workload("Deployment"), **NONE_READY}, workload("Service")),
            id="a-knative-service-without-ready-pods",
        ),
        pytest.param(False, (workload("Service"),), id="nobody-says"),
    ],
)
def test_the_ready_pods_are_those_of_all_owners(owners: tuple[Object, ...], *, moves_at_once: bool) -> None:
    """Nothing is proven: the template moves on a single node's word only if no pod is ready that this could harm."""
    throttled = FaultEvidence(answer=Throttled())
    plan = Situation(owners=Owners(chain=owners), cause=Cause.THROTTLED, fault=throttled).decided()
    if moves_at_once:
        assert isinstance(plan, Failover)
        assert (describe(owners[-1]), (TEMPLATE, PODS)) == (describe(plan.workload), plan.steps)
        return
    assert isinstance(plan, Wait)
    assert Reason.NEXT_TRY is plan.reason


# Somebody else's rollout


def test_a_pod_of_an_old_version_stays_at_its_version() -> None:
    """The rollout of the next version hangs: the stuck pod alone is patched, so the rollout may go on at any time."""
    next_version = workload("Deployment", web="quay.io/acme/web:1.3")
    image: Object = {"f:template": {"f:spec": {"f:containers": {'k:{"name":"web"}': {"f:image": {}}}}}}
    entry = {"manager": "helm", "time": "2026-11-23T01:58:00Z", "fieldsV1": {"f:spec": image}}
    next_version["metadata"]["managedFields"] = [entry]
    situation = Situation(owners=Owners(chain=(workload("ReplicaSet"), next_version)))
    plan = situation.decided()
    assert isinstance(plan, Failover)
    ((patch,),) = render([(situation.pod, [plan])], now=NOW)
    assert ("Pod/web-0", SECOND) == (
        describe(patch.target),
        patched(situation.pod, patch.operations)["spec"]["containers"][0]["image"],
    )


def test_what_fails_after_a_fail_back_moves_to_the_alternative_again() -> None:
    """That the node cannot pull the original says nothing about the alternative, where the workload ran before."""
    there = moved(FAILING, SECOND, NOW - 90 * MINUTE)
    entries = there, moved(SECOND, FAILING, NOW - MINUTE, reason="FailedBack")
    owners = below(chain("Deployment"), lambda owner: {**remembering(owner, *entries), "status": {"readyReplicas": 4}})
    plan = Situation(owners=owners, fault=replace(NODE, tries=2)).decided()
    assert isinstance(plan, Failover)
    assert (SECOND, (PODS,)) == (plan.candidate.image, plan.steps)


def test_a_template_takes_a_candidate_for_all_nodes_of_its_pods() -> None:
    """A candidate for the pod's own node alone is the last resort, in place."""
    own: dict[str, Availability] = {SECOND: AVAILABLE, THIRD: AVAILABLE}
    situation = Situation()
    evidence = Evidence(answers=own, on_all_nodes={SECOND: WrongPlatform(), THIRD: AVAILABLE})
    plan = decide(situation.failure, replace(situation.gathered, evidence=evidence), now=NOW)
    assert isinstance(plan, Failover)
    assert (THIRD, (TEMPLATE,)) == (plan.candidate.image, plan.steps)
    evidence = replace(evidence, on_all_nodes=dict.fromkeys(own, WrongPlatform()))
    plan = decide(situation.failure, replace(situation.gathered, evidence=evidence), now=NOW)
    assert isinstance(plan, Failover)
    assert (SECOND, (PODS,)) == (plan.candidate.image, plan.steps)
    assert f"{SECOND} has no build for every node of Deployment/a-deployment, so its template stays" == plan.note


INDEX = "sha256:" + 64 * "d"
INDEXED = Available(digest=INDEX, manifests=frozenset({"sha256:amd64"}))


@pytest.mark.parametrize(
    ("expected", "own", "image"),
    [
        pytest.param((TEMPLATE,), INDEXED, FAILING, id="the-same-index"),
        pytest.param((TEMPLATE,), Available(digest=INDEX), f"{FAILING}@{INDEX}", id="named-by-its-digest"),
        # CRI-O reports the digest of a manifest, and the failing image may have others.
        pytest.param((PODS,), Available(digest=INDEX), FAILING, id="one-manifest"),
        pytest.param((PODS,), replace(INDEXED, digest="sha256:2", listed=frozenset({INDEX})), FAILING, id="another"),
    ],
)
def test_the_same_image_suits_the_template_that_names_it_now(
    expected: tuple[Step, ...], own: Availability, image: str
) -> None:
    """The cluster has nodes for which the failing image has no build either: the template gets no worse."""
    elsewhere = image.replace("quay.io", "ghcr.io")
    evidence = Evidence(
        answers={elsewhere: own},
        on_all_nodes={elsewhere: WrongPlatform()},
        digests={FAILING: frozenset({INDEX})},
    )
    situation = Situation(
        image=image,
        pod=pod(waiting(image=image), web=image),
        owners=chain("Deployment", web=image),
        sources=(source(["quay.io/acme/web", "ghcr.io/acme/web"]),),
    )
    plan = decide(situation.failure, replace(situation.gathered, evidence=evidence), now=NOW)
    assert isinstance(plan, Failover)
    assert (elsewhere, expected) == (plan.candidate.image, plan.steps)


def test_in_place_only_the_pod_s_own_node_counts() -> None:
    """A candidate for all nodes would be unverified, and the template stays anyway."""
    evidence = Evidence(
        answers={SECOND: AVAILABLE, THIRD: Throttled()}, on_all_nodes={SECOND: WrongPlatform(), THIRD: Throttled()}
    )
    owners = below(chain("Deployment"), lambda owner: {**owner, "status": {"readyReplicas": 3}})
    situation = Situation(owners=owners, fault=replace(NODE, tries=2))
    plan = decide(situation.failure, replace(situation.gathered, evidence=evidence), now=NOW)
    assert isinstance(plan, Failover)
    assert (SECOND, (PODS,)) == (plan.candidate.image, plan.steps)


DEAD = Unreachable("it answered 503", is_silent=True, is_server_error=True)


@pytest.mark.parametrize(
    ("expected", "second", "third", "ready"),
    [
        pytest.param((SECOND, (PODS,)), DEAD, DEAD, 7, id="both-are-down"),
        pytest.param((SECOND, (TEMPLATE,)), DEAD, DEAD, 0, id="no-pod-is-ready"),
        pytest.param((THIRD, (TEMPLATE,)), DEAD, Throttled(), 7, id="the-next-may-be-there"),
        pytest.param((THIRD, (TEMPLATE,)), DEAD, AVAILABLE, 7, id="the-next-is-there"),
    ],
)
def test_no_template_moves_to_a_registry_that_is_down_while_pods_are_ready(
    expected: tuple[str, tuple[Step, ...]], second: Availability, third: Availability, ready: int
) -> None:
    """The rollout would end ready pods, and the new ones could not start either."""
    answers = {SECOND: second, THIRD: third}
    down = frozenset(image for image, answer in answers.items() if answer == DEAD)
    owners = below(chain("Deployment"), lambda owner: {**owner, "status": {"readyReplicas": ready}})
    situation = Situation(owners=owners)
    evidence = Evidence(answers=answers, down=down)
    plan = decide(situation.failure, replace(situation.gathered, evidence=evidence), now=NOW)
    assert isinstance(plan, Failover)
    assert expected == (plan.candidate.image, plan.steps)
    if plan.steps == (PODS,):
        assert "its template stays, since ghcr.io is down too" == plan.note


def test_an_image_volume_is_left_while_every_registry_is_down() -> None:
    """A live pod's volume cannot be changed, and its template is no better off elsewhere."""
    volume = workload("Deployment", section="volumes")
    volume["spec"]["template"]["spec"] = {"volumes": [{"name": "web", "image": {"reference": FAILING}}]}
    owners = Owners(chain=({**volume, "status": {"readyReplicas": 7}},))
    situation = Situation(owners=owners, section=Section.VOLUMES)
    evidence = Evidence(answers={SECOND: DEAD, THIRD: DEAD}, down=frozenset({SECOND, THIRD}))
    plan = decide(situation.failure, replace(situation.gathered, evidence=evidence), now=NOW)
    assert isinstance(plan, Leave)
    assert (Reason.IMAGE_VOLUME, "its template stays, since ghcr.io is down too") == (plan.reason, plan.detail)


# What always holds


@given(gathered_failures())
def test_a_failover_is_allowed_and_goes_elsewhere(drawn: tuple[PullFailure, Gathered]) -> None:
    """It moves to a declared candidate of a source that is neither paused nor strict; no object has opted out."""
    failure, gathered = drawn
    plan = decide(failure, gathered, now=NOW)
    if isinstance(plan, Failover):
        chosen = plan.candidate.source
        assert plan.candidate in candidates(Reference.parse(failure.image), [chosen])
        assert chosen in gathered.sources
        assert plan.candidate.reference.repository != Reference.parse(failure.image).repository
        assert chosen.mode is not Mode.PAUSED
        assert chosen.verification is not Verification.STRICT
        assert plan.observed is (chosen.mode is Mode.OBSERVE)
        lower, top = gathered.owners.chain[:-1], gathered.owners.chain[-1:]
        own = [owner for owner in lower if owner["kind"] != "ReplicaSet"]
        assert not any(map(opted_out, (gathered.namespace, gathered.pod, *own, *top)))


@given(gathered_failures())
def test_an_image_in_its_cooldown_is_never_chosen_and_waiting_always_ends(drawn: tuple[PullFailure, Gathered]) -> None:
    """Neither history has a cooldown of the chosen image; a wait lasts at most ten minutes."""
    failure, gathered = drawn
    plan = decide(failure, gathered, now=NOW)
    if isinstance(plan, Failover):
        for manifest in (plan.workload, gathered.pod):
            until = History.of(manifest).cooling_until("web", plan.candidate.image)
            assert until is None or until <= NOW
    if isinstance(plan, Wait):
        assert NOW < plan.until <= NOW + 10 * MINUTE


@given(gathered_failures())
def test_the_same_values_have_the_same_plan(drawn: tuple[PullFailure, Gathered]) -> None:
    """The decision depends only on its arguments, and not on the order of the sources."""
    failure, gathered = drawn
    assert decide(failure, gathered, now=NOW) == decide(failure, gathered, now=NOW)
    plans = [
        decide(failure, replace(gathered, sources=order), now=NOW)
        for order in (gathered.sources, gathered.sources[::-1])
    ]
    if len({parsed.name for parsed in gathered.sources}) == len(gathered.sources):
        assert plans[0] == plans[1]


@given(gathered_failures())
def test_a_failure_that_check_pod_leaves_stays_left(drawn: tuple[PullFailure, Gathered]) -> None:
    """When the owners are read, `Leave` does not become a failover."""
    failure, gathered = drawn
    leave = check_pod(failure, replace(gathered, owners=Owners()))
    if leave:
        assert leave == decide(failure, gathered, now=NOW)


def test_every_reason_that_is_decided_here_has_a_rung() -> None:
    """A new reason needs a row; the other reasons are given where `decide` is not called, or have tests elsewhere."""
    elsewhere = {Reason.NO_SUCH_POD, Reason.NO_FAILURE, Reason.NO_SOURCE, Reason.ALREADY_MOVED}
    elsewhere |= {Reason.IMAGE_VOLUME, Reason.DENIED, Reason.UNREADABLE}
    assert set(Reason) - elsewhere == {reason for reason, _ in LADDER.values()}


def test_a_recorded_failure_is_decided_from_end_to_end() -> None:
    """A failure in a pod's status leads to a plan for that container."""
    manifest = pod(waiting(reason="ImagePullBackOff", message=f'Back-off pulling image "{FAILING}": x'))
    (failure,) = find_pull_failures(manifest)
    plan = decide(failure, replace(Situation().gathered, pod=manifest), now=NOW)
    assert isinstance(plan, Failover)
    assert failure == plan.failure
