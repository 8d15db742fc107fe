"""What the runtime tells: events of containers, lists of everything as a safety net, and whether it works at all."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from peavine.kubelet.cri.features import node_handlers, read_features
from peavine.kubelet.cri.runtime import RpcError
from peavine.kubelet.pods.records import POD_UID

if TYPE_CHECKING:
    from peavine.kubelet.kubelet import Kubelet
    from peavine.kubelet.pods.worker import PodWorker

log = logging.getLogger(__name__)

RELIST_SECONDS = 1.0
# With events from the runtime, listing everything is only a safety net.
RELIST_SECONDS_WITH_EVENTS = 30.0
RUNTIME_STATUS_SECONDS = 5.0


class RuntimeWatch:
    """Wakes the workers of pods whose containers have changed, and keeps the node's word about its runtime."""

    def __init__(self, kubelet: Kubelet) -> None:
        self._kubelet = kubelet
        self._unknown = asyncio.Event()
        # The simulated runtime forgets no event.
        simulated = getattr(kubelet.runtime, "simulated", False)
        self._relist_seconds: float | None = None if simulated else RELIST_SECONDS_WITH_EVENTS
        self.healthy = False
        self._features_known = False
        self._by_container: dict[str, PodWorker] = {}

    def nudge(self) -> None:
        """List everything, now."""
        self._unknown.set()

    # ---- which pod a container belongs to
    def index(self, worker: PodWorker) -> None:
        for container in worker.record.containers:
            self._by_container[container.id] = worker
        for sandbox in worker.record.sandboxes:
            self._by_container[sandbox.id] = worker

    def index_container(self, worker: PodWorker, identity: str) -> None:
        """Known from its first moment: it may end before anybody looks again."""
        self._by_container[identity] = worker

    def forget(self, worker: PodWorker) -> None:
        for container in worker.record.containers:
            self._by_container.pop(container.id, None)
        for sandbox in worker.record.sandboxes:
            self._by_container.pop(sandbox.id, None)

    # ---- listening and looking
    async def follow_events(self) -> None:
        while True:
            try:
                async for event in self._kubelet.runtime.events():
                    worker = self._by_container.get(event.container_id)
                    if worker is None:
                        # Of a pod that we have not looked at since it was made: look at everything.
                        self._unknown.set()
                        continue
                    if event.kind == "exited":
                        worker.note_exit(event.container_id)
                    worker.wake()
            except RpcError as error:
                if error.code == "UNIMPLEMENTED":
                    self._relist_seconds = RELIST_SECONDS
                    return
                log.info("runtime events: %s", error)
            self._unknown.set()
            await self._kubelet.clock.sleep(0.5)

    async def relist(self) -> None:
        """Find what events have not told: ends of containers, and pods that nobody knows any more."""
        seen: dict[str, int] = {}
        while True:
            # Before looking: what is told during the look needs another one.
            self._unknown.clear()
            try:
                seen = await self._look(seen)
            except RpcError as error:
                log.info("relist: %s", error)
            try:
                async with asyncio.timeout(self._relist_seconds):
                    await self._unknown.wait()
                await self._kubelet.clock.sleep(0.05)
            except TimeoutError:
                continue

    async def _look(self, seen: dict[str, int]) -> dict[str, int]:
        runtime = self._kubelet.runtime
        containers, sandboxes = await asyncio.gather(runtime.list_containers(), runtime.list_sandboxes())
        now = {}
        for item in [*containers, *sandboxes]:
            labels = item.get("labels") or {}
            uid = labels.get(POD_UID)
            if uid is None:
                continue
            now[item["id"]] = item.get("state", 0)
            worker = self._kubelet.workers.get(uid)
            if worker is None:
                self._kubelet.source.adopt_orphan(labels, uid)
            elif seen.get(item["id"]) != now[item["id"]]:
                worker.wake()
        for identity in seen.keys() - now.keys():
            worker = self._by_container.pop(identity, None)
            if worker is not None:
                worker.wake()
        return now

    async def watch_status(self) -> None:
        while True:
            try:
                await self._check()
            except RpcError as error:
                # Another version may come back.
                self.healthy = self._features_known = False
                self._set_not_ready(f"[container runtime is down, {error}]")
            ready = self._kubelet.network_ready and self.healthy
            await self._kubelet.clock.sleep(RUNTIME_STATUS_SECONDS if ready else 0.2)

    async def _check(self) -> None:
        kubelet = self._kubelet
        answer = await kubelet.runtime.status()
        status = answer.get("status") or {}
        conditions = {c.get("type"): c for c in status.get("conditions") or []}
        network, runtime = conditions.get("NetworkReady", {}), conditions.get("RuntimeReady", {})
        self.healthy = bool(runtime.get("status"))
        was = kubelet.network_ready
        kubelet.network_ready = bool(network.get("status"))
        kubelet.network_message = "container runtime network not ready: NetworkReady=false" + (
            f" reason:{network.get('reason', '')} message:{network.get('message', '')}"
        )
        if not self._features_known:
            version = await kubelet.runtime.version()
            kubelet.features, self._features_known = read_features(answer, version), True
            for node in kubelet.nodes.values():
                node.runtime_version = f"{version.get('runtime_name', '')}://{version.get('runtime_version', '')}"
                node.handlers = node_handlers(kubelet.features)
                node.features = {"supplementalGroupsPolicy": kubelet.features.supplemental_groups_policy}
                kubelet.registrars[node.name].nudge()
        if not self.healthy:
            self._set_not_ready(
                f"container runtime not ready: RuntimeReady=false reason:{runtime.get('reason', '')}"
                f" message:{runtime.get('message', '')}"
            )
        else:
            self._set_not_ready("" if kubelet.network_ready else kubelet.network_message)
        if kubelet.network_ready and not was:
            for worker in list(kubelet.workers.values()):
                worker.wake()

    def _set_not_ready(self, why: str) -> None:
        for name, node in self._kubelet.nodes.items():
            if node.not_ready != why:
                node.not_ready = why
                self._kubelet.registrars[name].nudge()
