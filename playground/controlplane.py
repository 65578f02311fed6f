"""
A real Kubernetes control plane in four processes on loopback, without root.

etcd, kube-apiserver, kube-controller-manager and kube-scheduler, with RBAC and admission as any cluster has them, TLS that clients verify,
and an audit log. It has no node: pods are scheduled to whatever registers itself as one.
"""

import asyncio
import base64
import json
import secrets
import socket
import tempfile
from collections.abc import Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

from playground.api import Api, ApiError
from playground.processes import Family

_AUDIT_POLICY = {
    "apiVersion": "audit.k8s.io/v1",
    "kind": "Policy",
    "omitStages": ["RequestReceived", "ResponseStarted"],  # one line per request
    "rules": [{"level": "Metadata"}],
}

_POLL_SECONDS = 0.02


class ControlPlane:
    """
    A running control plane; use as an async context manager.

    Args:
        binaries: the path of each of `playground.binaries.CONTROL_PLANE`.
        start_seconds: how long the start may take.

    Attributes:
        folder: everything it writes; removed at the end.
        server: `https://127.0.0.1:PORT`.
        authority: PEM file that signs the server's certificate.
        audit: the API server's audit log, one JSON object per finished request.
        kubeconfig: for the user `admin`, who may do everything.
        admin: a client as that user.
    """

    folder: Path
    server: str
    authority: Path
    audit: Path
    kubeconfig: Path
    admin: Api

    def __init__(self, binaries: Mapping[str, Path], *, start_seconds: float = 60) -> None:
        self._binaries = binaries
        self._start_seconds = start_seconds
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as stack, asyncio.timeout(self._start_seconds):
            self.folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="saffire-playground-")))
            self._family = await stack.enter_async_context(Family(self.folder))
            await self._start(stack)
            self._stack = stack.pop_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stack.aclose()

    def pids(self) -> dict[str, int]:
        """Return the process id of each component."""
        return self._family.pids()

    async def kubeconfig_for(self, namespace: str, service_account: str) -> Path:
        """Return a kubeconfig that acts as a service account, inside its namespace."""
        token = await self._token(namespace, service_account)
        return self._write_kubeconfig(f"{namespace}.{service_account}", token, namespace)

    async def api_for(self, namespace: str, service_account: str) -> Api:
        """Return a client that acts as a service account."""
        return Api(self.server, str(self.authority), await self._token(namespace, service_account))

    async def _token(self, namespace: str, service_account: str) -> str:
        path = f"/api/v1/namespaces/{namespace}/serviceaccounts/{service_account}/token"
        request = {
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenRequest",
            "spec": {"expirationSeconds": 86400},
        }
        token: str = (await self.admin.post(path, request))["status"]["token"]
        return token

    async def _start(self, stack: AsyncExitStack) -> None:
        port = stack.enter_context(_reserved_port()).getsockname()[1]
        self.server = f"https://127.0.0.1:{port}"
        self.authority = self.folder / "certs" / "apiserver.crt"
        self.audit = self.folder / "audit.log"
        users = {"admin": "system:masters", "system:kube-controller-manager": "", "system:kube-scheduler": ""}
        tokens = {user: secrets.token_urlsafe() for user in users}
        self._write("tokens.csv", "".join(f"{tokens[user]},{user},{user},{group}\n" for user, group in users.items()))
        self._write("audit-policy.json", json.dumps(_AUDIT_POLICY))
        await self._family.start("etcd", self._binaries["etcd"], *_ETCD)
        await self._family.start(
            "kube-apiserver", self._binaries["kube-apiserver"], *_APISERVER, f"--secure-port={port}"
        )
        await self._family.during(_until_exists(self.authority.with_suffix(".key")))
        for component in ("kube-controller-manager", "kube-scheduler"):
            self._write_kubeconfig(component, tokens[f"system:{component}"])
        self.kubeconfig = self._write_kubeconfig("admin", tokens["admin"])
        self.admin = await stack.enter_async_context(Api(self.server, str(self.authority), tokens["admin"]))
        await self._family.during(self.admin.until_ready())
        await self._family.start("kube-controller-manager", self._binaries["kube-controller-manager"], *_CONTROLLERS)
        await self._family.start("kube-scheduler", self._binaries["kube-scheduler"], *_SCHEDULER)
        await self._family.during(self._until_pods_are_admitted())

    async def _until_pods_are_admitted(self) -> None:
        while True:
            try:
                await self.admin.get("/api/v1/namespaces/default/serviceaccounts/default")
            except ApiError as error:
                if error.status != 404:
                    raise
                await asyncio.sleep(_POLL_SECONDS)
            else:
                return

    def _write(self, name: str, text: str) -> Path:
        path = self.folder / name
        path.touch(mode=0o600)
        path.write_text(text)
        return path

    def _write_kubeconfig(self, name: str, token: str, namespace: str = "default") -> Path:
        authority = base64.b64encode(self.authority.read_bytes()).decode()
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [
                {"name": "playground", "cluster": {"server": self.server, "certificate-authority-data": authority}}
            ],
            "users": [{"name": name, "user": {"token": token}}],
            "contexts": [{"name": name, "context": {"cluster": "playground", "user": name, "namespace": namespace}}],
            "current-context": name,
        }
        return self._write(f"{name}.kubeconfig", json.dumps(config, indent=2))


_ETCD = (
    "--data-dir=etcd",
    "--unsafe-no-fsync",
    "--listen-client-urls=unix://client:0",
    "--advertise-client-urls=unix://client:0",
    "--listen-peer-urls=unix://peer:0",
    "--initial-advertise-peer-urls=unix://peer:0",
    "--initial-cluster=default=unix://peer:0",
    "--log-level=warn",
)
_APISERVER = (
    "--etcd-servers=unix://client:0",
    "--bind-address=127.0.0.1",
    "--advertise-address=127.0.0.1",
    "--permit-port-sharing",
    "--cert-dir=certs",
    "--token-auth-file=tokens.csv",
    "--authorization-mode=RBAC",
    "--service-account-issuer=https://kubernetes.default.svc",
    "--service-account-signing-key-file=certs/apiserver.key",
    "--service-account-key-file=certs/apiserver.key",
    "--service-cluster-ip-range=10.96.0.0/16",
    "--endpoint-reconciler-type=none",
    "--allow-privileged",
    "--audit-policy-file=audit-policy.json",
    "--audit-log-path=audit.log",
    "--audit-log-mode=blocking",
    "--audit-log-maxsize=100000",
)
_CONTROLLERS = (
    "--kubeconfig=kube-controller-manager.kubeconfig",
    "--use-service-account-credentials",
    "--root-ca-file=certs/apiserver.crt",
    "--kube-api-qps=500",
    "--kube-api-burst=1000",
    "--leader-elect=false",
    "--secure-port=0",
    "--flex-volume-plugin-dir=flexvolumes",
)
_SCHEDULER = (
    "--kubeconfig=kube-scheduler.kubeconfig",
    "--kube-api-qps=500",
    "--kube-api-burst=1000",
    "--leader-elect=false",
    "--secure-port=0",
)


def _reserved_port() -> socket.socket:
    """Return a socket that keeps a port from others: the API server shares it (`--permit-port-sharing`), nobody else can take it."""
    reserved = socket.socket()
    reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    reserved.bind(("127.0.0.1", 0))
    return reserved


async def _until_exists(path: Path) -> None:
    while not path.exists():
        await asyncio.sleep(_POLL_SECONDS)
