"""Control groups, version 1 and 2 behind one face: make, limit, read, remove.

A group is named by its path below the root of the hierarchy (`/a/b`), the same in every controller. Limits are given
in version 1's words (shares, quota, bytes), because CRI speaks them; version 2's files are computed from them.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import signal
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

ROOT = Path("/sys/fs/cgroup")
# The controllers that the kubelet uses; a kernel without one of them goes without its limits.
WANTED = ("cpu", "cpuacct", "cpuset", "memory", "pids", "hugetlb", "blkio", "freezer", "systemd")
PERIOD_MICROSECONDS = 100_000
REMOVE_TRIES_MAX = 40


@dataclass(frozen=True)
class Limits:
    """None: leave as it is. -1: no limit."""

    cpu_shares: int | None = None
    cpu_quota: int | None = None
    memory_bytes: int | None = None
    pids: int | None = None
    cpus: str | None = None
    hugepages: tuple[tuple[str, int], ...] = ()


@dataclass(frozen=True)
class Usage:
    cpu_nanoseconds: int = 0
    memory_bytes: int = 0
    working_set_bytes: int = 0
    rss_bytes: int = 0
    page_faults: int = 0
    major_page_faults: int = 0
    pids: int = 0
    memory_limit_bytes: int = 0
    swap_bytes: int = 0


@dataclass(frozen=True)
class Details:
    """What `Usage` leaves out; -1 as a quota: none."""

    cpu_user_nanoseconds: int = 0
    cpu_system_nanoseconds: int = 0
    periods: int = 0
    throttled_periods: int = 0
    throttled_nanoseconds: int = 0
    cache_bytes: int = 0
    mapped_bytes: int = 0
    peak_bytes: int = 0
    memory_failures: int = 0
    oom_kills: int = 0
    cpu_period: int = 0
    cpu_quota: int = -1
    cpu_shares: int = 0
    pids_max: int = 0


@functools.cache
def is_unified() -> bool:
    return (ROOT / "cgroup.controllers").exists()


@functools.cache
def controllers() -> dict[str, Path]:
    """Controller -> its hierarchy's root. In version 2 all of them share one."""
    if is_unified():
        return dict.fromkeys((ROOT / "cgroup.controllers").read_text().split(), ROOT)
    return {name: ROOT / name for name in WANTED if (ROOT / name).is_dir()}


def hierarchies() -> set[Path]:
    """Every tree that groups may stand in: the runtime makes them in all, not only where we set limits."""
    if is_unified():
        return set(controllers().values())
    return {path for path in ROOT.iterdir() if path.is_dir() and not path.is_symlink()}


def shares_to_weight(shares: int) -> int:
    """cpu.shares (2..262144) as version 2's cpu.weight (1..10000)."""
    return 1 + (max(2, min(262144, shares)) - 2) * 9999 // 262142


def _write(path: Path, text: str) -> None:
    with open(path, "w") as file:
        file.write(text)


def create(group: str, limits: Limits | None = None) -> None:
    """Make the group, with those above it, in every controller. Raises OSError."""
    relative = group.strip("/")
    for base in set(controllers().values()):
        (base / relative).mkdir(parents=True, exist_ok=True)
    if is_unified():
        _delegate(relative)
    elif "cpuset" in controllers():
        _inherit_cpuset(controllers()["cpuset"], relative)
    if limits:
        apply(group, limits)


def _delegate(relative: str) -> None:
    directory = ROOT
    wanted = " ".join(
        f"+{name}" for name in controllers() if name in ("cpu", "cpuset", "memory", "pids", "io", "hugetlb")
    )
    for part in Path(relative).parts:
        with contextlib.suppress(OSError):
            _write(directory / "cgroup.subtree_control", wanted)
        directory /= part


def _inherit_cpuset(base: Path, relative: str) -> None:
    """Version 1: a new cpuset is empty, and takes no process until it is filled."""
    directory = base
    for part in Path(relative).parts:
        parent, directory = directory, directory / part
        for name in ("cpuset.cpus", "cpuset.mems"):
            with contextlib.suppress(OSError):
                if not (directory / name).read_text().strip():
                    _write(directory / name, (parent / name).read_text().strip())


def apply(group: str, limits: Limits) -> None:
    """Set the limits that are given; a file that the kernel lacks is skipped. Raises OSError for a refused value."""
    for controller, name, value in _files(limits):
        base = controllers().get(controller)
        if base is None:
            continue
        path = base / group.strip("/") / name
        if path.exists():
            _write(path, value)


