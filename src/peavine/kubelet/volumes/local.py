"""emptyDir, hostPath, local, image: volumes that the node itself provides."""

# ruff: noqa: ASYNC240 -- local files: shorter than a thread switch
from __future__ import annotations

import os
import shutil
import stat
from pathlib import Path
from typing import Any

from peavine.kubelet.volumes.objects import fs_group
from peavine.kubelet.volumes.source import Ready, VolumeError, VolumeHost
from peavine.linux import mounts
from peavine.machinery.quantity import parse_quantity

Object = dict[str, Any]


class EmptyDir:
    """A directory of the pod's own; in memory with `medium: Memory`, bounded there by its size limit."""

    plugin = "kubernetes.io/empty-dir"

    async def set_up(self, host: VolumeHost, pod: Object, volume: Object, where: Path) -> Ready:
        spec = volume["emptyDir"] or {}
        medium = spec.get("medium") or ""
        fresh = not where.exists()
        where.mkdir(parents=True, exist_ok=True)
        if medium == "Memory" and not mounts.is_mounted(where):
            mounts.mount("tmpfs", where, "tmpfs", options=_tmpfs_options(pod, spec))
            fresh = True
        elif medium.startswith("HugePages") and not mounts.is_mounted(where):
            size = medium.partition("-")[2]
            options = f"pagesize={size.replace('Mi', 'M').replace('Gi', 'G')}" if size else ""
            mounts.mount("nodev", where, "hugetlbfs", options=options)
        elif medium not in ("", "Memory") and not medium.startswith("HugePages"):
            raise VolumeError(f'unknown storage medium "{medium}"')
        if fresh:
            os.chmod(where, 0o777)
            group = fs_group(pod)
            if group is not None:
                os.chown(where, -1, group)
                os.chmod(where, 0o2777)
        return Ready(where)

    async def tear_down(self, host: VolumeHost, where: Path) -> None:
        if mounts.is_mounted(where):
            mounts.unmount(where)
        shutil.rmtree(where, ignore_errors=True)


def _tmpfs_options(pod: Object, spec: Object) -> str:
    """The size: the volume's limit, bounded by the memory limits of the pod's containers."""
    bounds = []
    if spec.get("sizeLimit"):
        bounds.append(parse_quantity(spec["sizeLimit"]).value())
    containers = (pod.get("spec") or {}).get("containers") or []
    limits = [((c.get("resources") or {}).get("limits") or {}).get("memory") for c in containers]
    if limits and all(limits):
        bounds.append(sum(parse_quantity(limit).value() for limit in limits if limit))
    bounds = [bound for bound in bounds if bound > 0]
    return f"size={min(bounds)}" if bounds else ""


_KINDS = {
    "Directory": (stat.S_ISDIR, "directory"),
    "File": (stat.S_ISREG, "file"),
    "Socket": (stat.S_ISSOCK, "socket"),
    "CharDevice": (stat.S_ISCHR, "character device"),
    "BlockDevice": (stat.S_ISBLK, "block device"),
}


class HostPath:
    """A path of the node itself; `type` says what must be there, or what to make."""

    plugin = "kubernetes.io/host-path"

    async def set_up(self, host: VolumeHost, pod: Object, volume: Object, where: Path) -> Ready:
        spec = volume["hostPath"]
        path, kind = Path(spec["path"]), spec.get("type") or ""
        if kind == "DirectoryOrCreate" and not path.exists():
            path.mkdir(parents=True, mode=0o755)
        elif kind == "FileOrCreate" and not path.exists():
            path.touch(mode=0o644)
        wanted = kind.removesuffix("OrCreate")
        if wanted:
            test, words = _KINDS[wanted]
            if not path.exists() or not test(path.stat().st_mode):
                raise VolumeError(f"hostPath type check failed: {path} is not a {words}")
        return Ready(path, device=bool(volume.get("block")))

    async def tear_down(self, host: VolumeHost, where: Path) -> None:
        """What the node provides stays."""


class Local:
    """A disk or directory of this node that a PersistentVolume names."""

    plugin = "kubernetes.io/local-volume"

    async def set_up(self, host: VolumeHost, pod: Object, volume: Object, where: Path) -> Ready:
        path = Path(volume["local"]["path"])
        if not path.exists():
            raise VolumeError(f'path "{path}" does not exist')
        if volume.get("block"):
            return Ready(path, device=True)
        where.mkdir(parents=True, exist_ok=True)
        if not mounts.is_mounted(where):
            if stat.S_ISBLK(path.stat().st_mode):
                mounts.mount(str(path), where, volume["local"].get("fsType") or "ext4")
            else:
                mounts.bind(path, where)
        if not volume.get("readOnly"):
            own(where, pod)
        return Ready(where, readonly=bool(volume.get("readOnly")))

    async def tear_down(self, host: VolumeHost, where: Path) -> None:
        if mounts.is_mounted(where):
            mounts.unmount(where)


def own(where: Path, pod: Object) -> None:
    """Give a volume to the pod's fsGroup: all of it, or (OnRootMismatch) nothing if its root is right already."""
    group = fs_group(pod)
    if group is None:
        return
    policy = ((pod.get("spec") or {}).get("securityContext") or {}).get("fsGroupChangePolicy")
    root = where.stat()
    if policy == "OnRootMismatch" and root.st_gid == group and root.st_mode & 0o2070 == 0o2070:
        return
    for directory, _, files in os.walk(where, topdown=False):
        for name in files:
            path = os.path.join(directory, name)
            os.lchown(path, -1, group)
            if not os.path.islink(path):
                os.chmod(path, os.stat(path).st_mode | 0o660)
        os.chown(directory, -1, group)
        os.chmod(directory, os.stat(directory).st_mode | 0o2770)


class Image:
    """The files of an image; the runtime mounts them."""

    plugin = "kubernetes.io/image"

    async def set_up(self, host: VolumeHost, pod: Object, volume: Object, where: Path) -> Ready:
        spec = volume["image"]
        assert host.ensure_image is not None
        reference = await host.ensure_image(pod, spec.get("reference", ""), spec.get("pullPolicy") or "")
        return Ready(where, readonly=True, image=reference)

    async def tear_down(self, host: VolumeHost, where: Path) -> None:
        """The runtime's own."""
