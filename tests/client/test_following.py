"""A client follows its kubeconfig: a renewed certificate is used without a restart, on every later request."""

import asyncio
import json
import ssl

from peavine.base.clock import SimulatedClock
from peavine.client import Client
from peavine.client import rest as subject
from peavine.client.config import load_kubeconfig
from peavine.cmd import pki as pki_module
from peavine.machinery.x509 import read_certificate


async def scenario(tmp_path, kubeconfig, renew):
    """The serial numbers that the server saw: before `renew()`, twice, and after."""
    pki = pki_module.Pki(tmp_path)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(pki.cert("ca")))
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_cert_chain(pki.cert("apiserver"), pki.key("apiserver"))

    async def answer(reader, writer):
        der = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
        body = json.dumps({"serial": str(read_certificate(der).serial), "port": writer.get_extra_info("peername")[1]})
        while await reader.readuntil(b"\r\n\r\n"):
            writer.write(f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode())

    async def handle(reader, writer):
        try:
            await answer(reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    server = await asyncio.start_server(handle, "127.0.0.1", 0, ssl=context)
    port = server.sockets[0].getsockname()[1]
    kubeconfig(pki, f"https://127.0.0.1:{port}")
    clock = SimulatedClock()
    client = Client(load_kubeconfig(tmp_path / "kubeconfig"), clock=clock)
    seen = [await client.json("GET", "/") for _ in range(2)]
    renew(pki, f"https://127.0.0.1:{port}")
    await clock.advance(subject.FOLLOW_SECONDS + 1)
    seen.append(await client.json("GET", "/"))
    client.close()
    server.close()
    return seen


def test_a_certificate_renewed_inside_the_kubeconfig_is_used_on_a_new_connection(tmp_path):
    pki_module.ensure_pki(tmp_path)

    def write(pki, server):
        pki_module.kubeconfig(pki, tmp_path / "kubeconfig", server, "jane", force=True)

    first, again, after = asyncio.run(scenario(tmp_path, write, write))
    assert first == again  # the same connection
    assert after["serial"] != first["serial"]


def test_a_certificate_renewed_in_a_file_that_the_kubeconfig_names_is_used_too(tmp_path):
    from peavine.kubelet.certificates import CertificateFile, kubeconfig_text

    pki_module.ensure_pki(tmp_path)
    file = CertificateFile(tmp_path / "certs", "kubelet-client")

    def renew(pki, server, now=1e9):
        wanted = pki_module.Wanted("node", "ca", "system:node:one", ("system:nodes",))
        file.write(*pki_module.issue(pki, wanted), now)

    def write(pki, server):
        renew(pki, server, 0)
        (tmp_path / "kubeconfig").write_text(kubeconfig_text(server, pki.ca_pem(), file.current))

    first, again, after = asyncio.run(scenario(tmp_path, write, renew))
    assert first == again and after["serial"] != first["serial"]
