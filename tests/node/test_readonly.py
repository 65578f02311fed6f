"""In its pod the function can write to /tmp and nowhere else, and it works."""

import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from playground.cluster.controlplane import ControlPlane
from playground.simulated.nodes import SimulatedNode
from testkit import ROOT
from testkit.api.audit_log import AuditLog
from testkit.api.clusters import ACCOUNT, NAMESPACE, PACE, USER, install, manifest
from testkit.api.fault_cases import Case, CaseRunner, Kind, final
from testkit.api.named_registries import named_registries
from testkit.api.namespace_fixture import NamespaceFixture
from testkit.api.workloads import DEAD, deployment

# Makes all mounts read-only but /tmp and those of the kernel; the mount namespace ends with its last process.
_SCRIPT = f"""
set -e
mount --make-rprivate /
mount --bind /tmp /tmp
mount --bind '{ROOT}' '{ROOT}'
while read -r _ target _; do
    case "$target" in
        /tmp | /proc | /proc/* | /sys | /sys/* | /dev | /dev/*) ;;
        *) mount -o remount,bind,ro "$target" ;;
    esac
done < /proc/self/mounts
exec "$@"
"""
READ_ONLY = ("unshare", "--mount", "sh", "-c", _SCRIPT, "read-only")
KIND = Kind(workload=deployment, pods=1, requests=())


@pytest.fixture
async def cluster(binaries: dict[str, Path]) -> AsyncIterator[ControlPlane]:
    """Give a cluster without a real node, which would pull the images itself."""
    async with ControlPlane(binaries) as running:
        await install(running, manifest("crd"))
        yield running


@pytest.mark.parametrize(("folder", "expected"), [("/", 1), (ROOT, 1), (Path.home(), 1), ("/tmp", 0)], ids=str)  # noqa: S108 - the one writable folder
def test_nothing_can_be_written_but_temporary_files(folder: Path | str, expected: int) -> None:
    """The command of the test below really prevents writes."""
    look = "import sys, tempfile; tempfile.TemporaryFile(dir=sys.argv[1])"
    command = (*READ_ONLY, sys.executable, "-c", look, folder)
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert expected == done.returncode
    assert ("Read-only file system" in done.stderr) == bool(expected)


async def test_the_function_repairs_on_a_read_only_file_system(cluster: ControlPlane, tmp_path: Path) -> None:
    """The function starts, reads, patches and records without files of its own, and without a home."""
    (container,) = manifest("service")["spec"]["template"]["spec"]["containers"]
    environ = {variable["name"]: variable["value"] for variable in container["env"]} | {"HOME": "/nowhere"}
    kubeconfig = await cluster.kubeconfig_for(NAMESPACE, ACCOUNT)
    case = Case(kind=KIND, fault=None)
    async with (
        named_registries({DEAD}) as registries,
        SimulatedNode(cluster.admin, "read-only", dead={DEAD}, pace=PACE) as node,
        CaseRunner(cluster, kubeconfig, tmp_path, within=READ_ONLY, **environ, **registries) as runner,
    ):
        await case.prepare(NamespaceFixture(cluster.admin, "", AuditLog(cluster.audit, USER), node.dead))
        await runner.run(case)
        assert [200] == case.answers
        assert final(KIND) == await case.state()
        assert "Could not" not in runner.function.output()
