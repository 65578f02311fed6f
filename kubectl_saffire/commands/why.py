"""`why`: what happens to a pod or a workload, or would happen, rung by rung, with the evidence."""

import argparse
from collections.abc import Iterable, Sequence

from kubectl_saffire.errors import UsageError
from kubectl_saffire.rehearsal import Fate, Rehearsal, failing_without, rehearsing
from kubectl_saffire.screen import Screen, Style, plural, shortened
from kubectl_saffire.session import Session
from kubectl_saffire.view import left_in_words, show_hangs, show_moves
from saffire.errors import SaffireError
from saffire.kube.kinds import Kind, Kinds
from saffire.kube.manifest import Manifest, annotation, is_subdomain, name_of, text, uid_of
from saffire.kube.owners import OwnerLookup
from saffire.kube.workload import OwnerReference, Owners, describe, is_ending
from saffire.policy.history import ANNOTATION, Entry, History, timestamp
from saffire.pulls.failure import FailingPod, containers_of, find_pull_failures
from saffire.record.status_lists import readable_entries, status_of
from saffire.registry.reference import Reference, domain_of
from saffire.sources.candidates import applicable, candidates
from saffire.sources.spec import Source, display_name, faults_of, record_name, source_of

HELP = "tell what happens to a pod or a workload, or would happen, and why"
EXAMPLES = """\
examples:
  kubectl saffire why deployment/web -n shop
  kubectl saffire why web-7d4b9c6f5-x2x7q  # a pod; else a workload of that name
  kubectl saffire why sts/db --ask           # ask the registries, too

If no pull fails now, it rehearses the death of each registry that the pods
use. If one fails, its registry counts as dead, unless --ask asks it.

exit status: 0 if all would move, 1 if something hangs or would, 2 if it failed
"""
_SHORT = {
    "po": "Pod",
    "deploy": "Deployment",
    "rs": "ReplicaSet",
    "rc": "ReplicationController",
    "sts": "StatefulSet",
    "ds": "DaemonSet",
    "cj": "CronJob",
    "ksvc": "Service",
}
_NEWEST = 5


