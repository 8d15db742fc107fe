"""VolumeZone: a bound volume that is labelled with a zone or region is used there."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from peavine.scheduler.plugins.base import Check, MaskCheck, Plugin
from peavine.scheduler.storage import claim_names
from peavine.scheduler.template import Template

if TYPE_CHECKING:
    from peavine.scheduler.context import Context

REASON = "node(s) had no available volume zone"
_LABELS = (
    "topology.kubernetes.io/zone",
    "topology.kubernetes.io/region",
    "failure-domain.beta.kubernetes.io/zone",
    "failure-domain.beta.kubernetes.io/region",
)


class VolumeZone(Plugin):
    name = "VolumeZone"
    wakes_on = frozenset(
        (
            "Node/Add",
            "Node/UpdateLabel",
            "PersistentVolume/Add",
            "PersistentVolume/Update",
            "PersistentVolumeClaim/Update",
        )
    )

    def check(self, context: Context, template: Template) -> Check | None:
        wanted: list[tuple[str, set[str]]] = []
        for name, _ in claim_names(template):
            claim = context.storage.claim(template.namespace, name)
            volume = context.storage.volume((claim or {}).get("spec", {}).get("volumeName") or "")
            labels = (volume or {}).get("metadata", {}).get("labels") or {}
            wanted += [(key, set(labels[key].split("__"))) for key in _LABELS if key in labels]
        if not wanted:
            return None
        nodes = context.cluster.nodes
        # A node without any such label is in no zone that could be the wrong one.
        labelled = np.zeros(nodes.capacity, np.bool_)
        for key in _LABELS:
            labelled |= nodes.column(key).ids >= 0
        mask = np.ones(nodes.capacity, np.bool_)
        for key, values in wanted:
            column = nodes.column(key)
            mask &= np.isin(column.ids, [column.known(value) for value in values])
        return _Check(mask | ~labelled)


class _Check(MaskCheck):
    plugin = VolumeZone.name
    reason = REASON
