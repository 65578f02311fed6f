"""
What happens when a kubelet needs an image: it is present, pulled or refused, or the next pull has to wait.

Nothing here performs I/O: a registry is dead or alive, and a pull takes no time.
"""

import hashlib
import json
import re
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Self

_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?"
_DOMAIN = re.compile(rf"(?:{_LABEL}(?:\.{_LABEL})*|\[[0-9a-fA-F:]+\])(?::[0-9]+)?")
_PART = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_REST = re.compile(
    rf"(?P<path>{_PART}(?:/{_PART})*)"
    r"(?::(?P<tag>[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}))?"
    r"(?:@(?P<digest>sha256:[0-9a-f]{64}|sha384:[0-9a-f]{96}|sha512:[0-9a-f]{128}))?"
)
_IDENTIFIER = re.compile(r"[0-9a-f]{64}")
_LONGEST_PATH = 255

INDEX = "application/vnd.oci.image.index.v1+json"
"""The media type of `Image.index`."""
_LOOPBACK = ("localhost", "127.")


@dataclass(frozen=True, slots=True)
class Image:
    """
    A normalised image reference, as the container runtime writes it.

    >>> str(Image.parse("nginx"))
    'docker.io/library/nginx:latest'
    """

    domain: str
    path: str
    tag: str
    digest: str

    @classmethod
    def parse(cls, reference: str) -> Self:
        """Return the image that `reference` names; raise `ValueError` if the reference is invalid."""
        domain, slash, rest = reference.partition("/")
        if not slash or not (set(domain) & set(".:") or domain == "localhost" or domain != domain.lower()):
            domain, rest = "docker.io", reference
        domain = "docker.io" if domain == "index.docker.io" else domain
        match = _REST.fullmatch(rest)
        if not match or not _DOMAIN.fullmatch(domain) or _IDENTIFIER.fullmatch(reference):
            raise ValueError("invalid reference format")
        path: str = match["path"]
        if len(path) > _LONGEST_PATH:
            raise ValueError(f"repository name must not be more than {_LONGEST_PATH} characters")
        if domain == "docker.io" and "/" not in path:
            path = f"library/{path}"
        tag = match["tag"] or ("" if match["digest"] else "latest")
        return cls(domain, path, tag, match["digest"] or "")

    @property
    def repository(self) -> str:
        """Domain and path."""
        return f"{self.domain}/{self.path}"

    @property
    def id(self) -> str:
        """The `imageID` of a status: repository and digest; the digest is that of `index` if the reference has none."""
        return f"{self.repository}@{self.digest or 'sha256:' + hashlib.sha256(self.index()).hexdigest()}"

    def index(self) -> bytes:
        """
        Return the image index (OCI image specification) that a registry serves for the image to simulated nodes.

        Images are equal, in every registry, if the last part of their path and their tag are the same: mirrors put
        other parts before it.
        """
        name = self.path.rpartition("/")[2]
        digest = hashlib.sha256(f"{name}:{self.tag}".encode()).hexdigest()
        manifest = {
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "digest": f"sha256:{digest}",
            "size": 1024,
            "platform": {"os": "linux", "architecture": "amd64"},
        }
        return json.dumps({"schemaVersion": 2, "mediaType": INDEX, "manifests": [manifest]}).encode()

    def __str__(self) -> str:
        return self.repository + (self.tag and f":{self.tag}") + (self.digest and f"@{self.digest}")

    def connection_refused(self) -> str:
        """Return the runtime's error when the registry refuses the connection."""
        local = self.domain.startswith(_LOOPBACK)
        host = "registry-1.docker.io" if self.domain == "docker.io" else self.domain
        name, _, port = host.partition(":")
        # The runtime resolves the name before it connects. The address here is from the range for documentation.
        address = f"{name if local else '192.0.2.1'}:{port or ('80' if local else '443')}"
        url = f"{'http' if local else 'https'}://{host}/v2/{self.path}/manifests/{self.digest or self.tag}"
        return (
            f'failed to pull and unpack image "{self}": failed to resolve reference "{self}": '
            f'failed to do request: Head "{url}": dial tcp {address}: connect: connection refused'
        )


@dataclass(slots=True)
class NodeImages:
    """The images that a node has pulled, and the domains of the registries that it cannot reach."""

    dead: set[str]
    present: set[str] = field(default_factory=set)


@dataclass(frozen=True, slots=True)
class Waiting:
    """Why a container waits for its image: `state.waiting` of its status."""

    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class PullResult:
    """The Events of getting an image, as `(type, reason, message)`, and why the container waits, if it does."""

    events: tuple[tuple[str, str, str], ...]
    waiting: Waiting | None = None


@dataclass(slots=True)
class _BackOff:
    """The pause before the next pull of an image; it doubles with each failure."""

    pause: timedelta
    since: datetime
    error: str


class Puller:
    """
    Gets the images of one pod, with a back-off for each image.

    Args:
        images: the images that the pod's node has, and the registries that it cannot reach.
        first_pause: the pause after the first failed pull.
        longest_pause: the pause at which the doubling ends.

    """

    def __init__(self, images: NodeImages, first_pause: timedelta, longest_pause: timedelta) -> None:
        self._images = images
        self._first_pause = first_pause
        self._longest_pause = longest_pause
        self._back_offs: dict[str, _BackOff] = {}

    def ensure(self, reference: str, policy: str, now: datetime) -> PullResult:
        """Get the image `reference` onto the node, as the `imagePullPolicy` demands."""
        try:
            image = Image.parse(reference)
        except ValueError as error:
            return _invalid(reference, str(error))
        if policy != "Always" and str(image) in self._images.present:
            return PullResult((("Normal", "Pulled", f'Container image "{reference}" already present on machine'),))
        if policy == "Never":
            message = f'Container image "{reference}" is not present with pull policy of Never'
            return _refuse("ErrImageNeverPull", message, ("Warning", "ErrImageNeverPull", message))
        back_off = self._back_offs.get(reference)
        if back_off and now - back_off.since < back_off.pause:
            message = f'Back-off pulling image "{reference}"'
            detailed = f"{message}: ErrImagePull: {back_off.error}"
            return _refuse("ImagePullBackOff", detailed, ("Normal", "BackOff", message))
        return self._pull(reference, image, now)

    def _pull(self, reference: str, image: Image, now: datetime) -> PullResult:
        pulling = ("Normal", "Pulling", f'Pulling image "{reference}"')
        if image.domain not in self._images.dead:
            self._images.present.add(str(image))
            message = f'Successfully pulled image "{reference}" in 44ms (44ms including waiting).'
            return PullResult((pulling, ("Normal", "Pulled", f"{message} Image size: 1084894 bytes.")))
        error = image.connection_refused()
        self._back_offs[reference] = _BackOff(self._pause(reference, now), now, error)
        failed = ("Warning", "Failed", f'Failed to pull image "{reference}": {error}')
        return _refuse("ErrImagePull", error, pulling, failed)

    def _pause(self, reference: str, now: datetime) -> timedelta:
        previous = self._back_offs.get(reference)
        if not previous or now - previous.since > 2 * self._longest_pause:
            return self._first_pause
        return min(2 * previous.pause, self._longest_pause)


def _refuse(reason: str, message: str, *events: tuple[str, str, str]) -> PullResult:
    return PullResult((*events, ("Warning", "Failed", f"Error: {reason}")), Waiting(reason, message))


def _invalid(reference: str, error: str) -> PullResult:
    cause = f'Failed to apply default image tag "{reference}": couldn\'t parse image reference "{reference}": {error}'
    return _refuse("InvalidImageName", cause, ("Warning", "InspectFailed", cause))
