"""Deletes pods that do not tolerate a NoExecute taint of their node, after the time they do.

Upstream: pkg/controller/tainteviction; "Taints and Tolerations".
"""

from __future__ import annotations

from peavine.api.conditions import condition
from peavine.api.core.taint import toleration_seconds
from peavine.client.informer import key_of
from peavine.controllers.controller import Context, Controller, Key, Object
from peavine.controllers.pods import disrupt, remove
from peavine.machinery.meta import parse_time


class TaintEvictionController(Controller):
    name = "taint-eviction-controller"
    account = "node-controller"

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self.pods = self.watch("v1", "pods")
        self.pods.add_index("node", lambda pod: [pod["spec"].get("nodeName", "")])
        self.nodes = self.watch("v1", "nodes", keys=self._pods_on)
        self.resource = self.client.resource("v1", "pods")
        self._since: dict[Key, float] = {}

    def _pods_on(self, node: Object) -> list[Key]:
        return [key_of(pod) for pod in self.pods.by_index("node", node["metadata"]["name"])]

    async def reconcile(self, key: Key) -> float | None:
        pod = self.pods.get(*key)
        if pod is None or "deletionTimestamp" in pod["metadata"] or not pod["spec"].get("nodeName"):
            self._since.pop(key, None)
            return None
        node = self.nodes.get("", pod["spec"]["nodeName"])
        taints = [t for t in (node or {"spec": {}})["spec"].get("taints") or () if t["effect"] == "NoExecute"]
        allowed = toleration_seconds(taints, pod["spec"].get("tolerations")) if taints else None
        if allowed is None:
            if self._since.pop(key, None) is not None:
                message = f"Cancelling deletion of Pod {key[0]}/{key[1]}"
                self.recorder.event(pod, "Normal", "TaintManagerEviction", message)
            return None
        now = self.clock.time()
        since = self._since.setdefault(key, max(min(_added(t, now) for t in taints), _arrived(pod, now)))
        if now < since + allowed:
            return since + allowed - now
        await self._evict(pod)
        self._since.pop(key, None)
        return None

    async def _evict(self, pod: Object) -> None:
        meta = pod["metadata"]
        message = f"Marking for deletion Pod {meta['namespace']}/{meta['name']}"
        self.recorder.event(pod, "Normal", "TaintManagerEviction", message)
        if condition(pod, "DisruptionTarget") is None:
            words = "Taint manager: deleting due to NoExecute taint"
            await disrupt(self.resource, pod, "DeletionByTaintManager", words, self.clock.time())
        await remove(self.resource, pod)


def _arrived(pod: Object, now: float) -> float:
    """When the pod came to its node: its toleration does not run before that."""
    scheduled = (condition(pod, "PodScheduled") or {}).get("lastTransitionTime")
    return parse_time(scheduled) if scheduled else now


def _added(taint: Object, now: float) -> float:
    return parse_time(taint["timeAdded"]) if taint.get("timeAdded") else now
