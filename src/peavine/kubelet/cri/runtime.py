"""The door between the kubelet and a container runtime.

Messages are CRI v1's, as dicts (`v1.yaml` lists the fields; a field that is absent has its zero value). `client.py`
is the door to a real runtime, `simulated.py` the fake; both pass the same tests.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Any, NamedTuple, Protocol

from peavine.kubelet.rpc.errors import RpcError

Message = dict[str, Any]

SANDBOX_READY, SANDBOX_NOTREADY = 0, 1
CONTAINER_CREATED, CONTAINER_RUNNING, CONTAINER_EXITED, CONTAINER_UNKNOWN = 0, 1, 2, 3
NAMESPACE_POD, NAMESPACE_CONTAINER, NAMESPACE_NODE, NAMESPACE_TARGET = 0, 1, 2, 3
PROPAGATION = {"": 0, "None": 0, "HostToContainer": 1, "Bidirectional": 2}
PROTOCOLS = {"TCP": 0, "UDP": 1, "SCTP": 2}
PROFILE_RUNTIME_DEFAULT, PROFILE_UNCONFINED, PROFILE_LOCALHOST = 0, 1, 2


class ExecResult(NamedTuple):
    stdout: bytes
    stderr: bytes
    exit_code: int


class RuntimeEvent(NamedTuple):
    """Something happened to a container; the runtime's own status says what."""

    kind: str
    container_id: str


class Runtime(Protocol):
    """Every method may raise RpcError; NOT_FOUND where the named thing is gone (removals do not mind)."""

    async def version(self) -> Message: ...

    async def status(self) -> Message: ...

    async def run_sandbox(self, config: Message, handler: str = "") -> str: ...

    async def stop_sandbox(self, sandbox_id: str) -> None: ...

    async def remove_sandbox(self, sandbox_id: str) -> None: ...

    async def sandbox_status(self, sandbox_id: str) -> Message: ...

    async def list_sandboxes(self, labels: dict[str, str] | None = None) -> list[Message]: ...

    async def create_container(self, sandbox_id: str, config: Message, sandbox_config: Message) -> str: ...

    async def start_container(self, container_id: str) -> None: ...

    async def stop_container(self, container_id: str, timeout: int) -> None:
        """The stop signal, then a kill after `timeout` seconds; returns once the container has ended."""

    async def signal_container(self, container_id: str, number: int) -> None:
        """Send a signal to its first process; RpcError UNIMPLEMENTED where the runtime has no way."""

    async def remove_container(self, container_id: str) -> None: ...

    async def container_status(self, container_id: str) -> Message: ...

    async def container_info(self, container_id: str) -> dict[str, str]:
        """The verbose part of the status: text by key, the runtime's own form."""

    async def list_containers(self, labels: dict[str, str] | None = None) -> list[Message]: ...

    async def update_resources(self, container_id: str, resources: Message) -> None: ...

    async def exec_sync(self, container_id: str, command: Sequence[str], timeout: int = 0) -> ExecResult:
        """Run to its end; RpcError DEADLINE_EXCEEDED after `timeout` seconds (0: never)."""

    async def exec_url(
        self, container_id: str, command: Sequence[str], *, stdin: bool, stdout: bool, stderr: bool, tty: bool
    ) -> str: ...

    async def attach_url(self, container_id: str, *, stdin: bool, stdout: bool, stderr: bool, tty: bool) -> str: ...

    async def port_forward_url(self, sandbox_id: str, ports: Sequence[int]) -> str: ...

    async def reopen_log(self, container_id: str) -> None: ...

    async def checkpoint(self, container_id: str, location: str, timeout: int) -> None: ...

    async def container_stats(self) -> list[Message]: ...

    async def list_images(self) -> list[Message]: ...

    async def image_status(self, image: str) -> Message | None: ...

    async def pull_image(self, image: str, auth: Message | None = None, sandbox: Message | None = None) -> str: ...

    async def pull_progress(self) -> list[tuple[str, int, int]]:
        """(reference, bytes that are here, bytes in all) of what is being pulled, as far as the runtime tells."""

    async def remove_image(self, image: str) -> None: ...

    async def image_fs(self) -> list[Message]: ...

    async def set_pod_cidr(self, pod_cidr: str) -> None: ...

    def events(self) -> AsyncIterator[RuntimeEvent]:
        """What happens to containers, as it happens. Raises RpcError: UNIMPLEMENTED if the runtime cannot tell
        (poll then), another code when the stream breaks. Events may be lost between two calls."""

    async def close(self) -> None: ...


__all__ = ["ExecResult", "Message", "RpcError", "Runtime", "RuntimeEvent"]
