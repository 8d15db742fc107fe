"""A pod's status as the API shows it: a pure function of spec, runtime record, probes and what was reported before.

Follows upstream's kubelet: phases, conditions with their reasons and messages, container states.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from peavine.api.core.podstate import condition, qos_class
from peavine.api.core.resources import is_sidecar
from peavine.kubelet.pods.actions import container_hash, init_failed, restart_rule, should_restart
from peavine.kubelet.pods.records import Container, PodRecord

Object = dict[str, Any]

OWN_CONDITIONS = ("PodReadyToStartContainers", "Initialized", "Ready", "ContainersReady")


@dataclass
class Look:
    """What status needs to know beyond spec and record."""

    now: float
    host_ips: list[str] = field(default_factory=list)
    runtime: str = "containerd"
    # container id -> what its probes say (True where it has none)
    ready: Callable[[Container, Object], bool] = lambda record, container: True
    started: Callable[[Container, Object], bool] = lambda record, container: True
    # container name -> (reason, message) of the last failed try to start it
    reasons: dict[str, tuple[str, str]] = field(default_factory=dict)
    # container name -> termination message
    termination: Callable[[Container], str] = lambda record: record.message
    # A pod that has been ended by the kubelet: (phase, reason, message) wins over what containers say.
    forced: tuple[str, str, str] | None = None
    # The pod is done: nothing will be started in it any more.
    finished: bool = False
    start_time: float = 0.0
    more_conditions: list[Object] = field(default_factory=list)
    allocated: Callable[[Object], Object | None] = lambda container: None
    # What the pod itself was granted, beside its containers.
    pod_resources: Object | None = None
    # (container, mount path) -> whether a read-only mount is so for all mounts below it
    recursive: Callable[[str, str], bool] = lambda name, path: False


def stamp(seconds: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))


def _stamp_ns(nanoseconds: int) -> str | None:
    return stamp(nanoseconds / 1e9) if nanoseconds > 0 else None


def container_id(look: Look, record: Container) -> str:
    return f"{look.runtime}://{record.id}"


def _terminated(look: Look, record: Container) -> Object:
    reason = record.reason or ("Completed" if record.exit_code == 0 else "Error")
    state: Object = {
        "containerID": container_id(look, record),
        "exitCode": record.exit_code,
        "finishedAt": _stamp_ns(record.finished_at),
        "reason": reason,
        "startedAt": _stamp_ns(record.started_at),
    }
    message = look.termination(record)
    if message:
        state["message"] = message
    return {"terminated": state}


def _state(look: Look, record: Container) -> Object:
    if record.state == "running":
        return {"running": {"startedAt": _stamp_ns(record.started_at)}}
    if record.state == "exited":
        return _terminated(look, record)
    if record.state == "created":
        return {"waiting": {"reason": "ContainerCreating"}}
    return {
        "terminated": {
            "reason": "ContainerStatusUnknown",
            "message": "The container could not be located when the pod was terminated",
            "exitCode": 137,
        }
    }


def container_status(
    pod: Object, container: Object, record: PodRecord, look: Look, before: Object | None, waiting: str
) -> Object:
    """One ContainerStatus; `before` is the one reported last, `waiting` the reason while nothing is known."""
    name = container["name"]
    current = record.latest(name)
    if current is None:
        status = _without_record(container, before, waiting, look)
    else:
        status = {
            "name": name,
            "image": _image_name(container, current),
            "imageID": current.image_ref,
            "containerID": container_id(look, current),
            "restartCount": current.restart_count,
            "state": _state(look, current),
            "lastState": {},
            "ready": False,
            "started": False,
        }
        previous = record.before(current)
        if previous is not None and previous.state == "exited":
            status["lastState"] = _terminated(look, previous)
        elif before and before.get("containerID") == status["containerID"]:
            status["lastState"] = before.get("lastState") or {}
        elif before and (before.get("state") or {}).get("terminated"):
            status["lastState"] = before["state"]
        if current.state == "running":
            status["started"] = look.started(current, container)
            status["ready"] = status["started"] and look.ready(current, container)
        resources = look.allocated(container)
        if resources is not None:
            status["resources"] = resources
            if resources.get("requests"):
                status["allocatedResources"] = resources["requests"]
        signal = (container.get("lifecycle") or {}).get("stopSignal") or current.stop_signal
        if signal:
            status["stopSignal"] = signal
        if current.user:
            status["user"] = {"linux": _user(current.user)}
    mounts = [
        {
            "name": m["name"],
            "mountPath": m["mountPath"],
            **(
                {
                    "readOnly": True,
                    "recursiveReadOnly": "Enabled" if look.recursive(name, m["mountPath"]) else "Disabled",
                }
                if m.get("readOnly")
                else {}
            ),
        }
        for m in container.get("volumeMounts") or []
    ]
    if mounts:
        status["volumeMounts"] = mounts
    if current is None or should_restart(pod, container, current):
        reason = look.reasons.get(name)
        if reason and not look.finished:
            if "terminated" in status["state"]:
                status["lastState"] = status["state"]
            state: Object = {"reason": reason[0]}
            if reason[1]:
                state["message"] = reason[1]
            status["state"] = {"waiting": state}
    return status


def _image_name(container: Object, current: Container) -> str:
    """The runtime's full name; of an image with several names, the one that was asked for."""
    asked = container.get("image", "")
    if current.hash != container_hash(container) or current.image.endswith(asked.rpartition("@")[0] or asked):
        return current.image or asked
    return str(asked) if ":" in asked.rpartition("/")[2] else current.image or str(asked)


