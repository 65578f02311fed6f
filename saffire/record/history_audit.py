"""
The audit: compares the histories of a namespace's objects with the status of the sources that apply to the namespace.

A *history* is an annotation of a pod or a workload, and lists the failovers of that object (`policy.history`). The
patch that moves the object to another image also writes the history, so a history is always true. Saffire writes the
status of the source after the patch, and Saffire's process can be killed in between. So a sweep reads the histories.
The audit finds

- failovers that a history has, and that are not recorded in the status of their source,
- containers that a history moved to the alternative that they run on, whether or not `status.active` has them,
- templates that Saffire was to patch after their pods, and did not patch,
- entries of `status.active` whose container runs on the alternative no more, since a user put its image back.

The audit also keeps what a fail back run learns about the health of originals, until Saffire writes it into the status.
An *original* is the image that a container left for an alternative.
"""

from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta

from saffire.kube.kinds import Kind, Kinds
from saffire.kube.manifest import Manifest, annotation, mapping, name_of, text, uid_of
from saffire.kube.workload import ImageField, OwnerReference, controller_of, is_ending, template_image_field
from saffire.policy.history import ANNOTATION, Away, Entry, History, timestamp
from saffire.policy.original_health import without_proof
from saffire.policy.plan import Failover, Step
from saffire.policy.running_images import RunningImages
from saffire.pulls.failure import FailingPod, PullFailure, Section, containers_of
from saffire.record.events import FailoverRecord
from saffire.record.failover_log import SWITCHES, active_entry, active_of, switches_of
from saffire.record.status_lists import namespace_of, rival
from saffire.registry.availability import Proof
from saffire.registry.reference import InvalidReference, Reference, is_made_of
from saffire.sources.candidates import Candidate
from saffire.sources.spec import Source, opted_out, record_name

# The failover of an older entry of a history is recorded by now, or Saffire does not record it any more.
_WINDOW = timedelta(hours=1)


