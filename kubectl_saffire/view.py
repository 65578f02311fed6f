"""How fates look on a screen: what would move, and what would hang with the next step."""

from collections.abc import Iterable

from kubectl_saffire.advice import advice_for
from kubectl_saffire.rehearsal import Fate
from kubectl_saffire.screen import Screen, Style, ToType, shortened
from saffire.kube.manifest import Manifest
from saffire.policy.plan import Failover, Step
from saffire.sources.spec import Verification, display_name

_NOT_ASKED = "not asked"
_STRATEGIES = {
    (Step.TEMPLATE,): "template",
    (Step.PODS,): "pods",
    (Step.TEMPLATE, Step.PODS): "template, pods",
    (Step.PODS, Step.TEMPLATE): "pods, template",
}


def show_moves(screen: Screen, moves: Iterable[Fate], *, asks: bool) -> None:
    """Write the containers that would move, by namespace."""
    header = ("WORKLOAD", "CONTAINER", "PODS", "STRATEGY", "REPLACED")
    for namespace, fates in _by_namespace(moves):
        screen.line(f"namespace {namespace}", Style.BOLD, indent=2)
        rows = [
            (
                fate.workload,
                fate.container,
                _pods(fate),
                _STRATEGIES.get(fate.steps, ""),
                str(fate.ready_replaced),
            )
            for fate in fates
        ]
        details = [
            [
                f"to {shortened(fate.to)} ({proof_of_move(fate, asks=asks)}), by {source_of_move(fate)}",
                *([fate.detail] if fate.detail else []),
            ]
            for fate in fates
        ]
        screen.table(header, rows, details, indent=2)


def show_hangs(screen: Screen, hangs: Iterable[Fate]) -> None:
    """Write the containers that would hang, by namespace, each with its next step."""
    header = ("WORKLOAD", "CONTAINER", "PODS", "REASON")
    for namespace, fates in _by_namespace(hangs):
        screen.line(f"namespace {namespace}", Style.BOLD, indent=2)
        rows = [(fate.workload, fate.container, _pods(fate), str(fate.reason)) for fate in fates]
        screen.table(header, rows, [why_and_next(fate) for fate in fates], indent=2)


def why_and_next(fate: Fate) -> list[str]:
    """Return why a container would hang, and what to do about it, as lines."""
    advice = advice_for(fate)
    lines = [shortened(fate.image) + (f": {fate.detail}" if fate.detail else "")]
    lines += [f"next: {advice.words}"] if advice.words else []
    return lines + ([ToType(advice.command)] if advice.command else [])


def _pods(fate: Fate) -> str:
    return str(len(fate.pods)) if fate.pods else "next run"


def _by_namespace(fates: Iterable[Fate]) -> list[tuple[str, list[Fate]]]:
    by_namespace: dict[str, list[Fate]] = {}
    for fate in fates:
        by_namespace.setdefault(fate.namespace, []).append(fate)
    return list(by_namespace.items())


def source_of_move(fate: Fate) -> str:
    """Return `Kind/name` of the source by which a container would move; `""` if none would move it."""
    return display_name(fate.plan.candidate.source.name) if isinstance(fate.plan, Failover) else ""


def proof_of_move(fate: Fate, *, asks: bool) -> str:
    """Return what is known of the alternative: nothing, unless registries were asked."""
    if not isinstance(fate.plan, Failover):
        return ""
    is_asked = asks and fate.plan.candidate.source.verification is not Verification.OFF
    return str(fate.plan.proof if is_asked else _NOT_ASKED)


def left_in_words(entry: Manifest) -> str:
    """Return an entry of `status.left` in words: since when a container hangs, why, and what to do."""
    what = f"{entry.get('container', '')} with {shortened(str(entry.get('image', '')))}"
    return f"since {entry.get('since', '')}: {what}: {entry.get('reason', '')}: {entry.get('message', '')}"