def _user(user: Object) -> Object:
    return {
        "uid": user.get("uid", 0),
        "gid": user.get("gid", 0),
        "supplementalGroups": user.get("supplemental_groups") or [],
    }


def _without_record(container: Object, before: Object | None, waiting: str, look: Look) -> Object:
    status: Object = {
        "name": container["name"],
        "image": container.get("image", ""),
        "imageID": "",
        "restartCount": (before or {}).get("restartCount", 0),
        "state": {"waiting": {"reason": waiting}},
        "lastState": (before or {}).get("lastState") or {},
        "ready": False,
        "started": False,
    }
    if not before:
        return status
    state = before.get("state") or {}
    if "terminated" in state:
        # Its container has been collected; what was reported stays true.
        return {**status, **before, "ready": False, "started": False}
    if "running" in state:
        lost = {
            "terminated": {
                "reason": "ContainerStatusUnknown",
                "message": "The container could not be located when the pod was deleted."
                "  The container used to be Running",
                "exitCode": 137,
                "containerID": before.get("containerID", ""),
                "startedAt": state["running"].get("startedAt"),
                "finishedAt": stamp(look.now),
            }
        }
        if look.finished:
            return {**status, "state": lost, "containerID": before.get("containerID", "")}
        return {**status, "lastState": lost, "restartCount": status["restartCount"] + 1}
    return status


def phase_of(pod: Object, statuses: list[Object], init_statuses: list[Object], look: Look) -> str:
    """Pending, Running, Succeeded or Failed."""
    spec = pod.get("spec") or {}
    by_name = {s["name"]: s for s in [*statuses, *init_statuses]}
    pending_init = waiting = running = stopped = succeeded = restarting = 0
    for container in spec.get("initContainers") or []:
        status = by_name.get(container["name"], {})
        state, last = status.get("state") or {}, status.get("lastState") or {}
        if is_sidecar(container):
            # A sidecar that once ran counts as initialised.
            if "running" in state:
                pending_init += not status.get("started")
                # While a sidecar runs, the pod runs.
                running += 1
            elif not (last.get("terminated") or "terminated" in state):
                pending_init += 1
        elif "terminated" in state:
            if state["terminated"].get("exitCode") != 0:
                if spec.get("restartPolicy") == "Never" or container.get("restartPolicy") == "Never":
                    return "Failed"
                pending_init += 1
        elif "running" in state:
            pending_init += 1
        elif last.get("terminated"):
            pending_init += last["terminated"].get("exitCode") != 0
        else:
            pending_init += 1
    for container in spec.get("containers") or []:
        status = by_name.get(container["name"], {})
        state, last = status.get("state") or {}, status.get("lastState") or {}
        if "running" in state:
            running += 1
        elif "terminated" in state:
            stopped += 1
            succeeded += state["terminated"].get("exitCode") == 0
            policy = container.get("restartPolicy") or spec.get("restartPolicy") or "Always"
            code = state["terminated"].get("exitCode", 0)
            ruled = restart_rule(container, code) is not None
            restarting += ruled or policy == "Always" or (policy == "OnFailure" and code != 0)
        elif last.get("terminated"):
            stopped += 1
            restarting += 1
        else:
            waiting += 1
    if pending_init and not look.finished:
        return "Pending"
    if waiting and not look.finished:
        return "Pending"
    if running:
        return "Running"
    if stopped:
        if look.finished:
            return "Succeeded" if stopped == succeeded and not waiting else "Failed"
        if restarting:
            return "Running"
        return "Succeeded" if stopped == succeeded else "Failed"
    return "Failed" if look.finished and waiting else "Pending"


def _names(names: list[str]) -> str:
    return "[" + " ".join(names) + "]"


