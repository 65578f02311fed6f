"""
Gathers what each pod's decision needs, as far as it matters, and has `policy.decide` decide.

A dead registry fails pods by the hundred, and what tells one pod from the next is often only its name and the runtime's
text. So pods of one controller that have the same `PodTraits`, which is all that a plan looks at, are decided about
once. Of the others most is known by then: what needs no request is done without a task of its own, which would take
longer than the rest.
"""

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from saffire.kube.manifest import Manifest, annotation, text, uid_of
from saffire.kube.owners import OwnerLookup
from saffire.kube.workload import Owners, controller_of, describe, is_static
from saffire.policy.decide import Gathered, Options, check_pod, find_options, pick
from saffire.policy.history import ANNOTATION
from saffire.policy.plan import Failover, Leave, Plan, Wait
from saffire.policy.pull_secrets import pull_secrets
from saffire.pulls.failure import FailingPod, PullFailure
from saffire.reconcile.lookup import Lookup
from saffire.record.outcome import PodOutcome
from saffire.registry.platforms import Platform
from saffire.sources.spec import Verification, opted_out

PodTraits = tuple[object, ...]
"""All that a plan looks at in a pod, but for its name and the runtime's text."""


def pod_traits(case: FailingPod, node: tuple[Platform, ...] | str) -> PodTraits:
    """
    Return what pods that share a plan have in common.

    `node` is what a plan may know of the pod's node: its platform, or where that is not known its name.
    """
    pod = case.pod
    return (
        controller_of(pod) or uid_of(pod),
        tuple((one.section, one.container, one.image, one.reason, one.cause) for one in case.failures),
        node,
        pull_secrets(pod),
        annotation(pod, ANNOTATION),
        (opted_out(pod), is_static(pod)),
        (text(pod, "metadata", "deletionTimestamp"), text(pod, "status", "phase")),
    )


def applies_to_alike(plans: Iterable[Plan], pod: Manifest) -> bool:
    """Tell whether the plans for a pod are those for all that are like it."""
    return not any(_is_its_own(plan, pod) for plan in plans)


def plans_for(plans: Iterable[Plan], failures: Iterable[PullFailure]) -> tuple[Plan, ...]:
    """Return the plans for the failures of one pod as those for the same failures of a pod that is like it."""
    return tuple(replace(plan, failure=failure) for plan, failure in zip(plans, failures, strict=True))


def _is_its_own(plan: Plan, pod: Manifest) -> bool:
    """Tell whether a plan has the pod for its workload, gives a template what the pod was given, or quotes its name."""
    match plan:
        case Failover():
            return plan.workload is pod or plan.missing_secret is not None
        case Wait():
            return False
        case Leave():
            return describe(pod) in plan.detail


_OptionsByFailure = dict[PullFailure, Leave | Options]


@dataclass(frozen=True, kw_only=True, slots=True)
class Decisions:
    """
    Decisions about the pods of one namespace, in one repair.

    Args: scene: what all of them share. lineage, survey: who finds out about each. now: the time of the repair.
    """

    gathered: Gathered
    owners: OwnerLookup
    lookup: Lookup
    now: datetime

    async def decide(self, cases: Iterable[FailingPod]) -> tuple[PodOutcome, ...]:
        """Decide about each failure of pods, once for all that are alike; owners are read only if they matter."""
        decided: dict[PodTraits, tuple[Plan, ...]] = {}
        verdicts = []
        for case in cases:
            alike = self._traits(case)
            if alike in decided:
                plans = plans_for(decided[alike], case.failures)
            else:
                plans = await self._plans(case)
                if applies_to_alike(plans, case.pod):
                    decided[self._traits(case)] = plans  # by now more may be known of its node
            verdicts.append(PodOutcome(pod=case.pod, plans=plans))
        return tuple(verdicts)

    def _traits(self, case: FailingPod) -> PodTraits:
        """Return what tells a pod from others; without verification nobody looks at its node."""
        if not self._wants_proof:
            return pod_traits(case, ())
        platforms = self.lookup.cache.known_platforms(case.pod)
        return pod_traits(case, text(case.pod, "spec", "nodeName") if platforms is None else platforms)

    async def _plans(self, case: FailingPod) -> tuple[Plan, ...]:
        """Decide about each failure of one pod."""
        scene = replace(self.gathered, pod=case.pod)
        left = {failure: check_pod(failure, scene) for failure in case.failures}
        screened = [failure for failure, leave in left.items() if leave is None]
        scene, found = await self._gather(scene, screened) if screened else (scene, {})
        plans: list[Plan] = []
        for failure in case.failures:
            one = left[failure] or found[failure]
            plans.append(one if isinstance(one, Leave) else pick(one, scene))
        return tuple(plans)

    async def _gather(self, scene: Gathered, failures: Sequence[PullFailure]) -> tuple[Gathered, _OptionsByFailure]:
        """Return the scene with all that is known of the pod and its candidates, and what may be tried."""
        images = [failure.image for failure in failures]
        asking = self._gather_evidence(scene, failures)
        if self._wants_proof and not all(map(self.lookup.digests_of, images)):
            # Running pods tell what the failing images are.
            (scene, found), _ = await asyncio.gather(asking, self.lookup.observe_siblings(scene.pod))
        else:
            scene, found = await asking
        digests = {image: self.lookup.digests_of(image) for image in images}
        return replace(scene, evidence=replace(scene.evidence, digests=digests)), found

    async def _gather_evidence(
        self, scene: Gathered, failures: Sequence[PullFailure]
    ) -> tuple[Gathered, _OptionsByFailure]:
        """Return the scene with the pod's owners, and with what registries say of what may be tried."""
        scene = replace(scene, owners=await self._owners(scene.pod))
        found = {failure: find_options(failure, scene, now=self.now) for failure in failures}
        ready = (one for prospect in found.values() if isinstance(prospect, Options) for one in prospect.ready)
        asked = [one for one in ready if one.source.verification is not Verification.OFF]
        return replace(scene, evidence=await self.lookup.check_candidates(scene.pod, asked)) if asked else scene, found

    async def _owners(self, pod: Manifest) -> Owners:
        if self.owners.knows(pod) or not self._wants_proof or self.lookup.cache.known_platforms(pod) is not None:
            return await self.owners.owners_of(pod)
        # Which platform the node has is asked for early: it is known when the owners are.
        owners, _ = await asyncio.gather(self.owners.owners_of(pod), self.lookup.cache.platforms_of(pod))
        return owners

    @property
    def _wants_proof(self) -> bool:
        return any(source.verification is not Verification.OFF for source in self.gathered.sources)
