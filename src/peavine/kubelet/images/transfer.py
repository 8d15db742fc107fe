"""Archives into a runtime: CRI has no import, so containerd's own client does it."""

from __future__ import annotations

import asyncio
import os
import shutil
import tempfile
from pathlib import Path

NAMESPACE = "k8s.io"


class TransferError(Exception):
    """The import or export failed; the message is containerd's."""


async def _ctr(endpoint: str, *arguments: str) -> str:
    program = shutil.which("ctr")
    if program is None:
        raise TransferError("ctr is not on this machine (Debian package containerd)")
    address = endpoint.removeprefix("unix://")
    process = await asyncio.create_subprocess_exec(
        program,
        "--address",
        address,
        "--namespace",
        NAMESPACE,
        *arguments,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await process.communicate()
    if process.returncode:
        raise TransferError(err.decode("utf-8", "replace").strip() or f"ctr ended with {process.returncode}")
    return out.decode("utf-8", "replace")


async def import_archive(endpoint: str, path: str | os.PathLike[str]) -> list[str]:
    """Import an OCI layout or docker archive and unpack it; returns the names of the images. Raises TransferError."""
    out = await _ctr(endpoint, "images", "import", "--snapshotter", "overlayfs", str(path))
    names = []
    for line in out.splitlines():
        words = line.split()
        if len(words) > 1 and words[0] == "unpacking":
            names.append(words[1])
    return names


async def import_bytes(endpoint: str, archive: bytes) -> list[str]:
    with tempfile.NamedTemporaryFile(suffix=".tar") as file:
        file.write(archive)
        file.flush()
        return await import_archive(endpoint, Path(file.name))
