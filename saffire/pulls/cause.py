"""
Causes: what the words of a kubelet and of its container runtime say about why an image could not be pulled.

The words are all there is: a runtime gives its kubelet a sentence, not a code. `ROWS` is the table of what is known of
them, from containerd 1.6 to 2.x, CRI-O and Docker (cri-dockerd); a recorded text in the tests holds each row. What no
row knows is `UNKNOWN`, a cause of its own. A cause has a *remedy*: whether another repository can help at all, at once,
or only once the image is known to be there.

An error text is a stranger's, and full of names. `quay.io/503/no-space-left-on-device:EOF` must have no say in why it
cannot be pulled, nor a page that a registry sent along. So names and quotations are redacted before anything is looked
for. A name has no spaces, and a short one may be left: so each pattern is longer than a word, or begins at a `START`
and ends with a space.
"""

import functools
import re
from enum import StrEnum

# Five times the longest reference, which runtimes like to repeat, and the reason behind it.
_MAX_TEXT = 8192
# The start of a word, also that of the first of several errors.
START = r"(?<![^\s\[(])"
# Quoted text is a name, a URL or a page that a registry sent; a clipped text may not close the quotes.
_QUOTED = re.compile(r'"(?:[^"\\]|\\.?)*(?:"|\Z)', re.DOTALL)
# What containerd passes on from a registry that answered with a status, up to the next credential's error. A registry
# whose own disk is full may say so.
_PASSED_ON = re.compile(
    r"(\b[1-5]\d\d [A-Z][A-Za-z ]{1,40})(?: - Server message: |\n).*?(?=, (?:rpc error|failed to)|\Z)", re.DOTALL
)
# Where a name of one word could stand beside words that mean something.
_NAMED = re.compile(rf"({START}(?:manifest for|repository|reading manifest|lookup|\[manifests)) [^\s,\]]+")
_WORD = re.compile(r"\S+")
_NO_NAMES = frozenset({"i/o", "input/output"})


def redact(error: str) -> str:
    """
    Return an error text with `<>` for what is quoted and for names: references, URLs, paths of files and digests.

    >>> redact('failed to resolve reference "quay.io/eof:v1": pulling from host quay.io failed with status code 503')
    'failed to resolve reference <>: pulling from host quay.io failed with status code 503'
    """
    words = _PASSED_ON.sub(r"\1", _QUOTED.sub("<>", error[:_MAX_TEXT]))
    words = _NAMED.sub(r"\1 <>", words)
    return _WORD.sub(lambda word: _redact_word(word[0]), words)


def _redact_word(word: str) -> str:
    """Return `<>` for a word that is a name, with the punctuation behind it."""
    bare = word.rstrip(":,;)]")
    is_name = "/" in bare or "@" in bare or "sha256:" in bare
    return f"<>{word[len(bare) :]}" if is_name and bare not in _NO_NAMES else word


# Pods of one workload fail with the same words, thousands of them.
_KEPT = 256


class Remedy(StrEnum):
    """
    What a cause asks for.

    `LEAVE`: no other repository can help. `MOVE`: another may help, at once. `PROVEN`: only one that is proven to have
    the image, since it may as well be the name that is wrong, and a typo is not repaired by another registry's typo.
    """

    LEAVE = "leave"
    MOVE = "move"
    PROVEN = "proven"


class Cause(StrEnum):
    """Why an image could not be pulled; the values are part of the log's contract."""

    SIGNATURE = "signature"
    PLATFORM = "platform"
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
    SERVER_ERROR = "server-error"
    TIMEOUT = "timeout"
    RESET = "reset"
    DENIED = "denied"
    ABSENT = "absent"
    UNKNOWN = "unknown"

    @property
    def remedy(self) -> Remedy:
        """What it asks for."""
        return _FACTS[self][0]

    def in_words(self, registry: str) -> str:
        """
        Return what it means for an operator, where the image is one of this registry.

        >>> Cause.REFUSED.in_words("quay.io")
        'quay.io refused the connection'
        """
        return _FACTS[self][1].format(registry=registry)

    @property
    def is_down(self) -> bool:
        """Whether nothing can be pulled from the registry now; a reset connection may be one of many that are not."""
        return self in {Cause.DNS, Cause.REFUSED, Cause.TIMEOUT, Cause.SERVER_ERROR}


_FACTS = {
    Cause.SIGNATURE: (Remedy.LEAVE, "the node refused the image's signature, which is a decision and no failure"),
    Cause.PLATFORM: (Remedy.LEAVE, "the image has no build for the node's platform"),
    Cause.DISK: (Remedy.LEAVE, "the node cannot keep the image: its disk is full, or a layer cannot be unpacked"),
    Cause.BAD_NAME: (Remedy.LEAVE, "the node's runtime does not take the image's name"),
    Cause.NEVER_PULL: (Remedy.LEAVE, "the node does not have the image, and its pull policy is Never"),
    Cause.NODE: (Remedy.LEAVE, "the node cannot pull now: its own limit of pulls, or its container runtime"),
    # An alternative that the proxy's exceptions name could be reached, but nobody tells us what a node's settings are.
    Cause.PROXY: (Remedy.LEAVE, "the node's proxy fails, and with it every registry behind it"),
    Cause.PARTIAL: (Remedy.MOVE, "{registry} has the image, but a part of it is missing or damaged"),
    Cause.THROTTLED: (Remedy.MOVE, "{registry} allows no more pulls for now"),
    Cause.TLS: (Remedy.MOVE, "the node does not accept the certificate or the TLS of {registry}"),
    Cause.DNS: (Remedy.MOVE, "the name {registry} cannot be resolved"),
    Cause.REFUSED: (Remedy.MOVE, "{registry} refused the connection"),
    Cause.SERVER_ERROR: (Remedy.MOVE, "{registry} answers with an error of its own (5xx)"),
    Cause.TIMEOUT: (Remedy.MOVE, "{registry} does not answer in time"),
    Cause.RESET: (Remedy.MOVE, "the connection to {registry} broke off"),
    Cause.DENIED: (Remedy.PROVEN, "{registry} denies the node the image, or has none of that name"),
    Cause.ABSENT: (Remedy.PROVEN, "{registry} has no image of that name"),
    Cause.UNKNOWN: (Remedy.MOVE, "the pull from {registry} failed, and the node does not say why in known words"),
}
# The waiting reasons of pkg/kubelet/images/types.go after which no text makes another repository worth a try.
REASONS = {
    "InvalidImageName": Cause.BAD_NAME,
    "ErrImageNeverPull": Cause.NEVER_PULL,
    "SignatureValidationFailed": Cause.SIGNATURE,
    "ImageInspectError": Cause.NODE,
}


@functools.lru_cache(maxsize=_KEPT)
def classify(reason: str, error: str) -> Cause:
    """
    Return the cause of a failed pull by the waiting reason and the error text behind it, each `""` where there is none.

    Where a kubelet tried several credentials, the text holds an error for each, `[e1, e2]`: the first row that any of
    them matches counts. So what no repository can help wins over all, and an error of the registry over a denial, since
    it met the credential that may be the right one.

    >>> classify("ErrImagePull", "dial tcp 127.0.0.1:5001: connect: connection refused").value
    'refused'
    """
    words = redact(error)
    found = next((cause for cause, row in ROWS if row.search(words)), Cause.UNKNOWN)
    if reason in REASONS:
        return found if found.remedy is Remedy.LEAVE else REASONS[reason]
    # CRI-O gives this reason for ECONNREFUSED and nothing else (server/image_pull.go), be it the proxy's or DNS's.
    return Cause.REFUSED if found is Cause.UNKNOWN and reason == "RegistryUnavailable" else found


def _status(codes: str) -> str:
    """Return the pattern of an HTTP status, told as one or followed by its phrase."""
    return rf"\b(?:(?i:status)[ \w<>\[\]]{{0,40}}:? ?\(?|HTTP ){codes}\b|{START}{codes} [A-Z]"


# In order of precedence: no repository helps, another may, another if it has the image; exact words before vague ones.
ROWS = tuple(
    (cause, re.compile(words))
    for cause, words in (
        (Cause.SIGNATURE, rf"{START}SignatureValidationFailed\b"),
        (Cause.SIGNATURE, r"signature validation failed"),
        (Cause.SIGNATURE, r"Source image rejected: "),
        (Cause.PLATFORM, r"no match for platform in manifest"),
        (Cause.PLATFORM, r"no matching manifest for "),
        (Cause.PLATFORM, r"no image found in (?:manifest list|image index) for architecture"),
        (Cause.PLATFORM, r"cannot be used on this platform"),
        (Cause.DISK, r"no space left on device"),
        (Cause.DISK, r"disk quota exceeded"),
        (Cause.DISK, r"failed to extract layer"),
        (Cause.DISK, r"failed to register layer"),
        (Cause.DISK, r"read-only file system"),
        (Cause.DISK, r"input/output error"),
        (Cause.BAD_NAME, r"invalid reference format"),
        (Cause.BAD_NAME, r"couldn't parse image (?:name|reference)"),
        # CRI-O: the node's settings do not tell whose image a short name is.
        (Cause.BAD_NAME, r"short name mode is enforcing"),
        (Cause.BAD_NAME, r"did not resolve to an alias and no unqualified-search registries"),
        (Cause.NEVER_PULL, r"is not present with pull policy of Never"),
        (Cause.NODE, r"pull QPS exceeded"),
        # The kubelet cannot talk to the runtime, or no longer: gRPC's words, no registry's.
        (Cause.NODE, r"code = Unavailable desc = (?:connection error|error reading|transport is)"),
        (Cause.NODE, r"Cannot connect to the Docker daemon"),
        (Cause.NODE, r"unknown service runtime\.v1"),
        (Cause.PROXY, r"proxyconnect tcp: "),
        (Cause.PROXY, r"socks connect tcp"),
        (Cause.PROXY, r"Proxy Authentication Required"),
        (Cause.PROXY, _status("407")),
        # The manifest was read, or containerd would not have come this far: no typo, whatever the status.
        (Cause.PARTIAL, r"httpReadSeeker: failed open: unexpected status[\w ]{0,30}<>: 40[134]\b"),
        (Cause.PARTIAL, r"httpReadSeeker: failed open: (?:content at <>|server message: )"),
        (Cause.PARTIAL, r"could not fetch content descriptor"),
        (Cause.PARTIAL, r"unexpected commit (?:digest|size) "),
        (Cause.PARTIAL, r"failed size validation: "),
        (Cause.PARTIAL, r"failed to read expected number of bytes: "),
        (Cause.PARTIAL, r"short read: expected "),
        (Cause.PARTIAL, r"Digest did not match, expected "),
        (Cause.PARTIAL, r"verification failed for digest "),
        (Cause.PARTIAL, r"blob unknown"),
        (Cause.PARTIAL, r"unknown blob"),
        (Cause.PARTIAL, r"unexpected media type <>"),
        (Cause.THROTTLED, rf"{START}toomanyrequests: "),
        (Cause.THROTTLED, r"too many requests to registry"),
        (Cause.THROTTLED, _status("429")),
        (Cause.TLS, rf"{START}x509: "),
        (Cause.TLS, rf"{START}tls: "),
        (Cause.TLS, r"server gave HTTP response to HTTPS client"),
        (Cause.DNS, rf"{START}lookup <>"),
        (Cause.DNS, r"no such host"),
        (Cause.REFUSED, r": connection refused"),
        (Cause.REFUSED, r": (?:no route to host|network is unreachable)"),
        # A status says more than the words of whatever stands before the registry.
        (Cause.SERVER_ERROR, _status(r"5\d\d")),
        # A proxy that could not reach the registry: Go tells its phrase alone (net/http, dialing CONNECT).
        (Cause.SERVER_ERROR, r": (?:Bad Gateway|Service Unavailable|Gateway Time-?out)"),
        (Cause.TIMEOUT, r"i/o timeout"),
        (Cause.TIMEOUT, r"TLS handshake timeout"),
        (Cause.TIMEOUT, r"\(Client\.Timeout exceeded while "),
        (Cause.TIMEOUT, r"context deadline exceeded"),
        (Cause.TIMEOUT, r"timeout awaiting response headers"),
        (Cause.TIMEOUT, r": connection timed out"),
        # containerd gives up on a pull without progress in this way (`image_pull_progress_timeout`), since 1.7.
        (Cause.TIMEOUT, r": context canceled"),
        (Cause.RESET, r": connection reset by peer"),
        (Cause.RESET, r": (?:unexpected )?EOF\b"),
        (Cause.RESET, r": broken pipe"),
        (Cause.RESET, r"http2: server sent GOAWAY"),
        (Cause.RESET, rf"{START}stream error: stream ID "),
        (Cause.DENIED, r"access denied"),
        (Cause.DENIED, rf"{START}denied: "),
        (Cause.DENIED, rf"{START}unauthorized: "),
        (Cause.DENIED, r"unable to retrieve auth token: invalid "),
        (Cause.DENIED, r"no basic auth credentials"),
        (Cause.DENIED, r"authentication required"),
        (Cause.DENIED, _status("40[13]")),
        # A proxy's rule against this registry, told as above.
        (Cause.DENIED, r": Forbidden\b"),
        (Cause.ABSENT, r"manifest unknown"),
        (Cause.ABSENT, r"name unknown"),
        (Cause.ABSENT, r": not found\b"),
        (Cause.ABSENT, r"(?:repository|manifest for) <> not found"),
        (Cause.ABSENT, _status("404")),
        # Of an error's page in HTML, Docker says the status first.
        (Cause.PARTIAL, r"invalid character .{1,8} looking for beginning of value"),
        (Cause.PARTIAL, r"unexpected end of JSON input"),
    )
)
