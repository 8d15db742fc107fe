"""Keys that sign and verify service-account tokens: several may verify, one signs."""

from __future__ import annotations

import base64
import hashlib
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_BLOCK = re.compile(rb"-----BEGIN ([A-Z ]+)-----.*?-----END \1-----", re.DOTALL)


@dataclass(frozen=True)
class VerificationKey:
    """A public key, the id tokens name it by, and the one algorithm it is good for."""

    key_id: str
    algorithm: str
    public: Any

    def jwk(self) -> dict[str, Any]:
        """The key as a JSON Web Key, for the discovery of verifiers outside the cluster."""
        import json

        from jwt.algorithms import ECAlgorithm, RSAAlgorithm

        kind = RSAAlgorithm if self.algorithm.startswith("RS") else ECAlgorithm
        jwk = json.loads(kind.to_jwk(self.public))
        return {"use": "sig", **jwk, "kid": self.key_id, "alg": self.algorithm}


def algorithm_of(public: Any) -> str:
    """RS256 for RSA; ES256, ES384, ES512 by curve. Raises ValueError for other keys."""
    from cryptography.hazmat.primitives.asymmetric import ec, rsa

    if isinstance(public, rsa.RSAPublicKey):
        return "RS256"
    if isinstance(public, ec.EllipticCurvePublicKey):
        by_curve = {"secp256r1": "ES256", "secp384r1": "ES384", "secp521r1": "ES512"}
        if public.curve.name in by_curve:
            return by_curve[public.curve.name]
    raise ValueError("unknown type of service account key: want RSA or ECDSA on P-256, P-384 or P-521")


def sign(private: Any, algorithm: str, data: bytes) -> bytes:
    """A JWS signature (RFC 7518, section 3): PKCS#1 v1.5 for RSA; r and s side by side for ECDSA."""
    from cryptography.hazmat.primitives.asymmetric import ec, padding
    from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

    if algorithm == "RS256":
        return private.sign(data, padding.PKCS1v15(), _hash(algorithm))
    size = (private.curve.key_size + 7) // 8
    r, s = decode_dss_signature(private.sign(data, ec.ECDSA(_hash(algorithm))))
    return r.to_bytes(size, "big") + s.to_bytes(size, "big")


def verifies(key: VerificationKey, signature: bytes, data: bytes) -> bool:
    """Whether the key's own algorithm, and no other, finds the signature good."""
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric import ec, padding
    from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

    try:
        if key.algorithm == "RS256":
            key.public.verify(signature, data, padding.PKCS1v15(), _hash(key.algorithm))
            return True
        size = (key.public.curve.key_size + 7) // 8
        if len(signature) != 2 * size:
            return False
        r, s = (int.from_bytes(part, "big") for part in (signature[:size], signature[size:]))
        key.public.verify(encode_dss_signature(r, s), data, ec.ECDSA(_hash(key.algorithm)))
    except InvalidSignature:
        return False
    return True


def _hash(algorithm: str) -> Any:
    from cryptography.hazmat.primitives import hashes

    known: dict[str, Any] = {"256": hashes.SHA256, "384": hashes.SHA384, "512": hashes.SHA512}
    return known[algorithm[2:]]()


def verification_key(public: Any) -> VerificationKey:
    from cryptography.hazmat.primitives import serialization

    der = public.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    key_id = base64.urlsafe_b64encode(hashlib.sha256(der).digest()).rstrip(b"=").decode()
    return VerificationKey(key_id, algorithm_of(public), public)


def load_verification_keys(paths: Iterable[str | os.PathLike[str]]) -> list[VerificationKey]:
    """Every public key in the PEM files; private keys and certificates count as the public key in them. In order, each
    once."""
    from cryptography import x509
    from cryptography.hazmat.primitives import serialization

    found: dict[str, VerificationKey] = {}
    for path in paths:
        for match in _BLOCK.finditer(Path(path).read_bytes()):
            label, block = match.group(1), match.group(0)
            if b"PRIVATE" in label:
                public = serialization.load_pem_private_key(block, None).public_key()
            elif b"PUBLIC" in label:
                public = serialization.load_pem_public_key(block)  # type: ignore[assignment]
            elif label == b"CERTIFICATE":
                public = x509.load_pem_x509_certificate(block).public_key()  # type: ignore[assignment]
            else:
                continue
            key = verification_key(public)
            found.setdefault(key.key_id, key)
    return list(found.values())


def load_signing_key(path: str | os.PathLike[str]) -> tuple[Any, VerificationKey]:
    """The private key of a PEM file, and its public half."""
    from cryptography.hazmat.primitives import serialization

    private = serialization.load_pem_private_key(Path(path).read_bytes(), None)
    return private, verification_key(private.public_key())
