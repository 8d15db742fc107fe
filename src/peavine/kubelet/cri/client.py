"""CRI v1 over gRPC: the runtime door to containerd, CRI-O, or whatever listens on the socket."""

from __future__ import annotations

import logging
import signal
from collections.abc import AsyncIterator, Sequence
from importlib.resources import files

from peavine.base.clock import REAL
from peavine.kubelet.cri.runtime import ExecResult, Message, RpcError, RuntimeEvent
from peavine.kubelet.rpc import Channel, Codec

log = logging.getLogger(__name__)

RUNTIME, IMAGE = "/runtime.v1.RuntimeService/", "/runtime.v1.ImageService/"
CALL_SECONDS_MAX = 120.0
# A pull ends when the runtime says so: it has its own limit on lack of progress.
PULL_SECONDS_MAX = 3600.0

_CONTAINERD = """
SubscribeRequest: filters=1:string*
Envelope: namespace=2:string topic=3:string event=4:Any
Any: type_url=1:string value=2:bytes
Empty:
KillRequest: container_id=1:string exec_id=2:string signal=3:uint32 all=4:bool
DeleteTask: container_id=1:string
ListStatusesRequest: filters=1:string*
ListStatusesResponse: statuses=1:Ingest*
Ingest: ref=3:string offset=4:int64 total=5:int64
TaskExit: container_id=1:string id=2:string pid=3:uint32 exit_status=4:uint32
"""
_TASKS = "/containerd.services.tasks.v1.Tasks/"
TASK_END_SECONDS = (0.05, 0.1, 0.2, 0.5, 1.0, 2.0)
# containerd keeps what CRI made in a namespace of this name.
_NAMESPACE = (("containerd-namespace", "k8s.io"),)
_CRI_EVENTS = {0: "created", 1: "started", 2: "exited", 3: "deleted"}


def load_codec() -> Codec:
    table = files("peavine.kubelet.cri").joinpath("v1.yaml").read_text()
    return Codec("\n".join(line for line in table.splitlines() if not line.startswith("#")))


