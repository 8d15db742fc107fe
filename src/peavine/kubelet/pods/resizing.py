"""Changing the resources of a running container, without restarting it where its policy allows that.

What has been granted is kept in the pod's directory, so that a restarted kubelet neither grants twice nor forgets.
"""

from __future__ import annotations

import json
import logging
from typing import TYPE_CHECKING, Any

from peavine.api.core.podstate import GUARANTEED
from peavine.api.core.resources import is_sidecar, pod_requests
from peavine.kubelet.cri.runtime import RpcError
from peavine.kubelet.pods import resources
from peavine.kubelet.pods.killing import kill_container
from peavine.kubelet.pods.records import Container, PodRecord
from peavine.machinery.quantity import ZERO, parse_quantity

if TYPE_CHECKING:
    from peavine.kubelet.pods.worker import PodWorker

log = logging.getLogger(__name__)
Object = dict[str, Any]
RESIZABLE = ("cpu", "memory")
# What the pod itself was granted stands among the containers under a name that none of them has.
POD = ""


def _file(worker: PodWorker):  # type: ignore[no-untyped-def]
    return worker.kubelet.paths.pod(worker.uid) / "allocated.json"


def load(worker: PodWorker) -> None:
    """What was granted before this kubelet started."""
    try:
        worker.allocated = json.loads(_file(worker).read_text())
    except (OSError, ValueError):
        worker.allocated = {}
    if worker.allocated:
        worker.held = worker.kubelet.shared(as_granted(worker))


def as_granted(worker: PodWorker) -> Object:
    """The pod with the resources that its containers were granted, whatever its spec asks for by now."""
    spec = worker.pod.get("spec") or {}
    filled: Object = {
        field: [{**c, "resources": worker.allocated.get(c["name"], c.get("resources") or {})} for c in spec[field]]
        for field in ("containers", "initContainers")
        if spec.get(field)
    }
    if POD in worker.allocated:
        filled["resources"] = worker.allocated[POD]
    return {**worker.pod, "spec": {**spec, **filled}}


def pod_changed(worker: PodWorker) -> bool:
    """Whether the pod's own resources are others than were granted."""
    granted = worker.allocated.get(POD)
    return granted is not None and bool(_differences(granted, (worker.pod.get("spec") or {}).get("resources") or {}))


def grant(worker: PodWorker, container: Object) -> None:
    """A container starts with what its spec says."""
    worker.allocated[container["name"]] = container.get("resources") or {}
    if own := (worker.pod.get("spec") or {}).get("resources"):
        worker.allocated.setdefault(POD, own)
    _save(worker)


def _save(worker: PodWorker) -> None:
    if worker.kubelet.options.cgroups:
        file = _file(worker)
        draft = file.with_suffix(".new")
        draft.write_text(json.dumps(worker.allocated))
        draft.replace(file)


def changed(worker: PodWorker, record: PodRecord) -> list[tuple[Object, Container]]:
    """Running containers whose spec asks for other CPU or memory than was granted."""
    spec = worker.pod.get("spec") or {}
    found = []
    sidecars = [c for c in spec.get("initContainers") or [] if is_sidecar(c)]
    for container in [*(spec.get("containers") or []), *sidecars]:
        running = record.latest(container["name"])
        granted = worker.allocated.get(container["name"])
        if running is None or running.state != "running" or granted is None:
            continue
        if _differences(granted, container.get("resources") or {}):
            found.append((container, running))
    return found


def _differences(old: Object, new: Object) -> set[str]:
    return {
        name
        for kind in ("requests", "limits")
        for name in RESIZABLE
        if _amount(old, kind, name) != _amount(new, kind, name)
    }


def _amount(resource: Object, kind: str, name: str) -> Any:
    text = (resource.get(kind) or {}).get(name)
    return None if text is None else parse_quantity(text)


