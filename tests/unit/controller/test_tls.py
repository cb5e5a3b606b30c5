"""The report server's certificate is one that a client accepts, by name and by address."""

import asyncio
import datetime as dt
import ssl
from pathlib import Path

import pytest

from cycleops.controller.tls import new_identity

NOW = dt.datetime.now(dt.UTC)
HOSTS = ("cycleops-report.ns.svc", "127.0.0.1")


async def handshake(tmp_path: Path, *, server_hostname: str, authority: str) -> None:
    identity = new_identity(hosts=HOSTS, now=NOW)
    path = tmp_path / "server.pem"
    path.write_text(identity.certificate + identity.key)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(path)

    async def serve(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
    trust = ssl.create_default_context(cadata=authority or identity.authority)
    try:
        port = server.sockets[0].getsockname()[1]
        _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=trust, server_hostname=server_hostname)
        writer.close()
    finally:
        server.close()


@pytest.mark.parametrize("host", HOSTS)
async def test_clients_accept_it(tmp_path: Path, host: str) -> None:
    await handshake(tmp_path, server_hostname=host, authority="")


async def test_clients_refuse_another_name_or_authority(tmp_path: Path) -> None:
    with pytest.raises(ssl.SSLCertVerificationError):
        await handshake(tmp_path, server_hostname="elsewhere", authority="")
    with pytest.raises(ssl.SSLCertVerificationError):
        await handshake(tmp_path, server_hostname=HOSTS[0], authority=new_identity(hosts=HOSTS, now=NOW).authority)


def test_usable_until_a_month_before_its_end_and_for_its_hosts_only() -> None:
    identity = new_identity(hosts=HOSTS, now=NOW)
    assert identity.usable(hosts=HOSTS, now=NOW)
    assert not identity.usable(hosts=(*HOSTS, "other"), now=NOW)
    assert not identity.usable(hosts=HOSTS, now=NOW + dt.timedelta(days=336))
