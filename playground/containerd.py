"""
containerd, as the container runtime of a real node.

It runs in an enclosure, where the files of its defaults are its own and what it stores is in memory. Each pod has a
network that reaches the node and no further, whose interface vanishes with the pod.
"""

import asyncio
import json
from functools import partial
from ipaddress import IPv4Network
from pathlib import Path

from playground.commands import run
from playground.enclosure import Enclosure
from playground.images import Images
from playground.packages import NETWORK_PLUGINS
from playground.polling import until
from playground.processes import Family

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
"""


async def start(family: Family, enclosure: Enclosure, network: IPv4Network) -> None:
    """Start containerd as a member of `family`; return when it can run pods, at addresses out of `network`."""
    networks = family.folder / "networks"
    networks.mkdir()
    (networks / "pods.conflist").write_text(json.dumps(_pod_network(network)))
    configuration = family.folder / "containerd.toml"
    configuration.write_text(_CONFIGURATION.format(pause=_PAUSE, plugins=NETWORK_PLUGINS, networks=networks))
    await family.start("containerd", *enclosure.inside("containerd", "--config", configuration))
    await family.until(_has_pause_image(family.folder, enclosure), "containerd", START_SECONDS)


async def _has_pause_image(folder: Path, enclosure: Enclosure) -> None:
    """Bring in the image that holds a pod's namespaces, so that no registry is asked for it."""
    archive = folder / "pause.tar"
    async with Images() as images:
        await images.save("sleeps", archive, _PAUSE)
    await until(partial(asyncio.to_thread, enclosure.path(_SOCKET).exists))
    await run(*enclosure.inside("ctr", "--namespace=k8s.io", "images", "import", archive))


def _pod_network(network: IPv4Network) -> dict[str, object]:
    addresses = {"type": "host-local", "ranges": [[{"subnet": str(network)}]]}
    return {"cniVersion": "0.4.0", "name": "pods", "plugins": [{"type": "ptp", "ipMasq": False, "ipam": addresses}]}
