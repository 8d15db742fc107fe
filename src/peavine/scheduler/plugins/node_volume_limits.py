"""NodeVolumeLimits: no more volumes of a CSI driver on a node than its CSINode says."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

import numpy as np

from peavine.scheduler.nodes import ALL, Ints, Mask, Rows
from peavine.scheduler.plugins.base import Check, Plugin
from peavine.scheduler.storage import Handle, claim_names
from peavine.scheduler.template import Template

if TYPE_CHECKING:
    from peavine.scheduler.context import Context

REASON = "node(s) exceed max volume count"


class NodeVolumeLimits(Plugin):
    name = "NodeVolumeLimits"
    wakes_on = frozenset(("CSINode/Add", "CSINode/Update", "AssignedPod/Delete", "PersistentVolumeClaim/Add"))

    def check(self, context: Context, template: Template) -> Check | None:
        wanted: dict[str, set[Handle]] = defaultdict(set)
        for name, _ in claim_names(template):
            handle = context.storage.handle(template.namespace, name)
            if handle is not None:
                wanted[handle.driver].add(handle)
        return _Check(context, dict(wanted)) if wanted else None


class _Check(Check):
    plugin = NodeVolumeLimits.name

    def __init__(self, context: Context, wanted: dict[str, set[Handle]]) -> None:
        self._storage, self._nodes, self._wanted = context.storage, context.cluster.nodes, wanted

    def ok(self, rows: Rows = ALL) -> Mask:
        mask = np.ones(self._nodes.capacity, np.bool_)
        for driver, handles in self._wanted.items():
            limits = self._storage.limits(driver)
            if limits is None:
                continue
            after: Ints = self._storage.attached(driver) + len(handles)
            for handle in handles:
                after[self._storage.rows_with(handle)] -= 1  # there already: attached once
            mask &= after <= limits
        return mask[rows]

    def explain(self, failed: Mask) -> list[tuple[str, Mask]]:
        return [(REASON, failed)]
