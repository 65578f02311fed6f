"""Pull failures: of recorded pods of kubelet 1.34, and in the other forms that its code can write."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from saffire.pulls.cause import Cause
from saffire.pulls.failure import (
    ANTICIPATED,
    STALLED,
    PullFailure,
    Section,
    find_pull_failures,
    images_maybe_failing,
    status_lags,
)
from saffire.pulls.kubelet_event import PullReport
from testkit.builders import FAILING, NOW, REFUSED, SECOND, Object, pod, recorded_pod, report, running, waiting

TEAM = "127.0.0.1:5001/team"
DATA = "quay.io/acme/data:1"
BACK_OFF = f'Back-off pulling image "{FAILING}"'


def failing(pod: Object, pull_report: PullReport | None = None) -> list[tuple[str, str]]:
    """Return container and image of each failure."""
    return [(failure.container, failure.image) for failure in find_pull_failures(pod, pull_report)]


def test_a_long_error_is_clipped() -> None:
    """The text comes from a stranger's registry, so its length is bounded."""
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
    """A container whose pull failed is found; healthy containers, and those that wait for another, are not."""
    failures = find_pull_failures(recorded_pod(name))
    assert expected == [(failure.section, failure.container, failure.image) for failure in failures]
    assert all(failure.error.endswith(REFUSED) and failure.reason == "ImagePullBackOff" for failure in failures)


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
    """For some reasons the cause is known without a text."""
    assert [(expected, reason)] == [
        (failure.cause, failure.reason) for failure in find_pull_failures(pod(waiting(reason=reason)))
    ]


@pytest.mark.parametrize(
    "reason",
    ["", "ContainerCreating", "PodInitializing", "CrashLoopBackOff", "CreateContainerConfigError", "RunContainerError"],
)
def test_other_reasons_are_not_about_the_pull(reason: str) -> None:
    """They are about a step before or after the pull."""
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
    """The cause is found in the status of an error, after a back-off, and in an Event, even after the longest names."""
    fresh = pod(waiting(reason="ContainerCreating"))
    failures = (
        *find_pull_failures(pod(waiting(message=error))),
        *find_pull_failures(pod(waiting(reason="ImagePullBackOff", message=f"{BACK_OFF}: ErrImagePull: {error}"))),
        *find_pull_failures(fresh, report(f'Failed to pull image "{FAILING}": {error}')),
    )
    assert [expected] * 3 == [failure.cause for failure in failures]


def test_every_section_is_searched() -> None:
    """Init containers, among them sidecars, and ephemeral containers have their own lists in spec and status."""
    for section in (Section.INIT_CONTAINERS, Section.CONTAINERS, Section.EPHEMERAL_CONTAINERS):
        failures = find_pull_failures(pod(running("first"), waiting(), section=section, first="a", web=FAILING))
        assert [(section, "web")] == [(failure.section, failure.container) for failure in failures]


def test_several_containers_of_a_pod_may_fail() -> None:
    """Both are found, with different reasons, and the healthy container between them is not."""
    statuses = (waiting("a", "a:1"), running("b", "b:1"), waiting("c", "c:1", "ImagePullBackOff"))
    assert [("a", "a:1"), ("c", "c:1")] == failing(pod(*statuses, a="a:1", b="b:1", c="c:1"))


def test_statuses_are_found_by_name() -> None:
    """The kubelet sorts statuses by name, while the spec keeps its author's order."""
    statuses = (running("a", "a:1"), waiting("z", "z:1"))
    assert [("z", "z:1")] == failing(pod(*statuses, z="z:1", a="a:1"))


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
            [("web", FAILING)],
            waiting(image=SECOND, reason="ImagePullBackOff", message=BACK_OFF),
            id="the-kubelet-tried-the-new-image",
        ),
    ],
)
def test_a_status_older_than_the_patch_is_no_failure(expected: list[Any], status: Object) -> None:
    """After a patch in place, the status is about the old image until the kubelet has tried the new one."""
    assert expected == failing(pod(status))


def test_the_same_image_in_another_spelling_is_the_same() -> None:
    """Runtimes report normalised names, while pods may have familiar ones."""
    assert [("web", "nginx")] == failing(pod(waiting(image="docker.io/library/nginx:latest"), web="nginx"))


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
def test_a_restarted_container_fails_with_the_image_of_its_spec(expected: list[Any], status: Object) -> None:
    """Once it ran, its status may have any of the node's names of the image; only the message counts."""
    assert expected == failing(pod(status))


