"""A namespace whose workloads' registry can fail, and other registries with the same images."""

import json
from dataclasses import dataclass
from typing import Any

from playground.cluster.api import Api, ApiError, Manifest
from playground.cluster.controlplane import ControlPlane
from testkit.api.clusters import ACCOUNT, NAMESPACE, USER
from testkit.api.namespace_fixture import NamespaceFixture, until
from testkit.api.registry_pool import PATH
from testkit.api.workloads import container, deployment, images, pod, pod_spec, pod_spec_of
from testkit.oci_images import Image
from testkit.scripted_registry import Registry

TAG = "v1"
USER_NAME, PASSWORD = "alice", "open-sesame-4711"


@dataclass(frozen=True)
class RegistryFixture:
    """A namespace, and the domain of its workloads' registry, `old`. To Saffire, that registry always answers 503."""

    namespace: NamespaceFixture
    old: str

    def image(self, suffix: str = TAG, path: str = PATH) -> str:
        """Return the reference of an image that cannot be pulled."""
        return f"{self.old}/{path}:{suffix}"

    async def offer(self, *domains: str, **spec: Any) -> None:
        """Create a source that names where else the images are, in order of preference."""
        await self.namespace.source(f"{self.old}/*", *(f"{domain}/*" for domain in domains), **spec)

    async def lock(self, registry: Registry, challenge: str = "Basic") -> None:
        """Have a registry ask for a password, and store it in the Secret `pull` of the namespace."""
        registry.challenge, registry.users = challenge, {USER_NAME: PASSWORD}
        config = {"auths": {registry.domain: {"username": USER_NAME, "password": PASSWORD}}}
        await self.namespace.apply(
            {
                "apiVersion": "v1",
                "kind": "Secret",
                "metadata": {"name": "pull"},
                "type": "kubernetes.io/dockerconfigjson",
                "stringData": {".dockerconfigjson": json.dumps(config)},
            }
        )

    async def run_sibling(self, image: Image) -> None:
        """Run a pod with that image while the old registry works; its status names the image's digest."""
        live = await self.namespace.apply(pod(pod_spec(container(image=self.image())), name="sibling"))

        async def look() -> Manifest | None:
            sibling = await self.namespace.read(live)
            return sibling if sibling["status"]["phase"] == "Running" else None

        status = (await until(look))["status"]["containerStatuses"]
        reported = [{**entry, "imageID": f"{self.old}/{PATH}@{image.digest}"} for entry in status]
        await self.namespace.api.patch(
            f"{await self.namespace.api.path(live)}/status", {"status": {"containerStatuses": reported}}
        )

    async def fail(self, workload: Manifest) -> Manifest:
        """Have the registry fail, create a workload, and return the Event about its failed pull."""
        self.namespace.dead.add(self.old)
        return (await self.namespace.fail(workload))[1]

    async def image_now(self, workload: Manifest) -> str:
        """Return the current image of a workload."""
        (image,) = images(pod_spec_of(await self.namespace.read(workload))).values()
        return image

    async def proofs(self) -> dict[str, tuple[str, str]]:
        """Return the image that each workload was moved to, and the proof for it, from the source's status."""
        switches = (await self.namespace.status()).get("switches", ())
        return {entry["target"]["name"]: (entry["newImage"], entry["proof"]) for entry in switches}


def failing(registry_fixture: RegistryFixture, **fields: Any) -> Manifest:
    """Return a Deployment that always pulls, so that it fails even if its node has the image."""
    return deployment(pod_spec(container(image=registry_fixture.image(), imagePullPolicy="Always"), **fields))


async def let_read(namespace: NamespaceFixture, cluster: ControlPlane) -> None:
    """Let Saffire read the Secret `pull` with the role of the documentation, and wait until it takes effect."""
    rule = {"apiGroups": [""], "resources": ["secrets"], "resourceNames": ["pull"], "verbs": ["get"]}
    rbac = {"apiVersion": "rbac.authorization.k8s.io/v1", "metadata": {"name": "saffire-pull-secrets"}}
    await namespace.apply({**rbac, "kind": "Role", "rules": [rule]})
    await namespace.apply(
        {
            **rbac,
            "kind": "RoleBinding",
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "saffire-pull-secrets"},
            "subjects": [{"kind": "ServiceAccount", "name": ACCOUNT, "namespace": NAMESPACE}],
        }
    )
    async with Api(cluster.server, str(cluster.authority), cluster.admin.token, user=USER) as api:

        async def may_read() -> bool:
            try:
                await api.get(f"/api/v1/namespaces/{namespace.name}/secrets/pull")
            except ApiError as error:
                if error.status != 403:
                    raise
                return False
            return True

        await until(may_read)
