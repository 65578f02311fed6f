"""
Failing back: how containers return to their original image once that image has been healthy for long enough.

The *original* is the image from which Saffire moved the container, and the *alternative* is the image on which the
container runs now. `status.active` of a source has an entry for each container that runs on an alternative. The module
`original_health` decides whether the original is healthy. Containers return in *batches*: Saffire moves back at once at
most a tenth of a source's containers of one namespace in `status.active`.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from saffire.kube.kinds import Kinds
from saffire.kube.manifest import InvalidManifest, Manifest, text, uid_of
from saffire.kube.workload import describe, template_image_field
from saffire.policy.history import FAILED_BACK, Entry, History
from saffire.policy.original_health import is_due
from saffire.policy.plan import Failover, Step
from saffire.policy.running_images import RunningImages
from saffire.pulls.failure import PullFailure, Section
from saffire.registry.availability import Proof
from saffire.registry.reference import InvalidReference, Reference, is_made_of, same_image
from saffire.sources.candidates import Candidate, applicable, candidates
from saffire.sources.spec import Mode, Source, Strategy, Verification, opted_out

# A batch is a tenth of the containers.
_BATCHES = 10
# The default of a Deployment's `progressDeadlineSeconds`, after which the Deployment's rollout counts as stuck. After
# this time, the next batch no longer waits for the rollout.
_ROLLOUT = timedelta(minutes=10)


@dataclass(frozen=True, kw_only=True, slots=True)
class OnAlternative:
    """
    A container that runs on an alternative and may return to its original.

    `entry` is the container's entry of `status.active` of `source`. `fail_back_after` is how long the original must
    have been healthy (`spec.failBack.after`). `original` and `alternative` are the two images, as candidates of
    `source`.
    """

    entry: Manifest
    source: Source
    fail_back_after: timedelta
    original: Candidate
    alternative: Candidate

    @property
    def uid(self) -> str:
        """The uid of the container's workload."""
        return text(self.entry, "target", "uid")


@dataclass(frozen=True, kw_only=True, slots=True)
class Returnable:
    """
    A container that may return to its original, and the `plan` for its return.

    `entry` is the container's entry of `status.active`. If the original is proven to be healthy now, it has that proof.
    """

    container: OnAlternative
    entry: Manifest
    plan: Failover


# Which containers may return


def find_on_alternative(
    entry: Manifest, source: Source, sources: Sequence[Source], kinds: Kinds
) -> OnAlternative | str:
    """
    Return the container of `entry` if it may return to its original; else the text for the entry's `blockedBy`.

    `entry` is an entry of `status.active` of `source`. If `spec.failBack` of the source turns failing back off, the
    text is `""`, since nothing blocks a return that nobody wants. `sources` are all sources that apply to the
    namespace.
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
        return "a source of the namespace itself lists it by now"
    original = next((option for option in candidates(reference, (source,)) if same_image(option.image, before)), None)
    if original is None:
        return "the source does not list both repositories as equivalent"
    return OnAlternative(
        entry=entry,
        source=source,
        fail_back_after=source.fail_back_after,
        original=replace(original, image=before),
        alternative=Candidate(image=after, reference=reference, source=source),
    )


def plan_return(container: OnAlternative, workload: Manifest, kinds: Kinds) -> Failover | str:
    """
    Return the plan by which a container of `workload` returns to its original.

    If the container must stay on its alternative, return the text for `blockedBy` of its entry of `status.active`.
    """
    name = text(container.entry, "container")
    if uid_of(workload) != container.uid or text(workload, "metadata", "deletionTimestamp"):
        return f"{describe(workload)} is gone"
    if opted_out(workload):
        return f"{describe(workload)} opted out"
    fields = [field for section in Section if (field := template_image_field(workload, kinds, section, name))]
    alternative = container.alternative.image
    image_field = next((field for field in fields if is_made_of(field.image, alternative)), None)
    if image_field is None and any(same_image(field.image, container.original.image) for field in fields):
        return f"the template of {describe(workload)} names the original: pods stay until they are replaced"
    if image_field is None:
        return f"{describe(workload)} names another image by now"
    if not _was_moved_by_saffire(History.of(workload), name, container):
        return f"the history of {describe(workload)} does not tell that it was moved there"
    section = Section(image_field.section)
    return Failover(
        failure=PullFailure(section=section, container=name, image=image_field.image, reason=FAILED_BACK),
        candidate=container.original,
        workload=workload,
        steps=(Step.TEMPLATE,),
        image_field=image_field,
        proof=Proof.EQUAL,
        observed=container.source.mode is Mode.OBSERVE,
        is_back=True,
    )


def _was_moved_by_saffire(history: History, name: str, container: OnAlternative) -> bool:
    """Tell by the workload's history whether Saffire moved the container from its original to the alternative."""
    entries = [entry for entry in history.entries if entry.container == name]
    is_newest = bool(entries) and same_image(entries[-1].after, container.alternative.image)
    return is_newest and any(same_image(entry.before, container.original.image) for entry in entries)


