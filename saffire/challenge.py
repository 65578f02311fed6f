"""
Challenges: how a registry asks who we are, and what its token server answers.

A registry that wants to know answers 401 with `WWW-Authenticate` (RFC 9110, section 11.6.1). `Basic` wants the password
itself. `Bearer` wants a token, which its *realm* gives for a *service* and a *scope* (distribution, spec/auth/token).
"""

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

_SCHEME = re.compile(r"[\s,]*([A-Za-z][A-Za-z0-9_-]*)(?=\s|,|$)")
_PARAMETER = re.compile(r'[\s,]*([A-Za-z][A-Za-z0-9_-]*)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s,"]+))')
# What a header can hold, and twice as much as most servers take.
_TOKEN = re.compile(r"[\x21-\x7e]{1,16384}")
# How long a token lasts that does not say (spec/auth/token), and the longest that we take any for.
_DEFAULT_SECONDS = 60
_MAX_SECONDS = 3600


@dataclass(frozen=True, kw_only=True, slots=True)
class Challenge:
    """One way to say who we are: `basic`, or `bearer` with a realm to ask for a token."""

    scheme: str
    realm: str = ""
    service: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Token:
    """What stands for us for so many seconds; it is never shown."""

    value: str = field(repr=False)
    seconds: int


def parse_challenges(headers: Iterable[str]) -> tuple[Challenge, ...]:
    """
    Read the values of `WWW-Authenticate`, each of which may hold several challenges.

    >>> parse_challenges(['Bearer realm="https://auth.example.com/token",service="registry"'])
    (Challenge(scheme='bearer', realm='https://auth.example.com/token', service='registry'),)
    """
    return tuple(challenge for header in headers for challenge in _challenges(header))


def parse_token(body: bytes) -> Token | None:
    """Read a token server's answer; `None` where there is no token in it that could be sent."""
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        return None
    if not isinstance(found, dict):
        return None
    value, seconds = found.get("token") or found.get("access_token"), found.get("expires_in")
    if not isinstance(value, str) or not _TOKEN.fullmatch(value):
        return None
    if not isinstance(seconds, int | float) or not seconds > 0:
        seconds = _DEFAULT_SECONDS
    return Token(value=value, seconds=int(min(seconds, _MAX_SECONDS)))


def _challenges(header: str) -> Iterator[Challenge]:
    position = 0
    while scheme := _SCHEME.match(header, position):
        position = scheme.end()
        parameters: dict[str, str] = {}
        while parameter := _PARAMETER.match(header, position):
            position = parameter.end()
            name, quoted, plain = parameter.groups()
            parameters.setdefault(name.lower(), plain or re.sub(r"\\(.)", r"\1", quoted))
        yield Challenge(
            scheme=scheme[1].lower(), realm=parameters.get("realm", ""), service=parameters.get("service", "")
        )
