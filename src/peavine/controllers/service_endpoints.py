"""Which pods back a Service, and at what ports: pure rules that Endpoints and EndpointSlices share."""

from __future__ import annotations

from typing import Any

from peavine.api.core.podstate import is_ready

Object = dict[str, Any]


def selects_pods(service: Object) -> bool:
    """The controllers look after Services with a selector; the others' endpoints are somebody else's."""
    return bool(service["spec"].get("selector")) and service["spec"].get("type") != "ExternalName"


def is_headless(service: Object) -> bool:
    return service["spec"].get("clusterIP") == "None"


def belongs(pod: Object, *, terminating: bool) -> bool:
    """The pod has an address and may still serve. `terminating`: whether one being deleted counts."""
    status = pod.get("status") or {}
    if status.get("phase") in ("Failed", "Succeeded") or not (status.get("podIP") or status.get("podIPs")):
        return False
    return terminating or "deletionTimestamp" not in pod["metadata"]


def addresses(pod: Object, family: str) -> list[str]:
    """The pod's addresses of one family, `IPv4` or `IPv6`."""
    status = pod.get("status") or {}
    ips = [ip["ip"] for ip in status.get("podIPs") or ()] or [status.get("podIP", "")]
    return [ip for ip in ips if ip and (":" in ip) == (family == "IPv6")]


def families(service: Object) -> list[str]:
    return service["spec"].get("ipFamilies") or ["IPv4"]


def port_number(pod: Object, service_port: Object) -> int | None:
    """The pod's port behind a service port; None where it names a port that this pod has not."""
    target = service_port.get("targetPort") or service_port["port"]
    if isinstance(target, int):
        return target
    protocol = service_port.get("protocol", "TCP")
    spec = pod["spec"]
    sidecars = [c for c in spec.get("initContainers") or () if c.get("restartPolicy") == "Always"]
    for container in [*spec.get("containers", ()), *sidecars]:
        for port in container.get("ports") or ():
            if port.get("name") == target and port.get("protocol", "TCP") == protocol:
                return port["containerPort"]
    return None


def target_reference(pod: Object) -> Object:
    meta = pod["metadata"]
    return {"kind": "Pod", "namespace": meta["namespace"], "name": meta["name"], "uid": meta["uid"]}


def hostname(pod: Object, service: Object) -> str:
    """The DNS name of the pod below a headless service, where it asked for one."""
    spec, meta = pod["spec"], service["metadata"]
    if (
        spec.get("hostname")
        and spec.get("subdomain") == meta["name"]
        and pod["metadata"]["namespace"] == meta["namespace"]
    ):
        return spec["hostname"]
    return ""


def serving(pod: Object) -> bool:
    return is_ready(pod)


def concerns_endpoints(old: Object, new: Object) -> bool:
    """Did anything change that endpoints show? Heartbeats of a pod's status must not cause work."""

    def shown(pod: Object) -> tuple[Any, ...]:
        meta, spec, status = pod["metadata"], pod["spec"], pod.get("status") or {}
        return (
            meta.get("labels"),
            "deletionTimestamp" in meta,
            spec.get("nodeName"),
            status.get("podIP"),
            status.get("podIPs"),
            status.get("phase") in ("Failed", "Succeeded"),
            is_ready(pod),
        )

    return shown(old) != shown(new)
