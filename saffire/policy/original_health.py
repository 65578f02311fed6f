"""
Health: whether an original is there again, as the image that runs now, and since when.

It is asked at every sweep, and nobody remembers the answers but the entry of `status.active`, in two times: every look
since `healthySince` found it so, and of these looks the one at `provenAt` was written down. Any other answer ends the
proof, and so does a failure, a failover, or a gap in which nobody looked; `blockedBy` says why, if there is a reason.
"""

from datetime import UTC, datetime, timedelta
from typing import Any

from saffire.kube.manifest import Manifest, text
from saffire.policy.history import timestamp
from saffire.policy.running_images import RunningImages
from saffire.policy.verification import describe_answer
from saffire.registry.availability import Availability, Available
from saffire.sources.candidates import Candidate
from saffire.sources.spec import Verification

_PROOF = ("healthySince", "provenAt", "blockedBy")
# A sweep a minute would be a write a minute, for as long as an outage lasts. So the last proof is written down anew
# when a fifth of the patience is over, and believed until the next one is due and three sweeps more: a function that
# was away for longer starts anew, whatever it finds in the status.
_STEPS = 5
_SLACK = timedelta(minutes=3)


def without_proof(entry: Manifest, blocked_by: str = "") -> dict[str, Any]:
    """Return an entry of `active` without any proof of its original's health, and with what keeps it from returning."""
    kept = {key: value for key, value in entry.items() if key not in _PROOF}
    return {**kept, "blockedBy": blocked_by} if blocked_by else kept


def is_unproven(entry: Manifest) -> bool:
    """Tell whether an entry of `active` says nothing of its original's health."""
    return not any(key in entry for key in _PROOF)


def with_proof(entry: Manifest, patience: timedelta, *, now: datetime) -> dict[str, Any]:
    """Return an entry of `active` whose original was found healthy `now`; the same, if nothing is to be written."""
    since, last = (_moment(entry, key) for key in _PROOF[:2])
    if since is None or last is None or abs(now - last) > patience / _STEPS + _SLACK:
        return {**without_proof(entry), "healthySince": timestamp(now), "provenAt": timestamp(now)}
    at = now if now - last >= patience / _STEPS else last
    return {**without_proof(entry), "healthySince": timestamp(since), "provenAt": timestamp(at)}


def is_due(entry: Manifest, patience: timedelta, *, now: datetime) -> bool:
    """Tell whether the original, just proven, has been healthy for long enough."""
    since = _moment(entry, "healthySince")
    return since is not None and now - since >= patience


def _moment(entry: Manifest, key: str) -> datetime | None:
    try:
        return datetime.fromisoformat(text(entry, key)).astimezone(UTC)
    except (ValueError, OverflowError):  # `InvalidManifest` among them
        return None


def running_digests(alternative: Candidate, running: RunningImages) -> frozenset[str]:
    """Return the digests of what runs on an alternative, by its own name or by the pods; none where nobody tells."""
    digest = alternative.reference.digest
    return frozenset({digest}) if digest else running.digests(alternative.image)


def needs_alternative(answer: Availability, digests: frozenset[str]) -> bool:
    """Tell whether the alternative has to be asked too: the original is there, and not by the digests of what runs."""
    return isinstance(answer, Available) and not _is_all(digests, answer)


def why_unproven(original: Candidate, answer: Availability, alternative: Availability, digests: frozenset[str]) -> str:
    """
    Return why an original is not proven to be there and equal to what runs; `""` if it is.

    A runtime may tell the digest of one platform's image, and nothing runs of a CronJob at most times. Then the
    alternative tells, by its own digest, what the name stands for that is to be given up.
    """
    if not isinstance(answer, Available):
        return f"{original.image}: {describe_answer(answer, original.reference.repository.domain)}"
    if original.source.verification is Verification.STRICT and not answer.complete:
        return f"{original.image}: it is there, but not proven whole"
    if _is_all(digests, answer):
        return ""
    if not isinstance(alternative, Available):
        return f"{original.image}: it is there, but nothing tells that it is the same image"
    is_same = alternative.digest == answer.digest and (not digests or _is_all(digests, alternative))
    return "" if is_same else f"{original.image}: it is another image than the one that runs"


def _is_all(digests: frozenset[str], answer: Available) -> bool:
    """Tell whether all that is known to run is the image of an answer."""
    return bool(digests) and digests <= answer.manifests | {answer.digest}
