"""
containerd, as the container runtime of a real node.

It runs in an enclosure, where the files of its defaults are its own and what it stores is in memory. Each pod has a
network that reaches the node and no further, whose interface vanishes with the pod.
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
"""Without the second line, containerd 1.6 does as if there was no file, and asks the real registry."""

_ANY = "_default"
"""The domain that stands for each that has no folder of its own."""


async def start(
    family: ProcessGroup, enclosure: Sandbox, network: IPv4Network, servers: Mapping[str, str], *, nobody: str
) -> None:
    """
    Start containerd as a member of `family`; return when it can run pods, at addresses out of `network`.

    It takes each address in `servers` for the registry whose domain is the key, and `nobody` for all others; if there
    are none, each registry is where its domain says.
    """
    networks, hosts = family.folder / "networks", family.folder / "hosts"
    networks.mkdir()
    (networks / "pods.conflist").write_text(json.dumps(_pod_network(network)))
    for domain, server in ({**servers, _ANY: nobody} if servers else {}).items():
        (hosts / domain).mkdir(parents=True)
        (hosts / domain / "hosts.toml").write_text(_HOSTS.format(server=server))
    configuration = family.folder / "containerd.toml"
    places = {"plugins": NETWORK_PLUGINS, "networks": networks, "hosts": hosts}
    configuration.write_text(_CONFIGURATION.format(pause=_PAUSE, **places))
    await family.start("containerd", *enclosure.inside("containerd", "--config", configuration))
    await family.until(_has_pause_image(family.folder, enclosure), "containerd", START_SECONDS)


async def _has_pause_image(folder: Path, enclosure: Sandbox) -> None:
    """Bring in the image that holds a pod's namespaces, so that no registry is asked for it."""
    archive = folder / "pause.tar"
    async with Images() as images:
        await images.save("sleeps", archive, _PAUSE)
    await until(partial(asyncio.to_thread, enclosure.path(_SOCKET).exists))
    await run(*enclosure.inside("ctr", "--namespace=k8s.io", "images", "import", archive))


def _pod_network(network: IPv4Network) -> dict[str, object]:
    addresses = {"type": "host-local", "ranges": [[{"subnet": str(network)}]]}
    return {"cniVersion": "0.4.0", "name": "pods", "plugins": [{"type": "ptp", "ipMasq": False, "ipam": addresses}]}
