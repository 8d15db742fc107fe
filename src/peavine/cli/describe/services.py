"""Services, with the addresses behind them."""

from __future__ import annotations

from typing import Any

from peavine.cli.describe.text import Text, annotation_lines, labels
from peavine.cli.session import Session

Object = dict[str, Any]


def _start(obj: Object) -> Text:
    text, meta = Text(), obj["metadata"]
    text.field(0, "Name", meta["name"])
    text.field(0, "Namespace", meta.get("namespace", ""))
    return text


async def service(session: Session, obj: Object) -> Text:
    meta, spec, status = obj["metadata"], obj["spec"], obj.get("status") or {}
    text = _start(obj)
    labels(text, 0, "Labels", meta.get("labels"))
    annotation_lines(text, 0, "Annotations", meta.get("annotations"))
    text.field(0, "Selector", ",".join(f"{k}={v}" for k, v in sorted((spec.get("selector") or {}).items())) or "<none>")
    text.field(0, "Type", spec.get("type", ""))
    if spec.get("ipFamilyPolicy"):
        text.field(0, "IP Family Policy", spec["ipFamilyPolicy"])
    text.field(0, "IP Families", ",".join(spec.get("ipFamilies") or ()) or "<none>")
    text.field(0, "IP", spec.get("clusterIP", ""))
    text.field(0, "IPs", ",".join(spec.get("clusterIPs") or ()) or "<none>")
    if spec.get("externalIPs"):
        text.field(0, "External IPs", ",".join(spec["externalIPs"]))
    if spec.get("loadBalancerIP"):
        text.field(0, "Desired LoadBalancer IP", spec["loadBalancerIP"])
    if spec.get("externalName"):
        text.field(0, "External Name", spec["externalName"])
    ingress = (status.get("loadBalancer") or {}).get("ingress")
    if ingress:
        text.field(0, "LoadBalancer Ingress", ", ".join(i.get("ip") or i.get("hostname", "") for i in ingress))
    endpoints = await _slices(session, meta)
    for port in spec.get("ports") or ():
        text.field(0, "Port", f"{port.get('name') or '<unset>'}\t{port['port']}/{port.get('protocol', 'TCP')}")
        text.field(0, "TargetPort", f"{port.get('targetPort')}/{port.get('protocol', 'TCP')}")
        if port.get("nodePort"):
            text.field(
                0, "NodePort", f"{port.get('name') or '<unset>'}\t{port['nodePort']}/{port.get('protocol', 'TCP')}"
            )
        text.field(0, "Endpoints", ready_addresses(endpoints, port.get("name", "")))
    text.field(0, "Session Affinity", spec.get("sessionAffinity", ""))
    if spec.get("externalTrafficPolicy"):
        text.field(0, "External Traffic Policy", spec["externalTrafficPolicy"])
    if spec.get("internalTrafficPolicy"):
        text.field(0, "Internal Traffic Policy", spec["internalTrafficPolicy"])
    if spec.get("healthCheckNodePort"):
        text.field(0, "HealthCheck NodePort", spec["healthCheckNodePort"])
    if spec.get("loadBalancerSourceRanges"):
        text.field(0, "LoadBalancer Source Ranges", ",".join(spec["loadBalancerSourceRanges"]))
    return text


async def _slices(session: Session, meta: Object) -> list[Object]:
    path = f"/apis/discovery.k8s.io/v1/namespaces/{meta['namespace']}/endpointslices"
    return (await session.get(path, labelSelector=f"kubernetes.io/service-name={meta['name']}")).get("items") or []


def ready_addresses(slices: list[Object], port_name: str) -> str:
    if not slices:
        return "<none>"
    found = []
    for piece in slices:
        ports = [p for p in piece.get("ports") or () if p.get("name", "") == port_name]
        for endpoint in piece.get("endpoints") or ():
            if (endpoint.get("conditions") or {}).get("ready", True):
                found += [f"{address}:{p['port']}" for p in ports for address in endpoint.get("addresses") or ()]
    return ",".join(found[:3]) + (f" + {len(found) - 3} more..." if len(found) > 3 else "") if found else ""
