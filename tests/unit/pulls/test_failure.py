"""Pull failures: held to recorded pods of kubelet 1.34, then to what else its code can say."""

from dataclasses import replace
from typing import Any

import pytest

from saffire.pulls.cause import Cause
from saffire.pulls.failure import PullFailure, Section, find_pull_failures, images_maybe_failing, status_lags
from saffire.pulls.kubelet_event import PullReport
from testkit.builders import FAILING, REFUSED, SECOND, Object, pod, recorded_pod, report, running, waiting

TEAM = "127.0.0.1:5001/team"
BACK_OFF = f'Back-off pulling image "{FAILING}"'


def seen(pod: Object, evidence: PullReport | None = None) -> list[tuple[str, str]]:
    """Return container and image of each failure."""
    return [(failure.container, failure.image) for failure in find_pull_failures(pod, evidence)]


def test_a_long_error_is_clipped() -> None:
    """What a stranger's registry says is bounded."""
    assert [1024] == [len(failure.error) for failure in find_pull_failures(pod(waiting(message="x" * 5000)))]


@pytest.mark.parametrize(
    ("expected", "name"),
    [
        pytest.param([("containers", "app", f"{TEAM}/prep:v1")], "bare", id="beside-a-healthy-container"),
        pytest.param([("containers", "app", f"{TEAM}/job:v1")], "db-0", id="StatefulSet"),
        pytest.param([("containers", "app", f"{TEAM}/job:v1")], "once-5ptlv", id="Job"),
        pytest.param([("containers", "app", f"{TEAM}/job:v1")], "tick-29923241-tnsjx", id="CronJob"),
        pytest.param([("initContainers", "install-cni", f"{TEAM}/prep:v1")], "flannel-zz52s", id="init-container"),
        pytest.param([], "web-675c878845-7r62g", id="running"),
    ],
)
def test_a_recorded_pod_shows_its_failures(expected: list[Any], name: str) -> None:
    """A container that waits on its pull is found; healthy ones and those in line are not."""
    failures = find_pull_failures(recorded_pod(name))
    assert expected == [(found.section, found.container, found.image) for found in failures]
    assert all(found.error.endswith(REFUSED) and found.reason == "ImagePullBackOff" for found in failures)


@pytest.mark.parametrize(
    ("expected", "reason"),
    [
        (Cause.UNKNOWN, "ErrImagePull"),
        (Cause.UNKNOWN, "ImagePullBackOff"),
        (Cause.REFUSED, "RegistryUnavailable"),
        (Cause.BAD_NAME, "InvalidImageName"),
        (Cause.NEVER_PULL, "ErrImageNeverPull"),
        (Cause.SIGNATURE, "SignatureValidationFailed"),
        (Cause.NODE, "ImageInspectError"),
    ],
)
def test_every_reason_of_the_image_manager_is_a_failure(expected: Cause, reason: str) -> None:
    """Of some the reason alone says the cause."""
    assert [(expected, reason)] == [
        (found.cause, found.reason) for found in find_pull_failures(pod(waiting(reason=reason)))
    ]


@pytest.mark.parametrize(
    "reason",
    ["", "ContainerCreating", "PodInitializing", "CrashLoopBackOff", "CreateContainerConfigError", "RunContainerError"],
)
def test_other_reasons_are_not_about_the_pull(reason: str) -> None:
    """What comes before or after the pull is somebody else's business."""
    assert () == find_pull_failures(pod(waiting(reason=reason)))


@pytest.mark.parametrize(
    ("expected", "error"),
    [
        (Cause.PLATFORM, "rpc error: code = NotFound desc = no match for platform in manifest: not found"),
        (Cause.REFUSED, REFUSED),
        (Cause.TIMEOUT, f'failed to resolve reference "{"a" * 2000}": dial tcp 10.0.0.1:443: i/o timeout'),
    ],
)
def test_the_runtime_s_words_tell_the_cause(expected: Cause, error: str) -> None:
    """The same words count in an error's message, after a back-off, and in an Event, behind the longest names too."""
    fresh = pod(waiting(reason="ContainerCreating"))
    found = (
        *find_pull_failures(pod(waiting(message=error))),
        *find_pull_failures(pod(waiting(reason="ImagePullBackOff", message=f"{BACK_OFF}: ErrImagePull: {error}"))),
        *find_pull_failures(fresh, report(f'Failed to pull image "{FAILING}": {error}')),
    )
    assert [expected] * 3 == [failure.cause for failure in found]


def test_every_section_is_searched() -> None:
    """Init containers, among them sidecars, and ephemeral containers have their own lists in spec and status."""
    for section in (Section.INIT_CONTAINERS, Section.CONTAINERS, Section.EPHEMERAL_CONTAINERS):
        found = find_pull_failures(pod(running("first"), waiting(), section=section, first="a", web=FAILING))
        assert [(section, "web")] == [(failure.section, failure.container) for failure in found]


