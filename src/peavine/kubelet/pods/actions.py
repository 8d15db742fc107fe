"""What to do next for a pod: a pure function of its spec, what the runtime says, and what probes say.

Follows kuberuntime's computePodActions: a changed or lost sandbox is made anew; init containers run one after
another, sidecars among them stay; regular containers start once all init containers are through; what failed its
liveness or startup probe, or whose spec changed, is killed and started again if the restart policy says so.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from peavine.api.core.resources import is_sidecar
from peavine.kubelet.pods.records import Container, PodRecord, Sandbox

Object = dict[str, Any]


@dataclass
class Kill:
    container: Container
    spec: Object | None
    reason: str
    message: str


@dataclass
class Actions:
    """`attempt` counts sandboxes. Specs in `start` and `start_init` are to be started in this order."""

    kill_pod: bool = False
    create_sandbox: bool = False
    sandbox: Sandbox | None = None
    attempt: int = 0
    start_init: list[Object] = field(default_factory=list)
    start: list[Object] = field(default_factory=list)
    start_ephemeral: list[Object] = field(default_factory=list)
    kill: list[Kill] = field(default_factory=list)


@dataclass
class Verdicts:
    """What probes and hooks say of running containers, by container id."""

    failed_liveness: set[str] = field(default_factory=set)
    failed_startup: set[str] = field(default_factory=set)
    # Containers whose startup probe (if any) has succeeded.
    started: Callable[[str], bool] = lambda container_id: True
    # Containers whose postStart hook still runs are not there yet.
    hook_pending: frozenset[str] = frozenset()


def container_hash(container: Object) -> str:
    """Changes when the container must be made anew: with its image (resources are resized in place)."""
    # Only fields that may change in a running pod and need a new container count.
    seen = {"name": container["name"], "image": container.get("image", "")}
    return hashlib.sha256(json.dumps(seen, sort_keys=True).encode()).hexdigest()[:8]


def restart_rule(container: Object, exit_code: int) -> str | None:
    """The action of the first container-level restart rule that matches the exit code, or None."""
    for rule in container.get("restartPolicyRules") or []:
        codes = rule.get("exitCodes") or {}
        values = codes.get("values") or []
        if codes.get("operator") == "In" and exit_code in values:
            return rule.get("action") or "Restart"
        if codes.get("operator") == "NotIn" and exit_code not in values:
            return rule.get("action") or "Restart"
    return None


def should_restart(pod: Object, container: Object, record: Container | None) -> bool:
    """Whether a container that is not running is to run (again)."""
    if record is None:
        return True
    if record.state == "running":
        return False
    if record.state in ("unknown", "created"):
        return True
    if restart_rule(container, record.exit_code):
        return True
    policy = container.get("restartPolicy") or (pod.get("spec") or {}).get("restartPolicy") or "Always"
    if policy == "Never":
        return False
    return policy != "OnFailure" or record.exit_code != 0


def sandbox_changed(pod: Object, record: PodRecord) -> tuple[bool, int, Sandbox | None]:
    """(whether a new one is needed, its attempt, the present one)."""
    sandbox = record.sandbox
    if sandbox is None:
        return True, 0, None
    wanted_host = bool((pod.get("spec") or {}).get("hostNetwork"))
    if not sandbox.ready or sum(s.ready for s in record.sandboxes) > 1:
        return True, sandbox.attempt + 1, sandbox
    if sandbox.host_network != wanted_host:
        return True, sandbox.attempt + 1, sandbox
    if not wanted_host and not sandbox.ips:
        return True, sandbox.attempt + 1, sandbox
    return False, sandbox.attempt, sandbox


def next_actions(pod: Object, record: PodRecord, verdicts: Verdicts) -> Actions:
    """Decide. The caller does the kills first, then the sandbox, then the starts in order."""
    spec = pod.get("spec") or {}
    containers, inits = spec.get("containers") or [], spec.get("initContainers") or []
    changed, attempt, sandbox = sandbox_changed(pod, record)
    actions = Actions(kill_pod=changed, create_sandbox=changed, sandbox=sandbox, attempt=attempt)
    if changed:
        return _with_new_sandbox(pod, record, actions, containers, inits)
    for ephemeral in spec.get("ephemeralContainers") or []:
        if record.latest(ephemeral["name"]) is None:
            actions.start_ephemeral.append(ephemeral)
    through = _inits(pod, record, verdicts, actions, inits)
    if not through:
        return actions
    keep = 0
    for container in containers:
        status = record.latest(container["name"])
        if status is None or status.state != "running":
            if should_restart(pod, container, status):
                actions.start.append(container)
                if status is not None and status.state == "unknown":
                    words = "Container is in unknown state, try killing it before restart"
                    actions.kill.append(Kill(status, container, "Unknown", words))
            continue
        why = _why_kill(container, status, verdicts)
        if why is None:
            keep += 1
            continue
        reason, message, anyway = why
        policy = container.get("restartPolicy") or spec.get("restartPolicy") or "Always"
        if anyway or policy != "Never":
            message += ", will be restarted"
            actions.start.append(container)
        actions.kill.append(Kill(status, container, reason, message))
    _end_if_done(pod, record, actions, containers, keep)
    return actions


def _why_kill(container: Object, status: Container, verdicts: Verdicts) -> tuple[str, str, bool] | None:
    name = container["name"]
    if status.hash and status.hash != container_hash(container):
        return "SpecChanged", f"Container {name} definition changed", True
    if status.id in verdicts.failed_liveness:
        return "LivenessProbe", f"Container {name} failed liveness probe", False
    if status.id in verdicts.failed_startup:
        return "StartupProbe", f"Container {name} failed startup probe", False
    return None


def _with_new_sandbox(
    pod: Object, record: PodRecord, actions: Actions, containers: list[Object], inits: list[Object]
) -> Actions:
    spec = pod.get("spec") or {}
    # A pod that ran and must not run again stays ended even though its sandbox is gone.
    if (
        record.sandboxes
        and spec.get("restartPolicy") == "Never"
        and any(record.latest(c["name"]) is not None for c in containers)
        and not any(c.get("restartPolicyRules") or c.get("restartPolicy") for c in containers)
    ):
        actions.create_sandbox = False
        return actions
    wanted = [
        c
        for c in containers
        if not (
            (status := record.latest(c["name"])) is not None
            and status.state == "exited"
            and status.exit_code == 0
            and (c.get("restartPolicy") or spec.get("restartPolicy")) == "OnFailure"
        )
    ]
    if not wanted and containers:
        # All ended well and are not to run again: no sandbox for nothing.
        actions.create_sandbox = False
        return actions
    if inits:
        actions.start_init = inits[:1]
    else:
        actions.start = wanted
    return actions


def _init_done(record: PodRecord, container: Object) -> bool:
    status = record.latest(container["name"])
    return status is not None and status.state == "exited" and status.exit_code == 0


def _inits(pod: Object, record: PodRecord, verdicts: Verdicts, actions: Actions, inits: list[Object]) -> bool:
    """Add what the init containers need; True once regular containers may run."""
    if not inits:
        return True
    names = [c["name"] for c in (pod.get("spec") or {}).get("containers") or []]
    # Once a regular container exists, initialisation is over: one-shot init containers never run again.
    over = any(record.latest(name) is not None for name in names)
    for container in inits:
        status = record.latest(container["name"])
        if is_sidecar(container):
            if status is not None and status.state == "running":
                why = _why_kill(container, status, verdicts)
                if why is not None:
                    message = why[1] + ", will be restarted"
                    actions.kill.append(Kill(status, container, why[0], message))
                    actions.start_init.append(container)
                    if not over:
                        return False
                elif not over and (not verdicts.started(status.id) or status.id in verdicts.hook_pending):
                    return False
                continue
            actions.start_init.append(container)
            if not over:
                return False
            continue
        if over or _init_done(record, container):
            continue
        if status is None or status.state == "created":
            actions.start_init.append(container)
            return False
        if status.state == "running":
            why = _why_kill(container, status, verdicts)
            if why is not None and why[2]:
                actions.kill.append(Kill(status, container, why[0], why[1] + ", will be restarted"))
                actions.start_init.append(container)
            return False
        # It failed.
        if status.state == "exited" and not should_restart(pod, container, status):
            actions.kill_pod = True
            return False
        actions.start_init.append(container)
        return False
    return True


def _end_if_done(pod: Object, record: PodRecord, actions: Actions, containers: list[Object], keep: int) -> None:
    """Nothing runs and nothing is to start: the pod has ended, its sidecars and its sandbox may go."""
    if keep == 0 and not actions.start and containers:
        actions.kill_pod = True
        actions.start_init = []


def init_failed(pod: Object, record: PodRecord) -> bool:
    """Whether an init container has failed for good."""
    for container in (pod.get("spec") or {}).get("initContainers") or []:
        if is_sidecar(container):
            continue
        status = record.latest(container["name"])
        if status is not None and status.state == "exited" and status.exit_code != 0:
            return not should_restart(pod, container, status)
    return False
