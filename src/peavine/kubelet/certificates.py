"""The kubelet's own certificates: the first one by a bootstrap token (TLS bootstrapping), new ones before they end.

Files as upstream has them, below the certificate directory: `kubelet-client-current.pem` and
`kubelet-server-current.pem`, each certificate and key in one file, links to the newest. Who reads them follows the
link: nothing is restarted. Upstream: "TLS bootstrapping", "Configure Certificate Rotation for the Kubelet".
"""

from __future__ import annotations

import base64
import json
import logging
import os
import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from peavine.base.backoff import Backoff
from peavine.base.clock import REAL, Clock
from peavine.client.certificates import Refused, Subject, key_pem, new_key, read_key, request_certificate
from peavine.client.config import ConfigError, load_kubeconfig
from peavine.client.rest import Client
from peavine.client.transport import Unreachable
from peavine.machinery.errors import ApiError
from peavine.machinery.x509 import Certificate, MalformedCertificate, read_pem

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey

    from peavine.kubelet.kubelet import Kubelet

log = logging.getLogger(__name__)

CLIENT_SIGNER = "kubernetes.io/kube-apiserver-client-kubelet"
SERVING_SIGNER = "kubernetes.io/kubelet-serving"
# A certificate is renewed when this part of its life is over: somewhere between, so that nodes do not ask together.
RENEW_FROM, RENEW_UNTIL = 0.7, 0.9
KEPT = 2  # files of one kind: the current one and the one before
LOOK_SECONDS_MAX = 3600.0  # a clock that was set, an address that changed: noticed after so long at the latest
UNKNOWN_ADDRESSES_SECONDS = 5.0


def client_subject(node: str) -> Subject:
    return Subject(CLIENT_SIGNER, f"system:node:{node}", ("system:nodes",))


def serving_subject(node: str, dns_names: tuple[str, ...], addresses: tuple[str, ...]) -> Subject:
    usages = ("digital signature", "server auth")
    return Subject(SERVING_SIGNER, f"system:node:{node}", ("system:nodes",), usages, dns_names, addresses)


class CertificateFile:
    """`NAME-current.pem` in a directory of 0700: the certificate and its key; 0600, replaced whole."""

    def __init__(self, directory: Path, name: str) -> None:
        self.directory, self.name = directory, name

    @property
    def current(self) -> Path:
        return self.directory / f"{self.name}-current.pem"

    def read(self) -> Certificate | None:
        """The current certificate; None where there is none that could be used."""
        try:
            text = self.current.read_bytes()
            read_key(text)
            return read_pem(text)
        except (OSError, MalformedCertificate, ValueError):
            return None

    def write(self, certificate: str, key: str, now: float) -> None:
        self.directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        stamp = time.strftime("%Y-%m-%d-%H-%M-%S", time.gmtime(now))
        path = self.directory / f"{self.name}-{stamp}.pem"
        write_private(path, certificate.rstrip() + "\n" + key)
        link = self.directory / f".{self.name}-current.pem"
        link.unlink(missing_ok=True)
        link.symlink_to(path.name)
        os.replace(link, self.current)
        for old in sorted(self.directory.glob(f"{self.name}-[0-9]*.pem"))[:-KEPT]:
            old.unlink()


def write_private(path: Path, text: str) -> None:
    """A file of 0600, whole or not at all."""
    draft = path.with_name(f".{path.name}.new")
    draft.unlink(missing_ok=True)
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.replace(draft, path)


class Rotation:
    """Keeps one certificate of this node fresh. Ends by cancellation."""

    def __init__(
        self,
        client: Client,
        file: CertificateFile,
        subject: Callable[[], Subject | None],
        *,
        renewed: Callable[[], None] = lambda: None,
        clock: Clock = REAL,
    ) -> None:
        """`subject` is asked each time (None: not known yet); `renewed` is called after each change."""
        self.client, self.file, self.subject, self.clock = client, file, subject, clock
        self._renewed = renewed
        self._share = random.uniform(RENEW_FROM, RENEW_UNTIL)

    async def run(self) -> None:
        backoff = Backoff(first=2.0, most=128.0, jitter=0.1)
        while True:
            left = self.seconds_left()
            if left > 0:
                await self.clock.sleep(min(left, LOOK_SECONDS_MAX))
                continue
            try:
                done = await self.renew()
            except (ApiError, Unreachable, Refused, TimeoutError) as error:
                log.warning("%s: no new certificate: %s", self.file.name, error or "not signed in time")
                await self.clock.sleep(backoff.next())
                continue
            backoff.forget()
            if not done:
                await self.clock.sleep(UNKNOWN_ADDRESSES_SECONDS)

    def seconds_left(self) -> float:
        """Until the next one should be asked for; zero or less: now."""
        certificate, wanted = self.file.read(), self.subject()
        if certificate is None:
            return 0.0
        if wanted is not None and not _covers(certificate, wanted):
            return 0.0
        lifetime = certificate.not_after - certificate.not_before
        return certificate.not_before + lifetime * self._share - self.clock.time()

    async def renew(self) -> bool:
        """Ask for a new one and keep it; False where it cannot be asked for yet. Raises as request_certificate."""
        wanted = self.subject()
        if wanted is None:
            return False
        key = new_key()
        certificate = await request_certificate(self.client, wanted, key)
        self.file.write(certificate, key_pem(key), self.clock.time())
        self._share = random.uniform(RENEW_FROM, RENEW_UNTIL)
        log.info("%s: a new certificate until %s", self.file.name, time.ctime(read_pem(certificate).not_after))
        self._renewed()
        return True


