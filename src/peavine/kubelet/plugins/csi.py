"""CSI v1, the node's side: drivers register, volumes are staged once a node and published once a pod.

What is needed to take a volume down lies beside it (`vol_data.json`), so a restarted kubelet can do it for pods that
the API has long forgotten.
"""

# ruff: noqa: ASYNC240 -- local files: shorter than a thread switch
from __future__ import annotations

import contextlib
import hashlib
import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from peavine.kubelet.pods.environment import ObjectMissing, text_data
from peavine.kubelet.rpc import Channel, Codec, RpcError
from peavine.kubelet.volumes.claims import grown_status
from peavine.kubelet.volumes.local import own
from peavine.kubelet.volumes.objects import fs_group
from peavine.kubelet.volumes.source import Ready, VolumeError, VolumeHost
from peavine.linux import mounts
from peavine.machinery.errors import ApiError
from peavine.machinery.quantity import parse_quantity

if TYPE_CHECKING:
    from peavine.kubelet.kubelet import Kubelet

log = logging.getLogger(__name__)
Object = dict[str, Any]

CODEC = """
Empty:
BlockVolume:
MountVolume: fs_type=1:string mount_flags=2:string* volume_mount_group=3:string
AccessMode: mode=1:enum
VolumeCapability: block=1:BlockVolume mount=2:MountVolume access_mode=3:AccessMode
NodeStageVolumeRequest: volume_id=1:string publish_context=2:map<string,string> staging_target_path=3:string volume_capability=4:VolumeCapability secrets=5:map<string,string> volume_context=6:map<string,string>
NodeUnstageVolumeRequest: volume_id=1:string staging_target_path=2:string
NodePublishVolumeRequest: volume_id=1:string publish_context=2:map<string,string> staging_target_path=3:string target_path=4:string volume_capability=5:VolumeCapability readonly=6:bool secrets=7:map<string,string> volume_context=8:map<string,string>
NodeUnpublishVolumeRequest: volume_id=1:string target_path=2:string
CapacityRange: required_bytes=1:int64 limit_bytes=2:int64
NodeExpandVolumeRequest: volume_id=1:string volume_path=2:string capacity_range=3:CapacityRange staging_target_path=4:string volume_capability=5:VolumeCapability secrets=6:map<string,string>
NodeExpandVolumeResponse: capacity_bytes=1:int64
RpcType: type=1:enum
NodeServiceCapability: rpc=1:RpcType
NodeGetCapabilitiesResponse: capabilities=1:NodeServiceCapability*
Topology: segments=1:map<string,string>
NodeGetInfoResponse: node_id=1:string max_volumes_per_node=2:int64 accessible_topology=3:Topology
"""  # noqa: E501
NODE = "/csi.v1.Node/"
STAGE_UNSTAGE, EXPAND, VOLUME_MOUNT_GROUP = 1, 3, 6
ACCESS_MODES = {"ReadWriteOnce": 1, "ReadOnlyMany": 3, "ReadWriteMany": 5, "ReadWriteOncePod": 6}
CALL_SECONDS = 120.0
DATA = "vol_data.json"


class Driver:
    def __init__(self, name: str, endpoint: str) -> None:
        self.name, self.endpoint = name, endpoint
        self.channel = Channel(endpoint, Codec(CODEC))
        self.capabilities: set[int] = set()
        self.info: Object = {}

    async def call(self, method: str, request: Object, response: str = "Empty") -> Object:
        """Raises VolumeError with the driver's words."""
        kind = "Empty" if method in ("NodeGetCapabilities", "NodeGetInfo") else f"{method}Request"
        try:
            return await self.channel.call(NODE + method, kind, response, request, CALL_SECONDS)
        except RpcError as error:
            raise VolumeError(str(error)) from error

    async def learn(self) -> None:
        found = await self.call("NodeGetCapabilities", {}, "NodeGetCapabilitiesResponse")
        self.capabilities = {c.get("rpc", {}).get("type", 0) for c in found.get("capabilities", [])}
        self.info = await self.call("NodeGetInfo", {}, "NodeGetInfoResponse")


