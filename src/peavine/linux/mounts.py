"""Mounts: the system calls, and the table of what is mounted."""

from __future__ import annotations

import ctypes
import functools
import os
import re
from pathlib import Path
from typing import NamedTuple

MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC, MS_REMOUNT = 1, 2, 4, 8, 32
MS_BIND, MS_REC, MS_PRIVATE, MS_SLAVE, MS_SHARED = 4096, 16384, 1 << 18, 1 << 19, 1 << 20
MNT_DETACH, UMOUNT_NOFOLLOW = 2, 8


class Mount(NamedTuple):
    target: str
    type: str
    source: str
    options: str
    # Options of the file system itself (`size=…` of a tmpfs), and the propagation fields (`shared:1`).
    super_options: str
    propagation: str
    root: str


@functools.cache
def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _check(result: int, what: str) -> None:
    if result:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), what)


def mount(source: str, target: str | Path, type: str = "", flags: int = 0, options: str = "") -> None:
    """mount(2). Raises OSError."""
    result = _libc().mount(
        os.fsencode(source), os.fsencode(target), type.encode() or None, ctypes.c_ulong(flags), options.encode() or None
    )
    _check(result, str(target))


def bind(source: str | Path, target: str | Path, *, readonly: bool = False, recursive: bool = True) -> None:
    """Show `source` at `target` too; a read-only bind needs a second call, as mount(8) does it."""
    mount(str(source), target, flags=MS_BIND | (MS_REC if recursive else 0))
    if readonly:
        mount("", target, flags=MS_BIND | MS_REMOUNT | MS_RDONLY)


def unmount(target: str | Path, *, lazy: bool = False) -> None:
    """umount2(2), never following a symbolic link. Raises OSError."""
    flags = UMOUNT_NOFOLLOW | (MNT_DETACH if lazy else 0)
    _check(_libc().umount2(os.fsencode(target), ctypes.c_int(flags)), str(target))


def _unescape(text: str) -> str:
    return re.sub(r"\\([0-7]{3})", lambda found: chr(int(found[1], 8)), text)


def table(path: str = "/proc/self/mountinfo") -> list[Mount]:
    """What is mounted in this mount namespace, in order of mounting."""
    found = []
    with open(path, encoding="utf-8", errors="surrogateescape") as lines:
        for line in lines:
            left, _, right = line.rstrip("\n").partition(" - ")
            fields, rest = left.split(" "), right.split(" ")
            found.append(
                Mount(
                    target=_unescape(fields[4]),
                    type=rest[0],
                    source=_unescape(rest[1]),
                    options=fields[5],
                    super_options=rest[2] if len(rest) > 2 else "",
                    propagation=" ".join(fields[6:]),
                    root=_unescape(fields[3]),
                )
            )
    return found


def is_mounted(target: str | Path) -> bool:
    """Whether something is mounted right at `target` (links above it are followed, the last name is not)."""
    path = os.path.join(os.path.realpath(os.path.dirname(target)), os.path.basename(target))
    return any(entry.target == path for entry in table())


def below(directory: str | Path) -> list[str]:
    """Mount points at or below `directory`, the newest first: the order in which they can be unmounted."""
    top = os.path.realpath(directory)
    return [m.target for m in reversed(table()) if m.target == top or m.target.startswith(top.rstrip("/") + "/")]


def unmount_below(directory: str | Path) -> list[str]:
    """Unmount everything at or below `directory`; busy ones are detached. Returns what could not be."""
    left = []
    for target in below(directory):
        try:
            unmount(target)
        except OSError:
            try:
                unmount(target, lazy=True)
            except OSError:
                left.append(target)
    return left
