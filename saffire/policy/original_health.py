"""
Health: whether the original of a container is *healthy*, and since when.

The *original* is the image from which Saffire moved the container to an alternative. It is healthy if its registry has
it, and has the same image that the container runs now. In every sweep, Saffire asks the original's registry. The
container's entry of `status.active` is the only place that keeps the *proof*, as two times. Every sweep since
`healthySince` found the original healthy. `provenAt` is the time of the latest of these sweeps that Saffire wrote to
the status. If the registry gives any other answer, the proof ends. It also ends if a listed image cannot be pulled, if
Saffire records another failover of the source in the namespace, or if there was no sweep for too long. `blockedBy` of
the entry says why the container does not return, if there is a reason.
"""

from datetime import datetime, timedelta
from typing import Any

from saffire.kube.manifest import InvalidManifest, Manifest, moment, text
from saffire.policy.history import timestamp
from saffire.policy.running_images import RunningImages
from saffire.policy.verification import describe_answer
from saffire.registry.availability import Availability, Available
from saffire.sources.candidates import Candidate
from saffire.sources.spec import Verification

_PROOF = ("healthySince", "provenAt", "blockedBy")
# If every sweep wrote `provenAt`, Saffire would write a status once a minute for as long as an outage lasts. So Saffire
# writes `provenAt` again only after a fifth of `failBack.after`. The proof is valid until this write is due, and for
# three sweeps (3 minutes) more. If no instance of Saffire ran for longer than that, Saffire starts a new proof,
# whatever the status says.
_STEPS = 5
_SLACK = timedelta(minutes=3)


def without_proof(entry: Manifest, blocked_by: str = "") -> dict[str, Any]:
    """
    Return an entry of `status.active` without its proof, and with `blocked_by` as its `blockedBy`.

    `blocked_by` says why the container does not return to its original; `""` if no reason is to be written.
    """
    kept = {key: value for key, value in entry.items() if key not in _PROOF}
    return {**kept, "blockedBy": blocked_by} if blocked_by else kept


def is_unproven(entry: Manifest) -> bool:
    """Tell whether an entry of `status.active` has no proof that its original is healthy, and no `blockedBy`."""
    return entry.keys().isdisjoint(_PROOF)


def with_proof(entry: Manifest, fail_back_after: timedelta, *, now: datetime) -> dict[str, Any]:
    """
    Return an entry of `status.active` with the proof that its original is healthy `now`.

    If the proof in the entry is recent enough, so that nothing has to be written, the result equals `entry`.
    """
    since, last = (_moment(entry, key) for key in _PROOF[:2])
    if since is None or last is None or abs(now - last) > fail_back_after / _STEPS + _SLACK:
        return {**without_proof(entry), "healthySince": timestamp(now), "provenAt": timestamp(now)}
    at = now if now - last >= fail_back_after / _STEPS else last
    return {**without_proof(entry), "healthySince": timestamp(since), "provenAt": timestamp(at)}


def is_due(entry: Manifest, fail_back_after: timedelta, *, now: datetime) -> bool:
    """
    Tell whether an original has been healthy for at least `fail_back_after`.

    `entry` is its container's entry of `status.active`, with the proof that the original is healthy `now`.
    """
    since = _moment(entry, "healthySince")
    return since is not None and now - since >= fail_back_after


def _moment(entry: Manifest, key: str) -> datetime | None:
    try:
        return moment(text(entry, key))
    except InvalidManifest:
        return None


def running_digests(alternative: Candidate, running: RunningImages) -> frozenset[str]:
    """
    Return the digests of the alternative that a container runs; the set is empty if they are not known.

    If the alternative's reference has a digest, it is the only one. Else they are those in the status of running pods.
    """
    digest = alternative.reference.digest
    return frozenset({digest}) if digest else running.digests(alternative.image)


def needs_alternative(answer: Availability, digests: frozenset[str]) -> bool:
    """
    Tell whether Saffire has to ask the alternative's registry too, after the answer about the original.

    It has to if the original is there, but `digests`, those of the running image, do not prove the original equal.
    """
    return isinstance(answer, Available) and not _is_all(digests, answer)


def why_unproven(original: Candidate, answer: Availability, alternative: Availability, digests: frozenset[str]) -> str:
    """
    Return why an original is not proven healthy: there, and the same image that runs; `""` if it is proven.

    `answer` and `alternative` are the answers of registries about the original and the alternative. `digests` are those
    of the running image. They may not suffice: a runtime may report the digest of one platform's image only, and a
    CronJob has no running pod most of the time. Then the digest in the alternative's registry decides.
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
    """Tell whether the image in a registry's answer has all of these digests; false if there are no digests."""
    return bool(digests) and digests <= answer.manifests | {answer.digest}
