"""What this machine is and has, read from /proc, /sys and /etc."""

from __future__ import annotations

import functools
import os
import platform
from dataclasses import dataclass
from pathlib import Path


def _text(path: str) -> str:
    try:
        return Path(path).read_text().strip()
    except OSError:
        return ""


def memory() -> dict[str, int]:
    """/proc/meminfo in bytes."""
    found = {}
    for line in _text("/proc/meminfo").splitlines():
        name, _, rest = line.partition(":")
        words = rest.split()
        if words and words[0].isdigit():
            found[name] = int(words[0]) * (1024 if len(words) > 1 else 1)
    return found


def os_image() -> str:
    for line in _text("/etc/os-release").splitlines():
        if line.startswith("PRETTY_NAME="):
            return line.partition("=")[2].strip('"')
    return "Linux"


def machine_id() -> str:
    return _text("/etc/machine-id") or _text("/var/lib/dbus/machine-id")


def boot_id() -> str:
    return _text("/proc/sys/kernel/random/boot_id")


def system_uuid() -> str:
    return _text("/sys/class/dmi/id/product_uuid") or machine_id()


def pids_max() -> int:
    return min(int(_text("/proc/sys/kernel/pid_max") or 32768), int(_text("/proc/sys/kernel/threads-max") or 1 << 22))


def processes() -> int:
    """Threads of the whole machine: what the pid limit is about."""
    words = _text("/proc/loadavg").split()
    return int(words[3].partition("/")[2]) if len(words) > 3 else 0


def hugepages() -> dict[str, int]:
    """Size as Kubernetes writes it (`2Mi`) -> bytes that are set aside."""
    found = {}
    try:
        entries = list(os.scandir("/sys/kernel/mm/hugepages"))
    except OSError:
        return {}
    for entry in entries:
        kilobytes = int(entry.name.removeprefix("hugepages-").removesuffix("kB"))
        size = f"{kilobytes // 1024}Mi" if kilobytes < 1 << 20 else f"{kilobytes >> 20}Gi"
        found[size] = int(_text(f"{entry.path}/nr_hugepages") or 0) * kilobytes * 1024
    return found


@dataclass(frozen=True)
class Disk:
    capacity: int
    available: int
    inodes: int
    inodes_free: int

    @property
    def used(self) -> int:
        return self.capacity - self.available


def disk(path: str | os.PathLike[str]) -> Disk:
    """Of the file system that holds `path`, or the nearest directory above that exists."""
    at = Path(path)
    while not at.exists():
        at = at.parent
    found = os.statvfs(at)
    return Disk(found.f_blocks * found.f_frsize, found.f_bavail * found.f_frsize, found.f_files, found.f_favail)


def cpus() -> int:
    return os.cpu_count() or 1


def kernel() -> str:
    return platform.release()


@functools.cache
def has_apparmor() -> bool:
    return _text("/sys/module/apparmor/parameters/enabled").startswith("Y")


def swap_bytes() -> int:
    """All swap that is switched on."""
    return sum(int(line.split()[2]) * 1024 for line in _text("/proc/swaps").splitlines()[1:])


def default_address() -> str:
    """The address of the interface that leads out, without sending anything; the loopback's if there is none."""
    import socket

    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("203.0.113.1", 9))
            return str(probe.getsockname()[0])
        except OSError:
            return "127.0.0.1"