def rotations(kubelet: Kubelet, served: Callable[[], None]) -> list[Rotation]:
    """What the kubelet's options ask for. Its options name the serving certificate afterwards; `served` is called when
    there is a new one.
    """
    options, client, directory, found = kubelet.options, kubelet.client, Path(kubelet.options.cert_dir), []
    if options.rotate_certificates:
        file = CertificateFile(directory, "kubelet-client")

        def point() -> None:
            """A kubeconfig that came with a certificate of its own is led to the rotated one."""
            config = client.config
            if config.origin is not None and file.current not in config.origin.files:
                write_private(config.origin.path, kubeconfig_text(config.server, config.ca, file.current))

        wanted = client_subject(options.node_name)
        found.append(Rotation(client, file, lambda: wanted, renewed=point, clock=kubelet.clock))
    if options.server_tls_bootstrap:
        file = CertificateFile(directory, "kubelet-server")
        options.tls_cert_file = options.tls_private_key_file = str(file.current)
        node = next(iter(kubelet.nodes.values()))

        def names() -> Subject | None:
            return serving_subject(options.node_name, (node.hostname,), tuple(node.ips)) if node.ips else None

        found.append(Rotation(client, file, names, renewed=served, clock=kubelet.clock))
    return found


def _covers(certificate: Certificate, wanted: Subject) -> bool:
    return (
        certificate.common_name == wanted.common_name
        and set(wanted.dns_names) <= set(certificate.dns_names)
        and set(wanted.addresses) <= set(certificate.ip_addresses)
    )


def still_good(kubeconfig: str | os.PathLike[str], clock: Clock = REAL) -> bool:
    """Whether this kubeconfig can be used as it is: it has a certificate that has not ended, or needs none."""
    try:
        config = load_kubeconfig(kubeconfig)
        return not config.certificate or read_pem(config.certificate).not_after > clock.time()
    except (OSError, ConfigError, MalformedCertificate, ValueError):
        return False


async def bootstrap(
    kubeconfig: str, bootstrap_kubeconfig: str, node: str, directory: Path, *, clock: Clock = REAL
) -> None:
    """Return once `kubeconfig` identifies this node: where it does not, a certificate is asked for first.

    The key is kept until its certificate has come: a kubelet that is killed meanwhile goes on with the same one. Waits
    as long as it takes. Raises ConfigError, OSError for a bootstrap kubeconfig that cannot be used.
    """
    if still_good(kubeconfig, clock):
        return
    config = load_kubeconfig(bootstrap_kubeconfig)
    file, key_file = CertificateFile(directory, "kubelet-client"), directory / "kubelet-client.key.tmp"
    key = _kept_key(key_file)
    client = Client(config, user_agent="kubelet/v1.37.0 (linux/amd64) peavine", clock=clock)
    backoff = Backoff(first=1.0, most=60.0, jitter=0.2)
    while True:
        try:
            certificate = await request_certificate(client, client_subject(node), key)
            break
        except (ApiError, Unreachable, Refused, TimeoutError) as error:
            log.warning("no certificate for node %s yet: %s", node, error or "not signed in time")
            await clock.sleep(backoff.next())
    client.close()
    file.write(certificate, key_pem(key), clock.time())
    write_private(Path(kubeconfig), kubeconfig_text(config.server, config.ca, file.current))
    key_file.unlink()


def _kept_key(path: Path) -> EllipticCurvePrivateKey:
    try:
        return read_key(path.read_bytes())
    except (OSError, ValueError):
        key = new_key()
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        write_private(path, key_pem(key))
        return key


def kubeconfig_text(server: str, ca: str, pem: Path) -> str:
    """The kubeconfig of a node: JSON, which is YAML; its certificate is the file's, whichever is current."""
    user = {"client-certificate": str(pem), "client-key": str(pem)}
    cluster = {"server": server, "certificate-authority-data": base64.b64encode(ca.encode()).decode()}
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "default-cluster", "cluster": cluster}],
        "users": [{"name": "default-auth", "user": user}],
        "contexts": [
            {"name": "default-context", "context": {"cluster": "default-cluster", "user": "default-auth"}},
        ],
        "current-context": "default-context",
    }
    return json.dumps(document, indent=2) + "\n"
