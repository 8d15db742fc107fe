"""DynamicResources: pods with resource claims go where the claims are, or can be, allocated."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from peavine.scheduler.devices import Device, DeviceId, Given, Inventory, Need, NoSuchClass, allocation, need_of
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
        for kind in ("ResourceClaim", "ResourceSlice", "DeviceClass")
        for event in ("Add", "Update", "Delete")
    ) | {"Node/Add", "Node/UpdateLabel"}

    def check(self, context: Context, template: Template) -> Check | None:
        if not template.resource_claims:
            return None
        claims = [self._claim(context, template, *named) for named in template.resource_claims]
        try:
            needs = [need_of(c, classes_of(context)) for c in claims if not _allocation(c)]
        except NoSuchClass as error:
            raise Rejected(self.name, str(error)) from error
        return _Check(context, [c for c in claims if _allocation(c)], needs)

    def _claim(self, context: Context, template: Template, reference: str, name: str) -> Object:
        if not name:
            raise Rejected(self.name, f'pod claim "{reference}": ResourceClaim not created yet')
        claim = context.lister("resourceclaims").get(template.namespace, name)
        if claim is None:
            raise Rejected(self.name, f'resourceclaim.resource.k8s.io "{name}" not found')
        if claim["metadata"].get("deletionTimestamp"):
            raise Rejected(self.name, f'resourceclaim "{name}" is being deleted')
        return claim


def _allocation(claim: Object) -> Object | None:
    return (claim.get("status") or {}).get("allocation")


def classes_of(context: Context) -> dict[str, Object]:
    return {c["metadata"]["name"]: c for c in context.lister("deviceclasses").list()}


class _Check(Check):
    plugin = DynamicResources.name
    static = True

    def __init__(self, context: Context, allocated: list[Object], needs: list[Need]) -> None:
        nodes = context.cluster.nodes
        self.elsewhere = np.zeros(nodes.capacity, np.bool_)
        for claim in allocated:
            selector = (_allocation(claim) or {}).get("nodeSelector")
            if selector:
                self.elsewhere = self.elsewhere | ~selector_mask(nodes, selector)
        self._ok = ~self.elsewhere
        if needs:
            inventory = context.inventory()
            reach = [(d, selector_mask(nodes, d.selector) if d.selector else None) for d in inventory.anywhere]
            for row in np.flatnonzero(self._ok & nodes.present):
                near = _near(inventory, reach, nodes.names[row], int(row))
                self._ok[row] = inventory.allocate(needs, near) is not None

    def ok(self, rows: Rows = ALL) -> Mask:
        return self._ok[rows]

    def explain(self, failed: Mask) -> list[tuple[str, Mask]]:
        return [(REASON_ELSEWHERE, failed & self.elsewhere), (REASON, failed & ~self.elsewhere)]

    def hopeless(self, failed: Mask) -> Mask:
        return failed


def _near(inventory: Inventory, reach: list[tuple[Device, Mask | None]], node: str, row: int) -> list[Device]:
    return inventory.on_node.get(node, []) + [d for d, mask in reach if mask is None or mask[row]]


class Allocations(NamedTuple):
    """What to write before a pod with claims is bound."""

    allocate: list[tuple[Object, Object]]  # (claim, its status.allocation)
    reserve: list[Object]  # claims that are allocated already
    devices: frozenset[DeviceId]


def allocations_for(context: Context, pod: Pod, row: int) -> Allocations | None:
    """For a pod that was given this row; None where it has no claims. Raises `Rejected` if they cannot be had (now)."""
    if not pod.template.resource_claims:
        return None
    nodes = context.cluster.nodes
    found = [context.lister("resourceclaims").get(pod.namespace, name) for _, name in pod.template.resource_claims]
    claims = [claim for claim in found if claim is not None]
    classes = classes_of(context)
    needs = [need_of(c, classes) for c in claims if not _allocation(c)]
    inventory = context.inventory()
    reach = [(d, selector_mask(nodes, d.selector) if d.selector else None) for d in inventory.anywhere]
    given: list[list[Given]] | None = inventory.allocate(needs, _near(inventory, reach, nodes.names[row], row))
    if given is None:
        raise Rejected(DynamicResources.name, REASON)
    written = [
        (need.claim, allocation(need, one, nodes.names[row], classes)) for need, one in zip(needs, given, strict=True)
    ]
    devices = frozenset(g.device.id for one in given for g in one if not g.variant.admin)
    return Allocations(written, [c for c in claims if _allocation(c)], devices)
