"""Endpoints: the older list of a Service's addresses."""

from __future__ import annotations

from typing import Any

from peavine.api import strict_ip
from peavine.api.core.service_validation import validate_ordinary_ip
from peavine.api.fields import broken, one_of
from peavine.api.printing import AGE, NAME, NONE, Column, name, object_age
from peavine.machinery import validation as rules
from peavine.machinery.errors import FieldError, duplicate, forbidden_field, required

Object = dict[str, Any]

COLUMNS = (NAME, Column("Endpoints", description="@core.v1.Endpoints.subsets"), AGE)
DEPRECATION = "v1 Endpoints is deprecated in v1.33+; use discovery.k8s.io/v1 EndpointSlice"


def row(obj: Object) -> list[Any]:
    return [name(obj), listed(obj.get("subsets") or []), object_age(obj)]


def listed(subsets: list[Object]) -> str:
    """Up to three `address:port`, and how many more there are."""
    texts: list[str] = []
    count = 0
    for subset in subsets:
        addresses = [a.get("ip") or "" for a in subset.get("addresses") or []]
        ports = subset.get("ports") or []
        for port in ports or [{}]:
            for address in addresses:
                shown = f"[{address}]" if ":" in address and ports else address
                count += 1
                if len(texts) < 3:
                    texts.append(f"{shown}:{port.get('port')}" if ports else address)
    if not texts:
        return NONE
    return ",".join(texts) + (f" + {count - len(texts)} more..." if count > len(texts) else "")


def default(obj: Object) -> None:
    for subset in obj.get("subsets") or []:
        for port in subset.get("ports") or []:
            port["protocol"] = port.get("protocol") or "TCP"


def validate_create(obj: Object) -> list[FieldError]:
    errors: list[FieldError] = []
    for i, subset in enumerate(obj.get("subsets") or []):
        field = f"subsets[{i}]"
        if not subset.get("addresses") and not subset.get("notReadyAddresses"):
            errors.append(required(field, "must specify `addresses` or `notReadyAddresses`"))
        for part in ("addresses", "notReadyAddresses"):
            for j, address in enumerate(subset.get(part) or []):
                errors += _address(address, f"{field}.{part}[{j}]")
        ports = subset.get("ports") or []
        names: set[str] = set()
        for j, port in enumerate(ports):
            errors += _port(port, f"{field}.ports[{j}]", len(ports) > 1, names)
    return errors


def _address(address: Object, field: str) -> list[FieldError]:
    ip = address.get("ip") or ""
    errors = broken(f"{field}.ip", ip, strict_ip.is_ip(ip))
    if address.get("hostname"):
        errors += broken(f"{field}.hostname", address["hostname"], rules.is_dns1123_label(address["hostname"]))
    if address.get("nodeName"):
        errors += broken(f"{field}.nodeName", address["nodeName"], rules.is_dns1123_subdomain(address["nodeName"]))
    return errors + validate_ordinary_ip(ip, f"{field}.ip")


def _port(port: Object, field: str, named: bool, names: set[str]) -> list[FieldError]:
    errors: list[FieldError] = []
    name_ = port.get("name") or ""
    if named and not name_:
        errors.append(required(f"{field}.name"))
    elif name_:
        errors += broken(f"{field}.name", name_, rules.is_dns1123_label(name_))
        if name_ in names:
            errors.append(duplicate(f"{field}.name", name_))
        names.add(name_)
    errors += broken(f"{field}.port", port.get("port") or 0, rules.is_port_number(port.get("port") or 0))
    errors += one_of(f"{field}.protocol", port.get("protocol"), ("SCTP", "TCP", "UDP"))
    if port.get("appProtocol") is not None:
        errors += broken(f"{field}.appProtocol", port["appProtocol"], rules.is_qualified_name(port["appProtocol"]))
    return errors


def validate_update(new: Object, old: Object) -> list[FieldError]:
    errors = validate_create(new)
    key = "endpoints.kubernetes.io/over-capacity"
    value = ((new.get("metadata") or {}).get("annotations") or {}).get(key)
    if value is not None and not value:
        errors.append(forbidden_field(f"metadata.annotations[{key}]", "must not be empty"))
    return errors
