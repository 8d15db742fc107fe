"""Service: one address for many pods. Addresses and node ports are given out by the server's allocators."""

from __future__ import annotations

from typing import Any

from peavine.api.kind import keep
from peavine.api.printing import AGE, NAME, NONE, Column, labels, name, object_age
from peavine.machinery.errors import FieldError

Object = dict[str, Any]

CLUSTER_IP, NODE_PORT, LOAD_BALANCER, EXTERNAL_NAME = "ClusterIP", "NodePort", "LoadBalancer", "ExternalName"
HINTS, TOPOLOGY_MODE = "service.kubernetes.io/topology-aware-hints", "service.kubernetes.io/topology-mode"

COLUMNS = (
    NAME,
    Column("Type", description="@core.v1.ServiceSpec.type"),
    Column("Cluster-IP", description="@core.v1.ServiceSpec.clusterIP"),
    Column("External-IP", description="@core.v1.ServiceSpec.externalIPs"),
    Column("Port(s)", description="@core.v1.ServiceSpec.ports"),
    AGE,
    Column("Selector", description="@core.v1.ServiceSpec.selector", priority=1),
)
FIELD_LABELS = {
    "spec.clusterIP": lambda obj: (obj.get("spec") or {}).get("clusterIP") or "",
    "spec.type": lambda obj: (obj.get("spec") or {}).get("type") or "",
}
UNKNOWN_FIELD_LABEL = "field label not supported: {}"


def row(obj: Object) -> list[Any]:
    spec = obj.get("spec") or {}
    addresses = spec.get("clusterIPs") or ([spec["clusterIP"]] if spec.get("clusterIP") else [])
    return [
        name(obj),
        spec.get("type") or "",
        addresses[0] if addresses else NONE,
        external_ip(obj),
        ",".join(_port(port) for port in spec.get("ports") or []) or NONE,
        object_age(obj),
        labels(spec.get("selector")),
    ]


def _port(port: Object) -> str:
    node = f":{port['nodePort']}" if port.get("nodePort") else ""
    return f"{port.get('port')}{node}/{port.get('protocol') or 'TCP'}"


def external_ip(obj: Object) -> str:
    spec, type = obj.get("spec") or {}, (obj.get("spec") or {}).get("type")
    external = spec.get("externalIPs") or []
    if type == EXTERNAL_NAME:
        return spec.get("externalName") or ""
    if type == LOAD_BALANCER:
        ingress = ((obj.get("status") or {}).get("loadBalancer") or {}).get("ingress") or []
        given = ",".join(sorted({i.get("ip") or i.get("hostname") or "" for i in ingress} - {""}))
        if external:
            return ",".join([given, *external] if given else external)
        return given or "<pending>"
    return ",".join(external) or NONE


# Questions that allocators, proxies and controllers ask too


def needs_cluster_ip(obj: Object) -> bool:
    return (obj.get("spec") or {}).get("type") in (CLUSTER_IP, NODE_PORT, LOAD_BALANCER)


def is_headless(obj: Object) -> bool:
    spec = obj.get("spec") or {}
    return "None" in (spec.get("clusterIPs") or [spec.get("clusterIP")])


def needs_node_port(obj: Object) -> bool:
    spec = obj.get("spec") or {}
    if spec.get("type") == NODE_PORT:
        return True
    return spec.get("type") == LOAD_BALANCER and spec.get("allocateLoadBalancerNodePorts") is not False


def needs_health_check_port(obj: Object) -> bool:
    spec = obj.get("spec") or {}
    return spec.get("type") == LOAD_BALANCER and spec.get("externalTrafficPolicy") == "Local"


def is_externally_accessible(obj: Object) -> bool:
    spec = obj.get("spec") or {}
    type = spec.get("type")
    return type in (NODE_PORT, LOAD_BALANCER) or (type == CLUSTER_IP and bool(spec.get("externalIPs")))


# Defaults and preparation


