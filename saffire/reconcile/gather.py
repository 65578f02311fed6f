"""
Gathers what the decision about each pod needs, and has `policy.decide` decide.

It gathers no more than the decision needs: it reads owners and asks registries only about pull failures that a failover
may help.

If a registry is down, hundreds of pods fail. Two pods of one controller often differ only in their name and in the
runtime's error text, and a plan uses neither. `pod_traits` returns what a plan uses. Pods with the same traits share
one decision. If pods have other traits, most of what their decision needs was read before. So they are decided about
one after the other: a task for each would take longer than the decision.

A user may give a pod hundreds of containers, and an image hundreds of candidates. So a decision gives way to other
tasks between two failures, and registries are asked about some of the candidates at a time.
"""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import chain

from saffire.concurrency import Turn, gather_in_turns
from saffire.kube.manifest import Manifest, annotation, items, mapping, text, uid_of
from saffire.kube.owners import OwnerLookup
from saffire.kube.workload import Owners, controller_of, describe, is_static, why_not_owned
from saffire.policy.decide import Gathered, Options, check_pod, find_options, pick
from saffire.policy.history import ANNOTATION, NOTHING_RECORDED, RecordedMoves
from saffire.policy.plan import Failover, Leave, Plan, Reason, Step, Wait
from saffire.policy.pull_secrets import pull_secrets
from saffire.policy.reach import Fault
from saffire.policy.verification import Evidence
from saffire.pulls.failure import FailingPod, PullFailure
from saffire.reconcile.candidate_lookup import Lookup
from saffire.reconcile.fault_lookup import FaultLookup
from saffire.record.outcome import PodOutcome
from saffire.registry.availability import NOT_ASKED
from saffire.registry.platforms import Platform
from saffire.sources.candidates import Candidate
from saffire.sources.spec import Verification, opted_out

# The labels by which controllers tell the pods of one workload apart (apps/v1 and batch/v1).
_OF_ONE_POD = frozenset(
    {
        "statefulset.kubernetes.io/pod-name",
        "apps.kubernetes.io/pod-index",
        "batch.kubernetes.io/job-completion-index",
    }
)
# These reasons rest on what is known of the pod's own node and its failed tries.
_OF_ONE_NODE = frozenset({Reason.NODE_FAULT, Reason.IMAGE_VOLUME})
# Registries are asked about so many candidates in one step. Hardly any pod has more.
_PORTION = 64
PodTraits = tuple[object, ...]
"""All facts about a pod that a plan uses. The pod's name and the runtime's error text are not among them."""
_OptionsByFailure = dict[PullFailure, Leave | Options]


