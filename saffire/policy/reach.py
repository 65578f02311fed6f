"""
Reach: how far a repair may go for one pull failure, by what is proven of the fault.

What one node says about one pull is no proof of an outage. So Saffire asks the registry of the failing image, the
*original*, together with the candidates, and compares like with like. `diagnose` returns one of three faults:

- `OUTAGE`: the pull fails for Saffire too. Every pod that pulls from this registry is affected.
- `NODE`: the registry answers Saffire. The fault is of the node, or it passes.
- `UNPROVEN`: Saffire cannot tell. The registry never answered Saffire, for instance since only nodes can reach it. It
  did not answer a single question in time. Or it gives each client its own answer, as with 429 (Too Many Requests) and
  401.

`reach_of` returns how far the repair may go for that fault:

- `WORKLOAD`: Saffire patches whatever frees the stuck pods first, the workload's template among it. A rollout may
  replace healthy pods.
- `PODS`: Saffire patches only stuck pods, in place. No healthy pod is touched.
- `NEXT_TRY`: Saffire waits for the kubelet's next pull of the image, about 10 s later. A fault that passes needs no
  repair.
"""

from dataclasses import dataclass
from datetime import timedelta
from enum import Enum, StrEnum, auto
from ipaddress import ip_address

from saffire.pulls.cause import Cause
from saffire.pulls.failure import STALLED, PullFailure
from saffire.registry.availability import (
    NOT_ASKED,
    Availability,
    Available,
    Denied,
    NotFound,
    Throttled,
    Unreachable,
    Withheld,
    is_late,
)
from saffire.registry.reference import domain_of

NEXT_TRY_AFTER = timedelta(seconds=30)
"""If a pull has failed for this long, the kubelet has tried once more: it waits 10 s after a first failed pull."""
STATUS_LAG = timedelta(seconds=2)
"""A pod's status follows the Event about a failed pull within this time; measured: 0.7 s."""
SEVERAL_NODES = 2
"""If so many nodes cannot pull from a registry, the fault is not of one node."""
CONNECTION = frozenset({Cause.REFUSED, Cause.DNS, Cause.TIMEOUT, Cause.RESET, Cause.TLS})
"""The causes that say that a node got no usable connection to the registry."""
# Causes that say that the registry is there, and fails.
_BROKEN = frozenset({Cause.SERVER_ERROR, Cause.PARTIAL, Cause.SHUT_DOWN})
# Causes that say that the registry refuses an image.
_REFUSED = frozenset({Cause.ABSENT, Cause.DENIED, Cause.CLIENT_ERROR})
# For these causes, a registry gives each client its own answer.
_PER_CLIENT = frozenset({Cause.THROTTLED, Cause.DENIED})
# Causes that say nothing of the image: the registry is down, whatever a node sees of that.
_DOWN = CONNECTION | {Cause.SERVER_ERROR, Cause.SHUT_DOWN}


class Fault(StrEnum):
    """What is proven of the fault behind a pull failure. The values are fields of log lines, and users rely on them."""

    OUTAGE = "outage"
    NODE = "node"
    UNPROVEN = "unproven"


class Reach(Enum):
    """How far a repair may go for one pull failure."""

    WORKLOAD = auto()
    PODS = auto()
    NEXT_TRY = auto()


@dataclass(frozen=True, kw_only=True, slots=True)
class FaultEvidence:
    """
    What Saffire knows about the fault behind one pull failure, besides what the runtime says.

    Args:
        answer: the answer of the original's registry about the failing image.
        has_answered_before: whether that registry has answered Saffire within the last day. If it never did, its
            silence proves nothing.
        any_registry_answers: whether some registry has answered Saffire within the last minutes. If none did, Saffire's
            own network may be down.
        tries: how often the pod has failed to pull the image, as far as Saffire knows.
        failing_for: the time since the pod first failed to pull the image.
        tries_to_wait_for: how many failed tries show that the fault does not pass.
        nodes: how many nodes say the same (`shared_facts`), by the pods of the namespace.
        is_every_node: whether these are all nodes on which the pod may run.
        other_registries: further registries, by domain, to which the pod's node gets no connection, and which answer
            Saffire.
        ready_pods: how many pods of the workload are ready; `None` if that is not known.
        other_image_is_there: whether the registry has another image that the namespace uses; `None` if unknown.
        in_status: whether the pod's status shows the failure. If not, only a kubelet's Event says so, and whoever may
            create Events can forge one.

    """

    answer: Availability = NOT_ASKED
    has_answered_before: bool = False
    any_registry_answers: bool = False
    tries: int = 1
    failing_for: timedelta = timedelta()
    tries_to_wait_for: int = 2
    nodes: int = 1
    is_every_node: bool = False
    other_registries: frozenset[str] = frozenset()
    ready_pods: int | None = None
    other_image_is_there: bool | None = None
    in_status: bool = True

    @property
    def can_silence_prove(self) -> bool:
        """Whether there is something to compare the silence of the registry with: its own answers, and others'."""
        return self.has_answered_before and self.any_registry_answers

    @property
    def has_failed_again(self) -> bool:
        """Whether the kubelet's own next tries have failed too, or must have by now."""
        return self.tries >= self.tries_to_wait_for or self.failing_for >= self.waits

    @property
    def waits(self) -> timedelta:
        """The time after a first failure by which the kubelet has made all tries to wait for, 30 s for each but one."""
        return NEXT_TRY_AFTER * (self.tries_to_wait_for - 1)


