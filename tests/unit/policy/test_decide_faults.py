"""
An hour with faults of nodes and registries: whom Saffire moves, and whom it leaves.

A Deployment has a pod on each of some nodes. Nodes lose registries, registries go down, and pods have to pull anew.
"""

from dataclasses import dataclass, field
from datetime import timedelta

from hypothesis import given, settings
from hypothesis import strategies as st

from saffire.kube.workload import Owners
from saffire.policy.decide import Gathered, decide
from saffire.policy.patch import render
from saffire.policy.plan import Failover, Step
from saffire.policy.reach import FaultEvidence
from saffire.policy.verification import Evidence
from saffire.pulls.cause import Cause
from saffire.pulls.failure import PullFailure, Section
from saffire.registry.availability import Availability, Available, Unreachable
from saffire.registry.reference import domain_of
from testkit.builders import NOW, Object, chain, pod, source
from testkit.rfc6902 import patched

STEP = 10
"""Seconds between two tries of a kubelet, and between two steps of the simulation."""
HOUR = 3600
IMAGES = ("quay.io/acme/web:1.2", "ghcr.io/acme/web:1.2", "registry.example:5000/mirror/web:1.2")
REGISTRIES = tuple(map(domain_of, IMAGES))
NODES = ("node-1", "node-2", "node-3")
ALLOWED = STEP * 2 + 60
"""Seconds until a stuck pod is free: two tries of its kubelet, and a sweep."""


@dataclass(frozen=True)
class Fault:
    """From `since` to `until`, in seconds: a registry is down, or only for one node if `node` names it."""

    registry: str
    since: int
    until: int
    node: str = ""


@dataclass
class SimulatedPod:
    """A pod: its node, its manifest, and since when it fails, with the tries; `since` is `None` if it runs."""

    node: str
    manifest: Object
    since: int | None = None
    tries: int = 0

    @property
    def image(self) -> str:
        """The image of the pod's container."""
        image: str = self.manifest["spec"]["containers"][0]["image"]
        return image


