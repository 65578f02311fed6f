"""Settings from environment variables. Each setting is documented with its unit, its default and the reasons."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Self

from saffire.errors import SettingsError
from saffire.kube.kinds import InvalidKind, Kinds
from saffire.proxies import InvalidProxy, Proxies
from saffire.registry.reference import InvalidReference, parse_repository

_MAX_PROBES = 1000
_MAX_DIGITS = len(str(_MAX_PROBES))
_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR")
_FORMATS = ("auto", "google", "json")


@dataclass(frozen=True, kw_only=True, slots=True)
class Settings:
    """All settings of Saffire, read from the environment once, when the process starts."""

    kubeconfig: str = ""
    """
    `KUBECONFIG`: the path of a kubeconfig; empty by default.

    If it is empty, Saffire uses the service account of its pod, or `~/.kube/config` if there is no service account.
    """

    request_timeout_seconds: float = 5.0
    """
    `SAFFIRE_REQUEST_TIMEOUT_SECONDS`: the longest that one request to the API server may take; 5 s by default.

    A healthy API server answers in milliseconds. While Saffire waits for an answer, the event source sends no other
    event.
    """

    api_server_x509_strict: bool | None = None
    """
    `SAFFIRE_API_SERVER_X509_STRICT`: whether to verify the API server's certificate strictly; by default as in Python.

    From Python 3.13 on, a verification is strict (`ssl.VERIFY_X509_STRICT`). Then a certificate without an authority
    key identifier is refused, such as some older tools issue, although `kubectl` accepts it. `false` accepts it, too.
    The signature, the names and the dates are verified in any case.
    """

    repair_timeout_seconds: float = 25.0
    """
    `SAFFIRE_REPAIR_TIMEOUT_SECONDS`: the longest that one repair of a namespace may take; 25 s by default.

    A sender with `Prefer: wait` waits for a repair that runs already, and then for the repair of its own request. The
    two repairs together end before the 60 s after which the Knative Service answers 504.
    """

    sweep_seconds: float = 30.0
    """
    `SAFFIRE_SWEEP_SECONDS`: for how long a sweep starts repairs of further namespaces; 30 s by default.

    A sweep starts every minute, and has to end before the next sweep. The next sweep begins with the namespaces that
    this sweep did not reach.
    """

    sweep_interval_seconds: float = 20.0
    """
    `SAFFIRE_SWEEP_INTERVAL_SECONDS`: the shortest time from the start of one sweep to the start of the next; 20 s by
    default.

    Whoever reaches the function can send the ping that asks for a sweep. A ping that comes sooner, or during a sweep,
    is answered without a sweep. A PingSource sends one a minute.
    """

    stalled_seconds: float = 120.0
    """
    `SAFFIRE_STALLED_SECONDS`: how long a pull may take from a registry that gives no response; 120 s by default.

    If a registry accepts connections and never responds, an older container runtime waits, and the kubelet writes no
    Event. So after this time, Saffire asks the registry itself. The pull of a large image takes minutes too, but then
    the registry answers Saffire. It also answers if only a layer stalls: then the pull fails once the runtime gives up.
    """

    probe_budget_seconds: float = 1.5
    """
    `SAFFIRE_PROBE_BUDGET_SECONDS`: the longest that Saffire checks candidates for a failing image; 1.5 s by default.

    The time is for all candidates together. A registry that works answers in tenths of a second. While pods fail,
    Saffire does not wait longer for a registry that may be down.
    """

    probes_per_minute: int = 6
    """
    `SAFFIRE_PROBES_PER_MINUTE`: how many probes Saffire sends a minute; 6 by default, and 0 for none.

    A probe asks a registry about an alternative of an image that is in use, in a namespace where no pod fails. The
    condition `Ready` of a source needs these probes. Registries limit requests, and a probe is never urgent.
    """

    insecure_registries: frozenset[str] = frozenset()
    """
    `SAFFIRE_INSECURE_REGISTRIES`: registries that Saffire may ask in plain HTTP and at any address; none by default.

    Each is written as `host[:port]`. The owner of a namespace names the repositories that Saffire asks. So Saffire asks
    all other hosts in HTTPS only, and never connects to its own machine, to local links or to the metadata service of a
    cloud.
    """

    denied_networks: frozenset[IPv4Network | IPv6Network] = frozenset()
    """
    `SAFFIRE_DENIED_NETWORKS`: networks that Saffire does not connect to when it asks registries; none by default.

    Each is written as `address/bits`, such as `10.0.0.0/8`, and commas separate them. A registry may be in a private
    network, so these are allowed by default. This machine, its local links and the metadata services of clouds are
    denied always. A registry in `SAFFIRE_INSECURE_REGISTRIES` may be in a denied network.
    """

    proxies: Proxies = field(default_factory=Proxies)
    """
    `HTTPS_PROXY`, `HTTP_PROXY` and `NO_PROXY`: the proxies to registries and to the API server; none by default.

    They mean what they mean on a node (`saffire.proxies`).
    """

    kinds: Kinds = field(default_factory=Kinds)
    """
    `SAFFIRE_KINDS`: further kinds that run pods, such as `example.com/Widget=spec.template`, or `example.com/Widget`
    for a kind without a template; none by default.

    Each is written as `group/Kind=path.of.template`, and commas separate them. The function's service account needs a
    role that allows Saffire to get, list and patch objects of these kinds.
    """

    log_level: str = "INFO"
    """
    `SAFFIRE_LOG_LEVEL`: DEBUG, INFO, WARNING or ERROR; INFO by default.

    DEBUG adds a line for every CloudEvent that Saffire ignores, and for every readiness probe.
    """

    log_format: str = "auto"
    """
    `SAFFIRE_LOG_FORMAT`: `auto`, `google` or `json`, the format of log lines; `auto` by default.

    `google` adds fields that only the log agents of Google Cloud read, and takes longer to start and more memory.
    `auto` means `google` on Cloud Run and on machines of Google Compute Engine, and `json` elsewhere.
    """

    @classmethod
    def from_environ(cls, environ: Mapping[str, str]) -> Self:
        """Read the settings. If some are wrong, raise `SettingsError`, whose message has one line for each fault."""
        faults: list[str] = []
        default = cls()
        request, repair = default.request_timeout_seconds, default.repair_timeout_seconds
        settings = cls(
            kubeconfig=environ.get("KUBECONFIG", default.kubeconfig),
            request_timeout_seconds=_seconds(environ, "SAFFIRE_REQUEST_TIMEOUT_SECONDS", request, faults),
            repair_timeout_seconds=_seconds(environ, "SAFFIRE_REPAIR_TIMEOUT_SECONDS", repair, faults),
            api_server_x509_strict=_truth(environ, "SAFFIRE_API_SERVER_X509_STRICT", faults),
            sweep_seconds=_seconds(environ, "SAFFIRE_SWEEP_SECONDS", default.sweep_seconds, faults),
            sweep_interval_seconds=_seconds(
                environ, "SAFFIRE_SWEEP_INTERVAL_SECONDS", default.sweep_interval_seconds, faults
            ),
            stalled_seconds=_seconds(environ, "SAFFIRE_STALLED_SECONDS", default.stalled_seconds, faults),
            probe_budget_seconds=_seconds(
                environ, "SAFFIRE_PROBE_BUDGET_SECONDS", default.probe_budget_seconds, faults
            ),
            probes_per_minute=_probes(environ, default.probes_per_minute, faults),
            insecure_registries=_registries(environ, faults),
            denied_networks=_networks(environ, faults),
            proxies=_proxies(environ, faults),
            kinds=_kinds(environ, faults),
            log_level=environ.get("SAFFIRE_LOG_LEVEL", default.log_level).upper(),
            log_format=_log_format(environ, default.log_format),
        )
        if settings.log_level not in _LEVELS:
            faults.append(f"SAFFIRE_LOG_LEVEL: wants one of {', '.join(_LEVELS)}")
        if settings.log_format not in _FORMATS:
            faults.append(f"SAFFIRE_LOG_FORMAT: wants one of {', '.join(_FORMATS)}")
        if faults:
            raise SettingsError("\n".join(faults))
        return settings


def _log_format(environ: Mapping[str, str], default: str) -> str:
    """
    Return the format of log lines; on Cloud Run, `google` instead of `auto`.

    Cloud Run sets `K_SERVICE` (its container runtime contract), but so does every Knative. There, the kubelet also sets
    `KUBERNETES_SERVICE_HOST`, as in every container.
    """
    log_format = environ.get("SAFFIRE_LOG_FORMAT", default).lower()
    is_cloud_run = "K_SERVICE" in environ and "KUBERNETES_SERVICE_HOST" not in environ
    return "google" if is_cloud_run and log_format == "auto" else log_format


def _kinds(environ: Mapping[str, str], faults: list[str]) -> Kinds:
    """Return the supported kinds with those of `SAFFIRE_KINDS`; if the value cannot be read, add to `faults`."""
    try:
        return Kinds().extended(environ.get("SAFFIRE_KINDS", ""))
    except InvalidKind as error:
        faults.append(f"SAFFIRE_KINDS: {error}")
        return Kinds()


def _registries(environ: Mapping[str, str], faults: list[str]) -> frozenset[str]:
    """
    Return the insecure registries, each as the domain of an image reference.

    If some texts are no domains, add the first of these, in the alphabet, to `faults`.
    """
    entries = environ.get("SAFFIRE_INSECURE_REGISTRIES", "").lower().split(",")
    domains = frozenset(entry.strip() for entry in entries if entry.strip())
    invalid = sorted(domain for domain in domains if not _is_domain(domain))
    if invalid:
        faults.append(f"SAFFIRE_INSECURE_REGISTRIES: {invalid[0]}: wants host[:port] as in a reference")
    return domains


def _networks(environ: Mapping[str, str], faults: list[str]) -> frozenset[IPv4Network | IPv6Network]:
    """
    Return the networks to which Saffire does not connect when it asks registries.

    If some texts are no networks, add the first of these, in the alphabet, to `faults`.
    """
    entries = environ.get("SAFFIRE_DENIED_NETWORKS", "").split(",")
    networks, invalid = set(), []
    for entry in filter(None, map(str.strip, entries)):
        try:
            networks.add(ip_network(entry))
        except ValueError:
            invalid.append(entry)
    if invalid:
        faults.append(f"SAFFIRE_DENIED_NETWORKS: {min(invalid)}: wants address/bits of a network, such as 10.0.0.0/8")
    return frozenset(networks)


def _proxies(environ: Mapping[str, str], faults: list[str]) -> Proxies:
    """Return the proxies of the environment; if a variable names none, add to `faults`."""
    try:
        return Proxies.from_environ(environ)
    except InvalidProxy as error:
        faults.append(str(error))
        return Proxies()


def _is_domain(text: str) -> bool:
    """Tell whether this text may be the domain of an image reference."""
    try:
        return parse_repository(f"{text}/x").spelled.partition("/")[0] == text
    except InvalidReference:
        return False


def _seconds(environ: Mapping[str, str], name: str, default: float, faults: list[str]) -> float:
    """
    Return a number of seconds, above 0 and up to 3600; `default` if the variable is not set.

    If the value is not such a number, add to `faults`.
    """
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


def _truth(environ: Mapping[str, str], name: str, faults: list[str]) -> bool | None:
    """Return a truth value; `None` if the variable is not set. If the value is another word, add to `faults`."""
    words = {"true": True, "false": False}
    value = environ.get(name)
    if value is not None and value.lower() not in words:
        faults.append(f"{name}: wants true or false")
    return None if value is None else words.get(value.lower())


def _probes(environ: Mapping[str, str], default: int, faults: list[str]) -> int:
    """
    Return the number of probes a minute, from 0 to 1000; `default` if the variable is not set.

    If the value is not such a whole number, add to `faults`.
    """
    name = "SAFFIRE_PROBES_PER_MINUTE"
    value = environ.get(name, str(default))
    if value.isascii() and value.isdigit() and len(value) <= _MAX_DIGITS and int(value) <= _MAX_PROBES:
        return int(value)
    faults.append(f"{name}: wants a whole number from 0 to {_MAX_PROBES}")
    return default
