"""The repositories of one test: in a dead registry, and in a working one with the same images."""

from dataclasses import dataclass, replace
from typing import Self

from playground.cluster.api import Manifest
from playground.node.images import ImageName, Images
from playground.node.registries import Registry
from testkit.api.workloads import container, images, pod_spec


@dataclass(frozen=True, slots=True, kw_only=True)
class Repositories:
    """
    The prefixes of image references, each `127.0.0.1:PORT/NAMESPACE`.

    Args:
        old: in the registry that fails.
        another: in a second registry that fails.
        new: in the registry that works.
        built: the images.

    """

    old: str
    another: str
    new: str
    built: Images

    @classmethod
    async def opened(cls, name: str, built: Images, dead: Registry, another: Registry, alive: Registry) -> Self:
        """Return repositories of that name, with images that no node has yet."""
        old, other, new = (f"{registry.domain}/{name}" for registry in (dead, another, alive))
        for tag in ("v0", "v1", "latest"):
            await built.push("sleeps", f"{new}/sleeps:{tag}")
        await built.push("ends", f"{new}/ends:v1")
        return cls(old=old, another=other, new=new, built=built)

    async def dying(self, registry: Registry) -> Self:
        """Return these repositories with another old registry, which works for now and has the image."""
        repositories = replace(self, old=f"{registry.domain}/{self.name}")
        await self.built.push("sleeps", repositories.dead())
        return repositories

    @property
    def name(self) -> str:
        """The name of the repositories in each registry."""
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
        """Return the reference of the same image in the working registry."""
        return f"{self.new}/{name}:v1"

    def by_digest(self, tag: str = "") -> str:
        """Return the reference of the image that sleeps, by its digest and maybe a tag, in the dead registry."""
        return f"{self.old}/sleeps{tag and f':{tag}'}@{self.built.digest('sleeps')}"

    def moved(self, reference: str) -> str:
        """Return a reference with the working registry in place of a dead one."""
        return reference.replace(self.old, self.new).replace(self.another, self.new)

    def spec(self, name: ImageName = "sleeps") -> Manifest:
        """Return a pod's spec with one container, whose image cannot be pulled."""
        return pod_spec(container(image=self.dead(name)))

    def owns(self, pod: Manifest) -> bool:
        """Say whether a pod has no image in a dead registry."""
        return not any(self.moved(image) != image for image in images(pod["spec"]).values())

    def source(self, name: str = "shop", **spec: object) -> Manifest:
        """Return the AlternateImageSource with the three repositories as equivalents."""
        equivalent = [f"{repositories}/*" for repositories in (self.new, self.old, self.another)]
        return {
            "apiVersion": "saffire.fairwinds.com/v1alpha1",
            "kind": "AlternateImageSource",
            "metadata": {"name": name},
            "spec": {"imageSourceReplacements": [{"equivalentRepositories": equivalent}], **spec},
        }
