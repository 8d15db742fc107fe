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
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any

from peavine.base.clock import REAL, Clock
from peavine.kubelet.cri.runtime import (
    CONTAINER_CREATED,
    CONTAINER_EXITED,
    CONTAINER_RUNNING,
    ExecResult,
    Message,
    RpcError,
    RuntimeEvent,
)

PREFIX = "simulated.peavine.io/"
JOB_SECONDS_DEFAULT = 0.1
EVENTS_MAX = 100_000


class _Container:
    __slots__ = (
        "config",
        "ended",
        "exit_code",
        "finished_at",
        "id",
        "killed",
        "sandbox",
        "script",
        "started_at",
        "state",
    )

    def __init__(self, identity: str, sandbox: _Sandbox, config: Message, script: dict[str, str]) -> None:
        self.id, self.sandbox, self.config, self.script = identity, sandbox, config, script
        self.state, self.exit_code, self.started_at, self.finished_at = CONTAINER_CREATED, 0, 0, 0
        self.ended: asyncio.TimerHandle | asyncio.Task[None] | None = None
        self.killed: asyncio.Future[None] | None = None


class _Sandbox:
    __slots__ = ("config", "created_at", "id", "ip", "ready")

    def __init__(self, identity: str, config: Message, ip: str, created_at: int) -> None:
        self.id, self.config, self.ip, self.created_at, self.ready = identity, config, ip, created_at, True


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
        self._by_pod: dict[str, tuple[dict[str, _Sandbox], dict[str, _Container]]] = {}
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
        uid = config["metadata"]["uid"]
        identity = self._identity()
        host = ((config.get("linux") or {}).get("security_context") or {}).get("namespace_options", {}).get("network")
        # A hundred thousand pods may live here: keep what is asked for later.
        kept: Message = {k: config[k] for k in ("metadata", "labels", "log_directory") if k in config}
        options = ((config.get("linux") or {}).get("security_context") or {}).get("namespace_options")
        kept["linux"] = {"security_context": {"namespace_options": options or {}}}
        if self._pod_of(uid) is None:
            kept["annotations"] = config.get("annotations") or {}
        sandbox = _Sandbox(identity, kept, "" if host == 2 else self._address(), self._now())
        self._sandboxes[identity] = sandbox
        self._by_pod.setdefault(uid, ({}, {}))[0][identity] = sandbox
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
        for container in list(self._pod(sandbox)[1].values()):
            if container.sandbox is sandbox and container.state == CONTAINER_RUNNING:
                self._end(container, 137)
        if sandbox.ready and sandbox.ip:
            self._free.append(sandbox.ip)
        sandbox.ready = False

    def _pod(self, sandbox: _Sandbox) -> tuple[dict[str, _Sandbox], dict[str, _Container]]:
        return self._by_pod[sandbox.config["metadata"]["uid"]]

    async def remove_sandbox(self, sandbox_id: str) -> None:
        await self.stop_sandbox(sandbox_id)
        sandbox = self._sandboxes.pop(sandbox_id, None)
        if sandbox is None:
            return
        sandboxes, containers = self._pod(sandbox)
        for container in [c for c in containers.values() if c.sandbox is sandbox]:
            await self.remove_container(container.id)
        sandboxes.pop(sandbox_id, None)
        if not sandboxes and not containers:
            self._by_pod.pop(sandbox.config["metadata"]["uid"], None)

    async def sandbox_status(self, sandbox_id: str) -> Message:
        sandbox = self._sandbox(sandbox_id)
        linux = sandbox.config.get("linux") or {}
        options = (linux.get("security_context") or {}).get("namespace_options") or {}
        return {
            **self._listed(sandbox),
            "network": {"ip": sandbox.ip} if sandbox.ready else {},
            "linux": {"namespaces": {"options": options}},
        }

    def _listed(self, sandbox: _Sandbox) -> Message:
        return {
            "id": sandbox.id,
            "metadata": sandbox.config["metadata"],
            "state": 0 if sandbox.ready else 1,
            "created_at": sandbox.created_at,
            "labels": sandbox.config.get("labels") or {},
        }

    async def list_sandboxes(self, labels: dict[str, str] | None = None) -> list[Message]:
        from peavine.kubelet.pods.records import POD_UID

        chosen = self._sandboxes
        if labels and POD_UID in labels:
            chosen = self._by_pod.get(labels[POD_UID], ({}, {}))[0]
        return [self._listed(sandbox) for sandbox in chosen.values()]

    # ---- containers
    def _script(self, sandbox: _Sandbox, name: str) -> dict[str, str]:
        pod = self._pod_of(sandbox.config["metadata"]["uid"])
        annotations = (pod["metadata"].get("annotations") or {}) if pod else sandbox.config.get("annotations") or {}
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
        meta, labels = sandbox.config["metadata"], sandbox.config.get("labels") or {}
        script: dict[str, str] = {}
        for stage in self._stages:
            match = stage.get("match") or {}
            if (
                match.get("namespace", meta["namespace"]) == meta["namespace"]
                and match.get("container", name) == name
                and fnmatch.fnmatchcase(meta["name"], match.get("pod", "*"))
                and all(labels.get(k) == v for k, v in (match.get("labels") or {}).items())
            ):
                script |= {key: str(value) for key, value in (stage.get("script") or {}).items()}
        return script

    async def create_container(self, sandbox_id: str, config: Message, sandbox_config: Message) -> str:
        sandbox = self._sandbox(sandbox_id)
        identity = self._identity()
        kept: Message = {k: config[k] for k in ("metadata", "labels", "annotations", "image") if k in config}
        kept["log_path"] = str(Path(sandbox.config.get("log_directory", "")) / config.get("log_path", ""))
        container = _Container(identity, sandbox, kept, self._script(sandbox, config["metadata"]["name"]))
        self._containers[identity] = container
        self._pod(sandbox)[1][identity] = container
        return identity

    def _container(self, container_id: str) -> _Container:
        try:
            return self._containers[container_id]
        except KeyError:
            raise RpcError(
                "NOT_FOUND", f'an error occurred when try to find container "{container_id}": not found'
            ) from None

    async def start_container(self, container_id: str) -> None:
        container = self._container(container_id)
        delay = float(container.script.get("start-delay", 0))
        if delay:
            await self._clock.sleep(delay)
        container.state, container.started_at = CONTAINER_RUNNING, self._now()
        if "run-for" in container.script:
            seconds = float(container.script["run-for"])
            code = int(container.script.get("exit-code", 0))
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
        if container.script.get("ignore-stop") == "true" and timeout > 0:
            container.killed = container.killed or asyncio.get_running_loop().create_future()
            waiting = asyncio.ensure_future(self._clock.sleep(timeout))
            await asyncio.wait({container.killed, waiting}, return_when=asyncio.FIRST_COMPLETED)
            waiting.cancel()
            self._end(container, 137)
        else:
            self._end(container, 137 if timeout <= 0 else 143)

    async def remove_container(self, container_id: str) -> None:
        container = self._containers.pop(container_id, None)
        if container is None:
            return
        self._end(container, 137)
        held = self._by_pod.get(container.sandbox.config["metadata"]["uid"])
        if held is not None:
            held[1].pop(container_id, None)

    def _listed_container(self, container: _Container) -> Message:
        config = container.config
        return {
            "id": container.id,
            "pod_sandbox_id": container.sandbox.id,
            "metadata": config["metadata"],
            "image": config["image"],
            "state": container.state,
            "created_at": container.started_at or container.sandbox.created_at,
            "labels": config.get("labels") or {},
            "annotations": config.get("annotations") or {},
        }

    async def container_status(self, container_id: str) -> Message:
        container = self._container(container_id)
        image = container.config["image"].get("user_specified_image") or container.config["image"]["image"]
        return {
            **self._listed_container(container),
            "image": {"image": image},
            "image_ref": "simulated@sha256:" + hashlib.sha256(image.encode()).hexdigest(),
            "started_at": container.started_at,
            "finished_at": container.finished_at,
            "exit_code": container.exit_code,
            "log_path": container.config.get("log_path", ""),
        }

    async def container_info(self, container_id: str) -> dict[str, str]:
        self._container(container_id)
        return {}

    async def list_containers(self, labels: dict[str, str] | None = None) -> list[Message]:
        from peavine.kubelet.pods.records import POD_UID

        chosen = self._containers
        if labels and POD_UID in labels:
            chosen = self._by_pod.get(labels[POD_UID], ({}, {}))[1]
        return [self._listed_container(container) for container in chosen.values()]

    async def update_resources(self, container_id: str, resources: Message) -> None:
        self._container(container_id)

    async def exec_sync(self, container_id: str, command: Sequence[str], timeout: int = 0) -> ExecResult:
        container = self._container(container_id)
        if container.state != CONTAINER_RUNNING:
            raise RpcError("UNKNOWN", f"container {container_id} is not running")
        output = container.script.get("exec", "").replace("$CMD", " ".join(command))
        return ExecResult(output.encode(), b"", int(container.script.get("exec-code", 0)))

    def probe(self, container_id: str) -> tuple[bool, str]:
        """What any probe of the container finds."""
        container = self._containers.get(container_id)
        if container is None or container.state != CONTAINER_RUNNING:
            return False, "the container does not run"
        after = container.script.get("ready-after", "0")
        if after == "never":
            return False, "scripted never to be ready"
        left = container.started_at / 1e9 + float(after) - self._clock.time()
        return left <= 0, "" if left <= 0 else f"scripted to be ready in {left:.1f} s"

    def log_text(self, container_id: str) -> str:
        return self._container(container_id).script.get("logs", "")

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


def simulated_node_capacity() -> dict[str, Any]:
    """What a simulated node claims to have."""
    return {"cpu": "32", "memory": "256Gi", "ephemeral-storage": "1Ti", "pods": "110"}
