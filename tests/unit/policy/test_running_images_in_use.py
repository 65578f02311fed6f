"""The census: which images a namespace's pods use, and what these pods tell of them."""

from typing import Any

import pytest

from saffire.policy.running_images import ImagesInUse, ImageUse
from testkit.builders import FAILING, OPT_OUT, SECOND, THIRD, Object, annotated, pod, running, waiting

DIGEST = "sha256:d03c"


def counted(*pods: Object, namespace: Object | None = None) -> tuple[ImageUse, ...]:
    """Return what is in use by these pods."""
    census = ImagesInUse()
    census.namespace = namespace or {}
    for one in pods:
        census.observe(one)
    return census.uses()


def placed(node: str = "", *secrets: str, **fields: Any) -> Object:
    """Return a pod that runs on a node, with pull secrets."""
    found = pod(running())
    spec = {**found["spec"], "nodeName": node, "imagePullSecrets": [{"name": name} for name in secrets], **fields}
    return {**found, "spec": spec}


def test_what_the_spec_of_a_pod_names_is_in_use() -> None:
    """Containers, init containers and image volumes, whether they run or not, by name and each once."""
    one = pod(running(), waiting("other", SECOND), web=FAILING, other=SECOND, again=FAILING)
    one["spec"]["initContainers"] = [{"name": "prepare", "image": "a.example/prepare:1"}]
    one["spec"]["volumes"] = [{"name": "data", "image": {"reference": THIRD}}, {"name": "tmp", "emptyDir": {}}]
    uses = counted(one, pod(running()))
    assert ["a.example/prepare:1", SECOND, FAILING, THIRD] == [use.image for use in uses]
    assert [frozenset(), frozenset(), {DIGEST}, frozenset()] == [use.digests for use in uses]


def test_every_digest_that_runs_is_told() -> None:
    """A tag may have moved between two pulls."""
    other = running()
    other["imageID"] = "quay.io/acme/web@sha256:0ther"
    (use,) = counted(pod(running()), pod(other))
    assert {DIGEST, "sha256:0ther"} == use.digests


def test_the_nodes_and_secrets_of_its_pods_are_told() -> None:
    """Once each, and of a DaemonSet on a thousand nodes no more than some."""
    (use,) = counted(placed(), placed("a", "pull", "other"), placed("b", "pull"), placed("a"))
    assert ImageUse(image=FAILING, digests=frozenset({DIGEST}), nodes=("a", "b"), secrets=("pull", "other")) == use
    (use,) = counted(*(placed(f"node-{number}") for number in range(1000)))
    assert ("node-0", "node-1", "node-2", "node-3") == use.nodes


def test_a_debugger_is_not_in_use() -> None:
    """An ephemeral container is somebody's look into a pod, and is not moved."""
    one = pod(running())
    one["spec"]["ephemeralContainers"] = [{"name": "debugger", "image": SECOND}]
    one["status"]["ephemeralContainerStatuses"] = [running("debugger", SECOND)]
    assert [FAILING] == [use.image for use in counted(one)]


def test_a_pod_that_has_ended_counts() -> None:
    """A CronJob will pull again what the pods of its last Jobs had."""
    done = pod(running())
    done["status"]["phase"] = "Succeeded"
    assert [FAILING] == [use.image for use in counted(done)]


LEAVING = pod(running())
LEAVING["metadata"] = {**LEAVING["metadata"], "deletionTimestamp": "2026-11-23T02:00:00Z"}


@pytest.mark.parametrize(
    "left",
    [
        pytest.param(annotated(pod(running()), OPT_OUT), id="opted-out"),
        pytest.param(annotated(pod(running()), {"kubernetes.io/config.mirror": "x"}), id="static"),
        pytest.param(LEAVING, id="on-its-way-out"),
    ],
)
def test_who_would_not_be_moved_does_not_count(left: Object) -> None:
    """Whatever becomes of their images, no failover is asked for."""
    assert () == counted(left)


def test_a_namespace_that_opted_out_uses_nothing() -> None:
    """Saffire leaves all of it alone."""
    assert () == counted(pod(running()), namespace=annotated({"metadata": {}}, OPT_OUT))
