"""A container runtime of the newest kind, without containers: `python -m tests.kubelet.modern SOCKET STATE_DIR`.

The simulated runtime behind CRI's socket. It says that it is containerd 2.1 with all that handlers can have, and
writes down what it is asked for: what Debian's containerd lacks can be seen to be asked for rightly.
"""

# ruff: noqa: ASYNC240
from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

from peavine.kubelet.cri.client import IMAGE, RUNTIME, load_codec
from peavine.kubelet.cri.simulated import SimulatedRuntime
from peavine.kubelet.rpc.server import Server

Message = dict[str, Any]


class Modern:
    def __init__(self, state: Path) -> None:
        self.state, self.runtime = state, SimulatedRuntime()

    def note(self, call: str, request: Message) -> None:
        with open(self.state / "calls", "a") as file:
            file.write(json.dumps([call, request]) + "\n")

    async def version(self, request: Message) -> Message:
        return {"runtime_name": "containerd", "runtime_version": "2.1.4", "runtime_api_version": "v1"}

    async def status(self, request: Message) -> Message:
        features = {"recursive_read_only_mounts": True, "user_namespaces": True}
        handlers = [{"name": name, "features": features} for name in ("", "runc")]
        more = {"runtime_handlers": handlers, "features": {"supplemental_groups_policy": True}}
        return {**await self.runtime.status(), **more}

    async def run(self, request: Message) -> Message:
        self.note("sandbox", request)
        return {"pod_sandbox_id": await self.runtime.run_sandbox(request["config"])}

    async def stop_sandbox(self, request: Message) -> Message:
        await self.runtime.stop_sandbox(request["pod_sandbox_id"])
        return {}

    async def remove_sandbox(self, request: Message) -> Message:
        await self.runtime.remove_sandbox(request["pod_sandbox_id"])
        return {}

    async def sandbox_status(self, request: Message) -> Message:
        return {"status": await self.runtime.sandbox_status(request["pod_sandbox_id"])}

    async def list_sandboxes(self, request: Message) -> Message:
        labels = (request.get("filter") or {}).get("label_selector")
        return {"items": await self.runtime.list_sandboxes(labels)}

    async def create(self, request: Message) -> Message:
        self.note("container", request)
        made = await self.runtime.create_container(request["pod_sandbox_id"], request["config"], {})
        return {"container_id": made}

    async def start(self, request: Message) -> Message:
        await self.runtime.start_container(request["container_id"])
        return {}

    async def stop(self, request: Message) -> Message:
        self.note("stop", request)
        await self.runtime.stop_container(request["container_id"], 0)
        return {}

    async def remove(self, request: Message) -> Message:
        await self.runtime.remove_container(request["container_id"])
        return {}

    async def container_status(self, request: Message) -> Message:
        status = await self.runtime.container_status(request["container_id"])
        # CRI's status of a container does not name its sandbox.
        del status["pod_sandbox_id"]
        return {"status": status}

    async def list_containers(self, request: Message) -> Message:
        labels = (request.get("filter") or {}).get("label_selector")
        return {"containers": await self.runtime.list_containers(labels)}

    async def update(self, request: Message) -> Message:
        self.note("update", request)
        return {}

    async def checkpoint(self, request: Message) -> Message:
        self.note("checkpoint", request)
        Path(request["location"]).write_bytes(b"a checkpoint")
        return {}

    async def images(self, request: Message) -> Message:
        return {"images": await self.runtime.list_images()}

    async def image_status(self, request: Message) -> Message:
        return {"image": {"id": "sha256:1", "repo_tags": [request["image"]["image"]], "size": 1}}

    async def nothing(self, request: Message) -> Message:
        return {}


async def serve(socket: Path, state: Path) -> None:
    modern, server = Modern(state), Server(load_codec())
    for method, answer in (
        ("Version", modern.version),
        ("Status", modern.status),
        ("RunPodSandbox", modern.run),
        ("StopPodSandbox", modern.stop_sandbox),
        ("RemovePodSandbox", modern.remove_sandbox),
        ("PodSandboxStatus", modern.sandbox_status),
        ("ListPodSandbox", modern.list_sandboxes),
        ("CreateContainer", modern.create),
        ("StartContainer", modern.start),
        ("StopContainer", modern.stop),
        ("RemoveContainer", modern.remove),
        ("ContainerStatus", modern.container_status),
        ("ListContainers", modern.list_containers),
        ("UpdateContainerResources", modern.update),
        ("CheckpointContainer", modern.checkpoint),
        ("ListContainerStats", modern.nothing),
    ):
        server.add(RUNTIME + method, f"{method}Request", f"{method}Response", answer)
    for method, answer in (
        ("ListImages", modern.images),
        ("ImageStatus", modern.image_status),
        ("ImageFsInfo", modern.nothing),
    ):
        server.add(IMAGE + method, f"{method}Request", f"{method}Response", answer)
    await server.start(socket)
    await asyncio.get_running_loop().create_future()


if __name__ == "__main__":
    asyncio.run(serve(Path(sys.argv[1]), Path(sys.argv[2])))