def test_several_containers_of_a_pod_may_fail() -> None:
    """Each is found, whatever its reason, and the healthy one between them is not."""
    statuses = (waiting("a", "a:1"), running("b", "b:1"), waiting("c", "c:1", "ImagePullBackOff"))
    assert [("a", "a:1"), ("c", "c:1")] == seen(pod(*statuses, a="a:1", b="b:1", c="c:1"))


def test_statuses_are_found_by_name() -> None:
    """The kubelet sorts statuses by name, the spec keeps its author's order."""
    statuses = (running("a", "a:1"), waiting("z", "z:1"))
    assert [("z", "z:1")] == seen(pod(*statuses, z="z:1", a="a:1"))


@pytest.mark.parametrize(
    ("expected", "status"),
    [
        pytest.param([], waiting(image=SECOND), id="error-about-the-old-image"),
        pytest.param(
            [],
            waiting(image=SECOND, reason="ImagePullBackOff", message=f'Back-off pulling image "{SECOND}": x'),
            id="back-off-about-the-old-image",
        ),
        pytest.param(
            [],
            waiting(image=FAILING, reason="ImagePullBackOff", message=f'Back-off pulling image "{SECOND}"'),
            id="the-message-counts-more",
        ),
        pytest.param([("web", FAILING)], waiting(image=""), id="no-image-in-the-status"),
        pytest.param(
            [("web", FAILING)], waiting(image=SECOND, reason="ImagePullBackOff", message=BACK_OFF), id="it-looked-since"
        ),
    ],
)
def test_a_status_older_than_the_patch_is_no_failure(expected: list[Any], status: Object) -> None:
    """After an in-place patch the status still speaks of the image before, until the kubelet has looked again."""
    assert expected == seen(pod(status))


def test_the_same_image_in_another_spelling_is_the_same() -> None:
    """Runtimes report normalised names, pods are written in familiar ones."""
    assert [("web", "nginx")] == seen(pod(waiting(image="docker.io/library/nginx:latest"), web="nginx"))


def restarted(**fields: Any) -> Object:
    """Return the status of a container that ran, ended, and cannot pull its image again."""
    return {**waiting(**fields), "image": "another/name:it-has", "imageID": "sha256:d03c", "restartCount": 1}


@pytest.mark.parametrize(
    ("expected", "status"),
    [
        pytest.param([("web", FAILING)], restarted(), id="image-id"),
        pytest.param(
            [("web", FAILING)], {**restarted(), "imageID": "", "lastState": {"terminated": {}}}, id="last-state"
        ),
        pytest.param(
            [("web", FAILING)], restarted(reason="ImagePullBackOff", message=BACK_OFF), id="the-message-names-it"
        ),
        pytest.param(
            [],
            restarted(reason="ImagePullBackOff", message=f'Back-off pulling image "{SECOND}"'),
            id="the-message-names-another",
        ),
    ],
)
def test_a_restarted_container_fails_under_its_own_name(expected: list[Any], status: Object) -> None:
    """Once it ran, its status may name the image in any of the node's ways; only the message is to be trusted."""
    assert expected == seen(pod(status))


@pytest.mark.parametrize(
    ("expected", "generation", "observed"), [([("web", FAILING)], 2, 2), ([], 2, 1), ([("web", FAILING)], 2, 0)]
)
def test_a_restarted_container_s_status_may_be_outdated(expected: list[Any], generation: int, observed: int) -> None:
    """Since 1.33 the status tells which generation of the pod it is about; older kubelets do not say."""
    manifest = pod(restarted())
    manifest["metadata"]["generation"] = generation
    manifest["status"]["observedGeneration"] = observed
    assert expected == seen(manifest)


def mounting(status: Object, volume: str = "quay.io/acme/data:1") -> Object:
    """Return a pod whose container mounts an image volume."""
    manifest = pod(status)
    manifest["spec"]["volumes"] = [{"name": "tmp", "emptyDir": {}}, {"name": "data", "image": {"reference": volume}}]
    return manifest


