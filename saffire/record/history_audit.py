"""
The audit: the histories of a namespace's objects, compared with the status of its sources.

The patch that moves an object also writes the object's history, so a history is always true. The status of a source is
written after the patch, and a process can end in between. So a sweep reads the histories. It finds failovers that no
status has, templates that were not patched after their pods, and entries of `active` whose container somebody else put
back. The audit also keeps what a fail back run learns about originals, until it is written.
"""

from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta

from saffire.kube.kinds import Kinds
from saffire.kube.manifest import Manifest, annotation, items, mapping, text, uid_of
from saffire.kube.workload import ImageField, controller_of, template_image_field
from saffire.policy.history import ANNOTATION, Entry, History, timestamp
from saffire.policy.original_health import without_proof
from saffire.policy.plan import FailBack, Failover, Step
from saffire.policy.running_images import RunningImages
from saffire.pulls.failure import FailingPod, PullFailure, Section
from saffire.record.events import FailoverRecord
from saffire.record.failover_log import SWITCHES, active_of, switches_of
from saffire.registry.availability import Proof
from saffire.registry.reference import InvalidReference, Reference, same_image
from saffire.sources.candidates import Candidate
from saffire.sources.spec import Source, record_name

# An older entry is recorded, or is not recorded any more.
_WINDOW = timedelta(hours=1)
# Clocks differ by less than this. An entry from further in the future was made up.
_AHEAD = timedelta(minutes=5)
_SECTIONS = (Section.CONTAINERS, Section.INIT_CONTAINERS)
PlacedRecord = tuple[FailoverRecord, Manifest]
"""A record, and the object at which operators look for its Event."""


