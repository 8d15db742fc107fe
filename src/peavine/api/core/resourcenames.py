"""Which names a resource may have where: on containers, in quotas, in limit ranges, on nodes."""

from __future__ import annotations

from peavine.api.fields import broken
from peavine.machinery import validation as rules
from peavine.machinery.errors import FieldError, invalid_value

HUGEPAGES = "hugepages-"
STANDARD_CONTAINER = frozenset(("cpu", "memory", "ephemeral-storage"))
STANDARD_QUOTA = frozenset(
    [
        "cpu",
        "memory",
        "ephemeral-storage",
        "requests.cpu",
        "requests.memory",
        "requests.storage",
        "requests.ephemeral-storage",
        "limits.cpu",
        "limits.memory",
        "limits.ephemeral-storage",
        "pods",
        "resourcequotas",
        "services",
        "replicationcontrollers",
        "secrets",
        "persistentvolumeclaims",
        "configmaps",
        "services.nodeports",
        "services.loadbalancers",
    ]
)
STANDARD = STANDARD_QUOTA | frozenset(("storage",))
INTEGERS = frozenset(
    [
        "pods",
        "resourcequotas",
        "services",
        "replicationcontrollers",
        "secrets",
        "configmaps",
        "persistentvolumeclaims",
        "services.nodeports",
        "services.loadbalancers",
    ]
)


def is_native(name: str) -> bool:
    """Names without a domain, or of kubernetes.io, are Kubernetes' own."""
    return "/" not in name or "kubernetes.io/" in name


def is_extended(name: str) -> bool:
    """A resource that devices offer under their own domain."""
    if is_native(name) or name.startswith("requests."):
        return False
    return not rules.is_qualified_name("requests." + name)


def is_integer(name: str) -> bool:
    return name in INTEGERS or is_extended(name)


def validate_name(field: str, name: str) -> list[FieldError]:
    """Any resource name: a standard one, or qualified."""
    errors = broken(field, name, rules.is_qualified_name(name))
    if errors:
        return errors
    if "/" not in name and name not in STANDARD and not _prefixed(name):
        errors.append(invalid_value(field, name, "must be a standard resource type or fully qualified"))
    return errors


def validate_container_name(field: str, name: str) -> list[FieldError]:
    errors = validate_name(field, name)
    if "/" not in name:
        if name not in STANDARD_CONTAINER and not _prefixed(name):
            errors.append(invalid_value(field, name, "must be a standard resource for containers"))
    elif not is_native(name) and not is_extended(name):
        errors.append(invalid_value(field, name, "doesn't follow extended resource name standard"))
    return errors


def validate_quota_name(field: str, name: str) -> list[FieldError]:
    errors = validate_name(field, name)
    if "/" not in name and name not in STANDARD_QUOTA and not _prefixed(name, quota=True):
        errors.append(invalid_value(field, name, "must be a standard resource for quota"))
    return errors


def validate_limit_range_name(field: str, name: str, type: str) -> list[FieldError]:
    if type in ("Pod", "Container"):
        return validate_container_name(field, name)
    return validate_name(field, name)


def validate_integer(field: str, name: str, text: str) -> list[FieldError]:
    """Things that are counted come in whole numbers."""
    from peavine.api.fields import quantity

    if is_integer(name) and quantity(text).milli() % 1000:
        return [invalid_value(field, text, "must be an integer")]
    return []


def _prefixed(name: str, quota: bool = False) -> bool:
    if name.startswith(HUGEPAGES):
        return True
    return quota and (name.startswith("requests." + HUGEPAGES))
