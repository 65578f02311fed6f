"""
Plans: what Saffire does about one pull failure, or why it does nothing.

A plan is a value of one of three types. With a `Failover`, Saffire moves the container to a candidate, which is the
same image in another repository, or back to its original image, which is a *fail back*. With a `Wait`, Saffire does
nothing now. With a `Leave`, Saffire does nothing, for a `Reason`. The module `failback` plans fail backs, and the
module `decide` makes the other plans.

A workload has *settled* if its controller has nothing left to do. For many kinds, a rollout of the template replaces
the stuck pods by itself: a patch of these pods besides would only start them twice. Other kinds need patches of the
pods in place. So each kind has its own *steps*, which are patches in the order that settles the workload first:

=====================================  ===========================================================
Deployment, rolling with surge         template: new pods start beside the stuck ones
Deployment, maxSurge 0                 template: the rollout replaces stuck pods first
                                       if pods are ready: pods, template: no stuck pod waits for the rollout of others
Deployment, Recreate                   template: every old pod ends at once
                                       if pods are ready: pods: the rollout would end the ready ones too
DaemonSet                              template: the rollout replaces stuck pods first
Deployment, DaemonSet whose            like Deployment, Recreate
maxUnavailable is all pods
StatefulSet, Parallel                  template: the rollout replaces one pod after the other
                                       if pods are ready: pods, then template once all are: ready pods may go first
StatefulSet, ordered                   template, pods: the rollout waits for a stuck pod for ever
StatefulSet, Recreate (KEP-3541)       like that of a Deployment
StatefulSet, OnDelete or partition     template, pods: no rollout replaces all pods
DaemonSet, OnDelete                    pods, template: no rollout replaces the pods
Deployment, paused                     pods, template: the template takes effect on resume
ReplicaSet, ReplicationController      template, pods: existing pods never follow the template
CronJob                                template, pods: the stuck Job may forbid all later ones
Job, Pod                               pods: a Job's template is immutable
a foreign kind                         template, pods: its controller may hold back old pods, or new ones
=====================================  ===========================================================

The pods of an ordered StatefulSet are *adopted*, so that the rollout does not replace them again (`policy.adoption`).
"""

from dataclasses import dataclass, replace
from datetime import datetime
from enum import Enum, StrEnum, auto

from saffire.kube.kinds import Kind
from saffire.kube.manifest import Manifest, mapping, number, text
from saffire.kube.workload import ImageField, ready_pods
from saffire.policy.reach import Fault
from saffire.pulls.failure import PullFailure, Section
from saffire.registry.availability import Proof
from saffire.registry.reference import Reference
from saffire.sources.candidates import Candidate

_NO_SURGE = {"0", "0%"}
_ALL_PERCENT = 100


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
    NEXT_TRY = "AwaitingNextTry"
    NODE_FAULT = "NodeCannotPull"
    TAKEN_DOWN = "MayBeTakenDown"
    REVERTED = "RevertedTwice"
    ALREADY_MOVED = "AlreadyMoved"
    DENIED = "PatchDenied"


@dataclass(frozen=True, kw_only=True, slots=True)
class Reversion:
    """
    A failover that somebody undid together with the history annotation, as `status.reversions` of a source has it.

    `workload` is the workload that the record of the failover names. `container` was moved from the image `before` to
    `after`, at the time `at`, by the source of the name `source`. `pod` is the name of the pod that was moved in place;
    `""` if the template was. `by` names the field manager or the owner that put the image back. `opted_out` says that
    the workload had opted out until its annotations were lost.
    """

    workload: Manifest
    container: str
    before: str
    after: str
    at: datetime
    source: str
    pod: str = ""
    by: str = ""
    opted_out: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Leave:
    """
    Do nothing, for `reason`.

    `detail` names the fact behind the reason; `""` if the reason says all. `failure` is the pull failure; `None` if the
    pod has none. `reversions` are the failovers of this container that were undone.
    """

    reason: Reason
    detail: str = ""
    failure: PullFailure | None = None
    reversions: tuple[Reversion, ...] = ()


class Step(Enum):
    """What a patch changes: the workload's template, or the pods in place."""

    TEMPLATE = auto()
    PODS = auto()