def diagnose(failure: PullFailure, evidence: FaultEvidence) -> Fault:
    """Return what is proven of the fault behind a pull failure, by what the node says and what the registry answers."""
    cause, answer = failure.cause, evidence.answer
    # One answer that is late may be of a registry that is slow, or of a Saffire that is. A node that has waited for
    # half a minute rules that out; nobody has, if Saffire itself takes the pull for stalled.
    has_node_waited = cause is Cause.TIMEOUT and failure.reason != STALLED
    counts = has_node_waited or not is_late(answer)
    if counts and is_down(answer, has_baseline=evidence.can_silence_prove):
        return Fault.OUTAGE
    match answer:
        case Unreachable(is_silent=False, is_tls=True):
            return Fault.OUTAGE if cause is Cause.TLS else Fault.UNPROVEN
        case Unreachable():
            return Fault.UNPROVEN
        case Denied() | Throttled():
            return Fault.NODE if cause in CONNECTION else Fault.UNPROVEN
        case Available():
            return Fault.UNPROVEN if cause in _PER_CLIENT or cause is Cause.PLATFORM else Fault.NODE
        case _:
            # The registry answers that it lacks the image, or a part of it.
            if cause in _BROKEN:
                return Fault.OUTAGE
            return Fault.NODE if cause in CONNECTION else Fault.UNPROVEN


def is_down(answer: Availability, *, has_baseline: bool) -> bool:
    """
    Tell whether an answer proves that its registry is down: 5xx, or silence where there is a baseline.

    A late answer counts as silence here. `has_baseline` says that the registry has answered Saffire within the last
    day, and that some registry answers now.

    >>> is_down(Unreachable("connection refused", is_silent=True), has_baseline=False)
    False
    """
    return isinstance(answer, Unreachable) and (answer.is_server_error or (answer.is_silent and has_baseline))


def reach_of(failure: PullFailure, evidence: FaultEvidence) -> Reach:
    """Return how far a repair may go for a pull failure."""
    fault = diagnose(failure, evidence)
    if fault is Fault.OUTAGE:
        return Reach.WORKLOAD
    # Whoever may create Events could otherwise move a workload from a registry that works. And a pull that has stalled
    # may still succeed.
    if not evidence.in_status or failure.reason == STALLED:
        return Reach.NEXT_TRY
    if may_be_taken_down(failure, evidence) and evidence.other_image_is_there is None:
        return Reach.NEXT_TRY  # until the repair has asked about another image
    has_no_ready_pod = evidence.ready_pods == 0
    # A registry on loopback is another one on each node. What some nodes say of theirs is nothing for the template.
    if _is_of_each_node(failure, evidence) and not has_no_ready_pod:
        return Reach.PODS if evidence.has_failed_again else Reach.NEXT_TRY
    if fault is Fault.UNPROVEN and (has_no_ready_pod or evidence.nodes >= SEVERAL_NODES):
        return Reach.WORKLOAD
    # Another build, or none, is what the image has: another try of the same image changes nothing.
    if not evidence.has_failed_again and failure.cause is not Cause.PLATFORM:
        return Reach.NEXT_TRY
    return Reach.WORKLOAD if evidence.nodes >= SEVERAL_NODES or evidence.is_every_node else Reach.PODS


def shared_facts(failure: PullFailure, secrets: tuple[str, ...]) -> frozenset[tuple[str, ...]]:
    """
    Return what a failure says of registry and image: failures on several nodes say the same if they share one fact.

    One fact is that this image cannot be pulled with the pod's pull `secrets`. If the cause says nothing of the image,
    another fact is that the registry is down, or that it throttles. A misspelled image on a second node, or a pod
    without the pull secret, is no proof of what the first node says.
    """
    registry = domain_of(failure.image)
    facts: set[tuple[str, ...]] = {(failure.image, *secrets)}
    if failure.cause in _DOWN:
        facts.add((registry, "down"))
    if failure.cause is Cause.THROTTLED:
        facts.add((registry, "throttles"))
    return frozenset(facts)


def may_be_taken_down(failure: PullFailure, evidence: FaultEvidence) -> bool:
    """
    Tell whether the registry refuses this one image to everybody, as after a takedown, unless it refuses others too.

    Then node and Saffire get the same answer: the registry denies the image, or says that it lacks the image. If it
    answers so for another image of the namespace as well, the registry is to blame.
    """
    is_refused = failure.cause in _REFUSED and isinstance(evidence.answer, Denied | NotFound | Withheld)
    return is_refused and evidence.other_image_is_there is not False


def why_limited(failure: PullFailure, evidence: FaultEvidence) -> str:
    """Return why a repair does not reach the workload's template, as a clause for an operator."""
    registry = domain_of(failure.image) or "the registry"
    if not evidence.in_status:
        return "only an Event says so, and the pod's status does not show it yet"
    match evidence.answer:
        case Unreachable() if evidence.answer == NOT_ASKED:
            return f"{registry} was not asked, so only this node says so"
        case Unreachable(is_silent=True) if not evidence.any_registry_answers:
            return "no registry answers Saffire, so only this node says so"
        case Unreachable(is_silent=True) if not evidence.has_answered_before:
            return f"{registry} has not answered Saffire within a day, so only this node says so"
        case Unreachable(is_silent=True):
            return f"{registry} did not answer Saffire in time, and may only be slow"
        case Unreachable(why):
            return f"Saffire cannot ask {registry} ({why}), so only this node says so"
        case _ if diagnose(failure, evidence) is Fault.NODE:
            return f"{registry} answers Saffire, so the fault is of the node, or passes"
        case _:
            return f"{registry} may answer other nodes otherwise"


def _is_of_each_node(failure: PullFailure, evidence: FaultEvidence) -> bool:
    """Tell whether the failing registry is at a loopback address, and Saffire did not ask it for that reason."""
    if not isinstance(evidence.answer, Unreachable) or evidence.answer == NOT_ASKED:
        return False
    host = domain_of(failure.image).rpartition(":")[0] or domain_of(failure.image)
    try:
        return ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"
