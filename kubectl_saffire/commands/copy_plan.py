"""`copy-plan`: writes what has to be copied so that each image in use is where its sources say."""

import argparse
from collections.abc import Mapping
from itertools import chain

from kubectl_saffire.copying import FORMATS, OPEN, TO_COPY, Copy, states_of_copies
from kubectl_saffire.rehearsal import Rehearsal, rehearsing
from kubectl_saffire.screen import Screen, plural
from kubectl_saffire.session import Session
from kubectl_saffire.usage import Answered, Inventory, ask, in_every, pairs_of
from saffire.policy.readiness import ReadinessState
from saffire.sources.candidates import parse_valid

HELP = "write what has to be copied to the alternatives; it copies nothing"
EXAMPLES = """\
examples:
  kubectl saffire copy-plan                       # the whole cluster
  kubectl saffire copy-plan -n shop -o skopeo > copy.sh
  kubectl saffire copy-plan -n shop > regsync.yaml
  regsync once -c regsync.yaml
  kubectl saffire copy-plan --all -o crane        # every pair, asks no registry

The registries of the alternatives are asked with the pull secrets of the pods.
A copy is planned if the registry says that an image is absent, incomplete or
for other platforms, or if it denies it: most registries deny what does not
exist.

exit status: 0 if the plan is complete, 1 if it is not known of every image
whether it has to be copied, or if no source applies, 2 if the command failed
"""
INCOMPLETE = 1
"""The exit status if the plan may lack a copy."""


def add(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.add_argument("-o", "--output", choices=tuple(FORMATS), default="regsync", help="default: %(default)s")
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--ask", action="store_true", help="ask the registries, and plan what is missing; the default")
    which.add_argument("--all", action="store_true", help="plan every image and alternative, and ask no registry")


async def run(arguments: argparse.Namespace, session: Session) -> int:
    """Print the plan in the format of a program that copies; return 1 if it may lack a copy."""
    screen = session.screen
    async with rehearsing(session, asks=True, namespace=arguments.namespace) as rehearsal:
        inventory = await Inventory.read(rehearsal.estate, screen.progress)
        namespaces = inventory.namespaces | (await rehearsal.sources.own()).keys()

        async def look(namespace: str) -> list[Answered] | None:
            return await _pairs(rehearsal, inventory, namespace, asks=not arguments.all)

        answered = [
            of_namespace
            for of_namespace in await in_every(namespaces, look, screen.progress)
            if of_namespace is not None
        ]
        hidden = sorted(rehearsal.estate.hidden)
    for words in hidden:
        screen.warn(f"warning: you may not read {words}; Saffire may")
    if not answered:
        command = f"kubectl saffire init -n {arguments.namespace or 'NAMESPACE'}"
        screen.remark(f"No source applies here, so no image has an alternative. {command} writes one.")
        return INCOMPLETE
    states = states_of_copies(chain.from_iterable(answered))
    planned = sorted(copy for copy, state in states.items() if arguments.all or state in TO_COPY)
    if planned:
        screen.raw(FORMATS[arguments.output](planned))
    if arguments.all:
        screen.remark(f"{plural(len(planned), 'pair')} of an image and an alternative; no registry was asked.")
        return 0
    return _tell(screen, states)


async def _pairs(rehearsal: Rehearsal, inventory: Inventory, namespace: str, *, asks: bool) -> list[Answered] | None:
    """Return the images in use in a namespace with their equivalents, and the states; `None` if no source applies."""
    sources, manifest = await rehearsal.index.sources_for(namespace, fresh=True)
    usable = parse_valid(sources)
    if not usable or manifest is None:
        return None
    pairs = tuple(pairs_of(inventory.uses(manifest), usable))
    return await ask(rehearsal.cache, namespace, pairs) if asks else [(pair, ReadinessState.UNASKED) for pair in pairs]


def _tell(screen: Screen, states: Mapping[Copy, ReadinessState]) -> int:
    """Tell how many images are missing, there, or open, and why the last; return the exit status."""
    still_open = {copy: OPEN[state] for copy, state in states.items() if state in OPEN}
    denied = sum(state is ReadinessState.DENIED for state in states.values())
    missing = sum(state in TO_COPY for state in states.values())
    there = len(states) - missing - len(still_open)
    screen.remark(f"{missing} to copy, {there} there already, {len(still_open)} open.")
    if denied:
        screen.remark(
            f"Denied: {denied} of those to copy. They may be there, readable by others; copiers skip what is."
        )
    for copy, why in sorted(still_open.items()):
        screen.remark(f"open: {copy.target}: {why}", indent=2)
    return INCOMPLETE if still_open else 0
