"""The device-plugin API v1beta1: plugins register, list their devices, and hand them to containers.

Devices given to a container are written down (checkpoint), so that a restarted kubelet gives none twice.
"""

from __future__ import annotations

import asyncio
import json
import logging
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from peavine.kubelet.pods.environment import ConfigError
from peavine.kubelet.rpc import Channel, Codec, RpcError
from peavine.kubelet.rpc.server import Server
from peavine.machinery.quantity import parse_quantity

if TYPE_CHECKING:
    from peavine.kubelet.kubelet import Allocation, Kubelet
    from peavine.kubelet.pods.worker import PodWorker

log = logging.getLogger(__name__)
Object = dict[str, Any]

CODEC = """
Empty:
DevicePluginOptions: pre_start_required=1:bool get_preferred_allocation_available=2:bool
RegisterRequest: version=1:string endpoint=2:string resource_name=3:string options=4:DevicePluginOptions
Device: ID=1:string health=2:string
ListAndWatchResponse: devices=1:Device*
ContainerAllocateRequest: devices_ids=1:string*
AllocateRequest: container_requests=1:ContainerAllocateRequest*
Mount: container_path=1:string host_path=2:string read_only=3:bool
DeviceSpec: container_path=1:string host_path=2:string permissions=3:string
CDIDevice: name=1:string
ContainerAllocateResponse: envs=1:map<string,string> mounts=2:Mount* devices=3:DeviceSpec* annotations=4:map<string,string> cdi_devices=5:CDIDevice*
AllocateResponse: container_responses=1:ContainerAllocateResponse*
PreStartContainerRequest: devices_ids=1:string*
PreStartContainerResponse:
"""  # noqa: E501
SERVICE = "/v1beta1.DevicePlugin/"
VERSION = "v1beta1"
CALL_SECONDS = 30.0


@dataclass
class _Plugin:
    resource: str
    channel: Channel
    options: Object
    # id -> whether it is healthy
    devices: dict[str, bool] = field(default_factory=dict)
    task: asyncio.Task[None] | None = None


class Devices:
    def __init__(self, kubelet: Kubelet) -> None:
        self._kubelet = kubelet
        self._directory = kubelet.paths.device_plugins
        self._plugins: dict[str, _Plugin] = {}
        # pod uid -> container -> resource -> device ids
        self._given: dict[str, dict[str, dict[str, list[str]]]] = {}

    @property
    def _checkpoint(self) -> Path:
        return self._directory / "kubelet_internal_checkpoint"

    async def run(self) -> None:
        """Serve registrations. Ends by cancellation."""
        try:
            self._given = json.loads(self._checkpoint.read_text())
        except (OSError, ValueError):
            self._given = {}
        server = Server(Codec(CODEC))
        server.add("/v1beta1.Registration/Register", "RegisterRequest", "Empty", self._register)
        await server.start(self._directory / "kubelet.sock")
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            await server.stop()

    async def _register(self, request: Object) -> Object:
        if request.get("version") != VERSION:
            raise ValueError(f"requested API version {request.get('version')!r} is not supported by kubelet: {VERSION}")
        name = request.get("resource_name", "")
        await self.register(name, str(self._directory / request.get("endpoint", "")), request.get("options") or {})
        return {}

    async def register(self, resource: str, endpoint: str, options: Object | None = None) -> None:
        """Take a plugin in (again)."""
        self.unregister(resource)
        plugin = _Plugin(resource, Channel(endpoint, Codec(CODEC)), options or {})
        self._plugins[resource] = plugin
        plugin.task = self._kubelet.scope.start(self._watch(plugin), name=f"devices {resource}")

    def unregister(self, resource: str) -> None:
        plugin = self._plugins.pop(resource, None)
        if plugin is not None and plugin.task is not None:
            plugin.task.cancel()

    async def _watch(self, plugin: _Plugin) -> None:
        """Follow the plugin's list. When it ends, its devices count as unhealthy until it registers again."""
        try:
            async for message in plugin.channel.stream(SERVICE + "ListAndWatch", "Empty", "ListAndWatchResponse", {}):
                plugin.devices = {d["ID"]: d.get("health") == "Healthy" for d in message.get("devices", [])}
                self._publish(plugin)
        except RpcError as error:
            log.info("device plugin %s: %s", plugin.resource, error)
        finally:
            await plugin.channel.close()
        plugin.devices = dict.fromkeys(plugin.devices, False)
        self._publish(plugin)

    def _publish(self, plugin: _Plugin) -> None:
        kubelet = self._kubelet
        name, node = next(iter(kubelet.nodes.items()))
        node.capacity = {**node.capacity, plugin.resource: str(len(plugin.devices))}
        node.allocatable = {**node.allocatable, plugin.resource: str(sum(plugin.devices.values()))}
        kubelet.registrars[name].nudge()

    def release(self, uid: str) -> None:
        if self._given.pop(uid, None) is not None:
            self._save()

    def _save(self) -> None:
        draft = self._checkpoint.with_suffix(".new")
        draft.write_text(json.dumps(self._given))
        draft.replace(self._checkpoint)

    async def allocate(self, worker: PodWorker, container: Object, allocation: Allocation) -> None:
        """Choose devices for a container (those it had before, if it is restarted). Raises ConfigError."""
        limits = (container.get("resources") or {}).get("limits") or {}
        for resource, amount in limits.items():
            plugin = self._plugins.get(resource)
            if plugin is None:
                if "/" in resource and not resource.startswith("kubernetes.io/") and resource in self._ever():
                    raise ConfigError(f"no registered plugin for resource {resource}")
                continue
            chosen = self._choose(worker.uid, container["name"], plugin, parse_quantity(amount).value())
            request = {"container_requests": [{"devices_ids": chosen}]}
            try:
                answer = await plugin.channel.call(
                    SERVICE + "Allocate", "AllocateRequest", "AllocateResponse", request, CALL_SECONDS
                )
                if plugin.options.get("pre_start_required"):
                    await plugin.channel.call(
                        SERVICE + "PreStartContainer",
                        "PreStartContainerRequest",
                        "PreStartContainerResponse",
                        {"devices_ids": chosen},
                        CALL_SECONDS,
                    )
            except RpcError as error:
                raise ConfigError(f"Allocate failed due to {error}, which is unexpected") from error
            for part in answer.get("container_responses", []):
                allocation.environment |= part.get("envs", {})
                allocation.devices += part.get("devices", [])
                allocation.cdi_devices += [d.get("name", "") for d in part.get("cdi_devices", [])]
                allocation.mounts += [
                    {
                        "container_path": m.get("container_path", ""),
                        "host_path": m.get("host_path", ""),
                        "readonly": m.get("read_only", False),
                    }
                    for m in part.get("mounts", [])
                ]

    def _ever(self) -> set[str]:
        node = next(iter(self._kubelet.nodes.values()))
        return set(node.capacity)

    def _choose(self, uid: str, container: str, plugin: _Plugin, count: int) -> list[str]:
        had = self._given.get(uid, {}).get(container, {}).get(plugin.resource)
        if had is not None:
            return had
        taken = {
            device
            for pod, containers in self._given.items()
            if pod in self._kubelet.workers
            for resources in containers.values()
            for device in resources.get(plugin.resource, [])
        }
        free = sorted(device for device, healthy in plugin.devices.items() if healthy and device not in taken)
        if len(free) < count:
            raise ConfigError(
                f"requested number of devices unavailable for {plugin.resource}."
                f" Requested: {count}, Available: {len(free)}"
            )
        self._given.setdefault(uid, {}).setdefault(container, {})[plugin.resource] = free[:count]
        self._save()
        return free[:count]
