"""Volumes as scheduling sees them: which claim is bound to which volume, what is attached where, which volume would do.

Reads through the context's listers. What it remembers itself: volumes promised to claims of pods that are being bound,
and how many volumes of each CSI driver the counted pods hold on each row.
"""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

import numpy as np

from peavine.machinery.quantity import QuantityError, parse_quantity
from peavine.scheduler.nodes import Ints, NodeTable
from peavine.scheduler.template import Object, Pod, Template, selector_of

NO_PROVISIONER = "kubernetes.io/no-provisioner"
BIND_COMPLETED = "pv.kubernetes.io/bind-completed"
BOUND_BY_CONTROLLER = "pv.kubernetes.io/bound-by-controller"
SELECTED_NODE = "volume.kubernetes.io/selected-node"
DEFAULT_CLASS = "storageclass.kubernetes.io/is-default-class"
_UNLIMITED = np.iinfo(np.int64).max

ClaimKey = tuple[str, str]
Lookup = Callable[[str, str, str], Object | None]  # plural, namespace, name


class Handle(NamedTuple):
    """One attachable volume."""

    driver: str
    volume: str


def claim_names(template: Template) -> Iterator[tuple[str, bool]]:
    """Names of the claims of a pod, and whether they are made for it alone (generic ephemeral volumes)."""
    for volume in template.volumes:
        if "persistentVolumeClaim" in volume:
            yield volume["persistentVolumeClaim"].get("claimName", ""), False
        elif "ephemeral" in volume:
            yield f"{template.pod_name}-{volume['name']}", True


def is_bound(claim: Object) -> bool:
    return bool(claim["spec"].get("volumeName")) and BIND_COMPLETED in (claim["metadata"].get("annotations") or {})


def storage_request(obj: Object) -> int:
    """Bytes that a claim asks for (`spec.resources.requests`) or a volume has (`spec.capacity`)."""
    spec = obj["spec"]
    text = ((spec.get("resources") or {}).get("requests") or spec.get("capacity") or {}).get("storage", "0")
    try:
        return parse_quantity(text).value()
    except QuantityError:
        return 0


def fits_claim(volume: Object, claim: Object) -> bool:
    """Whether a volume that is not bound could serve a claim, wherever the pod may be."""
    spec, wanted = volume["spec"], claim["spec"]
    reference = spec.get("claimRef")
    if reference:
        meta = claim["metadata"]
        named = (reference.get("namespace"), reference.get("name")) == (meta.get("namespace"), meta["name"])
        if not named or (reference.get("uid") and reference["uid"] != meta.get("uid")):
            return False
    elif (volume.get("status") or {}).get("phase") not in ("Available", None):
        return False
    if volume["metadata"].get("deletionTimestamp"):
        return False
    if (spec.get("storageClassName") or "") != (wanted.get("storageClassName") or ""):
        return False
    if (spec.get("volumeMode") or "Filesystem") != (wanted.get("volumeMode") or "Filesystem"):
        return False
    if not set(wanted.get("accessModes") or ()) <= set(spec.get("accessModes") or ()):
        return False
    if wanted.get("selector") and not selector_of(wanted["selector"]).matches(volume["metadata"].get("labels")):
        return False
    return storage_request(volume) >= storage_request(claim)


