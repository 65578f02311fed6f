"""
A day with faults of nodes and registries: whom Saffire moves, and whom it leaves.

A Deployment has a pod on each of some nodes. Nodes lose registries, registries go down, each in words of its own, and
pods have to pull anew. While every pod runs, nothing can happen but the next pull, so the day skips to it.
"""

from dataclasses import dataclass, field
from datetime import timedelta
from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from saffire.kube.workload import Owners
from saffire.policy.decide import Gathered
from saffire.policy.history import History
from saffire.policy.patch import render
from saffire.policy.plan import Failover, Step
from saffire.policy.reach import CONNECTION, FaultEvidence
from saffire.policy.verification import Evidence
from saffire.pulls.cause import Cause
from saffire.pulls.failure import PullFailure, Section
from saffire.registry.availability import (
    Availability,
    Available,
    Denied,
    Incomplete,
    NotFound,
    Throttled,
    Unreachable,
)
from saffire.registry.reference import domain_of
from testkit.builders import NOW, Object, chain, pod, source
from testkit.decisions import decide
from testkit.rfc6902 import patched

STEP = 10
"""The seconds of all that happens are multiples of this: the time between two tries of a kubelet, at first."""
BACK_OFF = (STEP, 20, 40, 80, 160, 300)
"""Seconds from each failed try of a kubelet to the next; further tries have the last."""
SWEEP, HOUR, DAY = 60, 3600, 24 * 3600
IMAGES = ("quay.io/acme/web:1.2", "ghcr.io/acme/web:1.2", "registry.example:5000/mirror/web:1.2")
REGISTRIES = tuple(map(domain_of, IMAGES))
NODES = ("node-1", "node-2", "node-3")
ALLOWED = STEP * 2 + SWEEP
"""Seconds until a stuck pod is free: two tries of its kubelet, and a sweep."""
AVAILABLE = Available(digest="sha256:1", suits=True)
SILENT = Unreachable("no answer", is_silent=True)


class Words(NamedTuple):
    """What nodes say of a fault, and what its registry answers Saffire meanwhile."""

    cause: Cause
    answer: Availability = AVAILABLE


DOWN = Words(Cause.REFUSED, SILENT)
OF_REGISTRIES = (
    *(Words(cause, SILENT) for cause in (Cause.REFUSED, Cause.DNS, Cause.TIMEOUT, Cause.RESET)),
    Words(Cause.TLS, Unreachable("TLS: certificate has expired", is_tls=True)),
    Words(Cause.SERVER_ERROR, Unreachable("it answered 503", is_silent=True, is_server_error=True)),
    Words(Cause.PARTIAL, Incomplete("layer sha256:1")),
    Words(Cause.THROTTLED, Throttled()),
    Words(Cause.DENIED, Denied()),
    Words(Cause.ABSENT, NotFound()),
)
LOST = Words(Cause.REFUSED)
OF_NODES = tuple(
    Words(cause)
    for cause in (*sorted(CONNECTION), Cause.SERVER_ERROR, Cause.PARTIAL, Cause.THROTTLED, Cause.DENIED, Cause.UNKNOWN)
)
PROVE_OUTAGE = (Unreachable, Incomplete, NotFound)
"""Answers by which a registry proves that it fails by itself: whoever hears no other may be moved."""


@dataclass(frozen=True)
class Fault:
    """From `since` to `until`, in seconds: a registry fails in these words; only for one node if `node` names it."""

    registry: str
    since: int
    until: int
    words: Words
    node: str = ""

    def is_within(self, since: int, until: int) -> bool:
        """Whether any part of the fault is between two seconds, the last included."""
        return self.since <= until and since < self.until


@dataclass(eq=False)
class SimulatedPod:
    """
    A pod on a node. Its kubelet pulls the image until the pod `runs`.

    `since` is when the first try failed, `None` if none has; `tries` have failed, the last one with `cause`.
    """

    node: str
    manifest: Object
    runs: bool = False
    since: int | None = None
    tries: int = 0
    next_try: int = 0
    cause: Cause = Cause.UNKNOWN

    @property
    def image(self) -> str:
        """The image of the pod's container."""
        image: str = self.manifest["spec"]["containers"][0]["image"]
        return image

    def start_anew(self) -> None:
        """Forget the tries, since the pod has another image."""
        self.since, self.tries, self.next_try = None, 0, 0


