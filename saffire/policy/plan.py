"""
Plans: what is done about one pull failure, or why nothing is done.

A plan is a value of one of four types. `Failover` moves the container to a candidate. `FailBack` moves it back to its
original. `Wait` does nothing now, since every usable candidate failed lately. `Leave` does nothing, for a `Reason`.
`failback` makes each `FailBack`, and `decide` the others.

For some kinds a patch of the template alone does not free the stuck pods; for others a patch of the pods in place does
not. So each kind has its own *steps*, in order:

=====================================  ===========================================================
Deployment, rolling with surge         template: new pods start beside the stuck ones
Deployment, maxSurge 0                 pods, template: the rollout would replace the pods one by one
Deployment, Recreate                   pods, template: the rollout ends every old pod before any new one
Deployment, paused                     pods, template: the template takes effect on resume
ReplicaSet, ReplicationController      template, pods: existing pods never follow the template
StatefulSet                            template, pods: an ordered rollout waits for a stuck pod for ever
DaemonSet                              pods, template: a pod freed in place serves its node during the rollout
CronJob                                template, pods: the stuck Job may forbid all later ones
Job, Pod                               pods: a Job's template is immutable
a foreign kind                         template, pods: its controller may hold back old pods, or new ones
=====================================  ===========================================================
"""

from dataclasses import dataclass
from datetime import datetime
from enum import Enum, StrEnum, auto

from saffire.kube.kinds import Kind
from saffire.kube.manifest import Manifest, mapping, text
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
    """Do nothing, for `reason`; `detail` names the fact behind it, and `failure` is `None` if there was no failure."""

    reason: Reason
    detail: str = ""
    failure: PullFailure | None = None


class Step(Enum):
    """A kind of patch: of the workload's template, or of the pods in place."""

    TEMPLATE = auto()
    PODS = auto()


def steps(manifest: Manifest, kind: Kind | None) -> tuple[Step, ...]:
    """Return the steps that free the stuck pods of a workload, in order, by the table above; a bare pod has no kind."""
    if kind is None or kind.template is None:
        return (Step.PODS,)
    match (kind.group, kind.name):
        case ("apps", "Deployment"):
            return (Step.TEMPLATE,) if _surges(manifest) else (Step.PODS, Step.TEMPLATE)
        case ("apps", "DaemonSet"):
            return (Step.PODS, Step.TEMPLATE)
        case _:
            return (Step.TEMPLATE, Step.PODS)


def _surges(deployment: Manifest) -> bool:
    """Tell whether a rollout starts new pods before it ends old ones (`spec.strategy.rollingUpdate.maxSurge`)."""
    if mapping(deployment, "spec").get("paused") is True or text(deployment, "spec", "strategy", "type") == "Recreate":
        return False
    surge = mapping(deployment, "spec", "strategy", "rollingUpdate").get("maxSurge", "25%")
    return str(surge) not in {"0", "0%"}


@dataclass(frozen=True, kw_only=True, slots=True)
class MissingSecret:
    """The name of the pull secret that a pod lacks for an alternative, and the names of the secrets that it has."""

    secret: str
    pod_secrets: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Failover:
    """
    Move one container to `candidate`.

    `workload` is the object that the record names, `steps` are the patches in order, and `image_field` is the field of
    the workload's template that names the image. `observed` says that the source is in mode Observe, so that nothing is
    patched. `note` is a fact for the operator. `missing_secret` is the pull secret that the template has to name, so
    that its pods can pull from the candidate; then `pod_leave` says why the live pod stays as it is.
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
    pod_leave: Leave | None = None

    def images(self, step: Step) -> tuple[str, str]:
        """Return the images before and after, as the object that this step patches writes them."""
        if step is Step.PODS or self.image_field is None:
            return self.failure.image, self.candidate.image
        return self.image_field.image, spell_candidate(self.candidate, self.failure, self.image_field)


@dataclass(frozen=True, kw_only=True, slots=True)
class FailBack(Failover):
    """Move one container back to its original: `candidate` is the original, `failure` names the alternative."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Wait:
    """Do nothing now: every candidate failed lately, and the first may be tried again at `until`."""

    failure: PullFailure
    until: datetime
    reason: Reason = Reason.EXHAUSTED


Plan = Failover | Wait | Leave


def spell_candidate(candidate: Candidate, failure: PullFailure, image_field: ImageField | None) -> str:
    """Return the candidate's image; if the template has a tag and the pod the digest of that tag, with the tag."""
    if image_field is None or image_field.image == failure.image:
        return candidate.image
    repository = candidate.image.removesuffix(candidate.reference.suffix)
    return repository + Reference.parse(image_field.image).suffix
