"""Sets up every volume of a pod, keeps it current, and takes it down; says how containers see it."""

from __future__ import annotations

import logging
import os
import shutil
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from peavine.kubelet.cri.runtime import PROPAGATION
from peavine.kubelet.pods.environment import ConfigError, expand
from peavine.kubelet.volumes.iscsi import Iscsi
from peavine.kubelet.volumes.local import EmptyDir, HostPath, Image, Local
from peavine.kubelet.volumes.network import Nfs
from peavine.kubelet.volumes.objects import ConfigMap, DownwardApi, Projected, Secret
from peavine.kubelet.volumes.source import Ready, Source, VolumeError, VolumeHost
from peavine.linux import mounts

log = logging.getLogger(__name__)

Object = dict[str, Any]

# Sources whose content follows objects of the API: they are written again when those change.
LIVE = ("configMap", "secret", "downwardAPI", "projected")


@dataclass
class Volumes:
    """The volumes of one pod that are ready, by name."""

    ready: dict[str, Ready]

    @property
    def groups(self) -> list[int]:
        return [ready.group for ready in self.ready.values() if ready.group is not None]


class VolumeManager:
    def __init__(self, host: VolumeHost) -> None:
        self.host = host
        self._sources: dict[str, Source] = {
            "emptyDir": EmptyDir(),
            "hostPath": HostPath(),
            "configMap": ConfigMap(),
            "secret": Secret(),
            "downwardAPI": DownwardApi(),
            "projected": Projected(),
            "local": Local(),
            "image": Image(),
            "nfs": Nfs(),
            "iscsi": Iscsi(),
        }

    def add_source(self, field: str, source: Source) -> None:
        self._sources[field] = source

    async def set_up(self, pod: Object, *, only_live: bool = False) -> Volumes:
        """All volumes of the pod; may be repeated at any time. With `only_live`, just refresh what can change.

        Raises VolumeError with the text of a FailedMount event.
        """
        ready = {}
        for volume in (pod.get("spec") or {}).get("volumes") or []:
            name = volume["name"]
            if only_live and not any(field in volume for field in LIVE):
                continue
            try:
                ready[name] = await self._one(pod, volume)
            except (VolumeError, ConfigError, OSError, ValueError) as error:
                raise VolumeError(f'MountVolume.SetUp failed for volume "{name}" : {error}') from error
        return Volumes(ready)

    async def _one(self, pod: Object, volume: Object) -> Ready:
        if "persistentVolumeClaim" in volume or "ephemeral" in volume:
            from peavine.kubelet.volumes.claims import resolve

            volume = await resolve(self.host, pod, volume)
        for field, source in self._sources.items():
            if field in volume:
                where = self.host.paths.volume(pod["metadata"]["uid"], source.plugin, volume["name"])
                ready = await source.set_up(self.host, pod, volume, where)
                if volume.get("readOnly"):
                    ready.readonly = True
                if volume.get("group") is not None:
                    ready.group = volume["group"]
                return ready
        if "gitRepo" in volume:
            # CVE-2024-10220: git runs hooks of the repository as root.
            raise VolumeError("git volumes are disabled")
        kinds = sorted(set(volume) - {"name"})
        raise VolumeError(f"no volume plugin matched: {', '.join(kinds) or 'no source'}")

    async def grow(self, pod: Object) -> None:
        """Let volumes of a running pod that have got more room take it. Raises VolumeError."""
        from peavine.kubelet.volumes.claims import resolve

        source: Any = self._sources.get("csi")
        for volume in (pod.get("spec") or {}).get("volumes") or []:
            if source is None or not ("persistentVolumeClaim" in volume or "ephemeral" in volume):
                continue
            where = self.host.paths.volume(pod["metadata"]["uid"], source.plugin, volume["name"])
            if where.is_dir() and source.may_grow(where):
                await source.grow(self.host, pod, await resolve(self.host, pod, volume), where)

    async def tear_down_volumes(self, uid: str) -> None:
        """Unmount and remove the volumes of a pod that has ended, but keep what its containers left to say."""
        if (self.host.paths.pod(uid) / "volumes").exists() and not await self._tear_down(uid):
            raise VolumeError("a volume is not taken down")

    async def tear_down(self, uid: str) -> bool:
        """Unmount and remove everything of the pod; False if something is left (try again later).

        Works from the disk alone: the pod may be long gone from the API.
        """
        directory = self.host.paths.pod(uid)
        if not directory.exists():
            return True
        # Never remove files through a mount that is still there.
        if not await self._tear_down(uid) or mounts.unmount_below(directory):
            return False
        shutil.rmtree(directory, ignore_errors=True)
        return not directory.exists()

    async def _tear_down(self, uid: str) -> bool:
        directory = self.host.paths.pod(uid)
        by_plugin = {source.plugin.replace("/", "~"): source for source in self._sources.values()}
        volumes = directory / "volumes"
        for target in mounts.below(directory / "volume-subpaths"):
            mounts.unmount(target, lazy=True)
        if volumes.is_dir():
            for plugin in list(volumes.iterdir()):
                for where in list(plugin.iterdir()):
                    source = by_plugin.get(plugin.name)
                    try:
                        if source is not None:
                            await source.tear_down(self.host, where)
                        if mounts.unmount_below(where):
                            return False
                        shutil.rmtree(where, ignore_errors=True)
                    except (OSError, VolumeError) as error:
                        log.warning("volume %s is not taken down: %s", where, error)
                        return False
        return True

    def container_mounts(
        self, pod: Object, container: Object, volumes: Volumes, environment: dict[str, str]
    ) -> tuple[list[Object], list[Object]]:
        """CRI mounts and devices of a container's volumeMounts and volumeDevices. Raises ConfigError."""
        found = []
        uid = pod["metadata"]["uid"]
        for index, mount in enumerate(container.get("volumeMounts") or []):
            ready = volumes.ready.get(mount["name"])
            if ready is None:
                raise ConfigError(f'cannot find volume "{mount["name"]}" to mount into container "{container["name"]}"')
            target = mount["mountPath"]
            if not target.startswith("/"):
                target = "/" + target
            readonly = bool(mount.get("readOnly")) or ready.readonly
            if ready.image:
                found.append(
                    {"container_path": target, "readonly": True, "image": {"image": ready.image}}
                    | ({"image_sub_path": mount["subPath"]} if mount.get("subPath") else {})
                )
                continue
            sub = mount.get("subPath") or ""
            if mount.get("subPathExpr"):
                sub = expand(mount["subPathExpr"], environment)
            path = ready.path
            if sub:
                where = self.host.paths.subpath(uid, mount["name"], container["name"], index)
                path = _subpath(ready.path, sub, where, create=not ready.readonly)
            found.append(
                {
                    "container_path": target,
                    "host_path": str(path),
                    "readonly": readonly,
                    "propagation": PROPAGATION[mount.get("mountPropagation") or ""],
                }
            )
        devices = []
        for device in container.get("volumeDevices") or []:
            ready = volumes.ready.get(device["name"])
            if ready is None:
                raise ConfigError(f'cannot find volume "{device["name"]}" to pass into container "{container["name"]}"')
            permissions = "r" if ready.readonly else "mrw"
            devices.append(
                {"host_path": str(ready.path), "container_path": device["devicePath"], "permissions": permissions}
            )
        return found, devices


