"""What the runtime knows about one pod, in the kubelet's words.

Everything the kubelet needs after a restart is kept in labels and annotations of the containers themselves; the names
are upstream's, so tools that read them work.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from peavine.kubelet.cri.runtime import (
    CONTAINER_CREATED,
    CONTAINER_EXITED,
    CONTAINER_RUNNING,
    SANDBOX_READY,
    Message,
)
from peavine.kubelet.cri.signals import NAMES

POD_NAME, POD_NAMESPACE, POD_UID = "io.kubernetes.pod.name", "io.kubernetes.pod.namespace", "io.kubernetes.pod.uid"
CONTAINER_NAME = "io.kubernetes.container.name"
HASH = "io.kubernetes.container.hash"
RESTART_COUNT = "io.kubernetes.container.restartCount"
TERMINATION_PATH = "io.kubernetes.container.terminationMessagePath"
TERMINATION_POLICY = "io.kubernetes.container.terminationMessagePolicy"
POD_GRACE = "io.kubernetes.pod.terminationGracePeriod"
POD_DELETION_GRACE = "io.kubernetes.pod.deletionGracePeriod"
PORTS = "io.kubernetes.container.ports"
PRE_STOP = "io.kubernetes.container.preStopHandler"

_STATES = {CONTAINER_CREATED: "created", CONTAINER_RUNNING: "running", CONTAINER_EXITED: "exited"}


@dataclass(slots=True)
class Sandbox:
    id: str
    ready: bool
    created_at: int
    attempt: int
    ips: list[str] = field(default_factory=list)
    host_network: bool = False


@dataclass(slots=True)
class Container:
    """`state` is created, running, exited or unknown. Times are Unix nanoseconds, 0 for none."""

    id: str
    name: str
    sandbox_id: str
    state: str
    created_at: int = 0
    started_at: int = 0
    finished_at: int = 0
    exit_code: int = 0
    reason: str = ""
    message: str = ""
    image: str = ""
    image_ref: str = ""
    restart_count: int = 0
    hash: str = ""
    log_path: str = ""
    annotations: dict[str, str] = field(default_factory=dict)
    resources: Message | None = None
    user: Message | None = None
    stop_signal: str = ""


@dataclass(slots=True)
class PodRecord:
    """`containers` holds every container of the pod that still exists, the newest first."""

    uid: str
    name: str = ""
    namespace: str = ""
    sandboxes: list[Sandbox] = field(default_factory=list)
    containers: list[Container] = field(default_factory=list)

    def latest(self, name: str) -> Container | None:
        return next((c for c in self.containers if c.name == name), None)

    def before(self, container: Container) -> Container | None:
        """The container of the same name that came before this one."""
        same = [c for c in self.containers if c.name == container.name]
        at = same.index(container)
        return same[at + 1] if at + 1 < len(same) else None

    def running(self) -> list[Container]:
        return [c for c in self.containers if c.state == "running"]

    @property
    def sandbox(self) -> Sandbox | None:
        return self.sandboxes[0] if self.sandboxes else None

    @property
    def ips(self) -> list[str]:
        return self.sandboxes[0].ips if self.sandboxes and self.sandboxes[0].ready else []


def sandbox_record(status: Message) -> Sandbox:
    """From CRI's PodSandboxStatus (or PodSandbox, which has no network)."""
    network = status.get("network") or {}
    ips = [ip for ip in (network.get("ip"), *(a.get("ip") for a in network.get("additional_ips", []))) if ip]
    options = ((status.get("linux") or {}).get("namespaces") or {}).get("options") or {}
    return Sandbox(
        id=status["id"],
        ready=status.get("state", SANDBOX_READY) == SANDBOX_READY,
        created_at=status.get("created_at", 0),
        attempt=(status.get("metadata") or {}).get("attempt", 0),
        ips=ips,
        host_network=options.get("network", 0) == 2,
    )


def _int(text: Any) -> int:
    return int(text) if str(text).isdigit() else 0


def container_record(status: Message, sandbox_id: str) -> Container:
    """From CRI's ContainerStatus."""
    labels, annotations = status.get("labels") or {}, status.get("annotations") or {}
    return Container(
        id=status["id"],
        name=labels.get(CONTAINER_NAME) or (status.get("metadata") or {}).get("name", ""),
        sandbox_id=sandbox_id,
        state=_STATES.get(status.get("state", CONTAINER_CREATED), "unknown"),
        created_at=status.get("created_at", 0),
        started_at=status.get("started_at", 0),
        finished_at=status.get("finished_at", 0),
        exit_code=status.get("exit_code", 0),
        reason=status.get("reason", ""),
        message=status.get("message", ""),
        image=(status.get("image") or {}).get("image", ""),
        image_ref=status.get("image_ref", ""),
        restart_count=_int(annotations.get(RESTART_COUNT)),
        hash=annotations.get(HASH, ""),
        log_path=status.get("log_path", ""),
        annotations=annotations,
        resources=(status.get("resources") or {}).get("linux"),
        user=(status.get("user") or {}).get("linux"),
        stop_signal=NAMES.get(status.get("stop_signal", 0), ""),
    )


def pod_record(uid: str, sandboxes: list[Message], containers: list[Message]) -> PodRecord:
    """From CRI's statuses, in any order."""
    record = PodRecord(uid)
    record.sandboxes = [sandbox_record(status) for status in sandboxes]
    record.containers = [container_record(status, status.get("pod_sandbox_id", "")) for status in containers]
    record.sandboxes.sort(key=lambda s: s.created_at, reverse=True)
    record.containers.sort(key=lambda c: c.created_at, reverse=True)
    return record
