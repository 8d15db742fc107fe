"""What the scheduler writes about pods besides bindings: why they wait, where they may go, and that victims go."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import Any

from peavine.base.clock import Clock
from peavine.client import EventRecorder
from peavine.client.transport import Unreachable
from peavine.machinery.errors import ApiError
from peavine.scheduler.template import Object, Pod

log = logging.getLogger(__name__)


class Writes:
    """Each method is one or two calls; no more than `calls` allows are under way. Failures are logged: the next attempt
    to place the pod writes again."""

    def __init__(self, client: Any, calls: asyncio.Semaphore, clock: Clock) -> None:
        self._pods, self._calls, self._clock = client.resource("v1", "pods"), calls, clock

    async def remove(self, recorder: EventRecorder, profile: str, pod: Pod, node: str, victim: Pod) -> bool:
        """Mark and delete one victim; False where that failed."""
        stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(self._clock.time()))
        condition = {
            "type": "DisruptionTarget",
            "status": "True",
            "reason": "PreemptionByScheduler",
            "message": f"{profile}: preempting to accommodate a higher priority pod",
            "lastTransitionTime": stamp,
        }
        if not victim.deleting:
            await self.patch_status(victim, {"conditions": [condition]})
            try:
                async with self._calls:
                    await self._pods.delete(victim.name, victim.namespace, uid=victim.uid or None)
            except (ApiError, Unreachable, ConnectionError, TimeoutError) as error:
                if not isinstance(error, ApiError) or error.code not in (404, 409):
                    log.warning("preemption of %s/%s: %s", victim.namespace, victim.name, error)
                    return False
        recorder.event(victim.object, "Normal", "Preempted", f"Preempted by pod {pod.uid} on node {node}")
        return True

    async def patch_status(self, pod: Pod, status: Object) -> None:
        try:
            async with self._calls:
                await self._pods.patch(
                    pod.name, {"status": status}, pod.namespace, type="strategic", subresource="status"
                )
        except (ApiError, Unreachable, ConnectionError, TimeoutError) as error:
            if not isinstance(error, ApiError) or error.code != 404:
                log.warning("status of %s/%s: %s", pod.namespace, pod.name, error)


def condition_patch(pod: Object, reason: str, message: str, nominated: str, now: float) -> Object | None:
    """The patch of a pod's status that says why it is not scheduled; None where it would change nothing."""
    status = pod.get("status") or {}
    old: Object = next((c for c in status.get("conditions") or () if c.get("type") == "PodScheduled"), {})
    generation = pod["metadata"].get("generation")
    wanted = {"type": "PodScheduled", "status": "False", "reason": reason, "message": message}
    if generation:
        wanted["observedGeneration"] = generation
    patch: Object = {}
    if any(old.get(key) != value for key, value in wanted.items()):
        stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(now))
        same = old.get("status") == "False" and old.get("lastTransitionTime")
        patch["conditions"] = [
            {**wanted, "lastProbeTime": None, "lastTransitionTime": old["lastTransitionTime"] if same else stamp}
        ]
    if (status.get("nominatedNodeName") or "") != nominated:
        patch["nominatedNodeName"] = nominated or None
    return patch or None
