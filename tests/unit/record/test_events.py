"""Events, answers and log fields: what their texts say, and that they fit."""

import json
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from saffire.kube.manifest import is_subdomain, printable
from saffire.policy.plan import Failover, Leave, Plan, Reason, Step, Wait
from saffire.pulls.cause import Cause
from saffire.pulls.failure import ANTICIPATED, STALLED, PullFailure, Section
from saffire.record.events import (
    REPORTED_AT_POD,
    FailoverRecord,
    explain,
    failover_event,
    failover_events,
    leave_event,
    log_fields,
    refusal_event,
)
from saffire.registry.availability import Proof
from saffire.registry.reference import Reference
from saffire.sources.candidates import candidates
from testkit.builders import (
    FAILING,
    NOW,
    REFUSED,
    SECOND,
    Object,
    annotated,
    chain,
    cluster_source,
    cluster_source_manifest,
    pod,
    source,
    source_manifest,
    workload,
)

FAILURE = PullFailure(
    section=Section.CONTAINERS,
    container="web",
    image=FAILING,
    reason="ErrImagePull",
    error=REFUSED,
    cause=Cause.REFUSED,
)
WORKLOAD = workload("StatefulSet")
FAILOVER = Failover(
    failure=FAILURE,
    candidate=candidates(Reference.parse(FAILING), [source()])[0],
    workload=WORKLOAD,
    steps=(Step.TEMPLATE, Step.PODS),
)
WIDE_CANDIDATE = candidates(Reference.parse(FAILING), [cluster_source()])[0]
IN_PLACE = replace(FAILOVER, steps=(Step.PODS,))
OBSERVED = replace(FAILOVER, observed=True)
BACK = Failover(
    failure=PullFailure(section=Section.CONTAINERS, container="web", image=SECOND, reason="FailedBack"),
    candidate=replace(FAILOVER.candidate, image=FAILING, reference=Reference.parse(FAILING)),
    workload=WORKLOAD,
    steps=(Step.TEMPLATE,),
    proof=Proof.EQUAL,
    is_back=True,
)
COOLING = "every alternative failed lately or will not do; the next try is due at 2026-11-23T02:00:30Z"
WAIT = Wait(failure=FAILURE, until=NOW + timedelta(seconds=30))
LEAVE = Leave(failure=FAILURE, reason=Reason.OWNER_UNSEEN, detail="Rollout/web may not be read")


def record_of(failover: Failover, seconds: int = 0) -> FailoverRecord:
    """Return the record of a failover, made so many seconds after `NOW`."""
    return FailoverRecord(failover=failover, at=NOW + timedelta(seconds=seconds), regarding=failover.workload)


def event_of(failover: Failover, regarding: Object | None = None, seconds: int = 0) -> Any:
    """Return the Event of a failover, made so many seconds after `NOW`."""
    return failover_event(record_of(failover, seconds), regarding or pod())


def name(event: Any) -> str:
    """Return the name of an Event."""
    result: str = event["metadata"]["name"]
    return result


# Events


def test_a_failover_s_event_says_who_moved_from_where_to_where_and_why() -> None:
    """An operator who has never heard of Saffire understands the message."""
    expected = (
        "moved web of StatefulSet/a-statefulset from quay.io/acme/web:1.2 to ghcr.io/acme/web:1.2: "
        "quay.io refused the connection; alternative not verified; by AlternateImageSource/shop"
    )
    event = event_of(FAILOVER, workload("StatefulSet"))
    assert ("Normal", "Failover", expected) == (event["type"], event["reason"], event["message"])


@pytest.mark.parametrize(
    ("reason", "verb", "back"),
    [("FailBack", "moved", BACK), ("FailBackObserved", "would move", replace(BACK, observed=True))],
)
def test_a_fail_back_s_event_says_that_the_original_is_healthy(reason: str, verb: str, back: Failover) -> None:
    """It has a reason of its own, so that operators can tell it from a failover."""
    expected = (
        f"{verb} web of StatefulSet/a-statefulset back from ghcr.io/acme/web:1.2 to quay.io/acme/web:1.2: "
        "the original is healthy again at quay.io; original has the same digest; by AlternateImageSource/shop"
    )
    event = event_of(back, workload("StatefulSet"))
    assert ("Normal", reason, expected) == (event["type"], event["reason"], event["message"])


UNASKED_CANDIDATE = candidates(Reference.parse(FAILING), [source(verification="Off")])[0]


