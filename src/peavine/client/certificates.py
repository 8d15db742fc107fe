"""Asking the cluster for a certificate: a CertificateSigningRequest, and the wait until it is signed or refused.

Follows "Certificates and Certificate Signing Requests". Keys are made here and never leave the process.
"""

from __future__ import annotations

import asyncio
import base64
import ipaddress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from peavine.client.rest import Client
from peavine.client.transport import Unreachable
from peavine.machinery.errors import ApiError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey

API = "certificates.k8s.io/v1"
# How long a request is waited for before another one is made.
WAIT_SECONDS_MAX = 15 * 60.0
RETRY_SECONDS = 1.0


class Refused(Exception):
    """The request was denied, or could not be signed; the message says why."""


@dataclass(frozen=True)
class Subject:
    """What a certificate is asked for: the signer, its usages, whom and what it names."""

    signer: str
    common_name: str
    organizations: tuple[str, ...] = ()
    usages: tuple[str, ...] = ("digital signature", "client auth")
    dns_names: tuple[str, ...] = ()
    addresses: tuple[str, ...] = ()


def new_key() -> EllipticCurvePrivateKey:
    from cryptography.hazmat.primitives.asymmetric import ec

    return ec.generate_private_key(ec.SECP256R1())


def key_pem(key: EllipticCurvePrivateKey) -> str:
    from cryptography.hazmat.primitives import serialization

    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return pem.decode()


def read_key(pem: bytes) -> EllipticCurvePrivateKey:
    """The key of `key_pem`. Raises ValueError."""
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    return load_pem_private_key(pem, None)  # type: ignore[return-value]


def request_pem(subject: Subject, key: EllipticCurvePrivateKey) -> bytes:
    """The PKCS#10 request."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.serialization import Encoding

    attributes = [x509.NameAttribute(x509.NameOID.ORGANIZATION_NAME, name) for name in subject.organizations]
    attributes.append(x509.NameAttribute(x509.NameOID.COMMON_NAME, subject.common_name))
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name(attributes))
    names: list[x509.GeneralName] = [x509.DNSName(name) for name in subject.dns_names]
    names += [x509.IPAddress(ipaddress.ip_address(address)) for address in subject.addresses]
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    return builder.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM)


async def request_certificate(
    client: Client, subject: Subject, key: EllipticCurvePrivateKey, *, seconds_max: float = WAIT_SECONDS_MAX
) -> str:
    """The signed certificate (PEM), once somebody has approved and signed it.

    Raises Refused where it was denied or failed, TimeoutError after `seconds_max`, ApiError and Unreachable where the
    request itself cannot be made.
    """
    spec = {
        "request": base64.b64encode(request_pem(subject, key)).decode(),
        "signerName": subject.signer,
        "usages": list(subject.usages),
    }
    body = {"apiVersion": API, "kind": "CertificateSigningRequest", "metadata": {"generateName": "csr-"}, "spec": spec}
    made = await client.resource(API, "certificatesigningrequests").create(body)
    async with asyncio.timeout(seconds_max):
        return await _decided(client, made)


async def _decided(client: Client, request: dict[str, Any]) -> str:
    requests, name = client.resource(API, "certificatesigningrequests"), request["metadata"]["name"]
    while True:
        if (found := _certificate(request)) is not None:
            return found
        try:
            version = request["metadata"]["resourceVersion"]
            watched = requests.watch(resource_version=version, field_selector=f"metadata.name={name}")
            async for type_, seen in watched:
                if type_ == "DELETED":
                    raise Refused(f"certificate signing request {name} was deleted")
                if (found := _certificate(seen)) is not None:
                    return found
        except Unreachable:
            await client.clock.sleep(RETRY_SECONDS)
        except ApiError as error:
            if error.code != 410:
                raise
        try:
            request = await requests.get(name)
        except Unreachable:
            await client.clock.sleep(RETRY_SECONDS)


def _certificate(request: dict[str, Any]) -> str | None:
    """The certificate, if it is there. Raises Refused."""
    status = request.get("status") or {}
    for condition in status.get("conditions") or ():
        if condition["type"] in ("Denied", "Failed"):
            why = condition.get("message") or condition.get("reason") or "no reason given"
            raise Refused(f"certificate signing request {request['metadata']['name']} {condition['type']}: {why}")
    data = status.get("certificate")
    return base64.b64decode(data).decode() if data else None
