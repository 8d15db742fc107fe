"""NodeDeclaredFeatures: a pod that needs something new of the kubelet goes to a node whose kubelet says that it has it
(`status.declaredFeatures`, KEP-5328)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from peavine.scheduler.plugins.base import Check, MaskCheck, Plugin
from peavine.scheduler.template import Object, Template

if TYPE_CHECKING:
    from peavine.scheduler.context import Context

REASON = "node(s) didn't match Pod's required features"


class NodeDeclaredFeatures(Plugin):
    name = "NodeDeclaredFeatures"
    wakes_on = frozenset(("Node/Add", "Node/UpdateDeclaredFeature"))

    def check(self, context: Context, template: Template) -> Check | None:
        if not template.features:
            return None
        nodes = context.cluster.nodes
        mask = np.zeros(nodes.capacity, np.bool_)
        for row in nodes.row_of.values():
            mask[row] = template.features <= _declared(nodes.objects[row])
        return _Check(mask)

    def hint(self, context: Context, template: Template, event: str, old: Object | None, new: Object | None) -> bool:
        return template.features <= _declared(new)


def _declared(node: Object | None) -> frozenset[str]:
    return frozenset(((node or {}).get("status") or {}).get("declaredFeatures") or ())


class _Check(MaskCheck):
    plugin = NodeDeclaredFeatures.name
    reason = REASON
