"""
Wording: finds the cause of a failed pull in the error text of the kubelet and of its container runtime.

A container runtime gives the kubelet a sentence and no code, so Saffire can only compare words. `ROWS` is the table of
the known words of containerd 1.6 to 2.3, CRI-O and Docker (cri-dockerd), on Linux and on Windows. The tests have a
recorded text for each row. If no row matches, the cause is `UNKNOWN`.

Names, quotations and the answers of registries are redacted before the rows are tried (`redaction`). A name has no
spaces, and redaction may leave a short name in the text. So each pattern is longer than one word, or begins at a
`START` and ends with a space. A registry's own words count only where the registry speaks of itself: of a rule of its
own, or of its end (`OF_REGISTRIES`).
"""

import functools
import re

from saffire.pulls.cause import Cause, Remedy
from saffire.pulls.redaction import START, redact

# The table of known words


def _status(codes: str) -> str:
    """Return the pattern of an HTTP status in redacted words; `codes` is a pattern of status codes."""
    return rf"\bHTTP {codes}\b"


# A request, if no more follows than the phrase of a status: if a proxy does not connect the node to a registry, Go
# gives only this phrase of the proxy's answer (net/http, CONNECT).
_CONNECT = r"\b(?:Head|Get|Post) <>: "
# The names of system calls on a file, and the file on Linux or Windows, as in Go's `PathError` and `LinkError`.
_FILE = (
    rf"{START}(?:chmod|chown|fsync|lchown|link|lsetxattr|lstat|mkdir|mount|open|read|remove|rename|stat|symlink|sync|"
    r"truncate|unlinkat|write)(?: <>){1,2}: |\b[A-Z]:\\[^:\n]{1,300}: "
)
# What a rule does, in front of the name of the rule. The phrase of a proxy's answer is none of a registry.
_RULE = (
    r"(?<!<>: )\b(?i:allowed|blocked|comply|disallowed|downloaded|forbidden|meet|prevented|prohibited|refused|rejected|"
    r"restricted|violat\w{1,3}) (?:[\w'-]+ ){0,6}"
)
# containerd: another pull on the node is getting this part of the image, and began at the time in parentheses.
_LOCKED = r": ref \S+ locked(?: for \S+ \(since [^)\n]{1,80}\))?: unavailable"
_NO_KIND = r"un(?:implemented|known|recognized|supported)"
# The first row that matches decides. Rows are in the order of their remedies: LEAVE, MOVE, PROVEN. Among the rows with
# one remedy, exact words come before vague words.
ROWS = tuple(
    (cause, re.compile(pattern))
    for cause, pattern in (
        (Cause.SIGNATURE, rf"{START}SignatureValidationFailed\b"),
        (Cause.SIGNATURE, r"signature (?:validation|verification) failed"),
        (Cause.SIGNATURE, r"Source image rejected: "),
        (Cause.SIGNATURE, r"image verifier \S+ blocked pull of "),
        (Cause.SIGNATURE, r"remote trust data does not exist"),
        # Harbor's rules about vulnerabilities and signatures.
        (Cause.POLICY, r"cannot be pulled due to configured policy"),
        (Cause.POLICY, r"\b(?:contains?|critical|has|high|severity of|with|without) (?:\w+ )?vulnerabilit(?:ies|y)\b"),
        (Cause.POLICY, r"(?i:\b(?:artifact|image|manifest|tag) (?:\S+ )?(?:is|was) not signed)\b"),
        (Cause.POLICY, r"configured as immutable"),
        (Cause.POLICY, rf"{_RULE}(?i:polic(?:y|ies))\b"),
        (
            Cause.POLICY,
            rf"{_RULE}(?i:administrators?|attestors?|curation|firewall|organi[sz]ation|rules?|security|xray)\b",
        ),
        (Cause.POLICY, r"signature (?:is missing|is required|verification failed)"),
        (Cause.POLICY, r"(?i:\b(?:is|are|was|were|been) (?:in )?quarantined?)\b"),
        (Cause.POLICY, r"operation is disallowed on this registry"),
        (Cause.POLICY, r"(?i:by binary authorization)"),
        # CRI-O: the node's own settings.
        (Cause.POLICY, r"registry \S+ is blocked in "),
        (Cause.UNFIT, r"media type <> is no longer supported"),
        (Cause.UNFIT, r"<vnd> not supported\b"),
        (Cause.UNFIT, r"unexpected media type <vnd>"),
        (Cause.UNFIT, r"manifest version 2, schema 1 support"),
        (Cause.UNFIT, r"unsupported schema version"),
        (Cause.UNFIT, r"missing signature key"),
        (Cause.UNFIT, r"mediaType in manifest should be"),
        (Cause.UNFIT, r"media-type: (?:schema 1|expected|index|manifest) "),
        (Cause.UNFIT, r"mismatched image rootfs and manifest layers"),
        (Cause.UNFIT, r"layers from manifest don't match image config"),
        (Cause.UNFIT, r"layers and diffIDs don't match"),
        (Cause.UNFIT, r"(?:invalid|unsupported) rootfs "),
        (Cause.UNFIT, r"(?:decode|invalid|unmarshal|unmarshalling) image config"),
        (Cause.UNFIT, r"parsing image configuration: (?:invalid character|json: |unexpected end)"),
        (
            Cause.UNFIT,
            r"cannot unmarshal \S+ into Go struct field (?!Index|Manifest)\S*(?:[Cc]onfig|[Ii]mage|[Rr]ootfs)",
        ),
        (Cause.UNFIT, r"wrong diff id\b"),
        (Cause.UNFIT, rf"(?i:{_NO_KIND} (?:[\w ]{{1,20}} )?(?:layer|manifest|media|MIME) (?:format|type|version))"),
        (Cause.UNFIT, r"unsupported image-specific operation on artifact"),
        (Cause.UNFIT, r"invalid mixed OCI image"),
        (Cause.UNFIT, r"Encountered remote <>\S* when fetching"),
        (Cause.UNFIT, r"no processor for media-type"),
        (Cause.UNFIT, r"key needed for decryption"),
        (Cause.UNFIT, r"no suitable key (?:unwrapper )?found"),
        (Cause.UNFIT, r"invalid tar header"),
        (Cause.UNFIT, r"max depth exceeded"),
        (Cause.DISK, r"no space left on device"),
        (Cause.DISK, r"not enough space on the disk"),
        (Cause.DISK, r"disk quota exceeded"),
        (Cause.DISK, r"failed to extract layer"),
        (Cause.DISK, r"failed to register layer"),
        (Cause.DISK, r"read-only file system"),
        (Cause.DISK, r"input/output error"),
        (Cause.DISK, r": (?:file exists|no such device|not a directory|operation not supported)\b"),
        (Cause.DISK, r": (?:stale (?:NFS )?file handle|structure needs cleaning|too many levels of symbolic links)"),
        (Cause.DISK, r"content digest <>: not found"),
        (Cause.DISK, r"failed to prepare extraction snapshot"),
        (Cause.DISK, r"snapshot \S+ (?:already exists|does not exist)"),
        (Cause.DISK, r"missing parent \S+ bucket"),
        (
            Cause.DISK,
            (
                r"failed to (?:apply layer|mount|rename|set xattr|stat (?:parent|snapshot)|sync|"
                rf"open writer(?!{_LOCKED}))\b"
            ),
        ),
        (Cause.DISK, r"failed to (?:create (?:lease|snapshot|temp)|get (?:image from|lease|reader))\b"),
        (Cause.DISK, r"failed to update (?:image|metadata|snapshot)\b"),
        (Cause.DISK, r"mount callback failed on"),
        (Cause.DISK, r"(?:lease <>: not found|unable to lease content)"),
        (Cause.DISK, r"database (?:disk image is malformed|is locked|not open)"),
        (Cause.DISK, r"(?:acquire|acquiring|waiting for) (?:\w+ )?lock\b"),
        (Cause.DISK, r"Thin Pool has \d+ free"),
        (Cause.DISK, r"snapshotter not loaded"),
        (Cause.DISK, r"unable to initialize unpacker"),
        # The runtime has unpacked nothing of an image before, so these words are about its own storage or the image.
        (Cause.DISK, r"failed to unpack image on snapshotter \S+ (?!unexpected media type|no match for platform)"),
        (Cause.DISK, r"failed reading status of resume write"),
        (Cause.DISK, r"\bcommit failed: "),
        # CRI-O reads a layer from its own disk before it adds the layer.
        (Cause.DISK, r"adding layer with blob"),
        (Cause.DISK, r"(?i:committing the finished image)"),
        (Cause.DISK, r"creating overlay mount to"),
        (Cause.DISK, r"layer not known"),
        (Cause.DISK, r"insufficient UIDs or GIDs"),
        (Cause.DISK, r"hcsshim::\w"),
        (Cause.DISK, r"(?:cannot find the (?:file|path) specified|corrupted and unreadable|media is write protected)"),
        (Cause.BAD_NAME, r"invalid reference format"),
        (Cause.BAD_NAME, r"couldn't parse image (?:name|reference)"),
        # CRI-O: the node's settings do not say in which registry an image with a short name is.
        (Cause.BAD_NAME, r"short name mode is enforcing"),
        (Cause.BAD_NAME, r"did not resolve to an alias and no unqualified-search registries"),
        (Cause.NEVER_PULL, r"is not present with pull policy of Never"),
        (Cause.NODE, r"pull QPS exceeded"),
        # The kubelet has no connection to its container runtime: gRPC writes these words, not a registry.
        (Cause.NODE, r"code = Unavailable desc = (?:closing|connection|error reading|keepalive|server|the|transport) "),
        (Cause.NODE, r"connection error: desc = "),
        (Cause.NODE, r"stream terminated by RST_STREAM"),
        (Cause.NODE, r"received message larger than max"),
        (Cause.NODE, r"server is not initialized yet"),
        (Cause.NODE, r"Cannot connect to the Docker daemon"),
        (Cause.NODE, r"error during connect: "),
        (Cause.NODE, r"operation timeout: context deadline exceeded"),
        (Cause.NODE, r"\b(?:dial|read|write) unix "),
        (Cause.NODE, r"unknown service runtime\.v1"),
        (Cause.NODE, r"too many open files"),
        (Cause.NODE, r"cannot allocate memory"),
        (Cause.NODE, r"cannot assign requested address"),
        (Cause.NODE, r"no buffer space available"),
        (Cause.NODE, r"address (?:already in use|family not supported)"),
        (Cause.NODE, r": resource temporarily unavailable"),
        (Cause.NODE, r"executable file not found"),
        (Cause.NODE, r": (?:operation not permitted|permission denied)"),
        # Windows: its ports, buffers and memory, and a socket that a rule of the node forbids.
        (Cause.NODE, r"Only one usage of each socket address"),
        (Cause.NODE, r"lacked sufficient buffer space"),
        (Cause.NODE, r"forbidden by its access permissions"),
        (Cause.NODE, r"Not enough (?:memory resources|quota|storage) (?:are|is) available"),
        (Cause.NODE, r"paging file is too small"),
        (Cause.NODE, r"Insufficient system resources"),
        (Cause.DISK, _FILE),
        (Cause.DISK, r": no such file or directory"),
        (Cause.PROXY, r"proxyconnect tcp: "),
        (Cause.PROXY, r"socks connect tcp"),
        (Cause.PROXY, r"invalid proxy (?:address|URL)"),
        (Cause.PROXY, rf"{_CONNECT}(?:Proxy Authentication Required|Unauthorized)"),
        (Cause.PROXY, _status("407")),
        (Cause.PARTIAL, r"could not fetch content descriptor"),
        (Cause.PARTIAL, r"failed open: content at <> not found"),
        (Cause.PARTIAL, r"unexpected commit (?:digest|size) "),
        (Cause.PARTIAL, r"failed size validation: "),
        (Cause.PARTIAL, r"failed to read expected number of bytes: "),
        (Cause.PARTIAL, r"short read: expected "),
        (Cause.PARTIAL, r"read past expected size "),
        (Cause.PARTIAL, r"reports content size of zero"),
        (Cause.PARTIAL, r"config.json digest <> does not match"),
        (Cause.PARTIAL, r"Digest did not match, expected "),
        (Cause.PARTIAL, r"verification failed for digest "),
        (Cause.PARTIAL, r"error verifying sha256 checksum"),
        (Cause.PARTIAL, r"blob unknown"),
        (Cause.PARTIAL, r"unknown blob"),
        (Cause.PARTIAL, r"unexpected media type <>"),
        (Cause.THROTTLED, rf"{START}toomanyrequests: "),
        (Cause.THROTTLED, r"too many requests to registry"),
        (Cause.THROTTLED, r": Too Many Requests"),
        (Cause.THROTTLED, _status("429")),
        (Cause.RESET, rf"{START}tls: (?:bad record MAC|use of closed connection)"),
        (Cause.TLS, rf"{START}x509: "),
        (Cause.TLS, rf"{START}tls: "),
        (Cause.TLS, r"server gave HTTP response to HTTPS client"),
        (Cause.DNS, rf"{START}lookup <>"),
        (Cause.DNS, r"no such host"),
        (Cause.DNS, r"(?i:name or service not known|no such host is known|temporary failure in name resolution)"),
        (Cause.DNS, r"(?i:could not resolve host|failed to lookup address)"),
        (Cause.REFUSED, r": connection refused"),
        (Cause.REFUSED, r": (?:host is (?:down|unreachable)|network is (?:down|unreachable)|no route to host)"),
        (Cause.REFUSED, r"target machine actively refused it"),
        (Cause.REFUSED, r"(?:attempted to an unreachable|encountered a dead) (?:host|network)"),
        (Cause.REFUSED, r"network (?:location cannot be reached|path was not found)"),
        (Cause.SHUT_DOWN, r"(?i:\b(?:registry|service) (?:is|was|has been) (?:\w+ and )?shut(?:ting)? down)\b"),
        (Cause.SHUT_DOWN, r"(?:registry|service) (?:is|was|has been) (?:decommissioned|no longer|retired)\b"),
        # The status says more than the text of a proxy in front of the registry. So the row of the status comes first.
        (Cause.SERVER_ERROR, _status(r"5\d\d")),
        (Cause.SERVER_ERROR, r": (?:Bad Gateway|Gateway Time-?out|Internal Server Error|Service Unavailable)"),
        (Cause.SERVER_ERROR, r"did not include a token in the response"),
        (Cause.SERVER_ERROR, r"unable to decode token response"),
        (Cause.SERVER_ERROR, r"stopped after \d+ redirects"),
        (Cause.TIMEOUT, r"i/o timeout"),
        (Cause.TIMEOUT, r"TLS handshake timeout"),
        (Cause.TIMEOUT, r"\(Client\.Timeout exceeded while "),
        (Cause.TIMEOUT, r"context deadline exceeded"),
        (Cause.TIMEOUT, r"timeout awaiting response headers"),
        (Cause.TIMEOUT, r"(?:connection|operation) timed out"),
        (Cause.TIMEOUT, r"did not properly respond after a period of time"),
        (Cause.TIMEOUT, r"semaphore timeout period has expired"),
        # Since 1.7 containerd cancels a pull that makes no progress (`image_pull_progress_timeout`). If another pull of
        # the node gets the same layer, a pull waits for that one until then (core/content/helpers.go, OpenWriter).
        (Cause.TIMEOUT, r"context canceled"),
        (Cause.TIMEOUT, _LOCKED),
        (Cause.TIMEOUT, r"request canceled while waiting"),
        (Cause.TIMEOUT, _status("408")),
        (Cause.RESET, r": connection reset by peer"),
        (Cause.RESET, r"[:=] (?:unexpected )?EOF\b"),
        (Cause.RESET, r": (?:broken pipe|transport endpoint is not connected)"),
        (Cause.RESET, rf"{START}http2: "),
        (Cause.RESET, rf"{START}stream error: stream ID "),
        (Cause.RESET, r"connection error: [A-Z]"),
        (Cause.RESET, r"malformed (?:chunked|HTTP|MIME) "),
        (Cause.RESET, r"transport connection broken"),
        (Cause.RESET, r"use of closed network connection"),
        (Cause.RESET, r"server closed idle connection"),
        (Cause.RESET, r"(?:caused connection abort|connection was aborted by the software)"),
        (Cause.RESET, r"forcibly closed by the remote host"),
        (Cause.RESET, r"network name is no longer available"),
        # What was asked for is a part of the image, so the manifest was read, and the name is right, whatever the
        # status. But 402, 412 and 451 may be a rule of the registry about the whole image.
        (Cause.PARTIAL, r"httpReadSeeker: failed open: (?!.{0,60}HTTP 4(?:02|12|51)\b)"),
        (Cause.PARTIAL, r"(?:pulling image configuration|download failed after attempts=\d+): "),
        (Cause.PARTIAL, r"reading (?:config )?blob <>: |fetching blob: "),
        (Cause.PARTIAL, r"happened during read: "),
        (Cause.PARTIAL, r"(?:determining manifest MIME type|from manifest list)[^\n]{1,200}reading manifest <>"),
        # The answer is a page, and no manifest.
        (Cause.PARTIAL, r"invalid character .{1,8} looking for beginning of value"),
        (Cause.PARTIAL, r"(?:json: cannot unmarshal|unexpected end of JSON input)"),
        (Cause.PLATFORM, r"no match for platform in manifest"),
        (Cause.PLATFORM, r"no matching manifest for "),
        (Cause.PLATFORM, r"no image found in (?:manifest list|image index) for architecture"),
        (Cause.PLATFORM, r"cannot be used on this platform"),
        (Cause.PLATFORM, r"image is incompatible with a \S+ host"),
        (Cause.PLATFORM, r"operating system does not match the host"),
        (Cause.PLATFORM, r"does not (?:match|provide) the (?:detected host|specified) platform"),
        (Cause.DENIED, r"access denied"),
        (Cause.DENIED, rf"{START}denied: "),
        (Cause.DENIED, rf"{START}unauthorized: "),
        (Cause.DENIED, r"unable to retrieve auth token: invalid "),
        (Cause.DENIED, r"no basic auth credentials"),
        (Cause.DENIED, r"authentication required"),
        (Cause.DENIED, _status("40[13]")),
        (Cause.DENIED, r": Forbidden\b"),
        (Cause.ABSENT, r"manifest unknown"),
        (Cause.ABSENT, r"name unknown"),
        (Cause.ABSENT, r": not found\b"),
        (Cause.ABSENT, r"no such manifest"),
        (Cause.ABSENT, r"(?:image|repository|manifest for) \S+ not found"),
        (Cause.ABSENT, _status("4(?:04|10)")),
        (Cause.ABSENT, rf"{_CONNECT}Not Found"),
        # Docker and CRI-O read an error code only in an answer with a status 4xx.
        (Cause.CLIENT_ERROR, rf"{START}(?:unknown|unsupported|\w+ (?:invalid|unverified)): "),
        (Cause.CLIENT_ERROR, _status(r"4\d\d")),
        (Cause.CLIENT_ERROR, rf"{_CONNECT}(?!Found\b|Moved |See Other|\w+ Redirect)[A-Z]"),
    )
)
# The causes about which a registry's own words count.
OF_REGISTRIES = frozenset({Cause.POLICY, Cause.SHUT_DOWN})
# The reasons in `state.waiting.reason` for which no other repository helps, whatever the error text says
# (pkg/kubelet/images/types.go).
REASONS = {
    "InvalidImageName": Cause.BAD_NAME,
    "ErrImageNeverPull": Cause.NEVER_PULL,
    "SignatureValidationFailed": Cause.SIGNATURE,
    "ImageInspectError": Cause.NODE,
}

