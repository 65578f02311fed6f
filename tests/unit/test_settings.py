"""Settings: reading them from an environment, with all faults at once."""

from ipaddress import ip_network

import pytest

from saffire.errors import SettingsError
from saffire.kube.kinds import Kinds
from saffire.proxies import Proxies
from saffire.settings import Settings


def test_an_empty_environment_gives_the_defaults() -> None:
    """No variable has to be set."""
    assert Settings() == Settings.from_environ({})


def test_every_setting_can_be_set() -> None:
    """Each variable ends up in its field; levels may be written in any case."""
    environ = {
        "KUBECONFIG": "/etc/kube",
        "SAFFIRE_REQUEST_TIMEOUT_SECONDS": "0.5",
        "SAFFIRE_API_SERVER_X509_STRICT": "False",
        "SAFFIRE_REPAIR_TIMEOUT_SECONDS": "3600",
        "SAFFIRE_SWEEP_SECONDS": "7",
        "SAFFIRE_SWEEP_INTERVAL_SECONDS": "5",
        "SAFFIRE_STALLED_SECONDS": "60",
        "SAFFIRE_PROBE_BUDGET_SECONDS": "0.2",
        "SAFFIRE_PROBES_PER_MINUTE": "60",
        "SAFFIRE_INSECURE_REGISTRIES": "Registry.local:5000, localhost, [::1]:5000,",
        "SAFFIRE_DENIED_NETWORKS": "10.0.0.0/8, fd12::/16,192.168.7.7,",
        "HTTPS_PROXY": "proxy.example:3128",
        "NO_PROXY": "10.0.0.0/8",
        "SAFFIRE_KINDS": "example.com/Widget",
        "SAFFIRE_LOG_LEVEL": "debug",
        "SAFFIRE_LOG_FORMAT": "JSON",
    }
    expected = Settings(
        kubeconfig="/etc/kube",
        request_timeout_seconds=0.5,
        api_server_x509_strict=False,
        repair_timeout_seconds=3600,
        sweep_seconds=7,
        sweep_interval_seconds=5,
        stalled_seconds=60,
        probe_budget_seconds=0.2,
        probes_per_minute=60,
        insecure_registries=frozenset({"registry.local:5000", "localhost", "[::1]:5000"}),
        denied_networks=frozenset(map(ip_network, ("10.0.0.0/8", "fd12::/16", "192.168.7.7/32"))),
        proxies=Proxies(https="http://proxy.example:3128", exceptions=((ip_network("10.0.0.0/8"), ""),)),
        kinds=Kinds().extended("example.com/Widget"),
        log_level="DEBUG",
        log_format="json",
    )
    assert expected == Settings.from_environ(environ)


@pytest.mark.parametrize("value", ["", "soon", "0", "-1", "3600.1", "nan", "inf"])
@pytest.mark.parametrize(
    "name", ["SAFFIRE_REQUEST_TIMEOUT_SECONDS", "SAFFIRE_REPAIR_TIMEOUT_SECONDS", "SAFFIRE_PROBE_BUDGET_SECONDS"]
)
def test_a_timeout_is_a_number_of_seconds_up_to_an_hour(name: str, value: str) -> None:
    """With any other value the process does not start, and the message names the variable."""
    with pytest.raises(SettingsError, match=f"^{name}: wants a number of seconds above 0 and up to 3600$"):
        Settings.from_environ({name: value})


@pytest.mark.parametrize("value", ["", "0", "no", "yes", "True!"])
def test_a_truth_value_is_true_or_false(value: str) -> None:
    """Other words might mean either, so with them the process does not start."""
    with pytest.raises(SettingsError, match=r"^SAFFIRE_API_SERVER_X509_STRICT: wants true or false$"):
        Settings.from_environ({"SAFFIRE_API_SERVER_X509_STRICT": value})
    assert Settings.from_environ({"SAFFIRE_API_SERVER_X509_STRICT": "true"}).api_server_x509_strict


@pytest.mark.parametrize("value", ["", "few", "-1", "1001", "1e2", "6.5", "00006", "\u0663"])
def test_probes_per_minute_are_a_whole_number(value: str) -> None:
    """It is up to a thousand; 0 turns the probes off."""
    expected = "SAFFIRE_PROBES_PER_MINUTE: wants a whole number from 0 to 1000"
    with pytest.raises(SettingsError) as error:
        Settings.from_environ({"SAFFIRE_PROBES_PER_MINUTE": value})
    assert expected == str(error.value)
    assert 0 == Settings.from_environ({"SAFFIRE_PROBES_PER_MINUTE": "0"}).probes_per_minute