class Audit:
    """
    The histories of one namespace's pods and workloads, next to the status of its sources.

    Args:
        sources: the sources that apply to the namespace, as they are stored.
        parsed: the sources among them that can be used.
        kinds: the kinds that have a pod template.
        namespace: the name of the namespace.

    """

    def __init__(self, sources: Iterable[Manifest], parsed: Iterable[Source], kinds: Kinds, *, namespace: str) -> None:
        self._namespace = namespace
        self._sources = {record_name(source): source for source in sources}
        self._switches = {name: switches_of(source) for name, source in self._sources.items()}
        self._parsed = {source.name: source for source in parsed}
        self._kinds = kinds
        self._workloads: dict[str, Manifest] = {}
        self._freed: dict[tuple[str, str, str], list[tuple[Manifest, Entry]]] = {}
        self._active_uids = {
            text(entry, "target", "uid") for source in self._sources.values() for entry in active_of(source)
        }
        self._running: set[tuple[str, str, str]] = set()
        self._missed_kinds: set[str] = set()
        self._may_fail_back = bool(self._active_uids) and any(
            source.fail_back_after for source in self._parsed.values()
        )
        self._revised: dict[tuple[str, str, str], tuple[Manifest, Manifest]] = {}
        self.running = RunningImages()
        """The images that pods run; empty if no container of the namespace may fail back."""

    def miss_kind(self, kind: str) -> None:
        """Take note of a kind whose objects could not be listed: entries of that kind stay as they are."""
        self._missed_kinds.add(kind)

    def observe_workload(self, workload: Manifest) -> None:
        """Take note of an object with a pod template, if it has a history or an entry of `active`."""
        if annotation(workload, ANNOTATION) or uid_of(workload) in self._active_uids:
            self._workloads[uid_of(workload)] = workload

    def observe_pod(self, pod: Manifest) -> None:
        """Take note of a pod: its images, its workload and its history."""
        if self._may_fail_back:
            self.running.observe(pod)
        owner = controller_of(pod)
        uids = {uid_of(pod), owner.uid if owner else ""}
        for entry in History.of(pod).entries:
            if entry.workload:
                uids.add(entry.workload.uid)
                self._freed.setdefault((entry.workload.uid, entry.container, entry.after), []).append((pod, entry))
        for uid in uids & self._active_uids:
            self._running |= {
                (uid, text(container, "name"), text(container, "image")) for container in _containers(pod)
            }

    @property
    def sources(self) -> tuple[Source, ...]:
        """The sources that can be used."""
        return tuple(self._parsed.values())

    @property
    def workloads(self) -> dict[str, Manifest]:
        """The workloads with a history or an entry of `active`, by uid."""
        return self._workloads

    def active(self, source: Source) -> list[Manifest]:
        """Return the entries of `active` of a source that are still true, without those of kinds that were missed."""
        return [
            entry
            for entry in active_of(self._sources[source.name])
            if text(entry, "target", "type", "kind") not in self._missed_kinds and self.is_active(entry)
        ]

    def revise(self, entry: Manifest, revised: Manifest) -> None:
        """Replace an entry of `active`."""
        self._revised[_key(entry)] = entry, revised

    def revised(self, entry: Manifest) -> Manifest:
        """Return the replacement of an entry of `active`; if others wrote it since, it may only lose its proof."""
        before, revised = self._revised.get(_key(entry), (entry, entry))
        is_proven = "healthySince" in revised
        return revised if before == entry else entry if is_proven else without_proof(entry, text(revised, "blockedBy"))

    def is_active(self, entry: Manifest) -> bool:
        """Tell whether an entry of `active` is still true: the template, or a pod, names the alternative."""
        # A cluster-wide source has entries of other namespaces too. The Go project of this name wrote no namespace.
        is_elsewhere = text(entry, "target", "namespace") not in {"", self._namespace}
        if is_elsewhere or text(entry, "target", "type", "kind") in self._missed_kinds:
            return True
        uid, container, image = _key(entry)
        workload = self._workloads.get(uid)
        fields = self._image_fields(workload, container) if workload else ()
        if any(same_image(field.image, image) for field in fields):
            return True
        return any((uid, container) == running[:2] and same_image(running[2], image) for running in self._running)

    def unfinished(self, *, now: datetime) -> Iterator[FailingPod]:
        """Yield a pod of each workload whose template was not patched after its pods, as if the pod still failed."""
        for (uid, container, image), freed in self._freed.items():
            pod, entry = freed[-1]
            has_moved = self._has_moved(uid, container, image)
            in_pod = (running for running in _containers(pod) if text(running, "name") == container)
            pod_image = next((text(running, "image") for running in in_pod), "")
            if entry.template_next and not has_moved and _is_recent(entry, now) and pod_image == image:
                yield FailingPod(pod=pod, failures=(_failure(entry, pod),))

    def unrecorded(self, *, now: datetime) -> Iterator[PlacedRecord]:
        """Yield the failovers that a history has and no status."""
        for workload in self._workloads.values():
            recent = [entry for entry in History.of(workload).entries if self._is_kept(entry, now)]
            # A user may write annotations, and make up containers in them.
            entries = [entry for entry in recent if self._image_fields(workload, entry.container)]
            for move in {(entry.container, entry.after) for entry in entries}:
                repetitions = [entry for entry in entries if (entry.container, entry.after) == move]
                yield from self._unrecorded_moves(workload, repetitions)
        for (uid, container, image), freed in self._freed.items():
            pod, entry = freed[0]
            if self._has_moved(uid, container, image):
                continue
            is_in_pod = container in {text(running, "name") for running in _containers(pod)}
            if is_in_pod and self._is_kept(entry, now) and not self._recorded_times(uid, entry):
                yield from self._placed_record(_workload_of(entry, pod), entry, Step.PODS, pod)

    def _has_moved(self, uid: str, container: str, image: str) -> bool:
        """Tell whether the workload's template was moved to the image, by its history."""
        workload = self._workloads.get(uid)
        return workload is not None and History.of(workload).has_moved(container, image)

    def _unrecorded_moves(self, workload: Manifest, repetitions: list[Entry]) -> Iterator[PlacedRecord]:
        """Yield the repetitions of one move of a template that no status has; the newest, as many as are missing."""
        recorded = self._recorded_times(uid_of(workload), repetitions[0])
        missing = len(repetitions) - len(set(recorded))
        unmatched = [entry for entry in repetitions if timestamp(entry.at) not in recorded]
        for entry in unmatched[-missing:] if missing > 0 else ():
            yield from self._placed_record(_before(workload, entry), entry, Step.TEMPLATE, workload)

    def _recorded_times(self, uid: str, entry: Entry) -> list[str]:
        """Return the times of such a move in the status of the entry's source, from an hour before the entry on."""
        switches = self._switches.get(entry.source, [])
        since = timestamp(entry.at - _WINDOW)
        return [
            text(switch, "time")
            for switch in switches
            if (text(switch, "target", "uid"), text(switch, "target", "container")) == (uid, entry.container)
            and text(switch, "newImage") == entry.after
            and text(switch, "time") >= since
            and not switch.get("observed")
        ]

    def _image_fields(self, workload: Manifest, container: str) -> tuple[ImageField, ...]:
        """Return the fields of a template that have the image of the container, or of the volume, of that name."""
        fields = (template_image_field(workload, self._kinds, section, container) for section in Section)
        return tuple(filter(None, fields))

    def _is_kept(self, entry: Entry, now: datetime) -> bool:
        """Tell whether an entry is recent, and newer than the oldest switch if the status is full."""
        switches = self._switches.get(entry.source, [])
        is_kept = len(switches) < SWITCHES or timestamp(entry.at) > text(switches[0], "time")
        return is_kept and _is_recent(entry, now)

    def _placed_record(
        self, workload: Manifest, entry: Entry, step: Step, regarding: Manifest
    ) -> Iterator[PlacedRecord]:
        """Yield the record of an entry, if its source can still be used."""
        source = self._parsed.get(entry.source)
        try:
            reference = Reference.parse(entry.after)
        except InvalidReference:
            return
        if source is None:
            return
        kind = FailBack if entry.is_fail_back else Failover
        failover = kind(
            failure=_failure(entry, regarding),
            candidate=Candidate(image=entry.after, reference=reference, source=source),
            workload=workload,
            steps=(step,),
            proof=Proof(entry.proof) if entry.proof in set(Proof) else Proof.UNVERIFIED,
        )
        yield FailoverRecord(failover=failover, at=entry.at), regarding


