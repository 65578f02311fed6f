"""Why nothing is done: one word per rung of the decision's ladder, for answers, logs, Events and tests."""

from dataclasses import dataclass
from enum import StrEnum

from saffire.failure import PullFailure


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
