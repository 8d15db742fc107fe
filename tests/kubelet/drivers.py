"""Drivers for tests: `python -m tests.kubelet.drivers csi|device|dra KUBELET_ROOT STATE_DIR`."""

# ruff: noqa: ASYNC240
from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from peavine.kubelet.plugins import csi, devices, dra, registry
from peavine.kubelet.rpc import Channel, Codec
from peavine.kubelet.rpc.server import Server
from peavine.linux import mounts

DRIVER = "csi.test.peavine.io"
RESOURCE = "test.peavine.io/gadget"
DRA_DRIVER = "gpu.test.peavine.io"
CDI_FILE = Path("/var/run/cdi/test.peavine.io.json")
Object = dict[str, Any]


class CsiDriver:
    """Volumes are directories below the state directory; every call is written down."""

    def __init__(self, state: Path) -> None:
        self.state = state

    def _note(self, call: str, request: Object) -> None:
        with open(self.state / "calls", "a") as file:
            file.write(json.dumps([call, request], default=str) + "\n")

    async def capabilities(self, request: Object) -> Object:
        return {"capabilities": [{"rpc": {"type": kind}} for kind in (csi.STAGE_UNSTAGE, csi.EXPAND)]}

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

    async def expand(self, request: Object) -> Object:
        self._note("expand", request)
        return {"capacity_bytes": request["capacity_range"]["required_bytes"]}

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
    server.add(csi.NODE + "NodeExpandVolume", "NodeExpandVolumeRequest", "NodeExpandVolumeResponse", driver.expand)
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


async def run_dra(root: Path, state: Path) -> None:
    """Hands out `model` devices by CDI: an environment variable, a device node and a file."""
    server = Server(Codec(dra.CODEC + registry.CODEC))
    socket = root / "plugins_registry" / "dra-reg.sock"
    (state / "weights").write_text("seventeen")

    def note(call: str, request: Object) -> None:
        with open(state / "calls", "a") as file:
            file.write(json.dumps([call, request]) + "\n")

    async def prepare(request: Object) -> Object:
        note("prepare", request)
        if (state / "broken").exists():
            return {"claims": {claim["uid"]: {"error": "no such device"} for claim in request["claims"]}}
        CDI_FILE.parent.mkdir(parents=True, exist_ok=True)
        answers, devices = {}, []
        for claim in request["claims"]:
            name = f"{claim['uid']}-gpu"
            edits = {
                "env": [f"GPU={claim['name']}"],
                "deviceNodes": [{"path": "/dev/gpu0", "hostPath": "/dev/null"}],
                "mounts": [
                    {"hostPath": str(state / "weights"), "containerPath": "/weights", "options": ["ro", "bind"]}
                ],
            }
            devices.append({"name": name, "containerEdits": edits})
            answers[claim["uid"]] = {
                "devices": [
                    {
                        "request_names": ["gpu"],
                        "pool_name": "pool",
                        "device_name": "gpu-0",
                        "cdi_device_ids": [f"test.peavine.io/gpu={name}"],
                    }
                ]
            }
        CDI_FILE.write_text(json.dumps({"cdiVersion": "0.6.0", "kind": "test.peavine.io/gpu", "devices": devices}))
        return {"claims": answers}

    async def unprepare(request: Object) -> Object:
        note("unprepare", request)
        CDI_FILE.unlink(missing_ok=True)
        return {"claims": {claim["uid"]: {} for claim in request["claims"]}}

    async def info(request: Object) -> Object:
        versions = [state.name.removeprefix("dra-") + ".DRAPlugin"]
        return {"type": "DRAPlugin", "name": DRA_DRIVER, "endpoint": str(socket), "supported_versions": versions}

    async def told(request: Object) -> Object:
        (state / "registered").write_text(json.dumps(request))
        return {}

    for service in dra.SERVICES.values():
        for method, answer in (("NodePrepareResources", prepare), ("NodeUnprepareResources", unprepare)):
            server.add(service + method, f"{method}Request", f"{method}Response", answer)
    prefix = "/pluginregistration.Registration/"
    server.add(prefix + "GetInfo", "InfoRequest", "PluginInfo", info)
    server.add(prefix + "NotifyRegistrationStatus", "RegistrationStatus", "RegistrationStatusResponse", told)
    await server.start(socket)
    await asyncio.get_running_loop().create_future()


if __name__ == "__main__":
    chosen = {"csi": run_csi, "device": run_device, "dra": run_dra}[sys.argv[1]]
    asyncio.run(chosen(Path(sys.argv[2]), Path(sys.argv[3])))
