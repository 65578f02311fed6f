"""The connection to the API server, while certificates change; what is asked is tested on a control plane."""

import asyncio
import json
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from playground.certificates import CertificateAuthority
from saffire.errors import TransientError
from saffire.kube.client import ApiServer
from testkit.builders import kubeconfig

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}"
UNKNOWN = "the API server's certificate is refused: unable to get local issuer certificate"
LAX = "; SAFFIRE_API_SERVER_X509_STRICT=false accepts it"


class Cluster:
    """An API server on loopback, and the file that names its authority; both may change."""

    def __init__(self, folder: Path, authority: CertificateAuthority) -> None:
        self.ca = folder / "ca.crt"
        self.has_come, self.may_go = asyncio.Event(), asyncio.Event()
        self.may_go.set()
        self._folder = folder
        self._context = authority.server("127.0.0.1")
        self._writers: list[asyncio.StreamWriter] = []

    def trust(self, authority: CertificateAuthority) -> None:
        """Replace `ca.crt` as a kubelet does: by a new file, not by writing the old one."""
        new = self.ca.with_suffix(".new")
        new.write_bytes(authority.pem)
        new.replace(self.ca)

    def serve_with(self, authority: CertificateAuthority) -> None:
        """Show new connections a certificate of this authority."""
        self._context = authority.server("127.0.0.1")

    @asynccontextmanager
    async def connected(self, *, x509_strict: bool = False) -> AsyncIterator[ApiServer]:
        """Run the API server, and yield a client of it."""
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.sni_callback = self._choose
        server = await asyncio.start_server(self._respond, "127.0.0.1", 0, ssl=tls)
        try:
            path = self._kubeconfig(server.sockets[0].getsockname()[1])
            client = await ApiServer.connect(path, timeout_seconds=10, x509_strict=x509_strict)
            try:
                yield client
            finally:
                await client.close()
        finally:
            server.close()
            for writer in self._writers:
                writer.close()
            await server.wait_closed()

    def _kubeconfig(self, port: int) -> str:
        """Write a kubeconfig that names `ca.crt`; return its path."""
        path = Path(kubeconfig(self._folder, f"https://127.0.0.1:{port}"))
        config = json.loads(path.read_text())
        config["clusters"][0]["cluster"]["certificate-authority"] = str(self.ca)
        path.write_text(json.dumps(config))
        return str(path)

    def _choose(self, tls: ssl.SSLObject, _name: str | None, _context: ssl.SSLContext) -> None:
        """Choose the certificate of a new connection; OpenSSL asks for it at each handshake."""
        tls.context = self._context

    async def _respond(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one request, once it may go."""
        self._writers.append(writer)
        await reader.readuntil(b"\r\n\r\n")
        self.has_come.set()
        await self.may_go.wait()
        writer.write(ANSWER)
        await writer.drain()
        writer.close()


@pytest.fixture
def old() -> CertificateAuthority:
    """Give the authority that a cluster begins with."""
    return CertificateAuthority()


@pytest.fixture
def cluster(tmp_path: Path, old: CertificateAuthority) -> Cluster:
    """Give a cluster whose `ca.crt` names its authority."""
    cluster = Cluster(tmp_path, old)
    cluster.trust(old)
    return cluster


async def test_a_new_authority_of_the_cluster_is_trusted(cluster: Cluster) -> None:
    """Requests fail from the change of the certificate until the kubelet has replaced `ca.crt`, and not for ever."""
    new = CertificateAuthority()
    async with cluster.connected() as client:
        assert {} == await client.get("/")
        cluster.serve_with(new)
        with pytest.raises(TransientError, match=UNKNOWN):
            await client.get("/")
        cluster.trust(new)
        assert {} == await client.get("/")


async def test_the_old_authority_is_trusted_no_more(cluster: Cluster) -> None:
    """An authority is replaced because its key may be in wrong hands."""
    async with cluster.connected() as client:
        assert {} == await client.get("/")
        cluster.trust(CertificateAuthority())
        with pytest.raises(TransientError, match=UNKNOWN):
            await client.get("/")


async def test_a_request_under_way_keeps_its_connection(cluster: Cluster) -> None:
    """A change of the authority ends no request."""
    new = CertificateAuthority()
    async with cluster.connected() as client:
        cluster.may_go.clear()
        under_way = asyncio.create_task(client.get("/"))
        await cluster.has_come.wait()
        cluster.trust(new)
        cluster.serve_with(new)
        later = asyncio.create_task(client.get("/"))
        cluster.has_come.clear()
        await cluster.has_come.wait()
        cluster.may_go.set()
        assert ({}, {}) == (await under_way, await later)


@pytest.mark.parametrize("content", [None, b"", b"-----BEGIN CERTIFICATE-----\nMIIB"], ids=["gone", "empty", "half"])
async def test_a_file_that_cannot_be_read_changes_nothing(cluster: Cluster, content: bytes | None) -> None:
    """Somebody may be writing it; what was trusted is trusted until it is there."""
    new = CertificateAuthority()
    async with cluster.connected() as client:
        cluster.ca.unlink()
        if content is not None:
            cluster.ca.write_bytes(content)
        assert {} == await client.get("/")
        cluster.trust(new)
        cluster.serve_with(new)
        assert {} == await client.get("/")


async def test_a_cluster_without_a_readable_authority_asks_for_the_event_again(cluster: Cluster) -> None:
    """The file may be mounted a moment later."""
    cluster.ca.write_bytes(b"")
    with pytest.raises(TransientError, match="the cluster's certificates cannot be read: SSLError"):
        async with cluster.connected():
            pass


# Certificates without key identifiers


@pytest.fixture
def without_identifiers(tmp_path: Path) -> Cluster:
    """Give a cluster whose certificates have no key identifiers, as older tools issue them."""
    authority = CertificateAuthority(strict=False)
    cluster = Cluster(tmp_path, authority)
    cluster.trust(authority)
    return cluster


async def test_a_strict_verification_names_the_setting_that_helps(without_identifiers: Cluster) -> None:
    """Without that, nobody would find out why `kubectl` reaches the API server and Saffire does not."""
    async with without_identifiers.connected(x509_strict=True) as client:
        with pytest.raises(TransientError) as refusal:
            await client.get("/")
    assert str(refusal.value).startswith("the API server's certificate is refused: ")
    assert str(refusal.value).endswith(LAX)


async def test_a_verification_that_is_not_strict_accepts_them(without_identifiers: Cluster) -> None:
    """That is the default: nobody can give a cluster of EKS another certificate, and `kubectl` accepts it."""
    async with without_identifiers.connected() as client:
        assert {} == await client.get("/")


async def test_a_change_of_the_authority_does_not_make_it_strict_again(without_identifiers: Cluster) -> None:
    """The setting holds for as long as the process lives."""
    new = CertificateAuthority(strict=False)
    async with without_identifiers.connected(x509_strict=False) as client:
        assert {} == await client.get("/")
        without_identifiers.trust(new)
        without_identifiers.serve_with(new)
        assert {} == await client.get("/")


@pytest.mark.parametrize("x509_strict", [True, False])
async def test_an_unknown_authority_is_refused_in_any_case(cluster: Cluster, *, x509_strict: bool) -> None:
    """The setting would not help, so the error does not name it."""
    cluster.serve_with(CertificateAuthority())
    async with cluster.connected(x509_strict=x509_strict) as client:
        with pytest.raises(TransientError) as refusal:
            await client.get("/")
    assert UNKNOWN == str(refusal.value)
