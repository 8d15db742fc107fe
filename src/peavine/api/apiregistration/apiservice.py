"""APIService: a group and version that another server answers for."""

from __future__ import annotations

from typing import Any

from peavine.api.conditions import condition
from peavine.api.kind import keep
from peavine.api.printing import AGE, NAME, Column, name, object_age
from peavine.machinery import validation as rules
from peavine.machinery.errors import FieldError, invalid_value, not_supported, required

Object = dict[str, Any]

KEEPS_STATUS_ON_CREATE = True
COLUMNS = (
    NAME,
    Column("Service", description="The reference to the service that hosts this API endpoint."),
    Column("Available", description="Whether this service is available."),
    AGE,
)


def row(obj: Object) -> list[Any]:
    service = (obj.get("spec") or {}).get("service")
    shown = "Local" if service is None else f"{service.get('namespace') or ''}/{service.get('name') or ''}"
    available = condition(obj, "Available")
    word = "Unknown"
    if available is not None:
        word = available.get("status") or ""
        if word != "True" and available.get("reason"):
            word = f"{word} ({available['reason']})"
    return [name(obj), shown, word, object_age(obj)]


def default(obj: Object) -> None:
    service = (obj.get("spec") or {}).get("service")
    if service is not None and service.get("port") is None:
        service["port"] = 443


def prepare_create(obj: Object) -> None:
    """A local one (no service) is available from the start."""
    from peavine.machinery.meta import now

    obj["status"] = {}
    if (obj.get("spec") or {}).get("service") is None:
        obj["status"]["conditions"] = [
            {
                "type": "Available",
                "status": "True",
                "lastTransitionTime": now(),
                "reason": "Local",
                "message": "Local APIServices are always available",
            }
        ]


def prepare_status_update(new: Object, old: Object) -> None:
    keep(new, old, "spec")


def validate_create(obj: Object) -> list[FieldError]:
    spec = obj.get("spec") or {}
    errors: list[FieldError] = []
    group, version = spec.get("group") or "", spec.get("version") or ""
    own, wanted = name(obj), f"{version}.{group}"
    if own != wanted:
        message = f'must be `spec.version+"."+spec.group`: "{wanted}"'
        errors.append(invalid_value("metadata.name", own, message))
    if not group and version != "v1":
        message = "only v1 may have an empty group and it better be legacy kube"
        errors.append(required("spec.group", message))
    if group:
        errors += [invalid_value("spec.group", group, m) for m in rules.is_dns1123_subdomain(group)]
    errors += [invalid_value("spec.version", version, m) for m in rules.is_dns1035_label(version)]
    for field, most in (("groupPriorityMinimum", 20000), ("versionPriority", 1000)):
        value = spec.get(field) or 0
        if not 0 < value <= most:
            errors.append(invalid_value(f"spec.{field}", value, f"must be positive and less than {most}"))
    return errors + _service(spec)


def _service(spec: Object) -> list[FieldError]:
    service, bundle, insecure = spec.get("service"), spec.get("caBundle"), spec.get("insecureSkipTLSVerify")
    errors: list[FieldError] = []
    if service is None:
        if bundle:
            message = "local APIServices may not have a caBundle"
            errors.append(invalid_value("spec.caBundle", f"{len(bundle)} bytes", message))
        if insecure:
            message = "local APIServices may not have insecureSkipTLSVerify"
            errors.append(invalid_value("spec.insecureSkipTLSVerify", True, message))
        return errors
    errors += [required(f"spec.service.{part}") for part in ("namespace", "name") if not service.get(part)]
    port = 443 if service.get("port") is None else service["port"]
    if rules.is_port_number(port):
        message = "port is not valid: must be between 1 and 65535, inclusive"
        errors.append(invalid_value("spec.service.port", port, message))
    if insecure and bundle:
        message = "may not be true if caBundle is present"
        errors.append(invalid_value("spec.insecureSkipTLSVerify", True, message))
    return errors


def validate_status_update(new: Object, old: Object) -> list[FieldError]:
    errors: list[FieldError] = []
    for i, entry in enumerate((new.get("status") or {}).get("conditions") or []):
        if entry.get("status") not in ("True", "False", "Unknown"):
            field = f"status.conditions[{i}].status"
            errors.append(not_supported(field, entry.get("status") or "", ["True", "False", "Unknown"]))
    return errors
