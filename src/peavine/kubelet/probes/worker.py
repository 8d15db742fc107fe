"""The loop of one probe of one container, and what all probes of the node say.

Thresholds, start values and the order of probes are upstream's: readiness starts as failed, liveness as succeeded;
liveness and readiness wait for the startup probe; a result counts once it came `threshold` times in a row.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from peavine.base.clock import REAL, Clock
from peavine.base.lifetimes import Scope
from peavine.kubelet.cri.runtime import Runtime
from peavine.kubelet.probes.prober import probe

log = logging.getLogger(__name__)
Object = dict[str, Any]
KINDS = {"readiness": "readinessProbe", "liveness": "livenessProbe", "startup": "startupProbe"}
PERIOD_SECONDS_DEFAULT = 10
FAILURES_DEFAULT = 3
# A probe that failed for reasons of ours is tried this often before it counts.
RETRIES = 3


@dataclass
class Target:
    """What is probed: a running container of a pod."""

    pod: Object
    container: Object
    container_id: str
    pod_ip: str
    started_at: float


@dataclass
class _Running:
    task: asyncio.Task[None]
    container_id: str
    # Set to probe at once instead of at the next tick.
    now: asyncio.Event


class Probes:
    """Every probe of the node. `changed(uid)` is called when a result turns."""

    def __init__(
        self,
        runtime: Runtime,
        scope: Scope,
        *,
        changed: Callable[[str], None],
        unhealthy: Callable[[Target, str, str], None],
        clock: Clock = REAL,
        spread: bool = True,
    ) -> None:
        self._runtime, self._scope, self._clock = runtime, scope, clock
        self._changed, self._unhealthy = changed, unhealthy
        # After a restart of the kubelet all probes would tick together: spread them over one period.
        self._spread = spread
        self._workers: dict[tuple[str, str, str], _Running] = {}
        # (container id, kind) -> result
        self._results: dict[tuple[str, str], bool] = {}
        self.counts: dict[tuple[str, str, str, str, str, str], int] = {}

    def watch(self, target: Target) -> None:
        """Have the probes of a running container; what runs already stays."""
        uid = target.pod["metadata"]["uid"]
        for kind, field in KINDS.items():
            spec = target.container.get(field)
            if not spec:
                continue
            key = (uid, target.container["name"], kind)
            running = self._workers.get(key)
            if running is not None and running.container_id == target.container_id and not running.task.done():
                continue
            if running is not None:
                running.task.cancel()
            now = asyncio.Event()
            if kind == "startup" and self._results.get((target.container_id, kind)):
                continue
            task = self._scope.start(self._loop(target, kind, spec, now), name=f"{kind} probe")
            self._workers[key] = _Running(task, target.container_id, now)

    def forget(self, uid: str, container: str | None = None, *, kinds: tuple[str, ...] = tuple(KINDS)) -> None:
        """Stop the probes of a pod, or of one of its containers."""
        for key in list(self._workers):
            if key[0] == uid and (container is None or key[1] == container) and key[2] in kinds:
                self._workers.pop(key).task.cancel()

    def forget_container(self, container_id: str) -> None:
        for kind in KINDS:
            self._results.pop((container_id, kind), None)

    def adopt(self, container_id: str, *, started: bool, ready: bool) -> None:
        """Take over what was reported before this kubelet started, until the probes speak."""
        if started:
            self._results.setdefault((container_id, "startup"), True)
        if ready:
            self._results.setdefault((container_id, "readiness"), True)

    def ready(self, container_id: str, container: Object) -> bool:
        if not container.get("readinessProbe"):
            return True
        return self._results.get((container_id, "readiness"), False)

    def started(self, container_id: str, container: Object) -> bool:
        if not container.get("startupProbe"):
            return True
        return self._results.get((container_id, "startup"), False)

    def failed(self, container_id: str, kind: str) -> bool:
        return self._results.get((container_id, kind)) is False

    async def _loop(self, target: Target, kind: str, spec: Object, now: asyncio.Event) -> None:
        period = float(spec.get("periodSeconds") or PERIOD_SECONDS_DEFAULT)
        delay = float(spec.get("initialDelaySeconds") or 0)
        if self._spread and self._clock.time() - target.started_at > period:
            await self._clock.sleep(random.random() * period)
        streak, last = 0, None
        while True:
            wait = target.started_at + delay - self._clock.time()
            if wait > 0:
                await self._clock.sleep(wait)
            if kind == "startup" or self.started(target.container_id, target.container):
                ok, output = await self._once(target, kind, spec)
                streak = streak + 1 if ok == last else 1
                last = ok
                if self._count(target, kind, spec, ok, output, streak):
                    return
            await self._pause(period, now)

    async def _pause(self, period: float, now: asyncio.Event) -> None:
        if self._clock is not REAL:
            await self._clock.sleep(period)
            return
        try:
            async with asyncio.timeout(period):
                await now.wait()
            now.clear()
        except TimeoutError:
            return

    async def _once(self, target: Target, kind: str, spec: Object) -> tuple[bool, str]:
        try:
            return await probe(
                spec,
                container=target.container,
                container_id=target.container_id,
                pod_ip=target.pod_ip,
                runtime=self._runtime,
            )
        except Exception as error:
            # A probe that cannot be done has failed; it must not end the kubelet.
            log.exception("%s probe of %s", kind, target.container["name"])
            return False, str(error)

    def _count(self, target: Target, kind: str, spec: Object, ok: bool, output: str, streak: int) -> bool:
        """Take one outcome into account; True if the probe has done its work."""
        meta = target.pod["metadata"]
        result = "successful" if ok else "failed"
        labels = (
            kind.capitalize(),
            meta.get("namespace", ""),
            meta["name"],
            meta["uid"],
            target.container["name"],
            result,
        )
        self.counts[labels] = self.counts.get(labels, 0) + 1
        if not ok:
            self._unhealthy(target, kind, output)
        threshold = (
            int(spec.get("successThreshold") or 1) if ok else int(spec.get("failureThreshold") or FAILURES_DEFAULT)
        )
        if streak < threshold:
            return False
        key = (target.container_id, kind)
        if self._results.get(key) != ok:
            self._results[key] = ok
            self._changed(target.pod["metadata"]["uid"])
            if kind == "startup" and ok:
                self._wake(target)
        # A startup probe ends with its success; a failed liveness or startup probe waits for the container's end.
        return (kind == "startup" and ok) or (kind != "readiness" and not ok)

    def _wake(self, target: Target) -> None:
        """The container has started: its other probes need not wait for their next tick."""
        for kind in ("readiness", "liveness"):
            running = self._workers.get((target.pod["metadata"]["uid"], target.container["name"], kind))
            if running is not None:
                running.now.set()
