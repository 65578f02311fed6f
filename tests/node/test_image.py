"""The function's image on a real node: it runs as knative/service.yaml asks, with no rights and nothing to write to."""

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from playground.cluster.api import Manifest
from playground.node.registries import Registry
from release.image import Image
from release.rootfs import PROGRAM, USER, this_architecture
from testkit import ROOT
from testkit.api.function_client import FunctionClient
from testkit.function_image import push_image
from testkit.manifests import load
from testkit.node.namespace_fixture import NamespaceFixture, works

pytestmark = pytest.mark.image
PORT = 8080


@pytest.fixture
async def reference(image: Image, alive: Registry) -> str:
    """Give the name of the image in a registry, by its digest."""
    await push_image(image, alive.domain)
    return f"{alive.domain}/saffire@{image.digest}"


def pod(reference: str) -> Manifest:
    """Return a pod as Knative would make it from knative/service.yaml: each probe asks the port of the container."""
    spec: dict[str, Any] = load("service.yaml")["spec"]["template"]["spec"]
    (container,) = spec["containers"]
    for probe in ("readinessProbe", "livenessProbe"):
        container[probe]["httpGet"]["port"] = PORT
    named = {**container, "image": reference}
    own = {"containers": [named], "volumes": spec["volumes"], "terminationGracePeriodSeconds": 5}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "saffire"}, "spec": own}


async def test_it_runs_with_the_least_that_a_pod_can_have(namespace: NamespaceFixture, reference: str) -> None:
    """Under the strictest pod security, a numeric user without capabilities answers probes and a CloudEvent."""
    path = f"/api/v1/namespaces/{namespace.name}"
    await namespace.api.patch(path, {"metadata": {"labels": {"pod-security.kubernetes.io/enforce": "restricted"}}})
    await namespace.apply(pod(reference))
    await namespace.until(lambda: any(map(works, namespace.staying())))
    (running,) = namespace.staying()
    async with FunctionClient(f"http://{running['status']['podIP']}:{PORT}") as client:
        event = json.loads((ROOT / "examples/event.json").read_text())
        answer = await client.post(event | {"reason": "Pulled"})
    assert (200, True) == (answer.status, answer.text.startswith("ignored: ")), answer
    assert {(USER, "0000000000000000", "1")} == set(map(rights, processes()))


def processes() -> list[Path]:
    """Return the processes of the image's Python that run on this machine, as folders of /proc."""
    return [path.parent for path in Path("/proc").glob("[0-9]*/exe") if is_python_of_the_image(path)]


def is_python_of_the_image(path: Path) -> bool:
    """Say whether a process of a container runs the image's program."""
    try:
        return str(path.readlink()) == PROGRAM and b"functions_framework" in (path.parent / "cmdline").read_bytes()
    except OSError:
        return False


def rights(process: Path) -> tuple[int, str, str]:
    """Return a process's user, its capabilities, and whether it may gain any."""
    fields = dict(line.split(":\t", 1) for line in (process / "status").read_text().splitlines())
    return int(fields["Uid"].split("\t")[0]), fields["CapBnd"], fields["NoNewPrivs"]


def test_it_trusts_the_authorities_that_browsers_trust(image: Image) -> None:
    """Without them, every registry would be refused."""
    asked = "import ssl; print(ssl.create_default_context().cert_store_stats()['x509_ca'])"
    command = ("chroot", image.roots[this_architecture()].base, PROGRAM, "-c", asked)
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert int(done.stdout) > 100
