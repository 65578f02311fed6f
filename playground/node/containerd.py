"""
Runs containerd, the container runtime of a real node.

It runs in a sandbox: the files at its default paths are its own, and what it stores is in memory. Each pod has a
network that reaches only the node. The interface of that network is removed with the pod.
"""

import asyncio
import json
from collections.abc import Mapping
from functools import partial
from ipaddress import IPv4Network
from pathlib import Path

from playground.cluster.commands import run
from playground.cluster.polling import until
from playground.cluster.processes import ProcessGroup
from playground.node.images import Images
from playground.node.packages import NETWORK_PLUGINS
from playground.node.sandbox import Sandbox

START_SECONDS = 30

_SOCKET = "/run/containerd/containerd.sock"
_PAUSE = "playground.invalid/pause:1"

_CONFIGURATION = """
version = 2
root = "/run/containerd-root"
[plugins."io.containerd.internal.v1.opt"]
path = "/run/containerd-opt"
[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = "{pause}"
restrict_oom_score_adj = true
[plugins."io.containerd.grpc.v1.cri".cni]
bin_dir = "{plugins}"
conf_dir = "{networks}"
[plugins."io.containerd.grpc.v1.cri".registry]
config_path = "{hosts}"
"""

_HOSTS = """
server = "http://{server}"
[host]
"""
"""Without the second line, containerd 1.6 ignores the file and asks the real registry."""

_ANY_OTHER = "_default"
"""The folder for every domain that has no folder of its own."""


async def start(
    processes: ProcessGroup, sandbox: Sandbox, network: IPv4Network, servers: Mapping[str, str], *, no_registry: str
) -> None:
    """
    Start containerd as one of `processes`; return when it can run pods, which get addresses of `network`.

    For each domain in `servers`, containerd pulls from the address there, and for all other domains from `no_registry`,
    where nothing listens. If `servers` is empty, it pulls from the domains themselves.
    """
    networks, hosts = processes.folder / "networks", processes.folder / "hosts"
    networks.mkdir()
    (networks / "pods.conflist").write_text(json.dumps(_pod_network(network)))
    for domain, server in ({**servers, _ANY_OTHER: no_registry} if servers else {}).items():
        (hosts / domain).mkdir(parents=True)
        (hosts / domain / "hosts.toml").write_text(_HOSTS.format(server=server))
    configuration = processes.folder / "containerd.toml"
    folders = {"plugins": NETWORK_PLUGINS, "networks": networks, "hosts": hosts}
    configuration.write_text(_CONFIGURATION.format(pause=_PAUSE, **folders))
    await processes.start("containerd", *sandbox.inside("containerd", "--config", configuration))
    await processes.until(_import_pause_image(processes.folder, sandbox), "containerd", START_SECONDS)


async def _import_pause_image(folder: Path, sandbox: Sandbox) -> None:
    """Import the image of the container that holds a pod's namespaces, so that it is pulled from no registry."""
    archive = folder / "pause.tar"
    async with Images() as images:
        await images.save("sleeps", archive, _PAUSE)
    await until(partial(asyncio.to_thread, sandbox.path(_SOCKET).exists))
    await run(*sandbox.inside("ctr", "--namespace=k8s.io", "images", "import", archive))


def _pod_network(network: IPv4Network) -> dict[str, object]:
    addresses = {"type": "host-local", "ranges": [[{"subnet": str(network)}]]}
    return {"cniVersion": "0.4.0", "name": "pods", "plugins": [{"type": "ptp", "ipMasq": False, "ipam": addresses}]}
