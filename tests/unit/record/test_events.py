"""Records: what people are told, in words that fit where they are written."""

import json
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from saffire.kube.manifest import is_subdomain
from saffire.logs import printable
from saffire.policy.plan import FailBack, Failover, Leave, Plan, Reason, Step, Wait
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
BACK = FailBack(
    failure=PullFailure(section=Section.CONTAINERS, container="web", image=SECOND, reason="FailedBack"),
    candidate=replace(FAILOVER.candidate, image=FAILING, reference=Reference.parse(FAILING)),
    workload=WORKLOAD,
    steps=(Step.TEMPLATE,),
    proof=Proof.EQUAL,
)
COOLING = "every alternative failed lately; the next try is due at 2026-11-23T02:00:30Z"
WAIT = Wait(failure=FAILURE, until=NOW + timedelta(seconds=30))
LEAVE = Leave(failure=FAILURE, reason=Reason.OWNER_UNSEEN, detail="Rollout/web may not be read")


def told(failover: Failover, regarding: Object | None = None, seconds: int = 0) -> Any:
    """Return the Event of a failover some seconds from now."""
    return failover_event(FailoverRecord(failover=failover, at=NOW + timedelta(seconds=seconds)), regarding or pod())


def name(event: Any) -> str:
    """Return the Event's name."""
    result: str = event["metadata"]["name"]
    return result


# Events


def test_a_failover_s_event_says_who_moved_from_where_to_where_and_why() -> None:
    """The message answers an operator who has never heard of Saffire."""
    expected = (
        "moved web of StatefulSet/a-statefulset from quay.io/acme/web:1.2 to ghcr.io/acme/web:1.2: "
        "quay.io refused the connection; alternative not verified; by AlternateImageSource/shop"
    )
    event = told(FAILOVER, workload("StatefulSet"))
    assert ("Normal", "Failover", expected) == (event["type"], event["reason"], event["message"])


@pytest.mark.parametrize(
    ("reason", "verb", "back"),
    [("FailBack", "moved", BACK), ("FailBackObserved", "would move", replace(BACK, observed=True))],
)
def test_a_fail_back_s_event_says_that_the_original_is_healthy(reason: str, verb: str, back: FailBack) -> None:
    """It has a reason of its own, so that operators can tell both ways apart."""
    expected = (
        f"{verb} web of StatefulSet/a-statefulset back from ghcr.io/acme/web:1.2 to quay.io/acme/web:1.2: "
        "the original is healthy again at quay.io; original has the same digest; by AlternateImageSource/shop"
    )
    event = told(back, workload("StatefulSet"))
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
def test_what_is_known_of_the_alternative_is_said_in_words(expected: str, failover: Failover) -> None:
    """Where no registry was asked, that is another thing than a registry that did not tell."""
    assert f": quay.io refused the connection; {expected}; by AlternateImageSource/shop" in told(failover)["message"]


@pytest.mark.parametrize(
    ("expected", "failure"),
    [
        ("quay.io does not answer in time, and the pull has stalled", {"reason": STALLED, "cause": Cause.TIMEOUT}),
        ("quay.io refused the connection, so this pull will fail as another did", {"reason": ANTICIPATED}),
        ("the name quay.io cannot be resolved", {"cause": Cause.DNS}),
        ("the registry refused the connection", {"image": "BAD//::x"}),
    ],
)
def test_why_a_container_was_moved_is_said_in_words(expected: str, failure: dict[str, Any]) -> None:
    """The registry that failed is named, also where no pull has failed yet."""
    event = told(replace(FAILOVER, failure=replace(FAILURE, **failure)))
    assert f": {expected}; alternative " in event["message"]


def test_an_event_is_one_of_core_v1_about_its_object() -> None:
    """It has what the API server demands, and who tells it."""
    event = told(FAILOVER, workload("StatefulSet"))
    about = {"apiVersion": "apps/v1", "kind": "StatefulSet", "namespace": "shop"}
    assert {**about, "name": "a-statefulset", "uid": "statefulset-uid"} == event["involvedObject"]
    assert ("v1", "Event", "shop") == (event["apiVersion"], event["kind"], event["metadata"]["namespace"])
    assert {"2026-11-23T02:00:00Z"} == {event["firstTimestamp"], event["lastTimestamp"]}
    assert {"saffire"} == {event["reportingComponent"], event["reportingInstance"], event["source"]["component"]}
    assert 1 == event["count"]


