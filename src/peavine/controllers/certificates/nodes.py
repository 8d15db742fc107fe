"""Approves what joined nodes need beyond upstream: kubelets' serving certificates, and their processes' client ones.

Upstream leaves serving certificates to people: a node says itself which addresses it has. Here a name is approved that
is the node's own and nobody else's (docs/decisions/0063-serving-certificates-are-approved.md).
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable

from peavine.api.certificates.signing import (
    NODE_PREFIX,
    automatic_component_approval,
    serving_names_are_the_nodes,
    serving_node,
)
from peavine.controllers.certificates import conditions
from peavine.controllers.certificates.approving import CSRApprovingController
from peavine.controllers.controller import Context, Key, Object

# Whose address was another's may have it to itself by then.
AGAIN_SECONDS = 60.0
LOCAL = ("127.0.0.1", "::1", "localhost")


class NodeCertificateApprover(CSRApprovingController):
    name = "peavine-node-certificate-approver"
    account = "node-certificate-approver"

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self.nodes = self.watch("v1", "nodes", keys=self._waiting)
        self.slices = self.read("discovery.k8s.io/v1", "endpointslices", namespace="default")
        ranges = str(context.options.get("service_cluster_ip_range") or "")
        self.services = [ipaddress.ip_network(part) for part in ranges.split(",") if part]

    async def reconcile(self, key: Key) -> float | None:
        request = self.requests.get(*key)
        if request is None or conditions(request):
            return None
        spec = request["spec"]
        component = automatic_component_approval(spec)
        if component is not None and await self._may(spec, component.subresource):
            await self._approve(request, component.message)
            return None
        name = serving_node(spec)
        if not name:
            return None
        node = self.nodes.get("", name)
        if node is None or not serving_names_are_the_nodes(spec, node, self._taken(name)):
            return AGAIN_SECONDS
        await self._approve(request, "Auto approving kubelet serving certificate: the names are the node's own.")
        return None

    def _waiting(self, node: Object) -> list[Key]:
        """The undecided requests of a node: it may have said only now which addresses it has."""
        user = NODE_PREFIX + node["metadata"]["name"]
        waiting = (r for r in self.requests.list() if r["spec"].get("username") == user and not conditions(r))
        return [("", request["metadata"]["name"]) for request in waiting]

    def _taken(self, node: str) -> set[str]:
        """Names and addresses that are somebody else's, or may become a Service's."""
        found = set(LOCAL)
        for other in self.nodes.list():
            if other["metadata"]["name"] != node:
                found.add(other["metadata"]["name"])
                found.update(_addresses(other))
        for endpoints in self.slices.list("default"):
            if (endpoints["metadata"].get("labels") or {}).get("kubernetes.io/service-name") == "kubernetes":
                for endpoint in endpoints.get("endpoints") or ():
                    found.update(endpoint.get("addresses") or ())
        own = self.nodes.get("", node)
        return found | {a for a in _addresses(own or {}) if self._is_a_services(a)}

    def _is_a_services(self, text: str) -> bool:
        try:
            address = ipaddress.ip_address(text)
        except ValueError:
            return False
        return any(address.version == network.version and address in network for network in self.services)


def _addresses(node: Object) -> Iterable[str]:
    return (a["address"] for a in (node.get("status") or {}).get("addresses") or ())
