"""`init`: writes an AlternateImageSource for what runs in a namespace, from a mapping of registries."""

import argparse
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from shlex import quote

from kubectl_saffire.errors import UsageError
from kubectl_saffire.mappings import Equivalence, InvalidMapping, merged, parse_file, parse_option
from kubectl_saffire.proposal import Proposal, as_yaml, propose
from kubectl_saffire.rehearsal import rehearsing
from kubectl_saffire.screen import Screen, folded
from kubectl_saffire.session import Session
from kubectl_saffire.usage import Inventory
from saffire.errors import ConflictError
from saffire.kube.client import AbsentError, ApiServer
from saffire.kube.manifest import Manifest, is_subdomain, name_of
from saffire.sources.spec import API_VERSION

HELP = "write an AlternateImageSource for what runs in a namespace"
EXAMPLES = """\
examples:
  kubectl saffire init -n shop                    # what needs a mapping?
  kubectl saffire init -n shop --map quay.io/acme=ghcr.io/acme
  kubectl saffire init -n shop --from /etc/containers/registries.conf
  kubectl get idms,itms -o yaml | kubectl saffire init -n shop --from -
  kubectl saffire init -n shop --map quay.io=registry.example.com/quay --apply

--from reads a registries.conf (version 2), OpenShift's ImageDigestMirrorSet and
ImageTagMirrorSet, and kube-image-keeper's ReplicatedImageSet,
ClusterReplicatedImageSet and ImageAlternative. Without --apply, nothing is
applied.

exit status: 0 if a source was written, 1 if no image in use has a mapping,
2 if the command failed
"""
UNMAPPED = 1
"""The exit status if no image in use has a mapping."""
FIELD_MANAGER = "kubectl-saffire"
_PLACEHOLDER = "REGISTRY"
_MOST_NAMED = 6


def add(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.add_argument(
        "--map",
        action="append",
        default=[],
        metavar="FROM=TO",
        dest="maps",
        help="these two registries, or parts of them, hold the same images; may be repeated",
    )
    parser.add_argument(
        "--from",
        action="append",
        default=[],
        metavar="FILE",
        dest="files",
        help="a file that declares mirrors; - reads the standard input; may be repeated",
    )
    parser.add_argument("--name", default="saffire", help="the name of the source; default: %(default)s")
    parser.add_argument("--apply", action="store_true", help="create the source in the cluster, too")


async def run(arguments: argparse.Namespace, session: Session) -> int:
    """Print the sources for the images in use in the namespace; with `--apply`, create them."""
    screen, namespace = session.screen, session.namespace
    if not is_subdomain(arguments.name):
        raise UsageError(f"--name {arguments.name}: wants lower-case letters, digits, - and .")
    equivalences = _read_mappings(arguments.maps, arguments.files, screen)
    async with rehearsing(session, asks=False, namespace=namespace) as rehearsal:
        inventory = await Inventory.read(rehearsal.estate, screen.progress)
        manifest = await rehearsal.estate.namespace(namespace)
        if manifest is None:
            raise UsageError(f"there is no namespace {namespace}; kubectl get namespaces lists them")
        uses = inventory.uses(manifest)
        hidden = sorted(rehearsal.estate.hidden)
    for words in hidden:
        screen.warn(f"warning: you may not read {words}; Saffire may")
    proposal = propose((use.image for use in uses), equivalences, namespace=namespace, name=arguments.name)
    if proposal.sources:
        screen.raw(as_yaml(proposal.sources))
        if arguments.apply:
            await _create(session, proposal.sources)
    _tell(screen, proposal, namespace, images=len(uses), is_applied=arguments.apply)
    return 0 if proposal.sources else UNMAPPED


def _read_mappings(maps: Iterable[str], files: Iterable[str], screen: Screen) -> tuple[Equivalence, ...]:
    """Return the equivalences of the command line and of files; raise `UsageError` if any cannot be read."""
    equivalences: list[Equivalence] = []
    place = ""
    try:
        for option in maps:
            place = "--map "
            equivalences.append(parse_option(option))
        for name in files:
            place = f"--from {name}: "
            of_file = parse_file(_content(name))
            equivalences += of_file.equivalences
            for remark in of_file.remarks:
                screen.remark(f"{place}{remark}")
    except OSError as error:
        raise UsageError(f"{place}{error.strerror}") from error
    except (InvalidMapping, UnicodeDecodeError) as error:
        raise UsageError("\n".join(folded(f"{place}{error}", screen.width - len("error: ")))) from error
    return merged(equivalences)


def _content(name: str) -> str:
    return sys.stdin.read() if name == "-" else Path(name).read_text()


async def _create(session: Session, sources: Sequence[Manifest]) -> None:
    """
    Create the sources. This is the one write of the plugin, so it passes by the guard of the session's server.

    A source that exists is left as it is: its owner may have changed it.
    """
    for source in sources:
        path = f"/apis/{API_VERSION}/namespaces/{session.namespace}/alternateimagesources"
        try:
            await ApiServer.post(session.server, f"{path}?fieldManager={FIELD_MANAGER}", source)
        except ConflictError as error:
            raise UsageError(
                f"AlternateImageSource/{name_of(source)} exists.\n"
                "Type another --name; or, without --apply, pipe this into kubectl apply -f -"
            ) from error
        except AbsentError as error:
            raise UsageError("the cluster has no AlternateImageSources; docs/install.md installs them") from error
        session.screen.warn(f"created AlternateImageSource/{name_of(source)} in {session.namespace}")


def _tell(screen: Screen, proposal: Proposal, namespace: str, *, images: int, is_applied: bool) -> None:
    """Tell what the proposal leaves out, and what to type next."""
    if not images:
        screen.remark(f"No image is in use in {namespace}.")
    for image in proposal.unreadable:
        screen.remark(f"{image}: not an image reference; no registry can help")
    for first in proposal.cut:
        screen.remark(f"{first} has more than 31 equivalents; a set may have 32 entries, so the last are left out")
    if proposal.unmapped:
        screen.remark(f"These images in use have no mapping. Type, with your own registry for {_PLACEHOLDER}:")
    for account, repositories in proposal.unmapped.items():
        _, slash, rest = account.partition("/")
        screen.warn(f"  --map {quote(account)}={_PLACEHOLDER}{slash}{rest}")
        more = len(repositories) - _MOST_NAMED
        named = ", ".join(repositories[:_MOST_NAMED]) + (f" and {more} more" if more > 0 else "")
        screen.remark(f"for {named}", indent=6)
    if proposal.sources and is_applied:
        screen.remark(f"What is missing at the alternatives, kubectl saffire copy-plan -n {namespace} tells.")
    elif proposal.sources:
        screen.remark("Nothing is applied; type --apply, or pipe this into kubectl apply -f -")
