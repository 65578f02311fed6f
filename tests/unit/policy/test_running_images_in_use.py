"""Images in use: which images a namespace's pods name, with their digests, nodes and pull secrets."""

from typing import Any

import pytest

from saffire.policy.running_images import ImagesInUse, ImageUse
from testkit.builders import FAILING, OPT_OUT, SECOND, THIRD, Object, annotated, pod, running, waiting

DIGEST = "sha256:d03c"


def in_use(*pods: Object, namespace: Object | None = None) -> tuple[ImageUse, ...]:
    """Return the images that these pods use."""
    images = ImagesInUse()
    images.namespace = namespace or {}
    for manifest in pods:
        images.observe(manifest)
    return images.uses()


def placed(node: str = "", *secrets: str, **fields: Any) -> Object:
    """Return a pod that runs on a node, with pull secrets."""
    manifest = pod(running())
    spec = {**manifest["spec"], "nodeName": node, "imagePullSecrets": [{"name": name} for name in secrets], **fields}
    return {**manifest, "spec": spec}


def test_an_image_that_the_spec_of_a_pod_names_is_in_use() -> None:
    """Images of containers, init containers and volumes count once each, whether they run or not; sorted by name."""
    mixed_pod = pod(running(), waiting("other", SECOND), web=FAILING, other=SECOND, again=FAILING)
    mixed_pod["spec"]["initContainers"] = [{"name": "prepare", "image": "a.example/prepare:1"}]
    mixed_pod["spec"]["volumes"] = [{"name": "data", "image": {"reference": THIRD}}, {"name": "tmp", "emptyDir": {}}]
    uses = in_use(mixed_pod, pod(running()))
    assert ["a.example/prepare:1", SECOND, FAILING, THIRD] == [use.image for use in uses]
    assert [frozenset(), frozenset(), {DIGEST}, frozenset()] == [use.digests for use in uses]


def test_an_image_has_every_digest_that_runs() -> None:
    """A tag may have moved between two pulls."""
    other_digest = running()
    other_digest["imageID"] = "quay.io/acme/web@sha256:0ther"
    (use,) = in_use(pod(running()), pod(other_digest))
    assert {DIGEST, "sha256:0ther"} == use.digests


def test_an_image_has_the_nodes_and_secrets_of_its_pods() -> None:
    """Each counts once; of a DaemonSet on a thousand nodes, 4 nodes are kept."""
    (use,) = in_use(placed(), placed("a", "pull", "other"), placed("b", "pull"), placed("a"))
    assert ImageUse(image=FAILING, digests=frozenset({DIGEST}), nodes=("a", "b"), secrets=("pull", "other")) == use
    (use,) = in_use(*(placed(f"node-{number}") for number in range(1000)))
    assert ("node-0", "node-1", "node-2", "node-3") == use.nodes


def test_a_debugger_is_not_in_use() -> None:
    """An ephemeral container serves for debugging a pod, and is not moved."""
    debugged = pod(running())
    debugged["spec"]["ephemeralContainers"] = [{"name": "debugger", "image": SECOND}]
    debugged["status"]["ephemeralContainerStatuses"] = [running("debugger", SECOND)]
    assert [FAILING] == [use.image for use in in_use(debugged)]


def test_a_pod_that_has_ended_counts() -> None:
    """A CronJob will pull the images of its last Jobs' pods again."""
    ended = pod(running())
    ended["status"]["phase"] = "Succeeded"
    assert [FAILING] == [use.image for use in in_use(ended)]


LEAVING = pod(running())
LEAVING["metadata"] = {**LEAVING["metadata"], "deletionTimestamp": "2026-11-23T02:00:00Z"}


@pytest.mark.parametrize(
    "ignored",
    [
        pytest.param(annotated(pod(running()), OPT_OUT), id="opted-out"),
        pytest.param(annotated(pod(running()), {"kubernetes.io/config.mirror": "x"}), id="static"),
        pytest.param(LEAVING, id="on-its-way-out"),
    ],
)
def test_a_pod_that_would_not_be_moved_does_not_count(ignored: Object) -> None:
    """If its image cannot be pulled, there is no failover for it."""
    assert () == in_use(ignored)


def test_a_namespace_that_opted_out_uses_nothing() -> None:
    """Saffire leaves all its pods alone."""
    assert () == in_use(pod(running()), namespace=annotated({"metadata": {}}, OPT_OUT))


@pytest.mark.parametrize(("phase", "nodes"), [("Running", {"worker"}), ("Failed", set()), ("Succeeded", set())])
def test_a_pod_that_has_ended_is_on_no_node_any_more(phase: str, nodes: set[str]) -> None:
    """Its image stays in use, since a CronJob makes its next pod from it."""
    images = ImagesInUse()
    images.observe({**placed("worker"), "status": {"phase": phase}})
    assert nodes == images.nodes_of(FAILING)
    assert [FAILING] == [use.image for use in images.uses()]
