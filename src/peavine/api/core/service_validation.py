"""The rules of Services, on create and update."""

from __future__ import annotations

import ipaddress
from typing import Any

from peavine.api import strict_ip
from peavine.api.core.service import (
    EXTERNAL_NAME,
    LOAD_BALANCER,
    NODE_PORT,
    is_externally_accessible,
    is_headless,
    needs_cluster_ip,
    needs_health_check_port,
)
from peavine.api.fields import broken, one_of, strip
from peavine.machinery import validation as rules
from peavine.machinery.errors import (
    FieldError,
    duplicate,
    forbidden_field,
    invalid_value,
    not_supported,
    required,
)

Object = dict[str, Any]
TYPES = ("ClusterIP", "ExternalName", "LoadBalancer", "NodePort")


def validate_service(obj: Object) -> list[FieldError]:
    spec = obj.get("spec") or {}
    type, ports = spec.get("type") or "", spec.get("ports") or []
    errors: list[FieldError] = []
    if not ports and not is_headless(obj) and type != EXTERNAL_NAME:
        errors.append(required("spec.ports"))
    errors += _by_type(obj, spec, type)
    names: set[str] = set()
    for i, port in enumerate(ports):
        errors += _port(port, f"spec.ports[{i}]", len(ports) > 1, names, type)
    errors += rules.validate_labels(spec.get("selector"), "spec.selector")
    errors += _affinity(spec)
    errors += _addresses(spec, obj)
    errors += one_of("spec.type", type, TYPES)
    errors += _port_conflicts(ports, type)
    errors += _load_balancer(spec, type)
    errors += _external_traffic(obj, spec)
    return errors + _traffic(spec, type)


def _by_type(obj: Object, spec: Object, type: str) -> list[FieldError]:
    errors: list[FieldError] = []
    addresses = spec.get("clusterIPs") or []
    if type == LOAD_BALANCER:
        for i, port in enumerate(spec.get("ports") or []):
            if port.get("port") == 10250:
                message = "may not expose port 10250 externally since it is used by kubelet"
                errors.append(invalid_value(f"spec.ports[{i}]", port["port"], message))
    if type in (LOAD_BALANCER, NODE_PORT) and is_headless(obj):
        message = f"may not be set to 'None' for {type} services"
        errors.append(invalid_value("spec.clusterIPs[0]", addresses[0] if addresses else "None", message))
    if type == EXTERNAL_NAME:
        if addresses:
            errors.append(forbidden_field("spec.clusterIPs", "may not be set for ExternalName services"))
        target = (spec.get("externalName") or "").removesuffix(".")
        if target:
            errors += broken("spec.externalName", target, rules.is_dns1123_subdomain(target))
        else:
            errors.append(required("spec.externalName"))
    return errors


def _port(port: Object, field: str, named: bool, names: set[str], type: str) -> list[FieldError]:
    errors: list[FieldError] = []
    name = port.get("name") or ""
    if named and not name:
        errors.append(required(f"{field}.name"))
    elif name:
        errors += broken(f"{field}.name", name, rules.is_dns1123_label(name))
        if name in names:
            errors.append(duplicate(f"{field}.name", name))
        names.add(name)
    errors += broken(f"{field}.port", port.get("port") or 0, rules.is_port_number(port.get("port") or 0))
    errors += one_of(f"{field}.protocol", port.get("protocol"), ("SCTP", "TCP", "UDP"))
    target = port.get("targetPort")
    errors += rules.validate_port_number_or_name(0 if target is None else target, f"{field}.targetPort")
    protocol = port.get("appProtocol")
    if protocol is not None:
        errors += broken(f"{field}.appProtocol", protocol, rules.is_qualified_name(protocol))
    return errors


def _affinity(spec: Object) -> list[FieldError]:
    affinity, config = spec.get("sessionAffinity"), spec.get("sessionAffinityConfig")
    errors = one_of("spec.sessionAffinity", affinity, ("ClientIP", "None"))
    field = "spec.sessionAffinityConfig"
    if affinity == "ClientIP":
        client = (config or {}).get("clientIP")
        if config is None or client is None or client.get("timeoutSeconds") is None:
            if config is not None:
                errors.append(required(f"{field}.clientIP.timeoutSeconds", "when session affinity type is ClientIP"))
        elif not 0 < client["timeoutSeconds"] <= 86400:
            message = "must be greater than 0 and less than 86400"
            errors.append(invalid_value(f"{field}.clientIP.timeoutSeconds", client["timeoutSeconds"], message))
    elif affinity == "None" and config is not None:
        message = "must not be set when session affinity is None"
        errors.append(forbidden_field(field, message))
    return errors


