"""`report`: every image in use without a proven equivalent, for a terminal, a program or an auditor."""

import argparse
import json
from collections.abc import Sequence
from itertools import chain
from typing import Any

from kubectl_saffire.coverage import Coverage, Verdict, by_registry, coverage_of, states_in_status, worst_first
from kubectl_saffire.coverage_page import page
from kubectl_saffire.rehearsal import Rehearsal, rehearsing
from kubectl_saffire.screen import Screen, Style, plural, shortened
from kubectl_saffire.session import Session
from kubectl_saffire.usage import Inventory, ask, in_every, pairs_of
from saffire.sources.candidates import parse_valid

HELP = "list every image in use without a proven equivalent"
EXAMPLES = """\
examples:
  kubectl saffire report                          # the whole cluster
  kubectl saffire report -n shop --ask            # ask the registries now
  kubectl saffire report --ask -o html > coverage.html
  kubectl saffire report -o json | jq '.images[] | select(.verdict != "ready")'

Without --ask, the verdicts rest on what Saffire keeps in the status of its
sources.

exit status: 0 if every image has a proven equivalent, 1 if one has none, 2 if
the report failed
"""
UNPROVEN = 1
"""The exit status if an image has no proven equivalent."""


def add(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.add_argument("--ask", action="store_true", help="ask the registries of the equivalents")
    parser.add_argument(
        "-o", "--output", choices=("table", "json", "html"), default="table", help="default: %(default)s"
    )


async def run(arguments: argparse.Namespace, session: Session) -> int:
    """Print the report; return 1 if an image in use has no proven equivalent."""
    screen, namespace = session.screen, arguments.namespace
    async with rehearsing(session, asks=True, namespace=namespace) as rehearsal:
        inventory = await Inventory.read(rehearsal.estate, screen.progress)

        async def look(name: str) -> tuple[Coverage, ...]:
            return await _coverage(rehearsal, inventory, name, asks=arguments.ask)

        images = [*chain.from_iterable(await in_every(inventory.namespaces, look, screen.progress))]
        hidden = sorted(rehearsal.estate.hidden)
    for words in hidden:
        screen.warn(f"warning: you may not read {words}; Saffire may")
    match arguments.output:
        case "json":
            screen.raw(f"{json.dumps(as_json(images, asked=arguments.ask), indent=2)}\n")
        case "html":
            scope = f"namespace {namespace}" if namespace else "the whole cluster"
            screen.raw(page(images, scope=scope, now=session.now, asked=arguments.ask))
        case _:
            show(screen, images)
    return UNPROVEN if any(image.verdict is not Verdict.READY for image in images) else 0


async def _coverage(rehearsal: Rehearsal, inventory: Inventory, namespace: str, *, asks: bool) -> tuple[Coverage, ...]:
    """Return the coverage of the images in use in a namespace."""
    sources, manifest = await rehearsal.index.sources_for(namespace, fresh=True)
    uses = inventory.uses(manifest or {})
    pairs = tuple(pairs_of(uses, parse_valid(sources)))
    answered = await ask(rehearsal.cache, namespace, pairs) if asks else states_in_status(pairs, sources)
    return coverage_of(namespace, uses, answered)


def as_json(images: Sequence[Coverage], *, asked: bool) -> dict[str, Any]:
    """Return the report for a program."""
    return {
        "asked": asked,
        "registries": {registry: dict(sorted(counts.items())) for registry, counts in by_registry(images).items()},
        "images": [
            {
                "namespace": image.namespace,
                "image": image.image,
                "registry": image.registry,
                "verdict": image.verdict,
                "equivalents": [{"image": name, "state": state} for name, state in image.equivalents],
            }
            for image in worst_first(images)
        ],
    }


def show(screen: Screen, images: Sequence[Coverage]) -> None:
    """Write the images without a proven equivalent, and the coverage of each registry."""
    lacking = [image for image in worst_first(images) if image.verdict is not Verdict.READY]
    if lacking:
        screen.table(
            ("VERDICT", "NAMESPACE", "IMAGE"),
            [(image.verdict, image.namespace, shortened(image.image)) for image in lacking],
            [[f"{shortened(name)}: {state}" for name, state in image.equivalents] for image in lacking],
        )
        screen.line()
    counts = by_registry(images)
    if counts:
        header = ("REGISTRY", "IMAGES", *(verdict.upper() for verdict in reversed(Verdict)))
        screen.table(
            header,
            [
                (registry, str(of_registry.total()), *(str(of_registry[verdict]) for verdict in reversed(Verdict)))
                for registry, of_registry in counts.items()
            ],
        )
        screen.line()
    style = Style.RED if lacking else Style.GREEN
    screen.line(
        f"{len(images) - len(lacking)} of {plural(len(images), 'image')} in use have a proven equivalent", style
    )
    if any(image.verdict is Verdict.NONE for image in lacking):
        screen.line("kubectl saffire init -n NAMESPACE declares equivalents", Style.DIM)
    if any(image.verdict in {Verdict.NOT_READY, Verdict.UNKNOWN} for image in lacking):
        screen.line("kubectl saffire copy-plan tells what is to be copied", Style.DIM)