@pytest.mark.parametrize(
    ("expected", "failover"),
    [
        ("alternative has the same digest", replace(FAILOVER, proof=Proof.EQUAL)),
        ("alternative is there", replace(FAILOVER, proof=Proof.PRESENT)),
        ("alternative not verified", FAILOVER),
        ("alternative not checked", replace(FAILOVER, candidate=UNASKED_CANDIDATE)),
    ],
)
def test_the_message_says_how_the_alternative_was_verified(expected: str, failover: Failover) -> None:
    """It is a difference whether no registry was asked, or a registry's answer proved nothing."""
    assert (
        f": quay.io refused the connection; {expected}; by AlternateImageSource/shop" in event_of(failover)["message"]
    )


@pytest.mark.parametrize(
    ("expected", "failure"),
    [
        ("quay.io does not answer in time, and the pull has stalled", {"reason": STALLED, "cause": Cause.TIMEOUT}),
        ("quay.io refused the connection, so this pull will fail as another did", {"reason": ANTICIPATED}),
        ("the name quay.io cannot be resolved", {"cause": Cause.DNS}),
        ("the registry refused the connection", {"image": "BAD//::x"}),
    ],
)
def test_the_message_says_why_a_container_was_moved(expected: str, failure: dict[str, Any]) -> None:
    """It names the registry that failed, even if no pull from it has failed yet."""
    event = event_of(replace(FAILOVER, failure=replace(FAILURE, **failure)))
    assert f": {expected}; alternative " in event["message"]


def test_an_event_is_one_of_core_v1_about_its_object() -> None:
    """It has every field that the API server requires, and names Saffire as its component."""
    event = event_of(FAILOVER, workload("StatefulSet"))
    about = {"apiVersion": "apps/v1", "kind": "StatefulSet", "namespace": "shop"}
    assert {**about, "name": "a-statefulset", "uid": "statefulset-uid"} == event["involvedObject"]
    assert ("v1", "Event", "shop") == (event["apiVersion"], event["kind"], event["metadata"]["namespace"])
    assert {"2026-11-23T02:00:00Z"} == {event["firstTimestamp"], event["lastTimestamp"]}
    assert {"saffire"} == {event["reportingComponent"], event["reportingInstance"], event["source"]["component"]}
    assert 1 == event["count"]


def test_the_event_of_an_observed_failover_says_so() -> None:
    """Its reason and message do not say that a container was moved."""
    event = event_of(OBSERVED)
    assert "FailoverObserved" == event["reason"]
    assert event["message"].startswith("would move web of StatefulSet/a-statefulset from ")


def test_a_note_ends_the_message() -> None:
    """It stands after the source."""
    noted = replace(FAILOVER, note="its owner Rollout/web may revert it")
    assert f"{event_of(FAILOVER)['message']}; its owner Rollout/web may revert it" == event_of(noted)["message"]


ELSEWHERE = {**WORKLOAD, "metadata": {**WORKLOAD["metadata"], "namespace": "other"}}
REBORN = {**pod(), "metadata": {**pod()["metadata"], "uid": "another"}}
OF_OTHERS = replace(FAILOVER, workload=ELSEWHERE)
ANOTHER = replace(FAILOVER, failure=replace(FAILURE, container="other"))


@pytest.mark.parametrize(
    ("same", "first", "second"),
    [
        pytest.param(True, event_of(FAILOVER), event_of(FAILOVER), id="a-second-delivery"),
        pytest.param(False, event_of(FAILOVER), event_of(FAILOVER, seconds=1), id="the-same-move-later"),
        pytest.param(True, event_of(IN_PLACE), event_of(IN_PLACE, seconds=1), id="the-next-pod-of-the-workload"),
        pytest.param(True, event_of(OBSERVED), event_of(OBSERVED, seconds=1), id="observed-once-more"),
        pytest.param(False, event_of(OBSERVED), event_of(IN_PLACE), id="observed-then-done"),
        pytest.param(False, event_of(FAILOVER), event_of(ANOTHER), id="another-container"),
        pytest.param(False, event_of(FAILOVER), event_of(OF_OTHERS), id="another-namespace-that-claims-its-uid"),
        pytest.param(True, event_of(FAILOVER), event_of(FAILOVER, annotated(pod(), {"a": "b"})), id="annotations"),
        pytest.param(False, event_of(FAILOVER), event_of(FAILOVER, REBORN), id="another-object-of-that-name"),
    ],
)
def test_a_failover_has_one_event(same: bool, first: Any, second: Any) -> None:  # noqa: FBT001 - the row's expectation
    """Its name has a hash of the failover, so the API server refuses the same Event a second time."""
    assert same is (name(first) == name(second))


@pytest.mark.parametrize("reason", list(Reason))
def test_only_reasons_that_an_operator_looks_for_have_an_event(reason: Reason) -> None:
    """The others are only logged. The Event is a warning about the pod."""
    event: Any = leave_event(replace(LEAVE, reason=reason), pod(), now=NOW)
    assert (reason in REPORTED_AT_POD) is (event is not None)
    if event:
        message = f"left web with quay.io/acme/web:1.2: {reason}: Rollout/web may not be read"
        assert ("Warning", reason, message) == (event["type"], event["reason"], event["message"])


