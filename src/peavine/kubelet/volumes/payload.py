"""Files that change all at once: a new directory is filled, then a symbolic link is moved over to it.

The layout is upstream's AtomicWriter: `..<time>` holds the files, `..data` links to it, and each visible name links
through `..data`. Readers see the old state or the new one, never a mixture.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

DATA = "..data"
PAYLOAD_BYTES_MAX = 32 << 20


class File(NamedTuple):
    content: bytes
    mode: int
    # The owner, if it is not root's.
    user: int | None = None


def write(directory: Path, files: Mapping[str, File], group: int | None = None) -> bool:
    """Make `files` (relative path -> File) the content of `directory`. False if it was so already.

    With `group`, files and directories belong to it and are readable for it. Raises ValueError for a path that
    would leave the directory.
    """
    for path in files:
        if path.startswith("/") or ".." in Path(path).parts or Path(path).parts[0].startswith(".."):
            raise ValueError(f"invalid path in a volume: {path!r}")
    if sum(len(file.content) for file in files.values()) > PAYLOAD_BYTES_MAX:
        raise ValueError("the files of the volume are too big")
    data = directory / DATA
    old = os.readlink(data) if data.is_symlink() else None
    if old is not None and _same(directory / old, files, group):
        return False
    name = time.strftime("..%Y_%m_%d_%H_%M_%S.") + f"{time.monotonic_ns() % 10**10}"
    fresh = directory / name
    fresh.mkdir(mode=0o755)
    for path, file in files.items():
        target = fresh / path
        target.parent.mkdir(parents=True, exist_ok=True)
        mode = file.mode | (0o440 & ~0o7 if group is not None else 0)
        handle = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            with os.fdopen(handle, "wb", closefd=False) as out:
                out.write(file.content)
            if group is not None or file.user is not None:
                os.fchown(handle, -1 if file.user is None else file.user, -1 if group is None else group)
            os.fchmod(handle, mode)
        finally:
            os.close(handle)
    for path, _, _ in os.walk(fresh):
        os.chmod(path, 0o755)
        if group is not None:
            os.chown(path, -1, group)
            os.chmod(path, 0o2775)
    link = directory / "..data_tmp"
    link.unlink(missing_ok=True)
    link.symlink_to(name)
    link.replace(data)
    _link_names(directory, files)
    if old is not None:
        shutil.rmtree(directory / old, ignore_errors=True)
    return True


def _link_names(directory: Path, files: Mapping[str, File]) -> None:
    wanted = {Path(path).parts[0] for path in files}
    for entry in directory.iterdir():
        if entry.is_symlink() and not entry.name.startswith("..") and entry.name not in wanted:
            entry.unlink()
    for name in wanted:
        link = directory / name
        if not link.is_symlink():
            link.symlink_to(f"{DATA}/{name}")


def _same(directory: Path, files: Mapping[str, File], group: int | None) -> bool:
    found = {}
    for path, _, names in os.walk(directory):
        for name in names:
            full = Path(path, name)
            found[str(full.relative_to(directory))] = full
    if found.keys() != files.keys():
        return False
    for name, full in found.items():
        stat = full.stat()
        wanted = files[name].mode | (0o440 if group is not None else 0)
        if stat.st_mode & 0o777 != wanted & 0o777 or stat.st_size != len(files[name].content):
            return False
        if group is not None and stat.st_gid != group:
            return False
        if full.read_bytes() != files[name].content:
            return False
    return True
