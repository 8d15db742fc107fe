"""Changes in directories, told by the kernel."""

from __future__ import annotations

import asyncio
import ctypes
import os
from collections.abc import AsyncIterator
from pathlib import Path

_IN_MODIFY, _IN_MOVED, _IN_CREATE, _IN_DELETE, _IN_CLOSE_WRITE = 2, 0xC0, 0x100, 0x200, 8
_IN_NONBLOCK, _IN_CLOEXEC = 0o4000, 0o2000000


async def changes(directory: str | Path) -> AsyncIterator[None]:
    """Yields after anything in the directory (not below) has changed; several changes may come as one.

    Raises OSError if the directory cannot be watched. Ends by cancellation.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    handle = libc.inotify_init1(_IN_NONBLOCK | _IN_CLOEXEC)
    if handle < 0:
        raise OSError(ctypes.get_errno(), "inotify_init1")
    loop = asyncio.get_running_loop()
    changed = asyncio.Event()
    try:
        mask = _IN_CLOSE_WRITE | _IN_MOVED | _IN_CREATE | _IN_DELETE
        if libc.inotify_add_watch(handle, os.fsencode(directory), mask) < 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number), str(directory))
        loop.add_reader(handle, changed.set)
        while True:
            await changed.wait()
            try:
                while os.read(handle, 65536):
                    continue
            except BlockingIOError:
                changed.clear()
            yield
    finally:
        loop.remove_reader(handle)
        os.close(handle)
