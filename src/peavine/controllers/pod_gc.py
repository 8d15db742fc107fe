"""Removes pods that nobody will remove: of lost nodes, unscheduled and deleted, or too many terminated ones.

Upstream: pkg/controller/podgc. Pods of a node that is gone for good are failed first, then deleted.
"""

from __future__ import annotations

from peavine.api.conditions import is_true
from peavine.api.core.podstate import is_terminal
from peavine.api.core.taint import OUT_OF_SERVICE
from peavine.controllers.controller import Context, Controller, Object
from peavine.controllers.pods import disrupt, remove
from peavine.machinery.errors import ApiError

CHECK_SECONDS = 20.0
QUARANTINE_SECONDS = 40.0
TERMINATED_PODS_MAX = 12_500


class PodGCController(Controller):
    name = "pod-garbage-collector-controller"
    account = "pod-garbage-collector"
    workers = 1

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self.pods = self.read("v1", "pods")
        self.nodes = self.watch("v1", "nodes", keys=lambda node: ["all"])
        self.threshold: int = context.options.get("terminated_pod_gc_threshold", TERMINATED_PODS_MAX)
        self.resource = self.client.resource("v1", "pods")
        self._missing: dict[str, float] = {}

    async def start(self) -> None:
        self.queue.add("all")

    async def reconcile(self, key: str) -> float | None:
        pods = self.pods.list()
        if self.threshold > 0:
            terminated = sorted((p for p in pods if is_terminal(p)), key=lambda p: p["metadata"]["creationTimestamp"])
            for pod in terminated[: max(0, len(terminated) - self.threshold)]:
                await self._delete(pod)
        for pod in pods:
            node = pod["spec"].get("nodeName")
            if not node:
                if "deletionTimestamp" in pod["metadata"]:
                    await self._delete(pod)
            elif "deletionTimestamp" in pod["metadata"] and self._out_of_service(node):
                await self._fail_and_delete(pod, "DeletionByPodGC", "PodGC: node is out-of-service")
        await self._orphans(pods)
        return CHECK_SECONDS

    def _out_of_service(self, name: str) -> bool:
        node = self.nodes.get("", name)
        if node is None:
            return False
        tainted = any(t["key"] == OUT_OF_SERVICE for t in node["spec"].get("taints") or ())
        return tainted and not is_true(node, "Ready")

    async def _orphans(self, pods: list[Object]) -> None:
        """Pods bound to a node that has been away for the quarantine, and that the server does not know either."""
        now = self.clock.monotonic()
        named = {p["spec"].get("nodeName") for p in pods} - {None, ""}
        missing = {name for name in named if self.nodes.get("", name) is None}
        self._missing = {name: self._missing.get(name, now) for name in missing}
        gone = set()
        for name, since in self._missing.items():
            if now - since < QUARANTINE_SECONDS:
                self.queue.add_after("all", QUARANTINE_SECONDS - (now - since))
            elif not await self._exists(name):
                gone.add(name)
        for pod in pods:
            if pod["spec"].get("nodeName") in gone:
                await self._fail_and_delete(pod, "DeletionByPodGC", "PodGC: node no longer exists")

    async def _exists(self, node: str) -> bool:
        try:
            await self.client.resource("v1", "nodes").get(node)
        except ApiError as error:
            if error.code == 404:
                return False
            raise
        return True

    async def _fail_and_delete(self, pod: Object, reason: str, message: str) -> None:
        if not is_terminal(pod):
            await disrupt(self.resource, pod, reason, message, self.clock.time(), phase="Failed")
        await self._delete(pod)

    async def _delete(self, pod: Object) -> None:
        await remove(self.resource, pod, grace_period_seconds=0)
