"""
The one door to the Kubernetes API server: manifests in, manifests out, no opinions.

The `kubernetes` package serves for configuration, authentication and transport. Manifests stay plain dicts, since its
models would lose fields they do not know. Foreign exceptions stop here; what leaves is a `SaffireError`.
"""

import json
import re
from http import HTTPStatus
from typing import Any, Self

import aiohttp
from kubernetes.aio.client import ApiClient, Configuration
from kubernetes.aio.config import ConfigException, load_incluster_config, load_kube_config

from saffire.errors import ConflictError, RefusedError, SaffireError, TransientError
from saffire.manifest import Manifest, is_subdomain, name_of, text, uid_of
from saffire.patch import Patch
from saffire.settings import Settings
from saffire.workload import KINDS, Owners, controller_of, kind_named, kind_of

FIELD_MANAGER = "saffire"
_SOURCES = "/apis/saffire.fairwinds.com/v1alpha1/namespaces/{}/alternateimagesources"
_JSON_PATCH = "application/json-patch+json"
_DEPTH = 8
_MAX_SOURCES = 32
_CLIP = 512
# What the API server says, without details, when a `test` of a JSON Patch fails (apiserver, endpoints/handlers/patch).
_DENIED = re.compile(r"denied (?:the )?request")
_TEST_FAILED = "the server rejected our request due to an error in our request"


class Cluster:
    """One API server, as the identity that the environment gives us."""

    def __init__(self, client: ApiClient, settings: Settings) -> None:
        self._client = client
        self._timeout = aiohttp.ClientTimeout(total=settings.request_timeout_seconds)

    @classmethod
    async def connect(cls, settings: Settings) -> Self:
        """Read the configuration of the cluster; raise `TransientError` where there is none to be had yet."""
        configuration = Configuration()
        try:
            if settings.kubeconfig:
                await load_kube_config(settings.kubeconfig, client_configuration=configuration, persist_config=False)
            else:
                await _load_default(configuration)
        except Exception as error:  # a kubeconfig may be any file, and the loader trips over it in any way
            raise TransientError(f"no cluster is configured: {type(error).__name__}") from error
        return cls(ApiClient(configuration), settings)

    async def sources(self, namespace: str) -> tuple[Manifest, ...]:
        """Return the first 32 AlternateImageSources of a namespace; none where the kind itself is not installed."""
        found = await self._get(f"{_SOURCES.format(namespace)}?limit={_MAX_SOURCES}")
        if found is None:
            return ()
        kind = {"apiVersion": "saffire.fairwinds.com/v1alpha1", "kind": "AlternateImageSource"}
        if not isinstance(found.get("items"), list):
            raise TransientError("the API server did not answer with a list")
        return tuple({**kind, **item} for item in found["items"])

    async def source(self, namespace: str, name: str) -> Manifest | None:
        """Return one AlternateImageSource; `None` where it is gone."""
        return await self._get(f"{_SOURCES.format(namespace)}/{name}")

    async def namespace(self, name: str) -> Manifest | None:
        """Return the Namespace; `None` where it is gone."""
        return await self._get(f"/api/v1/namespaces/{name}")

    async def pod(self, namespace: str, name: str) -> Manifest | None:
        """Return the Pod; `None` where it is gone."""
        return await self._get(f"/api/v1/namespaces/{namespace}/pods/{name}")

    async def event(self, namespace: str, name: str) -> Manifest | None:
        """Return the Event; `None` where it is gone."""
        return await self._get(f"/api/v1/namespaces/{namespace}/events/{name}")

    async def owners(self, pod: Manifest) -> Owners:
        """
        Walk from a pod to the controller on top.

        Only the owner with `controller: true` is followed, by name, and only if it has the uid that the reference
        names: another object of that name is not the owner. A missing owner ends the walk, as garbage collection will.
        """
        seen: list[Manifest] = []
        current = pod
        for _ in range(_DEPTH):
            owner = controller_of(current)
            if owner is None:
                return Owners(seen=tuple(seen))
            kind = kind_named(owner.api_version, owner.kind)
            if kind is None or not is_subdomain(owner.name):
                return Owners(seen=tuple(seen), unseen=owner)
            path = _path(kind.api_version, kind.plural, text(pod, "metadata", "namespace"), owner.name)
            try:
                found = await self._get(path)
            except RefusedError:
                return Owners(seen=tuple(seen), unseen=owner, forbidden=True)
            if found is None or uid_of(found) != owner.uid:
                return Owners(seen=tuple(seen))
            seen.append(found)
            current = found
        return Owners(seen=tuple(seen), unseen=controller_of(current))

    async def read_again(self, manifest: Manifest) -> Manifest | None:
        """Return the object as it is now; `None` where it is gone."""
        return await self._get(_path_of(manifest))

    async def apply(self, patch: Patch) -> None:
        """Send a patch; raise `ConflictError` where one of its guards failed and nothing was changed."""
        await self._patch(_path_of(patch.target), patch.operations)

    async def write_status(self, source: Manifest, status: Manifest) -> None:
        """Replace the status of an AlternateImageSource; raise `ConflictError` if it changed since it was read."""
        path = f"{_SOURCES.format(text(source, 'metadata', 'namespace'))}/{name_of(source)}/status"
        guard = {
            "op": "test",
            "path": "/metadata/resourceVersion",
            "value": text(source, "metadata", "resourceVersion"),
        }
        await self._patch(path, (guard, {"op": "add", "path": "/status", "value": status}))

    async def post_event(self, event: Manifest) -> None:
        """Create an Event; one of the same name says the same already."""
        namespace = text(event, "metadata", "namespace")
        try:
            await self._request("POST", f"/api/v1/namespaces/{namespace}/events", event)
        except ConflictError:
            return

    async def _get(self, path: str) -> dict[str, Any] | None:
        """Return the object at `path`; `None` where there is none."""
        try:
            found = await self._request("GET", path)
        except _NotFound:
            return None
        if not isinstance(found, dict):
            raise TransientError("the API server did not answer with an object")
        return found

    async def _patch(self, path: str, operations: tuple[Manifest, ...]) -> None:
        """Send a JSON Patch; an object that is gone is one that moved under us."""
        try:
            query = f"?fieldManager={FIELD_MANAGER}"
            await self._request("PATCH", path + query, list(operations), content_type=_JSON_PATCH)
        except _NotFound as error:
            raise ConflictError("the object is gone") from error

    async def _request(
        self, method: str, path: str, body: Any = None, *, content_type: str = "application/json"
    ) -> Any:
        """Send one request and return the decoded answer, or raise what its status means."""
        headers = {"Accept": "application/json", "Content-Type": content_type, "User-Agent": FIELD_MANAGER}
        configuration = self._client.configuration
        try:
            token = await configuration.get_api_key_with_prefix("BearerToken", alias="authorization")
            if token:
                headers["Authorization"] = token
            response = await self._client.rest_client.request(
                method, configuration.host + path, headers=headers, body=body, _request_timeout=self._timeout
            )
            content = await response.read()
            if response.status == HTTPStatus.NOT_FOUND:
                raise _NotFound("there is no such object, or no such kind")
            answer = json.loads(content)
        except (aiohttp.ClientError, TimeoutError, OSError, ConfigException) as error:
            raise TransientError(f"the API server did not answer: {type(error).__name__}") from error
        except ValueError as error:
            raise TransientError("the API server did not answer in JSON") from error
        except RecursionError as error:
            raise RefusedError("the API server's answer is nested too deeply to be read") from error
        if response.status >= HTTPStatus.MULTIPLE_CHOICES:
            raise _error(response.status, answer)
        return answer


