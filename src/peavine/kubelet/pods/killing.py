"""Ending containers: preStop hooks, stop signals, grace periods, the order of sidecars."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Coroutine, Iterable
from typing import TYPE_CHECKING, Any

from peavine.api.core.resources import is_sidecar
from peavine.base.lifetimes import scope
from peavine.kubelet.cri.runtime import CONTAINER_RUNNING, RpcError
from peavine.kubelet.cri.signals import linux_number
from peavine.kubelet.pods.hooks import HookError, run_hook
from peavine.kubelet.pods.records import POD_GRACE, PRE_STOP, Container, PodRecord

if TYPE_CHECKING:
    from peavine.kubelet.pods.worker import PodWorker

log = logging.getLogger(__name__)
Object = dict[str, Any]

# What a container gets at least after its preStop hook has used up the grace period.
GRACE_SECONDS_MIN = 2.0


def _spec_of(worker: PodWorker, record: Container) -> Object | None:
    spec = worker.pod.get("spec") or {}
    for field in ("containers", "initContainers", "ephemeralContainers"):
        for container in spec.get(field) or []:
            if container["name"] == record.name:
                return container
    kept = record.annotations.get(PRE_STOP)
    return json.loads(kept) if kept else None


def _grace_of(worker: PodWorker, record: Container, spec: Object | None, reason: str) -> float:
    """A single container's own time: the probe's, or the pod's."""
    for name, field in (("LivenessProbe", "livenessProbe"), ("StartupProbe", "startupProbe")):
        own = ((spec or {}).get(field) or {}).get("terminationGracePeriodSeconds")
        if reason == name and own is not None:
            return float(own)
    grace = (worker.pod.get("spec") or {}).get("terminationGracePeriodSeconds")
    if grace is None:
        grace = record.annotations.get(POD_GRACE) or 30
    return float(grace)


async def kill_container(
    worker: PodWorker, record: Container, spec: Object | None, message: str, grace: float | None, reason: str = ""
) -> None:
    """End one container and return when it has ended. `grace` None: its own; else it can be shortened meanwhile."""
    kubelet, spec = worker.kubelet, spec or _spec_of(worker, record)
    limit = grace if grace is not None else _grace_of(worker, record, spec, reason)
    kubelet.recorder.event(
        worker.pod,
        "Normal",
        "Killing",
        message or f"Stopping container {record.name}",
        field_path=field_path(worker.pod, record.name),
    )
    kubelet.probes.forget(worker.uid, record.name)
    begun = kubelet.clock.monotonic()
    worker.grace_changed.clear()
    async with scope() as tasks:
        # Errors come back as values: one that leaves a scope would be wrapped, and nobody above would know it.
        ending = tasks.start(_failure(_hook_then_stop(worker, record, spec, limit, begun)), name=f"stop {record.name}")
        while not ending.done():
            waiting = tasks.start(worker.grace_changed.wait())
            await asyncio.wait({ending, waiting}, return_when=asyncio.FIRST_COMPLETED)
            if ending.done():
                break
            worker.grace_changed.clear()
            left = (worker.grace or 0.0) - (kubelet.clock.monotonic() - begun)
            if worker.grace is not None and worker.grace < limit:
                # Somebody wants it sooner: a second stop with less time overrides the first.
                limit = worker.grace
                await _failure(_stop(worker, record, max(0.0, left)))
        failure = await ending
    if failure is not None:
        raise failure
    kubelet.probes.forget_container(record.id)
    worker.expected_exits |= {record.id}


async def _failure(work: Coroutine[Any, Any, None]) -> RpcError | None:
    """Do it; a refusal of the runtime is returned, not raised."""
    try:
        await work
    except RpcError as error:
        return error
    return None


