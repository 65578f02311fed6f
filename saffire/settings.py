"""Settings: what the environment may change, each with its unit, its default and the reason for both."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Self

from saffire.errors import SettingsError
from saffire.kube.kinds import InvalidKind, Kinds
from saffire.registry.reference import InvalidReference, parse_repository

_MOST_PROBES = 1000
_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR")


@dataclass(frozen=True, kw_only=True, slots=True)
class Settings:
    """Everything that can be set, read once at start."""

    kubeconfig: str = ""
    """`KUBECONFIG`: path of a kubeconfig; empty for the pod's service account, else `~/.kube/config`."""

    request_timeout_seconds: float = 5.0
    """
    `SAFFIRE_REQUEST_TIMEOUT_SECONDS`: the longest one request to the API server may take; 5 s.

    A healthy one answers in milliseconds, and the event source sends nothing else while it waits for us.
    """

    repair_timeout_seconds: float = 25.0
    """
    `SAFFIRE_REPAIR_TIMEOUT_SECONDS`: the longest one repair may take; 25 s.

    An event may have to wait for the repair that is under way, and then for its own. Together they stay under the 60 s
    of the Knative Service, which would answer 504.
    """

    sweep_seconds: float = 30.0
    """
    `SAFFIRE_SWEEP_SECONDS`: for how long a sweep goes on to further namespaces; 30 s.

    It begins every minute, so that it is over before the next one; what it leaves out comes first then.
    """

    stalled_seconds: float = 120.0
    """
    `SAFFIRE_STALLED_SECONDS`: how long an image may be pulled from a registry that does not answer; 120 s.

    A registry that takes connections and never answers makes no Event; large images do take minutes, but then their
    registry answers.
    """

    probe_budget_seconds: float = 1.5
    """
    `SAFFIRE_PROBE_BUDGET_SECONDS`: the longest that registries are asked about all candidates of a failure; 1.5 s.

    A registry that works answers in tenths of a second. One that does not is not waited for while pods are down.
    """

    probes_per_minute: int = 6
    """
    `SAFFIRE_PROBES_PER_MINUTE`: how many images registries are asked about in calm weather, each minute; 6.

    What `Ready` tells rests on them. Registries have limits, and nothing hurries: 0 asks nobody.
    """

    insecure_registries: frozenset[str] = frozenset()
    """
    `SAFFIRE_INSECURE_REGISTRIES`: registries that are asked in plain HTTP or at any address, as `host[:port]`; none.

    Repositories are a namespace owner's words. Elsewhere only HTTPS is spoken, and never to this machine, its links or
    a cloud's metadata.
    """

    kinds: Kinds = field(default_factory=Kinds)
    """
    `SAFFIRE_KINDS`: more kinds that run pods, as `group/Kind=path.of.template`, separated by commas; none.

    For each, the function's service account needs a role that lets it get, list and patch them.
    """

    log_level: str = "INFO"
    """`SAFFIRE_LOG_LEVEL`: DEBUG, INFO, WARNING or ERROR; DEBUG adds a line for every ignored event."""

    @classmethod
    def from_environ(cls, environ: Mapping[str, str]) -> Self:
        """Read the settings; raise `SettingsError` that names every fault."""
        faults: list[str] = []
        default = cls()
        request, repair = default.request_timeout_seconds, default.repair_timeout_seconds
        settings = cls(
            kubeconfig=environ.get("KUBECONFIG", default.kubeconfig),
            request_timeout_seconds=_seconds(environ, "SAFFIRE_REQUEST_TIMEOUT_SECONDS", request, faults),
            repair_timeout_seconds=_seconds(environ, "SAFFIRE_REPAIR_TIMEOUT_SECONDS", repair, faults),
            sweep_seconds=_seconds(environ, "SAFFIRE_SWEEP_SECONDS", default.sweep_seconds, faults),
            stalled_seconds=_seconds(environ, "SAFFIRE_STALLED_SECONDS", default.stalled_seconds, faults),
            probe_budget_seconds=_seconds(
                environ, "SAFFIRE_PROBE_BUDGET_SECONDS", default.probe_budget_seconds, faults
            ),
            probes_per_minute=_probes(environ, default.probes_per_minute, faults),
            insecure_registries=_registries(environ, faults),
            kinds=_kinds(environ, faults),
            log_level=environ.get("SAFFIRE_LOG_LEVEL", default.log_level).upper(),
        )
        if settings.log_level not in _LEVELS:
            faults.append(f"SAFFIRE_LOG_LEVEL: wants one of {', '.join(_LEVELS)}")
        if faults:
            raise SettingsError("; ".join(faults))
        return settings


def _kinds(environ: Mapping[str, str], faults: list[str]) -> Kinds:
    """Return the kinds that are known; note in `faults` what cannot be added."""
    try:
        return Kinds().extended(environ.get("SAFFIRE_KINDS", ""))
    except InvalidKind as error:
        faults.append(f"SAFFIRE_KINDS: {error}")
        return Kinds()


def _registries(environ: Mapping[str, str], faults: list[str]) -> frozenset[str]:
    """Return domains as references have them; note in `faults` the first that is none."""
    written = environ.get("SAFFIRE_INSECURE_REGISTRIES", "").lower().split(",")
    domains = frozenset(each.strip() for each in written if each.strip())
    strange = sorted(domain for domain in domains if not _is_domain(domain))
    if strange:
        faults.append(f"SAFFIRE_INSECURE_REGISTRIES: {strange[0]}: wants host[:port] as in a reference")
    return domains


def _is_domain(text: str) -> bool:
    """Tell whether a reference may start with this."""
    try:
        return parse_repository(f"{text}/x").domain == text
    except InvalidReference:
        return False


def _seconds(environ: Mapping[str, str], name: str, default: float, faults: list[str]) -> float:
    """Return a positive number of seconds; note in `faults` what is none."""
    written = environ.get(name)
    if written is None:
        return default
    try:
        seconds = float(written)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds <= 3600:  # noqa: PLR2004 - nothing here may take an hour
        faults.append(f"{name}: wants a number of seconds above 0 and up to 3600")
    return seconds


def _probes(environ: Mapping[str, str], default: int, faults: list[str]) -> int:
    """Return a whole number up to a thousand; note in `faults` what is none."""
    name = "SAFFIRE_PROBES_PER_MINUTE"
    written = environ.get(name, str(default))
    if written.isascii() and written.isdigit() and len(written) <= 4 and int(written) <= _MOST_PROBES:  # noqa: PLR2004 - its digits
        return int(written)
    faults.append(f"{name}: wants a whole number from 0 to {_MOST_PROBES}")
    return default
