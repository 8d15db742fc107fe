"""Deletes pods that do not tolerate a NoExecute taint of their node, after the time they do.

Upstream: pkg/controller/tainteviction; "Taints and Tolerations".
"""

from __future__ import annotations

from peavine.api.conditions import condition
from peavine.api.core.taint import toleration_seconds
from peavine.client.informer import key_of
from peavine.controllers.controller import Context, Controller, Key, Object
from peavine.machinery.errors import ApiError
from peavine.machinery.meta import now as stamp
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
        since = self._since.setdefault(key, min((_added(t, now) for t in taints), default=now))
        if now < since + allowed:
            return since + allowed - now
        await self._evict(pod)
        self._since.pop(key, None)
        return None

    async def _evict(self, pod: Object) -> None:
        meta = pod["metadata"]
        message = f"Marking for deletion Pod {meta['namespace']}/{meta['name']}"
        self.recorder.event(pod, "Normal", "TaintManagerEviction", message)
        target = {
            "type": "DisruptionTarget",
            "status": "True",
            "reason": "DeletionByTaintManager",
            "message": "Taint manager: deleting due to NoExecute taint",
            "lastTransitionTime": stamp(self.clock.time()),
        }
        try:
            if condition(pod, "DisruptionTarget") is None:
                patch = {"metadata": {"uid": meta["uid"]}, "status": {"conditions": [target]}}
                await self.resource.patch(
                    meta["name"], patch, meta["namespace"], type="strategic", subresource="status"
                )
            await self.resource.delete(meta["name"], meta["namespace"], uid=meta["uid"])
        except ApiError as error:
            if error.code not in (404, 409):
                raise


def _added(taint: Object, now: float) -> float:
    return parse_time(taint["timeAdded"]) if taint.get("timeAdded") else now