@dataclass(frozen=True, kw_only=True, slots=True)
class Decisions:
    """
    Decides about the pods of one namespace, in one repair.

    Args:
        gathered: what all pods of the namespace have in common: the Namespace and the sources that apply to it.
        owners: reads the owners of pods.
        lookup: reads platforms and pull secrets, and asks registries.
        faults: looks up the evidence about the faults behind pull failures.
        now: the time of the repair, in UTC.

    """

    gathered: Gathered
    owners: OwnerLookup
    lookup: Lookup
    faults: FaultLookup
    now: datetime

    async def decide(self, failing_pods: Iterable[FailingPod], *, alone: bool = False) -> tuple[PodOutcome, ...]:
        """
        Decide about each pull failure of each pod, once for all pods with the same traits.

        `alone` says that the other pods of the namespace were not read. Then a plan to wait for the kubelet's next try
        (`Reason.NEXT_TRY`) is preliminary: what the other pods show may allow more.
        """
        plans_by_traits: dict[PodTraits, tuple[Plan, ...]] = {}
        outcomes, turn = [], Turn()
        for failing_pod in failing_pods:
            await turn.give_way()
            traits = self._traits(failing_pod)
            if traits in plans_by_traits:
                plans = plans_for(plans_by_traits[traits], failing_pod.failures)
            else:
                plans = await self._plans(failing_pod, alone=alone)
                if applies_to_alike(plans, failing_pod.pod):
                    # The decision may have read the platform of the pod's node, which is one of its traits.
                    plans_by_traits[self._traits(failing_pod)] = plans
            workload = self.owners.workload_of(failing_pod.pod)
            outcomes.append(PodOutcome(pod=failing_pod.pod, plans=plans, workload=workload))
        return tuple(outcomes)

    def _traits(self, failing_pod: FailingPod) -> PodTraits:
        """Return the traits of a pod. If every source has `verification: Off`, no decision looks at the pod's node."""
        recorded = self.gathered.recorded
        if not self._asks_registries:
            return pod_traits(failing_pod, (), recorded)
        node = text(failing_pod.pod, "spec", "nodeName")
        platforms = self.lookup.cache.nodes.known_platforms(node)
        return pod_traits(failing_pod, node if platforms is None else platforms, recorded)

    async def _plans(self, failing_pod: FailingPod, *, alone: bool) -> tuple[Plan, ...]:
        """Decide about each pull failure of one pod."""
        gathered, turn = replace(self.gathered, pod=failing_pod.pod), Turn()
        left: dict[PullFailure, Leave | None] = {}
        for failure in failing_pod.failures:
            left[failure] = check_pod(failure, gathered)
            await turn.give_way()
        movable = [failure for failure, leave in left.items() if leave is None]
        gathered, options = await self._gather(gathered, movable) if movable else (gathered, {})
        decided: dict[PullFailure, Leave | Options | None] = {**left, **options}
        plans = await self._pick(decided, gathered)
        if alone or not any(map(is_next_try, plans)):
            return plans
        spec = _template_spec(options, failing_pod.pod) or mapping(failing_pod.pod, "spec")
        faults = await self.faults.full_evidence(failing_pod.pod, gathered.faults, spec)
        return await self._pick(decided, replace(gathered, faults=faults))

    async def _pick(
        self, options: Mapping[PullFailure, Leave | Options | None], gathered: Gathered
    ) -> tuple[Plan, ...]:
        """Return the plan for each pull failure: `options` has its candidates, or why nothing is done."""
        plans: list[Plan] = []
        turn = Turn()
        for option in options.values():
            if option is not None:
                plans.append(pick(option, gathered, now=self.now) if isinstance(option, Options) else option)
                await turn.give_way()
        return tuple(plans)

    async def _gather(self, gathered: Gathered, failures: Sequence[PullFailure]) -> tuple[Gathered, _OptionsByFailure]:
        """Gather a pod's owners, registries' answers and digests; find the candidates (options) for each failure."""
        images = [failure.image for failure in failures]
        gathering = self._gather_evidence(gathered, failures)
        if self._asks_registries and not all(map(self.lookup.digests_of, images)):
            # Running pods tell which digests the failing images have.
            (gathered, options), _ = await asyncio.gather(gathering, self.lookup.observe_siblings(gathered.pod))
        else:
            gathered, options = await gathering
        digests = {image: self.lookup.digests_of(image) for image in images}
        return replace(gathered, evidence=replace(gathered.evidence, digests=digests)), options

    async def _gather_evidence(
        self, gathered: Gathered, failures: Sequence[PullFailure]
    ) -> tuple[Gathered, _OptionsByFailure]:
        """Gather the pod's owners, find the candidates (options) for each failure, and ask registries about these."""
        gathered, turn = replace(gathered, owners=await self._owners(gathered.pod)), Turn()
        options: _OptionsByFailure = {}
        for failure in failures:
            options[failure] = find_options(failure, gathered, now=self.now)
            await turn.give_way()
        open_options = {failure: option for failure, option in options.items() if isinstance(option, Options)}
        usable = (candidate for option in open_options.values() for candidate in option.usable)
        to_check = [candidate for candidate in usable if candidate.source.verification is not Verification.OFF]
        if not self._asks_registries or not open_options:
            return replace(gathered, faults=self.faults.first_evidence(dict.fromkeys(open_options, NOT_ASKED))), options
        evidence, answers = await asyncio.gather(
            self._check(gathered.pod, to_check, _template_spec(options, gathered.pod)),
            self.faults.answers(gathered.pod, open_options),
        )
        evidence = replace(evidence, down=self.faults.known_down({**evidence.answers, **evidence.on_all_nodes}))
        return replace(gathered, evidence=evidence, faults=self.faults.first_evidence(answers)), options

    async def _check(self, pod: Manifest, candidates: Sequence[Candidate], template: Manifest | None) -> Evidence:
        """
        Ask registries about all candidates at the same time.

        The questions of a pod with hundreds of candidates are made in portions, between which other tasks run.
        """
        secrets, node = pull_secrets(pod), text(pod, "spec", "nodeName")
        if len(candidates) <= _PORTION:
            return await self.lookup.check_candidates(candidates, secrets, node, template)
        portions = (candidates[start : start + _PORTION] for start in range(0, len(candidates), _PORTION))
        evidence = await gather_in_turns(
            self.lookup.check_candidates(portion, secrets, node, template) for portion in portions
        )
        return Evidence(
            answers=dict(chain.from_iterable(part.answers.items() for part in evidence)),
            secrets=dict(chain.from_iterable(part.secrets.items() for part in evidence)),
            on_all_nodes=dict(chain.from_iterable(part.on_all_nodes.items() for part in evidence)),
        )

    async def _owners(self, pod: Manifest) -> Owners:
        """Read the owners of a pod. Read the platform of the pod's node at the same time, since it is needed next."""
        nodes, node = self.lookup.cache.nodes, text(pod, "spec", "nodeName")
        if self.owners.knows(pod) or not self._asks_registries or nodes.known_platforms(node) is not None:
            return await self.owners.owners_of(pod)
        owners, _ = await asyncio.gather(self.owners.owners_of(pod), nodes.platforms_of(node))
        return owners

    @property
    def _asks_registries(self) -> bool:
        """Whether Saffire asks registries for at least one source, whose `verification` is not Off."""
        return any(source.verification is not Verification.OFF for source in self.gathered.sources)


