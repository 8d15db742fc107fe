"""IPAddress: one address of the service network that is taken. Its name is the address."""

from __future__ import annotations

from typing import Any

from peavine.api.printing import NAME, Column, name
from peavine.machinery import validation as rules
from peavine.machinery.errors import FieldError, invalid_value, required

Object = dict[str, Any]

COLUMNS = (NAME, Column("ParentRef", description="@networking.v1.IPAddressSpec.parentRef"))
FIELD_LABELS = {"spec.parentRef.name": lambda o: ((o.get("spec") or {}).get("parentRef") or {}).get("name") or ""}
UNKNOWN_FIELD_LABEL = 'field label "{}" not supported for networkingv1.IPAddress'


def row(obj: Object) -> list[Any]:
    parent = (obj.get("spec") or {}).get("parentRef") or {}
    resource = parent.get("resource") or ""
    if parent.get("group"):
        resource += "." + parent["group"]
    path = [part for part in (parent.get("namespace"), parent.get("name")) if part]
    return [name(obj), "/".join([resource, *path])]


def validate_name(value: str, prefix: bool) -> list[str]:
    address = rules.parse_ip(value)
    if address is None:
        return ["must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)"]
    return [] if str(address) == value else [f'must be in canonical form ("{address}")']


def validate_create(obj: Object) -> list[FieldError]:
    parent = (obj.get("spec") or {}).get("parentRef")
    if parent is None:
        return [required("spec.parentRef")]
    errors: list[FieldError] = []
    if parent.get("group"):
        errors += [
            invalid_value("spec.parentRef.group", parent["group"], m)
            for m in rules.is_dns1123_subdomain(parent["group"])
        ]
    for part in ("resource", "namespace", "name"):
        value = parent.get(part) or ""
        if not value and part in ("resource", "name"):
            errors.append(required(f"spec.parentRef.{part}"))
        elif value:
            errors += [invalid_value(f"spec.parentRef.{part}", value, m) for m in rules.is_path_segment(value)]
    return errors


def validate_update(new: Object, old: Object) -> list[FieldError]:
    now, then = ((o.get("spec") or {}).get("parentRef") for o in (new, old))
    return rules.validate_immutable(now, then, "spec.parentRef")