def default(obj: Object) -> None:
    spec = obj.setdefault("spec", {})
    spec["sessionAffinity"] = spec.get("sessionAffinity") or "None"
    if spec["sessionAffinity"] == "None":
        spec.pop("sessionAffinityConfig", None)
    elif spec["sessionAffinity"] == "ClientIP":
        client = ((spec.get("sessionAffinityConfig") or {}).get("clientIP")) or {}
        if client.get("timeoutSeconds") is None:
            spec["sessionAffinityConfig"] = {"clientIP": {"timeoutSeconds": 10800}}
    spec["type"] = spec.get("type") or CLUSTER_IP
    for port in spec.get("ports") or []:
        port["protocol"] = port.get("protocol") or "TCP"
        if port.get("targetPort") in (None, 0, ""):
            port["targetPort"] = port.get("port") or 0
    if is_externally_accessible(obj) and not spec.get("externalTrafficPolicy"):
        spec["externalTrafficPolicy"] = "Cluster"
    if needs_cluster_ip(obj) and spec.get("internalTrafficPolicy") is None:
        spec["internalTrafficPolicy"] = "Cluster"
    if spec["type"] == LOAD_BALANCER and spec.get("allocateLoadBalancerNodePorts") is None:
        spec["allocateLoadBalancerNodePorts"] = True


def prepare_create(obj: Object) -> None:
    obj["status"] = {"loadBalancer": {}}
    _mirror_cluster_ip(obj, None)


KEEPS_STATUS_ON_CREATE = True


def prepare_update(new: Object, old: Object) -> None:
    """What was allocated stays where the new object is silent, and goes where its type has no use of it."""
    _keep_allocated(new, old)
    _mirror_cluster_ip(new, old)
    _drop_useless(new, old)


def prepare_status_update(new: Object, old: Object) -> None:
    keep(new, old, "spec")


def _mirror_cluster_ip(new: Object, old: Object | None) -> None:
    """clusterIP and the first of clusterIPs are one value; old clients know only the former."""
    spec = new.setdefault("spec", {})
    single, several = spec.get("clusterIP") or "", spec.get("clusterIPs") or []
    if old is None:
        if single and not several:
            spec["clusterIPs"] = [single]
        return
    before = old.get("spec") or {}
    was, were = before.get("clusterIP") or "", before.get("clusterIPs") or []
    if several == were and single != was:
        if single:
            spec["clusterIPs"] = [single]
        else:
            spec.pop("clusterIPs", None)
    elif single == was and not several and were and single:
        spec["clusterIPs"] = list(were)


def _keep_allocated(new: Object, old: Object) -> None:
    spec, before = new["spec"], old.get("spec") or {}
    if needs_cluster_ip(old) and needs_cluster_ip(new):
        if not spec.get("clusterIP") and before.get("clusterIP"):
            spec["clusterIP"] = before["clusterIP"]
        same = spec.get("clusterIP") == before.get("clusterIP")
        if same and not spec.get("clusterIPs") and before.get("clusterIPs"):
            spec["clusterIPs"] = list(before["clusterIPs"])
        for field in ("ipFamilies", "ipFamilyPolicy"):
            if not spec.get(field) and before.get(field):
                spec[field] = before[field]
    if needs_node_port(old) and needs_node_port(new):
        used = {port.get("nodePort") for port in spec.get("ports") or []}
        known = {(p.get("protocol"), p.get("port")): p.get("nodePort") for p in before.get("ports") or []}
        for port in spec.get("ports") or []:
            given = known.get((port.get("protocol"), port.get("port")))
            if not port.get("nodePort") and given and given not in used:
                port["nodePort"] = given
                used.add(given)
    if needs_health_check_port(old) and needs_health_check_port(new) and not spec.get("healthCheckNodePort"):
        keep(spec, before, "healthCheckNodePort")


