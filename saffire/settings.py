"""Settings from environment variables. Each setting is documented with its unit, its default and the reasons."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Any, Self

from saffire.errors import SettingsError
from saffire.kube.kinds import Kinds
from saffire.proxies import InvalidProxy, Proxies
from saffire.registry.reference import InvalidReference, parse_repository

_MAX_SECONDS = 3600
_MAX_PROBES = 1000
_MAX_DIGITS = len(str(_MAX_PROBES))

# What reads the text of a variable, and raises `ValueError` if the text is wrong


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds <= _MAX_SECONDS:
        raise ValueError(f"wants a number of seconds above 0 and up to {_MAX_SECONDS}")
    return seconds


def _truth(text: str) -> bool:
    if text.lower() not in {"true", "false"}:
        raise ValueError("wants true or false")
    return text.lower() == "true"


def _word(*words: str) -> Callable[[str], str]:
    """Return a function that reads one of some words, in upper or lower case."""
    by_lower = {word.lower(): word for word in words}

    def read(text: str) -> str:
        if text.lower() not in by_lower:
            raise ValueError(f"wants one of {', '.join(words)}")
        return by_lower[text.lower()]

    return read


def _probes(text: str) -> int:
    if text.isascii() and text.isdigit() and len(text) <= _MAX_DIGITS and int(text) <= _MAX_PROBES:
        return int(text)
    raise ValueError(f"wants a whole number from 0 to {_MAX_PROBES}")


def _registries(text: str) -> frozenset[str]:
    domains = _entries(text.lower())
    for domain in domains:
        if not _is_domain(domain):
            raise ValueError(f"{domain}: wants host[:port] as in a reference")
    return frozenset(domains)


def _is_domain(text: str) -> bool:
    """Tell whether a text may be the domain of an image reference."""
    try:
        return parse_repository(f"{text}/x").spelled.partition("/")[0] == text
    except InvalidReference:
        return False


def _networks(text: str) -> frozenset[IPv4Network | IPv6Network]:
    networks = set()
    for entry in _entries(text):
        try:
            networks.add(ip_network(entry))
        except ValueError:
            raise ValueError(f"{entry}: wants address/bits of a network, such as 10.0.0.0/8") from None
    return frozenset(networks)


def _entries(text: str) -> list[str]:
    """Return the entries of a list with commas; sorted, so that a message names the same one at each start."""
    return sorted(filter(None, map(str.strip, text.split(","))))


# The settings


@dataclass(frozen=True, kw_only=True, slots=True)
class Settings:
    """
    All settings of Saffire, read from the environment once, when the process starts.

    The metadata of a field has the name of its variable, and the function that reads the text of that variable.
    """

    kubeconfig: str = field(default="", metadata={"KUBECONFIG": str})
    """
    `KUBECONFIG`: the path of a kubeconfig; empty by default.

    If it is empty, Saffire uses the service account of its pod, or `~/.kube/config` if there is no service account.
    """

    request_timeout_seconds: float = field(default=5.0, metadata={"SAFFIRE_REQUEST_TIMEOUT_SECONDS": _seconds})
    """
    `SAFFIRE_REQUEST_TIMEOUT_SECONDS`: the longest that one request to the API server may take; 5 s by default.

    A healthy API server answers in milliseconds. While Saffire waits for an answer, the event source sends no other
    event.
    """

    api_server_x509_strict: bool = field(default=False, metadata={"SAFFIRE_API_SERVER_X509_STRICT": _truth})
    """
    `SAFFIRE_API_SERVER_X509_STRICT`: whether to verify the API server's certificate strictly; not by default.

    A strict verification (`ssl.VERIFY_X509_STRICT`) refuses a certificate without an authority key identifier. Clusters
    of EKS and MicroK8s may have such certificates, and `kubectl` and the kubelet accept them. The signature, the names
    and the dates are verified in any case.
    """

    repair_timeout_seconds: float = field(default=25.0, metadata={"SAFFIRE_REPAIR_TIMEOUT_SECONDS": _seconds})
    """
    `SAFFIRE_REPAIR_TIMEOUT_SECONDS`: the longest that one repair of a namespace may take; 25 s by default.

    A sender with `Prefer: wait` waits for a repair that runs already, and then for the repair of its own request. The
    two repairs together end before the 60 s after which the Knative Service answers 504.
    """

    sweep_seconds: float = field(default=30.0, metadata={"SAFFIRE_SWEEP_SECONDS": _seconds})
    """
    `SAFFIRE_SWEEP_SECONDS`: for how long a sweep starts repairs of further namespaces; 30 s by default.

    A sweep starts every minute, and has to end before the next sweep. The next sweep begins with the namespaces that
    this sweep did not reach.
    """

    sweep_interval_seconds: float = field(default=20.0, metadata={"SAFFIRE_SWEEP_INTERVAL_SECONDS": _seconds})
    """
    `SAFFIRE_SWEEP_INTERVAL_SECONDS`: the shortest time from the start of one sweep to the start of the next; 20 s by
    default.

    Whoever reaches the function can send the ping that asks for a sweep. A ping that comes sooner, or during a sweep,
    is answered without a sweep. A PingSource sends one a minute.
    """

    stalled_seconds: float = field(default=120.0, metadata={"SAFFIRE_STALLED_SECONDS": _seconds})
    """
    `SAFFIRE_STALLED_SECONDS`: how long a pull may take from a registry that gives no response; 120 s by default.

    If a registry accepts connections and never responds, an older container runtime waits, and the kubelet writes no
    Event. So after this time, Saffire asks the registry itself. The pull of a large image takes minutes too, but then
    the registry answers Saffire. It also answers if only a layer stalls: then the pull fails once the runtime gives up.
    """

    probe_budget_seconds: float = field(default=1.5, metadata={"SAFFIRE_PROBE_BUDGET_SECONDS": _seconds})
    """
    `SAFFIRE_PROBE_BUDGET_SECONDS`: the longest that Saffire checks candidates for a failing image; 1.5 s by default.

    The time is for all candidates together. A registry that works answers in tenths of a second. While pods fail,
    Saffire does not wait longer for a registry that may be down.
    """

    probes_per_minute: int = field(default=6, metadata={"SAFFIRE_PROBES_PER_MINUTE": _probes})
    """
    `SAFFIRE_PROBES_PER_MINUTE`: how many probes Saffire sends a minute; 6 by default, and 0 for none.

    A probe asks a registry about an alternative of an image that is in use, in a namespace where no pod fails. The
    condition `Ready` of a source needs these probes. Registries limit requests, and a probe is never urgent.
    """

    insecure_registries: frozenset[str] = field(
        default=frozenset(), metadata={"SAFFIRE_INSECURE_REGISTRIES": _registries}
    )
    """
    `SAFFIRE_INSECURE_REGISTRIES`: registries that Saffire may ask in plain HTTP and at any address; none by default.

    Each is written as `host[:port]`. The owner of a namespace names the repositories that Saffire asks. So Saffire asks
    all other hosts in HTTPS only, and never connects to its own machine, to local links or to the metadata service of a
    cloud.
    """

    denied_networks: frozenset[IPv4Network | IPv6Network] = field(
        default=frozenset(), metadata={"SAFFIRE_DENIED_NETWORKS": _networks}
    )
    """
    `SAFFIRE_DENIED_NETWORKS`: networks that Saffire does not connect to when it asks registries; none by default.

    Each is written as `address/bits`, such as `10.0.0.0/8`, and commas separate them. A registry may be in a private
    network, so these are allowed by default. This machine, its local links and the metadata services of clouds are
    always denied. A registry in `SAFFIRE_INSECURE_REGISTRIES` may be in a denied network.
    """

    proxies: Proxies = field(default_factory=Proxies)
    """
    `HTTPS_PROXY`, `HTTP_PROXY` and `NO_PROXY`: the proxies to registries and to the API server; none by default.

    They mean what they mean on a node (`saffire.proxies`).
    """

    kinds: Kinds = field(default_factory=Kinds, metadata={"SAFFIRE_KINDS": Kinds().extended})
    """
    `SAFFIRE_KINDS`: further kinds that run pods, such as `example.com/Widget=spec.template`, or `example.com/Widget`
    for a kind without a template; none by default.

    Each is written as `group/Kind=path.of.template`, and commas separate them. The function's service account needs a
    role that allows Saffire to get, list and patch objects of these kinds.
    """

    log_level: str = field(default="INFO", metadata={"SAFFIRE_LOG_LEVEL": _word("DEBUG", "INFO", "WARNING", "ERROR")})
    """
    `SAFFIRE_LOG_LEVEL`: DEBUG, INFO, WARNING or ERROR; INFO by default.

    DEBUG adds a line for every CloudEvent that Saffire ignores, and for every readiness probe.
    """

    log_format: str = field(default="auto", metadata={"SAFFIRE_LOG_FORMAT": _word("auto", "google", "json")})
    """
    `SAFFIRE_LOG_FORMAT`: `auto`, `google` or `json`, the format of log lines; `auto` by default.

    `google` adds fields that only the log agents of Google Cloud read, and takes longer to start and more memory.
    `auto` means `google` on Cloud Run and on machines of Google Compute Engine, and `json` elsewhere.
    """

    @classmethod
    def from_environ(cls, environ: Mapping[str, str]) -> Self:
        """Read the settings. If some are wrong, raise `SettingsError`, whose message has one line for each fault."""
        values: dict[str, Any] = {}
        faults: list[str] = []
        for setting in fields(cls):
            for name, read in setting.metadata.items():
                try:
                    if name in environ:
                        values[setting.name] = read(environ[name])
                except ValueError as error:
                    faults.append(f"{name}: {error}")
        try:
            values["proxies"] = Proxies.from_environ(environ)
        except InvalidProxy as error:
            faults.append(str(error))
        if faults:
            raise SettingsError("\n".join(faults))
        # Cloud Run sets `K_SERVICE` (its container runtime contract), but so does every Knative. There, the kubelet
        # sets `KUBERNETES_SERVICE_HOST` besides, as in every container.
        is_cloud_run = "K_SERVICE" in environ and "KUBERNETES_SERVICE_HOST" not in environ
        if is_cloud_run and values.get("log_format", "auto") == "auto":
            values["log_format"] = "google"
        return cls(**values)
