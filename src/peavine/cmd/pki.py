"""The cluster's certificate authorities, certificates, service-account keys and kubeconfigs.

Everything lies below `DATA/pki`, `DATA/kubeconfigs` and `DATA/admin.kubeconfig`: files 0600, directories 0700, each
written whole or not at all. `ensure_*` are idempotent: they make what is missing, renew what nears expiry, what a
new CA would no longer vouch for and what lacks a wanted name, and touch nothing else. A running server picks up
renewed files by itself; nothing here restarts anything.
"""

from __future__ import annotations

import base64
import ipaddress
import json
import os
import socket
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from peavine.base.clock import REAL, Clock
from peavine.machinery.x509 import Certificate, MalformedCertificate, pem_blocks, read_certificate, read_pem

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey

DAY = 24 * 3600.0
CA_DAYS = 3650
CERTIFICATE_DAYS = 365
RENEW_BELOW = 1 / 3  # of its lifetime left: a year's certificate is renewed four months before it ends
BACKDATE_SECONDS = 300.0  # clocks of other machines may be behind

CLIENT, SERVER = "client", "server"


@dataclass(frozen=True)
class Wanted:
    """One certificate that should exist. `authority` is the CA's name, "" for a CA itself."""

    name: str
    authority: str
    common_name: str
    organizations: tuple[str, ...] = ()
    usages: tuple[str, ...] = (CLIENT,)
    dns_names: tuple[str, ...] = ()
    addresses: tuple[str, ...] = ()
    days: int = CERTIFICATE_DAYS


# Kubeconfig name -> (common name, organizations).
COMPONENT_USERS = {
    "controller-manager": ("system:kube-controller-manager", ()),
    "scheduler": ("system:kube-scheduler", ()),
    "proxy": ("system:kube-proxy", ()),
    "dns": ("system:peavine:dns", ()),
    "network": ("system:peavine:network", ()),
    "ingress": ("system:peavine:ingress", ()),
    "dashboard": ("system:peavine:dashboard", ()),
}
ADMIN = ("kubernetes-admin", ("system:masters",))


@dataclass
class Pki:
    """Where everything lies, and what this run had to write."""

    data_dir: Path
    written: list[str] = field(default_factory=list)

    @property
    def directory(self) -> Path:
        return self.data_dir / "pki"

    def cert(self, name: str) -> Path:
        return self.directory / f"{name}.crt"

    def key(self, name: str) -> Path:
        return self.directory / f"{name}.key"

    def kubeconfig(self, component: str) -> Path:
        return self.data_dir / "kubeconfigs" / f"{component}.kubeconfig"

    @property
    def admin_kubeconfig(self) -> Path:
        return self.data_dir / "admin.kubeconfig"

    @property
    def service_account_key(self) -> Path:
        return self.directory / "sa.key"

    @property
    def service_account_public_key(self) -> Path:
        return self.directory / "sa.pub"

    @property
    def encryption_config(self) -> Path:
        """The EncryptionConfiguration by which the API server keeps secrets unreadable in its store."""
        return self.directory / "encryption.json"

    def ca_pem(self) -> str:
        return self.cert("ca").read_text()


