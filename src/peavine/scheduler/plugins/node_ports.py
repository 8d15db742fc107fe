"""NodePorts: a host port is taken once a node and address."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from peavine.scheduler.nodes import ALL, Mask, Rows
from peavine.scheduler.plugins.base import Check, Plugin
from peavine.scheduler.template import Template

if TYPE_CHECKING:
    from peavine.scheduler.context import Context

REASON = "node(s) didn't have free ports for the requested pod ports"


class NodePorts(Plugin):
    name = "NodePorts"
    wakes_on = frozenset(("Node/Add", "AssignedPod/Delete"))

    def check(self, context: Context, template: Template) -> Check | None:
        return _Check(context, template) if template.host_ports else None


class _Check(Check):
    plugin = NodePorts.name

    def __init__(self, context: Context, template: Template) -> None:
        self._nodes, self._wanted = context.cluster.nodes, template.host_ports

    def ok(self, rows: Rows = ALL) -> Mask:
        mask = np.ones(self._nodes.capacity, np.bool_)
        mask[self._nodes.ports_taken(self._wanted)] = False
        return mask[rows]

    def explain(self, failed: Mask) -> list[tuple[str, Mask]]:
        return [(REASON, failed)]