def is_next_try(plan: Plan) -> bool:
    """Tell whether a plan waits for the kubelet's own next try, since no outage is proven."""
    return isinstance(plan, Wait) and plan.reason is Reason.NEXT_TRY


def _template_spec(options: Mapping[PullFailure, Leave | Options], pod: Manifest) -> Manifest | None:
    """
    Return the spec of the pod template that a failover would patch; `None` if it would patch none.

    The tolerations are those of `pod`: admission, and the controller of a DaemonSet, give pods more than the template.
    """
    for option in options.values():
        if isinstance(option, Options) and option.target.image_field:
            spec = mapping(option.target.workload, *option.target.image_field.template, "spec")
            return {**spec, "tolerations": list(items(pod, "spec", "tolerations"))}
    return None


# Pods that share a decision


def pod_traits(
    failing_pod: FailingPod, node: tuple[Platform, ...] | str, recorded: RecordedMoves = NOTHING_RECORDED
) -> PodTraits:
    """
    Return the traits of a pod; pods with equal traits have equal plans.

    Args:
        failing_pod: the pod, with its pull failures.
        node: the platform of the pod's node; the name of the node if Saffire has not read its platform.
        recorded: the failovers that the status of sources has.

    """
    pod = failing_pod.pod
    return (
        controller_of(pod) or uid_of(pod),
        tuple(
            (
                *(failure.section, failure.container, failure.image, failure.reason),
                *(failure.cause, failure.is_of_part, failure.in_status),
            )
            for failure in failing_pod.failures
        ),
        node,
        pull_secrets(pod),
        annotation(pod, ANNOTATION),
        recorded.named_like(pod),
        # By its labels and its name, a pod belongs to its owners, and to a revision of their template.
        frozenset((key, value) for key, value in mapping(pod, "metadata", "labels").items() if key not in _OF_ONE_POD),
        bool(why_not_owned(pod, Owners())),
        (opted_out(pod), is_static(pod)),
        (text(pod, "metadata", "deletionTimestamp"), text(pod, "status", "phase")),
    )


def applies_to_alike(plans: Iterable[Plan], pod: Manifest) -> bool:
    """Tell whether the plans for a pod are valid for all pods with the same traits."""
    return not any(_is_of_pod_alone(plan, pod) for plan in plans)


def plans_for(plans: Iterable[Plan], failures: Iterable[PullFailure]) -> tuple[Plan, ...]:
    """
    Copy the plans of one pod for another pod with the same traits.

    Each plan gets the pull failure of the other pod at the same position in `failures`.
    """
    return tuple(replace(plan, failure=failure) for plan, failure in zip(plans, failures, strict=True))


def _is_of_pod_alone(plan: Plan, pod: Manifest) -> bool:
    """
    Tell whether a plan is valid for this pod alone.

    That is so if the pod is the workload, if the plan gives the template the pull secrets of the pod, if the plan
    quotes the pod's name, or if the plan depends on the pod's node or on how often this pod has failed. It does if no
    outage is proven, and the template stays.
    """
    match plan:
        case Failover():
            is_limited = plan.fault is not Fault.OUTAGE and plan.steps == (Step.PODS,)
            return plan.workload is pod or plan.missing_secret is not None or is_limited
        case Wait():
            return is_next_try(plan)
        case Leave():
            return plan.reason in _OF_ONE_NODE or describe(pod) in plan.detail