class CriClient:
    """One channel to the runtime's socket (a path, or a gRPC target such as `unix:///run/containerd.sock`)."""

    def __init__(self, endpoint: str) -> None:
        self.endpoint = endpoint
        self._channel = Channel(endpoint, load_codec())

    async def _call(self, method: str, request: Message, timeout: float = CALL_SECONDS_MAX) -> Message:
        name = method.rsplit("/", 1)[1]
        return await self._channel.call(method, f"{name}Request", f"{name}Response", request, timeout)

    async def version(self) -> Message:
        return await self._call(RUNTIME + "Version", {"version": "v1"}, 10)

    async def status(self) -> Message:
        return await self._call(RUNTIME + "Status", {}, 10)

    async def run_sandbox(self, config: Message, handler: str = "") -> str:
        request = {"config": config, "runtime_handler": handler}
        # Longer than other calls: the network plugin works inside it.
        return (await self._call(RUNTIME + "RunPodSandbox", request, 2 * CALL_SECONDS_MAX))["pod_sandbox_id"]

    async def stop_sandbox(self, sandbox_id: str) -> None:
        await self._call(RUNTIME + "StopPodSandbox", {"pod_sandbox_id": sandbox_id})

    async def remove_sandbox(self, sandbox_id: str) -> None:
        await self._call(RUNTIME + "RemovePodSandbox", {"pod_sandbox_id": sandbox_id})

    async def sandbox_status(self, sandbox_id: str) -> Message:
        return (await self._call(RUNTIME + "PodSandboxStatus", {"pod_sandbox_id": sandbox_id})).get("status") or {}

    async def list_sandboxes(self, labels: dict[str, str] | None = None) -> list[Message]:
        request = {"filter": {"label_selector": labels}} if labels else {}
        return (await self._call(RUNTIME + "ListPodSandbox", request)).get("items", [])

    async def create_container(self, sandbox_id: str, config: Message, sandbox_config: Message) -> str:
        request = {"pod_sandbox_id": sandbox_id, "config": config, "sandbox_config": sandbox_config}
        return (await self._call(RUNTIME + "CreateContainer", request))["container_id"]

    async def start_container(self, container_id: str) -> None:
        await self._call(RUNTIME + "StartContainer", {"container_id": container_id})

    async def stop_container(self, container_id: str, timeout: int) -> None:
        request = {"container_id": container_id, "timeout": timeout}
        await self._call(RUNTIME + "StopContainer", request, timeout + CALL_SECONDS_MAX)

    async def signal_container(self, container_id: str, number: int) -> None:
        """CRI has no word for it; containerd's own service of tasks has."""
        channel = Channel(self.endpoint, Codec(_CONTAINERD))
        try:
            request = {"container_id": container_id, "signal": number}
            await channel.call(_TASKS + "Kill", "KillRequest", "Empty", request, 10, metadata=_NAMESPACE)
        finally:
            await channel.close()

    async def remove_container(self, container_id: str) -> None:
        """Also one that containerd believes never to have started although it runs: the start was cut off, with the
        kubelet that had asked for it."""
        request = {"container_id": container_id}
        try:
            await self._call(RUNTIME + "RemoveContainer", request)
        except RpcError as error:
            if error.code != "FAILED_PRECONDITION" or "running task" not in error.message:
                raise
            await self._end_task(container_id)
            await self._call(RUNTIME + "RemoveContainer", request)

    async def _end_task(self, container_id: str) -> None:
        """Kill and forget what containerd itself runs for a container, past CRI."""
        channel = Channel(self.endpoint, Codec(_CONTAINERD))
        try:
            kill = {"container_id": container_id, "signal": int(signal.SIGKILL), "all": True}
            for wait in TASK_END_SECONDS:
                try:
                    await channel.call(_TASKS + "Kill", "KillRequest", "Empty", kill, 10, metadata=_NAMESPACE)
                except RpcError as error:
                    log.debug("task of %s: %s", container_id, error)
                try:
                    wanted = {"container_id": container_id}
                    await channel.call(_TASKS + "Delete", "DeleteTask", "Empty", wanted, 10, metadata=_NAMESPACE)
                    return
                except RpcError as error:
                    if error.code == "NOT_FOUND":
                        return
                    log.info("task of %s: %s", container_id, error)
                # It has to have stopped first, and nothing tells us when.
                await REAL.sleep(wait)
        finally:
            await channel.close()

    async def container_status(self, container_id: str) -> Message:
        return (await self._call(RUNTIME + "ContainerStatus", {"container_id": container_id})).get("status") or {}

    async def container_info(self, container_id: str) -> dict[str, str]:
        request = {"container_id": container_id, "verbose": True}
        return (await self._call(RUNTIME + "ContainerStatus", request)).get("info") or {}

    async def list_containers(self, labels: dict[str, str] | None = None) -> list[Message]:
        request = {"filter": {"label_selector": labels}} if labels else {}
        return (await self._call(RUNTIME + "ListContainers", request)).get("containers", [])

    async def update_resources(self, container_id: str, resources: Message) -> None:
        await self._call(RUNTIME + "UpdateContainerResources", {"container_id": container_id, "linux": resources})

    async def exec_sync(self, container_id: str, command: Sequence[str], timeout: int = 0) -> ExecResult:
        request = {"container_id": container_id, "cmd": list(command), "timeout": timeout}
        answer = await self._call(RUNTIME + "ExecSync", request, timeout + 2 if timeout else PULL_SECONDS_MAX)
        return ExecResult(answer.get("stdout", b""), answer.get("stderr", b""), answer.get("exit_code", 0))

    async def exec_url(
        self, container_id: str, command: Sequence[str], *, stdin: bool, stdout: bool, stderr: bool, tty: bool
    ) -> str:
        request = {"container_id": container_id, "cmd": list(command), "tty": tty}
        request |= {"stdin": stdin, "stdout": stdout, "stderr": stderr}
        return (await self._call(RUNTIME + "Exec", request))["url"]

    async def attach_url(self, container_id: str, *, stdin: bool, stdout: bool, stderr: bool, tty: bool) -> str:
        request = {"container_id": container_id, "tty": tty, "stdin": stdin, "stdout": stdout, "stderr": stderr}
        return (await self._call(RUNTIME + "Attach", request))["url"]

    async def port_forward_url(self, sandbox_id: str, ports: Sequence[int]) -> str:
        request = {"pod_sandbox_id": sandbox_id, "port": list(ports)}
        return (await self._call(RUNTIME + "PortForward", request))["url"]

    async def reopen_log(self, container_id: str) -> None:
        await self._call(RUNTIME + "ReopenContainerLog", {"container_id": container_id})

    async def checkpoint(self, container_id: str, location: str, timeout: int) -> None:
        request = {"container_id": container_id, "location": location, "timeout": timeout}
        await self._call(RUNTIME + "CheckpointContainer", request)

    async def container_stats(self) -> list[Message]:
        return (await self._call(RUNTIME + "ListContainerStats", {})).get("stats", [])

    async def list_images(self) -> list[Message]:
        return (await self._call(IMAGE + "ListImages", {})).get("images", [])

    async def image_status(self, image: str) -> Message | None:
        return (await self._call(IMAGE + "ImageStatus", {"image": {"image": image}})).get("image")

    async def pull_image(self, image: str, auth: Message | None = None, sandbox: Message | None = None) -> str:
        request: Message = {"image": {"image": image}, "auth": auth, "sandbox_config": sandbox}
        return (await self._call(IMAGE + "PullImage", request, PULL_SECONDS_MAX))["image_ref"]

    async def pull_progress(self) -> list[tuple[str, int, int]]:
        """(digest, bytes that are here, bytes in all) of layers that are being pulled. CRI tells nothing of a pull
        under way; containerd's content store does."""
        channel = Channel(self.endpoint, Codec(_CONTAINERD))
        try:
            path = "/containerd.services.content.v1.Content/ListStatuses"
            answer = await channel.call(
                path, "ListStatusesRequest", "ListStatusesResponse", {}, 10, metadata=_NAMESPACE
            )
        finally:
            await channel.close()
        return [(i.get("ref", ""), i.get("offset", 0), i.get("total", 0)) for i in answer.get("statuses", [])]

    async def remove_image(self, image: str) -> None:
        await self._call(IMAGE + "RemoveImage", {"image": {"image": image}})

    async def image_fs(self) -> list[Message]:
        return (await self._call(IMAGE + "ImageFsInfo", {})).get("image_filesystems", [])

    async def set_pod_cidr(self, pod_cidr: str) -> None:
        request = {"runtime_config": {"network_config": {"pod_cidr": pod_cidr}}}
        await self._call(RUNTIME + "UpdateRuntimeConfig", request)

    async def events(self) -> AsyncIterator[RuntimeEvent]:
        """CRI's own event stream; where the runtime lacks it (containerd before 1.7), containerd's task events."""
        try:
            path = RUNTIME + "GetContainerEvents"
            async for event in self._channel.stream(path, "GetEventsRequest", "ContainerEventResponse", {}):
                kind = _CRI_EVENTS.get(event.get("container_event_type", 0), "")
                yield RuntimeEvent(kind, event.get("container_id", ""))
        except RpcError as error:
            if error.code != "UNIMPLEMENTED":
                raise
        codec = Codec(_CONTAINERD)
        channel = Channel(self.endpoint, codec)
        try:
            request = {"filters": ['topic=="/tasks/exit"', 'topic=="/tasks/oom"']}
            path = "/containerd.services.events.v1.Events/Subscribe"
            async for envelope in channel.stream(path, "SubscribeRequest", "Envelope", request):
                exit_ = codec.decode("TaskExit", envelope.get("event", {}).get("value", b""))
                # An exec's end has an id of its own; the container's end repeats the container's.
                if exit_.get("id", "") == exit_.get("container_id") or envelope.get("topic") == "/tasks/oom":
                    yield RuntimeEvent("exited", exit_.get("container_id", ""))
        finally:
            await channel.close()

    async def close(self) -> None:
        await self._channel.close()
