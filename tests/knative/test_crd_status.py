"""What Saffire writes: the status of an AlternateImageSource, kubectl's columns, and sources of the Go project."""

import ssl

import aiohttp
import pytest

from playground.cluster.api import Api
from playground.cluster.controlplane import ControlPlane
from testkit.manifests import VALID, load, path, serve, source, spec, until_refused

NAMESPACE = "saffire-status"


@pytest.fixture(scope="session")
async def api(plane: ControlPlane) -> Api:
    """Give a client of an API server that has AlternateImageSource."""
    return await serve(plane, NAMESPACE)


STATUS = {
    "observedGeneration": 1,
    "conditions": [
        {
            "type": "Ready",
            "status": "True",
            "reason": "Unverified",
            "message": "",
            "observedGeneration": 1,
            "lastTransitionTime": "2026-11-23T02:00:00Z",
        }
    ],
    "readiness": {
        "images": 2,
        "ready": 0,
        "notReady": 1,
        "unknown": 1,
        "worst": [{"image": "quay.io/acme/web:1", "equivalent": "ghcr.io/acme/web:1", "why": "not there"}],
        "answers": "x" * 8000,
    },
    "activeCount": 1,
    "leftCount": 2,
    "revertedCount": 3,
    "lastFailoverTime": "2026-11-23T02:00:00Z",
}
TARGET = {
    "name": "web",
    "namespace": NAMESPACE,
    "type": {"group": "apps", "version": "v1", "kind": "Deployment"},
    "container": "web",
    "uid": "0d6c8f7e-1b1f-4c3e-8a51-3d6f8c1f0a11",
}
SWITCH = {
    "time": "2026-11-23T02:00:00Z",
    "oldImage": "quay.io/acme/web:1",
    "newImage": "ghcr.io/acme/web:1",
    "target": TARGET,
    "reason": "ErrImagePull",
    "proof": "unverified",
    "observed": False,
    "note": "Deployment/web was put back twice, last by argocd-controller, so its template is left alone",
    "pods": ["web-0", "web-1"],
}
REVERSION = {
    "time": "2026-11-23T02:00:00Z",
    "oldImage": "quay.io/acme/web:1",
    "newImage": "ghcr.io/acme/web:1",
    "target": TARGET,
    "pod": "web-0",
    "by": "Cluster/web",
    "optedOut": "2026-11-23T02:01:00Z",
}
ACTIVE = {
    "target": TARGET,
    "container": "web",
    "from": "quay.io/acme/web:1",
    "to": "ghcr.io/acme/web:1",
    "since": "2026-11-23T02:00:00Z",
    "proof": "unverified",
    "healthySince": "2026-11-23T02:10:00Z",
    "provenAt": "2026-11-23T02:20:00Z",
    "blockedBy": "quay.io/acme/web:1: quay.io has no such image",
    "optedOut": True,
}
LEFT = {
    "target": TARGET,
    "container": "web",
    "image": "quay.io/acme/web:1",
    "reason": "Paused",
    "message": "set spec.mode of AlternateImageSource/shop to Enforce",
    "since": "2026-11-23T02:00:00Z",
}


@pytest.mark.api
async def test_status_keeps_every_field(api: Api) -> None:
    """Every field of a record is stored, at the greatest length of its texts and lists."""
    await api.apply(source(NAMESPACE, "status", VALID))
    wordy = {**SWITCH, "reason": "x" * 4096, "note": "x" * 4096}
    undone = {**REVERSION, "by": "x" * 4096}
    long = {**LEFT, "message": "x" * 4096}
    lists = {"switches": [SWITCH, wordy] * 60, "active": [ACTIVE] * 120, "reversions": [REVERSION, undone] * 60}
    lists |= {"left": [LEFT, long] * 25}
    status = {**STATUS, **lists}
    stored = await api.patch(f"{path(NAMESPACE, 'status')}/status", {"status": status})
    assert status == stored["status"]


@pytest.mark.api
async def test_status_is_written_apart_from_the_spec(api: Api) -> None:
    """A write of the spec does not change the status, and a write of the status does not change the spec."""
    await api.apply(source(NAMESPACE, "apart", VALID))
    both = {"spec": {"mode": "Paused"}, "status": STATUS}
    after_status = await api.patch(f"{path(NAMESPACE, 'apart')}/status", both)
    after_spec = await api.patch(path(NAMESPACE, "apart"), {"spec": {"mode": "Paused"}, "status": None})
    assert "Enforce" == after_status["spec"]["mode"]
    assert "Paused" == after_spec["spec"]["mode"]
    assert STATUS == after_spec["status"]


