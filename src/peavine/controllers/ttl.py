"""How long kubelets may use what they have read of Secrets and ConfigMaps: longer in larger clusters.

Written to each node as an annotation. Upstream: pkg/controller/ttl.
"""

from __future__ import annotations

from peavine.controllers.controller import Context, Controller, Key

ANNOTATION = "node.alpha.kubernetes.io/ttl"
# nodes at most -> seconds
STEPS = ((100, 0), (500, 15), (1000, 30), (2000, 60))
SECONDS_MAX = 300


class TTLController(Controller):
    name = "ttl-controller"
    account = "ttl-controller"

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self.nodes = self.watch("v1", "nodes")

    async def reconcile(self, key: Key) -> float | None:
        node = self.nodes.get(*key)
        if node is None:
            return None
        count = len(self.nodes)
        seconds = str(next((seconds for most, seconds in STEPS if count <= most), SECONDS_MAX))
        if (node["metadata"].get("annotations") or {}).get(ANNOTATION) != seconds:
            await self.client.resource("v1", "nodes").patch(
                key[1], {"metadata": {"annotations": {ANNOTATION: seconds}}}
            )
        return None
