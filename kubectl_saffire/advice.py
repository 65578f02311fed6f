"""
Advice: what a user does about a container that would hang, in words, and the command for it if there is one.

The rows are those of docs/operations.md, "Why was nothing done?".
"""

import json
import re
from dataclasses import dataclass

from kubectl_saffire.rehearsal import DOWN_TOO, OBSERVED, Fate
from saffire.kube.manifest import name_of
from saffire.policy.plan import Failover, Leave, Reason
from saffire.registry.reference import Reference
from saffire.sources.candidates import first_candidate
from saffire.sources.spec import CLUSTER_WIDE, IGNORE, Mode, Source, is_cluster_wide, source_of

# What may be put into a command: `Kind/name`, as Kubernetes allows it.
_OBJECT = re.compile(r"[A-Za-z]{1,63}/[a-z0-9][-a-z0-9.]{0,252}")
_IN_WORDS = {
    Reason.STATIC_POD: "edit the pod's file on the node: nobody can change a static pod through the API server",
    Reason.EPHEMERAL_CONTAINER: "debug anew, with an image of another registry",
    Reason.IMAGE_VOLUME: "recreate the pod from a template that names the alternative",
    Reason.OWNER_UNSEEN: "let Saffire read the owner: docs/configuration.md, foreign kinds",
    Reason.EXHAUSTED: "repair one of the registries, or add another equivalent to the source",
    Reason.REVERTED: "find who puts the image back, and have them name the alternative",
    Reason.UNREADABLE: "name the pull secret in the template: docs/configuration.md, credentials",
    Reason.CANNOT_HELP: "mend the image or the node: no other registry can help",
    Reason.INVALID_REFERENCE: "correct the image",
    Reason.NODE_FAULT: "look at the node: its network, DNS, proxy, firewall",
    Reason.TAKEN_DOWN: "ask who owns the image; to move it all the same, set trigger: AnyFailure",
    Reason.NEXT_TRY: "nothing: Saffire looks again after the kubelet's next try; to move at once, set trigger: "
    "AnyFailure",
    Reason.DENIED: "see the Event FailoverRefused at the workload",
}


@dataclass(frozen=True, slots=True)
class Advice:
    """The next step: `words` for a user, and the `command` to type; `""` if no command does it."""

    words: str
    command: str = ""


def advice_for(fate: Fate) -> Advice:
    """Return the next step for a container that would hang."""
    namespace, image = fate.namespace, Reference.parse_if_valid(fate.image)
    repository = str(image.repository) if image else fate.image
    match fate.reason:
        case Reason.NO_SOURCE:
            return Advice("declare where else its images are", f"kubectl saffire init -n {namespace}")
        case Reason.NOT_LISTED:
            return Advice(f"list {repository} with an equivalent", _edit(fate))
        case Reason.PAUSED:
            return Advice("set its mode to Enforce", _set_mode(_source_in(Mode.PAUSED, fate), namespace))
        case reason if reason == OBSERVED and isinstance(fate.plan, Failover):
            return Advice("set its mode to Enforce", _set_mode(fate.plan.candidate.source, namespace))
        case reason if reason == DOWN_TOO:
            return Advice(f"list an equivalent of {repository} in a further registry", _edit(fate))
        case Reason.OPTED_OUT:
            return _let_in(fate)
        case Reason.UNPROVEN:
            return Advice("copy the image, then rehearse again with --ask", f"kubectl saffire copy-plan -n {namespace}")
        case reason:
            return Advice(_IN_WORDS.get(Reason(reason), ""))


def _edit(fate: Fate) -> str:
    """Return the command that edits the first source of the namespace."""
    own = sorted(fate.sources, key=is_cluster_wide)
    if not own:
        return ""
    is_wide = is_cluster_wide(own[0])
    return f"kubectl edit {'cais' if is_wide else 'ais'} {name_of(own[0])}{'' if is_wide else f' -n {fate.namespace}'}"


def _source_in(mode: Mode, fate: Fate) -> Source | None:
    """Return the first source in a mode that lists the image."""
    image = Reference.parse_if_valid(fate.image)
    sources = (source for source in map(source_of, fate.sources) if source and source.mode is mode)
    return next((source for source in sources if image and first_candidate(image, [source])), None)


def _set_mode(source: Source | None, namespace: str) -> str:
    """Return the command that lets a source act."""
    if source is None:
        return ""
    prefix = f"{CLUSTER_WIDE}/"
    place = (
        f"cais {source.name.removeprefix(prefix)}"
        if source.name.startswith(prefix)
        else f"ais {source.name} -n {namespace}"
    )
    patch = json.dumps({"spec": {"mode": Mode.ENFORCE}})
    return f"kubectl patch {place} --type merge -p '{patch}'"


def _let_in(fate: Fate) -> Advice:
    """Return the next step for what opted out: the plan names the object that has the annotation."""
    detail = fate.plan.detail if isinstance(fate.plan, Leave) else ""
    words = f"remove the annotation {IGNORE}"
    if not _OBJECT.fullmatch(detail):
        return Advice(f"{words}, or put it back if its loss was a mistake")
    kind, _, name = detail.partition("/")
    place = name if kind == "Namespace" else f"{name} -n {fate.namespace}"
    return Advice(words, f"kubectl annotate {kind.lower()} {place} {IGNORE}-")