def add(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.add_argument("target", metavar="POD|KIND/NAME", help="a pod, or a workload such as deployment/web")
    parser.add_argument("--ask", action="store_true", help="ask registries, as the function would")


async def run(arguments: argparse.Namespace, session: Session) -> int:
    """Tell what happens to the target, or would happen; return 1 if a container hangs, or would."""
    namespace, screen = session.namespace, session.screen
    async with rehearsing(session, asks=arguments.ask, namespace=namespace) as rehearsal:
        pods = (await rehearsal.estate.pods_by_namespace(screen.progress)).get(namespace, [])
        pods += (await rehearsal.estate.next_runs()).get(namespace, [])
        target, of_target = await _find(arguments.target, rehearsal, pods, namespace)
        failing = [
            FailingPod(pod=pod, failures=failures)
            for pod in of_target
            if not is_ending(pod) and (failures := find_pull_failures(pod))
        ]
        sources, _ = await rehearsal.index.sources_for(namespace, fresh=True)
        owners = await OwnerLookup(rehearsal.estate, namespace).owners_of(of_target[0]) if of_target else Owners()
        count = sum(1 for pod in of_target if uid_of(pod))
        screen.line(f"{describe(target)} in namespace {namespace}: {plural(count, 'pod')}", Style.BOLD)
        _show_owners(screen, target, owners)
        _show_kubelet(screen, failing)
        _show_sources(screen, sources, of_target)
        fates = await _decide(rehearsal, namespace, pods, of_target, failing)
        _show_decision(screen, fates, asks=arguments.ask, is_failing=bool(failing))
        _show_history(screen, [target, *reversed(owners.chain), *of_target])
        _show_left(screen, sources, {uid_of(target), *map(uid_of, owners.chain), *map(uid_of, of_target)})
    return 1 if any(fate.hangs for fate in fates) else 0


async def _decide(
    rehearsal: Rehearsal,
    namespace: str,
    pods: Sequence[Manifest],
    of_target: Sequence[Manifest],
    failing: Sequence[FailingPod],
) -> list[Fate]:
    """Return what the function decides about the pulls that fail; if none does, about the death of each registry."""
    if failing:
        images = {failure.image for failing_pod in failing for failure in failing_pod.failures}
        dead = frozenset() if rehearsal.registries.asks else frozenset(map(domain_of, images))
        return await rehearsal.with_dead(dead).fates_in(namespace, pods, failing)
    fates = []
    for registry in sorted({domain_of(container.image) for pod in of_target for container in containers_of(pod)}):
        dead = frozenset({registry})
        if would_fail := failing_without(dead, of_target):
            fates += await rehearsal.with_dead(dead).fates_in(namespace, pods, would_fail)
    return fates


# The target


def kinds_named(word: str, kinds: Kinds) -> list[Kind]:
    """Return the kinds that a user may mean by a word: the name, the plural or the short name of a kind."""
    lower = word.lower()
    words = {lower, _SHORT.get(lower, "").lower()} - {""}
    return [kind for kind in kinds.supported if words & {kind.name.lower(), kind.plural}]


async def _find(
    target: str, rehearsal: Rehearsal, pods: Sequence[Manifest], namespace: str
) -> tuple[Manifest, list[Manifest]]:
    """Return the object that the user names, and its pods; raise `UsageError` if there is no such object."""
    kinds = rehearsal.estate.kinds
    word, slash, name = target.rpartition("/")
    name = name.strip()
    if not is_subdomain(name):
        raise UsageError(f"{target}: no name of an object; type a pod's name, or KIND/NAME such as deployment/web")
    wanted = kinds_named(word, kinds) if slash else list(kinds.supported)
    if not wanted:
        raise UsageError(f"{word}: no kind that Saffire knows; type one such as deployment, statefulset or pod")
    own = [pod for pod in pods if name_of(pod) == name and uid_of(pod)]
    if own and any(kind.name == "Pod" for kind in wanted):
        return own[0], own
    owners = OwnerLookup(rehearsal.estate, namespace)
    names = {kind.name for kind in wanted}
    by_pod = [(pod, (await owners.owners_of(pod)).chain) for pod in pods]
    for pod, chain in by_pod:
        for owner in chain:
            if name_of(owner) == name and text(owner, "kind") in names:
                uid = uid_of(owner)
                return owner, [pod for pod, chain in by_pod if any(uid_of(above) == uid for above in chain)]
    for kind in wanted:
        if idle := await _read(rehearsal, kind, name, namespace):
            return idle, []
    raise UsageError(
        f"{target}: not in namespace {namespace}\nType -n NAMESPACE; kubectl get pods -A lists the pods of all."
    )


async def _read(rehearsal: Rehearsal, kind: Kind, name: str, namespace: str) -> Manifest | None:
    """Return an object without pods; `None` if there is none, or if its kind cannot be read."""
    api_version = f"{kind.group}/{kind.version}" if kind.group else kind.version
    if kind.is_foreign:
        return None
    reference = OwnerReference(api_version=api_version, kind=kind.name, name=name, uid="")
    try:
        return await rehearsal.estate.follow(reference, namespace)
    except SaffireError:
        return None


# The rungs


def _show_owners(screen: Screen, target: Manifest, owners: Owners) -> None:
    if owners.chain:
        chain = " <- ".join(describe(owner) for owner in owners.chain)
        screen.line(f"owners: {chain}", indent=2)
    if owners.unreadable:
        screen.line(f"its owner {owners.unreadable.kind}/{owners.unreadable.name} cannot be read", indent=2)
    elif not owners.chain and text(target, "kind") == "Pod":
        screen.line("owners: none", indent=2)


def _show_kubelet(screen: Screen, failing: Sequence[FailingPod]) -> None:
    screen.line("KUBELET", Style.BOLD)
    if not failing:
        screen.line("no pull fails now", indent=2)
    shown: set[tuple[str, str, str]] = set()
    for failing_pod in failing:
        for failure in failing_pod.failures:
            key = failure.container, failure.image, failure.cause
            if key in shown:
                continue
            shown.add(key)
            pod, node = name_of(failing_pod.pod), text(failing_pod.pod, "spec", "nodeName")
            screen.line(f"{failure.container} of {pod} on {node or 'no node'}: {failure.reason}", indent=2)
            screen.line(f"image: {failure.image}", indent=4)
            screen.line(f"cause: {failure.cause}: {failure.why}", indent=4)
            if failure.error:
                screen.line(f"words: {failure.error}", Style.DIM, indent=4)


def _show_sources(screen: Screen, sources: Sequence[Manifest], pods: Iterable[Manifest]) -> None:
    screen.line("SOURCES", Style.BOLD)
    if not sources:
        screen.line("none applies to the namespace", indent=2)
    parsed: list[Source] = []
    for manifest in sources:
        name = display_name(record_name(manifest))
        if source := source_of(manifest):
            parsed.append(source)
            screen.line(
                f"{name}: mode {source.mode}, strategy {source.strategy}, verification {source.verification}, "
                f"trigger {source.trigger}",
                indent=2,
            )
        else:
            screen.line(f"{name} cannot be used: {'; '.join(faults_of(manifest))}", Style.RED, indent=2)
    for image in dict.fromkeys(container.image for pod in pods for container in containers_of(pod)):
        _show_alternatives(screen, image, parsed)


def _show_alternatives(screen: Screen, image: str, sources: Sequence[Source]) -> None:
    reference = Reference.parse_if_valid(image)
    if reference is None:
        screen.line(f"{image}: no image reference", Style.RED, indent=2)
        return
    offered = candidates(reference, applicable(reference, sources))
    screen.line(f"{shortened(image)}:{'' if offered else ' no source lists it'}", indent=2)
    for number, candidate in enumerate(offered, start=1):
        by = display_name(candidate.source.name)
        screen.line(f"{number}. {shortened(candidate.image)}, by {by}", indent=4)


def _show_decision(screen: Screen, fates: Sequence[Fate], *, asks: bool, is_failing: bool) -> None:
    screen.line("DECISION" if is_failing else "IN AN OUTAGE", Style.BOLD)
    if not fates:
        screen.line("nothing to do", indent=2)
    for registry in dict.fromkeys(domain_of(fate.image) for fate in fates):
        own = [fate for fate in fates if domain_of(fate.image) == registry]
        moves, hangs = [fate for fate in own if not fate.hangs], [fate for fate in own if fate.hangs]
        when = "" if is_failing else f"if {registry} died: "
        if moves:
            screen.line(f"{when}Saffire moves it", Style.GREEN, indent=2)
            show_moves(screen, moves, asks=asks)
        if hangs:
            screen.line(f"{when}it hangs", Style.RED, indent=2)
            show_hangs(screen, hangs)
    if fates and not asks:
        screen.line("registries were not asked: --ask asks them", Style.DIM, indent=2)


def _show_history(screen: Screen, objects: Iterable[Manifest]) -> None:
    screen.line("HISTORY", Style.BOLD)
    lines = history_lines(objects)
    for line in lines:
        screen.line(line, indent=2)
    if not lines:
        screen.line("Saffire has never moved it, by its annotations", indent=2)


def history_lines(objects: Iterable[Manifest]) -> list[str]:
    """
    Return the newest entries in the histories of objects, each in words.

    The controller of a Deployment copies the annotation to its ReplicaSets: an entry counts where it comes first.
    """
    lines: list[str] = []
    shown: set[Entry] = set()
    for manifest in objects:
        entries = History.of(manifest).entries
        if not entries and annotation(manifest, ANNOTATION):
            lines.append(f"{describe(manifest)}: the annotation {ANNOTATION} cannot be read")
        new = [entry for entry in entries[-_NEWEST:] if entry not in shown]
        shown.update(new)
        lines += [f"{timestamp(entry.at)} {describe(manifest)}: {_in_words(entry)}" for entry in new]
    return lines


def _in_words(entry: Entry) -> str:
    verb = "moved back" if entry.is_fail_back else "moved"
    why = "; ".join(filter(None, (entry.reason, entry.fault, entry.proof)))
    by = display_name(entry.source)
    return f"{verb} {entry.container} from {shortened(entry.before)} to {shortened(entry.after)} ({why}) by {by}"


def _show_left(screen: Screen, sources: Iterable[Manifest], uids: set[str]) -> None:
    """Write what the status of sources says of the target that Saffire left."""
    for source in sources:
        for entry in readable_entries(status_of(source), "left"):
            if text(entry, "target", "uid") in uids:
                screen.line("LEFT", Style.RED)
                screen.line(left_in_words(entry), indent=2)