def _is_recent(entry: Entry, now: datetime) -> bool:
    """Tell whether an entry is so recent that it may be unfinished or unrecorded."""
    return -_AHEAD <= now - entry.at < _WINDOW


def _key(entry: Manifest) -> tuple[str, str, str]:
    """Return the workload's uid, the container and the alternative of an entry of `active`."""
    return text(entry, "target", "uid"), text(entry, "container"), text(entry, "to")


def _failure(entry: Entry, pod: Manifest) -> PullFailure:
    """Return the pull failure that caused an entry."""
    names = ((section, text(container, "name")) for section in _SECTIONS for container in items(pod, "spec", section))
    section = next((section for section, name in names if name == entry.container), Section.CONTAINERS)
    return PullFailure(section=section, container=entry.container, image=entry.before, reason=entry.reason)


def _containers(pod: Manifest) -> tuple[Manifest, ...]:
    return tuple(container for section in _SECTIONS for container in items(pod, "spec", section))


def _before(workload: Manifest, entry: Entry) -> Manifest:
    """Return a workload with its history before an entry: by that, `failover_log` recognises a repetition."""
    earlier = tuple(other for other in History.of(workload).entries if other.at < entry.at)
    annotations = {**mapping(workload, "metadata", "annotations"), ANNOTATION: History(earlier).rendered()}
    return {**workload, "metadata": {**mapping(workload, "metadata"), "annotations": annotations}}


def _workload_of(entry: Entry, pod: Manifest) -> Manifest:
    """Return the workload that a pod's entry names, with its metadata alone."""
    workload = entry.workload
    assert workload  # noqa: S101 -- `observe_pod` keeps only such entries
    metadata = {"name": workload.name, "namespace": text(pod, "metadata", "namespace"), "uid": workload.uid}
    return {"apiVersion": workload.api_version, "kind": workload.kind, "metadata": metadata}