def _addresses(spec: Object, obj: Object) -> list[FieldError]:
    errors: list[FieldError] = []
    addresses, families = spec.get("clusterIPs") or [], spec.get("ipFamilies") or []
    if not needs_cluster_ip(obj):
        for field in ("ipFamilyPolicy", "ipFamilies"):
            if spec.get(field):
                errors.append(forbidden_field(f"spec.{field}", "may not be set for ExternalName services"))
        return errors + _external_ips(spec)
    single = spec.get("clusterIP") or ""
    if single and (not addresses or addresses[0] != single):
        errors.append(invalid_value("spec.clusterIPs", addresses or None, "first value must match `clusterIP`"))
    if not single and addresses:
        message = "must be empty when `clusterIP` is not specified"
        errors.append(invalid_value("spec.clusterIPs", addresses, message))
    policy = spec.get("ipFamilyPolicy")
    if policy is not None and policy not in ("PreferDualStack", "RequireDualStack", "SingleStack"):
        choices = ["PreferDualStack", "RequireDualStack", "SingleStack"]
        errors.append(not_supported("spec.ipFamilyPolicy", policy, choices))
    for i, family in enumerate(families):
        if family not in ("IPv4", "IPv6"):
            errors.append(not_supported(f"spec.ipFamilies[{i}]", family, ["IPv4", "IPv6"]))
    if len(families) == 2 and families[0] == families[1]:
        errors.append(duplicate("spec.ipFamilies[1]", families[1]))
    if "None" in addresses:
        if len(addresses) > 1:
            errors.append(invalid_value("spec.clusterIPs", addresses, "'None' must be the first and only value"))
        return errors + _external_ips(spec)
    if len(addresses) > 2:
        message = "may only hold up to 2 values"
        errors.append(invalid_value("spec.clusterIPs", addresses, message))
    for i, address in enumerate(addresses):
        messages = strict_ip.is_ip(address)
        errors += broken(f"spec.clusterIPs[{i}]", address, messages)
    return errors + _external_ips(spec)


def _external_ips(spec: Object) -> list[FieldError]:
    errors: list[FieldError] = []
    for i, address in enumerate(spec.get("externalIPs") or []):
        field = f"spec.externalIPs[{i}]"
        messages = strict_ip.is_ip(address)
        errors += broken(field, address, messages)
        if not messages:
            errors += validate_ordinary_ip(address, field)
    return errors


def validate_ordinary_ip(address: str, field: str) -> list[FieldError]:
    """Neither unspecified, loopback, link-local nor multicast."""
    ip = rules.parse_ip(address)
    if ip is None:
        return [invalid_value(field, address, "must be a valid IP address")]
    errors: list[FieldError] = []
    if ip.is_unspecified:
        message = f"may not be unspecified ({ip})"
        errors.append(invalid_value(field, address, message))
    if ip.is_loopback:
        network = "127.0.0.0/8, ::1/128"
        errors.append(invalid_value(field, address, f"may not be in the loopback range ({network})"))
    if ip.is_link_local:
        network = "169.254.0.0/16, fe80::/10"
        errors.append(invalid_value(field, address, f"may not be in the link-local range ({network})"))
    if _link_local_multicast(ip):
        network = "224.0.0.0/24, ff02::/10"
        errors.append(invalid_value(field, address, f"may not be in the link-local multicast range ({network})"))
    return errors