class _NotFound(SaffireError):
    """The API server has no such object."""


def _error(status: int, answer: Any) -> SaffireError:
    """Return the error that an HTTP status of the API server means; only a Kubernetes `Status` is quoted."""
    said = answer if isinstance(answer, dict) else {}
    details = said.get("details")
    causes = details.get("causes") if isinstance(details, dict) else None
    message = " ".join(str(said.get("message", "")).split())[:_CLIP]
    # A webhook may deny with any status; the words in front are the API server's own.
    if _DENIED.search(message):
        return RefusedError(message)
    match status:
        case 409:
            return ConflictError(message)
        case 422 if not causes and message == _TEST_FAILED:
            return ConflictError("the object is no longer what was read")
        case 401 | 408 | 429:
            return TransientError(f"the API server answered {status}")
        case _ if status >= HTTPStatus.INTERNAL_SERVER_ERROR or status < HTTPStatus.BAD_REQUEST:
            return TransientError(f"the API server answered {status}")
        case _:
            return RefusedError(message or f"the API server answered {status}")


async def _load_default(configuration: Configuration) -> None:
    """Configure from the pod's service account, else from the user's kubeconfig."""
    try:
        load_incluster_config(client_configuration=configuration)
    except ConfigException:
        await load_kube_config(client_configuration=configuration, persist_config=False)


def _path_of(manifest: Manifest) -> str:
    """Return the URL path of an object of a known kind."""
    kind = kind_of(manifest)
    if kind is None:
        raise ValueError(f"not one of {', '.join(known.name for known in KINDS)}: {text(manifest, 'kind')}")
    return _path(kind.api_version, kind.plural, text(manifest, "metadata", "namespace"), name_of(manifest))


def _path(api_version: str, plural: str, namespace: str, name: str) -> str:
    """Return the URL path of a namespaced object."""
    root = "apis" if "/" in api_version else "api"
    return f"/{root}/{api_version}/namespaces/{namespace}/{plural}/{name}"
