"""A runtime without containers: the same door, the same states, scripted by annotations of the pod.

For tests of controllers and schedulers, and for clusters of thousands of nodes in one process: no root, no images, no
processes. What a container does is said by annotations `simulated.peavine.io/NAME` of its pod, or
`CONTAINER.simulated.peavine.io/NAME` for one container:

  start-delay    seconds that starting takes
  run-for        seconds until it ends (regular containers run for ever, unless a Job owns the pod: then 0.1)
  exit-code      with what it ends
  ready-after    seconds until its probes succeed; `never`: they fail
  logs           what it writes
  exec           what a command in it prints; `exec-code` how it ends
  pull-error     pulling its image fails with these words
  ignore-stop    `true`: it ends only when killed

The same names can stand in a stages file (`--simulated-stages`), a list of `{match: {namespace, pod (a glob),
container, labels}, script: {NAME: VALUE}}`; annotations win over it.
"""

from __future__ import annotations

import asyncio
import contextlib
import fnmatch
import hashlib
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from peavine.base.clock import REAL, Clock
from peavine.kubelet.cri.runtime import (
    CONTAINER_CREATED,
    CONTAINER_EXITED,
    CONTAINER_RUNNING,
    NAMESPACE_NODE,
    ExecResult,
    Message,
    RpcError,
    RuntimeEvent,
)

POD_NAME, POD_NAMESPACE, POD_UID = "io.kubernetes.pod.name", "io.kubernetes.pod.namespace", "io.kubernetes.pod.uid"
POD_LABELS = (POD_NAME, POD_NAMESPACE, POD_UID)
CONTAINER_NAME = "io.kubernetes.container.name"
PREFIX = "simulated.peavine.io/"
JOB_SECONDS_DEFAULT = 0.1
EVENTS_MAX = 100_000
SHARED_MAX = 10_000


class Shared:
    """Dicts whose keys many have in common: the keys once, the values as a tuple, equal tuples once."""

    __slots__ = ("_keys", "_values")
    _known: ClassVar[dict[tuple[Any, ...], tuple[Any, ...]]] = {}

    def __init__(self, content: Message) -> None:
        self._keys = self._once(tuple(content))
        self._values = self._once(tuple(content.values()))

    @classmethod
    def _once(cls, items: tuple[Any, ...]) -> tuple[Any, ...]:
        if len(cls._known) > SHARED_MAX:
            cls._known.clear()
        return cls._known.setdefault(items, items)

    def whole(self) -> Message:
        return dict(zip(self._keys, self._values))


@dataclass(slots=True)
class _Container:
    id: str
    sandbox: _Sandbox
    name: str
    attempt: int
    image: str
    # Upstream's annotations of containers; the labels follow from the pod.
    annotations: Shared
    log_path: str
    script: dict[str, str] | None
    state: int = CONTAINER_CREATED
    exit_code: int = 0
    started_at: int = 0
    finished_at: int = 0
    ended: asyncio.TimerHandle | asyncio.Task[None] | None = None
    killed: asyncio.Future[None] | None = None

    def says(self, name: str, default: str = "") -> str:
        return (self.script or {}).get(name, default)


@dataclass(slots=True)
class _Sandbox:
    id: str
    uid: str
    name: str
    namespace: str
    attempt: int
    labels: Shared
    # Only where nobody else knows the pod's annotations.
    annotations: dict[str, str] | None
    log_directory: str
    host_network: bool
    ip: str
    created_at: int
    ready: bool = True
    containers: tuple[_Container, ...] = ()


