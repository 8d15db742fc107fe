"""TaintToleration: filters on NoSchedule and NoExecute taints, scores by PreferNoSchedule ones.

Nodes with the same taints share a number (`NodeTable.taint_set`), so the tolerations are compared once a set of taints.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from peavine.api.core.taint import PREFER_NO_SCHEDULE, tolerated, untolerated
from peavine.scheduler.nodes import ALL, Ints, Mask, NodeTable, Rows
from peavine.scheduler.plugins.base import Check, Plugin, Rating, normalized
from peavine.scheduler.template import Object, Template

if TYPE_CHECKING:
    from peavine.scheduler.context import Context

REASON = "node(s) had untolerated taint(s)"


class TaintToleration(Plugin):
    name = "TaintToleration"
    wakes_on = frozenset(("Node/Add", "Node/Update", "Node/UpdateTaint", "Pod/Update"))

    def check(self, context: Context, template: Template) -> Check | None:
        nodes = context.cluster.nodes
        good = np.array([untolerated(taints, template.tolerations) is None for taints in nodes.taint_sets])
        return None if good.all() else _Check(nodes, good)

    def rating(self, context: Context, template: Template) -> Rating | None:
        nodes = context.cluster.nodes
        tolerations = [t for t in template.tolerations if t.get("effect") in (None, "", PREFER_NO_SCHEDULE)]
        bad = [
            sum(t.get("effect") == PREFER_NO_SCHEDULE and not tolerated(t, tolerations) for t in taints)
            for taints in nodes.taint_sets
        ]
        return _Rating(nodes, np.array(bad, np.int64)) if any(bad) else None

    def hint(self, context: Context, template: Template, event: str, old: Object | None, new: Object | None) -> bool:
        if not event.startswith("Node/") or new is None:
            return True
        return untolerated((new.get("spec") or {}).get("taints"), template.tolerations) is None


class _Check(Check):
    plugin = TaintToleration.name
    static = True

    def __init__(self, nodes: NodeTable, good: Mask) -> None:
        self._nodes, self._good = nodes, good

    def ok(self, rows: Rows = ALL) -> Mask:
        return self._good[self._nodes.taint_set[rows]]

    def explain(self, failed: Mask) -> list[tuple[str, Mask]]:
        return [(REASON, failed)]

    def hopeless(self, failed: Mask) -> Mask:
        return failed


class _Rating(Rating):
    plugin = TaintToleration.name
    static = True
    local = False

    def __init__(self, nodes: NodeTable, bad: Ints) -> None:
        self._raw = bad[nodes.taint_set]

    def rate(self, rows: Rows, feasible: Mask) -> Ints:
        return normalized(self._raw, feasible, reverse=True)[rows]