def _subpath(volume: Path, sub: str, where: Path, *, create: bool) -> Path:
    """Bind the file or directory `sub` of a volume to `where`, so that nobody can exchange it under our hands.

    Symbolic links are followed only as long as they stay in the volume. Raises ConfigError.
    """
    if sub.startswith("/") or ".." in Path(sub).parts:
        raise ConfigError(f'subPath "{sub}" must be a relative path within the volume path')
    top = os.path.realpath(volume)
    resolved = os.path.realpath(os.path.join(top, sub))
    if resolved != top and not resolved.startswith(top.rstrip("/") + "/"):
        raise ConfigError(f'failed to prepare subPath for volumeMount: subpath "{sub}" is outside of the volume')
    handle = os.open(top, os.O_PATH | os.O_DIRECTORY)
    try:
        parts = Path(os.path.relpath(resolved, top)).parts if resolved != top else ()
        mode = os.stat(top).st_mode & 0o7777
        for part in parts:
            # From here on no link is followed: whoever swaps a directory for one makes this fail, not escape.
            try:
                deeper = os.open(part, os.O_PATH | os.O_NOFOLLOW, dir_fd=handle)
            except FileNotFoundError:
                if not create:
                    raise ConfigError(f'subPath "{sub}" does not exist') from None
                os.mkdir(part, 0o750, dir_fd=handle)
                os.chmod(part, mode, dir_fd=handle)
                deeper = os.open(part, os.O_PATH | os.O_NOFOLLOW, dir_fd=handle)
            os.close(handle)
            handle = deeper
            if stat.S_ISLNK(os.fstat(handle).st_mode):  # O_PATH opens a link itself, and what mounts it would follow
                raise ConfigError(f'subPath "{sub}" has changed while it was opened')
        source = f"/proc/self/fd/{handle}"
        if os.path.islink(source) and os.readlink(source) != resolved:
            raise ConfigError(f'subPath "{sub}" has changed while it was opened')
        if mounts.is_mounted(where):
            mounts.unmount(where, lazy=True)
        where.parent.mkdir(parents=True, exist_ok=True)
        if os.path.isdir(source):
            where.mkdir(exist_ok=True)
        else:
            where.touch()
        mounts.bind(source, where)
    except OSError as error:
        raise ConfigError(f"failed to prepare subPath for volumeMount: {error}") from error
    finally:
        os.close(handle)
    return where