@pytest.mark.parametrize(
    ("section", "image", "status"),
    [
        pytest.param(
            "volumes",
            "quay.io/acme/data:1",
            waiting(reason="ImagePullBackOff", message='Back-off pulling image "quay.io/acme/data:1": x'),
            id="back-off",
        ),
        pytest.param(
            "volumes",
            "quay.io/acme/data:1",
            waiting(message='failed to pull and unpack image "quay.io/acme/data:1": not found'),
            id="error",
        ),
        pytest.param("containers", FAILING, waiting(reason="ImagePullBackOff", message=BACK_OFF), id="not-the-volume"),
        pytest.param(
            "containers",
            FAILING,
            waiting(message=f'failed to pull and unpack image "{FAILING}": not found'),
            id="error-not-of-the-volume",
        ),
        pytest.param("containers", FAILING, waiting(message=REFUSED), id="an-error-that-names-none"),
    ],
)
def test_an_image_volume_fails_at_the_containers_that_mount_it(section: str, image: str, status: Object) -> None:
    """The kubelet blames the container; the words tell whose image it is."""
    found = find_pull_failures(mounting(status))
    name = "data" if section == "volumes" else "web"
    assert [(section, name, image)] == [(failure.section, failure.container, failure.image) for failure in found]


def test_a_volume_that_several_containers_mount_fails_once() -> None:
    """It is one image to move, however many containers show that it cannot be pulled."""
    message = 'Back-off pulling image "quay.io/acme/data:1": x'
    statuses = [
        waiting(name, image, "ImagePullBackOff", message) for name, image in (("web", FAILING), ("api", SECOND))
    ]
    manifest = mounting(waiting())
    manifest["spec"]["containers"].append({"name": "api", "image": SECOND})
    manifest["status"]["containerStatuses"] = statuses
    assert [("volumes", "data")] == [(failure.section, failure.container) for failure in find_pull_failures(manifest)]


def test_an_image_that_is_also_a_volume_fails_as_the_container_s() -> None:
    """Nobody can tell the two apart, and the container's can be changed."""
    manifest = mounting(waiting(reason="ImagePullBackOff", message=BACK_OFF), volume=FAILING)
    assert [("containers", FAILING)] == [(failure.section, failure.image) for failure in find_pull_failures(manifest)]


def test_a_volume_whose_name_nobody_can_read_is_not_blamed() -> None:
    """An invalid reference of a volume does not keep the container's failure from being found."""
    manifest = mounting(waiting(message='invalid reference format "NO//IMAGE"'), volume="NO//IMAGE")
    assert [("containers", FAILING)] == [(failure.section, failure.image) for failure in find_pull_failures(manifest)]


# Events run ahead of the status

FRESH = [
    pytest.param((waiting(reason="ContainerCreating"),), id="creating"),
    pytest.param((waiting(reason="PodInitializing"),), id="initializing"),
    pytest.param((waiting(reason=""),), id="no-reason"),
    pytest.param(({"name": "web", "image": "", "state": {}},), id="no-state"),
    pytest.param((), id="no-status"),
]
SETTLED = [
    pytest.param(running(), id="running"),
    pytest.param(waiting(reason="CrashLoopBackOff"), id="crash-loop"),
]
RAN = {"terminated": {"exitCode": 255, "startedAt": "2026-11-23T01:00:00Z", "finishedAt": "2026-11-23T01:59:00Z"}}
ENDED = [
    pytest.param({**running(), "state": RAN}, id="ended"),
    pytest.param({**waiting(reason="ContainerCreating"), "lastState": RAN}, id="waits-after-an-end"),
    pytest.param({**waiting(reason=""), "state": {}, "lastState": RAN}, id="no-state-after-an-end"),
]


@pytest.mark.parametrize("statuses", FRESH)
def test_the_live_event_proves_what_the_status_does_not_say_yet(statuses: tuple[Object, ...]) -> None:
    """Pod, container and image agree, and the status knows of nothing but its creation."""
    manifest = pod(*statuses)
    assert status_lags(manifest, "web")
    expected = PullFailure(
        section=Section.CONTAINERS,
        container="web",
        image=FAILING,
        reason="ErrImagePull",
        error=REFUSED,
        cause=Cause.REFUSED,
    )
    assert (expected,) == find_pull_failures(manifest, report())


@pytest.mark.parametrize("status", SETTLED)
def test_a_status_that_says_more_is_believed(status: Object) -> None:
    """A container that runs, or crashes, is not failed on the word of an Event."""
    manifest = pod(status)
    assert not status_lags(manifest, "web")
    assert () == find_pull_failures(manifest, replace(report(), at="2026-11-23T02:00:00Z"))


@pytest.mark.parametrize("status", ENDED)
@pytest.mark.parametrize(
    ("expected", "at"),
    [
        ([("web", FAILING)], "2026-11-23T01:00:01Z"),
        ([], "2026-11-23T01:00:00Z"),
        ([], "2026-11-23T00:59:59Z"),
        ([], ""),
    ],
)
def test_a_container_that_ended_fails_on_an_event_since_its_start(
    expected: list[tuple[str, str]], at: str, status: Object
) -> None:
    """A kubelet pulls for it again once it has ended; an Event that is not younger than its start is old news."""
    manifest = pod(status)
    assert status_lags(manifest, "web")
    assert expected == seen(manifest, replace(report(), at=at))