def test_what_is_only_observed_is_told_as_such() -> None:
    """Nobody may believe that something was moved."""
    event = told(OBSERVED)
    assert "FailoverObserved" == event["reason"]
    assert event["message"].startswith("would move web of StatefulSet/a-statefulset from ")


def test_a_note_ends_the_message() -> None:
    """What an operator should know besides is not lost."""
    noted = replace(FAILOVER, note="its owner Rollout/web may revert it")
    assert f"{told(FAILOVER)['message']}; its owner Rollout/web may revert it" == told(noted)["message"]


REBORN = {**pod(), "metadata": {**pod()["metadata"], "uid": "another"}}
ANOTHER = replace(FAILOVER, failure=replace(FAILURE, container="other"))


@pytest.mark.parametrize(
    ("same", "one", "other"),
    [
        pytest.param(True, told(FAILOVER), told(FAILOVER), id="a-second-delivery"),
        pytest.param(False, told(FAILOVER), told(FAILOVER, seconds=1), id="the-same-move-later"),
        pytest.param(True, told(IN_PLACE), told(IN_PLACE, seconds=1), id="the-next-pod-of-the-workload"),
        pytest.param(True, told(OBSERVED), told(OBSERVED, seconds=1), id="observed-once-more"),
        pytest.param(False, told(OBSERVED), told(IN_PLACE), id="observed-then-done"),
        pytest.param(False, told(FAILOVER), told(ANOTHER), id="another-container"),
        pytest.param(True, told(FAILOVER), told(FAILOVER, annotated(pod(), {"a": "b"})), id="annotations"),
        pytest.param(False, told(FAILOVER), told(FAILOVER, REBORN), id="another-object-of-that-name"),
    ],
)
def test_the_same_thing_told_twice_is_one_event(same: bool, one: Any, other: Any) -> None:  # noqa: FBT001 - the row's expectation
    """The name is made of what is told, so the API server refuses the second."""
    assert same is (name(one) == name(other))


@pytest.mark.parametrize("reason", list(Reason))
def test_only_what_an_operator_would_search_for_is_told(reason: Reason) -> None:
    """Everyday reasons stay in the log; the others stand at the pod, as a warning."""
    event: Any = leave_event(replace(LEAVE, reason=reason), pod(), now=NOW)
    assert (reason in REPORTED_AT_POD) is (event is not None)
    if event:
        message = f"left web with quay.io/acme/web:1.2: {reason}: Rollout/web may not be read"
        assert ("Warning", reason, message) == (event["type"], event["reason"], event["message"])


def test_a_wait_is_told_with_its_end() -> None:
    """All alternatives down is a state, not a loop, and it says when it is looked at again."""
    event: Any = leave_event(WAIT, pod(), now=NOW)
    assert event["message"].endswith("every alternative failed lately; the next try is due at 2026-11-23T02:00:30Z")
    later: Any = leave_event(replace(WAIT, until=NOW + timedelta(hours=1)), pod(), now=NOW + timedelta(minutes=1))
    assert name(event) == name(later)


def test_what_concerns_no_container_is_not_told() -> None:
    """There is no pod to tell it at."""
    assert leave_event(Leave(reason=Reason.EXHAUSTED), {}, now=NOW) is None


def test_a_refusal_is_told_in_the_api_server_s_words() -> None:
    """At the object that was to be patched, each refusal once."""
    refused: Any = refusal_event("admission webhook denied the request", workload("StatefulSet"), now=NOW)
    assert ("Warning", "FailoverRefused") == (refused["type"], refused["reason"])
    assert "admission webhook denied the request" == refused["message"]
    assert "StatefulSet" == refused["involvedObject"]["kind"]
    assert name(refused) != name(refusal_event("forbidden", workload("StatefulSet"), now=NOW))