def blocking_failure(failures: Iterable[PullFailure], sources: Sequence[Source]) -> str:
    """
    Return the text for `blockedBy` if one of these failures is about an image that the sources list.

    `""` if none is: then no failure keeps containers from returning.
    """
    for failure in failures:
        reference = Reference.parse_if_valid(failure.image)
        if reference and candidates(reference, sources):
            return f"{failure.image} cannot be pulled"
    return ""


# Batches


def count_returning(workloads: Iterable[Manifest], running: RunningImages, source: Source, *, now: datetime) -> int:
    """
    Count the containers of a source that returned to their original in the last 10 minutes, with a rollout under way.

    A rollout is under way until all pods of the workload run the original in that container.
    """
    return sum(
        not running.has_followed(workload, entry.container, entry.after)
        for workload in workloads
        for entry in _returned(workload)
        if entry.source == source.name and now - entry.at < _ROLLOUT
    )


def _returned(workload: Manifest) -> Iterator[Entry]:
    """Yield the newest entry of each container in a workload's history, if that entry is a fail back."""
    newest = {entry.container: entry for entry in History.of(workload).entries}
    return (entry for entry in newest.values() if entry.is_fail_back)


def next_batch(
    returnable: Iterable[Returnable], *, active: int, on_the_way: int, now: datetime
) -> tuple[Failover, ...]:
    """
    Return the fail backs of one source that Saffire carries out now.

    The original of each container is proven to be healthy now. The containers of one workload that are `returnable`
    return together, in one rollout, once each of them is due. If the source is in mode Observe, the result has all fail
    backs that are due.

    In mode Enforce, the result is a batch. `active` counts the source's containers of one namespace that run on an
    alternative, and `on_the_way` those whose return is still rolling out. The batch and `on_the_way` together are at
    most a tenth of `active`, but at least one. Saffire tries workloads in the order in which their first container left
    its original, and skips a workload that does not fit. If nothing is on the way, the first workload that is due
    returns, however many containers it has.
    """
    workloads: dict[str, list[Returnable]] = {}
    for option in returnable:
        workloads.setdefault(option.container.uid, []).append(option)
    due = [
        options
        for options in workloads.values()
        if all(is_due(option.entry, option.container.fail_back_after, now=now) for option in options)
    ]
    room = max(1, active // _BATCHES) - on_the_way
    chosen: list[Failover] = []
    for options in sorted(due, key=_left_at):
        plans = [option.plan for option in options]
        is_first = not chosen and not on_the_way
        if is_first or len(chosen) + len(plans) <= room or all(plan.observed for plan in plans):
            chosen += plans
    return tuple(chosen)


def _left_at(options: Iterable[Returnable]) -> tuple[str, str]:
    """Return the sort key of a workload: when the first of its containers left its original, and the workload's uid."""
    return min((text(option.entry, "since"), option.container.uid) for option in options)
