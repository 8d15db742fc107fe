"""From a container's spec to CRI's ContainerConfig. Everything that had to be looked up comes in ready."""

from __future__ import annotations

import json
from typing import Any

from peavine.kubelet.cri.signals import CRI_NUMBERS
from peavine.kubelet.pods import records
from peavine.kubelet.pods.actions import container_hash
from peavine.kubelet.pods.environment import expand
from peavine.kubelet.pods.sandbox import pod_labels

Object = dict[str, Any]

TERMINATION_PATH_DEFAULT = "/dev/termination-log"


def log_path(container_name: str, attempt: int) -> str:
    """Relative to the pod's log directory."""
    return f"{container_name}/{attempt}.log"


def kept_annotations(pod: Object, container: Object, restart_count: int) -> dict[str, str]:
    """What a restarted kubelet must know of a container, and cannot learn from the API if the pod is gone."""
    spec, meta = pod.get("spec") or {}, pod["metadata"]
    found = {
        records.HASH: container_hash(container),
        records.RESTART_COUNT: str(restart_count),
        records.TERMINATION_PATH: container.get("terminationMessagePath") or TERMINATION_PATH_DEFAULT,
        records.TERMINATION_POLICY: container.get("terminationMessagePolicy") or "File",
    }
    if spec.get("terminationGracePeriodSeconds") is not None:
        found[records.POD_GRACE] = str(spec["terminationGracePeriodSeconds"])
    if meta.get("deletionGracePeriodSeconds") is not None:
        found[records.POD_DELETION_GRACE] = str(meta["deletionGracePeriodSeconds"])
    if container.get("ports"):
        found[records.PORTS] = json.dumps(container["ports"])
    lifecycle = container.get("lifecycle") or {}
    if lifecycle.get("preStop") or lifecycle.get("stopSignal"):
        found[records.PRE_STOP] = json.dumps(container)
    return found


def container_config(
    pod: Object,
    container: Object,
    *,
    attempt: int,
    image_ref: str,
    environment: dict[str, str],
    mounts: list[Object],
    devices: list[Object],
    cdi_devices: list[str],
    linux: Object,
) -> Object:
    """`attempt` is the restart count, which also names the log file."""
    # As upstream: command and args may use the whole environment.
    config: Object = {
        "metadata": {"name": container["name"], "attempt": attempt},
        "image": {"image": image_ref, "user_specified_image": container.get("image", "")},
        "command": [expand(word, environment) for word in container.get("command") or []],
        "args": [expand(word, environment) for word in container.get("args") or []],
        "working_dir": container.get("workingDir") or "",
        "envs": [{"key": key, "value": value} for key, value in environment.items()],
        "mounts": mounts,
        "devices": devices,
        "labels": {**pod_labels(pod), records.CONTAINER_NAME: container["name"]},
        "annotations": kept_annotations(pod, container, attempt),
        "log_path": log_path(container["name"], attempt),
        "stdin": bool(container.get("stdin")),
        "stdin_once": bool(container.get("stdinOnce")),
        "tty": bool(container.get("tty")),
        "linux": linux,
    }
    signal = (container.get("lifecycle") or {}).get("stopSignal")
    if signal:
        config["stop_signal"] = CRI_NUMBERS.get(signal, 0)
    if cdi_devices:
        config["CDI_devices"] = [{"name": name} for name in cdi_devices]
    return config
