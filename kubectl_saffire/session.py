"""The session of one command: the connection to the cluster, which only reads, and what the user said about it."""

import argparse
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Self

from kubernetes.aio.client import Configuration
from kubernetes.aio.config import load_incluster_config, load_kube_config
from yarl import URL

from kubectl_saffire.errors import UsageError
from kubectl_saffire.screen import Screen
from saffire.errors import RefusedError
from saffire.kube.client import ApiServer
from saffire.kube.manifest import Manifest, is_label
from saffire.settings import Settings

# A page of pods has some megabytes, and a cluster may be far away.
_REQUEST_SECONDS = 30.0


class ReadOnlyServer(ApiServer):
    """An API server from which the plugin reads; it refuses to write, whoever asks it to."""

    async def post(self, path: str, body: Manifest) -> None:
        """Refuse: the plugin creates nothing."""
        raise RefusedError(f"kubectl saffire only reads: no POST of {len(body)} fields to {path}")

    async def patch(self, path: str, operations: tuple[Manifest, ...]) -> dict[str, Any]:
        """Refuse: the plugin changes nothing."""
        raise RefusedError(f"kubectl saffire only reads: no PATCH of {len(operations)} operations to {path}")


@dataclass(frozen=True, kw_only=True, slots=True)
class Session:
    """
    What every command gets beside its arguments.

    Args:
        server: the API server, for reading.
        settings: the function's settings, from the environment of the plugin: kinds, registries, networks, proxies.
        namespace: the namespace of the context; `default` if the context has none.
        screen: where the command writes.
        now: the time at which the command began, in UTC.

    """

    server: ApiServer
    settings: Settings
    namespace: str
    screen: Screen
    now: datetime

    @classmethod
    async def open(
        cls, arguments: argparse.Namespace, environ: Mapping[str, str], screen: Screen, *, now: datetime
    ) -> Self:
        """Connect as kubectl does; raise `UsageError` if the configuration, or what the user typed, is no good."""
        settings = Settings.from_environ(environ)
        namespace = arguments.namespace
        if namespace and not is_label(namespace):
            raise UsageError(f"-n {namespace}: no namespace has this name; kubectl get namespaces lists them")
        configuration = Configuration()
        in_context = await _load(configuration, arguments.kubeconfig, arguments.context, environ)
        configuration.proxy = configuration.proxy or settings.proxies.of(URL(configuration.host))
        configuration.client_session_kwargs = {"trust_env": False}
        try:
            server = ReadOnlyServer(
                configuration, timeout_seconds=_REQUEST_SECONDS, x509_strict=settings.api_server_x509_strict
            )
        except OSError as error:
            raise UsageError(f"the certificates in the kubeconfig cannot be read: {error}") from error
        return cls(server=server, settings=settings, namespace=namespace or in_context, screen=screen, now=now)

    def at(self, now: datetime) -> Self:
        """Return the session as of another time, for a command that looks again."""
        return replace(self, now=now)

    async def close(self) -> None:
        """Close all connections."""
        await self.server.close()


async def _load(configuration: Configuration, kubeconfig: str, context: str, environ: Mapping[str, str]) -> str:
    """Read the kubeconfig, or within a pod the service account; return the namespace of the context."""
    path = kubeconfig or environ.get("KUBECONFIG", "")
    try:
        if not path and not context and "KUBERNETES_SERVICE_HOST" in environ:
            load_incluster_config(client_configuration=configuration)
            return "default"
        loader = await load_kube_config(
            path or None, context=context or None, client_configuration=configuration, persist_config=False
        )
        namespace = (loader.current_context.get("context") or {}).get("namespace")
    except Exception as error:  # a kubeconfig may be any file, and the loader may raise anything
        raise UsageError(
            f"no cluster to talk to: {' '.join(str(error).split()) or type(error).__name__}\n"
            "Type --kubeconfig PATH or --context NAME; kubectl config get-contexts lists the names."
        ) from error
    return namespace if isinstance(namespace, str) and namespace else "default"
