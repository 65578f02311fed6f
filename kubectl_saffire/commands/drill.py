"""`drill`: rehearses the death of registries on a calm day, over the live cluster."""

import argparse
import json
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from kubectl_saffire.advice import advice_for
from kubectl_saffire.documents import html, junit
from kubectl_saffire.errors import UsageError
from kubectl_saffire.rehearsal import Fate, failing_without, rehearsing
from kubectl_saffire.screen import Screen, Style, plural
from kubectl_saffire.session import Session
from kubectl_saffire.view import proof_of_move, show_hangs, show_moves, source_of_move
from saffire.kube.manifest import Manifest
from saffire.policy.history import timestamp
from saffire.pulls.failure import containers_of
from saffire.registry.reference import InvalidReference, domain_of, parse_repository

HELP = "rehearse the death of registries: what would move, and what would hang"
EXAMPLES = """\
examples:
  kubectl saffire drill quay.io                  # the whole cluster
  kubectl saffire drill quay.io ghcr.io -n shop  # both at once, one namespace
  kubectl saffire drill quay.io --ask            # ask the other registries, too
  kubectl saffire drill quay.io -o json | jq .hangs
  kubectl saffire drill quay.io -o junit > drill.xml

Every image of a dead registry counts as one that has to be pulled again, by the
pods of today and by the next runs of CronJobs. What is scaled to 0 is left out.
Without --ask, alternatives are taken as present, equal and readable by all.

exit status: 0 if nothing would hang, 1 if something would, 2 if it failed
"""
HANGS = 1
"""The exit status if something would hang."""
_MOST_NAMED = 6


def add(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.add_argument("registries", nargs="+", metavar="REGISTRY", help="the domain of a registry, such as quay.io")
    parser.add_argument("--ask", action="store_true", help="ask the registries that live, as the function would")
    parser.add_argument(
        "-o", "--output", choices=("table", "json", "junit", "html"), default="table", help="default: %(default)s"
    )


async def run(arguments: argparse.Namespace, session: Session) -> int:
    """Rehearse; print the fate of each container that uses the registries; return 1 if one would hang."""
    dead = frozenset(map(domain, arguments.registries))
    screen, asks = session.screen, arguments.ask
    async with rehearsing(session, asks=asks, namespace=arguments.namespace) as calm:
        rehearsal = calm.with_dead(dead)
        pods = await rehearsal.estate.pods_by_namespace(screen.progress)
        for namespace, made_up in (await rehearsal.estate.next_runs()).items():
            pods.setdefault(namespace, []).extend(made_up)
        fates = await rehearsal.fates(pods, lambda of_namespace: failing_without(dead, of_namespace), screen.progress)
        hidden = sorted(rehearsal.estate.hidden)
    for words in hidden:
        screen.warn(f"warning: you may not read {words}; Saffire may")
    said = report(dead, fates, asks=asks, at=timestamp(session.now))
    match arguments.output:
        case "json":
            screen.raw(f"{json.dumps(said, indent=2)}\n")
        case "junit":
            screen.raw(junit(said))
        case "html":
            screen.raw(html(said))
        case _:
            show(screen, dead, fates, asks=asks)
    if not fates:
        screen.warn(_what_else(dead, pods.values()))
    return HANGS if any(fate.hangs for fate in fates) else 0


def domain(registry: str) -> str:
    """Return the domain that references have for a registry; raise `UsageError` if the text names none."""
    text = registry.removeprefix("https://").rstrip("/")
    try:
        repository = parse_repository(f"{text}/x/x")
    except InvalidReference:
        repository = None
    if repository is None or repository.path != "x/x":
        raise UsageError(f"{registry}: no registry; type a domain, such as quay.io or registry.example.com:5000")
    return repository.domain


# As JSON


def report(dead: Iterable[str], fates: Iterable[Fate], *, asks: bool, at: str) -> dict[str, Any]:
    """Return what a drill shows, for a program; `at` is the time of the drill."""
    all_fates = list(fates)
    return {
        "time": at,
        "registries": sorted(dead),
        "asked": asks,
        "moves": [_move(fate, asks=asks) for fate in all_fates if not fate.hangs],
        "hangs": [_hang(fate) for fate in all_fates if fate.hangs],
    }


def _move(fate: Fate, *, asks: bool) -> dict[str, Any]:
    return {
        **_place(fate),
        "to": fate.to,
        "by": source_of_move(fate),
        "strategy": [step.name.lower() for step in fate.steps],
        "proof": proof_of_move(fate, asks=asks),
        "readyPodsReplaced": fate.ready_replaced,
        "note": fate.detail,
    }


def _hang(fate: Fate) -> dict[str, Any]:
    advice = advice_for(fate)
    return {
        **_place(fate),
        "reason": str(fate.reason),
        "message": fate.detail,
        "step": advice.words,
        "command": advice.command,
    }


def _place(fate: Fate) -> dict[str, Any]:
    return {
        "namespace": fate.namespace,
        "workload": fate.workload,
        "container": fate.container,
        "image": fate.image,
        "pods": list(fate.pods),
    }


# On a screen


def show(screen: Screen, dead: Iterable[str], fates: Sequence[Fate], *, asks: bool) -> None:
    """Write a drill to the screen: what would move, what would hang, and last the sum."""
    moves, hangs = [fate for fate in fates if not fate.hangs], [fate for fate in fates if fate.hangs]
    if moves:
        screen.line("WOULD MOVE", Style.GREEN)
        show_moves(screen, moves, asks=asks)
        screen.line()
    if hangs:
        screen.line("WOULD HANG", Style.RED)
        show_hangs(screen, hangs)
        screen.line()
    names = " and ".join(sorted(dead))
    if not fates:
        screen.line(f"If {names} died now, nothing would happen: no pod has an image of it.", Style.BOLD)
        return
    replaced = sum({(fate.namespace, fate.workload): fate.ready_replaced for fate in moves}.values())
    screen.line(
        f"If {names} died now, {plural(len(moves), 'container')} would move and {len(hangs)} would hang; "
        f"rollouts would replace {plural(replaced, 'ready pod')}.",
        Style.RED if hangs else Style.GREEN,
    )
    if moves and not asks:
        screen.line("Alternatives were taken as present: --ask asks their registries.", Style.DIM)


def _what_else(dead: Iterable[str], pods: Iterable[Sequence[Manifest]]) -> str:
    """Return which registries are in use instead: the user may have misspelled the one."""
    counts = Counter(
        domain_of(container.image) for of_namespace in pods for pod in of_namespace for container in containers_of(pod)
    )
    in_use = ", ".join(f"{name} ({count})" for name, count in counts.most_common(_MOST_NAMED) if name)
    return f"No pod has an image of {' or '.join(sorted(dead))}; in use: {in_use or 'no registry'}."
