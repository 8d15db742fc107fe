"""What the built-in signers accept, and the certificate they make: pure rules, keys come from the caller.

Follows upstream's documentation of `kubernetes.io/kube-apiserver-client`, `…-kubelet`, `kubelet-serving` and
`legacy-unknown`.
"""

from __future__ import annotations

import base64
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from peavine.machinery.x509 import to_pem

Object = dict[str, Any]

CLIENT = "kubernetes.io/kube-apiserver-client"
KUBELET_CLIENT = "kubernetes.io/kube-apiserver-client-kubelet"
KUBELET_SERVING = "kubernetes.io/kubelet-serving"
LEGACY_UNKNOWN = "kubernetes.io/legacy-unknown"
SIGNERS = frozenset((CLIENT, KUBELET_CLIENT, KUBELET_SERVING, LEGACY_UNKNOWN))

# Client certificates of these users are for the processes of a node, beside its kubelet.
NODE_COMPONENTS = frozenset(("system:kube-proxy", "system:peavine:dns", "system:peavine:network"))
NODE_PREFIX, NODES = "system:node:", "system:nodes"
SECONDS_MAX = 365 * 24 * 3600
SECONDS_MIN = 600
BACKDATE_SECONDS = 300

_KUBELET_CLIENT_USAGES = {"digital signature", "client auth"}
_KUBELET_SERVING_USAGES = {"digital signature", "server auth"}
_CLIENT_USAGES = {"digital signature", "key encipherment", "client auth"}


class Unacceptable(ValueError):
    """The request is not one that its signer signs; the message is for the Failed condition."""


@dataclass(frozen=True)
class Request:
    """What a PKCS#10 request asks for."""

    common_name: str
    organizations: tuple[str, ...]
    dns_names: tuple[str, ...] = ()
    addresses: tuple[str, ...] = ()
    emails: tuple[str, ...] = ()
    uris: tuple[str, ...] = ()


@dataclass(frozen=True)
class Approval:
    """A request that may be approved without a human, if its requestor may create this subresource of requests."""

    subresource: str  # of certificatesigningrequests
    message: str


def read_request(spec: Object) -> Request:
    """The request of a CertificateSigningRequest's spec. Raises Unacceptable."""
    return _described(_load(spec))


def automatic_approval(spec: Object) -> Approval | None:
    """How the csrapproving controller treats the request: None leaves it to people."""
    if spec.get("signerName") != KUBELET_CLIENT:
        return None
    try:
        request = read_request(spec)
        check_kubelet_client(request, spec.get("usages") or [])
    except Unacceptable:
        return None
    if spec.get("username") == request.common_name:
        return Approval("selfnodeclient", "Auto approving self kubelet client certificate after SubjectAccessReview.")
    return Approval("nodeclient", "Auto approving kubelet client certificate after SubjectAccessReview.")


def automatic_component_approval(spec: Object) -> Approval | None:
    """The same for the client certificates of a node's other processes: named as their component, and no group."""
    if spec.get("signerName") != CLIENT or set(spec.get("usages") or ()) != _KUBELET_CLIENT_USAGES:
        return None
    try:
        request = read_request(spec)
    except Unacceptable:
        return None
    if request.common_name not in NODE_COMPONENTS or request != Request(request.common_name, ()):
        return None
    if spec.get("username") == request.common_name:
        return Approval("selfnodeclient", f"Auto approving the renewal of {request.common_name}'s certificate.")
    return Approval("nodeclient", f"Auto approving a certificate of {request.common_name} for a joining node.")


def serving_node(spec: Object) -> str:
    """The node whose kubelet asks here for its own serving certificate; empty where that is not what this is."""
    if spec.get("signerName") != KUBELET_SERVING:
        return ""
    try:
        request = read_request(spec)
        check_kubelet_serving(request, spec.get("usages") or [])
    except Unacceptable:
        return ""
    own = spec.get("username") == request.common_name and NODES in (spec.get("groups") or ())
    return request.common_name.removeprefix(NODE_PREFIX) if own else ""


def serving_names_are_the_nodes(spec: Object, node: Object, taken: Collection[str] = ()) -> bool:
    """Whether a kubelet-serving request comes from the node itself and names nothing but the node's own addresses,
    none of which is `taken`.
    """
    name = node["metadata"]["name"]
    if serving_node(spec) != name:
        return False
    request = read_request(spec)
    own = {address.get("address") for address in (node.get("status") or {}).get("addresses") or ()} | {name}
    return set(request.dns_names) | set(request.addresses) <= own.difference(taken)


def check_kubelet_client(request: Request, usages: list[str]) -> None:
    if request.organizations != (NODES,):
        raise Unacceptable("subject organization is not system:nodes")
    if request.dns_names or request.addresses or request.emails or request.uris:
        raise Unacceptable("DNS, IP, email and URI subjectAltNames are not allowed")
    if set(usages) not in (_KUBELET_CLIENT_USAGES, _KUBELET_CLIENT_USAGES | {"key encipherment"}):
        raise Unacceptable("usages did not match [key encipherment digital signature client auth]")
    if not request.common_name.startswith(NODE_PREFIX):
        raise Unacceptable("subject common name does not begin with system:node:")


