"""PodCertificateRequest: a kubelet's wish for a certificate in the name of a pod."""

from __future__ import annotations

from typing import Any

from peavine.api.certificates.certificatesigningrequest import validate_signer
from peavine.api.fields import broken, strip
from peavine.api.kind import keep
from peavine.api.printing import AGE, NAME, Column, name, object_age
from peavine.machinery import validation as rules
from peavine.machinery.errors import FieldError, forbidden_field, invalid_value, not_supported, required

Object = dict[str, Any]

SECONDS_MIN, SECONDS_MAX, SECONDS_DEFAULT = 3600, 7_862_400, 86_400
COLUMNS = (
    NAME,
    Column("PodName", description="@certificates.v1.PodCertificateRequestSpec.podName"),
    Column("ServiceAccountName", description="@certificates.v1.PodCertificateRequestSpec.serviceAccountName"),
    Column("NodeName", description="@certificates.v1.PodCertificateRequestSpec.nodeName"),
    Column("SignerName", description="@certificates.v1.PodCertificateRequestSpec.signerName"),
    Column("State", description="Whether the request is pending, issued, denied or failed"),
    AGE,
)
FIELD_LABELS = {
    "spec.signerName": lambda obj: (obj.get("spec") or {}).get("signerName") or "",
    "spec.podName": lambda obj: (obj.get("spec") or {}).get("podName") or "",
    "spec.nodeName": lambda obj: (obj.get("spec") or {}).get("nodeName") or "",
}
UNKNOWN_FIELD_LABEL = "field label not supported: {}"


def row(obj: Object) -> list[Any]:
    spec = obj.get("spec") or {}
    types = [c.get("type") for c in (obj.get("status") or {}).get("conditions") or []]
    state = next((t for t in ("Issued", "Denied", "Failed") if t in types), "Pending")
    values = [spec.get(part) or "" for part in ("podName", "serviceAccountName", "nodeName", "signerName")]
    return [name(obj), *values, state, object_age(obj)]


def default(obj: Object) -> None:
    spec = obj.setdefault("spec", {})
    if spec.get("maxExpirationSeconds") is None:
        spec["maxExpirationSeconds"] = SECONDS_DEFAULT


def prepare_status_update(new: Object, old: Object) -> None:
    keep(new, old, "spec")


def validate_create(obj: Object) -> list[FieldError]:
    spec = obj.get("spec") or {}
    errors = validate_signer("spec.signerName", spec.get("signerName") or "")
    for part in ("podName", "podUID", "serviceAccountName", "serviceAccountUID", "nodeName", "nodeUID"):
        value = spec.get(part) or ""
        if part.endswith("UID"):
            if not value:
                errors.append(required(f"spec.{part}", "must not be empty"))
            elif len(value) > 128:
                errors.append(FieldError("TooLong", f"spec.{part}", value, "may not be more than 128 bytes"))
        else:
            errors += broken(f"spec.{part}", value, rules.is_dns1123_subdomain(value))
    seconds = spec.get("maxExpirationSeconds")
    if seconds is None:
        errors.append(required("spec.maxExpirationSeconds", "must be set"))
    elif not SECONDS_MIN <= seconds <= SECONDS_MAX:
        message = f"must be in the range [{SECONDS_MIN}, {SECONDS_MAX}]"
        errors.append(invalid_value("spec.maxExpirationSeconds", seconds, message))
    return errors


def validate_update(new: Object, old: Object) -> list[FieldError]:
    if strip(new.get("spec")) != strip(old.get("spec")):
        return [invalid_value("spec", new.get("spec"), "field is immutable")]
    return []


def validate_status_update(new: Object, old: Object) -> list[FieldError]:
    status, before = new.get("status") or {}, old.get("status") or {}
    conditions = status.get("conditions") or []
    errors = rules.validate_conditions(conditions, "status.conditions")
    terminal = [c.get("type") for c in conditions if c.get("type") in ("Issued", "Denied", "Failed")]
    if len(terminal) > 1:
        message = 'There may be at most one condition with type "Issued", "Denied", or "Failed"'
        errors.append(invalid_value("status.conditions", conditions, message))
    for i, entry in enumerate(conditions):
        if entry.get("type") not in ("Issued", "Denied", "Failed"):
            field = f"status.conditions[{i}].type"
            errors.append(not_supported(field, entry.get("type") or "", ["Denied", "Failed", "Issued"]))
    if before.get("conditions") and strip(status) != strip(before):
        errors.append(forbidden_field("status", "immutable after PodCertificateRequest is issued, denied, or failed"))
    if status.get("certificateChain") and "Issued" not in terminal:
        message = "must be empty unless the request is issued"
        errors.append(invalid_value("status.certificateChain", "<value omitted>", message))
    return errors