@pytest.mark.parametrize(
    "value", ["http://localhost:5000", "registry", "localhost/app", "localhost:port", "a b", "index.docker.io", "*"]
)
def test_a_registry_is_written_as_in_a_reference(value: str) -> None:
    """With a URL, a path, a glob or a bare word the process does not start, and the message names it."""
    expected = f"SAFFIRE_INSECURE_REGISTRIES: {value}: wants host[:port] as in a reference"
    with pytest.raises(SettingsError) as error:
        Settings.from_environ({"SAFFIRE_INSECURE_REGISTRIES": f"localhost,{value}"})
    assert expected == str(error.value)


@pytest.mark.parametrize(
    "value", ["10.0.0.1/8", "10.0.0.0/33", "10/8", "10.0.0.0-10.0.0.9", "registry.local", "fd12::/129"]
)
def test_a_denied_network_is_written_as_address_and_bits(value: str) -> None:
    """With a name, a range, or an address inside of a network the process does not start, and the message names it."""
    expected = f"SAFFIRE_DENIED_NETWORKS: {value}: wants address/bits of a network, such as 10.0.0.0/8"
    with pytest.raises(SettingsError) as error:
        Settings.from_environ({"SAFFIRE_DENIED_NETWORKS": f"192.168.0.0/16,{value}"})
    assert expected == str(error.value)


@pytest.mark.parametrize("level", ["DEBUG", "INFO", "WARNING", "ERROR"])
def test_the_levels_are_those_of_the_log(level: str) -> None:
    """Each of them may be set."""
    assert level == Settings.from_environ({"SAFFIRE_LOG_LEVEL": level}).log_level


@pytest.mark.parametrize("value", ["", "yaml", "auto,json"])
def test_a_format_of_the_log_is_known(value: str) -> None:
    """With another word the process does not start, and the message names those that are known."""
    with pytest.raises(SettingsError, match=r"^SAFFIRE_LOG_FORMAT: wants one of auto, google, json$"):
        Settings.from_environ({"SAFFIRE_LOG_FORMAT": value})


CLOUD_RUN = {"K_SERVICE": "saffire", "K_REVISION": "saffire-00001", "K_CONFIGURATION": "saffire", "PORT": "8080"}


@pytest.mark.parametrize(
    ("environ", "log_format"),
    [
        ({}, "auto"),
        (CLOUD_RUN, "google"),
        (CLOUD_RUN | {"SAFFIRE_LOG_FORMAT": "auto"}, "google"),
        (CLOUD_RUN | {"SAFFIRE_LOG_FORMAT": "json"}, "json"),
        (CLOUD_RUN | {"KUBERNETES_SERVICE_HOST": "10.96.0.1"}, "auto"),
    ],
)
def test_cloud_run_gets_the_format_of_google_cloud(environ: dict[str, str], log_format: str) -> None:
    """Knative sets the same variables, so a pod of a cluster is not taken for Cloud Run."""
    assert log_format == Settings.from_environ(environ).log_format


def test_all_faults_are_named_at_once() -> None:
    """One start is enough to see every fault."""
    environ = {
        "SAFFIRE_LOG_LEVEL": "loud",
        "SAFFIRE_LOG_FORMAT": "loud",
        "SAFFIRE_REQUEST_TIMEOUT_SECONDS": "x",
        "SAFFIRE_REPAIR_TIMEOUT_SECONDS": "x",
        "HTTPS_PROXY": "http://",
    }
    with pytest.raises(SettingsError) as error:
        Settings.from_environ(environ)
    seconds = "wants a number of seconds above 0 and up to 3600"
    message = (
        f"SAFFIRE_REQUEST_TIMEOUT_SECONDS: {seconds}\nSAFFIRE_REPAIR_TIMEOUT_SECONDS: {seconds}\n"
        "SAFFIRE_LOG_LEVEL: wants one of DEBUG, INFO, WARNING, ERROR\n"
        "SAFFIRE_LOG_FORMAT: wants one of auto, google, json\n"
        "HTTPS_PROXY: wants the URL of a proxy, or host:port"
    )
    assert message == str(error.value)