def check_kubelet_serving(request: Request, usages: list[str]) -> None:
    if request.organizations != (NODES,):
        raise Unacceptable("subject organization is not system:nodes")
    if not request.dns_names and not request.addresses:
        raise Unacceptable("DNS or IP subjectAltName is required")
    if request.emails or request.uris:
        raise Unacceptable("email and URI subjectAltNames are not allowed")
    if set(usages) not in (_KUBELET_SERVING_USAGES, _KUBELET_SERVING_USAGES | {"key encipherment"}):
        raise Unacceptable("usages did not match [key encipherment digital signature server auth]")
    if not request.common_name.startswith(NODE_PREFIX):
        raise Unacceptable("subject common name does not begin with system:node:")


def check(spec: Object) -> None:
    """Whether the signer that the spec names signs this. Raises Unacceptable."""
    request, usages, signer = read_request(spec), spec.get("usages") or [], spec.get("signerName")
    if signer == KUBELET_CLIENT:
        check_kubelet_client(request, usages)
    elif signer == KUBELET_SERVING:
        check_kubelet_serving(request, usages)
    elif signer == CLIENT:
        if "client auth" not in usages or set(usages) - _CLIENT_USAGES:
            raise Unacceptable("usages must include client auth, and no more than key encipherment, digital signature")
        if "system:masters" in request.organizations:
            raise Unacceptable("the system:masters group is not allowed")
    elif signer != LEGACY_UNKNOWN:
        raise Unacceptable(f"no built-in signer is named {signer}")


def sign(spec: Object, ca_certificate: bytes, ca_key: bytes, now: float, seconds_max: int = SECONDS_MAX) -> str:
    """The certificate (PEM) for an approved request, of the length it asks for and at most `seconds_max`.

    `now` is Unix time; CA certificate and key are PEM. Raises Unacceptable.
    """
    from datetime import UTC, datetime

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key

    check(spec)
    request = _load(spec)
    if not request.is_signature_valid:
        raise Unacceptable("the request's signature is not valid")
    authority = x509.load_pem_x509_certificate(ca_certificate)
    seconds = min(max(spec.get("expirationSeconds") or seconds_max, SECONDS_MIN), seconds_max)
    end = min(now + seconds, authority.not_valid_after_utc.timestamp())
    builder = (
        x509.CertificateBuilder()
        .subject_name(request.subject)
        .issuer_name(authority.subject)
        .public_key(request.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(datetime.fromtimestamp(now - BACKDATE_SECONDS, UTC))
        .not_valid_after(datetime.fromtimestamp(end, UTC))
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage(spec.get("usages") or []), critical=True)
    )
    if extended := _extended_usages(spec.get("usages") or []):
        builder = builder.add_extension(x509.ExtendedKeyUsage(extended), critical=False)
    try:
        names = request.extensions.get_extension_for_class(x509.SubjectAlternativeName)
        builder = builder.add_extension(names.value, critical=names.critical)
    except x509.ExtensionNotFound:
        pass
    try:
        own = authority.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
        identifier = x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(own)
        builder = builder.add_extension(identifier, critical=False)
    except x509.ExtensionNotFound:
        pass
    key: Any = load_pem_private_key(ca_key, None)
    return to_pem(builder.sign(key, hashes.SHA256()).public_bytes(Encoding.DER))


def _load(spec: Object) -> Any:
    from cryptography import x509

    try:
        return x509.load_pem_x509_csr(base64.b64decode(spec.get("request") or ""))
    except ValueError as error:
        raise Unacceptable(f"unable to parse csr: {error}") from None


def _described(request: Any) -> Request:
    from cryptography import x509

    def named(oid: Any) -> tuple[str, ...]:
        return tuple(str(attribute.value) for attribute in request.subject.get_attributes_for_oid(oid))

    names: Any = []
    try:
        names = request.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        pass
    except ValueError as error:
        raise Unacceptable(f"unable to parse csr: {error}") from None

    def alternative(kind: Any) -> tuple[str, ...]:
        return tuple(str(value) for value in names.get_values_for_type(kind)) if names else ()

    return Request(
        (named(x509.NameOID.COMMON_NAME) or ("",))[-1],
        named(x509.NameOID.ORGANIZATION_NAME),
        alternative(x509.DNSName),
        alternative(x509.IPAddress),
        alternative(x509.RFC822Name),
        alternative(x509.UniformResourceIdentifier),
    )


def _key_usage(usages: list[str]) -> Any:
    from cryptography import x509

    return x509.KeyUsage(
        digital_signature="digital signature" in usages or "signing" in usages,
        content_commitment="content commitment" in usages,
        key_encipherment="key encipherment" in usages,
        data_encipherment="data encipherment" in usages,
        key_agreement="key agreement" in usages,
        key_cert_sign=False,  # never an authority, whatever is asked
        crl_sign=False,
        encipher_only=False,
        decipher_only=False,
    )


def _extended_usages(usages: list[str]) -> list[Any]:
    from cryptography.x509.oid import ExtendedKeyUsageOID as Oid

    known = {
        "client auth": Oid.CLIENT_AUTH,
        "server auth": Oid.SERVER_AUTH,
        "code signing": Oid.CODE_SIGNING,
        "email protection": Oid.EMAIL_PROTECTION,
        "s/mime": Oid.EMAIL_PROTECTION,
        "timestamping": Oid.TIME_STAMPING,
        "ocsp signing": Oid.OCSP_SIGNING,
        "any": Oid.ANY_EXTENDED_KEY_USAGE,
    }
    return [known[usage] for usage in usages if usage in known]