def _not_ready_message(unready: list[str], unknown: list[str]) -> str:
    parts = []
    if unknown:
        parts.append(f"containers with unknown status: {_names(unknown)}")
    if unready:
        parts.append(f"containers with unready status: {_names(unready)}")
    return ", ".join(parts)


def _conditions(
    pod: Object, phase: str, statuses: list[Object], inits: list[Object], record: PodRecord
) -> list[Object]:
    spec = pod.get("spec") or {}
    by_name = {s["name"]: s for s in [*statuses, *inits]}
    sandbox = record.sandbox
    has_network = sandbox is not None and sandbox.ready and bool(sandbox.host_network or sandbox.ips)
    found: list[Object] = [{"type": "PodReadyToStartContainers", "status": "True" if has_network else "False"}]
    found.append(_initialized(spec, phase, by_name))
    containers_ready = _containers_ready(spec, phase, by_name)
    found.append(_ready(pod, containers_ready))
    found.append({**containers_ready, "type": "ContainersReady"})
    return found


def _initialized(spec: Object, phase: str, by_name: dict[str, Object]) -> Object:
    if phase == "Succeeded":
        return {"type": "Initialized", "status": "True", "reason": "PodCompleted"}
    incomplete = []
    for container in spec.get("initContainers") or []:
        status = by_name.get(container["name"], {})
        state = status.get("state") or {}
        if is_sidecar(container):
            last = (status.get("lastState") or {}).get("terminated")
            done = bool(status.get("started")) or bool(last) or "terminated" in state
        else:
            ended = state.get("terminated") or (status.get("lastState") or {}).get("terminated") or {}
            done = ended.get("exitCode") == 0
        if not done:
            incomplete.append(container["name"])
    if not incomplete:
        return {"type": "Initialized", "status": "True"}
    message = f"containers with incomplete status: {_names(incomplete)}"
    return {"type": "Initialized", "status": "False", "reason": "ContainersNotInitialized", "message": message}


def _containers_ready(spec: Object, phase: str, by_name: dict[str, Object]) -> Object:
    if phase == "Succeeded":
        return {"status": "False", "reason": "PodCompleted"}
    if phase == "Failed":
        return {"status": "False", "reason": "PodFailed"}
    unready, unknown = [], []
    sidecars = [c for c in spec.get("initContainers") or [] if is_sidecar(c)]
    for container in [*sidecars, *(spec.get("containers") or [])]:
        status = by_name.get(container["name"])
        if status is None:
            unknown.append(container["name"])
        elif not status.get("ready"):
            unready.append(container["name"])
    if not unready and not unknown:
        return {"status": "True"}
    return {
        "status": "False",
        "reason": "ContainersNotReady",
        "message": _not_ready_message(unready, unknown),
    }


def _ready(pod: Object, containers_ready: Object) -> Object:
    if containers_ready["status"] != "True":
        return {**containers_ready, "type": "Ready"}
    messages = []
    for gate in (pod.get("spec") or {}).get("readinessGates") or []:
        wanted = gate.get("conditionType", "")
        entry = condition(pod, wanted)
        if entry is None:
            messages.append(f'corresponding condition of pod readiness gate "{wanted}" does not exist.')
        elif entry.get("status") != "True":
            messages.append(f'the status of pod readiness gate "{wanted}" is not "True", but {entry.get("status", "")}')
    if messages:
        return {
            "type": "Ready",
            "status": "False",
            "reason": "ReadinessGatesNotReady",
            "message": ", ".join(messages),
        }
    return {"type": "Ready", "status": "True"}


