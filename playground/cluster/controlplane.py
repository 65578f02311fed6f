"""
A real Kubernetes control plane in four processes on loopback, without root.

etcd, kube-apiserver, kube-controller-manager and kube-scheduler run as in any cluster: with RBAC, admission, TLS that
clients verify, a service account for each controller, and an audit log. The control plane has no nodes of its own: pods
are scheduled to any node that registers. Everything it writes is in one folder, which is removed at the end.
"""

import asyncio
import base64
import json
import secrets
import socket
import tempfile
from collections.abc import Coroutine, Mapping
from contextlib import AsyncExitStack
from http import HTTPStatus
from pathlib import Path
from typing import Any, Self

from playground.cluster.api import Api, ApiError
from playground.cluster.processes import ProcessGroup

START_SECONDS = 60
"""How long a component may take to be ready; on two idle cores all of them together take three seconds."""

POLL_SECONDS = 0.02
"""How often a condition of the start is checked."""

SERVICE_ACCOUNT_SECONDS = 10
"""How long to wait for a service account: in a new namespace, a controller creates it."""

TOKEN_SECONDS = 24 * 60 * 60
"""How long a service account's token is valid."""

GOGC = "400"
"""Garbage collection of the components: with Go's default of 100, they start half a second later."""

GROUPS = {"admin": "system:masters", "system:kube-controller-manager": "", "system:kube-scheduler": ""}
"""The users that have a token, and the group of each."""

AUDIT_POLICY = {
    "apiVersion": "audit.k8s.io/v1",
    "kind": "Policy",
    "omitStages": ["RequestReceived", "ResponseStarted"],
    "rules": [{"level": "Metadata"}],
}

_POLICIES = "admissionregistration.k8s.io/v1beta1"

# Paths are relative to the control plane's folder. etcd listens on sockets there, so no other user can reach it. The
# only port is the API server's. The API server makes its own certificate; its key also signs service account tokens.
ETCD = (
    "--data-dir=etcd",
    "--unsafe-no-fsync",
    "--listen-client-urls=unix://client:0",
    "--advertise-client-urls=unix://client:0",
    "--listen-peer-urls=unix://peer:0",
    "--initial-advertise-peer-urls=unix://peer:0",
    "--initial-cluster=default=unix://peer:0",
    "--log-level=warn",
)
API_SERVER = (
    "--etcd-servers=unix://client:0",
    "--bind-address=127.0.0.1",
    "--advertise-address=127.0.0.1",
    "--permit-port-sharing",
    "--endpoint-reconciler-type=none",
    "--service-cluster-ip-range=10.96.0.0/16",
    "--cert-dir=certs",
    "--token-auth-file=tokens.csv",
    "--authorization-mode=RBAC",
    "--service-account-issuer=https://kubernetes.default.svc",
    "--service-account-signing-key-file=certs/apiserver.key",
    "--service-account-key-file=certs/apiserver.key",
    "--allow-privileged",
    # Beta, and off by default: images as volumes, and admission that changes objects without a webhook.
    "--feature-gates=ImageVolume=true,MutatingAdmissionPolicy=true",
    f"--runtime-config={_POLICIES}/mutatingadmissionpolicies=true,{_POLICIES}/mutatingadmissionpolicybindings=true",
    "--audit-policy-file=audit-policy.json",
    "--audit-log-path=audit.log",
    "--audit-log-mode=blocking",
    "--audit-log-maxsize=1000000",
)
CONTROLLER_MANAGER = (
    "--kubeconfig=kube-controller-manager.kubeconfig",
    "--use-service-account-credentials",
    "--root-ca-file=certs/apiserver.crt",
    # Makes the tokens of Secrets of the type service-account-token.
    "--service-account-private-key-file=certs/apiserver.key",
    "--flex-volume-plugin-dir=flexvolumes",
    "--kube-api-qps=500",
    "--kube-api-burst=1000",
    "--leader-elect=false",
    "--secure-port=0",
)
SCHEDULER = (
    "--kubeconfig=kube-scheduler.kubeconfig",
    "--kube-api-qps=500",
    "--kube-api-burst=1000",
    "--leader-elect=false",
    "--secure-port=0",
)


