"""
The whole status of an AlternateImageSource or ClusterAlternateImageSource.

`conditions` say whether Saffire can use the source. `switches` lists the newest failovers by the source, and `active`
the containers that run on an alternative now. `left` lists the containers that hang on a pull and were not moved;
those of them that hang on an alternative do not count in `activeCount`. `readiness` says whether a failover would work.
`registries` says when each registry that the source lists last answered Saffire: if a registry has never answered, its
silence proves no outage. `reversions` lists failovers that somebody undid. The status is a summary for people: the
truth about a workload is in the history annotation of the workload (`policy.history`).
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from saffire.kube.manifest import Manifest, moment, number, printable
from saffire.policy.history import timestamp
from saffire.policy.plan import Reversion
from saffire.record.events import FailoverRecord
from saffire.record.failover_log import FailoverLog
from saffire.record.left import LeftInNamespace, count_running, left_after
from saffire.record.readiness_status import ProbeResults, readiness_status, ready_condition
from saffire.record.reversions import reversions_after
from saffire.record.status_lists import list_entries, readable_entries, status_of
from saffire.sources.spec import faults_of, record_name, source_of


@dataclass(frozen=True, kw_only=True, slots=True)
class RegistryAnswers:
    """
    What one instance knows of registries.

    `answered_at` says when each registry last answered, by domain. `is_blind` is true if Saffire has asked registries
    for the namespace lately and none has answered anybody, false if one has, and `None` if Saffire has asked none.
    """

    answered_at: Mapping[str, datetime]
    is_blind: bool | None = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Review:
    """
    What a repair knows of a namespace: an audit, of the entries of `status.active`, and an instance, of registries.

    Args:
        is_active: tells whether an entry is still true. An entry that was not audited counts as true.
        revised: returns an entry with what Saffire knows now about the health of the container's original image.
        lost_opt_out: tells of an entry that is not true any more whether its workload had opted out, and has lost the
            annotation that says so together with its history.
        on_alternative: returns an entry for each audited container that a source moved and that runs on the
            alternative. Those that `status.active` lacks are added, as long as it has places.
        left: what hangs in the namespace and was not moved; `None` if the repair did not read every pod.
        covers: tells whether the source still applies to the namespace of an entry of `status.active` or
            `status.left`.

    """

    is_active: Callable[[Manifest], bool] = lambda _: True
    revised: Callable[[Manifest], Manifest] = lambda entry: entry
    registry_answers: RegistryAnswers | None = None
    lost_opt_out: Callable[[Manifest], bool] = lambda _: False
    on_alternative: Callable[[Manifest], Iterable[Manifest]] = lambda _: ()
    left: LeftInNamespace | None = None
    covers: Callable[[Manifest], bool] = lambda _: True


NOT_REVIEWED = Review()
"""For a status without an audit: every entry of `status.active` stays as it is."""


def status_after(
    source: Manifest,
    records: Iterable[FailoverRecord | Reversion],
    *,
    now: datetime,
    review: Review = NOT_REVIEWED,
    probe_results: ProbeResults | None = None,
) -> Manifest | None:
    """
    Return the `status` that a source should have after `records`; `None` if the source has that status already.

    Args:
        source: the source as it is stored.
        records: the failovers by this source, oldest first, and those of its failovers that somebody undid; may be
            empty.
        now: the time of a condition that changes, in UTC.
        review: what an audit knows of the entries of `status.active`.
        probe_results: the images in use, and registries' answers about them; `None` if the repair did not count the
            images in use.

    """
    before = status_of(source)
    status: dict[str, Any] = dict(before)
    active = readable_entries(before, "active")
    if "active" in status:
        status["active"] = [
            review.revised(entry) for entry in active if review.covers(entry) and review.is_active(entry)
        ]
    log, failovers, reversions = FailoverLog(status), [], []
    for record in records:
        if isinstance(record, Reversion):
            reversions.append(record)
        else:
            failovers.append(record)
            log.add(record)
    log.restore_active(review.on_alternative(source), moved=failovers)
    if log.has_changed:
        status |= log.fields
    status |= left_after(before, record_name(source), review.left, covers=review.covers)
    if "active" in status:
        status["activeCount"] = count_running(status["active"], readable_entries(status, "left"))
    lost_opt_outs = [entry for entry in active if not review.is_active(entry) and review.lost_opt_out(entry)]
    status |= reversions_after(before, reversions, lost_opt_outs, now=now)
    _update_readiness(status, source, probe_results)
    if review.registry_answers and (registries := _registries(source, review.registry_answers.answered_at, now=now)):
        status["registries"] = registries
    status["observedGeneration"] = number(source, "metadata", "generation")
    conditions = (
        *_conditions(source, status.get("readiness")),
        *_registries_condition(source, before, review.registry_answers),
    )
    status["conditions"] = [_with_time(before, condition, now) for condition in conditions]
    return None if status == before else status


def new_records(source: Manifest, records: Iterable[FailoverRecord]) -> tuple[FailoverRecord, ...]:
    """Return the records that the status of a source does not have yet; of records of one failover, only the first."""
    log = FailoverLog(status_of(source))
    return tuple(record for record in records if log.add(record))


# When registries last answered

_REGISTRIES_ANSWER = "RegistriesAnswer"
# If a registry answers all the time, its time is written again after this time: a status is not written every minute.
_WRITTEN_AGAIN = timedelta(hours=1)
# A source lists at most 64 sets of 32 repositories. More registries than these are not kept.
_MAX_REGISTRIES = 64


def answered_at(sources: Iterable[Manifest]) -> dict[str, datetime]:
    """Return when each registry last answered any instance of Saffire, by domain, as `status.registries` says."""
    newest: dict[str, datetime] = {}
    for source in sources:
        for domain, at in _answered_at(source).items():
            newest[domain] = max(at, newest.get(domain, at))
    return newest


def _answered_at(source: Manifest) -> dict[str, datetime]:
    moments = {}
    for entry in list_entries(status_of(source), "registries"):
        domain, at = entry.get("registry"), entry.get("answeredAt")
        if isinstance(domain, str) and isinstance(at, str) and (answered := moment(at)):
            moments[domain] = answered
    return moments


def _registries(source: Manifest, answered: Mapping[str, datetime], *, now: datetime) -> list[dict[str, str]]:
    """
    Return `status.registries` of a source: the registries that it lists, with the time of the last answer.

    A time is replaced by one that is an hour newer, or if it is in the future. A registry that the source does not list
    any more is left out.
    """
    parsed = source_of(source)
    if parsed is None:
        return []
    before = _answered_at(source)
    registries = []
    for domain in sorted(parsed.registries)[:_MAX_REGISTRIES]:
        old, new = before.get(domain), answered.get(domain)
        at = new if new and (old is None or old > now or new - old >= _WRITTEN_AGAIN) else old
        if at and at <= now:
            registries.append({"registry": domain, "answeredAt": timestamp(at)})
    return registries


def _update_readiness(status: dict[str, Any], source: Manifest, probe_results: ProbeResults | None) -> None:
    """
    Bring `status.readiness` up to date, if `probe_results` are about this version of the source.

    Otherwise keep `status.readiness`, but remove it if it is about another generation of the source.
    """
    if probe_results and not probe_results.is_of(source):
        probe_results = None
    if not probe_results and status.get("observedGeneration") == number(source, "metadata", "generation"):
        return
    before = status.pop("readiness", None)
    if probe_results and (readiness := readiness_status(source, probe_results, before)):
        status["readiness"] = readiness


def _conditions(source: Manifest, readiness: object) -> tuple[dict[str, Any], ...]:
    """Return the `status.conditions` of a source, without `lastTransitionTime`."""
    parsed = source_of(source)
    if parsed is None:
        return (
            _condition(source, "Accepted", "False", "Invalid", "; ".join(faults_of(source))),
            _condition(
                source, "Ready", "False", "Invalid", "Saffire uses this source for no failover until it is valid"
            ),
        )
    return _condition(source, "Accepted", "True", "Valid", ""), _condition(
        source, "Ready", *ready_condition(parsed, readiness)
    )


def _registries_condition(
    source: Manifest, before: Manifest, registry_answers: RegistryAnswers | None
) -> tuple[dict[str, Any], ...]:
    """
    Return the condition that says whether registries answer Saffire; the one of before if nothing new is known.

    As long as registries have always answered, there is no such condition.
    """
    old = [dict(entry) for entry in list_entries(before, "conditions") if entry.get("type") == _REGISTRIES_ANSWER]
    if registry_answers is None or registry_answers.is_blind is None:
        return tuple(old[:1])
    if registry_answers.is_blind:
        message = "no registry answers Saffire, so it can prove no outage: it moves a workload later, and less of it"
        return (_condition(source, _REGISTRIES_ANSWER, "False", "NoRegistryAnswers", message),)
    return (_condition(source, _REGISTRIES_ANSWER, "True", "Answered", ""),) if old else ()


def _condition(source: Manifest, kind: str, status: str, reason: str, message: str) -> dict[str, Any]:
    """Return a `metav1.Condition` without `lastTransitionTime`."""
    generation = number(source, "metadata", "generation")
    return {
        "type": kind,
        "status": status,
        "reason": reason,
        "message": printable(message),
        "observedGeneration": generation,
    }


def _with_time(before: Manifest, condition: dict[str, Any], now: datetime) -> dict[str, Any]:
    """
    Return a condition with its `lastTransitionTime`.

    If the condition had the same `status` before, keep the time, as the API conventions of Kubernetes ask.
    """
    for old in list_entries(before, "conditions"):
        if (old.get("type"), old.get("status")) == (condition["type"], condition["status"]):
            return {**condition, "lastTransitionTime": old.get("lastTransitionTime") or timestamp(now)}
    return {**condition, "lastTransitionTime": timestamp(now)}