class Rollout(Enum):
    """What the controller of a workload does with the pods of the old template, once the template changes."""

    SURGES = auto()
    """It starts new pods before it ends old ones."""
    IN_TURN = auto()
    """
    It ends one old pod, or a few, before it starts new ones in their place.

    It begins with pods that are stuck. A parallel StatefulSet is an exception (`ends_ready_pods_first`).
    """
    AT_ONCE = auto()
    """It ends all old pods, or may do so (`maxUnavailable`), before any new one runs."""
    WAITS = auto()
    """It replaces one pod after the other, and waits for a stuck pod for ever."""
    NONE = auto()
    """It leaves at least some of the old pods as they are."""

    @classmethod
    def of(cls, manifest: Manifest, kind: Kind | None) -> "Rollout":
        """Return what happens to the pods of the workload `manifest`; `NONE` for kinds outside the group `apps`."""
        if kind is None or kind.group != "apps":
            return cls.NONE
        strategy = mapping(manifest, "spec", "strategy" if kind.name == "Deployment" else "updateStrategy")
        rolling, strategy_type = mapping(strategy, "rollingUpdate"), text(strategy, "type")
        match kind.name:
            case "Deployment" if mapping(manifest, "spec").get("paused") is not True:
                if strategy_type == "Recreate" or _may_end_all(number(manifest, "spec", "replicas"), rolling, "25%"):
                    return cls.AT_ONCE
                return cls.IN_TURN if str(rolling.get("maxSurge", "25%")) in _NO_SURGE else cls.SURGES
            case "DaemonSet" if strategy_type != "OnDelete":
                if _may_end_all(number(manifest, "status", "desiredNumberScheduled"), rolling, "1"):
                    return cls.AT_ONCE
                return cls.IN_TURN if str(rolling.get("maxSurge", "0")) in _NO_SURGE else cls.SURGES
            case "StatefulSet" if strategy_type == "Recreate":  # KEP-3541
                return cls.AT_ONCE
            case "StatefulSet" if strategy_type != "OnDelete" and not number(rolling, "partition"):
                is_parallel = text(manifest, "spec", "podManagementPolicy") == "Parallel"
                return cls.IN_TURN if is_parallel else cls.WAITS
            case _:
                return cls.NONE

    @property
    def replaces_stuck_pods(self) -> bool:
        """Whether each stuck pod of the old template is replaced, so that it needs no patch of its own."""
        return self in {Rollout.SURGES, Rollout.IN_TURN, Rollout.AT_ONCE}


def _may_end_all(pods: int, rolling: Manifest, default: str) -> bool:
    """
    Tell whether a rolling update may end all of several pods at once, by its `maxUnavailable`.

    The field has a number of pods, or a percentage of all, which Deployments round down and DaemonSets up. That is the
    same for 100 %.

    >>> [_may_end_all(3, {"maxUnavailable": limit}, "1") for limit in ("100%", "99%", 3, 2)]
    [True, False, True, False]
    """
    limit = str(rolling.get("maxUnavailable", default))
    if limit.endswith("%"):
        return pods > 1 and limit.removesuffix("%").isdecimal() and int(limit.removesuffix("%")) >= _ALL_PERCENT
    return pods > 1 and limit.isdecimal() and int(limit) >= pods


def steps(manifest: Manifest, kind: Kind | None) -> tuple[Step, ...]:
    """
    Return the steps that settle a workload with stuck pods, in order, by the table at the top of this module.

    `kind` is the kind of the workload `manifest`, or `None` for a kind that Saffire does not know. If the template of
    the kind cannot be patched, as of a Job, or if there is none, the only step is the pods.
    """
    if kind is None or kind.template is None:
        return (Step.PODS,)
    is_deployment, is_ready = (kind.group, kind.name) == ("apps", "Deployment"), bool(ready_pods(manifest, kind))
    match Rollout.of(manifest, kind):
        case Rollout.AT_ONCE if is_ready:
            return (Step.PODS,)
        case Rollout.IN_TURN if is_ready and is_deployment:
            return (Step.PODS, Step.TEMPLATE)
        case _ if ends_ready_pods_first(manifest, kind):
            return (Step.PODS, Step.TEMPLATE)
        case Rollout.NONE if is_deployment or (kind.group, kind.name) == ("apps", "DaemonSet"):
            return (Step.PODS, Step.TEMPLATE)
        case Rollout.NONE | Rollout.WAITS:
            return (Step.TEMPLATE, Step.PODS)
        case _:
            return (Step.TEMPLATE,)


