"""NodeUnschedulable: no pod goes to a cordoned node, unless it tolerates the taint that a cordon stands for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from peavine.api.core.taint import NO_SCHEDULE, UNSCHEDULABLE, tolerated
from peavine.scheduler.nodes import ALL, Mask, NodeTable, Rows
from peavine.scheduler.plugins.base import Check, Plugin
from peavine.scheduler.template import Object, Template

if TYPE_CHECKING:
    from peavine.scheduler.context import Context

REASON = "node(s) were unschedulable"


class NodeUnschedulable(Plugin):
    name = "NodeUnschedulable"
    wakes_on = frozenset(("Node/Add", "Node/Update"))

    def check(self, context: Context, template: Template) -> Check | None:
        cordon = {"key": UNSCHEDULABLE, "effect": NO_SCHEDULE}
        return None if tolerated(cordon, template.tolerations) else _Check(context.cluster.nodes)

    def hint(self, context: Context, template: Template, event: str, old: Object | None, new: Object | None) -> bool:
        return not ((new or {}).get("spec") or {}).get("unschedulable")


class _Check(Check):
    plugin = NodeUnschedulable.name
    static = True

    def __init__(self, nodes: NodeTable) -> None:
        self._nodes = nodes

    def ok(self, rows: Rows = ALL) -> Mask:
        return ~self._nodes.unschedulable[rows]

    def explain(self, failed: Mask) -> list[tuple[str, Mask]]:
        return [(REASON, failed)]

    def hopeless(self, failed: Mask) -> Mask:
        return failed
