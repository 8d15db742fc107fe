"""Network namespaces: named ones as `ip netns` keeps them, and running a piece of code inside one.

`setns` moves the calling thread: sockets opened and programs started meanwhile belong to the namespace for ever,
so a caller opens its sockets inside and uses them anywhere.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
from collections.abc import Iterator

from peavine.linux import programs

_CLONE_NEWNET = 0x40000000
NAMED = "/var/run/netns"


def create(name: str) -> None:
    programs.run(["ip", "netns", "add", name])


def remove(name: str) -> None:
    """A namespace that is not there is no error."""
    if os.path.exists(f"{NAMED}/{name}"):
        programs.run(["ip", "netns", "delete", name])


def names() -> set[str]:
    """The named namespaces of this machine. A name whose namespace is not mounted does not count."""
    found = set()
    with contextlib.suppress(FileNotFoundError):
        found = {entry.name for entry in os.scandir(NAMED) if os.path.ismount(entry.path)}
    return found


def identity(name: str) -> int:
    """The inode number of a named namespace, which its processes share; 0 if there is none."""
    try:
        return os.stat(f"{NAMED}/{name}").st_ino
    except FileNotFoundError:
        return 0


def members(identity: int) -> list[int]:
    """The processes in a network namespace."""
    found = []
    for entry in os.scandir("/proc"):
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                if os.stat(f"{entry.path}/ns/net").st_ino == identity:
                    found.append(int(entry.name))
    return found


@contextlib.contextmanager
def inside(name_or_path: str) -> Iterator[None]:
    """The calling thread is in this network namespace for the duration of the block."""
    path = name_or_path if "/" in name_or_path else f"{NAMED}/{name_or_path}"
    libc = ctypes.CDLL(None, use_errno=True)
    home = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        there = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            _enter(libc, there)
        finally:
            os.close(there)
        try:
            yield
        finally:
            _enter(libc, home)
    finally:
        os.close(home)


def _enter(libc: ctypes.CDLL, descriptor: int) -> None:
    if libc.setns(descriptor, _CLONE_NEWNET) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
