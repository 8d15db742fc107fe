"""VolumeRestrictions: a claim of mode ReadWriteOncePod has one pod, and some old disk kinds one node."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from peavine.scheduler.nodes import ALL, Mask, Rows
from peavine.scheduler.plugins.base import Check, Plugin, Rejected
from peavine.scheduler.storage import claim_names
from peavine.scheduler.template import Object, Template

if TYPE_CHECKING:
    from peavine.scheduler.context import Context

REASON_DISK = "node(s) had no available disk"
REASON_ONE_POD = "node has pod using PersistentVolumeClaim with the same name and ReadWriteOncePod access mode"


class VolumeRestrictions(Plugin):
    name = "VolumeRestrictions"
    wakes_on = frozenset(
        ("Node/Add", "AssignedPod/Delete", "PersistentVolumeClaim/Add", "PersistentVolumeClaim/Update")
    )

    def check(self, context: Context, template: Template) -> Check | None:
        exclusive = []
        for name, ephemeral in claim_names(template):
            if ephemeral:
                continue
            claim = context.storage.claim(template.namespace, name)
            if claim is None:
                raise Rejected(self.name, f'persistentvolumeclaim "{name}" not found')
            if "ReadWriteOncePod" in (claim["spec"].get("accessModes") or ()):
                exclusive.append((template.namespace, name))
        disks = [d for d in map(_disk, template.volumes) if d]
        return _Check(context, exclusive, disks) if exclusive or disks else None


def _disk(volume: Object) -> tuple[Any, bool] | None:
    """(identity, read-only) of a disk that two pods may not both write."""
    if disk := volume.get("gcePersistentDisk"):
        return ("gce", disk.get("pdName")), bool(disk.get("readOnly"))
    if disk := volume.get("awsElasticBlockStore"):
        return ("ebs", disk.get("volumeID")), False
    if disk := volume.get("iscsi"):
        return ("iscsi", disk.get("iqn")), bool(disk.get("readOnly"))
    if disk := volume.get("rbd"):
        monitors = frozenset(disk.get("monitors") or ())
        return ("rbd", disk.get("pool"), disk.get("image"), monitors), bool(disk.get("readOnly"))
    return None


def _same(a: tuple[Any, ...], b: tuple[Any, ...]) -> bool:
    """Whether two identities are of one disk; a cluster of disks is known by any of its monitors."""
    if a[0] == b[0] == "rbd":
        return a[:3] == b[:3] and bool(a[3] & b[3])
    return a == b


class _Check(Check):
    plugin = VolumeRestrictions.name
    local = False

    def __init__(self, context: Context, exclusive: list[tuple[str, str]], disks: list[tuple[Any, bool]]) -> None:
        self._context, self._exclusive, self._disks = context, exclusive, disks

    def _in_use(self) -> bool:
        return any(list(self._context.storage.users(key)) for key in self._exclusive)

    def _conflicts(self) -> Mask:
        mask = np.zeros(self._context.cluster.nodes.capacity, np.bool_)
        if self._disks:
            for row, pods in self._context.cluster.pods_on.items():
                held = [d for pod in pods.values() for d in map(_disk, pod.template.volumes) if d]
                mask[row] = any(_same(a, b) and not (x and y) for a, x in held for b, y in self._disks)
        return mask

    def ok(self, rows: Rows = ALL) -> Mask:
        mask = ~self._conflicts()
        if self._in_use():
            mask[:] = False
        return mask[rows]

    def explain(self, failed: Mask) -> list[tuple[str, Mask]]:
        disks = failed & self._conflicts()
        return [(REASON_DISK, disks), (REASON_ONE_POD, failed & ~disks)]
