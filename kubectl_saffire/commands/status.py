"""`status`: one screen of what Saffire does: its sources, the newest failovers, and what hangs now."""

import argparse
import asyncio
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from kubectl_saffire.estate import Estate, ListedSources
from kubectl_saffire.rehearsal import workload_of
from kubectl_saffire.screen import Screen, Style, ToType, plural, shortened
from kubectl_saffire.session import Session
from kubectl_saffire.view import left_in_words
from saffire.errors import RefusedError
from saffire.kube.manifest import Manifest, mapping, name_of, text, uid_of
from saffire.kube.owners import OwnerLookup
from saffire.kube.resources import Cluster
from saffire.kube.workload import is_ending
from saffire.pulls.failure import PullFailure, find_pull_failures
from saffire.record.status_lists import list_entries, readable_entries, status_of
from saffire.sources.spec import is_cluster_wide

HELP = "show the sources, the newest failovers, and what hangs now"
EXAMPLES = """\
examples:
  kubectl saffire status             # the whole cluster
  kubectl saffire status -n shop -w  # one namespace, and look again
"""
_NEWEST = 5
_EVERY_SECONDS = 5.0


def add(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.add_argument("-w", "--watch", action="store_true", help="look again every 5 s, until Ctrl-C")


async def run(arguments: argparse.Namespace, session: Session) -> int:
    """Show the status; with `--watch`, again and again."""
    await show(session, arguments.namespace)
    while arguments.watch:
        session.screen.flush()
        await asyncio.sleep(_EVERY_SECONDS)
        session.screen.clear()
        await show(session.at(datetime.now(UTC)), arguments.namespace)
    return 0


@dataclass(frozen=True, kw_only=True, slots=True)
class Stuck:
    """A workload with a container whose image cannot be pulled now, and the names of its pods."""

    namespace: str
    workload: str
    failure: PullFailure
    pods: tuple[str, ...]
    uids: frozenset[str]


async def show(session: Session, namespace: str) -> None:
    """Read the sources and the pods of a namespace, or of the cluster, and write what they say."""
    screen, kinds = session.screen, session.settings.kinds
    store = ListedSources(session.server, namespace=namespace)
    own = [source for of_namespace in (await store.own()).values() for source in of_namespace]
    try:
        sources = [*own, *await store.cluster_wide()]
    except RefusedError:
        screen.warn("warning: you may not list ClusterAlternateImageSources; Saffire may")
        sources = own
    pods = await Estate(session.server, kinds, namespace=namespace).pods_by_namespace(screen.progress)
    stuck = await stuck_workloads(Cluster(session.server, kinds), pods)
    _show_sources(screen, sources)
    _show_failovers(screen, sources)
    _show_hanging(screen, sources, stuck)


async def stuck_workloads(cluster: Cluster, pods_in: Mapping[str, Sequence[Manifest]]) -> list[Stuck]:
    """Return the workloads of which a pull fails now, by the status of their pods."""
    stuck: dict[tuple[str, str, str, str], Stuck] = {}
    for namespace, pods in sorted(pods_in.items()):
        owners = OwnerLookup(cluster, namespace)
        for pod in pods:
            for failure in () if is_ending(pod) else find_pull_failures(pod):
                of_pod = await owners.owners_of(pod)
                key = namespace, workload_of(pod, of_pod), failure.container, failure.image
                before = stuck.get(key)
                uids = frozenset({uid_of(pod), *map(uid_of, of_pod.chain)})
                stuck[key] = Stuck(
                    namespace=namespace,
                    workload=key[1],
                    failure=failure,
                    pods=(*(before.pods if before else ()), name_of(pod)),
                    uids=uids | (before.uids if before else frozenset()),
                )
    return list(stuck.values())


def _show_sources(screen: Screen, sources: Sequence[Manifest]) -> None:
    if not sources:
        screen.line("no source in sight: kubectl saffire init writes one", Style.YELLOW)
        return
    header = ("NAMESPACE", "SOURCE", "MODE", "ACCEPTED", "READY", "ACTIVE", "STUCK")
    screen.table(header, map(source_row, sources), [list(source_notes(source)) for source in sources])


def source_row(source: Manifest) -> tuple[str, ...]:
    """Return the row of a source: where it is, its mode, its conditions, and how many containers it moved and left."""
    status = status_of(source)
    left = status.get("leftCount")
    return (
        "(all)" if is_cluster_wide(source) else text(source, "metadata", "namespace"),
        name_of(source),
        str(mapping(source, "spec").get("mode") or "Enforce"),
        _condition(status, "Accepted"),
        _condition(status, "Ready"),
        str(len(readable_entries(status, "active"))),
        str(left if isinstance(left, int) else len(readable_entries(status, "left"))),
    )


def source_notes(source: Manifest) -> Iterator[str]:
    """Yield the messages of those conditions of a source that are false."""
    for condition in list_entries(status_of(source), "conditions"):
        if condition.get("status") == "False" and condition.get("message"):
            yield f"{condition.get('type')}: {condition.get('message')}"


def _condition(status: Manifest, kind: str) -> str:
    entries = list_entries(status, "conditions")
    return next((str(entry.get("status")) for entry in entries if entry.get("type") == kind), "-")


def _show_failovers(screen: Screen, sources: Iterable[Manifest]) -> None:
    entries = [entry for source in sources for entry in readable_entries(status_of(source), "switches")]
    newest = sorted(entries, key=lambda entry: text(entry, "time"), reverse=True)[:_NEWEST]
    if not newest:
        return
    screen.line()
    screen.line("NEWEST FAILOVERS", Style.BOLD)
    for entry in newest:
        target = mapping(entry, "target")
        what = f"{text(target, 'type', 'kind')}/{text(target, 'name')} {text(target, 'container')}"
        verb = "would move" if entry.get("observed") is True else "moved"
        screen.line(f"{text(entry, 'time')} {text(target, 'namespace')} {verb} {what}", indent=2)
        screen.line(f"{shortened(text(entry, 'oldImage'))} -> {shortened(text(entry, 'newImage'))}", indent=4)


def _show_hanging(screen: Screen, sources: Iterable[Manifest], stuck: Sequence[Stuck]) -> None:
    left = [entry for source in sources for entry in readable_entries(status_of(source), "left")]
    by_uid = {text(entry, "target", "uid"): entry for entry in left}
    screen.line()
    if not stuck:
        screen.line("nothing hangs: no pod waits for an image that cannot be pulled", Style.GREEN)
        return
    screen.line("HANGS NOW", Style.RED)
    rows, below = [], []
    for entry in stuck:
        told_by = next((by_uid[uid] for uid in entry.uids if uid in by_uid), None)
        rows.append((entry.namespace, entry.workload, entry.failure.container, str(len(entry.pods))))
        words = left_in_words(told_by) if told_by else f"{entry.failure.image}: {entry.failure.why}"
        below.append([words, ToType(f"kubectl saffire why pod/{entry.pods[0]} -n {entry.namespace}")])
    screen.table(("NAMESPACE", "WORKLOAD", "CONTAINER", "PODS"), rows, below, indent=2)
    screen.line(f"{plural(len(stuck), 'container')} hang{'s' if len(stuck) == 1 else ''}", Style.RED)