@pytest.mark.parametrize(
    ("expected", "generation", "observed"), [([("web", FAILING)], 2, 2), ([], 2, 1), ([("web", FAILING)], 2, 0)]
)
def test_a_restarted_container_s_status_may_be_outdated(expected: list[Any], generation: int, observed: int) -> None:
    """Since 1.33 the status has the generation of the pod that it is about; older kubelets do not write it."""
    manifest = pod(restarted())
    manifest["metadata"]["generation"] = generation
    manifest["status"]["observedGeneration"] = observed
    assert expected == failing(manifest)


def mounting(*statuses: Object, volume: str = DATA) -> Object:
    """Return a pod whose container mounts an image volume."""
    manifest = pod(*statuses)
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
    """The kubelet reports it in the container's status; the message tells that it is the volume's image."""
    failures = find_pull_failures(mounting(status))
    name = "data" if section == "volumes" else "web"
    assert [(section, name, image)] == [(failure.section, failure.container, failure.image) for failure in failures]


def test_a_volume_that_several_containers_mount_fails_once() -> None:
    """Although two containers report it, one image has to move."""
    message = 'Back-off pulling image "quay.io/acme/data:1": x'
    statuses = [
        waiting(name, image, "ImagePullBackOff", message) for name, image in (("web", FAILING), ("api", SECOND))
    ]
    manifest = mounting(waiting())
    manifest["spec"]["containers"].append({"name": "api", "image": SECOND})
    manifest["status"]["containerStatuses"] = statuses
    assert [("volumes", "data")] == [(failure.section, failure.container) for failure in find_pull_failures(manifest)]


def test_an_image_that_is_also_a_volume_fails_as_the_container_s() -> None:
    """The message does not tell them apart, and only the container's image can be changed."""
    manifest = mounting(waiting(reason="ImagePullBackOff", message=BACK_OFF), volume=FAILING)
    assert [("containers", FAILING)] == [(failure.section, failure.image) for failure in find_pull_failures(manifest)]


def test_a_volume_with_an_invalid_reference_does_not_fail() -> None:
    """The container's own failure is still found."""
    manifest = mounting(waiting(message='invalid reference format "NO//IMAGE"'), volume="NO//IMAGE")
    assert [("containers", FAILING)] == [(failure.section, failure.image) for failure in find_pull_failures(manifest)]


# Events that come before the status

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
STARTED = datetime(2026, 11, 23, 1, 0, tzinfo=UTC)
RAN = {"terminated": {"exitCode": 255, "startedAt": "2026-11-23T01:00:00Z", "finishedAt": "2026-11-23T01:59:00Z"}}
ENDED = [
    pytest.param({**running(), "state": RAN}, id="ended"),
    pytest.param({**waiting(reason="ContainerCreating"), "lastState": RAN}, id="waits-after-an-end"),
    pytest.param({**waiting(reason=""), "state": {}, "lastState": RAN}, id="no-state-after-an-end"),
]


@pytest.mark.parametrize("statuses", FRESH)
def test_the_live_event_proves_a_failure_before_the_status_shows_it(statuses: tuple[Object, ...]) -> None:
    """Pod, container and image agree, and the status says only that the container is being created."""
    manifest = pod(*statuses)
    assert status_lags(manifest, "web")
    expected = PullFailure(
        section=Section.CONTAINERS,
        container="web",
        image=FAILING,
        reason="ErrImagePull",
        error=REFUSED,
        cause=Cause.REFUSED,
        in_status=False,
    )
    assert (expected,) == find_pull_failures(manifest, report())


@pytest.mark.parametrize("status", SETTLED)
def test_a_status_that_does_not_lag_decides(status: Object) -> None:
    """If a container runs, or crashes, an Event proves no failure of its pull."""
    manifest = pod(status)
    assert not status_lags(manifest, "web")
    assert () == find_pull_failures(manifest, replace(report(), last=NOW))


