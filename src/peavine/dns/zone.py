"""The cluster's zone: Services, EndpointSlices and namespaces in, answers as bytes out. Pure.

Follows "Kubernetes DNS-Based Service Discovery" 1.1.0. An answer is made when an object changes and only copied when
it is asked for. A name below `svc` belongs to exactly one Service, so a changed Service replaces its own names and no
others; only reverse names can have several owners.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from typing import Any, NamedTuple

from peavine.wire import dns
from peavine.wire.dns import ANY, CLASS_IN, CNAME, HINFO, NS, PTR, QUESTION_NAME, SOA, SRV, TXT

Key = tuple[str, str]

SPECIFICATION = "1.1.0"
HEADLESS_LABEL = "service.kubernetes.io/headless"
SERVICE_NAME_LABEL = "kubernetes.io/service-name"
MANAGED_BY_LABEL = "endpointslice.kubernetes.io/managed-by"

# An answer with many records comes in this many orders, one after the other, so that clients spread.
rotations_max = 8


class Prepared(NamedTuple):
    """The part of a response after the question, and the three counts of the header."""

    counts: bytes
    body: bytes
    counts_with_opt: bytes
    rcode: int = dns.NOERROR


class ServiceView(NamedTuple):
    cluster_ips: tuple[str, ...]
    """Empty: headless."""
    ports: tuple[tuple[str, str, int], ...]
    external_name: str


class EndpointView(NamedTuple):
    addresses: tuple[str, ...]
    hostname: str
    ready: bool


class SliceView(NamedTuple):
    service: Key
    ports: tuple[tuple[str, str, int], ...]
    endpoints: tuple[EndpointView, ...]


def view_service(service: dict[str, Any]) -> ServiceView:
    spec = service.get("spec") or {}
    if spec.get("type") == "ExternalName":
        return ServiceView((), (), spec.get("externalName", ""))
    ips = tuple(spec.get("clusterIPs") or ([spec["clusterIP"]] if spec.get("clusterIP") else []))
    ports = tuple((p.get("name", ""), p.get("protocol", "TCP").lower(), p["port"]) for p in spec.get("ports") or [])
    return ServiceView(tuple(ip for ip in ips if ip != "None"), ports, "")


def view_slice(piece: dict[str, Any]) -> SliceView | None:
    """None for what no answer is made of: slices of Services with a cluster IP, where the controller says so."""
    meta = piece["metadata"]
    labels = meta.get("labels") or {}
    service = labels.get(SERVICE_NAME_LABEL)
    by_controller = labels.get(MANAGED_BY_LABEL) == "endpointslice-controller.k8s.io"
    if not service or (by_controller and HEADLESS_LABEL not in labels) or piece.get("addressType") == "FQDN":
        return None
    endpoints = []
    for endpoint in piece.get("endpoints") or []:
        ready = (endpoint.get("conditions") or {}).get("ready")
        if endpoint.get("addresses"):
            endpoints.append(
                EndpointView(
                    tuple(endpoint["addresses"]), (endpoint.get("hostname") or "").lower(), ready is None or ready
                )
            )
    ports = tuple(
        (p.get("name") or "", (p.get("protocol") or "TCP").lower(), p.get("port") or 0)
        for p in piece.get("ports") or []
    )
    return SliceView((meta["namespace"], service), ports, tuple(endpoints))


class Zone:
    """`answers` maps a question in lower case (name, type, class) to its Prepared, or to a list of them to take in
    turn.

    What is not in it is asked of `lookup`. Neither is valid across a change of an object.
    """

    def __init__(self, domain: str = "cluster.local", ttl: int = 5, dns_addresses: Iterable[str] = ()) -> None:
        self.domain = domain.strip(".").lower()
        self.apex = dns.name(self.domain)
        self.ttl = ttl
        self.answers: dict[bytes, Prepared | list[Prepared]] = {}
        self.cnames: dict[bytes, bytes] = {}
        """Names of ExternalName Services, to the names that they stand for."""
        self._names: set[bytes] = set()
        self._services: dict[Key, ServiceView] = {}
        self._slices: dict[Key, dict[str, SliceView]] = {}
        self._homes: dict[Key, Key] = {}
        self._owned: dict[Key, tuple[list[bytes], set[bytes], list[bytes]]] = {}
        self._reverse: dict[bytes, dict[Key, tuple[bytes, ...]]] = {}
        self._namespaces: set[str] = set()
        primary = dns.name(f"ns.dns.{self.domain}")
        self._soa = dns.record(
            self.apex, SOA, ttl, dns.soa_rdata(primary, dns.name(f"hostmaster.{self.domain}"), 1, ttl)
        )
        self.no_data = self.negative(dns.NOERROR)
        self.no_name = self.negative(dns.NXDOMAIN)
        self._static(primary, tuple(dns_addresses))

    def _static(self, primary: bytes, addresses: tuple[str, ...]) -> None:
        for label in ("", "svc.", "pod.", "dns."):
            self._names.add(dns.name(label + self.domain))
        self._names.add(primary)
        self._put(self.apex, SOA, [self._soa[len(self.apex) + 10 :]])
        self._put(self.apex, NS, [primary])
        version = dns.name(f"dns-version.{self.domain}")
        self._names.add(version)
        self._put(version, TXT, [dns.txt_rdata(SPECIFICATION)])
        by_type: dict[int, list[bytes]] = {}
        for address in addresses:
            kind, rdata = dns.address_rdata(address)
            by_type.setdefault(kind, []).append(rdata)
        for kind, found in by_type.items():
            self._put(primary, kind, found)

    # changes
    def set_namespace(self, namespace: str, exists: bool) -> None:
        (self._namespaces.add if exists else self._namespaces.discard)(namespace.lower())

    def set_service(self, key: Key, view: ServiceView | None) -> None:
        if view is None:
            self._services.pop(key, None)
        elif self._services.get(key) == view:
            return
        else:
            self._services[key] = view
        self._rebuild(key)

    def set_slice(self, key: Key, view: SliceView | None) -> None:
        home = self._homes.pop(key, None)
        if home is not None and (view is None or view.service != home):
            pieces = self._slices[home]
            del pieces[key[1]]
            if not pieces:
                del self._slices[home]
            self._rebuild(home)
        if view is not None:
            self._homes[key] = view.service
            pieces = self._slices.setdefault(view.service, {})
            if pieces.get(key[1]) != view:
                pieces[key[1]] = view
                self._rebuild(view.service)

    def _rebuild(self, key: Key) -> None:
        questions, names, reverse = self._owned.pop(key, ([], set(), []))
        for question in questions:
            self.answers.pop(question, None)
        self._names -= names
        for name in names:
            self.cnames.pop(name, None)
        changed = set(reverse)
        for pointer in reverse:
            self._reverse[pointer].pop(key, None)
        view = self._services.get(key)
        if view is not None:
            pointers: dict[bytes, list[bytes]]
            names, pointers = set(), {}
            questions = list(self._render(key, view, names, pointers))
            for pointer, targets in pointers.items():
                self._reverse.setdefault(pointer, {})[key] = tuple(targets)
            changed.update(pointers)
            self._names |= names
            self._owned[key] = (questions, names, list(pointers))
        for pointer in changed:
            owners = self._reverse.get(pointer)
            targets = [t for owner in sorted(owners) for t in owners[owner]] if owners else []
            if targets:
                self._put(pointer, PTR, targets)
            else:
                self._reverse.pop(pointer, None)
                self.answers.pop(_question(pointer, PTR), None)

    def _render(
        self, key: Key, view: ServiceView, names: set[bytes], pointers: dict[bytes, list[bytes]]
    ) -> Iterable[bytes]:
        namespace, service = key
        own = dns.name(f"{service}.{namespace}.svc.{self.domain}".lower())
        names.add(own)
        if view.external_name:
            try:
                target = dns.name(view.external_name)
            except ValueError:
                return
            self.cnames[own] = target
            yield self._put(own, CNAME, [target])
        elif view.cluster_ips:
            addresses = self._addresses(view.cluster_ips)
            for kind, rdatas in addresses.items():
                yield self._put(own, kind, rdatas)
            more = [dns.record(own, kind, self.ttl, r) for kind, rdatas in addresses.items() for r in rdatas]
            for name, protocol, number in view.ports:
                if name:
                    yield self._put_srv(own, name, protocol, [dns.srv_rdata(100, number, own)], more, names)
            for ip in view.cluster_ips:
                pointers.setdefault(dns.reverse_name(ip), []).append(own)
        else:
            yield from self._render_headless(key, own, names, pointers)

    def _render_headless(
        self, key: Key, own: bytes, names: set[bytes], pointers: dict[bytes, list[bytes]]
    ) -> Iterable[bytes]:
        all_addresses: list[str] = []
        hosts: dict[bytes, list[str]] = {}
        ports: dict[tuple[str, str], dict[tuple[bytes, int], None]] = {}
        for piece in self._slices.get(key, {}).values():
            for endpoint in piece.endpoints:
                if not endpoint.ready:
                    continue
                for address in endpoint.addresses:
                    label = endpoint.hostname or _dashed(address)
                    host = bytes((len(label),)) + label.encode() + own
                    all_addresses.append(address)
                    hosts.setdefault(host, []).append(address)
                    for name, protocol, number in piece.ports:
                        if name:
                            ports.setdefault((name, protocol), {})[host, number] = None
                    names_of = pointers.setdefault(dns.reverse_name(address), [])
                    if host not in names_of:
                        names_of.append(host)
        for kind, rdatas in self._addresses(all_addresses).items():
            yield self._put(own, kind, rdatas)
        records: dict[bytes, list[bytes]] = {}
        for host, found in hosts.items():
            names.add(host)
            for kind, rdatas in self._addresses(found).items():
                yield self._put(host, kind, rdatas)
                records.setdefault(host, []).extend(dns.record(host, kind, self.ttl, r) for r in rdatas)
        for (name, protocol), targets in ports.items():
            weight = max(1, 100 // len(targets))
            srv = [dns.srv_rdata(weight, number, host) for host, number in targets]
            more = [r for host in dict.fromkeys(h for h, _ in targets) for r in records[host]]
            yield self._put_srv(own, name, protocol, srv, more, names)

    def _addresses(self, addresses: Iterable[str]) -> dict[int, list[bytes]]:
        by_type: dict[int, list[bytes]] = {}
        for address in dict.fromkeys(addresses):
            kind, rdata = dns.address_rdata(address)
            by_type.setdefault(kind, []).append(rdata)
        return by_type

    def _put_srv(
        self, own: bytes, port: str, protocol: str, srv: list[bytes], more: list[bytes], names: set[bytes]
    ) -> bytes:
        below = bytes((len(protocol) + 1,)) + b"_" + protocol.encode() + own
        name = bytes((len(port) + 1,)) + b"_" + port.lower().encode() + below
        names.update((below, name))
        return self._put(name, SRV, srv, more)

    def _put(self, name: bytes, kind: int, rdatas: list[bytes], more: list[bytes] | None = None) -> bytes:
        """Make the answers to one question; returns the question."""
        more = more or []
        records = [dns.record(QUESTION_NAME, kind, self.ttl, rdata) for rdata in rdatas]
        counts = (len(records), 0, len(more))
        question = _question(name, kind)
        if len(records) == 1:
            self.answers[question] = prepared(counts, b"".join(records + more))
        else:
            step = max(1, len(records) // rotations_max)
            self.answers[question] = [
                prepared(counts, b"".join(records[i:] + records[:i] + more)) for i in range(0, len(records), step)
            ]
        return question

    # questions
    def holds(self, name: bytes) -> bool:
        """Whether a name (lower case) is in this zone."""
        return name == self.apex or (
            name.endswith(self.apex) and dns.labels(name)[-len(dns.labels(self.apex)) :] == dns.labels(self.apex)
        )

    def lookup(self, name: bytes, kind: int) -> Prepared:
        """The answer to a question in this zone; `name` in lower case. ExternalName targets are not followed."""
        found = self.answers.get(_question(name, kind))
        if found is not None:
            return found if isinstance(found, Prepared) else found[0]
        if name in self.cnames:
            return prepared((1, 0, 0), dns.record(QUESTION_NAME, CNAME, self.ttl, self.cnames[name]))
        if name in self._names:
            return _refused_any(self.ttl) if kind == ANY else self.no_data
        return self._below(name, kind)

    def _below(self, name: bytes, kind: int) -> Prepared:
        """Namespaces and pods: names that are made of what is asked."""
        below = dns.labels(name)[: -len(dns.labels(self.apex))]
        if len(below) in (2, 3) and below[-1] in (b"svc", b"pod"):
            if below[-2].decode("utf-8", "replace") not in self._namespaces:
                return self.no_name
            if len(below) == 2:
                return self.no_data
            if below[-1] == b"pod":
                address = _undashed(below[0].decode("ascii", "replace"))
                if address is not None:
                    found, rdata = dns.address_rdata(address)
                    if found == kind:
                        return prepared((1, 0, 0), dns.record(QUESTION_NAME, kind, self.ttl, rdata))
                    return self.no_data
        return self.no_name

    def negative(self, rcode: int) -> Prepared:
        return prepared((0, 1, 0), self._soa, rcode)


def prepared(counts: tuple[int, int, int], body: bytes, rcode: int = dns.NOERROR) -> Prepared:
    answers, authorities, additionals = counts

    def pack(more: int) -> bytes:
        return b"".join(n.to_bytes(2, "big") for n in (answers, authorities, additionals + more))

    return Prepared(pack(0), body, pack(1), rcode)


def _question(name: bytes, kind: int) -> bytes:
    # Lower case all through, type and class too: that is how the server looks a packet up, without taking it apart.
    return (name + kind.to_bytes(2, "big") + CLASS_IN.to_bytes(2, "big")).lower()


def _refused_any(ttl: int) -> Prepared:
    """RFC 8482: ANY is answered with a made-up HINFO."""
    return prepared((1, 0, 0), dns.record(QUESTION_NAME, HINFO, ttl, dns.txt_rdata("RFC8482") + dns.txt_rdata("")))


def _dashed(address: str) -> str:
    return address.replace(".", "-").replace(":", "-")


def _undashed(label: str) -> str | None:
    """The address that a pod's name is made of; None if it is none."""
    for separator in (".", ":"):
        try:
            return str(ipaddress.ip_address(label.replace("-", separator)))
        except ValueError:
            continue
    return None