class CsiDrivers:
    """The drivers of this node, and their entry in the CSINode object."""

    def __init__(self, kubelet: Kubelet) -> None:
        self._kubelet = kubelet
        self.drivers: dict[str, Driver] = {}

    async def register(self, name: str, endpoint: str, versions: Sequence[str] = ()) -> None:
        driver = Driver(name, endpoint)
        await driver.learn()
        old = self.drivers.get(name)
        self.drivers[name] = driver
        if old is not None:
            await old.channel.close()
        await self._publish()
        for worker in list(self._kubelet.workers.values()):
            worker.wake()

    def unregister(self, name: str) -> None:
        self.drivers.pop(name, None)
        self._kubelet.scope.start(self._publish_quietly(), name="csinode")

    async def _publish_quietly(self) -> None:
        with contextlib.suppress(ApiError, ConnectionError):
            await self._publish()

    async def _publish(self) -> None:
        """Make the CSINode say which drivers are here."""
        kubelet = self._kubelet
        resource = kubelet.client.resource("storage.k8s.io/v1", "csinodes")
        name = kubelet.options.node_name
        drivers = []
        for driver in self.drivers.values():
            topology = (driver.info.get("accessible_topology") or {}).get("segments") or {}
            entry: Object = {
                "name": driver.name,
                "nodeID": driver.info.get("node_id", name),
                "topologyKeys": sorted(topology),
            }
            if driver.info.get("max_volumes_per_node"):
                entry["allocatable"] = {"count": driver.info["max_volumes_per_node"]}
            drivers.append(entry)
        node = kubelet.node_objects.get(None, name)
        owners = []
        if node is not None:
            owners = [{"apiVersion": "v1", "kind": "Node", "name": name, "uid": node["metadata"]["uid"]}]
        try:
            found = await resource.get(name)
            await resource.update({**found, "spec": {"drivers": drivers}})
        except ApiError as error:
            if error.code != 404:
                raise
            body = {
                "apiVersion": "storage.k8s.io/v1",
                "kind": "CSINode",
                "metadata": {"name": name, "ownerReferences": owners},
                "spec": {"drivers": drivers},
            }
            await resource.create(body)