class Audit:
    """
    Compares the history annotations of one namespace's pods and workloads with the status of its sources.

    Args:
        sources: the sources that apply to the namespace, as they are stored.
        parsed: those of `sources` that Saffire can use, since they are valid.
        kinds: the kinds that Saffire supports, to find the pod template of an object.
        namespace: the name of the namespace.

    """

    def __init__(self, sources: Iterable[Manifest], parsed: Iterable[Source], kinds: Kinds, *, namespace: str) -> None:
        self._namespace = namespace
        self._sources = {record_name(source): source for source in sources}
        self._switches = {name: switches_of(source) for name, source in self._sources.items()}
        self._parsed = {source.name: source for source in parsed}
        self._kinds = kinds
        # By workload, container and image: a pod that was moved in place, if possible a live one, and the entry for it.
        self._freed: dict[tuple[str, str, str], tuple[Manifest, Entry]] = {}
        self._active = {
            text(entry, "target", "uid"): entry
            for source in self._sources.values()
            for entry in active_of(source)
            if not self._is_elsewhere(entry)
        }
        # The switch with which one more switch of this namespace competes for a place, by source.
        self._rivals = {name: rival(switches, SWITCHES, namespace) for name, switches in self._switches.items()}
        self._running: set[tuple[str, str, str]] = set()
        self._missed_kinds: set[Kind | None] = set()
        self._may_fail_back = bool(self._active) and any(source.fail_back_after for source in self._parsed.values())
        self._revised: dict[_Key, tuple[Manifest, Manifest]] = {}
        self.workloads: dict[str, Manifest] = {}
        """The observed workloads that have a history annotation or an entry of `status.active`, by uid."""
        self.running = RunningImages()
        """The images that pods of the namespace run; empty if no container of the namespace may fail back."""

    def miss_kind(self, api_version: str, name: str) -> None:
        """Take note that Saffire could not read a kind: entries of `status.active` for that kind stay as they are."""
        self._missed_kinds.add(self._kinds.named(api_version, name))

    def unlisted(self) -> Iterator[OwnerReference]:
        """Yield the workloads of `status.active` that have a pod template, and whose kind a sweep does not list."""
        for uid, entry in self._active.items():
            kind = self._kind(entry)
            if kind and kind.template and not kind.is_top_level:
                name = text(entry, "target", "name")
                yield OwnerReference(api_version=_api_version(entry), kind=kind.name, name=name, uid=uid)

    def observe_workload(self, workload: Manifest) -> None:
        """Take note of an object with a pod template, if it has a history annotation or an entry of `status.active`."""
        if annotation(workload, ANNOTATION) or uid_of(workload) in self._active:
            self.workloads[uid_of(workload)] = workload

    def observe_pod(self, pod: Manifest) -> None:
        """Take note of a pod: its images, its workload and its history annotation."""
        if self._may_fail_back:
            self.running.observe(pod)
        owner = controller_of(pod)
        uids = {uid_of(pod), owner.uid if owner else ""}
        for entry in History.of(pod).entries:
            if entry.workload:
                uids.add(entry.workload.uid)
                key = entry.workload.uid, entry.container, entry.after
                if key not in self._freed or not is_ending(pod):
                    self._freed[key] = pod, entry
        for uid in () if is_ending(pod) else uids & self._active.keys():
            self._running |= {(uid, name, image) for name, image in _images(pod).items()}

    @property
    def sources(self) -> tuple[Source, ...]:
        """The sources of the namespace that Saffire can use, since they are valid."""
        return tuple(self._parsed.values())

    def active(self, source: Source) -> list[Manifest]:
        """
        Return the entries of a source's `status.active` that are still true.

        If Saffire could not read a kind, the entries for that kind are left out.
        """
        return [
            entry
            for entry in active_of(self._sources[source.name])
            if self._kind(entry) not in self._missed_kinds and self.is_active(entry)
        ]

    def revise(self, entry: Manifest, revised: Manifest) -> None:
        """Keep `revised` as the replacement of an entry of `status.active`."""
        self._revised[_key(entry)] = entry, revised

    def revised(self, entry: Manifest) -> Manifest:
        """
        Return the replacement of an entry of `status.active`; the entry itself if there is none.

        If another instance changed the entry after this instance read it, a replacement with a proof is ignored. Of a
        replacement without one, the changed entry takes over the `blockedBy`, and loses its own proof. The result also
        says whether the workload has opted out.
        """
        before, revised = self._revised.get(_key(entry), (entry, entry))
        if before != entry:
            is_proven = "healthySince" in revised
            revised = entry if is_proven else without_proof(entry, text(revised, "blockedBy"))
        return self._with_opt_out(revised)

    def _with_opt_out(self, entry: Manifest) -> Manifest:
        """
        Return an entry of `status.active` that says whether its workload has opted out.

        If the workload was not observed, or if its history does not tell how it came to the alternative, return the
        entry as it is: its annotations may be lost.
        """
        _, _, container, image = _key(entry)
        workload = self._workload(entry)
        if workload is None or not History.of(workload).has_moved(container, image):
            return entry
        without = {key: value for key, value in entry.items() if key != "optedOut"}
        return {**without, "optedOut": True} if opted_out(workload) else without

    def lost_opt_out(self, entry: Manifest) -> bool:
        """
        Tell whether the workload of an entry of `status.active` had opted out, and has lost its annotations since.

        If it has its history still, a user took the opt-out back.
        """
        _, _, container, image = _key(entry)
        workload = self._workload(entry)
        had_opted_out = bool(entry.get("optedOut")) and workload is not None
        return had_opted_out and not History.of(workload or {}).has_moved(container, image)

    def is_active(self, entry: Manifest) -> bool:
        """
        Tell whether an entry of `status.active` is still true: the template, or a pod, names the alternative.

        Pods that are ending do not count. If the entry is of another namespace, or if Saffire could not read its kind,
        it counts as true.
        """
        if self._is_elsewhere(entry) or self._kind(entry) in self._missed_kinds:
            return True
        _, uid, container, image = _key(entry)
        workload = self._workload(entry)
        fields = self._image_fields(workload, container) if workload else ()
        if any(is_made_of(field.image, image) for field in fields):
            return True
        return any((uid, container) == running[:2] and is_made_of(running[2], image) for running in self._running)

    def _is_elsewhere(self, entry: Manifest) -> bool:
        """Tell whether an entry is of another namespace: the status of a cluster-wide source has those of many."""
        return namespace_of(entry) not in {"", self._namespace}  # the Go project of this name wrote no namespace

    def _kind(self, entry: Manifest) -> Kind | None:
        """Return the kind of the workload of an entry of `status.active`; `None` if Saffire does not support it."""
        return self._kinds.named(_api_version(entry), text(entry, "target", "type", "kind"))

    def _workload(self, entry: Manifest) -> Manifest | None:
        """Return the observed workload that an entry of `status.active` is about; `None` if there is none."""
        return None if self._is_elsewhere(entry) else self.workloads.get(text(entry, "target", "uid"))

    def on_alternative(self, source: Manifest, *, now: datetime) -> list[Manifest]:
        """
        Return an entry of `status.active` for each container of the namespace that runs on an alternative.

        Those count that `source` moved, by the history of the workload or of a live pod that was moved in place. They
        are in the order in which Saffire moved them. `status.active` may lack them: the list was full, or Saffire's
        process was killed before it wrote them, or somebody else wrote the list.
        """
        name = record_name(source)
        if name not in self._parsed:
            return []
        moved: dict[tuple[str, str], tuple[Away, Manifest]] = {}
        for uid, workload in self.workloads.items():
            history = History.of(workload).until(now)
            for container in {entry.container for entry in history.entries if entry.source == name}:
                away = history.away(container, name)
                fields = self._image_fields(workload, container) if away else ()
                if away and any(is_made_of(field.image, away.latest.after) for field in fields):
                    moved[uid, container] = away, workload
        for (uid, container, image), (pod, entry) in self._freed.items():
            away = None if is_ending(pod) else History.of(pod).until(now).away(container, name)
            if away is None or (uid, container) in moved or self._has_returned(uid, container, since=away.latest.at):
                continue
            if away.latest.after == image == _images(pod).get(container):
                moved[uid, container] = away, _workload_of(entry, pod)
        in_order = sorted(moved.values(), key=lambda move: move[0].latest.at)
        entries = (active_entry(workload, away, _proof(away.latest)) for away, workload in in_order)
        return [self._with_opt_out(entry) for entry in entries if entry]

    def _has_returned(self, uid: str, container: str, *, since: datetime) -> bool:
        """
        Tell whether Saffire has returned a workload's container to its original image since a time.

        Then a pod that it moved in place before may run the alternative still, until the workload replaces the pod.
        """
        entries = History.of(self.workloads.get(uid, {})).entries
        return any(entry.is_fail_back and entry.container == container and entry.at >= since for entry in entries)

    def unfinished(self, *, now: datetime) -> Iterator[FailingPod]:
        """
        Yield one pod of each workload whose pods Saffire patched without the template that was to be patched next.

        The yielded `FailingPod` has the pull failure that the pod had before Saffire patched it, so that the repair
        decides about the workload once more.
        """
        for (uid, container, image), (pod, entry) in self._freed.items():
            is_there = not is_ending(pod) and _images(pod).get(container) == image
            waits = entry.template_next and not self._has_followed(uid, entry)
            if is_there and waits and _is_recent(entry, now):
                yield FailingPod(pod=pod, failures=(_failure(entry, pod),))

    def unrecorded(self, *, now: datetime) -> Iterator[FailoverRecord]:
        """Yield the recent failovers that a history annotation has, and that are not in the status of their source."""
        for workload in self.workloads.values():
            recent = [entry for entry in History.of(workload).entries if self._is_kept(entry, now)]
            # A user may write annotations, and make up containers in them.
            entries = [entry for entry in recent if self._image_fields(workload, entry.container)]
            for move in {(entry.container, entry.after) for entry in entries}:
                repetitions = [entry for entry in entries if (entry.container, entry.after) == move]
                yield from self._unrecorded_moves(workload, repetitions)
        for (uid, container, image), (pod, entry) in self._freed.items():
            is_of_pod = container in _images(pod) and not self._has_moved(uid, container, image)
            if is_of_pod and self._is_kept(entry, now) and not self._recorded_times(uid, entry):
                yield from self._record(_workload_of(entry, pod), entry, Step.PODS, pod)

    def _has_moved(self, uid: str, container: str, image: str) -> bool:
        """Tell whether Saffire moved the template of a workload to the image, by the workload's history annotation."""
        return History.of(self.workloads.get(uid, {})).has_moved(container, image)

    def _has_followed(self, uid: str, moved: Entry) -> bool:
        """Tell whether the template of a workload has the image to which a pod moved, or has had it since."""
        workload = self.workloads.get(uid, {})
        later = History(tuple(entry for entry in History.of(workload).entries if entry.at >= moved.at))
        fields = self._image_fields(workload, moved.container) if workload else ()
        has_it = any(is_made_of(field.image, moved.after) for field in fields)
        return has_it or later.has_moved(moved.container, moved.after)

    def _unrecorded_moves(self, workload: Manifest, repetitions: list[Entry]) -> Iterator[FailoverRecord]:
        """
        Yield the failovers of a template that the status of their source has not.

        `repetitions` are the entries of the template's history that moved one container to one image. If the status has
        fewer of these failovers than the history, yield as many as are missing: the newest whose time the status lacks.
        """
        recorded = self._recorded_times(uid_of(workload), repetitions[0])
        missing = len(repetitions) - len(set(recorded))
        unmatched = [entry for entry in repetitions if timestamp(entry.at) not in recorded]
        for entry in unmatched[-missing:] if missing > 0 else ():
            yield from self._record(_before(workload, entry), entry, Step.TEMPLATE, workload)

    def _recorded_times(self, uid: str, entry: Entry) -> list[str]:
        """
        Return when the status of a source says that Saffire made a failover like that of `entry`, as RFC 3339 texts.

        Such a failover moved the same container to the same image. Those that were only observed (mode Observe), or
        that are more than an hour older than `entry`, are left out.
        """
        switches = self._switches.get(entry.source, [])
        since = timestamp(entry.at - _WINDOW)
        return [
            text(switch, "time")
            for switch in switches
            if not self._is_elsewhere(switch)
            and (text(switch, "target", "uid"), text(switch, "target", "container")) == (uid, entry.container)
            and text(switch, "newImage") == entry.after
            and text(switch, "time") >= since
            and not switch.get("observed")
        ]

    def _image_fields(self, workload: Manifest, container: str) -> tuple[ImageField, ...]:
        """Return the fields of a workload's template that name the image of the container, or volume, `container`."""
        fields = (template_image_field(workload, self._kinds, section, container) for section in Section)
        return tuple(filter(None, fields))

    def _is_kept(self, entry: Entry, now: datetime) -> bool:
        """
        Tell whether the status of its source should have an entry of a history.

        The entry has to be recent. If `status.switches` has no place for it, it also has to be newer than the switch
        that would make place.
        """
        older = self._rivals.get(entry.source)
        return (older is None or timestamp(entry.at) > text(older, "time")) and _is_recent(entry, now)

    def _record(self, workload: Manifest, entry: Entry, step: Step, regarding: Manifest) -> Iterator[FailoverRecord]:
        """
        Yield the record of an entry of the history of `regarding`, a workload or a pod.

        Yield nothing if the source of the entry is not among the valid ones, or if the new image is no valid reference.
        """
        source = self._parsed.get(entry.source)
        try:
            reference = Reference.parse(entry.after)
        except InvalidReference:
            return
        if source is None:
            return
        failover = Failover(
            failure=_failure(entry, regarding),
            candidate=Candidate(image=entry.after, reference=reference, source=source),
            workload=workload,
            steps=(step,),
            proof=_proof(entry),
            is_back=entry.is_fail_back,
        )
        pods = (name_of(regarding),) if step is Step.PODS else ()
        yield FailoverRecord(failover=failover, at=entry.at, regarding=regarding, pods=pods)


