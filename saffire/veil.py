"""
Veiling: taking out of an error text what somebody chose, so that only the words of the runtime are left.

An error text is a stranger's, and full of names. `quay.io/503/no-space-left-on-device:EOF` must have no say in why it
cannot be pulled, nor a page that a registry sent along. A name has no spaces, and a familiar one may be left: so what
is looked for in the rest is longer than a word, or begins at its `START` and has a space behind it.
"""

import re

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


def veiled(error: str) -> str:
    """
    Return an error text with `<>` for what is quoted and for names: references, URLs, paths of files and digests.

    >>> veiled('failed to resolve reference "quay.io/eof:v1": pulling from host quay.io failed with status code 503')
    'failed to resolve reference <>: pulling from host quay.io failed with status code 503'
    """
    words = _PASSED_ON.sub(r"\1", _QUOTED.sub("<>", error[:_MAX_TEXT]))
    words = _NAMED.sub(r"\1 <>", words)
    return _WORD.sub(lambda word: _veil(word[0]), words)


def _veil(word: str) -> str:
    """Return `<>` for a word that is a name, with the punctuation behind it."""
    bare = word.rstrip(":,;)]")
    is_name = "/" in bare or "@" in bare or "sha256:" in bare
    return f"<>{word[len(bare) :]}" if is_name and bare not in _NO_NAMES else word
