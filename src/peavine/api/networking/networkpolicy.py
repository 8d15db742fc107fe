"""NetworkPolicy: who may talk to a set of pods, and to whom they may."""

from __future__ import annotations

from typing import Any

from peavine.api import strict_ip
from peavine.api.fields import broken
from peavine.api.printing import AGE, NAME, Column, name, object_age, selector
from peavine.machinery import validation as rules
from peavine.machinery.errors import FieldError, forbidden_field, invalid_value, not_supported, required

Object = dict[str, Any]

COLUMNS = (NAME, Column("Pod-Selector", description="@networking.v1.NetworkPolicySpec.podSelector"), AGE)


def row(obj: Object) -> list[Any]:
    return [name(obj), selector((obj.get("spec") or {}).get("podSelector") or {}), object_age(obj)]


def default(obj: Object) -> None:
    spec = obj.setdefault("spec", {})
    for direction in ("ingress", "egress"):
        for rule in spec.get(direction) or []:
            for port in rule.get("ports") or []:
                if port.get("protocol") is None:
                    port["protocol"] = "TCP"
    if not spec.get("policyTypes"):
        spec["policyTypes"] = ["Ingress", "Egress"] if spec.get("egress") else ["Ingress"]


def validate_create(obj: Object) -> list[FieldError]:
    spec = obj.get("spec") or {}
    errors = rules.validate_label_selector(spec.get("podSelector"), "spec.podSelector")
    for direction, side in (("ingress", "from"), ("egress", "to")):
        for i, rule in enumerate(spec.get(direction) or []):
            field = f"spec.{direction}[{i}]"
            for j, port in enumerate(rule.get("ports") or []):
                errors += _port(port, f"{field}.ports[{j}]")
            for j, peer in enumerate(rule.get(side) or []):
                errors += _peer(peer, f"{field}.{side}[{j}]")
    types = spec.get("policyTypes") or []
    if len(types) > 2:
        message = "may not specify more than two policyTypes"
        return [*errors, invalid_value("spec.policyTypes", types, message)]
    for i, type in enumerate(types):
        if type not in ("Ingress", "Egress"):
            errors.append(not_supported(f"spec.policyTypes[{i}]", type, ["Egress", "Ingress"]))
    return errors


def _port(port: Object, field: str) -> list[FieldError]:
    errors: list[FieldError] = []
    protocol = port.get("protocol")
    if protocol is not None and protocol not in ("SCTP", "TCP", "UDP"):
        errors.append(not_supported(f"{field}.protocol", protocol, ["SCTP", "TCP", "UDP"]))
    number, end = port.get("port"), port.get("endPort")
    if number is not None:
        if isinstance(number, int):
            errors += broken(f"{field}.port", number, rules.is_port_number(number))
            if end is not None:
                if end < number:
                    message = "must be greater than or equal to `port`"
                    errors.append(invalid_value(f"{field}.endPort", end, message))
                errors += broken(f"{field}.endPort", end, rules.is_port_number(end))
        else:
            if end is not None:
                message = "may not be specified when `port` is non-numeric"
                errors.append(invalid_value(f"{field}.endPort", end, message))
            errors += broken(f"{field}.port", number, rules.is_port_name(number))
    elif end is not None:
        errors.append(invalid_value(f"{field}.endPort", end, "may not be specified when `port` is not specified"))
    return errors


def _peer(peer: Object, field: str) -> list[FieldError]:
    errors: list[FieldError] = []
    count = 0
    for part in ("podSelector", "namespaceSelector"):
        if peer.get(part) is not None:
            count += 1
            errors += rules.validate_label_selector(peer[part], f"{field}.{part}")
    block = peer.get("ipBlock")
    if block is not None:
        count += 1
        errors += _block(block, f"{field}.ipBlock")
    if not count:
        errors.append(required(field, "must specify a peer"))
    elif count > 1 and block is not None:
        errors.append(forbidden_field(field, "may not specify both ipBlock and another peer"))
    return errors


def _block(block: Object, field: str) -> list[FieldError]:
    text = block.get("cidr") or ""
    if not text:
        return [required(f"{field}.cidr")]
    errors = broken(f"{field}.cidr", text, strict_ip.is_cidr(text))
    network = rules.parse_cidr(text)
    if network is None:
        return errors
    for i, part in enumerate(block.get("except") or []):
        at = f"{field}.except[{i}]"
        errors += broken(at, part, strict_ip.is_cidr(part))
        inner = rules.parse_cidr(part)
        if inner is None:
            continue
        inside = inner.version == network.version and inner.network_address in network
        if not inside or inner.prefixlen <= network.prefixlen:
            errors.append(invalid_value(at, part, f'must be a strict subset of `cidr` "{text}"'))
    return errors


def warnings(obj: Object, old: Object | None) -> list[str]:
    found: list[str] = []
    spec = obj.get("spec") or {}
    for part, peers in (("ingress", "from"), ("egress", "to")):
        for i, rule in enumerate(spec.get(part) or []):
            for j, peer in enumerate(rule.get(peers) or []):
                block, at = peer.get("ipBlock") or {}, f"spec.{part}[{i}].{peers}[{j}].ipBlock"
                found += strict_ip.warn_of_cidr(f"{at}.cidr", block.get("cidr") or "")
                for k, hole in enumerate(block.get("except") or []):
                    found += strict_ip.warn_of_cidr(f"{at}.except[{k}]", hole)
    return found
