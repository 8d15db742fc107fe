"""NFS volumes, mounted with the host's own helper, and how helpers are run."""

# ruff: noqa: ASYNC240 -- local files: shorter than a thread switch
from __future__ import annotations

import asyncio
import shutil
from pathlib import Path
from typing import Any

from peavine.kubelet.volumes.source import Ready, VolumeError, VolumeHost
from peavine.linux import mounts

Object = dict[str, Any]
HELPER_SECONDS_MAX = 120.0


async def run_helper(*command: str, secret: str = "") -> str:
    """Run a program of the host to its end. Raises VolumeError with what it says, but never with the `secret` word."""
    if shutil.which(command[0]) is None:
        raise VolumeError(f"{command[0]} is not on this node")
    process = await asyncio.create_subprocess_exec(
        *command, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    try:
        async with asyncio.timeout(HELPER_SECONDS_MAX):
            out, _ = await process.communicate()
    except TimeoutError:
        process.kill()
        raise VolumeError(f"{command[0]} did not end in {HELPER_SECONDS_MAX:.0f} s") from None
    text = out.decode("utf-8", "replace").strip()
    if process.returncode:
        shown = " ".join("***" if secret and word == secret else word for word in command)
        raise VolumeError(f"{shown}: {text or f'exit status {process.returncode}'}")
    return text


class Nfs:
    plugin = "kubernetes.io/nfs"

    async def set_up(self, host: VolumeHost, pod: Object, volume: Object, where: Path) -> Ready:
        spec = volume["nfs"]
        readonly = bool(spec.get("readOnly") or volume.get("readOnly"))
        if not mounts.is_mounted(where):
            if shutil.which("mount.nfs") is None:
                raise VolumeError("mount.nfs is not on this node (Debian package nfs-common)")
            where.mkdir(parents=True, exist_ok=True)
            options = [*(volume.get("mountOptions") or []), *(["ro"] if readonly else [])]
            source = f"{spec['server']}:{spec['path']}"
            flags = ["-o", ",".join(options)] if options else []
            await run_helper("mount", "-t", "nfs", *flags, source, str(where))
        return Ready(where, readonly=readonly)

    async def tear_down(self, host: VolumeHost, where: Path) -> None:
        if mounts.is_mounted(where):
            mounts.unmount(where)