def _files(limits: Limits) -> Iterable[tuple[str, str, str]]:
    unified = is_unified()
    if limits.cpu_shares is not None:
        if unified:
            yield "cpu", "cpu.weight", str(shares_to_weight(limits.cpu_shares))
        else:
            yield "cpu", "cpu.shares", str(max(2, limits.cpu_shares))
    if limits.cpu_quota is not None:
        if unified:
            quota = "max" if limits.cpu_quota < 0 else str(limits.cpu_quota)
            yield "cpu", "cpu.max", f"{quota} {PERIOD_MICROSECONDS}"
        else:
            yield "cpu", "cpu.cfs_period_us", str(PERIOD_MICROSECONDS)
            yield "cpu", "cpu.cfs_quota_us", str(limits.cpu_quota)
    if limits.memory_bytes is not None:
        if unified:
            yield "memory", "memory.max", "max" if limits.memory_bytes < 0 else str(limits.memory_bytes)
        else:
            yield "memory", "memory.limit_in_bytes", str(limits.memory_bytes)
    if limits.pids is not None:
        yield "pids", "pids.max", "max" if limits.pids < 0 else str(limits.pids)
    if limits.cpus is not None:
        yield "cpuset", "cpuset.cpus", limits.cpus
    for size, amount in limits.hugepages:
        yield "hugetlb", f"hugetlb.{size}.{'max' if unified else 'limit_in_bytes'}", str(amount)


def exists(group: str) -> bool:
    base = controllers().get("memory", ROOT)
    return (base / group.strip("/")).is_dir()


def children(group: str) -> list[str]:
    """Names of the groups right below, in any controller."""
    found: set[str] = set()
    for base in set(controllers().values()):
        with contextlib.suppress(OSError):
            found.update(entry.name for entry in os.scandir(base / group.strip("/")) if entry.is_dir())
    return sorted(found)


def members(group: str) -> set[int]:
    """Processes in the group and below it."""
    found: set[int] = set()
    for base in set(controllers().values()):
        for directory, _, _ in os.walk(base / group.strip("/")):
            with contextlib.suppress(OSError):
                found.update(map(int, Path(directory, "cgroup.procs").read_text().split()))
    return found


def _numbers(path: Path) -> dict[str, int]:
    try:
        return {k: int(v) for k, _, v in (line.partition(" ") for line in path.read_text().splitlines()) if v.isdigit()}
    except OSError:
        return {}


def _number(path: Path) -> int:
    try:
        text = path.read_text().strip()
    except OSError:
        return 0
    return int(text) if text.isdigit() else 0


def usage(group: str) -> Usage:
    """What the group uses now; zero where the kernel does not say. The working set: usage less inactive file pages."""
    relative = group.strip("/")
    if is_unified():
        at = ROOT / relative
        stat, memory = _numbers(at / "memory.stat"), _number(at / "memory.current")
        return Usage(
            cpu_nanoseconds=_numbers(at / "cpu.stat").get("usage_usec", 0) * 1000,
            memory_bytes=memory,
            working_set_bytes=max(0, memory - stat.get("inactive_file", 0)),
            rss_bytes=stat.get("anon", 0),
            page_faults=stat.get("pgfault", 0),
            major_page_faults=stat.get("pgmajfault", 0),
            pids=_number(at / "pids.current"),
            memory_limit_bytes=_number(at / "memory.max"),
            swap_bytes=_number(at / "memory.swap.current"),
        )
    bases = controllers()
    in_memory = bases.get("memory", ROOT) / relative
    stat, memory = _numbers(in_memory / "memory.stat"), _number(in_memory / "memory.usage_in_bytes")
    return Usage(
        cpu_nanoseconds=_number(bases.get("cpuacct", ROOT) / relative / "cpuacct.usage"),
        memory_bytes=memory,
        working_set_bytes=max(0, memory - stat.get("total_inactive_file", 0)),
        rss_bytes=stat.get("total_rss", 0),
        page_faults=stat.get("total_pgfault", 0),
        major_page_faults=stat.get("total_pgmajfault", 0),
        pids=_number(bases.get("pids", ROOT) / relative / "pids.current"),
        memory_limit_bytes=_number(in_memory / "memory.limit_in_bytes"),
        swap_bytes=stat.get("total_swap", 0),
    )