async def _hook_then_stop(
    worker: PodWorker, record: Container, spec: Object | None, limit: float, begun: float
) -> None:
    hook = ((spec or {}).get("lifecycle") or {}).get("preStop")
    clock = worker.kubelet.clock
    if hook and limit > 0:
        try:
            async with asyncio.timeout(limit):
                await run_hook(
                    hook,
                    container=spec or {},
                    container_id=record.id,
                    pod_ip=(worker.record.ips or [""])[0],
                    runtime=worker.kubelet.runtime,
                    clock=clock,
                )
        except HookError as error:
            log.info("preStop of %s in pod %s: %s", record.name, worker.key, error)
            worker.kubelet.recorder.event(
                worker.pod,
                "Warning",
                "FailedPreStopHook",
                "PreStopHook failed",
                field_path=field_path(worker.pod, record.name),
            )
        except TimeoutError:
            log.info("preStop of %s in pod %s took longer than its grace period", record.name, worker.key)
        limit = max(GRACE_SECONDS_MIN, limit - (clock.monotonic() - begun))
    signal = ((spec or {}).get("lifecycle") or {}).get("stopSignal") or ""
    await _stop(worker, record, limit, signal)


async def _signalled(worker: PodWorker, record: Container, seconds: float, signal: str) -> float:
    """For a runtime that knows no stop signal of containers: send it ourselves, and wait. Returns what time is left
    for the runtime's own way, which is to kill."""
    kubelet, waited, pause = worker.kubelet, 0.0, 0.02
    try:
        await kubelet.runtime.signal_container(record.id, linux_number(signal))
    except (RpcError, ValueError) as error:
        log.info("stop signal %s for %s in pod %s: %s", signal, record.name, worker.key, error)
        return seconds
    while waited < seconds:
        await kubelet.clock.sleep(pause)
        waited, pause = waited + pause, min(0.5, pause * 2)
        status = await kubelet.runtime.container_status(record.id)
        if status.get("state") != CONTAINER_RUNNING:
            break
    return 0.0


async def _stop(worker: PodWorker, record: Container, seconds: float, signal: str = "") -> None:
    if signal and seconds >= 1 and not worker.kubelet.features.stop_signals:
        seconds = await _signalled(worker, record, seconds, signal)
    try:
        await worker.kubelet.runtime.stop_container(record.id, int(seconds + 0.5))
    except RpcError as error:
        if error.code != "NOT_FOUND":
            raise


async def kill_containers(
    worker: PodWorker, containers: Iterable[Container], message: str, grace: float | None
) -> None:
    """All at once."""
    chosen = list(containers)
    if len(chosen) == 1:
        await kill_container(worker, chosen[0], None, message, grace)
    elif chosen:
        async with scope() as tasks:
            endings = [tasks.start(_failure(kill_container(worker, c, None, message, grace))) for c in chosen]
            await asyncio.wait(endings)
        for ending in endings:
            failure = ending.result()
            if failure is not None:
                raise failure


async def kill_pod(worker: PodWorker, record: PodRecord) -> None:
    """Regular containers together, then sidecars, the last started first; all within the pod's grace period."""
    assert worker.grace is not None
    clock, begun = worker.kubelet.clock, worker.kubelet.clock.monotonic()
    inits = [c for c in (worker.pod.get("spec") or {}).get("initContainers") or [] if is_sidecar(c)]
    order = [c["name"] for c in inits]
    running = record.running()
    await kill_containers(worker, [c for c in running if c.name not in order], "", worker.grace)
    for name in reversed(order):
        left = max(0.0, worker.grace - (clock.monotonic() - begun))
        # Whatever time is left; a sidecar that outlives it is killed at once.
        await kill_containers(worker, [c for c in running if c.name == name], "", left)


async def stop_sandboxes(worker: PodWorker, record: PodRecord) -> None:
    for sandbox in record.sandboxes:
        # One whose process has ended still has its network to give back.
        if sandbox.ready or sandbox.id in worker.lost_sandboxes:
            try:
                await worker.kubelet.runtime.stop_sandbox(sandbox.id)
            except RpcError as error:
                if error.code != "NOT_FOUND":
                    worker.kubelet.recorder.event(worker.pod, "Warning", "FailedKillPod", f"error killing pod: {error}")
                    raise


def field_path(pod: Object, name: str) -> str:
    """The container's place in the spec, as events name it."""
    spec = pod.get("spec") or {}
    for field in ("initContainers", "containers", "ephemeralContainers"):
        if any(c["name"] == name for c in spec.get(field) or []):
            return f"spec.{field}{{{name}}}"
    return ""