def _link_local_multicast(ip: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    if isinstance(ip, ipaddress.IPv4Address):
        return ip in ipaddress.IPv4Network("224.0.0.0/24")
    return ip in ipaddress.IPv6Network("ff02::/16")


def _port_conflicts(ports: list[Object], type: str) -> list[FieldError]:
    errors: list[FieldError] = []
    nodes: set[tuple[Any, Any]] = set()
    for i, port in enumerate(ports):
        node = port.get("nodePort") or 0
        if not node:
            continue
        field = f"spec.ports[{i}].nodePort"
        if type == "ClusterIP":
            errors.append(forbidden_field(field, "may not be used when `type` is 'ClusterIP'"))
        if (port.get("protocol"), node) in nodes:
            errors.append(duplicate(field, node))
        nodes.add((port.get("protocol"), node))
    seen: set[tuple[Any, Any]] = set()
    for i, port in enumerate(ports):
        key = (port.get("protocol"), port.get("port"))
        if key in seen:
            shown = {"protocol": key[0], "port": key[1]}
            errors.append(duplicate(f"spec.ports[{i}]", shown))
        seen.add(key)
    return errors


def _load_balancer(spec: Object, type: str) -> list[FieldError]:
    errors: list[FieldError] = []
    ranges = spec.get("loadBalancerSourceRanges") or []
    if ranges and type != LOAD_BALANCER:
        message = "may only be used when `type` is 'LoadBalancer'"
        errors.append(forbidden_field("spec.LoadBalancerSourceRanges", message))
    for i, network in enumerate(ranges):
        errors += broken(f"spec.LoadBalancerSourceRanges[{i}]", network, strict_ip.is_cidr(network.strip()))
    allocate = spec.get("allocateLoadBalancerNodePorts")
    if type == LOAD_BALANCER and allocate is None:
        errors.append(required("spec.allocateLoadBalancerNodePorts"))
    if type != LOAD_BALANCER and allocate is not None:
        message = "may only be used when `type` is 'LoadBalancer'"
        errors.append(forbidden_field("spec.allocateLoadBalancerNodePorts", message))
    name = spec.get("loadBalancerClass")
    if name is not None:
        if type != LOAD_BALANCER:
            message = "may only be used when type is 'LoadBalancer'"
            errors.append(forbidden_field("spec.loadBalancerClass", message))
        errors += broken("spec.loadBalancerClass", name, rules.is_qualified_name(name))
    return errors


def _external_traffic(obj: Object, spec: Object) -> list[FieldError]:
    errors: list[FieldError] = []
    policy, port = spec.get("externalTrafficPolicy") or "", spec.get("healthCheckNodePort") or 0
    if not is_externally_accessible(obj):
        if policy:
            message = "may only be set for externally-accessible services"
            errors.append(invalid_value("spec.externalTrafficPolicy", policy, message))
    else:
        errors += one_of("spec.externalTrafficPolicy", policy, ("Cluster", "Local"))
    if not needs_health_check_port(obj):
        if port:
            message = "may only be set when `type` is 'LoadBalancer' and `externalTrafficPolicy` is 'Local'"
            errors.append(invalid_value("spec.healthCheckNodePort", port, message))
    elif port:
        errors += broken("spec.healthCheckNodePort", port, rules.is_port_number(port))
    return errors


def _traffic(spec: Object, type: str) -> list[FieldError]:
    errors: list[FieldError] = []
    policy = spec.get("internalTrafficPolicy")
    if policy is None:
        if type in ("ClusterIP", NODE_PORT, LOAD_BALANCER):
            errors.append(required("spec.internalTrafficPolicy"))
    elif policy not in ("Cluster", "Local"):
        errors.append(not_supported("spec.internalTrafficPolicy", policy, ["Cluster", "Local"]))
    spread = spec.get("trafficDistribution")
    choices = ("PreferClose", "PreferSameNode", "PreferSameZone")
    if spread is not None and spread not in choices:
        errors.append(not_supported("spec.trafficDistribution", spread, choices))
    return errors


def validate_service_update(new: Object, old: Object) -> list[FieldError]:
    errors: list[FieldError] = []
    spec, before = new.get("spec") or {}, old.get("spec") or {}
    if needs_cluster_ip(old) and needs_cluster_ip(new):
        errors += _cluster_ips_update(spec, before)
    balanced = before.get("type") == LOAD_BALANCER and spec.get("type") == LOAD_BALANCER
    if balanced and strip(before.get("loadBalancerClass")) != strip(spec.get("loadBalancerClass")):
        message = "may not change once set"
        errors.append(invalid_value("spec.loadBalancerClass", spec.get("loadBalancerClass"), message))
    return errors + validate_service(new)


def _cluster_ips_update(spec: Object, before: Object) -> list[FieldError]:
    now, then = spec.get("clusterIPs") or [], before.get("clusterIPs") or []
    if then and not now:
        return [invalid_value("spec.clusterIPs[0]", None, "primary clusterIP can not be unset")]
    if then and now[0] != then[0]:
        return [invalid_value("spec.clusterIPs[0]", now, "may not change once set")]
    if len(then) == 2 and len(now) == 2 and now[1] != then[1]:
        return [invalid_value("spec.clusterIPs[1]", now, "may not change once set")]
    return []


def validate_load_balancer_status(obj: Object) -> list[FieldError]:
    errors: list[FieldError] = []
    ingress = ((obj.get("status") or {}).get("loadBalancer") or {}).get("ingress") or []
    if ingress and (obj.get("spec") or {}).get("type") != LOAD_BALANCER:
        message = "may only be used when `spec.type` is LoadBalancer"
        return [forbidden_field("status.loadBalancer.ingress", message)]
    for i, entry in enumerate(ingress):
        errors += validate_ingress_status(entry, f"status.loadBalancer.ingress[{i}]")
        mode = entry.get("ipMode")
        if entry.get("ip") and mode is None:
            errors.append(required(f"status.loadBalancer.ingress[{i}].ipMode", "must be specified when `ip` is set"))
        elif not entry.get("ip") and mode is not None:
            message = "may not be specified when `ip` is not set"
            errors.append(forbidden_field(f"status.loadBalancer.ingress[{i}].ipMode", message))
        elif mode is not None and mode not in ("Proxy", "VIP"):
            errors.append(not_supported(f"status.loadBalancer.ingress[{i}].ipMode", mode, ["Proxy", "VIP"]))
    return errors


def validate_ingress_status(entry: Object, field: str) -> list[FieldError]:
    errors: list[FieldError] = []
    if entry.get("ip"):
        errors += broken(f"{field}.ip", entry["ip"], strict_ip.is_ip(entry["ip"]))
    host = entry.get("hostname")
    if host:
        errors += broken(f"{field}.hostname", host, rules.is_dns1123_subdomain(host))
        if rules.parse_ip(host) is not None:
            errors.append(invalid_value(f"{field}.hostname", host, "must be a DNS name, not an IP address"))
    return errors
