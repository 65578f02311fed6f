"""
The audit: the histories of a namespace's objects, compared with the status of its sources.

The history of an object is written by the patch that moves it, so it is always true. The status of a source is written
afterwards, and a process can end in between. A sweep reads the histories. It finds failovers that no status has,
templates that were to follow their pods, and entries of `active` that somebody else has put back. The audit also keeps
what is found out about the originals of containers that are to return.
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

# What is older is told, or will not be told any more. Clocks differ, and what comes from further ahead was made up.
_WINDOW = timedelta(hours=1)
_AHEAD = timedelta(minutes=5)
_SECTIONS = (Section.CONTAINERS, Section.INIT_CONTAINERS)
PlacedRecord = tuple[FailoverRecord, Manifest]
"""A record, and the object at which operators look for it."""


class Audit:
    """
    What a thorough look at one namespace has seen.

    Args:
        sources: the sources of the namespace, as they are stored.
        parsed: those of them that can be used.
        kinds: the kinds that have a template.
        namespace: its name.

    """

    def __init__(self, sources: Iterable[Manifest], parsed: Iterable[Source], kinds: Kinds, *, namespace: str) -> None:
        self._namespace = namespace
        self._sources = {record_name(source): source for source in sources}
        self._switches = {name: switches_of(source) for name, source in self._sources.items()}
        self._parsed = {source.name: source for source in parsed}
        self._kinds = kinds
        self._workloads: dict[str, Manifest] = {}
        self._freed: dict[tuple[str, str, str], list[tuple[Manifest, Entry]]] = {}
        self._wanted = {text(one, "target", "uid") for source in self._sources.values() for one in active_of(source)}
        self._running: set[tuple[str, str, str]] = set()
        self._missed: set[str] = set()
        self._returns = bool(self._wanted) and any(source.fail_back_after for source in self._parsed.values())
        self._revised: dict[tuple[str, str, str], tuple[Manifest, Manifest]] = {}
        self.running = RunningImages()
        """The pods, where anybody may want to return."""

    def miss_kind(self, kind: str) -> None:
        """Take note of a kind whose objects could not be listed: nothing is known of any of them."""
        self._missed.add(kind)

    def observe_workload(self, workload: Manifest) -> None:
        """Take note of an object with a pod template."""
        if annotation(workload, ANNOTATION) or uid_of(workload) in self._wanted:
            self._workloads[uid_of(workload)] = workload

    def observe_pod(self, pod: Manifest) -> None:
        """Take note of a pod: what it runs, for whom, and what its own history tells."""
        if self._returns:
            self.running.observe(pod)
        owner = controller_of(pod)
        uids = {uid_of(pod), owner.uid if owner else ""}
        for entry in History.of(pod).entries:
            if entry.workload:
                uids.add(entry.workload.uid)
                self._freed.setdefault((entry.workload.uid, entry.container, entry.after), []).append((pod, entry))
        for uid in uids & self._wanted:
            self._running |= {(uid, text(one, "name"), text(one, "image")) for one in _containers(pod)}

    @property
    def sources(self) -> tuple[Source, ...]:
        """The sources that can be used."""
        return tuple(self._parsed.values())

    @property
    def workloads(self) -> dict[str, Manifest]:
        """The workloads with a history, or that a status tells of, by uid."""
        return self._workloads

    def active(self, source: Source) -> list[Manifest]:
        """Return the entries of `active` of a source that are still true, and of kinds of which something is known."""
        entries = active_of(self._sources[source.name])
        return [
            one for one in entries if text(one, "target", "type", "kind") not in self._missed and self.is_active(one)
        ]

    def revise(self, entry: Manifest, by_now: Manifest) -> None:
        """Keep what an entry of `active` is to say by now."""
        self._revised[_key(entry)] = entry, by_now

    def revised(self, entry: Manifest) -> Manifest:
        """Return what an entry of `active` is to say; one that others have written since may only lose its proof."""
        before, by_now = self._revised.get(_key(entry), (entry, entry))
        is_proven = "healthySince" in by_now
        return by_now if before == entry else entry if is_proven else without_proof(entry, text(by_now, "blockedBy"))

    def is_active(self, entry: Manifest) -> bool:
        """Tell whether an entry of `active` is still true: the template, or a pod, names the alternative."""
        # A cluster-wide source tells of other namespaces too. The Go project of this name wrote none.
        is_elsewhere = text(entry, "target", "namespace") not in {"", self._namespace}
        if is_elsewhere or text(entry, "target", "type", "kind") in self._missed:
            return True
        uid, container, image = _key(entry)
        workload = self._workloads.get(uid)
        slots = self._slots(workload, container) if workload else ()
        if any(same_image(slot.image, image) for slot in slots):
            return True
        return any((uid, container) == run[:2] and same_image(run[2], image) for run in self._running)

    def unfinished(self, *, now: datetime) -> Iterator[FailingPod]:
        """Yield a pod of each workload whose template was to follow its pods, and did not, as if it waited still."""
        for (uid, container, image), freed in self._freed.items():
            pod, entry = freed[-1]
            done = self._has_moved(uid, container, image)
            named = next((text(one, "image") for one in _containers(pod) if text(one, "name") == container), "")
            if entry.template_next and not done and _is_recent(entry, now) and named == image:
                yield FailingPod(pod=pod, failures=(_failure(entry, pod),))

    def unrecorded(self, *, now: datetime) -> Iterator[PlacedRecord]:
        """Yield what the histories tell and no status does."""
        for workload in self._workloads.values():
            recent = [entry for entry in History.of(workload).entries if self._is_kept(entry, now)]
            # Whoever writes annotations could make up containers.
            entries = [entry for entry in recent if self._slots(workload, entry.container)]
            for move in {(entry.container, entry.after) for entry in entries}:
                alike = [entry for entry in entries if (entry.container, entry.after) == move]
                yield from self._unrecorded_moves(workload, alike)
        for (uid, container, image), freed in self._freed.items():
            pod, entry = freed[0]
            if self._has_moved(uid, container, image):
                continue
            is_its_own = container in {text(one, "name") for one in _containers(pod)}
            if is_its_own and self._is_kept(entry, now) and not self._recorded_times(uid, entry):
                yield from self._placed_record(_named(entry, pod), entry, Step.PODS, pod)

    def _has_moved(self, uid: str, container: str, image: str) -> bool:
        """Tell whether the template of the workload was moved there."""
        workload = self._workloads.get(uid)
        return workload is not None and History.of(workload).has_moved(container, image)

    def _unrecorded_moves(self, workload: Manifest, alike: list[Entry]) -> Iterator[PlacedRecord]:
        """Yield of repetitions of one move of a template those that no status tells of, the newest."""
        told = self._recorded_times(uid_of(workload), alike[0])
        missing = len(alike) - len(set(told))
        candidates = [entry for entry in alike if timestamp(entry.at) not in told]
        for entry in candidates[-missing:] if missing > 0 else ():
            yield from self._placed_record(_before(workload, entry), entry, Step.TEMPLATE, workload)

    def _recorded_times(self, uid: str, entry: Entry) -> list[str]:
        """Return when the status of the entry's source tells of such a move, not long before the entry or later."""
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

    def _slots(self, workload: Manifest, container: str) -> tuple[ImageField, ...]:
        """Return where a template names the image of a container, or of a volume, of that name."""
        found = (template_image_field(workload, self._kinds, section, container) for section in Section)
        return tuple(filter(None, found))

    def _is_kept(self, entry: Entry, now: datetime) -> bool:
        """Tell whether the status would still hold what is told of an entry."""
        switches = self._switches.get(entry.source, [])
        is_kept = len(switches) < SWITCHES or timestamp(entry.at) > text(switches[0], "time")
        return is_kept and _is_recent(entry, now)

    def _placed_record(self, workload: Manifest, entry: Entry, step: Step, where: Manifest) -> Iterator[PlacedRecord]:
        """Yield the record of an entry, if its source still stands for it."""
        source = self._parsed.get(entry.source)
        try:
            reference = Reference.parse(entry.after)
        except InvalidReference:
            return
        if source is None:
            return
        kind = FailBack if entry.is_fail_back else Failover
        failover = kind(
            failure=_failure(entry, where),
            candidate=Candidate(image=entry.after, reference=reference, source=source),
            workload=workload,
            steps=(step,),
            proof=Proof(entry.proof) if entry.proof in set(Proof) else Proof.UNVERIFIED,
        )
        yield FailoverRecord(failover=failover, at=entry.at), where


