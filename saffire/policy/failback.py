"""
Failing back: how workloads return to their original once that has been healthy for long enough.

Who is *away* stands in `status.active` of a source; whether the original is healthy is known by `health`. Those that
return do so in *batches*: of all that are away no more than a tenth is on its way at once.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from saffire.kube.kinds import Kinds
from saffire.kube.manifest import InvalidManifest, Manifest, text, uid_of
from saffire.kube.workload import ImageField, describe, template_image_field
from saffire.policy.history import FAILED_BACK, Entry, History
from saffire.policy.original_health import is_due
from saffire.policy.plan import FailBack, Step
from saffire.policy.running_images import RunningImages
from saffire.pulls.failure import PullFailure, Section
from saffire.registry.availability import Proof
from saffire.registry.reference import InvalidReference, Reference, same_image
from saffire.sources.candidates import Candidate, applicable, candidates
from saffire.sources.spec import Mode, Source, Strategy, Verification, opted_out

_SHARE = 10
# When a Deployment counts as stuck, unless it says otherwise (`progressDeadlineSeconds`); later nobody waits for it.
_ROLLOUT = timedelta(minutes=10)


@dataclass(frozen=True, kw_only=True, slots=True)
class OnAlternative:
    """A container that may return: its `entry` of `active`, and both images as candidates of the source."""

    entry: Manifest
    source: Source
    patience: timedelta
    original: Candidate
    alternative: Candidate

    @property
    def uid(self) -> str:
        """The uid of its workload."""
        return text(self.entry, "target", "uid")


@dataclass(frozen=True, kw_only=True, slots=True)
class Returnable:
    """A container whose original is proven, by now in `entry`, and how it would return."""

    container: OnAlternative
    entry: Manifest
    plan: FailBack


# Who may return


def find_on_alternative(
    entry: Manifest, source: Source, sources: Sequence[Source], kinds: Kinds
) -> OnAlternative | str:
    """
    Return who may return by an entry of `active` of one of the sources, or what keeps it from doing so.

    That is `""` if nobody wants it to.
    """
    if source.fail_back_after is None:
        return ""
    if source.strategy is Strategy.PODS:
        return "strategy: Pods leaves the template alone"
    if source.verification is Verification.OFF:
        return "verification: Off asks no registry, so that nothing is proven"
    before, after = text(entry, "from"), text(entry, "to")
    try:
        group, version, name = (text(entry, "target", "type", key) for key in ("group", "version", "kind"))
        reference = Reference.parse(after)
    except (InvalidManifest, InvalidReference):
        return "the entry cannot be read"
    kind = kinds.named(f"{group}/{version}" if group else version, name)
    if kind is None or kind.template is None:
        return f"the template of a {name} cannot be changed"
    if source not in applicable(reference, sources):
        return "a source of the namespace itself speaks for it by now"
    original = next((one for one in candidates(reference, (source,)) if same_image(one.image, before)), None)
    if original is None:
        return "the source does not list both repositories as equivalent"
    return OnAlternative(
        entry=entry,
        source=source,
        patience=source.fail_back_after,
        original=replace(original, image=before),
        alternative=Candidate(image=after, reference=reference, source=source),
    )


def plan_return(away: OnAlternative, workload: Manifest, kinds: Kinds) -> FailBack | str:
    """Return how a container would return, or why it stays: somebody wants it so, or moved it elsewhere."""
    container = text(away.entry, "container")
    if uid_of(workload) != away.uid or text(workload, "metadata", "deletionTimestamp"):
        return f"{describe(workload)} is gone"
    if opted_out(workload):
        return f"{describe(workload)} opted out"
    found = ((section, template_image_field(workload, kinds, section, container)) for section in Section)
    placed = next(((section, slot) for section, slot in found if slot and _names_alternative(slot, away)), None)
    if placed is None:
        return f"{describe(workload)} names another image by now"
    if not _is_ours(History.of(workload), container, away):
        return f"the history of {describe(workload)} does not tell that it was moved there"
    section, slot = placed
    return FailBack(
        failure=PullFailure(section=section, container=container, image=slot.image, reason=FAILED_BACK),
        candidate=away.original,
        workload=workload,
        steps=(Step.TEMPLATE,),
        image_field=slot,
        proof=Proof.EQUAL,
        observed=away.source.mode is Mode.OBSERVE,
    )


def _names_alternative(slot: ImageField, away: OnAlternative) -> bool:
    return same_image(slot.image, away.alternative.image)


def _is_ours(history: History, container: str, away: OnAlternative) -> bool:
    """Tell whether Saffire moved the container last, to where it is, and once away from its original."""
    mine = [entry for entry in history.entries if entry.container == container]
    is_last = bool(mine) and same_image(mine[-1].after, away.alternative.image)
    return is_last and any(same_image(entry.before, away.original.image) for entry in mine)


def blocking_failure(failures: Iterable[PullFailure], sources: Sequence[Source]) -> str:
    """Return what fails of all that sources list, for as long as which nobody returns; `""` if nothing does."""
    for failure in failures:
        try:
            if candidates(Reference.parse(failure.image), sources):
                return f"{failure.image} cannot be pulled"
        except InvalidReference:
            continue
    return ""


# Batches


def count_returning(workloads: Iterable[Manifest], running: RunningImages, source: Source, *, now: datetime) -> int:
    """Count the containers that returned on the word of a source, and whose pods have not all followed yet."""
    return sum(
        not running.has_followed(workload, entry.container, entry.after)
        for workload in workloads
        for entry in _returned(workload)
        if entry.source == source.name and now - entry.at < _ROLLOUT
    )


def _returned(workload: Manifest) -> Iterator[Entry]:
    """Yield the newest entry of each container of a workload that is a fail back."""
    newest = {entry.container: entry for entry in History.of(workload).entries}
    return (entry for entry in newest.values() if entry.is_fail_back)


def next_batch(ready: Iterable[Returnable], *, active: int, on_the_way: int, now: datetime) -> tuple[FailBack, ...]:
    """
    Return who returns now, of one source: all that are due in one that observes, else a tenth of the `active` at most.

    The containers of one workload go together, in one rollout, and wait for each other as long as all are proven. Who
    has been away for longest goes first; one workload may go in any case, if nobody is `on_the_way`.
    """
    workloads: dict[str, list[Returnable]] = {}
    for one in ready:
        workloads.setdefault(one.container.uid, []).append(one)
    due = [
        group
        for group in workloads.values()
        if all(is_due(one.entry, one.container.patience, now=now) for one in group)
    ]
    room = max(1, active // _SHARE) - on_the_way
    chosen: list[FailBack] = []
    for group in sorted(due, key=lambda group: min((text(one.entry, "since"), one.container.uid) for one in group)):
        plans = [one.plan for one in group]
        is_first = not chosen and not on_the_way
        if is_first or len(chosen) + len(plans) <= room or all(plan.observed for plan in plans):
            chosen += plans
    return tuple(chosen)
