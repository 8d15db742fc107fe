"""Control groups, mounts, processes: the doors that the kubelet uses."""

from __future__ import annotations

import asyncio
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from peavine.linux import cgroups, inotify, mounts, processes


@pytest.fixture
def unified(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A directory that looks like version 2's hierarchy."""
    (tmp_path / "cgroup.controllers").write_text("cpu cpuset memory pids io hugetlb\n")
    (tmp_path / "cgroup.subtree_control").write_text("")
    monkeypatch.setattr(cgroups, "ROOT", tmp_path)
    _forget()
    yield tmp_path
    _forget()


def _forget() -> None:
    for function in (cgroups.is_unified, cgroups.controllers, getattr(cgroups, "hierarchies", None)):
        clear = getattr(function, "cache_clear", None)
        if clear is not None:
            clear()


def test_limits_are_written_in_version_twos_words(unified: Path) -> None:
    cgroups.create("/a/b")
    group = unified / "a" / "b"
    for name in ("cpu.weight", "cpu.max", "memory.max", "pids.max"):
        (group / name).touch()
    cgroups.apply("/a/b", cgroups.Limits(cpu_shares=1024, cpu_quota=50_000, memory_bytes=-1, pids=7))
    read = {name: (group / name).read_text() for name in ("cpu.weight", "cpu.max", "memory.max", "pids.max")}
    assert read == {"cpu.weight": "39", "cpu.max": "50000 100000", "memory.max": "max", "pids.max": "7"}
    assert "+memory" in (unified / "cgroup.subtree_control").read_text()


def test_usage_is_read_from_version_twos_files(unified: Path) -> None:
    group = unified / "g"
    group.mkdir()
    (group / "memory.current").write_text("1000\n")
    (group / "memory.stat").write_text("anon 600\ninactive_file 100\npgfault 5\n")
    (group / "cpu.stat").write_text("usage_usec 42\n")
    (group / "pids.current").write_text("3\n")
    (group / "memory.max").write_text("max\n")
    found = cgroups.usage("/g")
    assert (found.cpu_nanoseconds, found.memory_bytes, found.working_set_bytes) == (42_000, 1000, 900)
    assert (found.rss_bytes, found.page_faults, found.pids, found.memory_limit_bytes) == (600, 5, 3, 0)


def test_shares_become_weights() -> None:
    assert [cgroups.shares_to_weight(s) for s in (2, 1024, 262_144)] == [1, 39, 10_000]


@pytest.mark.root
def test_a_group_holds_processes_and_is_removed_with_them() -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root")
    group = f"/peavine-test-{os.getpid()}"
    cgroups.create(f"{group}/inner", cgroups.Limits(memory_bytes=64 << 20, pids=10))
    sleeper = subprocess.Popen(["sleep", "1000"])
    try:
        base = cgroups.controllers()["memory"]
        (base / group.strip("/") / "inner" / "cgroup.procs").write_text(str(sleeper.pid))
        assert cgroups.of_process(sleeper.pid) == f"{group}/inner"
        assert sleeper.pid in cgroups.members(group)
        assert cgroups.usage(f"{group}/inner").memory_limit_bytes == 64 << 20
        assert cgroups.children(group) == ["inner"]
    finally:
        removed = asyncio.run(cgroups.remove_tree(group))
        sleeper.wait(5)
    assert removed and not cgroups.exists(group)


@pytest.mark.root
def test_mounts_are_seen_and_taken_away_newest_first(tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root")
    source, target = tmp_path / "a b", tmp_path / "target"
    source.mkdir()
    target.mkdir()
    (source / "f").write_text("x")
    mounts.mount("tmpfs", target, "tmpfs", options="size=1m")
    (target / "deep").mkdir()
    mounts.bind(source, target / "deep", readonly=True)
    assert mounts.is_mounted(target) and mounts.is_mounted(target / "deep") and not mounts.is_mounted(source)
    with pytest.raises(OSError, match="Read-only"):
        (target / "deep" / "f").write_text("y")
    (tmp_path / "link").symlink_to(target)
    assert mounts.below(tmp_path / "link") == [str(target / "deep"), str(target)]
    assert mounts.unmount_below(target) == [] and not mounts.is_mounted(target)


def soon(check: Callable[[], bool], seconds: float = 5.0) -> bool:
    deadline = time.monotonic() + seconds
    while not (result := check()) and time.monotonic() < deadline:
        time.sleep(0.01)
    return result


def test_a_process_is_ended_even_if_it_is_nobodys_child_and_deaf() -> None:
    deaf = subprocess.Popen(["sh", "-c", "trap '' TERM; while true; do sleep 0.05; done"])
    try:
        # Other tests' processes come and go while /proc is read: a look may miss one and is taken again.
        assert soon(lambda: any(pid == deaf.pid for pid, _ in processes.commands()))
        assert processes.is_running(deaf.pid)
        asyncio.run(processes.end(deaf.pid, seconds=0.2))
        assert soon(lambda: not processes.is_running(deaf.pid))
    finally:
        deaf.kill()
        deaf.wait()


def test_descendants_are_found() -> None:
    parent = subprocess.Popen(["sh", "-c", "sleep 1000 & wait"], start_new_session=True)
    try:

        async def look() -> list[int]:
            async with asyncio.timeout(5):
                while not (found := processes.descendants(parent.pid)):
                    await asyncio.sleep(0.01)
            return found

        (child,) = asyncio.run(look())
        os.kill(child, 9)
    finally:
        parent.kill()
        parent.wait()


def test_a_change_in_a_directory_is_told(tmp_path: Path) -> None:
    async def scenario() -> None:
        seen = 0
        changes = inotify.changes(tmp_path)
        async with asyncio.timeout(5):
            first = asyncio.ensure_future(anext(changes))
            await asyncio.sleep(0)
            (tmp_path / "new").write_text("x")
            await first
            seen += 1
        await changes.aclose()
        assert seen == 1

    asyncio.run(scenario())