def test_the_event_of_a_wait_says_when_it_ends() -> None:
    """It has the same name later: as long as all alternatives are down, there is one Event."""
    event: Any = leave_event(WAIT, pod(), now=NOW)
    assert event["message"].endswith(COOLING)
    later: Any = leave_event(replace(WAIT, until=NOW + timedelta(hours=1)), pod(), now=NOW + timedelta(minutes=1))
    assert name(event) == name(later)


def test_a_reason_without_a_container_has_no_event() -> None:
    """There is no pod that the Event could be about."""
    assert leave_event(Leave(reason=Reason.EXHAUSTED), {}, now=NOW) is None


def test_the_event_of_a_refusal_has_the_api_server_s_words() -> None:
    """It is about the object that was to be patched. Each refusal has one Event."""
    refused: Any = refusal_event("admission webhook denied the request", workload("StatefulSet"), now=NOW)
    assert ("Warning", "FailoverRefused") == (refused["type"], refused["reason"])
    assert "admission webhook denied the request" == refused["message"]
    assert "StatefulSet" == refused["involvedObject"]["kind"]
    assert name(refused) != name(refusal_event("forbidden", workload("StatefulSet"), now=NOW))


_LABEL = st.from_regex(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?", fullmatch=True)
_NAMES = st.lists(_LABEL, min_size=1, max_size=8).map(".".join).filter(is_subdomain)


@given(_NAMES, st.text())
def test_an_event_s_name_is_valid_whatever_its_object_s(object_name: str, words: str) -> None:
    """It is a DNS subdomain of at most 253 characters that starts with the object's name."""
    target = {**workload("StatefulSet"), "metadata": {"name": object_name, "namespace": "shop", "uid": "u"}}
    event_name = name(refusal_event(words, target, now=NOW))
    assert is_subdomain(event_name)
    assert event_name.startswith(object_name[:150].rstrip("-."))


@pytest.mark.parametrize("cut", ["-", ".", "-.-", "a"])
def test_a_long_name_is_not_cut_to_an_invalid_one(cut: str) -> None:
    """The cut may fall on a dash or a dot."""
    long = "a" * (200 - len(cut)) + cut + "b" * 40
    target = {**pod(), "metadata": {"name": long, "namespace": "shop", "uid": "u"}}
    assert is_subdomain(name(refusal_event("x", target, now=NOW)))


@given(st.text(max_size=1100))
def test_a_text_of_users_is_made_printable(words: str) -> None:
    """It has at most 1024 printable ASCII characters: no newline, no escape, no character that reverses the line."""
    made = printable(words)
    assert len(made) <= 1024
    assert made.isascii()
    assert made.isprintable() or made == ""


@pytest.mark.parametrize(
    ("expected", "words"), [("quay.io/a:1", "quay.io/a:1"), ("a\\nb", "a\nb"), ("\\xe9\\u202e", "é\u202e"), ("", "")]
)
def test_printable_text_stays_as_it_is(expected: str, words: str) -> None:
    """Every other character is escaped."""
    assert expected == printable(words)


def test_every_message_is_cut() -> None:
    """That holds for a long note, detail and refusal."""
    long = "ü" * 2000
    events: list[Any] = [
        event_of(replace(FAILOVER, note=long)),
        leave_event(replace(LEAVE, detail=long), pod(), now=NOW),
        refusal_event(long, pod(), now=NOW),
    ]
    assert all(900 < len(event["message"].encode()) <= 1024 for event in events)


def test_an_event_is_plain_json() -> None:
    """The API server gets exactly the manifest that was built."""
    for event in (event_of(FAILOVER), leave_event(LEAVE, pod(), now=NOW), refusal_event("x", pod(), now=NOW)):
        assert event == json.loads(json.dumps(event))


def test_an_event_can_be_about_a_source() -> None:
    """It is about the source by which the failover was made."""
    about = event_of(FAILOVER, source_manifest())["involvedObject"]
    assert ("AlternateImageSource", "shop", "shop-uid") == (about["kind"], about["name"], about["uid"])


def test_an_event_can_be_about_a_cluster_wide_source() -> None:
    """The API server wants an Event about an object without a namespace in the namespace `default`."""
    event = event_of(replace(FAILOVER, candidate=WIDE_CANDIDATE), cluster_source_manifest())
    assert ("default", "") == (event["metadata"]["namespace"], event["involvedObject"]["namespace"])
    assert event["message"].endswith("; alternative not verified; by ClusterAlternateImageSource/shop")


# Lines and fields


@pytest.mark.parametrize(
    ("expected", "plan"),
    [
        ("moved web of StatefulSet/a-statefulset to ghcr.io/acme/web:1.2", FAILOVER),
        ("would move web of StatefulSet/a-statefulset to ghcr.io/acme/web:1.2", OBSERVED),
        ("could not move web of StatefulSet/a-statefulset to ghcr.io/acme/web:1.2", replace(FAILOVER, steps=())),
        ("moved web of StatefulSet/a-statefulset back to quay.io/acme/web:1.2", BACK),
        (
            f"left web with {FAILING}: NoCandidateLeft: {COOLING}",
            WAIT,
        ),
        ("left web with quay.io/acme/web:1.2: OwnerNotReadable: Rollout/web may not be read", LEAVE),
        ("left web with quay.io/acme/web:1.2: PodTerminating", Leave(failure=FAILURE, reason=Reason.TERMINATING)),
        ("NoPullFailure", Leave(reason=Reason.NO_FAILURE)),
    ],
)
def test_a_plan_is_explained_in_one_line(expected: str, plan: Plan) -> None:
    """An operator can read the answer to every event."""
    assert expected == explain(plan)


SEEN = {"container": "web", "image": FAILING, "waiting": "ErrImagePull", "cause": "refused", "error": REFUSED}


@pytest.mark.parametrize(
    ("expected", "plan"),
    [
        pytest.param(
            {
                "plan": "Failover",
                **SEEN,
                "workload": "StatefulSet/a-statefulset",
                "candidate": SECOND,
                "source": "shop",
                "proof": "unverified",
                "steps": "template, pods",
                "mode": "Enforce",
            },
            FAILOVER,
            id="failover",
        ),
        pytest.param(
            {
                "plan": "FailBack",
                "container": "web",
                "image": SECOND,
                "workload": "StatefulSet/a-statefulset",
                "candidate": FAILING,
                "source": "shop",
                "proof": "equal digest",
                "steps": "template",
                "mode": "Enforce",
            },
            BACK,
            id="fail-back",
        ),
        pytest.param(
            {"plan": "Wait", **SEEN, "reason": "NoCandidateLeft", "until": "2026-11-23T02:00:30Z"}, WAIT, id="wait"
        ),
        pytest.param(
            {"plan": "Leave", **SEEN, "reason": "OwnerNotReadable", "detail": "Rollout/web may not be read"},
            LEAVE,
            id="leave",
        ),
        pytest.param({"plan": "Leave", "reason": "NoSuchPod"}, Leave(reason=Reason.NO_SUCH_POD), id="no-pod"),
    ],
)
def test_a_plan_is_logged_in_fields(expected: dict[str, str], plan: Plan) -> None:
    """The names are a contract with those who read logs. Empty fields are left out."""
    assert expected == log_fields(plan)


def test_owners_in_between_are_not_named() -> None:
    """The text names the workload at the top of the owners, which is the one that an operator manages."""
    top = chain("Deployment").chain[-1]
    assert "moved web of Deployment/a-deployment to ghcr.io/acme/web:1.2" == explain(replace(FAILOVER, workload=top))


# Many at once


@pytest.mark.parametrize(("count", "events"), [(0, 0), (1, 1), (3, 3), (4, 1), (200, 1)])
def test_many_failovers_of_one_repair_are_one_event_about_their_source(count: int, events: int) -> None:
    """A thousand failovers are not a thousand Events about the source; up to three have an Event each."""
    workloads = [{**WORKLOAD, "metadata": {**WORKLOAD["metadata"], "uid": str(number)}} for number in range(count)]
    records = [record_of(replace(FAILOVER, workload=moved_workload)) for moved_workload in workloads]
    written = list(failover_events(records, source_manifest()))
    assert events == len(written) == len({name(event) for event in written})
    assert {"shop-uid"} >= {event["involvedObject"]["uid"] for event in written}
    if count > events:
        assert written[0]["message"].startswith(f"moved {count} containers: web of StatefulSet/a-statefulset, ")
        assert len(written[0]["message"]) <= 1024
        assert name(written[0]) != name(next(failover_events(records[1:] + [later_record()] * 3, source_manifest())))


def test_many_fail_backs_are_one_event_too() -> None:
    """Its message says that the containers were moved back."""
    workloads = [{**WORKLOAD, "metadata": {**WORKLOAD["metadata"], "uid": str(number)}} for number in range(4)]
    records = [record_of(replace(BACK, workload=returned)) for returned in workloads]
    (event,) = failover_events(records, source_manifest())
    assert ("FailBack", True) == (event["reason"], event["message"].startswith("moved 4 containers back: web of "))


def later_record() -> FailoverRecord:
    """Return the record of a failover a minute later."""
    return record_of(FAILOVER, seconds=60)
