"""
Plans: what Saffire does about one pull failure, or why it does nothing.

A plan is a value of one of four types. With a `Failover`, Saffire moves the container to a candidate, which is the same
image in another repository. With a `FailBack`, Saffire moves the container back to its original image. With a `Wait`,
Saffire does nothing now, since every candidate that might do failed lately. With a `Leave`, Saffire does nothing, for a
`Reason`. The module `failback` makes each `FailBack`, and the module `decide` makes the other plans.

For some kinds, a patch of the workload's template alone does not free the stuck pods. For other kinds, a patch of the
pods in place does not. So each kind has its own *steps*, which are patches in this order:

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
    """Why Saffire does nothing about a pull failure, or about a pod."""

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
    """
    Do nothing, for `reason`.

    `detail` names the fact behind the reason; `""` if the reason says all. `failure` is the pull failure; `None` if the
    pod has none.
    """

    reason: Reason
    detail: str = ""
    failure: PullFailure | None = None


class Step(Enum):
    """What a patch changes: the workload's template, or the pods in place."""

    TEMPLATE = auto()
    PODS = auto()


def steps(manifest: Manifest, kind: Kind | None) -> tuple[Step, ...]:
    """
    Return the steps that free the stuck pods of a workload, in order, by the table at the top of this module.

    `kind` is the kind of the workload `manifest`, or `None` for a kind that Saffire does not know. A Pod and a Job have
    no template that can be patched.
    """
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
    """
    The name of the pull secret that a pod lacks for the candidate to which Saffire moves the container.

    `pod_secrets` are the names of the pull secrets that the pod has.
    """

    secret: str
    pod_secrets: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Failover:
    """
    Move one container to `candidate`, which is the same image in another repository.

    `workload` is the workload that Events and the source's status name for this failover. `steps` are the patches, in
    order. `image_field` is the field of the workload's template that names the image; `None` if only the pod is
    patched. `proof` is what is known of the candidate. `observed` says that the source is in mode Observe, so that
    Saffire patches nothing. `note` is a fact for the operator; `""` if there is none. `missing_secret` is the pull
    secret that the template has to name, so that its pods can pull the candidate; `None` if no secret is missing. If
    a secret is missing and the steps were template, then pods, `pod_leave` says why the live pod stays as it is.
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
        """Return the old and the new image, each as the object that `step` patches spells it."""
        if step is Step.PODS or self.image_field is None:
            return self.failure.image, self.candidate.image
        return self.image_field.image, spell_candidate(self.candidate, self.failure, self.image_field)


@dataclass(frozen=True, kw_only=True, slots=True)
class FailBack(Failover):
    """
    Move one container back to its original, the image from which Saffire moved it.

    `candidate` is the original. `failure` is no pull failure here: its image is the alternative, which the container
    runs.
    """


@dataclass(frozen=True, kw_only=True, slots=True)
class Wait:
    """Do nothing now: each candidate failed lately or will not do. At `until`, Saffire may try one of them again."""

    failure: PullFailure
    until: datetime
    reason: Reason = Reason.EXHAUSTED


Plan = Failover | Wait | Leave


def spell_candidate(candidate: Candidate, failure: PullFailure, image_field: ImageField | None) -> str:
    """
    Return the image of a candidate as the workload's template has to spell it.

    The template may spell the failing image in another way than the pod: with a tag, where the pod has the digest of
    that tag. Then the result has the candidate's repository, and the template's tag.
    """
    if image_field is None or image_field.image == failure.image:
        return candidate.image
    repository = candidate.image.removesuffix(candidate.reference.suffix)
    return repository + Reference.parse(image_field.image).suffix
