"""VolumeBinding: bound claims where their volumes can be reached, waiting ones where a volume is found or can be made.

`decide` says, once a node is chosen, which volumes the waiting claims get; `volumes.py` tells the API server so before
the pod is bound.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from peavine.machinery.quantity import parse_quantity
from peavine.scheduler.nodes import ALL, Mask, NodeTable, Rows
from peavine.scheduler.plugins.base import Check, Plugin, Rejected
from peavine.scheduler.plugins.node_affinity import selector_mask
from peavine.scheduler.storage import NO_PROVISIONER, SELECTED_NODE, Storage, claim_names, is_bound, storage_request
from peavine.scheduler.template import Object, Pod, Template, selector_of

if TYPE_CHECKING:
    from peavine.scheduler.context import Context

REASON_NONE = "node(s) didn't find available persistent volumes to bind"
REASON_AFFINITY = "node(s) didn't match PersistentVolume's node affinity"
REASON_SPACE = "node(s) did not have enough free storage"
REASON_NO_VOLUME = "node(s) unavailable due to one or more pvc(s) bound to non-existent pv(s)"
REASON_UNBOUND = "pod has unbound immediate PersistentVolumeClaims"


class VolumeBinding(Plugin):
    name = "VolumeBinding"
    wakes_on = frozenset(
        (
            "Node/Add",
            "Node/UpdateLabel",
            "PersistentVolumeClaim/Add",
            "PersistentVolumeClaim/Update",
            "PersistentVolume/Add",
            "PersistentVolume/Update",
            "StorageClass/Add",
            "StorageClass/Update",
            "CSIStorageCapacity/Add",
            "CSIStorageCapacity/Update",
            "CSIDriver/Update",
            "CSINode/Add",
        )
    )

    def check(self, context: Context, template: Template) -> Check | None:
        if not template.volumes:
            return None
        claims = [self._claim(context.storage, template, *named) for named in claim_names(template)]
        if not claims:
            return None
        bound = [claim for claim in claims if is_bound(claim)]
        waiting = [claim for claim in claims if not is_bound(claim)]
        if any(not context.storage.waits_for_pod(claim) for claim in waiting):
            raise Rejected(self.name, REASON_UNBOUND)
        return _Check(context, bound, waiting)

    def _claim(self, storage: Storage, template: Template, name: str, ephemeral: bool) -> Object:
        claim = storage.claim(template.namespace, name)
        if claim is None:
            if ephemeral:
                waits = "waiting for ephemeral volume controller to create the persistentvolumeclaim"
                raise Rejected(self.name, f'{waits} "{name}"')
            raise Rejected(self.name, f'persistentvolumeclaim "{name}" not found')
        if claim["metadata"].get("deletionTimestamp"):
            raise Rejected(self.name, f'persistentvolumeclaim "{name}" is being deleted')
        if (claim.get("status") or {}).get("phase") == "Lost":
            volume = claim["spec"].get("volumeName")
            raise Rejected(
                self.name, f'persistentvolumeclaim "{name}" bound to non-existent persistentvolume "{volume}"'
            )
        return claim


def _reach(nodes: NodeTable, volume: Object) -> Mask:
    """Rows from which a volume can be used."""
    required = (volume["spec"].get("nodeAffinity") or {}).get("required")
    return selector_mask(nodes, required) if required else nodes.present.copy()


class _Waiting(NamedTuple):
    claim: Object
    found: list[tuple[Object, Mask]]  # volumes that would do, best first, and from where
    makeable: Mask  # where one can be provisioned
    cramped: Mask  # where one could be, had it the space


class _Check(Check):
    plugin = VolumeBinding.name
    static = True

    def __init__(self, context: Context, bound: list[Object], waiting: list[Object]) -> None:
        nodes, storage = context.cluster.nodes, context.storage
        self.missing = self.out_of_reach = self.not_found = self.no_space = np.zeros(nodes.capacity, np.bool_)
        for claim in bound:
            volume = storage.volume(claim["spec"]["volumeName"])
            if volume is None:
                self.missing = nodes.present.copy()
            else:
                self.out_of_reach = self.out_of_reach | ~_reach(nodes, volume)
        self.waiting = [_waiting(nodes, storage, claim) for claim in waiting]
        for one in self.waiting:
            served = one.makeable.copy()
            for _, reach in one.found:
                served |= reach
            self.not_found = self.not_found | ~(served | one.cramped)
            self.no_space = self.no_space | (one.cramped & ~served)
        self._ok = ~(self.missing | self.out_of_reach | self.not_found | self.no_space)
        if sum(bool(one.found) for one in self.waiting) > 1:
            # Two claims may want the same volume: try each row out.
            for row in np.flatnonzero(self._ok):
                if decide(self.waiting, int(row)) is None:
                    self.not_found[row], self._ok[row] = True, False

    def ok(self, rows: Rows = ALL) -> Mask:
        return self._ok[rows]

    def explain(self, failed: Mask) -> list[tuple[str, Mask]]:
        # One node may have several of these; a volume that does not exist says all.
        rest = failed & ~self.missing
        return [
            (REASON_NO_VOLUME, failed & self.missing),
            (REASON_AFFINITY, rest & self.out_of_reach),
            (REASON_NONE, rest & self.not_found),
            (REASON_SPACE, rest & self.no_space),
        ]

    def hopeless(self, failed: Mask) -> Mask:
        return failed


def _waiting(nodes: NodeTable, storage: Storage, claim: Object) -> _Waiting:
    present = nodes.present
    selected = (claim["metadata"].get("annotations") or {}).get(SELECTED_NODE)
    makeable = np.zeros(nodes.capacity, np.bool_)
    cramped = np.zeros(nodes.capacity, np.bool_)
    found = storage.storage_class(claim)
    provisioner = (found or {}).get("provisioner") or NO_PROVISIONER
    if found is not None and provisioner != NO_PROVISIONER:
        makeable = present.copy()
        topologies = found.get("allowedTopologies") or ()
        if topologies:
            terms = [{"matchExpressions": [_as_requirement(e) for e in _expressions(t)]} for t in topologies]
            makeable = selector_mask(nodes, {"nodeSelectorTerms": terms})
        if storage.tracks_capacity(provisioner):
            roomy = np.zeros(nodes.capacity, np.bool_)
            for capacity in storage.capacities(found["metadata"]["name"]):
                if _has_room(capacity, storage_request(claim)):
                    roomy |= _topology_mask(nodes, capacity.get("nodeTopology"))
            cramped, makeable = makeable & ~roomy, makeable & roomy
    if selected:
        # Provisioning has begun for one node.
        only = np.zeros(nodes.capacity, np.bool_)
        only[[nodes.row_of[selected]] if selected in nodes.row_of else []] = True
        return _Waiting(claim, [], only & present, np.zeros(nodes.capacity, np.bool_))
    return _Waiting(claim, [(v, _reach(nodes, v)) for v in storage.candidates(claim)], makeable, cramped)


def _expressions(term: Object) -> list[Object]:
    return term.get("matchLabelExpressions") or []


def _as_requirement(expression: Object) -> Object:
    return {"key": expression.get("key"), "operator": "In", "values": expression.get("values") or []}


def _has_room(capacity: Object, wanted: int) -> bool:
    size = capacity.get("maximumVolumeSize") or capacity.get("capacity")
    return size is not None and parse_quantity(size).value() >= wanted


def _topology_mask(nodes: NodeTable, selector: Object | None) -> Mask:
    if selector is None:
        return np.zeros(nodes.capacity, np.bool_)
    wanted = selector_of(selector)
    mask = np.zeros(nodes.capacity, np.bool_)
    for row in nodes.row_of.values():
        node = nodes.objects[row]
        mask[row] = node is not None and wanted.matches(node["metadata"].get("labels"))
    return mask


class Decision(NamedTuple):
    """What to do so that the claims of a pod are bound: volumes to give, and claims to have provisioned."""

    give: list[tuple[Object, Object]]  # (claim, volume)
    provision: list[Object]


def decide(waiting: list[_Waiting], row: int) -> Decision | None:
    """Volumes for the waiting claims of a pod on this row, the largest claim last; None where it cannot be done."""
    taken: set[str] = set()
    give, provision = [], []
    for one in sorted(waiting, key=lambda w: storage_request(w.claim)):
        for volume, reach in one.found:
            if reach[row] and volume["metadata"]["name"] not in taken:
                taken.add(volume["metadata"]["name"])
                give.append((one.claim, volume))
                break
        else:
            if not one.makeable[row]:
                return None
            provision.append(one.claim)
    return Decision(give, provision)


def decision_for(context: Context, pod: Pod, row: int) -> Decision | None:
    """What to do for a pod that was given this row; None where nothing is to be done."""
    names = [name for name, _ in claim_names(pod.template)]
    claims = [context.storage.claim(pod.namespace, name) for name in names]
    waiting = [claim for claim in claims if claim is not None and not is_bound(claim)]
    if not waiting:
        return None
    nodes = context.cluster.nodes
    return decide([_waiting(nodes, context.storage, claim) for claim in waiting], row)