class ControlPlane:
    """
    A running control plane; use as an async context manager.

    Args:
        binaries: the path of each of `playground.cluster.binaries.CONTROL_PLANE`.
        start_seconds: how long a component may take to be ready.

    """

    folder: Path
    """The folder of everything the control plane writes: `NAME.log` of each component, keys, tokens, data."""

    server: str
    """`https://127.0.0.1:PORT`."""

    authority: Path
    """The PEM file with the authority that signs the server's certificate."""

    audit: Path
    """The audit log: one JSON object per request, without bodies, as soon as it is answered (a watch: when it ends)."""

    kubeconfig: Path
    """The kubeconfig of the user `admin`, who may do everything."""

    admin: Api
    """The client of the user `admin`."""

    def __init__(self, binaries: Mapping[str, Path], *, start_seconds: float = START_SECONDS) -> None:
        self._binaries = binaries
        self._start_seconds = start_seconds
        self._tokens = {user: secrets.token_urlsafe() for user in GROUPS}

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as stack:
            self.folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="saffire-playground-")))
            self.authority = self.folder / "certs" / "apiserver.crt"
            self.audit = self.folder / "audit.log"
            self._processes = await stack.enter_async_context(ProcessGroup(self.folder))
            await self._start_api_server(stack)
            await self._start_controllers()
            self._stack = stack.pop_all()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    def pids(self) -> dict[str, int]:
        """Return the process id of each component."""
        return self._processes.pids()

    async def restart_api_server(self) -> None:
        """Kill the API server, start it again, and wait until it is ready."""
        await self._processes.kill("kube-apiserver")
        await self._run("kube-apiserver", *API_SERVER, f"--secure-port={self._port}")
        await self._until(self.admin.until_ready(deadline_seconds=None), "kube-apiserver")

    async def kubeconfig_for(self, namespace: str, service_account: str) -> Path:
        """Return the kubeconfig of a service account, with its namespace as the current one."""
        token = await self._token(namespace, service_account)
        return self._write_kubeconfig(f"{namespace}.{service_account}", token, namespace)

    async def api_for(self, namespace: str, service_account: str) -> Api:
        """Return a client of a service account."""
        return Api(self.server, str(self.authority), await self._token(namespace, service_account))

    async def _token(self, namespace: str, service_account: str) -> str:
        path = f"/api/v1/namespaces/{namespace}/serviceaccounts/{service_account}"
        async with asyncio.timeout(SERVICE_ACCOUNT_SECONDS):
            await self._created(path)
        answer = await self.admin.post(f"{path}/token", {"spec": {"expirationSeconds": TOKEN_SECONDS}})
        token: str = answer["status"]["token"]
        return token

    async def _start_api_server(self, stack: AsyncExitStack) -> None:
        self._port = stack.enter_context(_shared_port()).getsockname()[1]
        self.server = f"https://127.0.0.1:{self._port}"
        users = (f"{token},{user},{user},{GROUPS[user]}\n" for user, token in self._tokens.items())
        self._write("tokens.csv", "".join(users))
        self._write("audit-policy.json", json.dumps(AUDIT_POLICY))
        await self._run("etcd", *ETCD)
        await self._run("kube-apiserver", *API_SERVER, f"--secure-port={self._port}")
        await self._until(
            _exists(self.authority.with_suffix(".key")), "kube-apiserver"
        )  # written after the certificate
        self.kubeconfig = self._write_kubeconfig("admin", self._tokens["admin"])
        self.admin = await stack.enter_async_context(Api(self.server, str(self.authority), self._tokens["admin"]))
        await self._until(self.admin.until_ready(deadline_seconds=None), "kube-apiserver")

    async def _start_controllers(self) -> None:
        for name, flags in (("kube-controller-manager", CONTROLLER_MANAGER), ("kube-scheduler", SCHEDULER)):
            self._write_kubeconfig(name, self._tokens[f"system:{name}"])
            await self._run(name, *flags)
        # Pods are admitted once the service account exists that they run as by default.
        await self._until(
            self._created("/api/v1/namespaces/default/serviceaccounts/default"), "kube-controller-manager"
        )

    async def _created(self, path: str) -> None:
        """Wait until a controller has created the object at `path`."""
        while True:
            try:
                await self.admin.get(path)
            except ApiError as error:
                if error.status != HTTPStatus.NOT_FOUND:
                    raise
            else:
                return
            await asyncio.sleep(POLL_SECONDS)

    async def _run(self, name: str, *flags: str) -> None:
        await self._processes.start(name, self._binaries[name], *flags, GOGC=GOGC)

    async def _until(self, condition: Coroutine[Any, Any, None], of: str) -> None:
        await self._processes.until(condition, of, self._start_seconds)

    def _write_kubeconfig(self, user: str, token: str, namespace: str = "default") -> Path:
        authority = base64.b64encode(self.authority.read_bytes()).decode()
        cluster = {"server": self.server, "certificate-authority-data": authority}
        context = {"cluster": "playground", "user": user, "namespace": namespace}
        kubeconfig = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "playground", "cluster": cluster}],
            "users": [{"name": user, "user": {"token": token}}],
            "contexts": [{"name": "playground", "context": context}],
            "current-context": "playground",
        }
        return self._write(f"{user}.kubeconfig", json.dumps(kubeconfig, indent=2))

    def _write(self, name: str, text: str) -> Path:
        path = self.folder / name
        path.touch(mode=0o600)
        path.write_text(text)
        return path


def _shared_port() -> socket.socket:
    """Return a socket that reserves a free port, which a program of the same user may share (SO_REUSEPORT)."""
    port = socket.socket()
    port.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    port.bind(("127.0.0.1", 0))
    return port


async def _exists(path: Path) -> None:
    while not path.exists():  # noqa: ASYNC110, ASYNC240 -- another program creates it; the check takes microseconds
        await asyncio.sleep(POLL_SECONDS)
