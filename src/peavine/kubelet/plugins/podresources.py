"""The pod resources API (`pod-resources/kubelet.sock`, v1): agents of the node ask which pod has which devices, CPUs
and memory for itself."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Any

from peavine.kubelet.allocation.numa import parse_cpus
from peavine.kubelet.rpc import Codec
from peavine.kubelet.rpc.server import Server

if TYPE_CHECKING:
    from peavine.kubelet.kubelet import Kubelet
    from peavine.kubelet.pods.worker import PodWorker

Object = dict[str, Any]

CODEC = """
ListPodResourcesRequest:
ListPodResourcesResponse: pod_resources=1:PodResources*
AllocatableResourcesRequest:
AllocatableResourcesResponse: devices=1:ContainerDevices* cpu_ids=2:int64* memory=3:ContainerMemory*
GetPodResourcesRequest: pod_name=1:string pod_namespace=2:string
GetPodResourcesResponse: pod_resources=1:PodResources
PodResources: name=1:string namespace=2:string containers=3:ContainerResources*
ContainerResources: name=1:string devices=2:ContainerDevices* cpu_ids=3:int64* memory=4:ContainerMemory* dynamic_resources=5:DynamicResource*
ContainerDevices: resource_name=1:string device_ids=2:string* topology=3:TopologyInfo
ContainerMemory: memory_type=1:string size=2:uint64 topology=3:TopologyInfo
TopologyInfo: nodes=1:NUMANode*
NUMANode: ID=1:int64
DynamicResource: claim_name=2:string claim_namespace=3:string claim_resources=4:ClaimResource*
ClaimResource: cdi_devices=1:CDIDevice* driver_name=2:string pool_name=3:string device_name=4:string
CDIDevice: name=1:string
"""  # noqa: E501
SERVICE = "/v1.PodResourcesLister/"


class PodResources:
    def __init__(self, kubelet: Kubelet) -> None:
        self._kubelet = kubelet

    @property
    def socket(self) -> Path:
        return self._kubelet.options.root_dir / "pod-resources" / "kubelet.sock"

    async def run(self) -> None:
        """Serve. Ends by cancellation."""
        server = Server(Codec(CODEC))
        for method, request, response, answer in (
            ("List", "ListPodResourcesRequest", "ListPodResourcesResponse", self._list),
            (
                "GetAllocatableResources",
                "AllocatableResourcesRequest",
                "AllocatableResourcesResponse",
                self._allocatable,
            ),
            ("Get", "GetPodResourcesRequest", "GetPodResourcesResponse", self._get),
        ):
            server.add(SERVICE + method, request, response, answer)
        self.socket.parent.mkdir(parents=True, exist_ok=True, mode=0o750)
        await server.start(self.socket)
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            await server.stop()

    async def _list(self, request: Object) -> Object:
        alive = [worker for worker in self._kubelet.workers.values() if worker.admitted and not worker.finished]
        return {"pod_resources": [self._of_pod(worker) for worker in alive]}

    async def _get(self, request: Object) -> Object:
        wanted = (request.get("pod_namespace", ""), request.get("pod_name", ""))
        for worker in self._kubelet.workers.values():
            meta = worker.pod["metadata"]
            if (meta.get("namespace", "default"), meta["name"]) == wanted:
                return {"pod_resources": self._of_pod(worker)}
        raise ValueError(f"pod {wanted[1]} in namespace {wanted[0]} not found")

    def _of_pod(self, worker: PodWorker) -> Object:
        meta, spec = worker.pod["metadata"], worker.pod.get("spec") or {}
        containers = [*(spec.get("initContainers") or []), *(spec.get("containers") or [])]
        return {
            "name": meta["name"],
            "namespace": meta.get("namespace", "default"),
            "containers": [self._of_container(worker, container) for container in containers],
        }

    def _of_container(self, worker: PodWorker, container: Object) -> Object:
        kubelet, uid, name = self._kubelet, worker.uid, container["name"]
        assert kubelet.managers is not None and kubelet.devices is not None and kubelet.dynamic is not None
        found: Object = {"name": name, "devices": kubelet.devices.described(uid, name)}
        if kubelet.managers.cpus is not None:
            found["cpu_ids"] = sorted(parse_cpus(kubelet.managers.cpus.of(uid, name)))
        memory = kubelet.managers.memory
        if memory is not None and (entry := memory.entries.get(uid, {}).get(name)):
            nodes = {"nodes": [{"ID": node} for node in entry["nodes"]]}
            found["memory"] = [
                {"memory_type": kind, "size": size, "topology": nodes} for kind, size in entry["amounts"].items()
            ]
        found["dynamic_resources"] = kubelet.dynamic.described(worker.pod, container)
        return found

    async def _allocatable(self, request: Object) -> Object:
        kubelet = self._kubelet
        assert kubelet.managers is not None and kubelet.devices is not None
        cpus = kubelet.managers.cpus
        return {
            "devices": kubelet.devices.described(),
            "cpu_ids": sorted(cpus.assignable) if cpus is not None else [],
            "memory": kubelet.managers.memory.described() if kubelet.managers.memory is not None else [],
        }
