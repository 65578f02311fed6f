"""Images that run: their digests, and whether the pods have followed their template."""

from typing import Any

import pytest

from saffire.policy.running_images import RunningImages
from testkit.builders import FAILING, SECOND, THIRD, Object, pod, workload

LABELS = {"app": "web"}


def live(name: str = "web-0", image: str = SECOND, digest: str = "1", section: str = "containers") -> Object:
    """Return a live pod that runs an image; without a digest it has not run yet."""
    status = {"name": "web", "image": image, "imageID": f"{image}@sha256:{digest}" if digest else "", "state": {}}
    manifest = pod(status, section=section, web=image)
    owner = {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "a-deployment-abc", "uid": "u", "controller": True}
    labels = {**LABELS, "pod-template-hash": "abc"}
    manifest["metadata"] |= {"name": name, "uid": f"{name}-uid", "labels": labels, "ownerReferences": [owner]}
    manifest["spec"] |= {"nodeName": "node-1", "imagePullSecrets": [{"name": "pull"}]}
    return manifest


def running(*pods: Object) -> RunningImages:
    """Return the images of these pods."""
    images = RunningImages()
    for manifest in pods:
        images.observe(manifest)
    return images


def gone(**fields: Any) -> Object:
    """Return a pod that has ended or is terminating, by these fields."""
    manifest = live()
    manifest["status"] |= {key: value for key, value in fields.items() if key == "phase"}
    manifest["metadata"] |= {key: value for key, value in fields.items() if key != "phase"}
    return manifest


def selecting(**fields: Any) -> Object:
    """Return a Deployment that selects the pods above."""
    manifest = workload("Deployment", web=SECOND)
    manifest["spec"] |= {"selector": {"matchLabels": LABELS}}
    manifest["metadata"] |= {"generation": 3}
    manifest["status"] = {"observedGeneration": 3}
    return {**manifest, **fields}


GONE = [
    pytest.param(gone(phase="Succeeded"), id="ended"),
    pytest.param(gone(phase="Failed"), id="evicted"),
    pytest.param(gone(deletionTimestamp="2026-11-23T02:00:00Z"), id="terminating"),
]


def test_pods_tell_the_digests_of_an_image() -> None:
    """If pods have different digests of one image, it has them all."""
    images = running(live(), live("web-1", digest="2"), live("web-2", FAILING, digest="3"))
    assert [{"sha256:1", "sha256:2"}, {"sha256:3"}, set()] == [
        images.digests(image) for image in (SECOND, FAILING, THIRD)
    ]


@pytest.mark.parametrize("gone_pod", GONE)
def test_a_pod_that_is_gone_tells_nothing(gone_pod: Object) -> None:
    """It no longer runs the image, and its digest may be an old one."""
    images = running(gone_pod)
    assert (frozenset(), None) == (images.digests(SECOND), images.pod_of(SECOND))


def test_a_pod_tells_the_node_and_the_pull_secrets_of_an_image() -> None:
    """A pod also has the pull secrets of its ServiceAccount, which its template does not name."""
    images = running(live(), live("web-1", THIRD, digest=""))
    assert {"spec": {"nodeName": "node-1", "imagePullSecrets": [{"name": "pull"}]}} == images.pod_of(SECOND)
    assert images.pod_of(THIRD) is None


@pytest.mark.parametrize("section", ["containers", "initContainers"])
def test_pods_follow_when_all_have_run_the_image(section: str) -> None:
    """A pod that has not run the image yet, or runs another one, has not followed."""
    pods = [live(f"web-{number}", section=section) for number in range(3)]
    assert running(*pods).has_followed(selecting(), "web", SECOND)
    assert not running(*pods, live("web-3", digest="", section=section)).has_followed(selecting(), "web", SECOND)
    assert not running(*pods, live("web-3", FAILING, section=section)).has_followed(selecting(), "web", SECOND)


@pytest.mark.parametrize("gone_pod", GONE)
def test_a_pod_that_is_gone_is_not_waited_for(gone_pod: Object) -> None:
    """A rollout does not have to replace an old pod that is terminating."""
    assert running(gone_pod).has_followed(selecting(), "web", FAILING)


@pytest.mark.parametrize(("replicas", "expected"), [(2, False), (0, True), (None, True)])
def test_pods_that_are_still_to_come_are_waited_for(replicas: int | None, *, expected: bool) -> None:
    """A rollout that ends all old pods first has none for a moment; a workload of no replicas waits for none."""
    deployment = selecting()
    deployment["spec"] |= {"replicas": replicas}
    assert expected == running().has_followed(deployment, "web", FAILING)


def test_the_pods_of_other_workloads_are_not_waited_for() -> None:
    """They have other labels, another controller, no controller, or no such container."""
    strangers = [live(f"other-{number}") for number in range(3)]
    strangers[0]["metadata"]["labels"] = {"app": "other"}
    strangers[1]["metadata"]["ownerReferences"][0]["name"] = "a-deployment2-abc"
    strangers[2]["metadata"]["ownerReferences"] = []
    assert running(*strangers, live("web-1")).has_followed(selecting(), "sidecar", FAILING)
    assert running(*strangers).has_followed(selecting(), "web", FAILING)


def test_the_workload_itself_may_be_the_controller() -> None:
    """Between a StatefulSet and its pods there is no ReplicaSet."""
    own = live()
    own["metadata"]["ownerReferences"][0]["name"] = "a-deployment"
    assert not running(own).has_followed(selecting(), "web", FAILING)


def test_a_controller_that_has_not_seen_its_template_has_not_followed() -> None:
    """All pods of its old template may run."""
    behind = selecting(status={"observedGeneration": 2})
    assert not running(live()).has_followed(behind, "web", SECOND)


@pytest.mark.parametrize(
    "fields",
    [
        pytest.param({"status": {"observedGeneration": "2"}}, id="Argo's is a text"),
        pytest.param({"status": {}}, id="a CronJob has none"),
    ],
)
def test_without_an_observed_generation_the_pods_decide(fields: Any) -> None:
    """Not every controller says which generation it has seen."""
    assert running(live()).has_followed(selecting(**fields), "web", SECOND)
    assert not running(live()).has_followed(selecting(**fields), "web", FAILING)


@pytest.mark.parametrize(
    "spec",
    [
        pytest.param({}, id="no selector"),
        pytest.param({"selector": {"matchLabels": {}}}, id="an empty one"),
        pytest.param({"selector": "app=web"}, id="none that is understood"),
    ],
)
def test_without_a_selector_no_pod_has_to_follow(spec: Any) -> None:
    """A CronJob's next Job has the new template, and its old Jobs keep the old one."""
    assert running(live()).has_followed(selecting(spec=spec), "web", FAILING)
