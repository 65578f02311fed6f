"""
A real node: a kubelet and a containerd on this machine, which pull images and run containers.

It needs root, Linux and the packages of `packages.py`. It shares the machine's network, so it reaches the registries of
`registries.py` and the API server on loopback. Everything else that it changes is inside a sandbox, and ends with it:
processes, mounts, files, kernel settings, interfaces and cgroups.
"""

import contextlib
import json
import tempfile
from collections.abc import Mapping
from contextlib import AsyncExitStack
from http import HTTPStatus
from ipaddress import IPv4Network
from pathlib import Path
from typing import Self

from playground.cluster.api import UNREACHABLE, ApiError
from playground.cluster.binaries import KUBELET, find_binaries
from playground.cluster.controlplane import ControlPlane
from playground.cluster.polling import until
from playground.cluster.processes import ProcessGroup
from playground.node import containerd
from playground.node.network import free_network, reserve_port, until_unused
from playground.node.packages import unmet_requirement
from playground.node.sandbox import Sandbox

START_SECONDS = 60
"""How long the node may take to be ready; on two idle cores it takes two seconds."""

_NODES = "/api/v1/nodes"

_CONFIGURATION = {
    "apiVersion": "kubelet.config.k8s.io/v1beta1",
    "kind": "KubeletConfiguration",
    "address": "127.0.0.1",
    "healthzPort": 0,
    "authentication": {"anonymous": {"enabled": False}, "webhook": {"enabled": False}},
    "authorization": {
        "mode": "AlwaysAllow"
    },  # as nobody can authenticate, no user of this machine gets into pods by this port
    "cgroupDriver": "cgroupfs",
    "enforceNodeAllocatable": [],
    "failCgroupV1": False,
    "failSwapOn": False,
    "evictionHard": {"memory.available": "1Mi", "nodefs.available": "1%", "imagefs.available": "1%"},
    "makeIPTablesUtilChains": False,
    "clusterDNS": ["10.96.0.10"],  # no server answers there; without the setting, each pod gets a warning
    "resolvConf": "",
    "volumePluginDir": "/run/kubelet/volume-plugins",
}


class NodeError(Exception):
    """The machine cannot run a real node; the message says what it lacks."""


class RealNode:
    """
    A real node that runs pods; use as an async context manager.

    Entering returns when pods can be scheduled to the node. Leaving ends its pods, and deletes them and the Node.

    Args:
        plane: the control plane to join.
        name: the name of the node.
        registries: for each registry's domain, the address that the node pulls from instead. If any is given, the node
            pulls from no other address.

    """

    pod_network: IPv4Network
    """The addresses of its pods; to them, the node itself is the first one."""

    def __init__(
        self, plane: ControlPlane, name: str = "node-1", *, registries: Mapping[str, str] | None = None
    ) -> None:
        self.name = name
        self._plane = plane
        self._registries = registries or {}
        self._kubelet = find_binaries([KUBELET])[KUBELET]

    async def __aenter__(self) -> Self:
        if requirement := unmet_requirement():
            raise NodeError(requirement)
        async with AsyncExitStack() as stack:
            self.folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="saffire-node-")))
            self._processes = await stack.enter_async_context(ProcessGroup(self.folder))
            network = self.pod_network = free_network()
            stack.push_async_callback(until_unused, network)
            stack.push_async_callback(self._unregister)
            port = stack.enter_context(reserve_port()).getsockname()[1]
            sandbox = await stack.enter_async_context(Sandbox(self.folder.name))
            no_registry = f"127.0.0.1:{stack.enter_context(reserve_port()).getsockname()[1]}"
            await containerd.start(self._processes, sandbox, network, self._registries, no_registry=no_registry)
            await self._start_kubelet(sandbox, port)
            self._stack = stack.pop_all()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    @property
    def static_pods(self) -> Path:
        """The folder of the static pods: one manifest per file."""
        return self.folder / "static-pods"

    async def _start_kubelet(self, sandbox: Sandbox, port: int) -> None:
        self.static_pods.mkdir()
        own = {"port": port, "cgroupRoot": f"/{sandbox.cgroup}", "staticPodPath": str(self.static_pods)}
        configuration = self.folder / "kubelet.json"
        configuration.write_text(json.dumps(_CONFIGURATION | own))
        flags = (
            f"--config={configuration}",
            f"--kubeconfig={self._plane.kubeconfig}",
            f"--hostname-override={self.name}",
            "--root-dir=/run/kubelet",
            "--cert-dir=/run/kubelet/pki",
        )
        await self._processes.start("kubelet", *sandbox.inside(self._kubelet, *flags))
        await self._processes.until(until(self._accepts_pods), "kubelet", START_SECONDS)

    async def _accepts_pods(self) -> bool:
        try:
            node = await self._plane.admin.get(f"{_NODES}/{self.name}")
        except ApiError as error:
            if error.status != HTTPStatus.NOT_FOUND:
                raise
            return False
        conditions = node["status"].get("conditions", [])
        ready = any((condition["type"], condition["status"]) == ("Ready", "True") for condition in conditions)
        return ready and not node["spec"].get("taints")

    async def _unregister(self) -> None:
        """Delete the Node and its pods; without a kubelet, no other component removes them."""
        api = self._plane.admin
        await api.delete_node(self.name)
        with contextlib.suppress(*UNREACHABLE, ApiError):
            for pod in (await api.get("/api/v1/pods", fieldSelector=f"spec.nodeName={self.name}"))["items"]:
                await api.delete(await api.path(pod | {"apiVersion": "v1", "kind": "Pod"}), gracePeriodSeconds="0")