def ensure_pki(
    data_dir: str | os.PathLike[str],
    *,
    advertise_addresses: Iterable[str] = ("127.0.0.1",),
    service_ip: str = "192.168.0.1",
    dns_names: Iterable[str] = (),
    cluster_domain: str = "cluster.local",
    clock: Clock = REAL,
) -> Pki:
    """CAs, the API server's certificates and the service-account keys. Returns where they are."""
    pki = Pki(Path(data_dir))
    make_private(pki.data_dir)
    make_private(pki.directory)
    for name, common_name in (("ca", "kubernetes-ca"), ("front-proxy-ca", "front-proxy-ca")):
        _ensure_ca(pki, name, common_name, clock)
    host = socket.gethostname().lower()
    names = ["kubernetes", "kubernetes.default", "kubernetes.default.svc"]
    names += [f"kubernetes.default.svc.{cluster_domain}", "localhost", *([host] if _is_dns_name(host) else [])]
    for wanted in (
        Wanted(
            "apiserver",
            "ca",
            "kube-apiserver",
            usages=(SERVER,),
            dns_names=tuple(dict.fromkeys([*names, *dns_names])),
            addresses=tuple(dict.fromkeys(_address(a) for a in [service_ip, "127.0.0.1", "::1", *advertise_addresses])),
        ),
        Wanted("apiserver-kubelet-client", "ca", "kube-apiserver-kubelet-client", ("system:masters",)),
        Wanted("front-proxy-client", "front-proxy-ca", "front-proxy-client"),
    ):
        ensure_certificate(pki, wanted, clock)
    _ensure_service_account_keys(pki)
    _ensure_encryption(pki)
    return pki


def ensure_kubeconfigs(pki: Pki, server: str, *, clock: Clock = REAL) -> dict[str, Path]:
    """The administrator's kubeconfig and one for each component. Returns name -> path ("admin" too)."""
    make_private(pki.data_dir / "kubeconfigs")
    paths = {"admin": kubeconfig(pki, pki.admin_kubeconfig, server, *ADMIN, clock=clock)}
    for component, (common_name, organizations) in COMPONENT_USERS.items():
        path = pki.kubeconfig(component)
        paths[component] = kubeconfig(pki, path, server, common_name, organizations, clock=clock)
    return paths


def ensure_node(pki: Pki, node: str, addresses: Iterable[str], server: str, *, clock: Clock = REAL) -> Path:
    """A node's identity: its kubelet's kubeconfig (returned) and serving certificate `pki/kubelet-NODE.{crt,key}`."""
    wanted = Wanted(
        f"kubelet-{node}",
        "ca",
        f"system:node:{node}",
        ("system:nodes",),
        (SERVER,),
        (node,),
        tuple(dict.fromkeys(_address(a) for a in addresses)),
    )
    ensure_certificate(pki, wanted, clock)
    make_private(pki.data_dir / "kubeconfigs")
    path = pki.kubeconfig(f"kubelet-{node}")
    return kubeconfig(pki, path, server, f"system:node:{node}", ("system:nodes",), clock=clock)


def ensure_certificate(pki: Pki, wanted: Wanted, clock: Clock = REAL, *, force: bool = False) -> Path:
    """`pki/NAME.crt` and `.key`, made or renewed where needed; returns the certificate's path."""
    path, key_path = pki.cert(wanted.name), pki.key(wanted.name)
    authority = read_pem(pki.cert(wanted.authority).read_bytes())
    current = _read(path)
    if force or current is None or not key_path.exists() or needs_renewal(current, clock) or _differs(current, wanted):
        renew = True
    else:
        renew = current.authority_key_id != authority.subject_key_id
    if renew:
        certificate, key = issue(pki, wanted, clock)
        # The key first: a reader that finds a new key with an old certificate fails its check and tries again.
        write_private(key_path, key)
        write_private(path, certificate)
        pki.written.append(wanted.name)
    return path


def needs_renewal(certificate: Certificate, clock: Clock = REAL) -> bool:
    lifetime = certificate.not_after - certificate.not_before
    return certificate.not_after - clock.time() < lifetime * RENEW_BELOW


def kubeconfig(
    pki: Pki,
    path: Path,
    server: str,
    common_name: str,
    organizations: Iterable[str] = (),
    *,
    clock: Clock = REAL,
    force: bool = False,
) -> Path:
    """A kubeconfig at `path` with a client certificate of its own inside; kept while it is good. Returns `path`.

    It is JSON, which every reader of kubeconfigs takes for the YAML it is, and which spares components a YAML parser.
    """
    wanted = Wanted(path.stem, "ca", common_name, tuple(organizations))
    ca = pki.ca_pem()
    if not force and _kubeconfig_good(path, server, ca, wanted, clock):
        return path
    certificate, key = issue(pki, wanted, clock)
    write_private(path, kubeconfig_text(server, ca, common_name, certificate, key))
    pki.written.append(path.name)
    return path