@pytest.mark.parametrize("status", ENDED)
@pytest.mark.parametrize(
    ("expected", "last"),
    [
        ([("web", FAILING)], STARTED + timedelta(seconds=1)),
        ([], STARTED),
        ([], STARTED - timedelta(seconds=1)),
        ([], None),
    ],
)
def test_an_event_proves_the_failure_of_a_container_that_started_before_it(
    expected: list[tuple[str, str]], last: datetime | None, status: Object
) -> None:
    """Once the container has ended, the kubelet pulls again; an Event from before its start proves nothing."""
    manifest = pod(status)
    assert status_lags(manifest, "web")
    assert expected == failing(manifest, replace(report(), last=last))


@pytest.mark.parametrize(
    "status",
    [
        pytest.param({**waiting(reason=""), "state": {"terminated": {"exitCode": 0}}}, id="ended"),
        pytest.param({**waiting(reason="ContainerCreating"), "imageID": "sha256:d03c"}, id="ran-before"),
        pytest.param({**waiting(reason="ContainerCreating"), "lastState": {"terminated": {}}}, id="ended-before"),
    ],
)
def test_an_event_proves_nothing_if_the_start_is_unknown(status: Object) -> None:
    """The Event may be about an earlier pull."""
    assert ([], []) == (
        failing(pod(status), replace(report(), last=NOW)),
        failing(pod(status), report()),
    )


@pytest.mark.parametrize(
    "pull_report",
    [
        pytest.param(report(uid="another"), id="another-pod-of-that-name"),
        pytest.param(report(uid=""), id="no-pod"),
        pytest.param(report(f'Failed to pull image "{SECOND}": x'), id="another-image"),
        pytest.param(report('Failed to pull image "quay.io/acme/web:1.2.3": x'), id="another-tag"),
        pytest.param(report(field_path="spec.containers{other}"), id="another-container"),
        pytest.param(report(field_path=""), id="no-container"),
        pytest.param(report(f'Failed to pull image "{DATA}": x', field_path=""), id="no-such-volume"),
        pytest.param(report("Error: ErrImagePull"), id="no-image"),
        pytest.param(None, id="no-report"),
    ],
)
def test_a_report_about_something_else_proves_nothing(pull_report: PullReport | None) -> None:
    """An Event may be old, forged, or about another pod of the same name."""
    assert () == find_pull_failures(pod(waiting(reason="ContainerCreating")), pull_report)


def test_what_the_status_shows_is_not_found_twice() -> None:
    """If status and Event are about the same failure, that of the status counts."""
    status = waiting(reason="ImagePullBackOff", message=BACK_OFF)
    assert ["ImagePullBackOff"] == [failure.reason for failure in find_pull_failures(pod(status), report())]


def test_a_report_adds_to_the_failures_of_the_status() -> None:
    """One container's failure is in the status, and the other's is still only in the Event."""
    statuses = (waiting("proxy", SECOND), waiting(reason="ContainerCreating"))
    assert [("proxy", SECOND), ("web", FAILING)] == failing(pod(*statuses, proxy=SECOND, web=FAILING), report())


def test_the_live_event_proves_a_failure_after_a_patch() -> None:
    """The pod was moved to a second repository, which fails too, while the status is still about the first."""
    status = waiting(image=FAILING, reason="ImagePullBackOff", message=BACK_OFF)
    manifest = pod(status, web=SECOND)
    assert status_lags(manifest, "web")
    assert [("web", SECOND)] == failing(manifest, report(f'Failed to pull image "{SECOND}": x'))


def test_a_restarted_container_s_status_does_not_lag() -> None:
    """Its status may have any of the node's names of the image, so it may be about the spec's image."""
    assert not status_lags(pod(restarted()), "web")


def test_a_container_and_its_volume_fail_separately() -> None:
    """The status is about the volume's image, and the Event about the container's: both have to move."""
    volume = 'Back-off pulling image "quay.io/acme/data:1": x'
    manifest = mounting(waiting(reason="ImagePullBackOff", message=volume))
    assert [("data", "quay.io/acme/data:1"), ("web", FAILING)] == failing(manifest, report())


VOLUME_FAILED = report(f'Failed to pull image "{DATA}": {REFUSED}', field_path="")


@pytest.mark.parametrize("statuses", FRESH)
def test_the_live_event_of_an_image_volume_proves_its_failure(statuses: tuple[Object, ...]) -> None:
    """It names no container, and the status of the container that mounts the volume does not show it yet."""
    manifest = mounting(*statuses)
    assert status_lags(manifest, "")
    [failure] = find_pull_failures(manifest, VOLUME_FAILED)
    assert (Section.VOLUMES, "data", DATA) == (failure.section, failure.container, failure.image)
    assert (Cause.REFUSED, False) == (failure.cause, failure.in_status)
    assert DATA in images_maybe_failing(manifest)