_LABEL = st.from_regex(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?", fullmatch=True)
_NAMES = st.lists(_LABEL, min_size=1, max_size=8).map(".".join).filter(is_subdomain)


@given(_NAMES, st.text())
def test_an_event_s_name_is_valid_whatever_its_object_s(object_name: str, words: str) -> None:
    """A DNS subdomain of at most 253 characters that starts as its object does."""
    target = {**workload("StatefulSet"), "metadata": {"name": object_name, "namespace": "shop", "uid": "u"}}
    found = name(refusal_event(words, target, now=NOW))
    assert is_subdomain(found)
    assert found.startswith(object_name[:150].rstrip("-."))


@pytest.mark.parametrize("cut", ["-", ".", "-.-", "a"])
def test_a_long_name_is_not_cut_to_an_invalid_one(cut: str) -> None:
    """The cut may fall on a dash or a dot."""
    long = "a" * (200 - len(cut)) + cut + "b" * 40
    target = {**pod(), "metadata": {"name": long, "namespace": "shop", "uid": "u"}}
    assert is_subdomain(name(refusal_event("x", target, now=NOW)))


@given(st.text(max_size=1100))
def test_words_of_strangers_are_made_plain(words: str) -> None:
    """At most 1024 printable ASCII characters, whatever came in: no newline, no escape, nothing that turns the line."""
    made = printable(words)
    assert len(made) <= 1024
    assert made.isascii()
    assert made.isprintable() or made == ""


@pytest.mark.parametrize(
    ("expected", "words"), [("quay.io/a:1", "quay.io/a:1"), ("a\\nb", "a\nb"), ("\\xe9\\u202e", "é\u202e"), ("", "")]
)
def test_plain_words_can_still_be_read(expected: str, words: str) -> None:
    """What is plain stays, and what is not is spelled out."""
    assert expected == printable(words)


def test_every_event_is_clipped() -> None:
    """A long image and a long note fit as well."""
    long = "ü" * 2000
    events: list[Any] = [
        told(replace(FAILOVER, note=long)),
        leave_event(replace(LEAVE, detail=long), pod(), now=NOW),
        refusal_event(long, pod(), now=NOW),
    ]
    assert all(900 < len(event["message"].encode()) <= 1024 for event in events)


def test_an_event_is_plain_json() -> None:
    """The API server gets exactly what was built."""
    for event in (told(FAILOVER), leave_event(LEAVE, pod(), now=NOW), refusal_event("x", pod(), now=NOW)):
        assert event == json.loads(json.dumps(event))


def test_a_source_can_be_told_too() -> None:
    """The record stands at the source whose word was taken."""
    about = told(FAILOVER, source_manifest())["involvedObject"]
    assert ("AlternateImageSource", "shop", "shop-uid") == (about["kind"], about["name"], about["uid"])


def test_a_source_of_the_whole_cluster_can_be_told_too() -> None:
    """The API server wants such an Event in the namespace `default`, about an object in none."""
    event = told(replace(FAILOVER, candidate=WIDE_CANDIDATE), cluster_source_manifest())
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
    """The answer to every event can be read by a person."""
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
    """The names are the log's contract; what is empty is left out."""
    assert expected == log_fields(plan)


def test_owners_in_between_are_not_named() -> None:
    """A failover is told of the workload on top, which is what its operator knows."""
    top = chain("Deployment").chain[-1]
    assert "moved web of Deployment/a-deployment to ghcr.io/acme/web:1.2" == explain(replace(FAILOVER, workload=top))


# Many at once


@pytest.mark.parametrize(("count", "events"), [(0, 0), (1, 1), (3, 3), (4, 1), (200, 1)])
def test_many_failovers_of_one_repair_are_one_event_at_their_source(count: int, events: int) -> None:
    """A thousand workloads of a namespace are not a thousand lines below its source; few are told one by one."""
    workloads = [{**WORKLOAD, "metadata": {**WORKLOAD["metadata"], "uid": str(each)}} for each in range(count)]
    records = [FailoverRecord(failover=replace(FAILOVER, workload=each), at=NOW) for each in workloads]
    written = list(failover_events(records, source_manifest()))
    assert events == len(written) == len({name(event) for event in written})
    assert {"shop-uid"} >= {event["involvedObject"]["uid"] for event in written}
    if count > events:
        assert written[0]["message"].startswith(f"moved {count} containers: web of StatefulSet/a-statefulset, ")
        assert len(written[0]["message"]) <= 1024
        assert name(written[0]) != name(next(failover_events(records[1:] + [told_later()] * 3, source_manifest())))


def test_many_that_return_are_one_event_too() -> None:
    """It says that they went back."""
    workloads = [{**WORKLOAD, "metadata": {**WORKLOAD["metadata"], "uid": str(each)}} for each in range(4)]
    records = [FailoverRecord(failover=replace(BACK, workload=each), at=NOW) for each in workloads]
    (event,) = failover_events(records, source_manifest())
    assert ("FailBack", True) == (event["reason"], event["message"].startswith("moved 4 containers back: web of "))


def told_later() -> FailoverRecord:
    """Return a failover of a minute later."""
    return FailoverRecord(failover=FAILOVER, at=NOW + timedelta(minutes=1))
