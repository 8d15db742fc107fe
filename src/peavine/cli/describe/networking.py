# ruff: noqa: E501
"""Endpoints, endpoint slices, network policies, ingresses and their classes, service ranges."""

from __future__ import annotations

from typing import Any

from peavine.cli.describe.text import Text, annotation_lines, labels, selector_text, when
from peavine.cli.session import Session
from peavine.machinery.errors import ApiError

Object = dict[str, Any]


def _start(obj: Object, *, namespace: bool = True) -> Text:
    text, meta = Text(), obj["metadata"]
    text.field(0, "Name", meta["name"])
    if namespace:
        text.field(0, "Namespace", meta.get("namespace", ""))
    return text


def _labelled(text: Text, meta: Object) -> None:
    labels(text, 0, "Labels", meta.get("labels"))
    annotation_lines(text, 0, "Annotations", meta.get("annotations"))


async def endpoints(session: Session, obj: Object) -> Text:
    text = _start(obj)
    _labelled(text, obj["metadata"])
    text.line(0, "Subsets:")
    for subset in obj.get("subsets") or ():
        for shown, key in (("Addresses", "addresses"), ("NotReadyAddresses", "notReadyAddresses")):
            found = ",".join(address["ip"] for address in subset.get(key) or ())
            text.field(1, shown, found or "<none>")
        if subset.get("ports"):
            text.line(1, "Ports:")
            _ports(text, 2, subset["ports"])
        text.line(0, "")
    return text


def _ports(text: Text, level: int, ports: list[Object]) -> None:
    text.line(level, "Name\tPort\tProtocol")
    text.line(level, "----\t----\t--------")
    for port in ports:
        number = port.get("port")
        text.line(
            level,
            f"{port.get('name') or '<unset>'}\t{'<unset>' if number is None else number}\t{port.get('protocol', 'TCP')}",
        )


async def endpoint_slice(session: Session, obj: Object) -> Text:
    text = _start(obj)
    _labelled(text, obj["metadata"])
    text.field(0, "AddressType", obj.get("addressType", ""))
    ports = obj.get("ports") or []
    if ports:
        text.line(0, "Ports:")
        _ports(text, 1, ports)
    else:
        text.line(0, "Ports: <unset>")
    found = obj.get("endpoints") or []
    text.line(0, "Endpoints:" if found else "Endpoints: <none>")
    for endpoint in found:
        text.field(1, "- Addresses", ",".join(endpoint.get("addresses") or ()))
        text.line(2, "Conditions:")
        ready = (endpoint.get("conditions") or {}).get("ready")
        text.field(3, "Ready", "<unset>" if ready is None else str(ready).lower())
        text.field(2, "Hostname", endpoint.get("hostname") or "<unset>")
        target = endpoint.get("targetRef")
        if target:
            text.field(2, "TargetRef", f"{target.get('kind', '')}/{target.get('name', '')}")
        text.field(2, "NodeName", endpoint.get("nodeName") or "<unset>")
        text.field(2, "Zone", endpoint.get("zone") or "<unset>")
    return text


# --- network policies


async def network_policy(session: Session, obj: Object) -> Text:
    text, meta, spec = _start(obj), obj["metadata"], obj.get("spec") or {}
    made = (meta.get("creationTimestamp") or "").replace("T", " ").replace("Z", " +0000 UTC")
    text.field(0, "Created on", made)
    _labelled(text, meta)
    text.line(0, "Spec:")
    chosen = selector_text(spec.get("podSelector"))
    if chosen == "<none>":
        chosen += " (Allowing the specific traffic to all pods in this namespace)"
    text.line(1, f"PodSelector:     {chosen}")
    types = spec.get("policyTypes") or []
    for way, word, key in (("ingress", "From", "from"), ("egress", "To", "to")):
        if way.capitalize() in types:
            text.line(1, f"Allowing {way} traffic:")
            _traffic(text, spec.get(way) or [], way, word, key)
        else:
            text.line(1, f"Not affecting {way} traffic")
    text.line(1, f"Policy Types: {', '.join(types)}")
    return text


def _traffic(text: Text, rules: list[Object], way: str, word: str, key: str) -> None:
    if not rules:
        text.line(2, f"<none> (Selected pods are isolated for {way} connectivity)")
    for at, rule in enumerate(rules):
        for port in rule.get("ports") or ():
            shown = port.get("port", "<any>")
            protocol = port.get("protocol", "TCP")
            if port.get("endPort"):
                text.line(2, f"To Port Range: {shown}-{port['endPort']}/{protocol}")
            else:
                text.line(2, f"To Port: {shown}/{protocol}")
        if not rule.get("ports"):
            text.line(2, "To Port: <any> (traffic allowed to all ports)")
        if not rule.get(key):
            end = "source" if way == "ingress" else "destination"
            text.line(2, f"{word}: <any> (traffic not restricted by {end})")
        for peer in rule.get(key) or ():
            text.line(2, f"{word}:")
            if "ipBlock" in peer:
                text.line(3, "IPBlock:")
                text.line(4, f"CIDR: {peer['ipBlock'].get('cidr', '')}")
                text.line(4, f"Except: {', '.join(peer['ipBlock'].get('except') or ())}")
            if "namespaceSelector" in peer:
                text.line(3, f"NamespaceSelector: {selector_text(peer['namespaceSelector'])}")
            if "podSelector" in peer:
                text.line(3, f"PodSelector: {selector_text(peer['podSelector'])}")
        if at != len(rules) - 1:
            text.line(2, "----------")


