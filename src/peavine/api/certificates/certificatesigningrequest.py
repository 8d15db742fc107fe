"""CertificateSigningRequest: a wish for a certificate, its approval, and the certificate."""

from __future__ import annotations

import base64
from typing import Any

from peavine.api.fields import strip
from peavine.api.kind import keep
from peavine.api.printing import AGE, NAME, Column, name, object_age
from peavine.machinery import validation as rules
from peavine.machinery.errors import FieldError, duplicate, forbidden_field, invalid_value, not_supported, required

Object = dict[str, Any]

USAGES = frozenset(
    [
        "signing",
        "digital signature",
        "content commitment",
        "key encipherment",
        "key agreement",
        "data encipherment",
        "cert sign",
        "crl sign",
        "encipher only",
        "decipher only",
        "any",
        "server auth",
        "client auth",
        "code signing",
        "email protection",
        "s/mime",
        "ipsec end system",
        "ipsec tunnel",
        "ipsec user",
        "timestamping",
        "ocsp signing",
        "microsoft sgc",
        "netscape sgc",
    ]
)
IDENTITY = ("username", "uid", "groups", "extra")

COLUMNS = (
    NAME,
    AGE,
    Column("SignerName", description="@certificates.v1.CertificateSigningRequestSpec.signerName"),
    Column("Requestor", description="@certificates.v1.CertificateSigningRequestSpec.request"),
    Column("RequestedDuration", description="@certificates.v1.CertificateSigningRequestSpec.expirationSeconds"),
    Column("Condition", description="@certificates.v1.CertificateSigningRequestStatus.conditions"),
)
FIELD_LABELS = {"spec.signerName": lambda obj: (obj.get("spec") or {}).get("signerName") or ""}
UNKNOWN_FIELD_LABEL = "field label not supported: {}"


def row(obj: Object) -> list[Any]:
    from peavine.machinery.duration import human_duration

    spec = obj.get("spec") or {}
    seconds = spec.get("expirationSeconds")
    return [
        name(obj),
        object_age(obj),
        spec.get("signerName") or "<none>",
        spec.get("username") or "",
        "<none>" if seconds is None else human_duration(seconds),
        state(obj),
    ]


def state(obj: Object) -> str:
    status = obj.get("status") or {}
    types = {entry.get("type") for entry in status.get("conditions") or []}
    if "Denied" in types:
        words = ["Denied"]
    elif "Approved" in types:
        words = ["Approved"]
    else:
        words = ["Pending"]
    if "Failed" in types:
        words.append("Failed")
    if status.get("certificate"):
        words.append("Issued")
    return ",".join(words)


def validate_name(value: str, prefix: bool) -> list[str]:
    return []


def prepare_create(obj: Object) -> None:
    """Who asks is not the asker's to say: `stamp_user` puts in who it was."""
    spec = obj.setdefault("spec", {})
    for part in IDENTITY:
        spec.pop(part, None)


def stamp_user(obj: Object, name: str, uid: str, groups: list[str], extra: dict[str, list[str]]) -> None:
    """Called by the registry after `prepare_create` with the user of the request."""
    known = {"username": name, "uid": uid, "groups": list(groups), "extra": dict(extra)}
    obj.setdefault("spec", {}).update({part: value for part, value in known.items() if value})


def prepare_update(new: Object, old: Object) -> None:
    keep(new, old, "spec")


def prepare_status_update(new: Object, old: Object) -> None:
    """The signer sets the certificate and Failed; approval has a subresource of its own."""
    keep(new, old, "spec")
    status, before = new.setdefault("status", {}), old.get("status") or {}
    kept = [c for c in before.get("conditions") or [] if c.get("type") in ("Approved", "Denied")]
    others = [c for c in status.get("conditions") or [] if c.get("type") not in ("Approved", "Denied")]
    _put_conditions(status, before, [*kept, *others])


def prepare_approval_update(new: Object, old: Object) -> None:
    """An approver sets conditions, nothing else."""
    conditions = (new.get("status") or {}).get("conditions") or []
    keep(new, old, "spec")
    before = old.get("status") or {}
    new["status"] = dict(before)
    _put_conditions(new["status"], before, conditions)


def _put_conditions(status: Object, before: Object, conditions: list[Object]) -> None:
    from peavine.machinery.meta import now

    known = {c.get("type"): c for c in before.get("conditions") or []}
    moment = now()
    for entry in conditions:
        same = known.get(entry.get("type"))
        if not entry.get("lastTransitionTime"):
            unchanged = same is not None and same.get("status") == entry.get("status")
            entry["lastTransitionTime"] = same.get("lastTransitionTime") if unchanged and same else moment
        if not entry.get("lastUpdateTime"):
            entry["lastUpdateTime"] = moment
    if conditions:
        status["conditions"] = conditions
    else:
        status.pop("conditions", None)


def validate_create(obj: Object) -> list[FieldError]:
    return _spec(obj.get("spec") or {}) + _conditions(obj)


