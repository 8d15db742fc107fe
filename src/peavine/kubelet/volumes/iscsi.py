"""iSCSI volumes through the host's `iscsiadm` (open-iscsi): portals, CHAP, sessions that end with their last volume.

What a session needs to be ended lies beside the volume (upstream's `iscsi.json`), so that a restarted kubelet can end
it for pods that the API has long forgotten.
"""

# ruff: noqa: ASYNC240 -- local files: shorter than a thread switch
from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

from peavine.kubelet.pods.environment import ObjectMissing, text_data
from peavine.kubelet.volumes.local import own
from peavine.kubelet.volumes.network import run_helper
from peavine.kubelet.volumes.source import Ready, VolumeError, VolumeHost
from peavine.linux import mounts

log = logging.getLogger(__name__)
Object = dict[str, Any]

PORT = 3260
DATA = "iscsi.json"
SECRET_TYPE = "kubernetes.io/iscsi-chap"
SESSION_FIELDS = tuple(f"node.session.auth.{field}" for field in ("username", "password", "username_in", "password_in"))
DISCOVERY_FIELDS = tuple(
    f"discovery.sendtargets.auth.{field}" for field in ("username", "password", "username_in", "password_in")
)
# How often, and in all how long, a device is looked for after its session has begun.
LOOK_SECONDS, LOOK_SECONDS_MAX = 0.2, 10.0


def portals(spec: Object) -> list[str]:
    """All portals of the volume, the main one first, each with its port."""
    found = [spec["targetPortal"], *(spec.get("portals") or [])]
    return list(dict.fromkeys(p if ":" in p.rpartition("]")[2] else f"{p}:{PORT}" for p in found))


def device_path(portal: str, spec: Object) -> Path:
    """Where udev shows the disk."""
    return Path(f"/dev/disk/by-path/ip-{portal}-iscsi-{spec['iqn']}-lun-{spec.get('lun', 0)}")