def kubeconfig_text(server: str, ca: str, user: str, certificate: str, key: str) -> str:
    def encoded(text: str) -> str:
        return base64.b64encode(text.encode()).decode()

    document: dict[str, Any] = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "peavine", "cluster": {"server": server, "certificate-authority-data": encoded(ca)}}],
        "users": [
            {
                "name": user,
                "user": {"client-certificate-data": encoded(certificate), "client-key-data": encoded(key)},
            }
        ],
        "contexts": [{"name": "peavine", "context": {"cluster": "peavine", "user": user}}],
        "current-context": "peavine",
        "preferences": {},
    }
    return json.dumps(document, indent=2) + "\n"


def read_kubeconfig_certificate(path: Path) -> Certificate | None:
    """The client certificate of a kubeconfig that Peavine wrote; None where there is none to read."""
    try:
        document = json.loads(path.read_text())
        user = document["users"][0]["user"]
        if "client-certificate" in user:  # a kubelet's, which is renewed there
            return read_pem(Path(user["client-certificate"]).read_bytes())
        return read_pem(base64.b64decode(user["client-certificate-data"]))
    except (OSError, ValueError, KeyError, IndexError, TypeError):
        return None


def kubeconfig_server(path: Path) -> str:
    """The server that a kubeconfig of this module points to."""
    return str(json.loads(path.read_text())["clusters"][0]["cluster"]["server"])


def issue(pki: Pki, wanted: Wanted, clock: Clock = REAL) -> tuple[str, str]:
    """A new key and a certificate for it, both PEM, signed by the wanted CA; writes nothing."""
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.serialization import load_pem_private_key
    from cryptography.x509.oid import ExtendedKeyUsageOID

    authority = x509.load_pem_x509_certificate(pki.cert(wanted.authority).read_bytes())
    signing_key = load_pem_private_key(pki.key(wanted.authority).read_bytes(), None)
    key = ec.generate_private_key(ec.SECP256R1())
    builder = _builder(wanted, key, clock).issuer_name(authority.subject)
    builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
    builder = builder.add_extension(_key_usage(signature=True), critical=True)
    oids = {CLIENT: ExtendedKeyUsageOID.CLIENT_AUTH, SERVER: ExtendedKeyUsageOID.SERVER_AUTH}
    builder = builder.add_extension(x509.ExtendedKeyUsage([oids[usage] for usage in wanted.usages]), critical=False)
    builder = builder.add_extension(_authority_key_id(authority), critical=False)
    names: list[x509.GeneralName] = [x509.DNSName(name) for name in wanted.dns_names]
    names += [x509.IPAddress(ipaddress.ip_address(address)) for address in wanted.addresses]
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    return _signed(builder, signing_key), _key_pem(key)


def _ensure_ca(pki: Pki, name: str, common_name: str, clock: Clock) -> None:
    if pki.cert(name).exists() and pki.key(name).exists():
        return  # a CA is never replaced silently: everything in the cluster hangs on it
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    builder = _builder(Wanted(name, "", common_name, days=CA_DAYS), key, clock)
    builder = builder.issuer_name(x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, common_name)]))
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    builder = builder.add_extension(_key_usage(signature=True, ca=True), critical=True)
    builder = builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    write_private(pki.key(name), _key_pem(key))
    write_private(pki.cert(name), _signed(builder, key))
    pki.written.append(name)


def _ensure_service_account_keys(pki: Pki) -> None:
    if pki.service_account_key.exists() and pki.service_account_public_key.exists():
        return
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    if pki.service_account_key.exists():
        key: Any = serialization.load_pem_private_key(pki.service_account_key.read_bytes(), None)
    else:
        key = ec.generate_private_key(ec.SECP256R1())
        write_private(pki.service_account_key, _key_pem(key))
    public = key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    write_private(pki.service_account_public_key, public.decode())
    pki.written.append("sa")