def _is_recent(entry: Entry, now: datetime) -> bool:
    """Tell whether an entry of a history is so recent that Saffire may still have to finish or record its failover."""
    return not entry.is_ahead(now) and now - entry.at < _WINDOW


def _api_version(entry: Manifest) -> str:
    """Return the API version of an entry's workload; the Go project of this name wrote it as the group alone."""
    return "/".join(filter(None, (text(entry, "target", "type", key) for key in ("group", "version"))))


_Key = tuple[str, str, str, str]
"""Namespace and uid of a workload, the container's name, and the alternative image."""


def _key(entry: Manifest) -> _Key:
    """Return the key of an entry of `status.active`."""
    return namespace_of(entry), text(entry, "target", "uid"), text(entry, "container"), text(entry, "to")


def _proof(entry: Entry) -> Proof:
    """Return what was known of the new image of an entry; nothing if another version, or a user, wrote something."""
    return Proof(entry.proof) if entry.proof in set(Proof) else Proof.UNVERIFIED


def _failure(entry: Entry, pod: Manifest) -> PullFailure:
    """
    Return the pull failure for which Saffire wrote an entry of a history.

    Its section is the list of the spec of `pod` that has the container; `containers` if none has.
    """
    sections = (container.section for container in containers_of(pod) if container.name == entry.container)
    section = next(sections, Section.CONTAINERS)
    return PullFailure(section=section, container=entry.container, image=entry.before, reason=entry.reason)


def _images(pod: Manifest) -> dict[str, str]:
    """Return the images that the spec of a pod names, by container."""
    return {container.name: container.image for container in containers_of(pod)}


def _before(workload: Manifest, entry: Entry) -> Manifest:
    """Return a workload with its history from before `entry`, by which `failover_log` knows a repeated failover."""
    earlier = tuple(other for other in History.of(workload).entries if other.at < entry.at)
    annotations = {**mapping(workload, "metadata", "annotations"), ANNOTATION: History(earlier).rendered()}
    return {**workload, "metadata": {**mapping(workload, "metadata"), "annotations": annotations}}


def _workload_of(entry: Entry, pod: Manifest) -> Manifest:
    """Return the workload that an entry of a pod's history names: its type, name, namespace and uid alone."""
    workload = entry.workload
    assert workload  # noqa: S101 -- `observe_pod` keeps only such entries
    metadata = {"name": workload.name, "namespace": text(pod, "metadata", "namespace"), "uid": workload.uid}
    return {"apiVersion": workload.api_version, "kind": workload.kind, "metadata": metadata}