@dataclass
class Day:
    """
    One Deployment and its pods, with faults.

    Args:
        faults: what fails, and when.
        pulls: at which second, a multiple of `STEP`, the pod of which node has to pull anew.

    """

    faults: tuple[Fault, ...]
    pulls: tuple[tuple[int, str], ...]
    harm: list[str] = field(default_factory=list, init=False)
    """Each rollout that replaced ready pods although the registry answered Saffire and one node failed."""
    stuck: list[str] = field(default_factory=list, init=False)
    """Each pod that stayed stuck although an alternative was good all the time."""

    def __post_init__(self) -> None:
        self._source = source()
        _, self.deployment = chain("Deployment", web=IMAGES[0]).chain
        self.pods = [SimulatedPod(node, self._made(node), runs=True) for node in NODES]

    @property
    def template_image(self) -> str:
        """The image that the template names."""
        image: str = self.deployment["spec"]["template"]["spec"]["containers"][0]["image"]
        return image

    def _made(self, node: str) -> Object:
        made = pod(web=self.template_image)
        return {
            **made,
            "metadata": {**made["metadata"], "name": f"web-{node}", "uid": f"uid-{node}"},
            "spec": {**made["spec"], "nodeName": node},
        }

    def _fault(self, registry: str, second: int, *nodes: str) -> Fault | None:
        """Return what fails at a registry, for everybody or for one of these nodes; `None` if nothing does."""
        scopes = {"", *nodes}
        now = (fault for fault in self.faults if fault.is_within(second, second) and fault.node in scopes)
        return next((fault for fault in now if fault.registry == registry), None)

    def run(self) -> None:
        """Run the day: pods pull, kubelets try again, and Saffire decides at each failed try and in each sweep."""
        second = 0
        while second < DAY:
            for at, node in self.pulls:
                if at == second:
                    self._restart(node)
            for simulated in self.pods:
                self._pull(simulated, second)
            for simulated in list(self.pods):
                if simulated.since is not None and simulated in self.pods:
                    self._judge(simulated, second)
                    self._decide(simulated, second)
            second = self._next(second)

    def _next(self, second: int) -> int:
        """Return the next second at which something can happen: a pull that is due, or a sweep if a pod is stuck."""
        times = [at for at, _ in self.pulls if at > second]
        for simulated in self.pods:
            if not simulated.runs:
                times += [max(simulated.next_try, second + STEP), second - second % SWEEP + SWEEP]
        return min(times, default=DAY)

    def _restart(self, node: str) -> None:
        """Replace the pod of a node by one that has to pull the template's image."""
        self.pods = [other for other in self.pods if other.node != node]
        self.pods.append(SimulatedPod(node, self._made(node)))

    def _pull(self, simulated: SimulatedPod, second: int) -> None:
        if simulated.runs or second < simulated.next_try:
            return
        fault = self._fault(domain_of(simulated.image), second, simulated.node)
        if fault is None:
            simulated.runs, simulated.since = True, None
            return
        simulated.since = second if simulated.since is None else simulated.since
        simulated.next_try = second + BACK_OFF[min(simulated.tries, len(BACK_OFF) - 1)]
        simulated.tries += 1
        simulated.cause = fault.words.cause

    def _answer(self, image: str, second: int) -> Availability:
        fault = self._fault(domain_of(image), second)
        return fault.words.answer if fault else AVAILABLE

    def _decide(self, simulated: SimulatedPod, second: int) -> None:
        """Decide about a failing pod as a repair of the namespace does, and carry that out."""
        image, now = simulated.image, NOW + timedelta(seconds=second)
        failure = PullFailure(
            section=Section.CONTAINERS, container="web", image=image, reason="ErrImagePull", cause=simulated.cause
        )
        ready = sum(other.runs for other in self.pods)
        registry = domain_of(image)
        nodes = {other.node for other in self.pods if other.since is not None and domain_of(other.image) == registry}
        everything = {candidate: self._answer(candidate, second) for candidate in IMAGES}
        evidence = FaultEvidence(
            answer=everything[image],
            has_answered_before=True,
            any_registry_answers=any(not isinstance(answer, Unreachable) for answer in everything.values()),
            tries=simulated.tries,
            failing_for=timedelta(seconds=second - (simulated.since or 0)),
            nodes=len(nodes),
            other_image_is_there=False,
        )
        deployment = {**self.deployment, "status": {"readyReplicas": ready}}
        replica_set, _ = chain("Deployment", web=self.template_image).chain
        gathered = Gathered(
            namespace={"metadata": {"name": "shop"}},
            pod=simulated.manifest,
            sources=(self._source,),
            owners=Owners(chain=(replica_set, deployment)),
            evidence=Evidence(answers={name: answer for name, answer in everything.items() if name != image}),
            faults={failure: evidence},
        )
        plan = decide(failure, gathered, now=now)
        if not isinstance(plan, Failover):
            return
        for stage in render([(simulated.manifest, [plan])], now=now):
            for patch in stage:
                if patch.step is Step.PODS:
                    simulated.manifest = patched(simulated.manifest, patch.operations)
                    simulated.start_anew()
                else:
                    self._roll_out(patched(self.deployment, patch.operations))
                    if ready and not isinstance(everything[image], PROVE_OUTAGE) and len(nodes) == 1:
                        self.harm.append(f"{second}: {image} answered, and only {nodes} failed")

    def _roll_out(self, deployment: Object) -> None:
        self.deployment = deployment
        for node in NODES:
            self._restart(node)

    def _judge(self, simulated: SimulatedPod, second: int) -> None:
        """
        Take note of a pod that is stuck for too long although an alternative was good for it all the time.

        Two rules may keep a pod that Saffire has moved, or whose workload it has moved. An image that failed is not
        tried again at once: so an alternative counts only if it was never tried. And a node is left to its operator if
        it does not get the alternative either: so if the last failover was for a fault of a node, up to an hour before
        the pull began to fail, a pod counts only where the registry fails for everybody.
        """
        since = simulated.since or 0
        until = since + ALLOWED
        histories = History.of(simulated.manifest), History.of(self.deployment)
        moves = [entry for history in histories for entry in history.entries]
        tried = {image for entry in moves for image in (entry.before, entry.after)}
        registry = domain_of(simulated.image)
        here = [entry for entry in moves if entry.after == simulated.image]
        latest = max(here, key=lambda entry: entry.at, default=None)
        an_hour_before = NOW + timedelta(seconds=since - HOUR)
        is_of_node = latest is not None and latest.fault == "node" and latest.at >= an_hour_before
        is_of_all = any(
            fault.registry == registry and not fault.node and fault.since <= since and until < fault.until
            for fault in self.faults
            if isinstance(fault.words.answer, PROVE_OUTAGE)
        )
        good = [
            image
            for image in IMAGES
            if image not in {simulated.image, *tried}
            and not any(fault.registry == domain_of(image) and fault.is_within(since, until) for fault in self.faults)
        ]
        if good and (is_of_all or not is_of_node) and second > until:
            self.stuck.append(f"{simulated.node} since {since}")