def pod_status(pod: Object, record: PodRecord, look: Look) -> Object:
    """The whole status. Conditions carry transition times: unchanged ones keep theirs."""
    spec, old = pod.get("spec") or {}, pod.get("status") or {}
    before = {
        s["name"]: s
        for field_ in ("containerStatuses", "initContainerStatuses", "ephemeralContainerStatuses")
        for s in old.get(field_) or []
    }
    inits, containers = spec.get("initContainers") or [], spec.get("containers") or []
    waiting = "PodInitializing" if inits else "ContainerCreating"
    statuses = [container_status(pod, c, record, look, before.get(c["name"]), waiting) for c in containers]
    init_statuses = []
    failed = init_failed(pod, record)
    for container in inits:
        status = container_status(pod, container, record, look, before.get(container["name"]), waiting)
        if not is_sidecar(container):
            ended = status["state"].get("terminated")
            status["ready"] = bool(ended) and ended.get("exitCode") == 0
        init_statuses.append(status)
    ephemeral = [
        container_status(pod, c, record, look, before.get(c["name"]), "ContainerCreating")
        for c in spec.get("ephemeralContainers") or []
    ]
    phase = phase_of(pod, statuses, init_statuses, look)
    if failed and phase == "Pending":
        phase = "Failed"
    status = {"phase": phase}
    # Who watches for the end of a pod may reuse what it held: it has ended only once nothing of it runs.
    forced = look.forced if look.finished or not record.running() else None
    if forced and forced[0]:
        status["phase"], reason, message = forced
        if reason:
            status["reason"] = reason
        if message:
            status["message"] = message
    elif old.get("phase") in ("Failed", "Succeeded"):
        # A pod that has ended stays ended, with what was said of it.
        status["phase"] = old["phase"]
        status |= {k: old[k] for k in ("reason", "message") if old.get(k)}
    generation = (pod.get("metadata") or {}).get("generation")
    if generation:
        status["observedGeneration"] = generation
    conditions = _conditions(pod, status["phase"], statuses, init_statuses, record) + look.more_conditions
    status["conditions"] = [_dated(pod, c, look.now, generation) for c in conditions]
    if look.host_ips:
        status["hostIP"] = look.host_ips[0]
        status["hostIPs"] = [{"ip": ip} for ip in look.host_ips]
    ips = look.host_ips if spec.get("hostNetwork") and record.sandbox else record.ips
    if ips:
        status["podIP"] = ips[0]
        status["podIPs"] = [{"ip": ip} for ip in ips]
    elif old.get("podIP"):
        status |= {k: old[k] for k in ("podIP", "podIPs") if old.get(k)}
    status["startTime"] = old.get("startTime") or stamp(look.start_time or look.now)
    status["qosClass"] = old.get("qosClass") or qos_class(pod)
    if look.pod_resources:
        status["resources"] = look.pod_resources
        status["allocatedResources"] = look.pod_resources.get("requests") or {}
    if statuses:
        status["containerStatuses"] = statuses
    if init_statuses:
        status["initContainerStatuses"] = init_statuses
    if ephemeral:
        status["ephemeralContainerStatuses"] = ephemeral
    return status


def _dated(pod: Object, wanted: Object, now: float, generation: int | None) -> Object:
    old = condition(pod, wanted["type"])
    unchanged = old is not None and old.get("status") == wanted["status"]
    since = (old or {}).get("lastTransitionTime") if unchanged else None
    dated = {**wanted, "lastProbeTime": None, "lastTransitionTime": since or stamp(now)}
    if generation:
        dated["observedGeneration"] = generation
    return dated


def status_patch(pod: Object, wanted: Object, *, drop: set[str] | frozenset[str] = frozenset()) -> Object | None:
    """The strategic merge patch that turns the reported status into `wanted`; None if nothing differs.

    Only what is ours is touched: conditions of others (PodScheduled, readiness gates, DisruptionTarget) stay. Those
    in `drop` are taken away.
    """
    old = pod.get("status") or {}
    patch: Object = {}
    for key, value in wanted.items():
        if key == "conditions":
            # A merge keeps what a patch leaves out: what a condition no longer says has to be named.
            changed = [
                {**{k: None for k in ("reason", "message") if k in (before or {}) and k not in c}, **c}
                for c in value
                if _differs(before := condition(pod, c["type"]), c)
            ]
            kept = {c["type"] for c in value}
            changed += [
                {"type": type_, "$patch": "delete"}
                for type_ in sorted(drop)
                if type_ not in kept and condition(pod, type_) is not None
            ]
            if changed:
                patch["conditions"] = changed
        elif not _same(old.get(key), value):
            patch[key] = value
    for key in ("reason", "message", "ephemeralContainerStatuses"):
        if key in old and key not in wanted:
            patch[key] = None
    for key in ("podIPs", "hostIPs"):
        # Lists merged by key: addresses that are gone have to be named.
        if key in patch and old.get(key):
            patch[key] = [{"$patch": "replace"}, *patch[key]]
    if not patch:
        return None
    return {"metadata": {"uid": pod["metadata"]["uid"]}, "status": patch}


def _differs(old: Object | None, new: Object) -> bool:
    if old is None:
        return True
    return any(
        (old.get(key) or None) != (new.get(key) or None)
        for key in ("status", "reason", "message", "observedGeneration")
    )


def _same(old: Any, new: Any) -> bool:
    """Equality as the wire sees it: null, empty and absent are one."""
    if isinstance(new, dict) and isinstance(old, dict):
        return all(_same(old.get(key), new.get(key)) for key in {*old, *new})
    if isinstance(new, list) and isinstance(old, list):
        return len(old) == len(new) and all(_same(a, b) for a, b in zip(old, new))
    if new in (None, {}, [], "") and old in (None, {}, [], ""):
        return True
    return bool(old == new)