@pytest.mark.api
async def test_columns(api: Api) -> None:
    """`kubectl get ais` shows the mode, whether it is ready, what is active, stuck or reverted, and times."""
    await api.apply(source(NAMESPACE, "columns", VALID))
    await api.patch(f"{path(NAMESPACE, 'columns')}/status", {"status": STATUS})
    headers = {
        "Accept": "application/json;as=Table;v=v1;g=meta.k8s.io",
        "Authorization": f"Bearer {api.token}",
    }
    tls = ssl.create_default_context(cafile=api.authority)
    url = api.server + path(NAMESPACE, "columns")
    async with aiohttp.ClientSession(headers=headers) as session, session.get(url, ssl=tls) as response:
        table = await response.json()
    names = [column["name"] for column in table["columnDefinitions"]]
    (row,) = table["rows"]
    assert ["Name", "Mode", "Ready", "Active", "Stuck", "Reverted", "Last-Failover", "Age"] == names
    assert ["columns", "Enforce", "True", 1, 2, 3] == row["cells"][:6]
    assert all(row["cells"][6:])


@pytest.mark.api
async def test_short_name_and_category(api: Api) -> None:
    """`kubectl get ais` and `kubectl get all` list it."""
    served = await api.get("/apis/saffire.fairwinds.com/v1alpha1")
    (kind,) = [resource for resource in served["resources"] if resource["name"] == "alternateimagesources"]
    assert (["ais"], ["all"]) == (kind["shortNames"], kind["categories"])


# The schema of the Go project of this name, as far as it validated.
ORIGINAL_GROUP = "original.saffire.test"
ORIGINAL_SCHEMA = {
    "type": "object",
    "properties": {
        "spec": {
            "type": "object",
            "required": ["imageSourceReplacements"],
            "properties": {
                "imageSourceReplacements": {
                    "type": "array",
                    "items": {
                        "type": "object",
                        "required": ["equivalentRepositories"],
                        "properties": {"equivalentRepositories": {"type": "array", "items": {"type": "string"}}},
                    },
                }
            },
        },
        "status": {"type": "object", "x-kubernetes-preserve-unknown-fields": True},
    },
}
ORIGINAL_STATUS = {
    "observedGeneration": 2,
    "switches": [
        {
            "time": "2023-02-09T12:00:00Z",
            "oldImage": "quay.io/acme/web:1",
            "newImage": "ghcr.io/acme/web:1",
            "target": {"name": "web", "type": {"group": "apps/v1", "kind": "Deployment"}, "container": "web"},
        }
    ],
}


@pytest.mark.api
async def test_original_manifests_work(api: Api) -> None:
    """A manifest of the Go project of this name is accepted, and so is the status that it wrote."""
    await api.apply(source(NAMESPACE, "original", VALID))
    stored = await api.patch(f"{path(NAMESPACE, 'original')}/status", {"status": ORIGINAL_STATUS})
    assert VALID.items() <= stored["spec"].items()
    assert ORIGINAL_STATUS == stored["status"]


@pytest.mark.api
async def test_what_the_original_allowed_can_still_be_reported_on(api: Api) -> None:
    """A stored source that breaks newer rules can still get a status that says so."""
    crd = load("crd.yaml")
    (version,) = crd["spec"]["versions"]
    ours = version["schema"]
    crd["metadata"]["name"] = f"alternateimagesources.{ORIGINAL_GROUP}"
    crd["spec"]["group"] = ORIGINAL_GROUP
    crd["spec"]["names"] = {"plural": "alternateimagesources", "kind": "AlternateImageSource"}
    version["schema"] = {"openAPIV3Schema": ORIGINAL_SCHEMA}
    await api.apply(crd)
    await until_refused(api, NAMESPACE, {}, ORIGINAL_GROUP)
    lonely = spec("quay.io/acme/web:v1")
    await api.post(path(NAMESPACE, group=ORIGINAL_GROUP), source(NAMESPACE, "lonely", lonely, ORIGINAL_GROUP))
    version["schema"] = ours
    await api.apply(crd)
    await until_refused(api, NAMESPACE, lonely, ORIGINAL_GROUP)
    stored = await api.patch(f"{path(NAMESPACE, 'lonely', ORIGINAL_GROUP)}/status", {"status": STATUS})
    assert STATUS == stored["status"]