@dataclass
class Hour:
    """
    One Deployment and its pods, with faults.

    Args:
        faults: what fails, and when.
        pulls: at which second the pod of which node has to pull anew.

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
        self.pods = [SimulatedPod(node, self._made(node)) for node in NODES]

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

    def is_down(self, registry: str, second: int, node: str = "") -> bool:
        """Return whether a registry is down, for everybody or for this node."""
        return any(
            fault.registry == registry and fault.since <= second < fault.until and fault.node in {"", node}
            for fault in self.faults
        )

    def run(self) -> None:
        """Run the hour: pods pull, kubelets try again, and Saffire decides about each failed try."""
        for second in range(0, HOUR, STEP):
            for at, node in self.pulls:
                if at // STEP == second // STEP:
                    self._restart(node)
            for simulated in self.pods:
                self._pull(simulated, second)
            for simulated in list(self.pods):
                if simulated.since is not None and simulated in self.pods:
                    self._decide(simulated, second)
                    self._judge(simulated, second)

    def _restart(self, node: str) -> None:
        """Replace the pod of a node by one that has to pull the template's image."""
        self.pods = [other for other in self.pods if other.node != node]
        self.pods.append(SimulatedPod(node, self._made(node), since=-1))

    def _pull(self, simulated: SimulatedPod, second: int) -> None:
        if simulated.since is None:
            return
        if self.is_down(domain_of(simulated.image), second, simulated.node):
            simulated.since = second if simulated.since == -1 else simulated.since
            simulated.tries += 1
        else:
            simulated.since, simulated.tries = None, 0

    def _answer(self, image: str, second: int) -> Availability:
        if self.is_down(domain_of(image), second):
            return Unreachable("connection refused", is_silent=True)
        return Available(digest="sha256:1", suits=True)

    def _decide(self, simulated: SimulatedPod, second: int) -> None:
        """Decide about a failing pod as a repair of the namespace does, and carry that out."""
        image, now = simulated.image, NOW + timedelta(seconds=second)
        failure = PullFailure(
            section=Section.CONTAINERS, container="web", image=image, reason="ErrImagePull", cause=Cause.REFUSED
        )
        ready = sum(other.since is None for other in self.pods)
        failing = [other for other in self.pods if other.since is not None and other.since >= 0]
        registry = domain_of(image)
        nodes = {other.node for other in failing if domain_of(other.image) == registry}
        answers = {candidate: self._answer(candidate, second) for candidate in IMAGES if candidate != image}
        everything = {image: self._answer(image, second), **answers}
        evidence = FaultEvidence(
            answer=everything[image],
            has_answered_before=True,
            any_registry_answers=any(isinstance(answer, Available) for answer in everything.values()),
            tries=simulated.tries,
            failing_for=timedelta(seconds=second - (simulated.since or 0)),
            nodes=len(nodes),
        )
        deployment = {**self.deployment, "status": {"readyReplicas": ready}}
        replica_set, _ = chain("Deployment", web=image).chain
        gathered = Gathered(
            namespace={"metadata": {"name": "shop"}},
            pod=simulated.manifest,
            sources=(self._source,),
            owners=Owners(chain=(replica_set, deployment)),
            evidence=Evidence(answers=answers),
            faults={failure: evidence},
        )
        plan = decide(failure, gathered, now=now)
        if not isinstance(plan, Failover):
            return
        for stage in render([(simulated.manifest, [plan])], now=now):
            for patch in stage:
                if patch.step is Step.PODS:
                    simulated.manifest = patched(simulated.manifest, patch.operations)
                    simulated.since, simulated.tries = -1, 0
                else:
                    self._roll_out(patched(self.deployment, patch.operations))
                    if ready and isinstance(everything[image], Available) and len(nodes) == 1:
                        self.harm.append(f"{second}: {image} answered, and only {nodes} failed")

    def _roll_out(self, deployment: Object) -> None:
        self.deployment = deployment
        for node in NODES:
            self._restart(node)

    def _judge(self, simulated: SimulatedPod, second: int) -> None:
        """Take note of a pod that is stuck for too long although an alternative was good for it all the time."""
        if simulated.since in {None, -1} or simulated not in self.pods:
            return
        since = simulated.since or 0
        was_moved = "annotations" in simulated.manifest["metadata"] or "annotations" in self.deployment["metadata"]
        is_good = not any(
            fault.registry != domain_of(simulated.image) and fault.since <= second and fault.until > since
            for fault in self.faults
        )
        if is_good and not was_moved and second - since > ALLOWED:
            self.stuck.append(f"{simulated.node} since {since}")


seconds = st.integers(0, HOUR)
faults = st.builds(
    lambda registry, since, length, node: Fault(registry, since, since + length, node),
    st.sampled_from(REGISTRIES),
    seconds,
    st.integers(STEP, HOUR),
    st.sampled_from(["", *NODES]),
)
hours = st.builds(
    Hour,
    st.lists(faults, max_size=4).map(tuple),
    st.lists(st.tuples(seconds, st.sampled_from(NODES)), max_size=8).map(tuple),
)


@given(hours)
@settings(max_examples=400, deadline=None)
def test_no_healthy_pod_is_replaced_while_the_registry_answers_and_one_node_fails(hour: Hour) -> None:
    """And every pod is free within a sweep and two tries of its kubelet where an alternative is good."""
    hour.run()
    assert ([], []) == (hour.harm, hour.stuck)


def test_a_registry_that_dies_moves_the_deployment_once() -> None:
    """The simulation can tell: with an outage the template moves, and the pods run on the alternative."""
    hour = Hour((Fault(REGISTRIES[0], 0, HOUR),), ((600, "node-1"),))
    hour.run()
    assert IMAGES[1] == hour.template_image
    assert [IMAGES[1]] * len(NODES) == [simulated.image for simulated in hour.pods]


def test_a_node_that_loses_one_registry_moves_one_pod() -> None:
    """The simulation can tell: the template stays, and the pod of that node runs on the alternative."""
    hour = Hour((Fault(REGISTRIES[0], 0, HOUR, "node-1"),), ((600, "node-1"),))
    hour.run()
    assert IMAGES[0] == hour.template_image
    assert {"node-1": IMAGES[1], "node-2": IMAGES[0], "node-3": IMAGES[0]} == {
        simulated.node: simulated.image for simulated in hour.pods
    }
