"""
Patience: for how long an original must have been proven healthy before workloads return to it, by `spec.failBack`.

A length of time is written as Kubernetes writes it, in hours, minutes and seconds: `30m`, `1h30m`, `90s`.
"""

import re
from datetime import timedelta

from saffire.manifest import Manifest, mapping, text

_DEFAULT = "30m"
_LENGTH = re.compile(r"(?:(?P<h>[0-9]{1,15})h)?(?:(?P<m>[0-9]{1,15})m)?(?:(?P<s>[0-9]{1,15})s)?")
_SECONDS = {"h": 3600, "m": 60, "s": 1}
# Ten years are as good as never, and no sum with a time overflows.
_LONGEST = 10 * 365 * 24 * 3600


def read_patience(source: Manifest, faults: list[str]) -> timedelta | None:
    """Return the time of a source that wants workloads to return, `None` where they never do; note what is wrong."""
    wish = mapping(source, "spec", "failBack")
    policy = text(wish, "policy") or "Never"
    if policy not in {"Never", "Automatic"}:
        faults.append("spec.failBack.policy: wants one of Never, Automatic")
    if policy != "Automatic":
        return None
    match = _LENGTH.fullmatch(text(wish, "after") or _DEFAULT)
    seconds = sum(int(match[unit] or 0) * size for unit, size in _SECONDS.items()) if match else 0
    if not seconds:
        faults.append("spec.failBack.after: wants a length of time such as 90s, 30m or 1h30m")
    return timedelta(seconds=min(seconds, _LONGEST))