def _drop_useless(new: Object, old: Object) -> None:
    spec, before = new["spec"], old.get("spec") or {}

    def unchanged(field: str) -> bool:
        return spec.get(field) == before.get(field)

    if needs_cluster_ip(old) and not needs_cluster_ip(new):
        for fields in (("clusterIP", "clusterIPs"), ("ipFamilies", "ipFamilyPolicy")):
            if all(unchanged(field) for field in fields):
                for field in fields:
                    spec.pop(field, None)
        if unchanged("internalTrafficPolicy"):
            spec.pop("internalTrafficPolicy", None)
    if needs_node_port(old) and not needs_node_port(new):
        now, then = ([p.get("nodePort") for p in s.get("ports") or []] for s in (spec, before))
        if now == then:
            for port in spec.get("ports") or []:
                port.pop("nodePort", None)
    if needs_health_check_port(old) and not needs_health_check_port(new) and unchanged("healthCheckNodePort"):
        spec.pop("healthCheckNodePort", None)
    if before.get("type") == LOAD_BALANCER and spec.get("type") != LOAD_BALANCER:
        for field in ("allocateLoadBalancerNodePorts", "loadBalancerClass"):
            if unchanged(field):
                spec.pop(field, None)
    if is_externally_accessible(old) and not is_externally_accessible(new) and unchanged("externalTrafficPolicy"):
        spec.pop("externalTrafficPolicy", None)


# Validation


def validate_create(obj: Object) -> list[FieldError]:
    from peavine.api.core.service_validation import validate_service

    return validate_service(obj)


def validate_update(new: Object, old: Object) -> list[FieldError]:
    from peavine.api.core.service_validation import validate_service_update

    return validate_service_update(new, old)


def validate_status_update(new: Object, old: Object) -> list[FieldError]:
    from peavine.api.core.service_validation import validate_load_balancer_status

    return validate_load_balancer_status(new)


def warnings(obj: Object, old: Object | None) -> list[str]:
    from peavine.api import strict_ip

    spec, found = obj.get("spec") or {}, []
    kind, own = spec.get("type"), spec.get("clusterIP")
    external, balancer = spec.get("externalIPs") or [], spec.get("loadBalancerIP") or ""
    if HINTS in ((obj.get("metadata") or {}).get("annotations") or {}):
        found.append(f"annotation {HINTS} is deprecated, please use {TOPOLOGY_MODE} instead")
    if own not in (None, "", "None") and kind != EXTERNAL_NAME:
        for i, address in enumerate(spec.get("clusterIPs") or []):
            found += strict_ip.warn_of_ip(f"spec.clusterIPs[{i}]", address)
    headless = kind == CLUSTER_IP and own == "None"
    if headless:
        if balancer:
            found.append("spec.loadBalancerIP is ignored for headless services")
        if external:
            found.append("spec.externalIPs is ignored for headless services")
        if spec.get("sessionAffinity") != "None":
            found.append("spec.SessionAffinity is ignored for headless services")
    for i, address in enumerate(external):
        found += strict_ip.warn_of_ip(f"spec.externalIPs[{i}]", address)
    if external and not headless and kind != EXTERNAL_NAME:
        found.append("spec.externalIPs is deprecated and may no longer be implemented in some clusters")
    if balancer:
        found += strict_ip.warn_of_ip("spec.loadBalancerIP", balancer)
    for i, network in enumerate(spec.get("loadBalancerSourceRanges") or []):
        found += strict_ip.warn_of_cidr(f"spec.loadBalancerSourceRanges[{i}]", network.strip())
    if external and kind == EXTERNAL_NAME:
        found.append('spec.externalIPs is ignored when spec.type is "ExternalName"')
    if spec.get("externalName") and kind != EXTERNAL_NAME:
        found.append('spec.externalName is ignored when spec.type is not "ExternalName"')
    if spec.get("trafficDistribution") == "PreferClose":
        found.append('spec.trafficDistribution: "PreferClose" is deprecated; use "PreferSameZone"')
    return found
