"""Settings from environment variables, each with its unit, its default and the reason for both."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Self

from saffire.errors import SettingsError
from saffire.kube.kinds import InvalidKind, Kinds
from saffire.registry.reference import InvalidReference, parse_repository

_MAX_PROBES = 1000
_MAX_DIGITS = len(str(_MAX_PROBES))
_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR")


@dataclass(frozen=True, kw_only=True, slots=True)
class Settings:
    """All settings, read once at the start."""

    kubeconfig: str = ""
    """`KUBECONFIG`: path of a kubeconfig; empty for the pod's service account, else `~/.kube/config`."""

    request_timeout_seconds: float = 5.0
    """
    `SAFFIRE_REQUEST_TIMEOUT_SECONDS`: the longest that one request to the API server may take; 5 s.

    A healthy API server answers in milliseconds. While Saffire waits for it, the event source sends no other event.
    """

    repair_timeout_seconds: float = 25.0
    """
    `SAFFIRE_REPAIR_TIMEOUT_SECONDS`: the longest that one repair may take; 25 s.

    An event may have to wait for the repair that runs, and then for its own. Both together end before the 60 s after
    which the Knative Service answers 504.
    """

    sweep_seconds: float = 30.0
    """
    `SAFFIRE_SWEEP_SECONDS`: how long a sweep starts with further namespaces; 30 s.

    A sweep starts every minute, and has to end before the next one. The next one starts with the namespaces that are
    left.
    """

    stalled_seconds: float = 120.0
    """
    `SAFFIRE_STALLED_SECONDS`: how long an image may be pulled from a registry that does not answer; 120 s.

    If a registry accepts connections and never answers, the kubelet writes no Event. A large image takes minutes too,
    but then its registry answers Saffire.
    """

    probe_budget_seconds: float = 1.5
    """
    `SAFFIRE_PROBE_BUDGET_SECONDS`: the longest that Saffire checks all candidates for a failing image; 1.5 s.

    A registry that works answers in tenths of a second. Saffire does not wait for one that is down while pods fail.
    """

    probes_per_minute: int = 6
    """
    `SAFFIRE_PROBES_PER_MINUTE`: how many images Saffire checks per minute in namespaces where no pod fails; 6.

    The condition `Ready` of a source needs these probes. Registries limit requests, and a probe is never urgent. With
    0, Saffire sends no probes.
    """

    insecure_registries: frozenset[str] = frozenset()
    """
    `SAFFIRE_INSECURE_REGISTRIES`: registries that may speak plain HTTP and have any address, as `host[:port]`; none.

    The owner of a namespace names the repositories. To all other hosts, Saffire speaks only HTTPS, and it never
    connects to its own machine, local links or the metadata service of a cloud.
    """

    kinds: Kinds = field(default_factory=Kinds)
    """
    `SAFFIRE_KINDS`: further kinds that run pods, as `group/Kind=path.of.template`, separated by commas; none.

    The function's service account needs a role that allows to get, list and patch them.
    """

    log_level: str = "INFO"
    """`SAFFIRE_LOG_LEVEL`: DEBUG, INFO, WARNING or ERROR; DEBUG adds a line for every ignored event."""

    @classmethod
    def from_environ(cls, environ: Mapping[str, str]) -> Self:
        """Read the settings; raise `SettingsError` that names every fault, one a line."""
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
            raise SettingsError("\n".join(faults))
        return settings


def _kinds(environ: Mapping[str, str], faults: list[str]) -> Kinds:
    """Return the supported kinds; add to `faults` if the setting cannot be read."""
    try:
        return Kinds().extended(environ.get("SAFFIRE_KINDS", ""))
    except InvalidKind as error:
        faults.append(f"SAFFIRE_KINDS: {error}")
        return Kinds()


def _registries(environ: Mapping[str, str], faults: list[str]) -> frozenset[str]:
    """Return the domains of the registries, as in references; add to `faults` the first that is no domain."""
    entries = environ.get("SAFFIRE_INSECURE_REGISTRIES", "").lower().split(",")
    domains = frozenset(entry.strip() for entry in entries if entry.strip())
    invalid = sorted(domain for domain in domains if not _is_domain(domain))
    if invalid:
        faults.append(f"SAFFIRE_INSECURE_REGISTRIES: {invalid[0]}: wants host[:port] as in a reference")
    return domains


def _is_domain(text: str) -> bool:
    """Tell whether an image reference may start with this text."""
    try:
        return parse_repository(f"{text}/x").domain == text
    except InvalidReference:
        return False


def _seconds(environ: Mapping[str, str], name: str, default: float, faults: list[str]) -> float:
    """Return a positive number of seconds; add to `faults` if the value is none."""
    value = environ.get(name)
    if value is None:
        return default
    try:
        seconds = float(value)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds <= 3600:  # noqa: PLR2004 - no setting needs more than an hour
        faults.append(f"{name}: wants a number of seconds above 0 and up to 3600")
    return seconds


def _probes(environ: Mapping[str, str], default: int, faults: list[str]) -> int:
    """Return a whole number up to a thousand; add to `faults` if the value is none."""
    name = "SAFFIRE_PROBES_PER_MINUTE"
    value = environ.get(name, str(default))
    if value.isascii() and value.isdigit() and len(value) <= _MAX_DIGITS and int(value) <= _MAX_PROBES:
        return int(value)
    faults.append(f"{name}: wants a whole number from 0 to {_MAX_PROBES}")
    return default