# The pull was at the manifest of a platform, the config or a layer. containerd cancels a pull that has begun to get
# layers (`context canceled`), or whose client has gone, which may be while it resolves the reference.
_OF_PART = (
    *("failed to copy: ", "context canceled", " locked: unavailable", " locked for "),
    *("reading manifest sha256:", "reading blob ", "reading config blob ", "fetching blob: ", "writing blob: "),
    *("pulling image configuration: ", "download failed after attempts="),
)


def names_part(error: str) -> bool:
    """
    Tell whether a pull failed at a part of the image by its error text: the registry had given what names the part.

    A registry may write such words itself. Then Saffire only sends more requests to that registry.

    >>> names_part("failed to copy: httpReadSeeker: failed open: failed to do request: ...")
    True
    """
    return "failed to resolve reference" not in error and any(words in error for words in _OF_PART)


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
    by_text = _by_text(error)
    if reason in REASONS:
        return by_text if by_text.remedy is Remedy.LEAVE else REASONS[reason]
    # CRI-O gives the reason `RegistryUnavailable` for ECONNREFUSED and nothing else (server/image_pull.go). A registry,
    # a proxy or a DNS server may have refused the connection, so the error text decides first.
    return Cause.REFUSED if by_text is Cause.UNKNOWN and reason == "RegistryUnavailable" else by_text


def _by_text(error: str) -> Cause:
    """Return the cause of the first row that matches an error text; `UNKNOWN` if no row matches."""
    redacted = redact(error)
    for cause, row in ROWS:
        if row.search(redacted.words) or (cause in OF_REGISTRIES and row.search(redacted.answers)):
            return cause
    return Cause.UNKNOWN
