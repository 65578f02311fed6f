"""What runs: the digests that live pods tell, and whether they have followed their template."""

from typing import Any

import pytest

from saffire.policy.running_images import RunningImages
from testkit.builders import FAILING, SECOND, THIRD, Object, pod, workload

LABELS = {"app": "web"}


def live(name: str = "web-0", image: str = SECOND, digest: str = "1", section: str = "containers") -> Object:
    """Return a pod that has run an image, if there is a digest."""
    told = {"name": "web", "image": image, "imageID": f"{image}@sha256:{digest}" if digest else "", "state": {}}
    found = pod(told, section=section, web=image)
    owner = {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "a-deployment-abc", "uid": "u", "controller": True}
    labels = {**LABELS, "pod-template-hash": "abc"}
    found["metadata"] |= {"name": name, "uid": f"{name}-uid", "labels": labels, "ownerReferences": [owner]}
    found["spec"] |= {"nodeName": "node-1", "imagePullSecrets": [{"name": "pull"}]}
    return found


def running(*pods: Object) -> RunningImages:
    """Return what is known after these pods were seen."""
    found = RunningImages()
    for one in pods:
        found.observe(one)
    return found


def gone(**fields: Any) -> Object:
    """Return a pod that is over, or about to be."""
    found = live()
    found["status"] |= {key: value for key, value in fields.items() if key == "phase"}
    found["metadata"] |= {key: value for key, value in fields.items() if key != "phase"}
    return found


def selecting(**fields: Any) -> Object:
    """Return a Deployment that selects the pods above."""
    found = workload("Deployment", web=SECOND)
    found["spec"] |= {"selector": {"matchLabels": LABELS}}
    found["metadata"] |= {"generation": 3}
    found["status"] = {"observedGeneration": 3}
    return {**found, **fields}


GONE = [
    pytest.param(gone(phase="Succeeded"), id="ended"),
    pytest.param(gone(phase="Failed"), id="evicted"),
    pytest.param(gone(deletionTimestamp="2026-11-23T02:00:00Z"), id="terminating"),
]


def test_pods_tell_what_an_image_stands_for() -> None:
    """All of them, if they do not agree."""
    found = running(live(), live("web-1", digest="2"), live("web-2", FAILING, digest="3"))
    assert [{"sha256:1", "sha256:2"}, {"sha256:3"}, set()] == [
        found.digests(image) for image in (SECOND, FAILING, THIRD)
    ]


@pytest.mark.parametrize("over", GONE)
def test_who_is_gone_tells_nothing(over: Object) -> None:
    """It runs no more, and its digest may be an old one."""
    found = running(over)
    assert (frozenset(), None) == (found.digests(SECOND), found.pod_spec(SECOND))


def test_a_pod_tells_where_an_image_runs_and_what_may_pull_it() -> None:
    """With the pull secrets of its ServiceAccount, which no template names."""
    found = running(live(), live("web-1", THIRD, digest=""))
    assert {"nodeName": "node-1", "imagePullSecrets": [{"name": "pull"}]} == found.pod_spec(SECOND)
    assert found.pod_spec(THIRD) is None


@pytest.mark.parametrize("section", ["containers", "initContainers"])
def test_pods_follow_when_all_have_run_the_image(section: str) -> None:
    """Of the last one the status says so."""
    pods = [live(f"web-{number}", section=section) for number in range(3)]
    assert running(*pods).has_followed(selecting(), "web", SECOND)
    assert not running(*pods, live("web-3", digest="", section=section)).has_followed(selecting(), "web", SECOND)
    assert not running(*pods, live("web-3", FAILING, section=section)).has_followed(selecting(), "web", SECOND)


@pytest.mark.parametrize("over", GONE)
def test_who_is_gone_holds_up_nobody(over: Object) -> None:
    """An old pod that is on its way out is no longer to be replaced."""
    assert running(over).has_followed(selecting(), "web", FAILING)


@pytest.mark.parametrize(("replicas", "expected"), [(2, False), (0, True), (None, True)])
def test_pods_that_are_still_to_come_are_waited_for(replicas: int | None, *, expected: bool) -> None:
    """A rollout that ends all old pods first has none for a moment; who wants none waits for none."""
    wanted = selecting()
    wanted["spec"] |= {"replicas": replicas}
    assert expected == running().has_followed(wanted, "web", FAILING)


def test_the_pods_of_others_hold_up_nobody() -> None:
    """They have other labels, another controller or none, or no such container."""
    strangers = [live(f"other-{number}") for number in range(3)]
    strangers[0]["metadata"]["labels"] = {"app": "other"}
    strangers[1]["metadata"]["ownerReferences"][0]["name"] = "a-deployment2-abc"
    strangers[2]["metadata"]["ownerReferences"] = []
    assert running(*strangers, live("web-1")).has_followed(selecting(), "sidecar", FAILING)
    assert running(*strangers).has_followed(selecting(), "web", FAILING)


def test_pods_may_be_the_workload_s_own() -> None:
    """Those of a StatefulSet have no ReplicaSet between."""
    own = live()
    own["metadata"]["ownerReferences"][0]["name"] = "a-deployment"
    assert not running(own).has_followed(selecting(), "web", FAILING)


def test_a_controller_that_has_not_seen_its_template_has_not_followed() -> None:
    """Its pods are those of the old one, and may all run."""
    behind = selecting(status={"observedGeneration": 2})
    assert not running(live()).has_followed(behind, "web", SECOND)


@pytest.mark.parametrize(
    "fields",
    [
        pytest.param({"status": {"observedGeneration": "2"}}, id="Argo's is a text"),
        pytest.param({"status": {}}, id="a CronJob has none"),
    ],
)
def test_a_controller_that_does_not_say_is_not_waited_for(fields: Any) -> None:
    """Its pods tell."""
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
def test_without_a_selector_nothing_follows(spec: Any) -> None:
    """A CronJob's next Job has the new template, and its old ones keep theirs."""
    assert running(live()).has_followed(selecting(spec=spec), "web", FAILING)