def _is_recent(entry: Entry, now: datetime) -> bool:
    """Tell whether an entry is from the time of which there may be something left to do."""
    return -_AHEAD <= now - entry.at < _WINDOW


def _key(entry: Manifest) -> tuple[str, str, str]:
    """Return the workload's uid, the container and the image that an entry of `active` tells of."""
    return text(entry, "target", "uid"), text(entry, "container"), text(entry, "to")


def _failure(entry: Entry, pod: Manifest) -> PullFailure:
    """Return the pull failure that led to an entry."""
    named = ((section, text(one, "name")) for section in _SECTIONS for one in items(pod, "spec", section))
    section = next((section for section, name in named if name == entry.container), Section.CONTAINERS)
    return PullFailure(section=section, container=entry.container, image=entry.before, reason=entry.reason)


def _containers(pod: Manifest) -> tuple[Manifest, ...]:
    return tuple(one for section in _SECTIONS for one in items(pod, "spec", section))


def _before(workload: Manifest, entry: Entry) -> Manifest:
    """Return a workload as its history was before an entry, since a record tells a repetition by that."""
    earlier = tuple(one for one in History.of(workload).entries if one.at < entry.at)
    annotations = {**mapping(workload, "metadata", "annotations"), ANNOTATION: History(earlier).rendered()}
    return {**workload, "metadata": {**mapping(workload, "metadata"), "annotations": annotations}}


def _named(entry: Entry, pod: Manifest) -> Manifest:
    """Return what the entry of a pod tells of its workload."""
    workload = entry.workload
    assert workload  # noqa: S101 -- only such entries are kept
    metadata = {"name": workload.name, "namespace": text(pod, "metadata", "namespace"), "uid": workload.uid}
    return {"apiVersion": workload.api_version, "kind": workload.kind, "metadata": metadata}
