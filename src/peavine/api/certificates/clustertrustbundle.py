"""ClusterTrustBundle: root certificates for all to trust."""

from __future__ import annotations

from typing import Any

from peavine.api.certificates.certificatesigningrequest import validate_signer
from peavine.api.printing import NAME, Column, name
from peavine.machinery import validation as rules
from peavine.machinery.errors import FieldError, invalid_value

Object = dict[str, Any]

BUNDLE_BYTES_MAX = 1024 * 1024
COLUMNS = (NAME, Column("SignerName", description="@certificates.v1.ClusterTrustBundleSpec.signerName"))
FIELD_LABELS = {"spec.signerName": lambda obj: (obj.get("spec") or {}).get("signerName") or ""}
UNKNOWN_FIELD_LABEL = "field label not supported: {}"


def row(obj: Object) -> list[Any]:
    return [name(obj), (obj.get("spec") or {}).get("signerName") or "<none>"]


def validate_name(value: str, prefix: bool) -> list[str]:
    """Signer-bound names have the form `signer:name`, its slashes written as colons."""
    return rules.is_dns1123_subdomain(value.rpartition(":")[2])


def validate_create(obj: Object) -> list[FieldError]:
    spec, own = obj.get("spec") or {}, name(obj)
    errors: list[FieldError] = []
    signer = spec.get("signerName") or ""
    if not signer:
        if ":" in own:
            message = 'ClusterTrustBundle without signer name must not have ":" in its name'
            errors.append(invalid_value("metadata.name", own, message))
    else:
        errors += validate_signer("spec.signerName", signer)
        prefix = signer.replace("/", ":") + ":"
        if not own.startswith(prefix):
            message = f"ClusterTrustBundle for signerName {signer} must be named with prefix {prefix}"
            errors.append(invalid_value("metadata.name", own, message))
    return errors + _bundle(spec.get("trustBundle") or "")


def _bundle(text: str) -> list[FieldError]:
    if len(text) > BUNDLE_BYTES_MAX:
        message = f"may not be more than {BUNDLE_BYTES_MAX} bytes"
        return [FieldError("TooLong", "spec.trustBundle", f"<value omitted, len {len(text)}>", message)]
    if "-----BEGIN CERTIFICATE-----" not in text:
        return [invalid_value("spec.trustBundle", "<value omitted>", "at least one trust anchor must be provided")]
    blocks = [b.partition("-----END CERTIFICATE-----")[0] for b in text.split("-----BEGIN CERTIFICATE-----")[1:]]
    bare = ["".join(block.split()) for block in blocks]
    errors: list[FieldError] = []
    for i, block in enumerate(bare):
        if block in bare[:i]:
            message = f"duplicate trust anchor (indices [{bare.index(block)} {i}])"
            errors.append(invalid_value("spec.trustBundle", "<value omitted>", message))
    return errors


def validate_update(new: Object, old: Object) -> list[FieldError]:
    now, then = ((o.get("spec") or {}).get("signerName") for o in (new, old))
    return validate_create(new) + rules.validate_immutable(now, then, "spec.signerName")
