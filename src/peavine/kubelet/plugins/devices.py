"""The device-plugin API v1beta1: plugins register, list their devices, and hand them to containers.

Devices given to a container are written down (checkpoint), so that a restarted kubelet gives none twice.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from peavine.api.core.resources import is_sidecar, pod_requests
from peavine.kubelet.allocation.topology import Hint, Hints, subsets
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
NUMANode: ID=1:int64
TopologyInfo: nodes=1:NUMANode*
Device: ID=1:string health=2:string topology=3:TopologyInfo
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
ContainerPreferredAllocationRequest: available_deviceIDs=1:string* must_include_deviceIDs=2:string* allocation_size=3:int32
PreferredAllocationRequest: container_requests=1:ContainerPreferredAllocationRequest*
ContainerPreferredAllocationResponse: deviceIDs=1:string*
PreferredAllocationResponse: container_responses=1:ContainerPreferredAllocationResponse*
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
    # id -> NUMA nodes that it is near to; only those that said so
    near: dict[str, frozenset[int]] = field(default_factory=dict)
    task: asyncio.Task[None] | None = None


class Devices:
    def __init__(self, kubelet: Kubelet) -> None:
        self._kubelet = kubelet
        self._directory = kubelet.paths.device_plugins
        self._plugins: dict[str, _Plugin] = {}
        # pod uid -> container -> resource -> device ids
        self._given: dict[str, dict[str, dict[str, list[str]]]] = {}
        # Resources that plugins have ever brought: without their plugin there are none of them, but they are ours.
        self._resources: set[str] = set()
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            kept = json.loads(self._checkpoint.read_text())
            self._given, self._resources = kept["pods"], set(kept["resources"])
        for node in kubelet.nodes.values():
            none = dict.fromkeys(self._resources, "0")
            node.capacity, node.allocatable = {**node.capacity, **none}, {**node.allocatable, **none}

    @property
    def _checkpoint(self) -> Path:
        return self._directory / "kubelet_internal_checkpoint"

    async def run(self) -> None:
        """Serve registrations. Ends by cancellation."""
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
        if resource not in self._resources:
            self._resources.add(resource)
            self._save()
        plugin.task = self._kubelet.scope.start(self._watch(plugin), name=f"devices {resource}")

    async def register_found(self, resource: str, endpoint: str, versions: Sequence[str]) -> None:
        """A plugin whose socket the registry found: its options have to be asked for."""
        channel = Channel(endpoint, Codec(CODEC))
        try:
            options = await channel.call(
                SERVICE + "GetDevicePluginOptions", "Empty", "DevicePluginOptions", {}, CALL_SECONDS
            )
        finally:
            await channel.close()
        await self.register(resource, endpoint, options)

    def unregister(self, resource: str) -> None:
        plugin = self._plugins.pop(resource, None)
        if plugin is not None and plugin.task is not None:
            plugin.task.cancel()

    async def _watch(self, plugin: _Plugin) -> None:
        """Follow the plugin's list. When it ends, its devices count as unhealthy until it registers again."""
        try:
            async for message in plugin.channel.stream(SERVICE + "ListAndWatch", "Empty", "ListAndWatchResponse", {}):
                listed = message.get("devices", [])
                plugin.devices = {d["ID"]: d.get("health") == "Healthy" for d in listed}
                plugin.near = {
                    d["ID"]: frozenset(node.get("ID", 0) for node in nodes)
                    for d in listed
                    if (nodes := (d.get("topology") or {}).get("nodes"))
                }
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

    # ---- choosing (a provider of the topology manager)
    def release(self, uid: str) -> bool:
        if self._given.pop(uid, None) is None:
            return False
        self._save()
        return True

    def _asked(self, pod: Object, container: Object | None) -> dict[str, int]:
        """Devices of plugins that a container asks for; of a pod, the most at one time."""
        if container is None:
            return {n: q.value() for n, q in pod_requests(pod).items() if n in self._plugins and q.value() > 0}
        limits = (container.get("resources") or {}).get("limits") or {}
        return {n: count for n, q in limits.items() if n in self._plugins and (count := parse_quantity(q).value()) > 0}

    def _free(self, pod: Object, plugin: _Plugin) -> list[str]:
        """Healthy devices that nobody has; what one-shot init containers of this pod had is free again."""
        uid = pod["metadata"]["uid"]
        over = {c["name"] for c in (pod.get("spec") or {}).get("initContainers") or [] if not is_sidecar(c)}
        taken = {
            device
            for owner, containers in self._given.items()
            if owner in self._kubelet.workers
            for name, resources in containers.items()
            if not (owner == uid and name in over)
            for device in resources.get(plugin.resource, [])
        }
        return sorted(device for device, healthy in plugin.devices.items() if healthy and device not in taken)

    def hints(self, pod: Object, container: Object | None) -> Hints:
        found: dict[str, list[Hint] | None] = {}
        for resource, count in self._asked(pod, container).items():
            plugin = self._plugins[resource]
            if not plugin.near:
                # Devices that are nowhere are near to everything.
                found[resource] = None
                continue
            had = container and self.given(pod["metadata"]["uid"], container["name"], resource)
            free = had or self._free(pod, plugin)
            nodes = set().union(*plugin.near.values())
            possible, least = [], len(nodes)
            for chosen in subsets(nodes):
                if sum(_is_near(plugin, device, chosen) for device in plugin.devices) >= count:
                    least = min(least, len(chosen))
                if sum(_is_near(plugin, device, chosen) for device in free) >= count:
                    possible.append(chosen)
            found[resource] = [Hint(chosen, len(chosen) == least) for chosen in possible]
        return found

    def described(self, uid: str = "", container: str = "") -> list[Object]:
        """ContainerDevices of the pod resources API: what a container has, or all healthy devices."""
        if uid:
            chosen = self._given.get(uid, {}).get(container, {})
        else:
            chosen = {name: [d for d, healthy in p.devices.items() if healthy] for name, p in self._plugins.items()}
        found = []
        for resource, devices in chosen.items():
            near = self._plugins[resource].near if resource in self._plugins else {}
            for device in devices:
                entry: Object = {"resource_name": resource, "device_ids": [device]}
                if device in near:
                    entry["topology"] = {"nodes": [{"ID": node} for node in sorted(near[device])]}
                found.append(entry)
        return found

    def given(self, uid: str, container: str, resource: str) -> list[str] | None:
        return self._given.get(uid, {}).get(container, {}).get(resource)

    def allocate(self, pod: Object, container: Object, hint: Hint) -> None:
        """Choose devices for a container; the plugin hears of it when the container is made."""
        uid, name = pod["metadata"]["uid"], container["name"]
        for resource, count in self._asked(pod, container).items():
            if self.given(uid, name, resource) is not None:
                continue
            plugin = self._plugins[resource]
            free = self._free(pod, plugin)
            if len(free) < count:
                raise ValueError(
                    f"requested number of devices unavailable for {resource}."
                    f" Requested: {count}, Available: {len(free)}"
                )
            if hint.nodes is not None:
                wanted = hint.nodes
                free.sort(key=lambda device: not _is_near(plugin, device, wanted))
            self._given.setdefault(uid, {}).setdefault(name, {})[resource] = free[:count]
            self._save()

    async def prefer(self, pod: Object) -> None:
        """Ask plugins that know better which of the free devices to take. Before `allocate`, best effort."""
        spec = pod.get("spec") or {}
        for container in [*(spec.get("initContainers") or []), *(spec.get("containers") or [])]:
            for resource, count in self._asked(pod, container).items():
                plugin = self._plugins[resource]
                uid, name = pod["metadata"]["uid"], container["name"]
                if not plugin.options.get("get_preferred_allocation_available"):
                    continue
                if self.given(uid, name, resource) is not None:
                    continue
                free = self._free(pod, plugin)
                wish = {"available_deviceIDs": free, "allocation_size": count}
                try:
                    answer = await plugin.channel.call(
                        SERVICE + "GetPreferredAllocation",
                        "PreferredAllocationRequest",
                        "PreferredAllocationResponse",
                        {"container_requests": [wish]},
                        CALL_SECONDS,
                    )
                except RpcError as error:
                    log.info("device plugin %s: %s", resource, error)
                    continue
                chosen = (answer.get("container_responses") or [{}])[0].get("deviceIDs", [])
                # It may have changed meanwhile: only what is still free counts.
                if len(chosen) == count and set(chosen) <= set(self._free(pod, plugin)):
                    self._given.setdefault(uid, {}).setdefault(name, {})[resource] = chosen
                    self._save()

    def _save(self) -> None:
        draft = self._checkpoint.with_suffix(".new")
        draft.write_text(json.dumps({"pods": self._given, "resources": sorted(self._resources)}))
        draft.replace(self._checkpoint)

    async def hand_out(self, worker: PodWorker, container: Object, allocation: Allocation) -> None:
        """Have the plugins make ready what was chosen for a container. Raises ConfigError."""
        limits = (container.get("resources") or {}).get("limits") or {}
        for resource in limits:
            plugin = self._plugins.get(resource)
            if plugin is None:
                if resource in self._resources:
                    raise ConfigError(f"no registered plugin for resource {resource}")
                continue
            chosen = self.given(worker.uid, container["name"], resource)
            if chosen is None:
                # The plugin came after the pod: it was not there to be asked at admission.
                try:
                    self.allocate(worker.pod, container, Hint(None, False))
                except ValueError as error:
                    raise ConfigError(str(error)) from error
                chosen = self.given(worker.uid, container["name"], resource) or []
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


def _is_near(plugin: _Plugin, device: str, nodes: frozenset[int]) -> bool:
    return bool(plugin.near.get(device, nodes) & nodes)
