"""Processes of this machine, read from /proc: command lines, children, and a patient end."""

from __future__ import annotations

import asyncio
import os
import signal
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path


def commands() -> Iterator[tuple[int, list[str]]]:
    """(pid, command line) of every process that has one; those that end meanwhile are left out."""
    for entry in os.scandir("/proc"):
        if entry.name.isdigit():
            try:
                line = Path(entry.path, "cmdline").read_bytes()
            except OSError:
                continue
            if line:
                yield int(entry.name), [word.decode("utf-8", "replace") for word in line.rstrip(b"\0").split(b"\0")]


def descendants(pid: int) -> list[int]:
    """Everything below `pid`, children before grandchildren."""
    children = defaultdict(list)
    for entry in os.scandir("/proc"):
        if entry.name.isdigit():
            try:
                stat = Path(entry.path, "stat").read_text()
            except OSError:
                continue
            children[int(stat.rpartition(")")[2].split()[1])].append(int(entry.name))
    found = list(children[pid])
    for child in found:
        found.extend(children[child])
    return found


def is_running(pid: int) -> bool:
    """False for what is gone and for a zombie, which only waits to be reaped."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


async def end(pid: int, *, seconds: float) -> None:
    """SIGTERM, and SIGKILL if it still runs after `seconds`. Returns once it has ended; works on non-children."""
    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    # A pidfd becomes readable when the process ends, whoever its parent is.
    loop.add_reader(handle, ended.set)
    try:
        for number, patience in ((signal.SIGTERM, seconds), (signal.SIGKILL, 10.0)):
            if not is_running(pid):
                return
            try:
                signal.pidfd_send_signal(handle, number)
            except ProcessLookupError:
                return
            try:
                async with asyncio.timeout(patience):
                    await ended.wait()
                return
            except TimeoutError:
                continue
    finally:
        loop.remove_reader(handle)
        os.close(handle)