def rollout_cost(manifest: Manifest, kind: Kind | None) -> str:
    """Return what a rollout costs the ready pods of a workload, for `Failover.note`; `""` if it costs them nothing."""
    if not ready_pods(manifest, kind):
        return ""
    if ends_ready_pods_first(manifest, kind) and is_unready(manifest):
        return "its template follows once all its pods are ready, since its rollout could end ready pods first"
    match Rollout.of(manifest, kind):
        case Rollout.AT_ONCE:
            return "its template is left alone, since its rollout could end every ready pod before a new one runs"
        case Rollout.IN_TURN | Rollout.WAITS:
            return "its rollout ends each ready pod before it starts a new one in its place"
        case _:
            return ""


def ends_ready_pods_first(manifest: Manifest, kind: Kind | None) -> bool:
    """
    Tell whether a rollout of a workload may end a ready pod while another one is stuck.

    The rollout of a parallel StatefulSet ends the pod with the highest ordinal first, whether it is ready or not
    (kubernetes 1.34, `updateStatefulSet` of stateful_set_control.go). Since 1.37, stuck pods go first
    (kubernetes#137666).
    """
    if kind is None or (kind.group, kind.name) != ("apps", "StatefulSet") or not ready_pods(manifest, kind):
        return False
    is_parallel = text(manifest, "spec", "podManagementPolicy") == "Parallel"
    return is_parallel and text(manifest, "spec", "updateStrategy", "type") in {"", "RollingUpdate"}


def is_unready(stateful_set: Manifest) -> bool:
    """Tell whether a StatefulSet lacks ready pods: `status.readyReplicas` is less than `spec.replicas`."""
    return number(stateful_set, "status", "readyReplicas") < number(stateful_set, "spec", "replicas")


def waits_for_pods(workload: Manifest, steps: tuple[Step, ...]) -> bool:
    """Tell whether the template of a parallel StatefulSet, with these steps, waits until all its pods are ready."""
    return steps == (Step.PODS, Step.TEMPLATE) and text(workload, "kind") == "StatefulSet" and is_unready(workload)


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
    `fault` is what was proven of the fault; `None` if nothing was asked, as for a fail back. `reversions` are earlier
    failovers of this container that somebody undid together with the history annotation.

    `is_back` says that this is a fail back. Then `candidate` is the container's original, the image from which Saffire
    moved it. `failure` is no pull failure: its image is the alternative, which the container runs.
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
    fault: Fault | None = None
    reversions: tuple[Reversion, ...] = ()
    is_back: bool = False

    @property
    def template_waits(self) -> bool:
        """
        Whether the template has to wait until all pods of its workload, a parallel StatefulSet, are ready.

        Then a sweep completes the failover.
        """
        return waits_for_pods(self.workload, self.steps)

    def images(self, step: Step) -> tuple[str, str]:
        """
        Return the old and the new image, in the spelling of the object that `step` patches: the pod or the template.

        Without an `image_field`, the spelling is that of the pod.
        """
        if step is Step.PODS or self.image_field is None:
            return self.failure.image, self.candidate.image
        return self.image_field.image, spell_candidate(self.candidate, self.failure, self.image_field)

    def in_place(self, why: str) -> "Failover":
        """Return the failover for the pod alone; the note says `why` the template stays, and not what it would cost."""
        return replace(self, steps=(Step.PODS,), note=f"its template stays, since {why}")

    def after_denial(self, why: str) -> "Failover":
        """
        Return the failover without the patch of its template, which RBAC or admission denied for the reason `why`.

        What is left is the patch of the pod in place. No step is left if that patch would not free the pod: it lacks a
        pull secret, or the failing image is that of a volume. No step of a fail back is left: the pod runs well.
        """
        if self.is_back:
            return replace(self, steps=())
        in_place = self.in_place(f"the API server refused to patch it: {why}")
        is_pod_left = self.missing_secret is not None or self.failure.section is Section.VOLUMES
        return replace(in_place, steps=()) if is_pod_left else in_place


@dataclass(frozen=True, kw_only=True, slots=True)
class Wait:
    """
    Do nothing now, for `reason`; at `until`, Saffire decides again.

    With `EXHAUSTED`, each candidate failed lately or will not do. With `NEXT_TRY`, the kubelet's own next try comes
    first: an outage is not proven, and `detail` says why not.
    """

    failure: PullFailure
    until: datetime
    reason: Reason = Reason.EXHAUSTED
    detail: str = ""


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