class Storage:
    def __init__(self, nodes: NodeTable, lookup: Lookup, every: Callable[[str], Iterable[Object]]) -> None:
        self._nodes, self._lookup, self._every = nodes, lookup, every
        self.promised: dict[str, ClaimKey] = {}  # volume -> claim of a pod that is being bound
        self._on: dict[ClaimKey, Counter[int]] = defaultdict(Counter)  # claim -> row -> pods
        self._resolved: dict[ClaimKey, Handle | None] = {}
        self._held: dict[Handle, Counter[int]] = defaultdict(Counter)  # volume -> row -> claims on it
        self._attached: dict[str, Ints] = {}  # driver -> volumes on each row
        self._limits: dict[str, Ints] = {}
        self._waiting: set[asyncio.Future[None]] = set()

    # Objects

    def claim(self, namespace: str, name: str) -> Object | None:
        return self._lookup("persistentvolumeclaims", namespace, name)

    def volume(self, name: str) -> Object | None:
        return self._lookup("persistentvolumes", "", name)

    def storage_class(self, claim: Object) -> Object | None:
        name = claim["spec"].get("storageClassName")
        return self._lookup("storageclasses", "", name) if name else None

    def waits_for_pod(self, claim: Object) -> bool:
        """Whether the claim is to be bound when its pod has a node (WaitForFirstConsumer)."""
        found = self.storage_class(claim)
        return found is not None and found.get("volumeBindingMode") == "WaitForFirstConsumer"

    def candidates(self, claim: Object) -> list[Object]:
        """Volumes that could serve the claim, the smallest first; one that names the claim before all."""
        key = (claim["metadata"].get("namespace", ""), claim["metadata"]["name"])
        found = [
            volume
            for volume in self._every("persistentvolumes")
            if fits_claim(volume, claim) and self.promised.get(volume["metadata"]["name"], key) == key
        ]
        return sorted(found, key=lambda v: (not v["spec"].get("claimRef"), storage_request(v), v["metadata"]["name"]))

    def capacities(self, class_name: str) -> list[Object]:
        return [c for c in self._every("csistoragecapacities") if c.get("storageClassName") == class_name]

    def tracks_capacity(self, provisioner: str) -> bool:
        driver = self._lookup("csidrivers", "", provisioner)
        return bool(((driver or {}).get("spec") or {}).get("storageCapacity"))

    # What is attached where

    def count(self, pod: Pod, row: int, sign: int) -> None:
        """A pod with volumes has come to a row (1) or left it (-1)."""
        for name, _ in claim_names(pod.template):
            key = (pod.namespace, name)
            rows = self._on[key]
            before = rows[row]
            rows[row] += sign
            if not rows[row]:
                del rows[row]
            if key not in self._resolved:
                self._resolved[key] = self.handle(*key)
            if bool(before) != bool(rows.get(row)):
                self._attach(self._resolved[key], row, sign)
            if not rows:
                del self._on[key]
                self._resolved.pop(key, None)

    def users(self, key: ClaimKey) -> Iterable[int]:
        """Rows with pods that use the claim."""
        return self._on.get(key, ())

    def _attach(self, handle: Handle | None, row: int, sign: int) -> None:
        if handle is None:
            return
        rows = self._held[handle]
        before = rows[row]
        rows[row] += sign
        if not rows[row]:
            del rows[row]
        if bool(before) != bool(rows.get(row)):
            self._array(self._attached, handle.driver, 0)[row] += sign
        if not rows:
            del self._held[handle]

    def _array(self, arrays: dict[str, Ints], driver: str, empty: int) -> Ints:
        array = arrays.get(driver)
        if array is None:
            array = arrays[driver] = np.full(self._nodes.capacity, empty, np.int64)
        elif len(array) < self._nodes.capacity:
            more = np.full(self._nodes.capacity - len(array), empty, np.int64)
            array = arrays[driver] = np.concatenate([array, more])
        return array

    def handle(self, namespace: str, name: str) -> Handle | None:
        """The CSI volume of a claim; for one not bound yet a name of its own; None where nothing is attached."""
        claim = self.claim(namespace, name)
        if claim is None:
            return None
        volume = self.volume(claim["spec"].get("volumeName") or "")
        if volume is None:
            found = self.storage_class(claim)
            provisioner = (found or {}).get("provisioner")
            if not provisioner or provisioner == NO_PROVISIONER:
                return None
            return Handle(provisioner, f"{namespace}/{name}")
        csi = volume["spec"].get("csi")
        return Handle(csi.get("driver", ""), csi.get("volumeHandle", "")) if csi else None

    def attached(self, driver: str) -> Ints:
        return self._array(self._attached, driver, 0)

    def limits(self, driver: str) -> Ints | None:
        """How many volumes of the driver each row may have; None where no node says."""
        return self._array(self._limits, driver, _UNLIMITED) if driver in self._limits else None

    def rows_with(self, handle: Handle) -> list[int]:
        return list(self._held.get(handle, ()))

    # Changes

    def claim_changed(self, namespace: str, name: str) -> None:
        key = (namespace, name)
        if key in self._on:
            new = self.handle(namespace, name)
            old = self._resolved.get(key)
            if new != old:
                for row in self._on[key]:
                    self._attach(old, row, -1)
                    self._attach(new, row, 1)
                self._resolved[key] = new
        self.wake()

    def volume_changed(self, volume: Object) -> None:
        reference = volume["spec"].get("claimRef") or {}
        if reference:
            self.claim_changed(reference.get("namespace", ""), reference.get("name", ""))

    def set_limits(self, csi_node: Object) -> None:
        """From a CSINode object: it has its node's name."""
        row = self._nodes.row_of.get(csi_node["metadata"]["name"])
        if row is None:
            return
        for array in self._limits.values():
            if row < len(array):
                array[row] = _UNLIMITED
        for driver in (csi_node.get("spec") or {}).get("drivers") or ():
            number = (driver.get("allocatable") or {}).get("count")
            if number is not None:
                self._array(self._limits, driver["name"], _UNLIMITED)[row] = number

    def wake(self) -> None:
        """Something has changed that a pod being bound may wait for."""
        for waiter in self._waiting:
            if not waiter.done():
                waiter.set_result(None)

    async def changed(self) -> None:
        """Return when any claim (of volumes or devices) has changed."""
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.add(waiter)
        try:
            await waiter
        finally:
            self._waiting.discard(waiter)
