"""What pods of some priorities use or are promised, per row: sums that preemption and nominations ask for.

Kept only for the priorities that were asked about, and changed with each pod instead of summed anew.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np

from peavine.scheduler.nodes import Ints, NodeTable
from peavine.scheduler.template import PODS, Template

SUMS_MAX = 32  # different priorities in use at one time


class PrioritySums:
    """For a threshold T: what those pods take whose priority `counts` against T, shaped like `NodeTable.used`."""

    def __init__(
        self,
        nodes: NodeTable,
        counts: Callable[[int, int], bool],
        pods: Callable[[], Iterable[tuple[Template, int]]],
    ) -> None:
        """`counts(priority, threshold)`; `pods()` are the (template, row) of all pods now."""
        self._nodes, self._counts, self._pods = nodes, counts, pods
        self._sums: dict[int, Ints] = {}

    def of(self, threshold: int) -> Ints:
        sums = self._sums.get(threshold)
        if sums is None or sums.shape != self._nodes.used.shape:
            if len(self._sums) >= SUMS_MAX:
                self._sums.clear()
            # Made before counting: a resource that is named for the first time changes the shape.
            every = [(t, row) for t, row in self._pods() if self._counts(t.priority, threshold)]
            for template, _ in every:
                for name in template.requests:
                    self._nodes.resource(name)
            sums = self._sums[threshold] = np.zeros_like(self._nodes.used)
            for template, row in every:
                self._add(sums, template, row, 1)
        return sums

    def change(self, template: Template, row: int, sign: int) -> None:
        for threshold, sums in list(self._sums.items()):
            if self._counts(template.priority, threshold):
                if sums.shape != self._nodes.used.shape:
                    del self._sums[threshold]
                else:
                    self._add(sums, template, row, sign)

    def _add(self, sums: Ints, template: Template, row: int, sign: int) -> None:
        ids = self._nodes.resource_ids
        for name, amount in template.requests.items():
            sums[ids[name], row] += sign * amount
        sums[ids[PODS], row] += sign