def _ensure_encryption(pki: Pki) -> None:
    """A key of its own for this cluster's secrets. What was stored before, unencrypted, stays readable."""
    if pki.encryption_config.exists():
        return
    secret = base64.b64encode(os.urandom(32)).decode()
    providers = [{"secretbox": {"keys": [{"name": "key1", "secret": secret}]}}, {"identity": {}}]
    document = {
        "apiVersion": "apiserver.config.k8s.io/v1",
        "kind": "EncryptionConfiguration",
        "resources": [{"resources": ["secrets"], "providers": providers}],
    }
    write_private(pki.encryption_config, json.dumps(document, indent=2) + "\n")
    pki.written.append("encryption")


def _builder(wanted: Wanted, key: EllipticCurvePrivateKey, clock: Clock) -> Any:
    from datetime import UTC, datetime

    from cryptography import x509

    now = clock.time()
    attributes = [x509.NameAttribute(x509.NameOID.ORGANIZATION_NAME, name) for name in wanted.organizations]
    attributes.append(x509.NameAttribute(x509.NameOID.COMMON_NAME, wanted.common_name))
    return (
        x509.CertificateBuilder()
        .subject_name(x509.Name(attributes))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(datetime.fromtimestamp(now - BACKDATE_SECONDS, UTC))
        .not_valid_after(datetime.fromtimestamp(now + wanted.days * DAY, UTC))
    )


def _key_usage(*, signature: bool, ca: bool = False) -> Any:
    from cryptography import x509

    return x509.KeyUsage(
        digital_signature=signature,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=ca,
        crl_sign=ca,
        encipher_only=False,
        decipher_only=False,
    )


def _authority_key_id(authority: Any) -> Any:
    from cryptography import x509

    try:
        own = authority.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
        return x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(own)
    except x509.ExtensionNotFound:
        return x509.AuthorityKeyIdentifier.from_issuer_public_key(authority.public_key())


def _signed(builder: Any, key: Any) -> str:
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.serialization import Encoding

    return builder.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM).decode()


def _key_pem(key: EllipticCurvePrivateKey) -> str:
    from cryptography.hazmat.primitives import serialization

    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return pem.decode()


def _kubeconfig_good(path: Path, server: str, ca: str, wanted: Wanted, clock: Clock) -> bool:
    certificate = read_kubeconfig_certificate(path)
    if certificate is None or needs_renewal(certificate, clock) or _differs(certificate, wanted):
        return False
    cluster = json.loads(path.read_text())["clusters"][0]["cluster"]
    return cluster["server"] == server and base64.b64decode(cluster["certificate-authority-data"]).decode() == ca


def _read(path: Path) -> Certificate | None:
    try:
        return read_certificate(pem_blocks(path.read_bytes())[0])
    except (OSError, IndexError, MalformedCertificate):
        return None


def _differs(certificate: Certificate, wanted: Wanted) -> bool:
    """Whether the certificate says less, or something else, than what is wanted."""
    return (
        certificate.common_name != wanted.common_name
        or tuple(certificate.organizations) != wanted.organizations
        or not set(wanted.dns_names) <= set(certificate.dns_names)
        or not set(wanted.addresses) <= set(certificate.ip_addresses)
    )


def _address(text: str) -> str:
    return str(ipaddress.ip_address(text))


def _is_dns_name(name: str) -> bool:
    return bool(name) and len(name) <= 253 and all((c.isalnum() and c.isascii()) or c in "-." for c in name)


def make_private(directory: Path) -> None:
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    if directory.stat().st_mode & 0o077:
        directory.chmod(0o700)


def write_private(path: Path, text: str) -> None:
    """Write a file that only its owner can read, whole or not at all, even through a crash."""
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")  # born 0600
    try:
        with os.fdopen(handle, "w") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise
