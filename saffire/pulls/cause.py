"""
Causes: why an image could not be pulled, by the error text of the kubelet and of its container runtime.

A container runtime gives the kubelet a sentence and no code, so Saffire can only compare words. `ROWS` is the table of
the known words of containerd 1.6 to 2.x, CRI-O and Docker (cri-dockerd). The tests have a recorded text for each row.
If no row matches, the cause is `UNKNOWN`. Each cause has a *remedy*: another repository cannot help, may help at once,
or helps only if a registry proves that the image is there.

Users choose the names in an error text, and registries choose parts of the text. Neither a name such as
`quay.io/503/no-space-left-on-device` nor a page that a registry sent may decide about the cause. So names and
quotations are redacted before the rows are tried. A name has no spaces, and redaction may leave a short name in the
text. So each pattern is longer than one word, or begins at a `START` and ends with a space.
"""

import functools
import re
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
        return self in {Cause.DNS, Cause.REFUSED, Cause.TIMEOUT, Cause.SERVER_ERROR}


_FACTS = {
    Cause.SIGNATURE: (Remedy.LEAVE, "the node refused the image's signature, which is a decision and no failure"),
    Cause.PLATFORM: (Remedy.LEAVE, "the image has no build for the node's platform"),
    Cause.DISK: (Remedy.LEAVE, "the node cannot keep the image: its disk is full, or a layer cannot be unpacked"),
    Cause.BAD_NAME: (Remedy.LEAVE, "the node's runtime does not take the image's name"),
    Cause.NEVER_PULL: (Remedy.LEAVE, "the node does not have the image, and its pull policy is Never"),
    Cause.NODE: (Remedy.LEAVE, "the node cannot pull now: its own limit of pulls, or its container runtime"),
    # The node might reach an alternative without the proxy, but Saffire does not know the node's proxy settings.
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


# The table of known words

# The start of a word: at the start of the text, after a space, or after the bracket before the first of several errors.
START = r"(?<![^\s\[(])"


def _status(codes: str) -> str:
    """
    Return the pattern of an HTTP status in an error text; `codes` is a pattern of status codes.

    A number counts if it follows the word `status` or `HTTP`, or if its phrase follows it, as in `404 Not Found`.
    """
    return rf"\b(?:(?i:status)[ \w<>\[\]]{{0,40}}:? ?\(?|HTTP ){codes}\b|{START}{codes} [A-Z]"


# The first row that matches decides. Rows are in the order of their remedies: LEAVE, MOVE, PROVEN. Among the rows with
# one remedy, exact words come before vague words.
ROWS = tuple(
    (cause, re.compile(pattern))
    for cause, pattern in (
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
        # CRI-O: the node's settings do not say in which registry an image with a short name is.
        (Cause.BAD_NAME, r"short name mode is enforcing"),
        (Cause.BAD_NAME, r"did not resolve to an alias and no unqualified-search registries"),
        (Cause.NEVER_PULL, r"is not present with pull policy of Never"),
        (Cause.NODE, r"pull QPS exceeded"),
        # The kubelet has no connection to its container runtime: gRPC writes these words, not a registry.
        (Cause.NODE, r"code = Unavailable desc = (?:connection error|error reading|transport is)"),
        (Cause.NODE, r"Cannot connect to the Docker daemon"),
        (Cause.NODE, r"unknown service runtime\.v1"),
        (Cause.PROXY, r"proxyconnect tcp: "),
        (Cause.PROXY, r"socks connect tcp"),
        (Cause.PROXY, r"Proxy Authentication Required"),
        (Cause.PROXY, _status("407")),
        # containerd has read the manifest before it gives this error. So the name is right, whatever the status.
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
        # The status says more than the text of a proxy in front of the registry. So the row of the status comes first.
        (Cause.SERVER_ERROR, _status(r"5\d\d")),
        # If a proxy cannot reach the registry, Go gives only the phrase of the proxy's status (net/http, CONNECT).
        (Cause.SERVER_ERROR, r": (?:Bad Gateway|Service Unavailable|Gateway Time-?out)"),
        (Cause.TIMEOUT, r"i/o timeout"),
        (Cause.TIMEOUT, r"TLS handshake timeout"),
        (Cause.TIMEOUT, r"\(Client\.Timeout exceeded while "),
        (Cause.TIMEOUT, r"context deadline exceeded"),
        (Cause.TIMEOUT, r"timeout awaiting response headers"),
        (Cause.TIMEOUT, r": connection timed out"),
        # Since 1.7 containerd cancels a pull that makes no progress (`image_pull_progress_timeout`).
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
        # If a rule of a proxy forbids this registry, Go again gives only the phrase of the proxy's status.
        (Cause.DENIED, r": Forbidden\b"),
        (Cause.ABSENT, r"manifest unknown"),
        (Cause.ABSENT, r"name unknown"),
        (Cause.ABSENT, r": not found\b"),
        (Cause.ABSENT, r"(?:repository|manifest for) <> not found"),
        (Cause.ABSENT, _status("404")),
        # If the registry answers with an error page in HTML, Docker writes the status first, so a row above matches.
        (Cause.PARTIAL, r"invalid character .{1,8} looking for beginning of value"),
        (Cause.PARTIAL, r"unexpected end of JSON input"),
    )
)
# The reasons in `state.waiting.reason` for which no other repository helps, whatever the error text says
# (pkg/kubelet/images/types.go).
REASONS = {
    "InvalidImageName": Cause.BAD_NAME,
    "ErrImageNeverPull": Cause.NEVER_PULL,
    "SignatureValidationFailed": Cause.SIGNATURE,
    "ImageInspectError": Cause.NODE,
}


# From words to a cause

# So many results are cached, since thousands of pods of one workload fail with the same error text.
_KEPT = 256


@functools.lru_cache(maxsize=_KEPT)
def classify(reason: str, error: str) -> Cause:
    """
    Return the cause of a failed pull by `state.waiting.reason` and the error text; each is `""` if there is none.

    If the kubelet tried several credentials, the text has one error for each credential, as in `[e1, e2]`. The first
    row of `ROWS` that matches any of these errors decides. So a cause with the remedy `LEAVE` wins over all others. An
    error of the registry wins over a denial, since the credential with the registry's error may be the right one.

    >>> classify("ErrImagePull", "dial tcp 127.0.0.1:5001: connect: connection refused").value
    'refused'
    """
    redacted = redact(error)
    by_text = next((cause for cause, row in ROWS if row.search(redacted)), Cause.UNKNOWN)
    if reason in REASONS:
        return by_text if by_text.remedy is Remedy.LEAVE else REASONS[reason]
    # CRI-O gives the reason `RegistryUnavailable` for ECONNREFUSED and nothing else (server/image_pull.go). A registry,
    # a proxy or a DNS server may have refused the connection, so the error text decides first.
    return Cause.REFUSED if by_text is Cause.UNKNOWN and reason == "RegistryUnavailable" else by_text


# Redaction

# A runtime repeats the reference, and writes the reason last. So there is room for five times the longest reference,
# and for the reason.
_MAX_TEXT = 8192
# Quoted text is a name, a URL or a page that a registry sent. If the error text was clipped, the closing quote may be
# missing.
_QUOTED = re.compile(r'"(?:[^"\\]|\\.?)*(?:"|\Z)', re.DOTALL)
# After a registry's status, containerd repeats the registry's own text, up to the error of the next credential. That
# text may say that a disk is full, which is then the registry's disk and not the node's.
_PASSED_ON = re.compile(
    r"(\b[1-5]\d\d [A-Z][A-Za-z ]{1,40})(?: - Server message: |\n).*?(?=, (?:rpc error|failed to)|\Z)", re.DOTALL
)
# One of these words, then a name of one word.
_NAMED = re.compile(rf"({START}(?:manifest for|repository|reading manifest|lookup|\[manifests)) [^\s,\]]+")
_WORD = re.compile(r"\S+")
_NOT_NAMES = frozenset({"i/o", "input/output"})


def redact(error: str) -> str:
    """
    Return an error text with `<>` for each quotation and each name (reference, URL, path of a file, digest).

    >>> redact('failed to resolve reference "quay.io/eof:v1": pulling from host quay.io failed with status code 503')
    'failed to resolve reference <>: pulling from host quay.io failed with status code 503'
    """
    text = _PASSED_ON.sub(r"\1", _QUOTED.sub("<>", error[:_MAX_TEXT]))
    text = _NAMED.sub(r"\1 <>", text)
    return _WORD.sub(lambda word: _redact_word(word[0]), text)


def _redact_word(word: str) -> str:
    """Return `<>` and the word's last punctuation if the word is a name; return any other word as it is."""
    bare = word.rstrip(":,;)]")
    is_name = "/" in bare or "@" in bare or "sha256:" in bare
    return f"<>{word[len(bare) :]}" if is_name and bare not in _NOT_NAMES else word
