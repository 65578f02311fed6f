"""The clusters of the api tier: what is installed in the shared one, and a spare one that tests may break."""

import functools
import os
import signal
from collections.abc import Iterator, Mapping
from contextlib import AsyncExitStack, contextmanager
from copy import deepcopy
from pathlib import Path
from typing import Self

import yaml

from playground.cluster.api import Api, ApiError, Manifest
from playground.cluster.controlplane import ControlPlane
from playground.function_process import FunctionProcess
from playground.simulated.nodes import SimulatedNode
from playground.simulated.pod import Pace
from testkit import ROOT
from testkit.api.audit_log import AuditLog
from testkit.api.namespace_fixture import GROUP, NamespaceFixture, until

KNATIVE = ROOT / "knative"
ROLE = ("namespace", "function-serviceaccount", "function-clusterrole", "function-clusterrolebinding")
POLICY = "function-validatingadmissionpolicy"
CRDS = ("crd", "cluster-crd")
NAMESPACE = ACCOUNT = "saffire"
USER = f"system:serviceaccount:{NAMESPACE}:{ACCOUNT}"
LIMITED = "limited"
NOT_YET = frozenset({403, 404, 429})
"""What the API server answers until a new role or a new kind takes effect."""
PACE = Pace().divided(20)


def manifest(name: str) -> Manifest:
    """Return a manifest that users apply."""
    parsed: Manifest = yaml.safe_load((KNATIVE / f"{name}.yaml").read_text())
    return parsed


async def install(plane: ControlPlane, *crds: Manifest) -> None:
    """Install what the function needs, and wait until its role and its admission policy take effect."""
    for name in ROLE:
        await plane.admin.apply(manifest(name))
    for crd in crds:
        await plane.admin.apply(crd)
    async with Api(plane.server, str(plane.authority), plane.admin.token, user=USER) as api:
        for crd in crds:
            await until(functools.partial(may_list, api, crd["spec"]["names"]["plural"]))
    await hold(plane, ACCOUNT, manifest(POLICY))


async def hold(plane: ControlPlane, account: str, policy: Manifest) -> None:
    """Hold an account to an admission policy that was written for the function's, and wait until it takes effect."""
    user = f"system:serviceaccount:{NAMESPACE}:{account}"
    binding = manifest(f"{POLICY}binding")
    for condition in policy["spec"]["matchConditions"]:
        condition["expression"] = condition["expression"].replace(USER, user)
    policy["metadata"]["name"] = binding["metadata"]["name"] = binding["spec"]["policyName"] = account
    labels = {"app": f"held-{account}"}
    template = {"metadata": {"labels": labels}, "spec": {"containers": [{"name": "web", "image": "web"}]}}
    idle = {
        "apiVersion": "apps/v1",
        "kind": "ReplicaSet",
        "metadata": {"name": f"held-{account}", "namespace": NAMESPACE},
        "spec": {"replicas": 0, "selector": {"matchLabels": labels}, "template": template},
    }
    for made in (policy, binding, idle):
        await plane.admin.apply(made)
    path = await plane.admin.path(idle)
    async with Api(plane.server, str(plane.authority), plane.admin.token, user=user) as api:
        await until(functools.partial(_is_held, api, path))
    await plane.admin.delete(path)


async def _is_held(api: Api, path: str) -> bool:
    """Say whether the admission policy refuses the user to change how many pods a workload has."""
    try:
        await api.patch(path, {"spec": {"replicas": 1}}, dryRun="All")
    except ApiError as error:
        if error.status not in NOT_YET:
            raise
        return "ValidatingAdmissionPolicy" in str(error)
    return False


async def may_list(api: Api, plural: str = "alternateimagesources") -> bool:
    """Say whether the user may list sources, and the API server serves them."""
    try:
        await api.get(f"/apis/{GROUP}/{plural}")
    except ApiError as error:
        if error.status not in NOT_YET:
            raise
        return False
    return True


async def restrict(plane: ControlPlane) -> tuple[str, Path]:
    """Create a user with the function's role, but no access to Deployments and read-only access to StatefulSets."""
    rules = manifest("function-clusterrole")["rules"]
    for rule in rules:
        rule["resources"] = [name for name in rule["resources"] if name not in {"deployments", "statefulsets"}]
    return await make_user(plane, LIMITED, [*rules, rule_for("apps", "statefulsets", "get")])


def rule_for(group: str, resource: str, *verbs: str) -> Manifest:
    """Return a rule of a role."""
    return {"apiGroups": [group], "resources": [resource], "verbs": list(verbs)}


async def make_user(plane: ControlPlane, name: str, rules: list[Manifest]) -> tuple[str, Path]:
    """
    Create a service account with a role of its own, held to the function's admission policy.

    Return its user and its kubeconfig once role and policy take effect.
    """
    role = {**manifest("function-clusterrole"), "metadata": {"name": name}, "rules": rules}
    account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name, "namespace": NAMESPACE}}
    binding = manifest("function-clusterrolebinding")
    binding["metadata"]["name"] = binding["roleRef"]["name"] = binding["subjects"][0]["name"] = name
    for made in (account, role, binding):
        await plane.admin.apply(made)
    user = f"system:serviceaccount:{NAMESPACE}:{name}"
    async with Api(plane.server, str(plane.authority), plane.admin.token, user=user) as api:
        await until(lambda: may_list(api))
    await hold(plane, name, manifest(POLICY))
    return user, await plane.kubeconfig_for(NAMESPACE, name)


def permissive(crd: Manifest) -> Manifest:
    """Return the CRD with a schema that accepts everything, as an older version might have."""
    open_ = deepcopy(crd)
    (version,) = open_["spec"]["versions"]
    version["schema"] = {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}}
    return open_


@contextmanager
def stopped(pid: int) -> Iterator[None]:
    """Stop a process for the duration of the context."""
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


class SpareCluster:
    """
    A control plane of its own, with a permissive CRD, a node, and a function with a short request timeout.

    Use as an async context manager.

    Args:
        binaries: the programs of a control plane.
        dead: the registries that are dead for the node.
        environ: what every function needs in its environment.

    """

    node_name = "spare"

    def __init__(self, binaries: Mapping[str, Path], dead: set[str], environ: Mapping[str, str]) -> None:
        self.plane = ControlPlane(binaries)
        self._dead = dead
        self.environ = environ

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(self.plane)
            await install(self.plane, *map(permissive, map(manifest, CRDS)))
            self.node = await stack.enter_async_context(
                SimulatedNode(self.plane.admin, self.node_name, dead=self._dead, pace=PACE)
            )
            self.kubeconfig = await self.plane.kubeconfig_for(NAMESPACE, ACCOUNT)
            served = FunctionProcess(self.kubeconfig, SAFFIRE_REQUEST_TIMEOUT_SECONDS="2", **self.environ)
            self.function = await stack.enter_async_context(served)
            self._stack = stack.pop_all()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    def namespace(self) -> NamespaceFixture:
        """Return a namespace fixture on this cluster."""
        return NamespaceFixture(self.plane.admin, self.function.url, AuditLog(self.plane.audit, USER), self.node.dead)
