"""
Kinds: which objects run pods, and at which path they have their pod template.

A *foreign* kind does not belong to Kubernetes itself. This module lists some foreign kinds. Operators may add others
with the setting `SAFFIRE_KINDS`. Some foreign kinds have no pod template: their controllers make pods, or other
workloads, by rules of their own. Saffire reads objects of such kinds only for their opt-out annotation and their name.
"""

import re
from dataclasses import dataclass

from saffire.kube.manifest import Manifest, is_subdomain, text

_KIND = re.compile(r"[A-Z][A-Za-z0-9]{0,62}")
_FIELD = re.compile(r"[A-Za-z][A-Za-z0-9]{0,62}")
_MAX_KINDS = 64
_MAX_DEPTH = 8


class InvalidKind(ValueError):
    """A text for `SAFFIRE_KINDS` is wrong; the message says what the text should be."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Kind:
    """
    A kind of object that runs pods.

    Args:
        group: the API group; `""` for the core group.
        version: the API version; `""` for a foreign kind, whose objects are read in the version that a reference names.
        name: the name of the kind, as in `kind` of a manifest.
        plural: the name of the kind in URLs; `""` if Saffire has to ask the API server for it.
        template: the path of the pod template in an object; `None` if an image in the template cannot be changed, or
            if objects of this kind have no template.
        reference: the path of a reference to another object in the namespace that may contain the pod template instead;
            `None` if objects of this kind have no such reference.
        makes_pods: whether its controller makes pods itself. The controller of a Deployment makes only ReplicaSets, so
            that no pod has a Deployment as its own controller.

    """

    group: str
    version: str = ""
    name: str
    plural: str = ""
    template: tuple[str, ...] | None = ("spec", "template")
    reference: tuple[str, ...] | None = None
    makes_pods: bool = True

    @property
    def is_top_level(self) -> bool:
        """
        Whether objects of this kind have a pod template and seldom have a controller of their own.

        ReplicaSets are not top-level, since a ReplicaSet mostly has a Deployment as its controller.
        """
        return self.template is not None and self.name not in {"ReplicaSet", "ReplicationController"}

    @property
    def is_foreign(self) -> bool:
        """Whether the kind does not belong to Kubernetes itself."""
        return not self.version


POD = Kind(group="", version="v1", name="Pod", plural="pods", template=None)
_OWN = (
    POD,
    Kind(group="", version="v1", name="ReplicationController", plural="replicationcontrollers"),
    Kind(group="apps", version="v1", name="Deployment", plural="deployments", makes_pods=False),
    Kind(group="apps", version="v1", name="ReplicaSet", plural="replicasets"),
    Kind(group="apps", version="v1", name="StatefulSet", plural="statefulsets"),
    Kind(group="apps", version="v1", name="DaemonSet", plural="daemonsets"),
    Kind(
        group="batch",
        version="v1",
        name="CronJob",
        plural="cronjobs",
        template=("spec", "jobTemplate", "spec", "template"),
        makes_pods=False,
    ),
    Kind(group="batch", version="v1", name="Job", plural="jobs", template=None),
)
_FOREIGN = (
    # A Rollout has a pod template of its own, or names a Deployment that has one.
    Kind(group="argoproj.io", name="Rollout", plural="rollouts", reference=("spec", "workloadRef"), makes_pods=False),
    Kind(group="apps.kruise.io", name="CloneSet", plural="clonesets"),
    Kind(group="apps.kruise.io", name="StatefulSet", plural="statefulsets"),
    Kind(group="apps.kruise.io", name="DaemonSet", plural="daemonsets"),
    # OpenShift: its controller makes ReplicationControllers.
    Kind(group="apps.openshift.io", name="DeploymentConfig", plural="deploymentconfigs", makes_pods=False),
    Kind(group="serving.knative.dev", name="Service", plural="services", makes_pods=False),
    Kind(group="serving.knative.dev", name="Configuration", plural="configurations", makes_pods=False),
    # Knative's admission refuses every change of a Revision's spec.
    Kind(group="serving.knative.dev", name="Revision", plural="revisions", template=None, makes_pods=False),
    # Operators of databases and brokers. They may delete a pod whose image differs from what they want.
    Kind(group="core.strimzi.io", name="StrimziPodSet", plural="strimzipodsets", template=None),
    Kind(group="postgresql.cnpg.io", name="Cluster", plural="clusters", template=None),
    # Zalando's postgres-operator makes a StatefulSet.
    Kind(group="acid.zalan.do", name="postgresql", plural="postgresqls", template=None, makes_pods=False),
)


@dataclass(frozen=True, slots=True)
class Kinds:
    """The kinds that Saffire can read, from a pod up to its workload, and in which it can patch images."""

    supported: tuple[Kind, ...] = (*_OWN, *_FOREIGN)

    def named(self, api_version: str, name: str) -> Kind | None:
        """Return the kind with this name in the group of `api_version`; `None` if Saffire does not support the kind."""
        group = api_version.rpartition("/")[0]
        return next((kind for kind in self.supported if (kind.group, kind.name) == (group, name)), None)

    def of(self, manifest: Manifest) -> Kind | None:
        """Return the kind of an object; `None` if Saffire does not support the kind."""
        return self.named(text(manifest, "apiVersion"), text(manifest, "kind"))

    def extended(self, setting: str) -> "Kinds":
        """
        Return these kinds and those in `setting`, the value of `SAFFIRE_KINDS`.

        The setting may name a foreign kind that is supported already, with another path of its pod template. A kind
        without a path has no template. Raise `InvalidKind` if the setting cannot be read.

        >>> Kinds().extended("example.com/Widget=spec.pod").named("example.com/v1", "Widget").template
        ('spec', 'pod')
        """
        added = [_parse(item.strip()) for item in setting.split(",") if item.strip()]
        if len(added) > _MAX_KINDS:
            raise InvalidKind(f"wants at most {_MAX_KINDS} kinds")
        names = {(kind.group, kind.name) for kind in added}
        if len(names) < len(added):
            raise InvalidKind("names a kind twice")
        if names & {(kind.group, kind.name) for kind in _OWN}:
            raise InvalidKind("where Kubernetes's own kinds have their template is known")
        return Kinds((*(kind for kind in self.supported if (kind.group, kind.name) not in names), *added))


def _parse(item: str) -> Kind:
    """Read one kind of the setting, in the form `group/Kind=path.of.template`, or `group/Kind` without a template."""
    kind, equals, path = item.partition("=")
    group, _, name = kind.strip().rpartition("/")
    fields = tuple(path.strip().split("."))
    if not (is_subdomain(group) and _KIND.fullmatch(name)):
        raise InvalidKind(f"{ascii(kind)[:80]}: wants group/Kind=path.of.template, or group/Kind")
    if not equals:
        return Kind(group=group, name=name, plural="", template=None)
    if len(fields) > _MAX_DEPTH or not all(map(_FIELD.fullmatch, fields)):
        raise InvalidKind(f"{kind}: wants the path of its pod template, such as spec.template")
    return Kind(group=group, name=name, template=fields)
