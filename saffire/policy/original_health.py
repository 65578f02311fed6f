"""
Health: whether an original is there again, with the same image as the one that runs now, and since when.

Every sweep asks the original's registry. Only the entry of `status.active` keeps the answers, as two times: every sweep
since `healthySince` found the original healthy, and `provenAt` is the latest of these sweeps that was written to the
status. Any other answer ends the proof, and so does a failure, a failover, or a gap without a sweep. `blockedBy` says
why, if there is a reason.
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
# A write at every sweep would be one a minute, as long as an outage lasts. So `provenAt` is written again only after a
# fifth of `failBack.after`. It counts until the next write is due, and for three sweeps more. If the function was
# absent for longer, it starts a new proof, whatever the status says.
_STEPS = 5
_SLACK = timedelta(minutes=3)


def without_proof(entry: Manifest, blocked_by: str = "") -> dict[str, Any]:
    """Return an entry of `status.active` without any proof, and with the reason why its container does not return."""
    kept = {key: value for key, value in entry.items() if key not in _PROOF}
    return {**kept, "blockedBy": blocked_by} if blocked_by else kept


def is_unproven(entry: Manifest) -> bool:
    """Tell whether an entry of `status.active` has neither a proof nor `blockedBy`."""
    return not any(key in entry for key in _PROOF)


def with_proof(entry: Manifest, fail_back_after: timedelta, *, now: datetime) -> dict[str, Any]:
    """Return an entry whose original was found healthy `now`; an equal one if nothing has to be written."""
    since, last = (_moment(entry, key) for key in _PROOF[:2])
    if since is None or last is None or abs(now - last) > fail_back_after / _STEPS + _SLACK:
        return {**without_proof(entry), "healthySince": timestamp(now), "provenAt": timestamp(now)}
    at = now if now - last >= fail_back_after / _STEPS else last
    return {**without_proof(entry), "healthySince": timestamp(since), "provenAt": timestamp(at)}


def is_due(entry: Manifest, fail_back_after: timedelta, *, now: datetime) -> bool:
    """Tell whether an original that was just proven has been healthy for long enough."""
    since = _moment(entry, "healthySince")
    return since is not None and now - since >= fail_back_after


def _moment(entry: Manifest, key: str) -> datetime | None:
    try:
        return datetime.fromisoformat(text(entry, key)).astimezone(UTC)
    except (ValueError, OverflowError):  # `InvalidManifest` among them
        return None


def running_digests(alternative: Candidate, running: RunningImages) -> frozenset[str]:
    """Return the digests of the image that runs: by the alternative's reference, else by the pods; none if unknown."""
    digest = alternative.reference.digest
    return frozenset({digest}) if digest else running.digests(alternative.image)


def needs_alternative(answer: Availability, digests: frozenset[str]) -> bool:
    """Tell whether the alternative has to be asked too: the original is there, but `digests` do not prove it equal."""
    return isinstance(answer, Available) and not _is_all(digests, answer)


def why_unproven(original: Candidate, answer: Availability, alternative: Availability, digests: frozenset[str]) -> str:
    """
    Return why an original is not proven to be there with the image that runs; `""` if it is proven.

    A runtime may report the digest of one platform's image only, and a CronJob has no running pod most of the time.
    Then the digest in the alternative's registry decides.
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
    """Tell whether there are digests, and an answer has them all."""
    return bool(digests) and digests <= answer.manifests | {answer.digest}