class Iscsi:
    plugin = "kubernetes.io/iscsi"

    async def set_up(self, host: VolumeHost, pod: Object, volume: Object, where: Path) -> Ready:
        spec = volume["iscsi"]
        readonly = bool(spec.get("readOnly") or volume.get("readOnly"))
        target = where / "mount"
        block = bool(volume.get("block"))
        if not block and mounts.is_mounted(target):
            return Ready(target, readonly=readonly)
        secret = await self._secret(host, pod, spec)
        where.mkdir(parents=True, exist_ok=True)
        data = {"portals": portals(spec), "iqn": spec["iqn"], "lun": spec.get("lun", 0)}
        # Before the session begins: whoever finds the file ends it.
        (where / DATA).write_text(json.dumps(data))
        device = await self._attach(host, spec, secret)
        if block:
            return Ready(device, device=True, readonly=readonly)
        target.mkdir(exist_ok=True)
        kind = spec.get("fsType") or "ext4"
        options = [*(volume.get("mountOptions") or []), *(["ro"] if readonly else [])]
        flags = ["-o", ",".join(options)] if options else []
        await run_helper("mount", "-t", kind, *flags, str(device), str(target))
        if not readonly:
            own(target, pod)
        return Ready(target, readonly=readonly)

    async def _secret(self, host: VolumeHost, pod: Object, spec: Object) -> dict[str, str]:
        if not (spec.get("chapAuthSession") or spec.get("chapAuthDiscovery")):
            return {}
        reference = spec.get("secretRef")
        if not reference:
            raise VolumeError("CHAP is asked for, but the volume names no secret")
        namespace = reference.get("namespace") or pod["metadata"]["namespace"]
        try:
            found = await host.lookup("Secret", namespace, reference["name"])
        except ObjectMissing as error:
            raise VolumeError(str(error)) from error
        return text_data(found)

    async def _attach(self, host: VolumeHost, spec: Object, secret: dict[str, str]) -> Path:
        """The device, through the first portal that gives it; the others are logged in to as well."""
        interface = spec.get("iscsiInterface") or "default"
        if spec.get("initiatorName"):
            interface = await self._own_interface(spec, interface)
        problems, found = [], None
        for portal in portals(spec):
            try:
                device = device_path(portal, spec)
                if not device.exists():
                    await self._log_in(portal, spec, interface, secret)
                    await self._appeared(host, device)
                found = found or device
            except VolumeError as error:
                problems.append(f"{portal}: {error}")
        if found is None:
            raise VolumeError("failed to get any path for iscsi disk: " + "; ".join(problems))
        for problem in problems:
            log.warning("iSCSI portal %s", problem)
        return found

    async def _own_interface(self, spec: Object, interface: str) -> str:
        """An interface of this initiator's name; upstream calls it after portal and volume."""
        name = f"{portals(spec)[0]}:{spec['iqn']}"
        try:
            await run_helper("iscsiadm", "-m", "iface", "-I", name, "-o", "show")
        except VolumeError:
            await run_helper("iscsiadm", "-m", "iface", "-I", name, "-o", "new")
            field = ("-n", "iface.initiatorname", "-v", spec["initiatorName"])
            await run_helper("iscsiadm", "-m", "iface", "-I", name, "-o", "update", *field)
        return name

    async def _log_in(self, portal: str, spec: Object, interface: str, secret: dict[str, str]) -> None:
        discovery = ("iscsiadm", "-m", "discoverydb", "-t", "sendtargets", "-p", portal, "-I", interface)
        node = ("iscsiadm", "-m", "node", "-p", portal, "-T", spec["iqn"], "-I", interface)
        await run_helper(*discovery, "-o", "new")
        if spec.get("chapAuthDiscovery"):
            await _set(discovery, "discovery.sendtargets.auth.authmethod", "CHAP")
            await _set_all(discovery, DISCOVERY_FIELDS, secret)
        await run_helper(*discovery, "--discover")
        if spec.get("chapAuthSession"):
            await _set(node, "node.session.auth.authmethod", "CHAP")
            await _set_all(node, SESSION_FIELDS, secret)
        await run_helper(*node, "--login")
        # A session that broke is not begun again behind our back at the next boot.
        await _set(node, "node.startup", "manual")

    async def _appeared(self, host: VolumeHost, device: Path) -> None:
        waited = 0.0
        while not device.exists():
            if waited >= LOOK_SECONDS_MAX:
                raise VolumeError(f"{device} has not appeared")
            # Nothing tells of udev's links but the directory itself, which may not be there yet.
            await host.clock.sleep(LOOK_SECONDS)
            waited += LOOK_SECONDS

    async def tear_down(self, host: VolumeHost, where: Path) -> None:
        if mounts.is_mounted(where / "mount"):
            mounts.unmount(where / "mount")
        try:
            data = json.loads((where / DATA).read_text())
        except (OSError, ValueError):
            return
        if not _is_used(host, where, data["iqn"]):
            for portal in data["portals"]:
                await self._log_out(portal, data["iqn"])
        (where / DATA).unlink(missing_ok=True)

    async def _log_out(self, portal: str, iqn: str) -> None:
        node = ("iscsiadm", "-m", "node", "-p", portal, "-T", iqn)
        try:
            await run_helper(*node, "--logout")
        except VolumeError as error:
            # 21 is iscsiadm's word for: there is no such session.
            log.info("%s", error)
        try:
            await run_helper(*node, "-o", "delete")
        except VolumeError as error:
            log.info("%s", error)


async def _set(target: tuple[str, ...], field: str, value: str) -> None:
    await run_helper(*target, "-o", "update", "-n", field, "-v", value, secret=value)


async def _set_all(target: tuple[str, ...], fields: tuple[str, ...], secret: dict[str, str]) -> None:
    for field in fields:
        if secret.get(field):
            await _set(target, field, secret[field])


def _is_used(host: VolumeHost, where: Path, iqn: str) -> bool:
    """Whether another volume of the node needs the target's session."""
    for file in host.paths.pods.glob(f"*/volumes/kubernetes.io~iscsi/*/{DATA}"):
        if file.parent != where:
            try:
                if json.loads(file.read_text())["iqn"] == iqn:
                    return True
            except (OSError, ValueError):
                continue
    return False
