"""Client certificates whose authority is known over intermediates that the client itself sends."""

import asyncio
import ssl
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID as Oid

from peavine.apiserver.authentication.chains import valid_within

NOW = datetime.now(UTC).replace(microsecond=0)
NOBODY = x509.NameConstraints(None, [x509.DNSName("example.com")])


class Issued:
    """A certificate and its key. `ca`: path length, True for no limit, False for none."""

    def __init__(self, name, issuer=None, *, ca=False, days=10, usages=(), extra=()):
        self.key, self.name = ec.generate_private_key(ec.SECP256R1()), x509.Name([_cn(name), _o(name)])
        builder = (
            x509.CertificateBuilder()
            .subject_name(self.name)
            .issuer_name(issuer.name if issuer else self.name)
            .public_key(self.key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(NOW - timedelta(days=1))
            .not_valid_after(NOW + timedelta(days=days))
        )
        length = None if ca is True or ca is False else ca
        builder = builder.add_extension(x509.BasicConstraints(ca is not False, length), critical=True)
        if usages:
            builder = builder.add_extension(x509.ExtendedKeyUsage(usages), critical=False)
        for extension in extra:
            builder = builder.add_extension(extension, critical=True)
        self.certificate = builder.sign((issuer or self).key, hashes.SHA256())
        self.der = self.certificate.public_bytes(Encoding.DER)

    def pem(self):
        return self.certificate.public_bytes(Encoding.PEM)

    def key_pem(self):
        return self.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def _cn(name):
    return x509.NameAttribute(x509.NameOID.COMMON_NAME, name)


def _o(name):
    return x509.NameAttribute(x509.NameOID.ORGANIZATION_NAME, f"team of {name}")


ROOT = Issued("root", ca=True, days=100)
UPPER = Issued("upper", ROOT, ca=True, days=50)
LOWER = Issued("lower", UPPER, ca=0, days=3)
JANE = Issued("jane", LOWER, days=30, usages=[Oid.CLIENT_AUTH])


def ends(leaf, between, roots=(ROOT,)):
    found = valid_within(leaf.der, [c.der for c in between], [r.der for r in roots])
    return None if found is None else datetime.fromtimestamp(found[1], UTC)


def test_a_chain_over_intermediates_in_any_order_holds_as_long_as_its_shortest_part():
    assert ends(JANE, [LOWER, UPPER]) == ends(JANE, [UPPER, LOWER]) == NOW + timedelta(days=3)
    assert ends(Issued("direct", ROOT, days=7), []) == NOW + timedelta(days=7)
    assert ends(Issued("long", ROOT, days=700), []) == NOW + timedelta(days=100)  # the root's end is everybody's


def test_a_missing_link_a_foreign_root_and_garbage_are_no_chain():
    assert ends(JANE, [LOWER]) is ends(JANE, [UPPER]) is ends(JANE, []) is None
    assert ends(JANE, [LOWER, UPPER], [Issued("root", ca=True)]) is None
    assert valid_within(JANE.der, [b"nothing", LOWER.der, UPPER.der], [b"nothing", ROOT.der])
    assert valid_within(b"nothing", [], [ROOT.der]) is None


@pytest.mark.parametrize(
    "between",
    [
        Issued("middle", ROOT),  # no authority at all: a user's certificate that signs others
        Issued("middle", ROOT, ca=True, usages=[Oid.SERVER_AUTH]),
        Issued("middle", ROOT, ca=True, extra=[NOBODY]),
        Issued("middle", ROOT, ca=True, extra=[x509.KeyUsage(True, *[False] * 8)]),
    ],
)
def test_what_may_not_sign_users_is_no_link(between):
    assert ends(Issued("eve", between), [between]) is None


def test_a_path_length_is_kept():
    """`lower` says that no authority stands below it."""
    below = Issued("below", LOWER, ca=True)
    assert ends(Issued("eve", below), [below, LOWER, UPPER]) is None
    capped = Issued("capped", ca=1)
    upper = Issued("upper", capped, ca=True)
    lower = Issued("lower", upper, ca=True)
    assert ends(Issued("x", upper), [upper], [capped])
    assert ends(Issued("x", lower), [lower, upper], [capped]) is None


def test_the_server_knows_a_client_by_the_intermediates_of_its_handshake(tmp_path):
    from peavine.apiserver.authentication.certificates import Authorities
    from peavine.apiserver.http.tls import sent_chain, server_context
    from peavine.cmd import pki as pki_module

    pki = pki_module.ensure_pki(tmp_path / "data")
    (tmp_path / "clients.crt").write_bytes(ROOT.pem())
    (tmp_path / "jane.pem").write_bytes(JANE.pem() + LOWER.pem() + UPPER.pem() + JANE.key_pem())
    (tmp_path / "lonely.pem").write_bytes(JANE.pem() + JANE.key_pem())
    authorities, seen = Authorities(tmp_path / "clients.crt"), []

    async def handle(reader, writer):
        tls = writer.get_extra_info("ssl_object")
        seen.append(authorities.verify(tls.getpeercert(binary_form=True), sent_chain(tls)))
        writer.close()

    async def main():
        context = server_context(str(pki.cert("apiserver")), str(pki.key("apiserver")), [str(authorities.path)])
        server = await asyncio.start_server(handle, "127.0.0.1", 0, ssl=context)
        port = server.sockets[0].getsockname()[1]
        for name in ("jane.pem", "lonely.pem"):
            client = ssl.create_default_context(cafile=str(pki.cert("ca")))
            client.load_cert_chain(tmp_path / name)
            reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=client)
            await reader.read()
            writer.close()
        server.close()

    asyncio.run(main())
    assert seen[0].common_name == "jane" and seen[0].not_after == (NOW + timedelta(days=3)).timestamp()
    assert seen[1] is None
