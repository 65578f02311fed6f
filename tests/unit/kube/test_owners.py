"""Owners: an object of the owner's name is the owner only if it has the uid that the reference names."""

import asyncio
import gc
from pathlib import Path
from typing import Any

import pytest

from saffire.kube.kinds import Kinds
from saffire.kube.manifest import name_of, uid_of
from saffire.kube.owners import OwnerLookup
from saffire.kube.resources import Cluster
from testkit.builders import Object, pod, workload
from testkit.scripted_api import scripted_api, status

APPS = "GET /apis/apps/v1/namespaces/shop"


def owned(manifest: Object, owner: Object, **fields: str) -> Object:
    """Return an object with this controller; `fields` are those of the reference that differ."""
    reference = {
        "apiVersion": owner["apiVersion"],
        "kind": owner["kind"],
        "name": name_of(owner),
        "uid": uid_of(owner),
        "controller": True,
        **fields,
    }
    return {**manifest, "metadata": {**manifest["metadata"], "ownerReferences": [reference]}}


@pytest.mark.parametrize(
    ("expected", "of_pod", "of_replica_set"),
    [
        pytest.param(["ReplicaSet", "Deployment"], {}, {}, id="owners"),
        pytest.param(["ReplicaSet"], {}, {"uid": "before"}, id="a-deployment-made-anew"),
        pytest.param([], {"uid": "before"}, {}, id="a-replica-set-made-anew"),
    ],
)
@pytest.mark.parametrize("names_its_hash", [False, True])
async def test_an_object_made_anew_under_the_owner_s_name_is_not_the_owner(
    tmp_path: Path,
    expected: list[str],
    of_pod: dict[str, str],
    of_replica_set: dict[str, str],
    *,
    names_its_hash: bool,
) -> None:
    """Its template is not that of the pod. The pod's label may name the Deployment, which is then read earlier."""
    deployment = workload("Deployment")
    replica_set = workload("ReplicaSet")
    replica_set["metadata"]["name"] = f"{name_of(deployment)}-5d4"
    replica_set = owned(replica_set, deployment, **of_replica_set)
    failing = owned(pod(), replica_set, **of_pod)
    if names_its_hash:
        failing["metadata"]["labels"] = {"pod-template-hash": "5d4"}
    answers: dict[str, list[tuple[int, Any]]] = {
        f"{APPS}/replicasets/{name_of(replica_set)}": [(200, replica_set)],
        f"{APPS}/deployments/{name_of(deployment)}": [(200, deployment)],
    }
    async with scripted_api(tmp_path, answers) as server:
        owners = await OwnerLookup(Cluster(server, Kinds()), "shop").owners_of(failing)
    assert expected == [owner["kind"] for owner in owners.chain]
    assert owners.unreadable is None


async def test_a_read_that_turns_out_not_to_be_needed_may_fail(tmp_path: Path) -> None:
    """A ReplicaSet that is named like one of a Deployment may belong to a Rollout: then the error is not logged."""
    rollout, replica_set = workload("Rollout"), workload("ReplicaSet")
    replica_set["metadata"]["name"] = "web-5d4"
    failing = owned(pod(), replica_set)
    failing["metadata"]["labels"] = {"pod-template-hash": "5d4"}
    answers: dict[str, list[tuple[int, Any]]] = {
        f"{APPS}/deployments/web": [status(500)],
        f"{APPS}/replicasets/web-5d4": [(200, owned(replica_set, rollout))],
        f"GET /apis/argoproj.io/v1alpha1/namespaces/shop/rollouts/{name_of(rollout)}": [(200, rollout)],
    }
    complaints: list[Any] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
    async with scripted_api(tmp_path, answers) as server:
        owners = await OwnerLookup(Cluster(server, Kinds()), "shop").owners_of(failing)
    gc.collect()  # asyncio complains of an error that nobody has retrieved when the task is collected
    assert ["ReplicaSet", "Rollout"] == [owner["kind"] for owner in owners.chain]
    assert [] == complaints
