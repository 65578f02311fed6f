"""
Redaction: takes out of an error text what users and registries choose, before its words are compared.

Users choose the names in an error text: references, paths and tags. Registries choose what follows the HTTP status or
the error code of their answer. Neither a name such as `quay.io/503/no-space-left-on-device` nor a page that a registry
sent may decide why a pull failed.

CRI-O asks the mirrors of a registry first. If they fail too, it writes `(Mirrors also failed: [a: b]): source: error`.
Only the words about the source count. They alone tell whether the registry of the image failed.
"""

import re
from dataclasses import dataclass

# The start of a word: at the start of the text, after a space, or after the bracket before the first of several errors.
START = r"(?<![^\s\[(])"
# A runtime repeats the reference, and writes the reason last. So there is room for five times the longest reference,
# and for the reason.
_MAX_TEXT = 8192


@dataclass(frozen=True, kw_only=True, slots=True)
class RedactedError:
    """
    An error text without names.

    Args:
        words: what the node's own software wrote, one line for each error. A name or a quotation is `<>`, a media
            type is `<vnd>`, and the HTTP status of an answer is `HTTP 404`.
        answers: what the registry wrote in its answers with a status of the kind 4xx, or with an error code, one line
            for each error.

    """

    words: str
    answers: str


def redact(error: str) -> RedactedError:
    """
    Redact an error text; of a longer text, only the first 8192 characters count.

    >>> redact('resolving "quay.io/eof:v1": pulling from host quay.io failed with status code 503').words
    'resolving <>: pulling from host quay.io failed with status code HTTP 503'
    """
    text = _NAMED.sub(r"\1 <>", _without_mirrors(_QUOTED.sub("<>", error[:_MAX_TEXT])))
    errors = _split(_WORD.sub(lambda word: _redact_word(word[0]), text))
    parts = [_divide(part) for part in errors]
    return RedactedError(words="\n".join(words for words, _ in parts), answers="\n".join(said for _, said in parts))


# Names and quotations

# Quoted text is a name, a URL or a page that a registry sent. If the error text was clipped, the closing quote may be
# missing.
_QUOTED = re.compile(r'"(?:[^"\\]|\\.?)*(?:"|\Z)', re.DOTALL)
# One of these words, then a name of one word.
_NAMED = re.compile(rf"({START}(?:manifest for|repository|reading manifest|lookup|\[manifests)) [^\s,\]]+")
_WORD = re.compile(r"\S+")
_NOT_NAMES = frozenset({"i/o", "input/output"})
# The beginning of the media types of images and artifacts; the page of a registry has another media type.
_MEDIA_TYPE = "application/vnd."


def _redact_word(word: str) -> str:
    """Return the word, with `<>` in place of a name, or `<vnd>` in place of an image's or artifact's media type."""
    bare = word.rstrip(":,;)]").lstrip("(")
    if "]" not in bare:  # not the address of an IPv6 host
        bare = bare.removeprefix("[")
    is_name = "/" in bare or "@" in bare or "sha256:" in bare
    if not is_name or bare in _NOT_NAMES:
        return word
    before, _, after = word.partition(bare)
    return f"{before}{'<vnd>' if bare.startswith(_MEDIA_TYPE) else '<>'}{after}"


# Several errors

_MIRRORS, _SOURCE = "(Mirrors also failed: [", "]): "
# If the kubelet tried several credentials, it writes `[e1, e2]` (apimachinery, NewAggregate).
_SEVERAL = re.compile(r"(?:\w+: )?\[")
# The first words of a runtime's error, which begin a further error of the list.
_NEXT = re.compile(
    r", (?=rpc error: code = |[Ff]ailed to |Error |Cannot |couldn't |initializing |choosing |copying |determining |"
    r"parsing |pinging |reading |writing |unable to |pull QPS |image pull |get image |Container image |short.name |"
    r"SignatureValidationFailed)"
)


def _without_mirrors(text: str) -> str:
    """Return the text without what CRI-O writes about mirrors; nothing is left after a list that was clipped."""
    kept = []
    before, mirrors, rest = text.partition(_MIRRORS)
    while mirrors:
        kept.append(before)
        before, mirrors, rest = rest.partition(_SOURCE)[2].partition(_MIRRORS)
    return "".join((*kept, before))


def _split(text: str) -> list[str]:
    """Return the errors in a text. Only a text that begins as a list has several, whatever a registry writes."""
    return _NEXT.split(text) if _SEVERAL.match(text) else [text]


# The answer of a registry

# An HTTP status follows the word `status` or `HTTP`, or its phrase follows it, as in `404 Not Found`.
_STATUS = re.compile(
    rf"\b(?<!exit )(?i:status)[ \w<>\[\]]{{0,40}}:? ?\(?([1-5]\d\d)\b|\b(HTTP [1-5]\d\d)\b|{START}([1-5]\d\d)(?= [A-Z])"
)
# The error codes of registries as Docker and CRI-O write them (distribution, registry/api/errcode), and the words with
# which containerd passes on what a registry wrote.
_CODE = re.compile(
    rf"{START}(?:unknown|unsupported|unauthorized|denied|toomanyrequests|server message|"
    r"(?:blob|digest|manifest|name|range|size|tag) (?:invalid|unknown|unverified)): "
)


def _divide(error: str) -> tuple[str, str]:
    """Divide one error into what the node's software wrote, and what the registry wrote at its end."""
    status, code = _STATUS.search(error), _CODE.search(error)
    if code and not (status and status.start() < code.start()):
        return error[: code.end()], error[code.end() :]
    if not status:
        return error, ""
    group = status.lastindex or 0
    number = status[group][-3:]
    # What a registry wrote after another status than 4xx is dropped: its full disk says nothing of image and node.
    answer = error[status.end() :] if number.startswith("4") else ""
    return f"{error[: status.start(group)]}HTTP {number}", answer
