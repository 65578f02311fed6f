"""
Kinds: which objects run pods, and where their pod template is.

A *foreign* kind is none of Kubernetes itself. Some are known here, and operators may add others by the setting
`SAFFIRE_KINDS`.
"""

import re
from dataclasses import dataclass

from saffire.kube.manifest import Manifest, is_subdomain, text

_KIND = re.compile(r"[A-Z][A-Za-z0-9]{0,62}")
_FIELD = re.compile(r"[A-Za-z][A-Za-z0-9]{0,62}")
_MAX_KINDS = 64
_MAX_DEPTH = 8


class InvalidKind(ValueError):
    """A text does not say where objects of a kind have their pod template."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Kind:
    """
    A kind of object that runs pods.

    Args:
        group: `""` for the core group.
        version: `""` where the one is taken that an owner reference names.
        name: as in `kind` of a manifest.
        plural: its resource in URLs; `""` where the API server has to be asked.
        template: the path of its pod template, `None` where an image in it cannot be changed.
        reference: the path of a reference to another object of its namespace that may hold the template instead.

    """

    group: str
    version: str = ""
    name: str
    plural: str = ""
    template: tuple[str, ...] | None = ("spec", "template")
    reference: tuple[str, ...] | None = None

    @property
    def stands_on_top(self) -> bool:
        """Whether it has a template, and seldom another kind above it; a ReplicaSet mostly has a Deployment."""
        return self.template is not None and self.name not in {"ReplicaSet", "ReplicationController"}

    @property
    def is_foreign(self) -> bool:
        """Whether it is none of Kubernetes itself."""
        return not self.version


POD = Kind(group="", version="v1", name="Pod", plural="pods", template=None)
_OWN = (
    POD,
    Kind(group="", version="v1", name="ReplicationController", plural="replicationcontrollers"),
    Kind(group="apps", version="v1", name="Deployment", plural="deployments"),
    Kind(group="apps", version="v1", name="ReplicaSet", plural="replicasets"),
    Kind(group="apps", version="v1", name="StatefulSet", plural="statefulsets"),
    Kind(group="apps", version="v1", name="DaemonSet", plural="daemonsets"),
    Kind(
        group="batch",
        version="v1",
        name="CronJob",
        plural="cronjobs",
        template=("spec", "jobTemplate", "spec", "template"),
    ),
    Kind(group="batch", version="v1", name="Job", plural="jobs", template=None),
)
_FOREIGN = (
    # Its template is its own, or that of a Deployment that it names.
    Kind(group="argoproj.io", name="Rollout", plural="rollouts", reference=("spec", "workloadRef")),
    Kind(group="apps.kruise.io", name="CloneSet", plural="clonesets"),
    Kind(group="apps.kruise.io", name="StatefulSet", plural="statefulsets"),
    Kind(group="apps.kruise.io", name="DaemonSet", plural="daemonsets"),
    Kind(group="serving.knative.dev", name="Service", plural="services"),
    Kind(group="serving.knative.dev", name="Configuration", plural="configurations"),
    # Admission refuses every change of its spec.
    Kind(group="serving.knative.dev", name="Revision", plural="revisions", template=None),
)


@dataclass(frozen=True, slots=True)
class Kinds:
    """The kinds that can be followed and patched."""

    known: tuple[Kind, ...] = (*_OWN, *_FOREIGN)

    def named(self, api_version: str, name: str) -> Kind | None:
        """Return the kind of that group and name in whatever version; `None` where it is not known."""
        group = api_version.rpartition("/")[0]
        return next((kind for kind in self.known if (kind.group, kind.name) == (group, name)), None)

    def of(self, manifest: Manifest) -> Kind | None:
        """Return the kind of an object; `None` where it is not known."""
        return self.named(text(manifest, "apiVersion"), text(manifest, "kind"))

    def extended(self, written: str) -> "Kinds":
        """
        Return these and the ones that `written` adds or places anew; raise `InvalidKind` for what it cannot mean.

        >>> Kinds().extended("example.com/Widget=spec.pod").named("example.com/v1", "Widget").template
        ('spec', 'pod')
        """
        added = [_parse(item.strip()) for item in written.split(",") if item.strip()]
        if len(added) > _MAX_KINDS:
            raise InvalidKind(f"wants at most {_MAX_KINDS} kinds")
        names = {(kind.group, kind.name) for kind in added}
        if len(names) < len(added):
            raise InvalidKind("names a kind twice")
        if names & {(kind.group, kind.name) for kind in _OWN}:
            raise InvalidKind("where Kubernetes's own kinds have their template is known")
        return Kinds((*(kind for kind in self.known if (kind.group, kind.name) not in names), *added))


def _parse(written: str) -> Kind:
    """Read `group/Kind=path.of.template`."""
    kind, _, path = written.partition("=")
    group, _, name = kind.strip().rpartition("/")
    fields = tuple(path.strip().split("."))
    if not (is_subdomain(group) and _KIND.fullmatch(name)):
        raise InvalidKind(f"{ascii(kind)[:80]}: wants group/Kind=path.of.template")
    if len(fields) > _MAX_DEPTH or not all(map(_FIELD.fullmatch, fields)):
        raise InvalidKind(f"{kind}: wants the path of its pod template, such as spec.template")
    return Kind(group=group, name=name, template=fields)