def weight_to_shares(weight: int) -> int:
    return 2 + (max(1, min(10000, weight)) - 1) * 262142 // 9999


def details(group: str) -> Details:
    """More of what the group uses and may use; zero where the kernel does not say."""
    return _details_unified(ROOT / group.strip("/")) if is_unified() else _details_by_controller(group.strip("/"))


def _details_unified(at: Path) -> Details:
    cpu, memory, events = (_numbers(at / name) for name in ("cpu.stat", "memory.stat", "memory.events"))
    try:
        quota, _, period = (at / "cpu.max").read_text().strip().partition(" ")
    except OSError:
        quota, period = "max", ""
    return Details(
        cpu_user_nanoseconds=cpu.get("user_usec", 0) * 1000,
        cpu_system_nanoseconds=cpu.get("system_usec", 0) * 1000,
        periods=cpu.get("nr_periods", 0),
        throttled_periods=cpu.get("nr_throttled", 0),
        throttled_nanoseconds=cpu.get("throttled_usec", 0) * 1000,
        cache_bytes=memory.get("file", 0),
        mapped_bytes=memory.get("file_mapped", 0),
        peak_bytes=_number(at / "memory.peak"),
        memory_failures=events.get("max", 0),
        oom_kills=events.get("oom_kill", 0),
        cpu_period=int(period) if period.isdigit() else 0,
        cpu_quota=int(quota) if quota.isdigit() else -1,
        cpu_shares=weight_to_shares(_number(at / "cpu.weight")),
        pids_max=_number(at / "pids.max"),
    )


def _details_by_controller(relative: str) -> Details:
    at = {name: controllers().get(name, ROOT) / relative for name in ("cpu", "cpuacct", "memory", "pids")}
    ticks = 1_000_000_000 // os.sysconf("SC_CLK_TCK")
    cpu, used, memory = _numbers(at["cpu"] / "cpu.stat"), _numbers(at["cpuacct"] / "cpuacct.stat"), at["memory"]
    stat = _numbers(memory / "memory.stat")
    return Details(
        cpu_user_nanoseconds=used.get("user", 0) * ticks,
        cpu_system_nanoseconds=used.get("system", 0) * ticks,
        periods=cpu.get("nr_periods", 0),
        throttled_periods=cpu.get("nr_throttled", 0),
        throttled_nanoseconds=cpu.get("throttled_time", 0),
        cache_bytes=stat.get("total_cache", 0),
        mapped_bytes=stat.get("total_mapped_file", 0),
        peak_bytes=_number(memory / "memory.max_usage_in_bytes"),
        memory_failures=_number(memory / "memory.failcnt"),
        oom_kills=_numbers(memory / "memory.oom_control").get("oom_kill", 0),
        cpu_period=_number(at["cpu"] / "cpu.cfs_period_us"),
        cpu_quota=_number(at["cpu"] / "cpu.cfs_quota_us") or -1,
        cpu_shares=_number(at["cpu"] / "cpu.shares"),
        pids_max=_number(at["pids"] / "pids.max"),
    )


def of_process(pid: int) -> str:
    """The group of a process (in the memory controller, where version 1 has several). Raises OSError."""
    found = ""
    for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines():
        _, names, path = line.split(":", 2)
        if (names == "" and is_unified()) or "memory" in names.split(","):
            found = path
    return found


def _remove(group: str) -> bool:
    """Remove the group and those below it, as far as they are empty. True if nothing is left."""
    gone = True
    for base in hierarchies():
        top = base / group.strip("/")
        for directory, _, _ in os.walk(top, topdown=False):
            try:
                os.rmdir(directory)
            except FileNotFoundError:
                pass
            except OSError:
                gone = False
    return gone


async def remove_tree(group: str) -> bool:
    """Kill what is in the group and remove it with all below. False if something would not go within about 2 s."""
    if not group.strip("/"):
        raise ValueError("the root group is nobody's to remove")
    for _ in range(REMOVE_TRIES_MAX):
        for pid in members(group):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        if _remove(group):
            return True
        # A killed process leaves its group a moment later, and no event tells of it in version 1.
        await asyncio.sleep(0.05)
    return False


def remove_if_empty(group: str) -> None:
    """Remove a group that nobody uses any more; one with processes or children stays."""
    for base in hierarchies():
        with contextlib.suppress(OSError):
            (base / group.lstrip("/")).rmdir()