class SimulatedRuntime:
    """Implements `Runtime`. `pod_of(uid)` gives the pod, whose annotations and owner say what to do."""

    simulated = True

    def __init__(
        self,
        *,
        pod_of: Callable[[str], Message | None] = lambda uid: None,
        clock: Clock = REAL,
        network: str = "172.7",
        stages: Sequence[Message] = (),
    ) -> None:
        self._stages = stages
        self._pod_of, self._clock, self._network = pod_of, clock, network
        self._sandboxes: dict[str, _Sandbox] = {}
        self._containers: dict[str, _Container] = {}
        # pod uid -> its sandboxes, which know their containers
        self._by_pod: dict[str, tuple[_Sandbox, ...]] = {}
        self._images: dict[str, Message] = {}
        self._events: asyncio.Queue[RuntimeEvent] = asyncio.Queue(EVENTS_MAX)
        self._count = 0
        self._addresses = 256
        self._free: list[str] = []

    def _now(self) -> int:
        return int(self._clock.time() * 1e9)

    def _identity(self) -> str:
        self._count += 1
        return hashlib.sha256(f"{id(self)}-{self._count}".encode()).hexdigest()

    def _address(self) -> str:
        if self._free:
            return self._free.pop()
        self._addresses += 1
        number = self._addresses
        if number < 65_000:
            return f"{self._network}.{number >> 8}.{number & 255}"
        return f"10.{64 + (number >> 16)}.{number >> 8 & 255}.{number & 255}"

    # ---- runtime
    async def version(self) -> Message:
        return {"runtime_name": "simulated", "runtime_version": "1.0", "runtime_api_version": "v1"}

    async def status(self) -> Message:
        conditions = [{"type": "RuntimeReady", "status": True}, {"type": "NetworkReady", "status": True}]
        return {"status": {"conditions": conditions}}

    async def run_sandbox(self, config: Message, handler: str = "") -> str:
        meta, identity = config["metadata"], self._identity()
        options = ((config.get("linux") or {}).get("security_context") or {}).get("namespace_options") or {}
        host = options.get("network") == NAMESPACE_NODE
        known = self._pod_of(meta["uid"]) is not None
        sandbox = _Sandbox(
            id=identity,
            uid=meta["uid"],
            name=meta["name"],
            namespace=sys.intern(meta.get("namespace", "")),
            attempt=meta.get("attempt", 0),
            labels=Shared({k: v for k, v in (config.get("labels") or {}).items() if k not in POD_LABELS}),
            annotations=None if known else config.get("annotations") or {},
            log_directory=config.get("log_directory", ""),
            host_network=host,
            ip="" if host else self._address(),
            created_at=self._now(),
        )
        self._sandboxes[identity] = sandbox
        self._by_pod[sandbox.uid] = (*self._by_pod.get(sandbox.uid, ()), sandbox)
        return identity

    def _sandbox(self, sandbox_id: str) -> _Sandbox:
        try:
            return self._sandboxes[sandbox_id]
        except KeyError:
            raise RpcError("NOT_FOUND", f'sandbox "{sandbox_id}": not found') from None

    async def stop_sandbox(self, sandbox_id: str) -> None:
        sandbox = self._sandboxes.get(sandbox_id)
        if sandbox is None:
            return
        for container in sandbox.containers:
            if container.state == CONTAINER_RUNNING:
                self._end(container, 137)
        if sandbox.ready and sandbox.ip:
            self._free.append(sandbox.ip)
        sandbox.ready = False

    async def remove_sandbox(self, sandbox_id: str) -> None:
        await self.stop_sandbox(sandbox_id)
        sandbox = self._sandboxes.pop(sandbox_id, None)
        if sandbox is None:
            return
        for container in sandbox.containers:
            await self.remove_container(container.id)
        left = tuple(other for other in self._by_pod.get(sandbox.uid, ()) if other is not sandbox)
        if left:
            self._by_pod[sandbox.uid] = left
        else:
            self._by_pod.pop(sandbox.uid, None)

    async def sandbox_status(self, sandbox_id: str) -> Message:
        return self._sandbox_status(self._sandbox(sandbox_id))

    def _sandbox_status(self, sandbox: _Sandbox) -> Message:
        return {
            **self._listed(sandbox),
            "network": {"ip": sandbox.ip} if sandbox.ready else {},
            "linux": {"namespaces": {"options": {"network": NAMESPACE_NODE if sandbox.host_network else 0}}},
        }

    def _listed(self, sandbox: _Sandbox) -> Message:
        return {
            "id": sandbox.id,
            "metadata": {
                "name": sandbox.name,
                "namespace": sandbox.namespace,
                "uid": sandbox.uid,
                "attempt": sandbox.attempt,
            },
            "state": 0 if sandbox.ready else 1,
            "created_at": sandbox.created_at,
            "labels": sandbox.labels.whole() | _pod_labels(sandbox),
        }

    async def list_sandboxes(self, labels: dict[str, str] | None = None) -> list[Message]:
        if labels and POD_UID in labels:
            return [self._listed(sandbox) for sandbox in self._by_pod.get(labels[POD_UID], ())]
        return [self._listed(sandbox) for sandbox in self._sandboxes.values()]

    def recall(self, uid: str) -> tuple[list[Message], list[Message]]:
        """Statuses of a pod's sandboxes and containers, at once: what no real runtime can."""
        sandboxes = self._by_pod.get(uid, ())
        return (
            [self._sandbox_status(sandbox) for sandbox in sandboxes],
            [self._status(container) for sandbox in sandboxes for container in sandbox.containers],
        )

    # ---- containers
    def _script(self, sandbox: _Sandbox, name: str) -> dict[str, str]:
        pod = self._pod_of(sandbox.uid)
        annotations = (pod["metadata"].get("annotations") or {}) if pod else sandbox.annotations or {}
        script = self._staged(sandbox, name)
        for key, value in annotations.items():
            if key.startswith(PREFIX) and f"{name}.{key}" not in annotations:
                script[key.removeprefix(PREFIX)] = value
            elif key.startswith(f"{name}.{PREFIX}"):
                script[key.removeprefix(f"{name}.{PREFIX}")] = value
        if pod and "run-for" not in script:
            spec = pod.get("spec") or {}
            inits = {c["name"]: c for c in spec.get("initContainers") or []}
            owners = pod["metadata"].get("ownerReferences") or []
            if name in inits and inits[name].get("restartPolicy") != "Always":
                script["run-for"] = "0"
            elif any(owner.get("kind") == "Job" for owner in owners) and name not in inits:
                script["run-for"] = str(JOB_SECONDS_DEFAULT)
        return script

    def _staged(self, sandbox: _Sandbox, name: str) -> dict[str, str]:
        """What the stages say: every stage that matches, later ones over earlier ones."""
        labels = sandbox.labels.whole()
        script: dict[str, str] = {}
        for stage in self._stages:
            match = stage.get("match") or {}
            if (
                match.get("namespace", sandbox.namespace) == sandbox.namespace
                and match.get("container", name) == name
                and fnmatch.fnmatchcase(sandbox.name, match.get("pod", "*"))
                and all(labels.get(k) == v for k, v in (match.get("labels") or {}).items())
            ):
                script |= {key: str(value) for key, value in (stage.get("script") or {}).items()}
        return script

    async def create_container(self, sandbox_id: str, config: Message, sandbox_config: Message) -> str:
        sandbox, meta = self._sandbox(sandbox_id), config["metadata"]
        image = config["image"]
        container = _Container(
            id=self._identity(),
            sandbox=sandbox,
            name=sys.intern(meta["name"]),
            attempt=meta.get("attempt", 0),
            image=sys.intern(image.get("user_specified_image") or image.get("image", "")),
            annotations=Shared(config.get("annotations") or {}),
            log_path=sys.intern(config.get("log_path", "")),
            script=self._script(sandbox, meta["name"]) or None,
        )
        self._containers[container.id] = container
        sandbox.containers = (*sandbox.containers, container)
        return container.id

    def _container(self, container_id: str) -> _Container:
        try:
            return self._containers[container_id]
        except KeyError:
            raise RpcError(
                "NOT_FOUND", f'an error occurred when try to find container "{container_id}": not found'
            ) from None

    async def start_container(self, container_id: str) -> None:
        container = self._container(container_id)
        delay = float(container.says("start-delay", "0"))
        if delay:
            await self._clock.sleep(delay)
        container.state, container.started_at = CONTAINER_RUNNING, self._now()
        if container.says("run-for"):
            seconds = float(container.says("run-for"))
            code = int(container.says("exit-code", "0"))
            if self._clock is REAL:
                loop = asyncio.get_running_loop()
                container.ended = loop.call_later(seconds, self._end, container, code)
            else:
                container.ended = asyncio.ensure_future(self._end_after(seconds, container, code))

    async def _end_after(self, seconds: float, container: _Container, code: int) -> None:
        await self._clock.sleep(seconds)
        container.ended = None
        self._end(container, code)

    def _end(self, container: _Container, code: int) -> None:
        if container.state != CONTAINER_RUNNING:
            return
        if container.ended is not None:
            container.ended.cancel()
            container.ended = None
        container.state, container.exit_code, container.finished_at = CONTAINER_EXITED, code, self._now()
        if container.killed is not None and not container.killed.done():
            container.killed.set_result(None)
        with contextlib.suppress(asyncio.QueueFull):
            self._events.put_nowait(RuntimeEvent("exited", container.id))

    def crash(self, container_id: str, code: int = 137) -> None:
        """For tests: the container ends by itself, now."""
        self._end(self._container(container_id), code)

    async def stop_container(self, container_id: str, timeout: int) -> None:
        container = self._containers.get(container_id)
        if container is None or container.state != CONTAINER_RUNNING:
            return
        if container.says("ignore-stop") == "true" and timeout > 0:
            container.killed = container.killed or asyncio.get_running_loop().create_future()
            waiting = asyncio.ensure_future(self._clock.sleep(timeout))
            await asyncio.wait({container.killed, waiting}, return_when=asyncio.FIRST_COMPLETED)
            waiting.cancel()
            self._end(container, 137)
        else:
            self._end(container, 137 if timeout <= 0 else 143)

    async def signal_container(self, container_id: str, number: int) -> None:
        self._end(self._container(container_id), 128 + number)

    async def pull_progress(self) -> list[tuple[str, int, int]]:
        return []

    async def remove_container(self, container_id: str) -> None:
        container = self._containers.pop(container_id, None)
        if container is None:
            return
        self._end(container, 137)
        sandbox = container.sandbox
        sandbox.containers = tuple(other for other in sandbox.containers if other is not container)

    def _listed_container(self, container: _Container) -> Message:
        return {
            "id": container.id,
            "pod_sandbox_id": container.sandbox.id,
            "metadata": {"name": container.name, "attempt": container.attempt},
            "image": {"image": container.image},
            "state": container.state,
            "created_at": container.started_at or container.sandbox.created_at,
            "labels": _pod_labels(container.sandbox) | {CONTAINER_NAME: container.name},
            "annotations": container.annotations.whole(),
        }

    async def container_status(self, container_id: str) -> Message:
        return self._status(self._container(container_id))

    def _status(self, container: _Container) -> Message:
        return {
            **self._listed_container(container),
            "image_ref": "simulated@sha256:" + hashlib.sha256(container.image.encode()).hexdigest(),
            "started_at": container.started_at,
            "finished_at": container.finished_at,
            "exit_code": container.exit_code,
            "log_path": str(Path(container.sandbox.log_directory) / container.log_path),
        }

    async def container_info(self, container_id: str) -> dict[str, str]:
        self._container(container_id)
        return {}

    async def list_containers(self, labels: dict[str, str] | None = None) -> list[Message]:
        if labels and POD_UID in labels:
            found = self._by_pod.get(labels[POD_UID], ())
            return [self._listed_container(c) for sandbox in found for c in sandbox.containers]
        return [self._listed_container(container) for container in self._containers.values()]

    async def update_resources(self, container_id: str, resources: Message) -> None:
        self._container(container_id)

    async def exec_sync(self, container_id: str, command: Sequence[str], timeout: int = 0) -> ExecResult:
        container = self._container(container_id)
        if container.state != CONTAINER_RUNNING:
            raise RpcError("UNKNOWN", f"container {container_id} is not running")
        output = container.says("exec").replace("$CMD", " ".join(command))
        return ExecResult(output.encode(), b"", int(container.says("exec-code", "0")))

    def probe(self, container_id: str) -> tuple[bool, str]:
        """What any probe of the container finds."""
        container = self._containers.get(container_id)
        if container is None or container.state != CONTAINER_RUNNING:
            return False, "the container does not run"
        after = container.says("ready-after", "0")
        if after == "never":
            return False, "scripted never to be ready"
        left = container.started_at / 1e9 + float(after) - self._clock.time()
        return left <= 0, "" if left <= 0 else f"scripted to be ready in {left:.1f} s"

    def log_text(self, container_id: str) -> str:
        return self._container(container_id).says("logs")

    async def exec_url(
        self, container_id: str, command: Sequence[str], *, stdin: bool, stdout: bool, stderr: bool, tty: bool
    ) -> str:
        self._container(container_id)
        return "simulated:"

    async def attach_url(self, container_id: str, *, stdin: bool, stdout: bool, stderr: bool, tty: bool) -> str:
        self._container(container_id)
        return "simulated:"

    async def port_forward_url(self, sandbox_id: str, ports: Sequence[int]) -> str:
        self._sandbox(sandbox_id)
        return "simulated:"

    async def reopen_log(self, container_id: str) -> None:
        self._container(container_id)

    async def checkpoint(self, container_id: str, location: str, timeout: int) -> None:
        raise RpcError("UNIMPLEMENTED", "the simulated runtime has nothing to checkpoint")

    async def container_stats(self) -> list[Message]:
        return []

    # ---- images
    async def list_images(self) -> list[Message]:
        return list(self._images.values())

    async def image_status(self, image: str) -> Message | None:
        return self._images.get(image)

    async def pull_image(self, image: str, auth: Message | None = None, sandbox: Message | None = None) -> str:
        if image.startswith("unpullable.invalid/"):
            raise RpcError("NOT_FOUND", f'failed to pull and unpack image "{image}": not found')
        identity = "sha256:" + hashlib.sha256(image.encode()).hexdigest()
        self._images[image] = {"id": identity, "repo_tags": [image], "size": 1_000_000}
        return identity

    async def remove_image(self, image: str) -> None:
        self._images.pop(image, None)

    async def image_fs(self) -> list[Message]:
        return []

    async def set_pod_cidr(self, pod_cidr: str) -> None:
        return None

    async def events(self) -> AsyncIterator[RuntimeEvent]:
        while True:
            yield await self._events.get()

    async def close(self) -> None:
        for container in self._containers.values():
            if container.ended is not None:
                container.ended.cancel()


def _pod_labels(sandbox: _Sandbox) -> dict[str, str]:
    return {POD_NAME: sandbox.name, POD_NAMESPACE: sandbox.namespace, POD_UID: sandbox.uid}


def simulated_node_capacity() -> dict[str, Any]:
    """What a simulated node claims to have."""
    return {"cpu": "32", "memory": "256Gi", "ephemeral-storage": "1Ti", "pods": "110"}