def _spec(spec: Object) -> list[FieldError]:
    errors: list[FieldError] = []
    request = base64.b64decode(spec.get("request") or "")
    if b"-----BEGIN CERTIFICATE REQUEST-----" not in request:
        message = "PEM block type must be CERTIFICATE REQUEST"
        shown = list(request[:16])
        errors.append(invalid_value("spec.request", shown, message))
    usages = spec.get("usages") or []
    if not usages:
        errors.append(required("spec.usages"))
    for i, usage in enumerate(usages):
        if usage not in USAGES:
            errors.append(not_supported(f"spec.usages[{i}]", usage, sorted(USAGES)))
        if usage in usages[:i]:
            errors.append(duplicate(f"spec.usages[{i}]", usage))
    if spec.get("signerName") == "kubernetes.io/legacy-unknown":
        message = "the legacy signerName is not allowed via this API version"
        errors.append(invalid_value("spec.signerName", spec["signerName"], message))
    else:
        errors += validate_signer("spec.signerName", spec.get("signerName") or "")
    seconds = spec.get("expirationSeconds")
    if seconds is not None and seconds < 600:
        message = "may not specify a duration less than 600 seconds (10 minutes)"
        errors.append(invalid_value("spec.expirationSeconds", seconds, message))
    return errors


def validate_signer(field: str, signer: str) -> list[FieldError]:
    """`domain/name`: a domain of two segments at least, and one path segment."""
    if not signer:
        return [required(field)]
    domain, slash, path = signer.partition("/")
    if not slash or "/" in path:
        message = 'must be a fully qualified domain and path of the form "example.com/signer-name"'
        return [invalid_value(field, signer, message)]
    errors: list[FieldError] = []
    labels = domain.split(".")
    for label in labels:
        for text in rules.is_dns1123_label(label):
            errors.append(invalid_value(field, signer, f'validating label "{label}": {text}'))
    if len(labels) < 2:
        message = "should be a domain with at least two segments separated by dots"
        errors.append(invalid_value(field, domain, message))
    for text in rules.is_dns1123_subdomain(path):
        errors.append(invalid_value(field, signer, f'validating label "{path}": {text}'))
    if len(signer) > 571:
        errors.append(FieldError("TooLong", field, signer, "may not be more than 571 bytes"))
    return errors


def _conditions(obj: Object) -> list[FieldError]:
    errors: list[FieldError] = []
    seen: set[str] = set()
    for i, entry in enumerate((obj.get("status") or {}).get("conditions") or []):
        field = f"status.conditions[{i}]"
        type, status = entry.get("type") or "", entry.get("status") or ""
        if not type:
            errors.append(required(f"{field}.type"))
        if not status:
            errors.append(required(f"{field}.status"))
        elif type in ("Approved", "Denied", "Failed") and status != "True":
            errors.append(not_supported(f"{field}.status", status, ["True"]))
        elif status not in ("True", "False", "Unknown"):
            errors.append(not_supported(f"{field}.status", status, ["True", "False", "Unknown"]))
        if type in seen:
            errors.append(duplicate(f"{field}.type", type))
        seen.add(type)
    if {"Approved", "Denied"} <= seen:
        shown = (obj.get("status") or {}).get("conditions")
        errors.append(
            invalid_value("status.conditions", shown, "Approved and Denied conditions are mutually exclusive")
        )
    return errors


def validate_update(new: Object, old: Object) -> list[FieldError]:
    return _kept(new, old, certificate=True)


def validate_status_update(new: Object, old: Object) -> list[FieldError]:
    errors = _conditions(new) + _kept(new, old, certificate=False)
    before, after = ((o.get("status") or {}).get("certificate") for o in (old, new))
    if before and after != before:
        errors.append(forbidden_field("status.certificate", "updates may not modify certificate content"))
    if after and after != before and b"-----BEGIN CERTIFICATE-----" not in base64.b64decode(after):
        message = "must contain at least one CERTIFICATE PEM block"
        errors.append(invalid_value("status.certificate", "<certificate data>", message))
    return errors


def validate_approval_update(new: Object, old: Object) -> list[FieldError]:
    return _conditions(new) + _kept(new, old, certificate=True)


def _kept(new: Object, old: Object, *, certificate: bool) -> list[FieldError]:
    """Approved, Denied and Failed stay once they are there."""
    errors: list[FieldError] = []
    after, before = ({c.get("type"): c for c in (o.get("status") or {}).get("conditions") or []} for o in (new, old))
    for type in ("Approved", "Denied", "Failed"):
        if type in before and type not in after:
            message = f'updates may not remove a condition of type "{type}"'
            errors.append(forbidden_field("status.conditions", message))
    if certificate:
        now, then = ((o.get("status") or {}).get("certificate") for o in (new, old))
        if strip(now) != strip(then):
            errors.append(forbidden_field("status.certificate", "updates may not set certificate content"))
    return errors
