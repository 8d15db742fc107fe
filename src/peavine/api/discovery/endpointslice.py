"""EndpointSlice: a part of a Service's addresses, of one address family."""

from __future__ import annotations

from typing import Any

from peavine.api import strict_ip
from peavine.api.core.service_validation import validate_ordinary_ip
from peavine.api.fields import broken
from peavine.api.kind import content_changed
from peavine.api.printing import AGE, NAME, Column, first_few, name, object_age
from peavine.machinery import validation as rules
from peavine.machinery.errors import FieldError, duplicate, invalid_value, not_supported, required

Object = dict[str, Any]

ADDRESSES_MAX, PORTS_MAX, ENDPOINTS_MAX, HINTS_MAX = 100, 20_000, 1000, 8
TYPES = ("FQDN", "IPv4", "IPv6")

COLUMNS = (
    NAME,
    Column("AddressType", description="@discovery.v1.EndpointSlice.addressType"),
    Column("Ports", description="@discovery.v1.EndpointSlice.ports"),
    Column("Endpoints", description="@discovery.v1.EndpointSlice.endpoints"),
    AGE,
)


def row(obj: Object) -> list[Any]:
    ports = [str(port["port"]) if port.get("port") is not None else "*" for port in obj.get("ports") or []]
    addresses = [a for endpoint in obj.get("endpoints") or [] for a in endpoint.get("addresses") or []]
    shown_ports, shown_addresses = ("<unset>" if not items else first_few(items) for items in (ports, addresses))
    return [name(obj), obj.get("addressType") or "", shown_ports, shown_addresses, object_age(obj)]


def default(obj: Object) -> None:
    for port in obj.get("ports") or []:
        if port.get("name") is None:
            port["name"] = ""
        if port.get("protocol") is None:
            port["protocol"] = "TCP"


def changes_generation(new: Object, old: Object) -> bool:
    labels = [(o.get("metadata") or {}).get("labels") or {} for o in (new, old)]
    return content_changed(new, old) or labels[0] != labels[1]


def validate_create(obj: Object) -> list[FieldError]:
    errors: list[FieldError] = []
    type = obj.get("addressType") or ""
    if not type:
        errors.append(required("addressType"))
    elif type not in TYPES:
        errors.append(not_supported("addressType", type, TYPES))
    return errors + _endpoints(obj.get("endpoints") or [], type) + _ports(obj.get("ports") or [])


def _endpoints(endpoints: list[Object], type: str) -> list[FieldError]:
    errors: list[FieldError] = []
    if len(endpoints) > ENDPOINTS_MAX:
        return [FieldError("TooMany", "endpoints", len(endpoints), f"must have at most {ENDPOINTS_MAX} items")]
    for i, endpoint in enumerate(endpoints):
        field = f"endpoints[{i}]"
        addresses = endpoint.get("addresses") or []
        if not addresses:
            errors.append(required(f"{field}.addresses", "must contain at least 1 address"))
        elif len(addresses) > ADDRESSES_MAX:
            message = f"must have at most {ADDRESSES_MAX} items"
            errors.append(FieldError("TooMany", f"{field}.addresses", len(addresses), message))
        for j, address in enumerate(addresses):
            errors += _address(address, type, f"{field}.addresses[{j}]")
        if endpoint.get("nodeName"):
            node = endpoint["nodeName"]
            errors += broken(f"{field}.nodeName", node, rules.is_dns1123_subdomain(node))
        errors += rules.validate_labels(endpoint.get("deprecatedTopology"), f"{field}.deprecatedTopology")
        if "kubernetes.io/hostname" in (endpoint.get("deprecatedTopology") or {}):
            message = "may not be set unless labels.kubernetes.io/hostname is also set"
            errors.append(invalid_value(f"{field}.deprecatedTopology", "kubernetes.io/hostname", message))
        if endpoint.get("hostname") is not None:
            errors += broken(f"{field}.hostname", endpoint["hostname"], rules.is_dns1123_label(endpoint["hostname"]))
        errors += _hints(endpoint.get("hints"), f"{field}.hints")
    return errors


def _address(address: str, type: str, field: str) -> list[FieldError]:
    if type == "FQDN":
        return rules.validate_fully_qualified_domain_name(field, address)
    rule = {"IPv4": rules.is_ipv4, "IPv6": rules.is_ipv6}.get(type)
    if rule is None:
        return []
    messages = rule(address) or strict_ip.is_ip(address)
    return broken(field, address, messages) + ([] if messages else validate_ordinary_ip(address, field))


def _hints(hints: Object | None, field: str) -> list[FieldError]:
    errors: list[FieldError] = []
    for part, rule in (("forZones", rules.is_label_value), ("forNodes", rules.is_dns1123_subdomain)):
        found = (hints or {}).get(part) or []
        if len(found) > HINTS_MAX:
            message = f"must have at most {HINTS_MAX} items"
            errors.append(FieldError("TooMany", f"{field}.{part}", len(found), message))
            continue
        seen: set[str] = set()
        for i, entry in enumerate(found):
            value = entry.get("name") or ""
            if value in seen:
                errors.append(duplicate(f"{field}.{part}[{i}].name", value))
            seen.add(value)
            errors += broken(f"{field}.{part}[{i}].name", value, rule(value))
    return errors


def _ports(ports: list[Object]) -> list[FieldError]:
    errors: list[FieldError] = []
    if len(ports) > PORTS_MAX:
        return [FieldError("TooMany", "ports", len(ports), f"must have at most {PORTS_MAX} items")]
    seen: set[str] = set()
    for i, port in enumerate(ports):
        field = f"ports[{i}]"
        own = port.get("name") or ""
        if own:
            errors += broken(f"{field}.name", own, rules.is_dns1123_label(own))
        if own in seen:
            errors.append(duplicate(f"{field}.name", own))
        seen.add(own)
        if port.get("port") is not None:
            errors += broken(f"{field}.port", port["port"], rules.is_port_number(port["port"]))
        protocol = port.get("protocol")
        if protocol is None:
            errors.append(required(f"{field}.protocol"))
        elif protocol not in ("SCTP", "TCP", "UDP"):
            errors.append(not_supported(f"{field}.protocol", protocol, ["SCTP", "TCP", "UDP"]))
        if port.get("appProtocol") is not None:
            errors += broken(f"{field}.appProtocol", port["appProtocol"], rules.is_qualified_name(port["appProtocol"]))
    return errors


def validate_update(new: Object, old: Object) -> list[FieldError]:
    errors = validate_create(new)
    return errors + rules.validate_immutable(new.get("addressType"), old.get("addressType"), "addressType")


def warnings(obj: Object, old: Object | None) -> list[str]:
    if obj.get("addressType") == "FQDN":
        return ["addressType: FQDN endpoints are deprecated"]
    return []