@pytest.mark.parametrize(
    "status",
    [
        pytest.param({**waiting(reason=""), "state": {"terminated": {"exitCode": 0}}}, id="ended"),
        pytest.param({**waiting(reason="ContainerCreating"), "imageID": "sha256:d03c"}, id="ran-before"),
        pytest.param({**waiting(reason="ContainerCreating"), "lastState": {"terminated": {}}}, id="ended-before"),
    ],
)
def test_a_container_that_ran_at_no_known_time_does_not_fail_on_an_event(status: Object) -> None:
    """Nothing tells whether the Event is about what came before or afterwards."""
    assert ([], []) == (
        seen(pod(status), replace(report(), at="2026-11-23T02:00:00Z")),
        seen(pod(status), report()),
    )


@pytest.mark.parametrize(
    "evidence",
    [
        pytest.param(report(uid="another"), id="another-pod-of-that-name"),
        pytest.param(report(uid=""), id="no-pod"),
        pytest.param(report(f'Failed to pull image "{SECOND}": x'), id="another-image"),
        pytest.param(report('Failed to pull image "quay.io/acme/web:1.2.3": x'), id="another-tag"),
        pytest.param(report(place="spec.containers{other}"), id="another-container"),
        pytest.param(report(place=""), id="no-container"),
        pytest.param(report("Error: ErrImagePull"), id="no-image"),
        pytest.param(None, id="no-evidence"),
    ],
)
def test_evidence_about_something_else_proves_nothing(evidence: PullReport | None) -> None:
    """An Event may be old, forged, or about another pod of the same name."""
    assert () == find_pull_failures(pod(waiting(reason="ContainerCreating")), evidence)


def test_what_the_status_shows_is_not_found_twice() -> None:
    """Status and Event tell of the same failure; the status knows more."""
    status = waiting(reason="ImagePullBackOff", message=BACK_OFF)
    assert ["ImagePullBackOff"] == [failure.reason for failure in find_pull_failures(pod(status), report())]


def test_evidence_adds_to_what_the_status_shows() -> None:
    """One container's failure is in the status, the other's only in the Event yet."""
    statuses = (waiting("proxy", SECOND), waiting(reason="ContainerCreating"))
    assert [("proxy", SECOND), ("web", FAILING)] == seen(pod(*statuses, proxy=SECOND, web=FAILING), report())


def test_the_live_event_proves_what_a_status_older_than_the_patch_cannot_say() -> None:
    """The pod was moved to a second repository, which fails too, while the status still speaks of the first."""
    status = waiting(image=FAILING, reason="ImagePullBackOff", message=BACK_OFF)
    manifest = pod(status, web=SECOND)
    assert status_lags(manifest, "web")
    assert [("web", SECOND)] == seen(manifest, report(f'Failed to pull image "{SECOND}": x'))


def test_a_restarted_container_s_error_is_not_behind() -> None:
    """Its status names the image in any of the node's ways, so nothing says that it speaks of another one."""
    assert not status_lags(pod(restarted()), "web")


def test_a_container_and_its_volume_fail_apart() -> None:
    """Its status tells of the volume that it mounts, an Event of its own image: two images to move."""
    volume = 'Back-off pulling image "quay.io/acme/data:1": x'
    manifest = mounting(waiting(reason="ImagePullBackOff", message=volume))
    assert [("data", "quay.io/acme/data:1"), ("web", FAILING)] == seen(manifest, report())


@pytest.mark.parametrize(
    "error",
    [
        f'failed to pull and unpack image "{FAILING}": failed to resolve reference "{FAILING}": {REFUSED}',
        f"initializing source docker://{FAILING}: pinging container registry quay.io: {REFUSED}",
    ],
    ids=["containerd", "cri-o"],
)
def test_the_last_error_of_an_image_is_not_blamed_on_the_next(error: str) -> None:
    """After a patch a kubelet writes the new image beside the error of the old one."""
    manifest = pod(waiting(image=SECOND, message=error), web=SECOND)
    assert [] == seen(manifest)
    assert status_lags(manifest, "web")


def test_a_status_lags_for_the_container_that_is_asked_about() -> None:
    """Others say nothing about it, and a container that is not there does not lag; all that wait have images."""
    manifest = pod(waiting("a", "a:1"), waiting("b", "b:1", "ContainerCreating"), a="a:1", b="b:1")
    assert [False, True, False, False] == [status_lags(manifest, name) for name in ("a", "b", "c", "")]
    assert ("b:1",) == images_maybe_failing(manifest)
    assert () == images_maybe_failing(pod(waiting("a", "a:1"), running("b", "b:1"), a="a:1", b="b:1"))
