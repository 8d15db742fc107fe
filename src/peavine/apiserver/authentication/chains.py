"""From a client's certificate to an authority that we know, directly or over the intermediates that the client sent."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cryptography.x509 import Certificate

# A longer way is nobody's honest certificate, and signatures are dear.
INTERMEDIATES_MAX = 5


def valid_within(
    leaf: bytes, intermediates: Sequence[bytes], authorities: Sequence[bytes]
) -> tuple[float, float] | None:
    """The time (from, to; Unix seconds) in which a chain from `leaf` to one of `authorities` holds; None without one.

    All DER. An intermediate must be an authority itself, for client certificates where it says for what, and have room
    below it where it limits that; one with constraints on names is not used, for they are not understood here.
    """
    from cryptography import x509

    roots: list[Certificate] = []
    between: list[Certificate] = []
    for where, ders in ((roots, authorities), (between, intermediates[:INTERMEDIATES_MAX])):
        for der in ders:
            try:
                where.append(x509.load_der_x509_certificate(der))
            except ValueError:
                continue
    try:
        first = x509.load_der_x509_certificate(leaf)
    except ValueError:
        return None
    return _way(first, [c for c in between if _may_sign_clients(c)], roots, 0)


def _way(
    certificate: Certificate, between: list[Certificate], roots: list[Certificate], below: int
) -> tuple[float, float] | None:
    """`below`: authorities on the way already, which limits who may stand above them."""
    for root in roots:
        if _room(root, below) and _signed_by(certificate, root):
            return _narrowed(_times(root), _times(certificate))
    for issuer in between:
        if _room(issuer, below) and _signed_by(certificate, issuer):
            left = [other for other in between if other is not issuer]
            found = _way(issuer, left, roots, below + 1)
            if found is not None:
                return _narrowed(found, _times(certificate))
    return None


def _may_sign_clients(certificate: Certificate) -> bool:
    from cryptography import x509
    from cryptography.x509.oid import ExtendedKeyUsageOID as Oid
    from cryptography.x509.oid import ExtensionOID

    try:
        found = {extension.oid: extension.value for extension in certificate.extensions}
    except ValueError:
        return False
    basic, usage = found.get(ExtensionOID.BASIC_CONSTRAINTS), found.get(ExtensionOID.KEY_USAGE)
    extended = found.get(ExtensionOID.EXTENDED_KEY_USAGE)
    if not isinstance(basic, x509.BasicConstraints) or not basic.ca or ExtensionOID.NAME_CONSTRAINTS in found:
        return False
    if isinstance(usage, x509.KeyUsage) and not usage.key_cert_sign:
        return False
    if not isinstance(extended, x509.ExtendedKeyUsage):
        return True
    return Oid.CLIENT_AUTH in extended or Oid.ANY_EXTENDED_KEY_USAGE in extended


def _room(authority: Certificate, below: int) -> bool:
    """Whether its path length constraint, where it has one, allows so many authorities below it."""
    from cryptography import x509

    try:
        constraints = authority.extensions.get_extension_for_class(x509.BasicConstraints).value
    except (x509.ExtensionNotFound, ValueError):
        return True
    return constraints.path_length is None or below <= constraints.path_length


def _signed_by(certificate: Certificate, authority: Certificate) -> bool:
    from cryptography.exceptions import InvalidSignature

    try:
        certificate.verify_directly_issued_by(authority)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True


def _times(certificate: Certificate) -> tuple[float, float]:
    return certificate.not_valid_before_utc.timestamp(), certificate.not_valid_after_utc.timestamp()


def _narrowed(one: tuple[float, float], other: tuple[float, float]) -> tuple[float, float]:
    return max(one[0], other[0]), min(one[1], other[1])
