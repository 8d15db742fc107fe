"""DynamicResources: pods with resource claims go where the claims are, or can be, allocated; so do pods whose extended
resources are served by devices."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from peavine.scheduler.devices import Given, Need, NoSuchClass, allocate, allocation, need_of
from peavine.scheduler.extended_resources import Wanted, special_claim, wanted_of
from peavine.scheduler.inventory import Capacities, Device, Hold, Inventory
from peavine.scheduler.nodes import ALL, Mask, Rows
from peavine.scheduler.plugins.base import Check, Plugin, Rejected
from peavine.scheduler.plugins.node_affinity import selector_mask
from peavine.scheduler.template import Object, Pod, Template

if TYPE_CHECKING:
    from peavine.scheduler.context import Context

REASON = "cannot allocate all claims"
REASON_ELSEWHERE = "resourceclaim not available on the node"


class DynamicResources(Plugin):
    name = "DynamicResources"
    wakes_on = frozenset(
        f"{kind}/{event}"
        for kind in ("ResourceClaim", "ResourceSlice", "DeviceClass", "DeviceTaintRule")
        for event in ("Add", "Update", "Delete")
    ) | {"Node/Add", "Node/UpdateLabel", "Node/UpdateAllocatable"}

    def check(self, context: Context, template: Template) -> Check | None:
        extended = context.served_by_devices(template)
        if not template.resource_claims and not extended:
            return None
        claims = [claim_of(context, template, *named) for named in template.resource_claims]
        try:
            needs = [need_of(c, context.classes()) for c in claims if not allocation_of(c)]
        except NoSuchClass as error:
            raise Rejected(self.name, str(error)) from error
        return _Check(context, template, [c for c in claims if allocation_of(c)], needs, extended)


def claim_of(context: Context, template: Template, reference: str, name: str) -> Object:
    """A claim of a pod as it is now. Raises `Rejected` where the pod cannot have it."""
    if not name:
        raise Rejected(DynamicResources.name, f'pod claim "{reference}": ResourceClaim not created yet')
    claim = context.lister("resourceclaims").get(template.namespace, name)
    if claim is None:
        raise Rejected(DynamicResources.name, f'resourceclaim.resource.k8s.io "{name}" not found')
    if claim["metadata"].get("deletionTimestamp"):
        raise Rejected(DynamicResources.name, f'resourceclaim "{name}" is being deleted')
    return claim


def allocation_of(claim: Object) -> Object | None:
    return (claim.get("status") or {}).get("allocation")


def idle_claim_elsewhere(context: Context, pod: Pod) -> Object | None:
    """A claim of the pod that keeps it from some node, and that nobody (else) uses: allocated anew, it may do."""
    nodes = context.cluster.nodes
    for _, name in pod.template.resource_claims:
        claim = context.lister("resourceclaims").get(pod.namespace, name) if name else None
        selector = (allocation_of(claim) or {}).get("nodeSelector") if claim is not None else None
        if claim is None or not selector or not (nodes.present & ~selector_mask(nodes, selector)).any():
            continue
        users = (claim.get("status") or {}).get("reservedFor") or []
        if all(user.get("uid") == pod.uid for user in users):
            return claim
    return None


class _Reach:
    """Which devices are near which row."""

    def __init__(self, context: Context, inventory: Inventory) -> None:
        nodes = context.cluster.nodes
        self._nodes, self._inventory = nodes, inventory
        self._anywhere = [(d, selector_mask(nodes, d.selector) if d.selector else None) for d in inventory.anywhere]

    def near(self, row: int) -> list[Device]:
        on_node = self._inventory.on_node.get(self._nodes.names[row], [])
        return on_node + [d for d, mask in self._anywhere if mask is None or mask[row]]


def _extended(context: Context, template: Template, resources: frozenset[str], row: int) -> Wanted | None:
    """What devices have to serve on the row: the resources that its node has none of."""
    nodes = context.cluster.nodes
    missing = [name for name in resources if not nodes.allocatable[nodes.resource(name), row]]
    return wanted_of(template, missing, context.classes()) if missing else None


class _Check(Check):
    plugin = DynamicResources.name
    static = True

    def __init__(
        self,
        context: Context,
        template: Template,
        allocated: list[Object],
        needs: list[Need],
        extended: frozenset[str],
    ) -> None:
        nodes = context.cluster.nodes
        self.elsewhere = np.zeros(nodes.capacity, np.bool_)
        for claim in allocated:
            selector = (allocation_of(claim) or {}).get("nodeSelector")
            if selector:
                self.elsewhere = self.elsewhere | ~selector_mask(nodes, selector)
        self._ok = ~self.elsewhere
        if needs or extended:
            inventory = context.inventory()
            reach = _Reach(context, inventory)
            for row in map(int, np.flatnonzero(self._ok & nodes.present)):
                more = _extended(context, template, extended, row) if extended else None
                asked = [*needs, *_special(context, template, more)]
                self._ok[row] = not asked or allocate(inventory, asked, reach.near(row)) is not None

    def ok(self, rows: Rows = ALL) -> Mask:
        return self._ok[rows]

    def explain(self, failed: Mask) -> list[tuple[str, Mask]]:
        return [(REASON_ELSEWHERE, failed & self.elsewhere), (REASON, failed & ~self.elsewhere)]

    def hopeless(self, failed: Mask) -> Mask:
        return failed


def _special(context: Context, template: Template, wanted: Wanted | None) -> list[Need]:
    return [need_of(special_claim(template.namespace, wanted), context.classes())] if wanted else []


class Allocations(NamedTuple):
    """What to write before a pod with claims is bound."""

    allocate: list[tuple[Object, Object]]  # (claim, its status.allocation)
    reserve: list[Object]  # claims that are allocated already
    holds: Mapping[Hold, Capacities]
    # The claim to make for extended resources, its status.allocation, and what it serves.
    special: tuple[Object, Object, list[dict[str, str]]] | None = None


def allocations_for(context: Context, pod: Pod, row: int) -> Allocations | None:
    """For a pod that was given this row; None where it has no claims. Raises `Rejected` if they cannot be had (now)."""
    template = pod.template
    extended = context.served_by_devices(template)
    if not template.resource_claims and not extended:
        return None
    node, classes = context.cluster.nodes.names[row], context.classes()
    claims = [claim_of(context, template, *named) for named in template.resource_claims]
    wanted = _extended(context, template, extended, row) if extended else None
    needs = [need_of(c, classes) for c in claims if not allocation_of(c)]
    special = _special(context, template, wanted)
    inventory = context.inventory()
    found: list[list[Given]] | None = allocate(inventory, [*needs, *special], _Reach(context, inventory).near(row))
    if found is None:
        raise Rejected(DynamicResources.name, REASON)
    answers = [allocation(need, given, node, classes) for need, given in zip([*needs, *special], found, strict=True)]
    written = [(need.claim, answer) for need, answer in zip(needs, answers)]
    holds = {Hold(one.device.id, one.share): one.consumed for given in found for one in given if not one.variant.admin}
    made = (special[0].claim, answers[-1], wanted.mappings) if special and wanted else None
    return Allocations(written, [c for c in claims if allocation_of(c)], holds, made)