def fault(since: int, length: int, registry: str, node: str, words: tuple[Words, Words]) -> Fault:
    """Return a fault of a registry, in the first words, or in the second if it is of one node."""
    return Fault(registry, since, since + length, words[bool(node)], node)


lengths = st.one_of(st.integers(STEP, HOUR), st.integers(HOUR, 6 * HOUR))
faults = st.builds(
    fault,
    st.integers(0, DAY),
    lengths,
    st.sampled_from(REGISTRIES),
    st.sampled_from(["", *NODES]),
    st.tuples(st.sampled_from(OF_REGISTRIES), st.sampled_from(OF_NODES)),
)


@st.composite
def days(draw: st.DrawFn) -> Day:
    """Return a day whose pods have to pull at any time, and most of them while something fails."""
    failing = draw(st.lists(faults, max_size=8))
    during = [st.integers(fault.since, fault.until) for fault in failing]
    at = st.one_of(st.integers(0, DAY), *during).map(lambda second: second - second % STEP)
    pulls = draw(st.lists(st.tuples(at, st.sampled_from(NODES)), max_size=16))
    return Day(tuple(failing), tuple(pulls))


@given(days())
@settings(max_examples=400, deadline=None)
def test_no_healthy_pod_is_replaced_while_the_registry_answers_and_one_node_fails(day: Day) -> None:
    """And every pod is free within a sweep and two tries of its kubelet where an alternative is good."""
    day.run()
    assert ([], []) == (day.harm, day.stuck)


def test_a_registry_that_dies_moves_the_deployment_once() -> None:
    """The simulation can tell: with an outage the template moves, and the pods run on the alternative."""
    day = Day((Fault(REGISTRIES[0], 0, DAY, DOWN),), ((600, "node-1"),))
    day.run()
    assert IMAGES[1] == day.template_image
    assert [IMAGES[1]] * len(NODES) == [simulated.image for simulated in day.pods]


def test_a_node_that_loses_one_registry_moves_one_pod() -> None:
    """The simulation can tell: the template stays, and the pod of that node runs on the alternative."""
    day = Day((Fault(REGISTRIES[0], 0, DAY, LOST, "node-1"),), ((600, "node-1"),))
    day.run()
    assert IMAGES[0] == day.template_image
    assert {"node-1": IMAGES[1], "node-2": IMAGES[0], "node-3": IMAGES[0]} == {
        simulated.node: simulated.image for simulated in day.pods
    }


@pytest.mark.parametrize("until", [1200, DAY])
def test_a_node_that_loses_the_alternative_after_an_outage_moves_one_pod_on(until: int) -> None:
    """The simulation can tell: the template stays, whether or not the first registry is back by then."""
    outage, lost = Fault(REGISTRIES[0], 0, until, DOWN), Fault(REGISTRIES[1], 1200, DAY, LOST, "node-1")
    day = Day((outage, lost), ((600, "node-1"), (1800, "node-1")))
    day.run()
    assert IMAGES[1] == day.template_image
    assert {"node-1": IMAGES[2], "node-2": IMAGES[1], "node-3": IMAGES[1]} == {
        simulated.node: simulated.image for simulated in day.pods
    }


def test_a_node_that_loses_two_registries_is_left() -> None:
    """The simulation can tell: its pod was moved once, in place, and is not moved on."""
    day = Day(tuple(Fault(registry, 0, DAY, LOST, "node-1") for registry in REGISTRIES[:2]), ((600, "node-1"),))
    day.run()
    assert IMAGES[0] == day.template_image
    assert {"node-1": IMAGES[1], "node-2": IMAGES[0], "node-3": IMAGES[0]} == {
        simulated.node: simulated.image for simulated in day.pods
    }
