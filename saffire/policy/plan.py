"""
Plans: what is done about one pull failure, or why nothing is.

A plan is a value: `Failover` (move the container to this candidate), `FailBack` (move it back to its original), `Wait`
(every candidate that would do failed lately) or `Leave` (nothing, for this `Reason`). `decide` makes the first, third
and fourth; `failback` makes the second.
"""

from dataclasses import dataclass
from datetime import datetime
from enum import Enum, StrEnum, auto

from saffire.kube.manifest import Manifest
from saffire.kube.workload import ImageField
from saffire.pulls.failure import PullFailure
from saffire.registry.availability import Proof
from saffire.registry.reference import Reference
from saffire.sources.candidates import Candidate


class Reason(StrEnum):
    """Why nothing is done."""

    NO_SUCH_POD = "NoSuchPod"
    NO_FAILURE = "NoPullFailure"
    NO_SOURCE = "NoSource"
    CANNOT_HELP = "AnotherRepositoryCannotHelp"
    INVALID_REFERENCE = "InvalidReference"
    NOT_LISTED = "RepositoryNotListed"
    PAUSED = "Paused"
    OPTED_OUT = "OptedOut"
    TERMINATING = "PodTerminating"
    FINISHED = "PodFinished"
    STATIC_POD = "StaticPod"
    EPHEMERAL_CONTAINER = "EphemeralContainer"
    IMAGE_VOLUME = "ImageVolume"
    OWNER_UNSEEN = "OwnerNotReadable"
    ROLLOUT = "RolloutInProgress"
    UNPROVEN = "CandidateNotProven"
    UNREADABLE = "PullSecretMissing"
    EXHAUSTED = "NoCandidateLeft"
    ALREADY_MOVED = "AlreadyMoved"
    DENIED = "PatchDenied"


@dataclass(frozen=True, kw_only=True, slots=True)
class Leave:
    """Nothing: `reason` names the rung and `detail` what made it so; `failure` is `None` where there was none."""

    reason: Reason
    detail: str = ""
    failure: PullFailure | None = None


class Step(Enum):
    """One kind of patch."""

    TEMPLATE = auto()
    PODS = auto()


@dataclass(frozen=True, kw_only=True, slots=True)
class MissingSecret:
    """The pull secret without which a pod cannot read an alternative, and those that the pod `has`, by name."""

    secret: str
    pod_secrets: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Failover:
    """
    Move one container to `candidate`.

    `workload` is the object the record names, `steps` what to patch, in order, and `slot` where its template names the
    image; `observed` says that the source only watches, so that nothing is patched; `note` is what an operator should
    know besides; `lack` is what the template has to name for its pods to read the candidate, and `left` says why the
    pod itself is not freed by that.
    """

    failure: PullFailure
    candidate: Candidate
    workload: Manifest
    steps: tuple[Step, ...]
    image_field: ImageField | None = None
    proof: Proof = Proof.UNVERIFIED
    observed: bool = False
    note: str = ""
    missing_secret: MissingSecret | None = None
    left: Leave | None = None

    def images(self, step: Step) -> tuple[str, str]:
        """Return the images from and to, as the object of that step writes them."""
        if step is Step.PODS or self.image_field is None:
            return self.failure.image, self.candidate.image
        return self.image_field.image, spell_candidate(self.candidate, self.failure, self.image_field)


@dataclass(frozen=True, kw_only=True, slots=True)
class FailBack(Failover):
    """Move one container back to its original: the candidate is that, and the failure is to be away from it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Wait:
    """Nothing now: every candidate failed lately; the first may be tried again at `until`."""

    failure: PullFailure
    until: datetime
    reason: Reason = Reason.EXHAUSTED


Plan = Failover | Wait | Leave


def spell_candidate(candidate: Candidate, failure: PullFailure, slot: ImageField | None) -> str:
    """Return the candidate with the tag that the template has, where the pod has the digest it was resolved to."""
    if slot is None or slot.image == failure.image:
        return candidate.image
    repository = candidate.image.removesuffix(candidate.reference.suffix)
    return repository + Reference.parse(slot.image).suffix
