"""The repositories of one test: what its workloads run is in a registry that is dead, and in another one."""

from dataclasses import dataclass, replace
from typing import Self

from playground.cluster.api import Manifest
from playground.node.images import ImageName, Images
from playground.node.registries import Registry
from testkit.api.workloads import container, images, pod_spec


@dataclass(frozen=True, slots=True, kw_only=True)
class Repositories:
    """
    What the images' references start with, each of them `127.0.0.1:PORT/NAMESPACE`.

    Args:
        old: where they cannot be pulled, once the registry is dead.
        another: a second registry that is dead.
        new: where they can be pulled.
        digest: of the image that sleeps.

    """

    old: str
    another: str
    new: str
    digest: str

    @classmethod
    async def opened(cls, name: str, built: Images, dead: Registry, another: Registry, alive: Registry) -> Self:
        """Return repositories of that name, of which no node has an image yet."""
        old, other, new = (f"{registry.domain}/{name}" for registry in (dead, another, alive))
        for tag in ("v0", "v1", "latest"):
            await built.push("sleeps", f"{new}/sleeps:{tag}")
        await built.push("ends", f"{new}/ends:v1")
        return cls(old=old, another=other, new=new, digest=built.digest("sleeps"))

    async def dying(self, registry: Registry, built: Images) -> Self:
        """Return the same with a registry that is alive for now, and has what is going to be missed."""
        repositories = replace(self, old=f"{registry.domain}/{self.name}")
        await built.push("sleeps", repositories.dead())
        return repositories

    @property
    def name(self) -> str:
        """What the repositories are called in each registry."""
        return self.new.partition("/")[2]

    @property
    def earlier(self) -> str:
        """The reference of an earlier version, which can be pulled."""
        return f"{self.new}/sleeps:v0"

    @property
    def other(self) -> str:
        """The reference of an image in the second dead registry."""
        return f"{self.another}/sleeps:v1"

    def dead(self, name: ImageName = "sleeps") -> str:
        """Return the reference of an image that cannot be pulled."""
        return f"{self.old}/{name}:v1"

    def alive(self, name: ImageName = "sleeps") -> str:
        """Return the reference of the same image where it can be pulled."""
        return f"{self.new}/{name}:v1"

    def by_digest(self, tag: str = "") -> str:
        """Return the reference of the image that sleeps by its digest, and by a tag, where it cannot be pulled."""
        return f"{self.old}/sleeps{tag and f':{tag}'}@{self.digest}"

    def moved(self, reference: str) -> str:
        """Return a reference as it is where the image can be pulled."""
        return reference.replace(self.old, self.new).replace(self.another, self.new)

    def spec(self, name: ImageName = "sleeps") -> Manifest:
        """Return the spec of a pod with one container, whose image is dead."""
        return pod_spec(container(image=self.dead(name)))

    def owns(self, pod: Manifest) -> bool:
        """Say whether no image of a pod is a dead one."""
        return not any(self.moved(image) != image for image in images(pod["spec"]).values())

    def source(self, name: str = "shop", **spec: object) -> Manifest:
        """Return the AlternateImageSource that declares the repositories equivalent."""
        equivalent = [f"{repositories}/*" for repositories in (self.new, self.old, self.another)]
        return {
            "apiVersion": "saffire.fairwinds.com/v1alpha1",
            "kind": "AlternateImageSource",
            "metadata": {"name": name},
            "spec": {"imageSourceReplacements": [{"equivalentRepositories": equivalent}], **spec},
        }