@pytest.mark.parametrize("status", SETTLED)
def test_an_event_of_an_image_volume_proves_nothing_of_a_pod_that_has_begun(status: Object) -> None:
    """No status lags, so the volume is there."""
    manifest = mounting(status)
    assert not status_lags(manifest, "")
    assert () == find_pull_failures(manifest, VOLUME_FAILED)
    assert () == images_maybe_failing(manifest)


def test_a_volume_with_the_image_of_a_container_waits_for_the_status() -> None:
    """Only the container's image can be changed in a live pod, and it fails next."""
    manifest = mounting(waiting(reason="ContainerCreating"), volume=FAILING)
    assert () == find_pull_failures(manifest, report(field_path=""))


@pytest.mark.parametrize(
    "error",
    [
        f'failed to pull and unpack image "{FAILING}": failed to resolve reference "{FAILING}": {REFUSED}',
        f"initializing source docker://{FAILING}: pinging container registry quay.io: {REFUSED}",
    ],
    ids=["containerd", "cri-o"],
)
def test_an_error_of_the_image_before_a_patch_is_no_failure(error: str) -> None:
    """After a patch, a kubelet writes the new image beside the error of the old one."""
    manifest = pod(waiting(image=SECOND, message=error), web=SECOND)
    assert [] == failing(manifest)
    assert status_lags(manifest, "web")


def test_the_status_of_each_container_may_lag() -> None:
    """A container that does not exist does not lag; without a name, any counts. `images_maybe_failing` has them all."""
    manifest = pod(waiting("a", "a:1"), waiting("b", "b:1", "ContainerCreating"), a="a:1", b="b:1")
    assert [False, True, False, True] == [status_lags(manifest, name) for name in ("a", "b", "c", "")]
    assert ("b:1",) == images_maybe_failing(manifest)
    assert () == images_maybe_failing(pod(waiting("a", "a:1"), running("b", "b:1"), a="a:1", b="b:1"))


@pytest.mark.parametrize(
    ("expected", "error"),
    [
        (True, f"failed to copy: httpReadSeeker: failed open: failed to do request: {REFUSED}"),
        (True, "reading blob sha256:5: fetching blob: StatusCode: 520"),
        (True, "short read: expected 126 bytes but got 0: unexpected EOF"),
        (False, f"failed to resolve image: failed to do request: {REFUSED}"),
        (False, "failed to copy: httpReadSeeker: failed open: unexpected status code x: 429 Too Many Requests"),
        (False, ""),
    ],
    ids=["words", "cri-o", "cause", "tag", "throttled", "no-words"],
)
def test_a_pull_may_fail_at_a_part_of_the_image(expected: bool, error: str) -> None:  # noqa: FBT001
    """Words or cause say so. Who throttles does so for all parts, and each question about one would count."""
    assert [expected] == [failure.is_of_part for failure in find_pull_failures(pod(waiting(message=error)))]


@pytest.mark.parametrize(
    ("expected", "reason", "error", "cause"),
    [
        pytest.param("quay.io refused the connection", "ErrImagePull", REFUSED, Cause.REFUSED, id="words"),
        pytest.param(
            "the pull from quay.io failed, and the node does not say why in known words",
            "ErrImagePull",
            "a text of tomorrow",
            Cause.UNKNOWN,
            id="unknown-words",
        ),
        pytest.param("the pull from quay.io failed", "ErrImagePull", "", Cause.UNKNOWN, id="history"),
        pytest.param("the pull from quay.io has stalled", STALLED, "", Cause.UNKNOWN, id="history-stalled"),
        pytest.param(
            "another pull from quay.io failed, so this pull will fail too",
            ANTICIPATED,
            "",
            Cause.UNKNOWN,
            id="history-anticipated",
        ),
    ],
)
def test_why_an_image_cannot_be_pulled_claims_no_more_than_is_known(
    expected: str, reason: str, error: str, cause: Cause
) -> None:
    """A history annotation keeps the reason without the runtime's text: nobody knows what the node said then."""
    failure = PullFailure(
        section=Section.CONTAINERS, container="web", image=FAILING, reason=reason, error=error, cause=cause
    )
    assert expected == failure.why
