"""Graceful node shutdown: logind tells that the machine goes down, pods end in good order, then it may.

A delay lock is held through `systemd-inhibit`, the signal is heard through `busctl`: both are part of systemd, and a
machine without it has no shutdown to wait for. Regular pods get the period less the critical pods' part, critical
ones (and static ones) that part, after them.
"""

from __future__ import annotations

import asyncio
import json
import logging
import shutil
from typing import TYPE_CHECKING

from peavine.kubelet.node.admission import is_critical

if TYPE_CHECKING:
    from peavine.kubelet.kubelet import Kubelet
    from peavine.kubelet.pods.worker import PodWorker

log = logging.getLogger(__name__)

MESSAGE = "Pod was terminated in response to imminent node shutdown."
MATCH = "type='signal',interface='org.freedesktop.login1.Manager',member='PrepareForShutdown'"
LOOK_SECONDS = 0.05


class ShutdownManager:
    def __init__(self, kubelet: Kubelet) -> None:
        self._kubelet = kubelet

    async def run(self) -> None:
        """Hold the lock until the machine goes down and the pods have ended. Ends by cancellation."""
        if shutil.which("systemd-inhibit") is None or shutil.which("busctl") is None:
            log.warning("shutdownGracePeriod is set, but this machine has no systemd: pods end with the machine")
            return
        lock = await asyncio.create_subprocess_exec(
            "systemd-inhibit",
            "--what=shutdown",
            "--mode=delay",
            "--who=kubelet",
            "--why=Kubelet needs time to handle node shutdown",
            "sleep",
            "infinity",
            stdin=asyncio.subprocess.DEVNULL,
        )
        listener = await asyncio.create_subprocess_exec(
            "busctl", "--system", "--json=short", f"--match={MATCH}", "monitor", stdout=asyncio.subprocess.PIPE
        )
        try:
            assert listener.stdout is not None
            while line := await listener.stdout.readline():
                if _says_down(line):
                    await self.shut_down()
                    return
        finally:
            for process in (lock, listener):
                if process.returncode is None:
                    process.terminate()

    async def shut_down(self) -> None:
        """End all pods; returns when they have ended, or their time is over."""
        kubelet = self._kubelet
        for name, node in kubelet.nodes.items():
            node.shutting_down = True
            kubelet.registrars[name].nudge()
        if kubelet.options.shutdown_by_priority:
            await self._by_priority(kubelet.options.shutdown_by_priority)
            return
        critical_seconds = kubelet.options.shutdown_grace_critical_seconds
        regular_seconds = max(0.0, kubelet.options.shutdown_grace_seconds - critical_seconds)
        everyone = [w for w in kubelet.workers.values() if not w.finished]
        await self._end([w for w in everyone if not is_critical(w.pod)], regular_seconds)
        await self._end([w for w in everyone if is_critical(w.pod)], critical_seconds)

    async def _by_priority(self, steps: list[dict[str, int]]) -> None:
        """The lowest priorities first, each with its own time; a pod belongs to the highest step not above it."""
        ordered = sorted(steps, key=lambda step: step["priority"])
        everyone = [w for w in self._kubelet.workers.values() if not w.finished]
        for number, step in enumerate(ordered):
            above = ordered[number + 1]["priority"] if number + 1 < len(ordered) else None
            chosen = [
                w
                for w in everyone
                if (number == 0 or (w.pod["spec"].get("priority") or 0) >= step["priority"])
                and (above is None or (w.pod["spec"].get("priority") or 0) < above)
            ]
            await self._end(chosen, float(step["shutdownGracePeriodSeconds"]))

    async def _end(self, workers: list[PodWorker], seconds: float) -> None:
        for worker in workers:
            spec = worker.pod.get("spec") or {}
            own = spec.get("terminationGracePeriodSeconds")
            worker.more_conditions.append(
                {"type": "DisruptionTarget", "status": "True", "reason": "TerminationByKubelet", "message": MESSAGE}
            )
            grace = min(seconds, float(30 if own is None else own))
            worker.end(grace, forced=("Failed", "Terminated", MESSAGE))
        left = seconds
        while left > 0 and any(not worker.finished for worker in workers):
            await self._kubelet.clock.sleep(LOOK_SECONDS)
            left -= LOOK_SECONDS


def _says_down(line: bytes) -> bool:
    """Whether a message of the monitor is PrepareForShutdown(true)."""
    try:
        message = json.loads(line)
    except ValueError:
        return False
    data = (message.get("payload") or {}).get("data") or []
    return message.get("member") == "PrepareForShutdown" and bool(data) and data[0] is True
