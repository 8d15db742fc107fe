"""Where a proxied request goes: kubelets, pods and services by name, as addresses and ports."""

from __future__ import annotations

import asyncio
import ipaddress
import os
import random
import socket
import ssl
from dataclasses import dataclass, replace
from typing import Any

from peavine.apiserver.config import Config
from peavine.apiserver.lister import Lister
from peavine.machinery import errors

Object = dict[str, Any]
KUBELET_PORT = 10250


@dataclass(frozen=True, slots=True)
class Location:
    """A server to connect to. `tls` None: plain HTTP."""

    host: str
    port: int
    tls: ssl.SSLContext | None = None
    server_name: str = ""

    @property
    def authority(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"


class Locations:
    """Finds backends through the lister; keeps the TLS contexts."""

    def __init__(self, lister: Lister, config: Config) -> None:
        self.lister, self.config = lister, config
        self._kubelet_tls: ssl.SSLContext | None = None
        self._kubelet_files: tuple[int, ...] = ()
        self._insecure: ssl.SSLContext | None = None

    def kubelet_tls(self) -> ssl.SSLContext:
        """The API server's identity towards kubelets, as its files have it now: they are renewed."""
        config = self.config
        paths = [p for p in (config.kubelet_certificate_authority, config.kubelet_client_certificate) if p]
        files = tuple(os.stat(path).st_mtime_ns for path in paths)
        if self._kubelet_tls is None or files != self._kubelet_files:
            context = ssl.create_default_context(cafile=config.kubelet_certificate_authority or None)
            if not config.kubelet_certificate_authority:
                context.check_hostname = False
                context.verify_mode = ssl.CERT_NONE
            if config.kubelet_client_certificate:
                context.load_cert_chain(config.kubelet_client_certificate, config.kubelet_client_key)
            self._kubelet_tls, self._kubelet_files = context, files
        return self._kubelet_tls

    def insecure_tls(self) -> ssl.SSLContext:
        """For pods and services: their certificates are nobody's business here, as upstream."""
        if self._insecure is None:
            context = ssl.create_default_context()
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
            context.set_ciphers("DEFAULT:@SECLEVEL=0")  # nor is the strength of their keys
            self._insecure = context
        return self._insecure

    def kubelet(self, node_name: str) -> Location:
        """A node's kubelet. Raises ApiError 404, 500."""
        node = self.lister.get("", "nodes", None, node_name)
        if node is None:
            raise errors.not_found("nodes", node_name)
        status = node.get("status") or {}
        port = ((status.get("daemonEndpoints") or {}).get("kubeletEndpoint") or {}).get("Port") or KUBELET_PORT
        by_type: dict[str, str] = {}
        for address in status.get("addresses") or ():
            by_type.setdefault(address.get("type"), address.get("address"))
        for wanted in self.config.kubelet_preferred_address_types:
            if by_type.get(wanted):
                return Location(by_type[wanted], port, self.kubelet_tls())
        raise errors.internal(f"no preferred addresses found; known addresses: {list(by_type.values())}")

    def pod(self, namespace: str, wanted: str) -> Location:
        """`[scheme:]name[:port]` of a pod. Raises ApiError 400, 404."""
        scheme, name, port = split(wanted)
        pod = self.lister.get("", "pods", namespace, name)
        if pod is None:
            raise errors.not_found("pods", name)
        address = (pod.get("status") or {}).get("podIP")
        if not address:
            raise errors.bad_request("address not allowed")
        number = 80 if scheme != "https" else 443
        if port:
            number = _pod_port(pod, port)
        else:
            for container in pod["spec"].get("containers") or ():
                if container.get("ports"):
                    number = container["ports"][0]["containerPort"]
                    break
        return Location(address, number, self.insecure_tls() if scheme == "https" else None)

    def service(self, namespace: str, wanted: str) -> Location:
        """A ready endpoint of `[scheme:]name[:port]`. Raises ApiError 404, 503."""
        scheme, name, port = split(wanted)
        service = self.lister.get("", "services", namespace, name)
        if service is None:
            raise errors.not_found("services", name)
        ports = (service.get("spec") or {}).get("ports") or ()
        chosen = None
        for candidate in ports:
            if not port or candidate.get("name") == port or str(candidate.get("port")) == port:
                chosen = candidate
                break
        if chosen is None:
            raise errors.unavailable(f'no service port "{port}" found for service "{name}"')
        found: list[tuple[str, int]] = []
        for slice_ in self.lister.list("discovery.k8s.io", "endpointslices", namespace):
            if (slice_["metadata"].get("labels") or {}).get("kubernetes.io/service-name") != name:
                continue
            for endpoint_port in slice_.get("ports") or ():
                if (endpoint_port.get("name") or "") != (chosen.get("name") or ""):
                    continue
                for endpoint in slice_.get("endpoints") or ():
                    if (endpoint.get("conditions") or {}).get("ready") is not False:
                        found += [(address, endpoint_port.get("port")) for address in endpoint.get("addresses") or ()]
        if not found:
            raise errors.unavailable(f'no endpoints available for service "{name}"')
        host, number = random.choice(found)
        return Location(host, number, self.insecure_tls() if scheme == "https" else None)

    def node(self, wanted: str) -> Location:
        """`[scheme:]name[:port]` of a node: its kubelet, or another port of it."""
        scheme, name, port = split(wanted)
        kubelet = self.kubelet(name)
        if not port or port == str(kubelet.port):
            return kubelet
        if not port.isdecimal():
            raise errors.bad_request(f'invalid proxy request "{wanted}"')
        # Whoever listens there is no kubelet: the certificate for kubelets is not shown to it.
        return Location(kubelet.host, int(port), self.insecure_tls() if scheme == "https" else None)

    async def checked(self, location: Location) -> Location:
        """The location as an address that may be connected to. Raises ApiError 400, 503.

        What a status says must not lead into this machine's own insides: loopback, link-local, multicast and
        unspecified addresses are refused, whether written or resolved. Loopback is allowed to a server that is itself
        only reachable there.
        """
        address = location.host
        try:
            ipaddress.ip_address(address)
        except ValueError:
            loop = asyncio.get_running_loop()
            try:
                found = await loop.getaddrinfo(address, location.port, type=socket.SOCK_STREAM)
            except OSError as error:
                raise errors.unavailable(f"error trying to reach service: lookup {address}: {error.strerror}") from None
            address = str(found[0][4][0])
        ip = ipaddress.ip_address(address)
        own = ipaddress.ip_address(self.config.advertise_address)
        if (ip.is_loopback and not own.is_loopback) or ip.is_link_local or ip.is_multicast or ip.is_unspecified:
            raise errors.bad_request("address not allowed")
        return replace(location, host=address, server_name=location.server_name or location.host)


def split(wanted: str) -> tuple[str, str, str]:
    """`https:name:port`, `name:port` or `name` as scheme, name, port. Raises ApiError 400."""
    parts = wanted.split(":")
    if len(parts) == 1:
        return "", parts[0], ""
    if len(parts) == 2:
        return "", parts[0], parts[1]
    if len(parts) == 3 and parts[0] in ("http", "https", ""):
        return parts[0], parts[1], parts[2]
    raise errors.bad_request(f'invalid proxy request "{wanted}"')


def _pod_port(pod: Object, port: str) -> int:
    if port.isdecimal():
        return int(port)
    for container in pod["spec"].get("containers") or ():
        for declared in container.get("ports") or ():
            if declared.get("name") == port:
                return int(declared["containerPort"])
    raise errors.bad_request(f'no port "{port}" in the pod')