def _refusal(worker: PodWorker) -> tuple[str, str] | None:
    """(reason, message) if the node cannot give what the spec now asks for."""
    kubelet = worker.kubelet
    node = kubelet.nodes[kubelet.node_name_of(worker)]
    if worker.held.quality == GUARANTEED and kubelet.managers is not None:
        for manager, name in ((kubelet.managers.cpus, "CPU"), (kubelet.managers.memory, "Memory")):
            if manager is not None:
                message = f"Resize is infeasible for Guaranteed Pods alongside {name} Manager static policy"
                return "Infeasible", message
    wanted = pod_requests(worker.pod)
    others = [w.held.requests for w in kubelet.neighbours(worker)]
    for name in RESIZABLE:
        asked, capacity = wanted.get(name, ZERO), parse_quantity(node.allocatable.get(name, "0"))
        shown = (lambda q: q.milli()) if name == "cpu" else (lambda q: q.value())
        if capacity < asked:
            return (
                "Infeasible",
                f"Node didn't have enough capacity: {name}, requested: {shown(asked)}, capacity: {shown(capacity)}",
            )
        used = ZERO
        for other in others:
            used = used + other.get(name, ZERO)
        if capacity < used + asked:
            return (
                "Deferred",
                f"Node didn't have enough resource: {name}, requested: {shown(asked)}, used: {shown(used)},"
                f" capacity: {shown(capacity)}",
            )
    return None


async def resize(worker: PodWorker, record: PodRecord) -> bool:
    """Give running containers what their spec asks for now. True if one was ended to be started anew."""
    chosen = changed(worker, record)
    worker.more_conditions = [c for c in worker.more_conditions if not c["type"].startswith("PodResize")]
    if not chosen and not pod_changed(worker):
        worker.drop_conditions = frozenset(("PodResizePending", "PodResizeInProgress"))
        return False
    refused = _refusal(worker)
    if refused is not None:
        reason, message = refused
        worker.more_conditions.append(
            {"type": "PodResizePending", "status": "True", "reason": reason, "message": message}
        )
        worker.drop_conditions = frozenset(("PodResizeInProgress",))
        return False
    worker.more_conditions.append({"type": "PodResizeInProgress", "status": "True"})
    worker.drop_conditions = frozenset(("PodResizePending",))
    worker.reporter.report(record)
    restarted = False
    try:
        _apply_to_pod(worker)
        for container, running in chosen:
            restarted = await _apply(worker, container, running) or restarted
    except (RpcError, OSError) as error:
        log.info("resize of pod %s: %s", worker.key, error)
        worker.more_conditions[-1] |= {"reason": "Error", "message": str(error)}
        return restarted
    worker.more_conditions.pop()
    worker.drop_conditions = frozenset(("PodResizePending", "PodResizeInProgress"))
    worker.held = worker.kubelet.shared(as_granted(worker))
    worker.kubelet.recorder.event(worker.pod, "Normal", "ResizeCompleted", "Pod resize completed")
    return restarted


def _apply_to_pod(worker: PodWorker) -> None:
    """The pod's own control group. Raises OSError."""
    kubelet, own = worker.kubelet, (worker.pod.get("spec") or {}).get("resources")
    if kubelet.options.cgroups:
        from peavine.linux import cgroups

        limits = resources.pod_limits_of_group(worker.pod, kubelet.options.pod_pids_limit)
        cgroups.apply(kubelet.pod_group(worker.pod), limits)
    if own:
        worker.allocated[POD] = own
        _save(worker)


async def _apply(worker: PodWorker, container: Object, running: Container) -> bool:
    kubelet, name = worker.kubelet, container["name"]
    touched = _differences(worker.allocated[name], container.get("resources") or {})
    policies = {p["resourceName"]: p["restartPolicy"] for p in container.get("resizePolicy") or []}
    restart = any(policies.get(resource) == "RestartContainer" for resource in touched)
    if restart:
        worker.allocated[name] = container.get("resources") or {}
        _save(worker)
        await kill_container(worker, running, container, f"Container {name} resize requires restart", None)
        return True
    wanted = kubelet.container_resources(worker.pod, container)
    wanted.setdefault("memory_limit_in_bytes", 0)
    if "cpu_quota" not in wanted:
        wanted |= {"cpu_quota": -1, "cpu_period": 100_000}
    await kubelet.runtime.update_resources(running.id, wanted)
    worker.allocated[name] = container.get("resources") or {}
    _save(worker)
    return False
