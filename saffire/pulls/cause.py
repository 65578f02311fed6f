"""
Causes: why an image could not be pulled, and what Saffire can do about it.

Each cause has a *remedy*: another repository cannot help, may help at once, or helps only if a registry proves that the
image is there. `wording` finds the cause in the error text of the kubelet and of its container runtime.
"""

from enum import StrEnum

# Causes and their remedies


class Remedy(StrEnum):
    """
    What Saffire can do about the cause of a failed pull.

    `LEAVE`: no other repository can help, so Saffire does nothing. `MOVE`: another repository may help, so Saffire may
    move the container at once. `PROVEN`: another repository helps only if its registry proves that it has the image.
    The image's name may be wrong, and would then be wrong in the other repository too.
    """

    LEAVE = "leave"
    MOVE = "move"
    PROVEN = "proven"


class Cause(StrEnum):
    """Why an image could not be pulled. The values are fields of log lines, and users rely on them."""

    SIGNATURE = "signature"
    POLICY = "policy"
    UNFIT = "unfit"
    DISK = "disk"
    BAD_NAME = "bad-name"
    NEVER_PULL = "never-pull"
    NODE = "node"
    PROXY = "proxy"
    PARTIAL = "partial"
    THROTTLED = "throttled"
    TLS = "tls"
    DNS = "dns"
    REFUSED = "refused"
    SHUT_DOWN = "shut-down"
    SERVER_ERROR = "server-error"
    TIMEOUT = "timeout"
    RESET = "reset"
    PLATFORM = "platform"
    DENIED = "denied"
    ABSENT = "absent"
    CLIENT_ERROR = "client-error"
    UNKNOWN = "unknown"

    @property
    def remedy(self) -> Remedy:
        """What Saffire can do about the cause."""
        return _FACTS[self][0]

    def in_words(self, registry: str) -> str:
        """
        Return the cause as a clause for an operator; `registry` is the domain of the failing image.

        >>> Cause.REFUSED.in_words("quay.io")
        'quay.io refused the connection'
        """
        return _FACTS[self][1].format(registry=registry)

    @property
    def is_down(self) -> bool:
        """
        Whether the cause means that no image can be pulled from the registry now.

        A reset connection (`RESET`) does not mean that: other pulls from the registry may still succeed.
        """
        return self in {Cause.DNS, Cause.REFUSED, Cause.SHUT_DOWN, Cause.SERVER_ERROR, Cause.TIMEOUT}


_FACTS = {
    Cause.SIGNATURE: (Remedy.LEAVE, "the node refused the image's signature, which is a decision and no failure"),
    Cause.POLICY: (Remedy.LEAVE, "a rule forbids the pull, which is a decision and no failure"),
    # The image is the same in another registry.
    Cause.UNFIT: (Remedy.LEAVE, "the node's runtime cannot run the image: an old format, no image, or a broken one"),
    Cause.DISK: (Remedy.LEAVE, "the node cannot keep the image: its disk is full, or its storage of images fails"),
    Cause.BAD_NAME: (Remedy.LEAVE, "the node's runtime does not take the image's name"),
    Cause.NEVER_PULL: (Remedy.LEAVE, "the node does not have the image, and its pull policy is Never"),
    Cause.NODE: (Remedy.LEAVE, "the node cannot pull now: one of its own limits, or its container runtime"),
    # The node might reach an alternative without the proxy, but Saffire does not know the node's proxy settings.
    Cause.PROXY: (Remedy.LEAVE, "the node's proxy fails, and with it every registry behind it"),
    Cause.PARTIAL: (Remedy.MOVE, "{registry} has the image, but a part of it is missing or damaged"),
    Cause.THROTTLED: (Remedy.MOVE, "{registry} allows no more pulls for now"),
    Cause.TLS: (Remedy.MOVE, "the node does not accept the certificate or the TLS of {registry}"),
    Cause.DNS: (Remedy.MOVE, "the name {registry} cannot be resolved"),
    Cause.REFUSED: (Remedy.MOVE, "{registry} refused the connection"),
    Cause.SHUT_DOWN: (Remedy.MOVE, "{registry} says that it has shut down"),
    Cause.SERVER_ERROR: (Remedy.MOVE, "{registry} answers with an error of its own (5xx)"),
    Cause.TIMEOUT: (Remedy.MOVE, "{registry} does not answer in time"),
    Cause.RESET: (Remedy.MOVE, "the connection to {registry} broke off"),
    # Another registry may have a build for the platform under the same name.
    Cause.PLATFORM: (Remedy.PROVEN, "the image of {registry} has no build for the node's platform"),
    Cause.DENIED: (Remedy.PROVEN, "{registry} denies the node the image, or has none of that name"),
    Cause.ABSENT: (Remedy.PROVEN, "{registry} has no image of that name"),
    Cause.CLIENT_ERROR: (Remedy.PROVEN, "{registry} does not accept the node's request (4xx)"),
    Cause.UNKNOWN: (Remedy.MOVE, "the pull from {registry} failed, and the node does not say why in known words"),
}