class CsiSource:
    plugin = "kubernetes.io/csi"

    def __init__(self, kubelet: Kubelet, drivers: CsiDrivers) -> None:
        self._kubelet, self._drivers = kubelet, drivers

    def _driver(self, name: str) -> Driver:
        driver = self._drivers.drivers.get(name)
        if driver is None:
            raise VolumeError(
                "kubernetes.io/csi: mounter.SetUpAt failed to get CSI client: driver name"
                f" {name} not found in the list of registered CSI drivers"
            )
        return driver

    def _staging(self, driver: str, handle: str) -> Path:
        digest = hashlib.sha256(handle.encode()).hexdigest()
        return self._kubelet.paths.plugins / "kubernetes.io" / "csi" / driver / digest / "globalmount"

    async def set_up(self, host: VolumeHost, pod: Object, volume: Object, where: Path) -> Ready:
        spec, block = volume["csi"], bool(volume.get("block"))
        driver = self._driver(spec["driver"])
        inline = "volumeHandle" not in spec
        uid = pod["metadata"]["uid"]
        handle = spec.get("volumeHandle") or "csi-" + hashlib.sha256(f"{uid}{volume['name']}".encode()).hexdigest()
        target = where / "mount"
        if (where / DATA).exists() and (block or mounts.is_mounted(target)) and target.exists():
            await self.grow(host, pod, volume, where)
            return Ready(target, readonly=bool(volume.get("readOnly")), device=block)
        described = await self._csi_driver(host, driver.name)
        context = dict(spec.get("volumeAttributes") or {})
        if (described.get("spec") or {}).get("podInfoOnMount"):
            context |= _pod_info(pod, inline)
        publish: dict[str, str] = {}
        if not inline and (described.get("spec") or {}).get("attachRequired", True):
            publish = await self._attached(host, driver.name, handle)
        capability = self._capability(pod, volume, driver, block)
        where.mkdir(parents=True, exist_ok=True)
        staged = not inline and STAGE_UNSTAGE in driver.capabilities
        staging = self._staging(driver.name, handle)
        data = {"driverName": driver.name, "volumeHandle": handle, "staged": staged, "inline": inline}
        (where / DATA).write_text(json.dumps(data))
        request: Object = {"volume_id": handle, "publish_context": publish, "volume_context": context}
        request["volume_capability"] = capability
        if staged:
            staging.mkdir(parents=True, exist_ok=True)
            secrets = await self._secrets(host, spec.get("nodeStageSecretRef"), pod)
            await driver.call("NodeStageVolume", {**request, "staging_target_path": str(staging), "secrets": secrets})
        reference = spec.get("nodePublishSecretRef")
        await driver.call(
            "NodePublishVolume",
            {
                **request,
                "target_path": str(target),
                "staging_target_path": str(staging) if staged else "",
                "readonly": bool(spec.get("readOnly") or volume.get("readOnly")),
                "secrets": await self._secrets(host, reference, pod),
            },
        )
        await self.grow(host, pod, volume, where)
        readonly = bool(spec.get("readOnly") or volume.get("readOnly"))
        if not readonly and not block and _gets_group(described, spec, volume, driver):
            own(target, pod)
        return Ready(target, readonly=readonly, device=block)

    async def grow(self, host: VolumeHost, pod: Object, volume: Object, where: Path) -> None:
        """Have the driver take the room that a volume has got, and say so in the claim. Raises VolumeError."""
        growth, spec = volume.get("growth"), volume["csi"]
        driver = self._driver(spec["driver"])
        if not growth or EXPAND not in driver.capabilities:
            return
        staging = self._staging(driver.name, spec["volumeHandle"])
        request = {
            "volume_id": spec["volumeHandle"],
            "volume_path": str(where / "mount"),
            "capacity_range": {"required_bytes": parse_quantity(growth["size"]).value()},
            "staging_target_path": str(staging) if STAGE_UNSTAGE in driver.capabilities else "",
            "volume_capability": self._capability(pod, volume, driver, bool(volume.get("block"))),
            "secrets": await self._secrets(host, spec.get("nodeExpandSecretRef"), pod),
        }
        record, shown = self._kubelet.recorder.event, volume["persistent"]
        try:
            await driver.call("NodeExpandVolume", request, "NodeExpandVolumeResponse")
            resource = self._kubelet.client.resource("v1", "persistentvolumeclaims")
            claim = await resource.get(growth["claim"], growth["namespace"])
            patch = grown_status(claim, growth["size"])
            await resource.patch(growth["claim"], patch, growth["namespace"], subresource="status")
        except (VolumeError, ApiError) as error:
            message = f'NodeExpandVolume.NodeExpandVolume failed for volume "{shown}" : {error}'
            record(pod, "Warning", "VolumeResizeFailed", message)
            raise VolumeError(message) from error
        message = f'MountVolume.NodeExpandVolume succeeded for volume "{shown}"'
        record(pod, "Normal", "FileSystemResizeSuccessful", message)

    def may_grow(self, where: Path) -> bool:
        """Whether the volume that is set up there is of a driver that can expand volumes."""
        with contextlib.suppress(OSError, ValueError, KeyError):
            driver = self._drivers.drivers.get(json.loads((where / DATA).read_text())["driverName"])
            return driver is not None and EXPAND in driver.capabilities
        return False

    def _capability(self, pod: Object, volume: Object, driver: Driver, block: bool) -> Object:
        spec = volume["csi"]
        modes = volume.get("accessModes") or ["ReadWriteOnce"]
        capability: Object = {"access_mode": {"mode": ACCESS_MODES.get(modes[0], 1)}}
        if block:
            return {**capability, "block": {}}
        mount: Object = {"fs_type": spec.get("fsType") or "", "mount_flags": volume.get("mountOptions") or []}
        group = fs_group(pod)
        if group is not None and VOLUME_MOUNT_GROUP in driver.capabilities:
            mount["volume_mount_group"] = str(group)
        return {**capability, "mount": mount}

    async def _csi_driver(self, host: VolumeHost, name: str) -> Object:
        assert host.get is not None
        try:
            return await host.get("storage.k8s.io/v1", "csidrivers", None, name)
        except ApiError as error:
            if error.code == 404:
                return {}
            raise VolumeError(error.message) from error

    async def _attached(self, host: VolumeHost, driver: str, handle: str) -> dict[str, str]:
        """The attachment's metadata, once the volume is attached to this node. Raises VolumeError before."""
        assert host.get is not None
        digest = hashlib.sha256(f"{handle}{driver}{host.node_name}".encode()).hexdigest()
        try:
            found = await host.get("storage.k8s.io/v1", "volumeattachments", None, f"csi-{digest}")
        except ApiError as error:
            raise VolumeError(f"volume attachment is being waited for: {error.message}") from error
        status = found.get("status") or {}
        if not status.get("attached"):
            raise VolumeError(f"volume {handle} is not attached yet")
        return dict(status.get("attachmentMetadata") or {})

    async def _secrets(self, host: VolumeHost, reference: Object | None, pod: Object) -> dict[str, str]:
        if not reference:
            return {}
        namespace = reference.get("namespace") or pod["metadata"]["namespace"]
        try:
            return text_data(await host.lookup("Secret", namespace, reference["name"]))
        except ObjectMissing as error:
            raise VolumeError(str(error)) from error

    async def tear_down(self, host: VolumeHost, where: Path) -> None:
        try:
            data = json.loads((where / DATA).read_text())
        except (OSError, ValueError):
            return
        driver, handle = self._driver(data["driverName"]), data["volumeHandle"]
        await driver.call("NodeUnpublishVolume", {"volume_id": handle, "target_path": str(where / "mount")})
        (where / DATA).unlink()
        if data.get("staged") and not self._used(data):
            staging = self._staging(driver.name, handle)
            await driver.call("NodeUnstageVolume", {"volume_id": handle, "staging_target_path": str(staging)})
            with contextlib.suppress(OSError):
                staging.rmdir()
                staging.parent.rmdir()

    def _used(self, data: Object) -> bool:
        """Whether another pod of the node still has the volume."""
        for file in self._kubelet.paths.pods.glob(f"*/volumes/kubernetes.io~csi/*/{DATA}"):
            with contextlib.suppress(OSError, ValueError):
                other = json.loads(file.read_text())
                if (other["driverName"], other["volumeHandle"]) == (data["driverName"], data["volumeHandle"]):
                    return True
        return False


def _gets_group(described: Object, spec: Object, volume: Object, driver: Driver) -> bool:
    """Whether the kubelet applies fsGroup (CSIDriver.spec.fsGroupPolicy), and not the driver itself."""
    if VOLUME_MOUNT_GROUP in driver.capabilities:
        return False
    policy = (described.get("spec") or {}).get("fsGroupPolicy") or "ReadWriteOnceWithFSType"
    if policy == "ReadWriteOnceWithFSType":
        return bool(spec.get("fsType")) and (volume.get("accessModes") or []) == ["ReadWriteOnce"]
    return bool(policy == "File")


def _pod_info(pod: Object, inline: bool) -> dict[str, str]:
    meta, spec = pod["metadata"], pod.get("spec") or {}
    return {
        "csi.storage.k8s.io/pod.name": meta["name"],
        "csi.storage.k8s.io/pod.namespace": meta["namespace"],
        "csi.storage.k8s.io/pod.uid": meta["uid"],
        "csi.storage.k8s.io/serviceAccount.name": spec.get("serviceAccountName", ""),
        "csi.storage.k8s.io/ephemeral": "true" if inline else "false",
    }