# --- ingress


async def ingress(session: Session, obj: Object) -> Text:
    text, meta, spec, status = Text(), obj["metadata"], obj.get("spec") or {}, obj.get("status") or {}
    text.field(0, "Name", meta["name"])
    labels(text, 0, "Labels", meta.get("labels"))
    text.field(0, "Namespace", meta.get("namespace", ""))
    addresses = [i.get("ip") or i.get("hostname", "") for i in (status.get("loadBalancer") or {}).get("ingress") or ()]
    text.field(0, "Address", ",".join(addresses))
    text.field(0, "Ingress Class", spec.get("ingressClassName") or "<none>")
    default = spec.get("defaultBackend")
    space = meta["namespace"]
    shown_default = await _backend(session, space, default) if default else "<default>"
    text.field(0, "Default backend", shown_default)
    if spec.get("tls"):
        text.line(0, "TLS:")
        for entry in spec["tls"]:
            hosts = ",".join(entry.get("hosts") or ())
            if entry.get("secretName"):
                text.line(1, f"{entry['secretName']} terminates {hosts}")
            else:
                text.line(1, f"SNI routes {hosts}")
    text.line(0, "Rules:")
    text.line(1, "Host\tPath\tBackends")
    text.line(1, "----\t----\t--------")
    count = 0
    for rule in spec.get("rules") or ():
        paths = (rule.get("http") or {}).get("paths")
        if paths is None:
            continue
        text.line(1, f"{rule.get('host') or '*'}\t")
        for path in paths:
            count += 1
            text.line(1, f"\t{path.get('path', '')} \t{await _backend(session, space, path.get('backend') or {})}")
    if not count:
        text.line(1, f"*\t*\t{shown_default}")
    annotation_lines(text, 0, "Annotations", meta.get("annotations"))
    return text


async def _backend(session: Session, namespace: str, backend: Object) -> str:
    """A backend, and where it is: the addresses of its Service's endpoints."""
    resource = backend.get("resource")
    if resource:
        group = resource.get("apiGroup") or "<none>"
        return f"APIGroup: {group}, Kind: {resource.get('kind', '')}, Name: {resource.get('name', '')}"
    service = backend.get("service") or {}
    name, port = service.get("name", ""), service.get("port") or {}
    wanted = port.get("name") or str(port.get("number", ""))
    path = f"/api/v1/namespaces/{namespace}/services/{name}"
    try:
        found = await session.get(path)
    except ApiError as error:
        return f"{name}:{wanted} (<error: {error.message}>)"
    return f"{name}:{wanted} ({await _addresses(session, namespace, found, port)})"


async def _addresses(session: Session, namespace: str, service: Object, port: Object) -> str:
    from peavine.cli.describe.services import ready_addresses

    name = next(
        (p.get("name", "") for p in (service.get("spec") or {}).get("ports") or ()
         if (port.get("name") and p.get("name") == port["name"]) or p.get("port") == port.get("number")), None,
    )  # fmt: skip
    path = f"/apis/discovery.k8s.io/v1/namespaces/{namespace}/endpointslices"
    selector = f"kubernetes.io/service-name={service['metadata']['name']}"
    slices = (await session.get(path, labelSelector=selector)).get("items") or []
    return ready_addresses(slices, name or "") if name is not None else ""


async def ingress_class(session: Session, obj: Object) -> Text:
    text, spec = _start(obj, namespace=False), obj.get("spec") or {}
    _labelled(text, obj["metadata"])
    text.field(0, "Controller", spec.get("controller", ""))
    given = spec.get("parameters")
    if given:
        text.line(0, "Parameters:")
        if given.get("apiGroup"):
            text.field(1, "APIGroup", given["apiGroup"])
        text.field(1, "Kind", given.get("kind", ""))
        text.field(1, "Name", given.get("name", ""))
    return text


async def service_cidr(session: Session, obj: Object) -> Text:
    text, conditions = _start(obj, namespace=False), (obj.get("status") or {}).get("conditions")
    _labelled(text, obj["metadata"])
    text.field(0, "CIDRs", ", ".join((obj.get("spec") or {}).get("cidrs") or ()))
    if conditions:
        text.line(0, "Status:")
        text.line(0, "Conditions:")
        text.line(1, "Type\tStatus\tLastTransitionTime\tReason\tMessage")
        text.line(1, "----\t------\t------------------\t------\t-------")
        for c in conditions:
            text.line(
                1,
                f"{c['type']}\t{c['status']}\t{when(c.get('lastTransitionTime'))}\t{c.get('reason', '')}\t{c.get('message', '')}",
            )
    return text


async def ip_address(session: Session, obj: Object) -> Text:
    text, parent = _start(obj, namespace=False), (obj.get("spec") or {}).get("parentRef")
    _labelled(text, obj["metadata"])
    if parent:
        text.line(0, "Parent Reference:")
        for shown in ("group", "resource", "namespace", "name"):
            text.field(1, shown.capitalize(), parent.get(shown, ""))
    return text
