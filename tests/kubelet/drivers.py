"""A CSI driver and a device plugin for tests: `python -m tests.kubelet.drivers csi|device KUBELET_ROOT STATE_DIR`."""

# ruff: noqa: ASYNC240
from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from peavine.kubelet.plugins import csi, devices, registry
from peavine.kubelet.rpc import Channel, Codec
from peavine.kubelet.rpc.server import Server
from peavine.linux import mounts

DRIVER = "csi.test.peavine.io"
RESOURCE = "test.peavine.io/gadget"
Object = dict[str, Any]


class CsiDriver:
    """Volumes are directories below the state directory; every call is written down."""

    def __init__(self, state: Path) -> None:
        self.state = state

    def _note(self, call: str, request: Object) -> None:
        with open(self.state / "calls", "a") as file:
            file.write(json.dumps([call, request], default=str) + "\n")

    async def capabilities(self, request: Object) -> Object:
        return {"capabilities": [{"rpc": {"type": csi.STAGE_UNSTAGE}}]}

    async def info(self, request: Object) -> Object:
        return {"node_id": "the-node", "accessible_topology": {"segments": {"test.peavine.io/zone": "z"}}}

    async def stage(self, request: Object) -> Object:
        self._note("stage", request)
        (self.state / request["volume_id"]).mkdir(exist_ok=True)
        mounts.bind(self.state / request["volume_id"], request["staging_target_path"])
        return {}

    async def unstage(self, request: Object) -> Object:
        self._note("unstage", request)
        mounts.unmount(request["staging_target_path"])
        return {}

    async def publish(self, request: Object) -> Object:
        self._note("publish", request)
        target = Path(request["target_path"])
        target.mkdir(exist_ok=True)
        source = Path(request.get("staging_target_path") or self.state / request["volume_id"])
        source.mkdir(exist_ok=True)
        if not mounts.is_mounted(target):
            mounts.bind(source, target, readonly=bool(request.get("readonly")))
        return {}

    async def unpublish(self, request: Object) -> Object:
        self._note("unpublish", request)
        if mounts.is_mounted(request["target_path"]):
            mounts.unmount(request["target_path"])
        Path(request["target_path"]).rmdir()
        return {}


async def run_csi(root: Path, state: Path) -> None:
    driver, server = CsiDriver(state), Server(Codec(csi.CODEC + registry.CODEC))
    for method, answer, response in (
        ("NodeStageVolume", driver.stage, "Empty"),
        ("NodeUnstageVolume", driver.unstage, "Empty"),
        ("NodePublishVolume", driver.publish, "Empty"),
        ("NodeUnpublishVolume", driver.unpublish, "Empty"),
    ):
        server.add(csi.NODE + method, f"{method}Request", response, answer)
    server.add(csi.NODE + "NodeGetCapabilities", "Empty", "NodeGetCapabilitiesResponse", driver.capabilities)
    server.add(csi.NODE + "NodeGetInfo", "Empty", "NodeGetInfoResponse", driver.info)
    socket = root / "plugins_registry" / "test-reg.sock"

    async def info(request: Object) -> Object:
        return {"type": "CSIPlugin", "name": DRIVER, "endpoint": str(socket), "supported_versions": ["1.0.0"]}

    async def told(request: Object) -> Object:
        (state / "registered").write_text(json.dumps(request))
        return {}

    prefix = "/pluginregistration.Registration/"
    server.add(prefix + "GetInfo", "InfoRequest", "PluginInfo", info)
    server.add(prefix + "NotifyRegistrationStatus", "RegistrationStatus", "RegistrationStatusResponse", told)
    await server.start(socket)
    await asyncio.get_running_loop().create_future()


async def run_device(root: Path, state: Path) -> None:
    server = Server(Codec(devices.CODEC))

    async def listing(request: Object) -> AsyncIterator[Object]:
        names = [("one", "Healthy"), ("two", "Healthy"), ("sick", "Unhealthy")]
        yield {"devices": [{"ID": name, "health": health} for name, health in names]}
        await asyncio.get_running_loop().create_future()

    async def allocate(request: Object) -> Object:
        ids = request["container_requests"][0]["devices_ids"]
        (state / "file").write_text("mounted")
        part = {
            "envs": {"GADGETS": ",".join(ids)},
            "mounts": [{"container_path": "/gadget", "host_path": str(state / "file"), "read_only": True}],
            "devices": [{"container_path": "/dev/gadget", "host_path": "/dev/null", "permissions": "rw"}],
        }
        return {"container_responses": [part]}

    server.add(devices.SERVICE + "ListAndWatch", "Empty", "ListAndWatchResponse", listing, stream=True)
    server.add(devices.SERVICE + "Allocate", "AllocateRequest", "AllocateResponse", allocate)
    directory = root / "device-plugins"
    await server.start(directory / "gadget.sock")
    channel = Channel(str(directory / "kubelet.sock"), Codec(devices.CODEC))
    request = {"version": "v1beta1", "endpoint": "gadget.sock", "resource_name": RESOURCE}
    await channel.call("/v1beta1.Registration/Register", "RegisterRequest", "Empty", request, 10)
    await asyncio.get_running_loop().create_future()


if __name__ == "__main__":
    chosen = {"csi": run_csi, "device": run_device}[sys.argv[1]]
    asyncio.run(chosen(Path(sys.argv[2]), Path(sys.argv[3])))
