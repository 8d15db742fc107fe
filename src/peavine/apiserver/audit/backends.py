"""Where audit events go: a file that rotates, a webhook that is sent batches."""

from __future__ import annotations

import asyncio
import glob
import logging
import os
import time
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import orjson

from peavine.base.clock import REAL, Clock, wait_until

log = logging.getLogger(__name__)

MIB = 1 << 20
BATCH_EVENTS_MAX, BUFFER_EVENTS_MAX, BATCH_SECONDS_MAX = 400, 10_000, 30.0
RETRIES_MAX, RETRY_SECONDS = 4, 1.0


class Backend(Protocol):
    def write(self, event: dict[str, Any]) -> None:
        """Take one event; must not block for long and must not raise."""
        ...

    def close(self) -> None: ...


class LogFile:
    """One JSON object a line; rotated by size, old files removed by age and number. Private to its owner."""

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        size_mib_max: int = 100,
        backups_max: int = 10,
        age_days_max: int = 30,
        clock: Clock = REAL,
    ) -> None:
        self.path, self.clock = Path(path), clock
        self.size_max, self.backups_max, self.age_days_max = size_mib_max * MIB, backups_max, age_days_max
        self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._lines: list[bytes] = []
        self._open()

    def _open(self) -> None:
        handle = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        self._file = os.fdopen(handle, "ab", buffering=0)
        self._size = os.fstat(handle).st_size

    def write(self, event: dict[str, Any]) -> None:
        """Written at the end of the loop's turn, together with what else is written down then: a moment before or after
        the answer reaches the client."""
        self._lines.append(orjson.dumps(event) + b"\n")
        if len(self._lines) == 1:
            try:
                asyncio.get_running_loop().call_soon(self.flush)
            except RuntimeError:  # no loop: nothing to wait for
                self.flush()

    def flush(self) -> None:
        lines, self._lines = self._lines, []
        try:
            if self.size_max and self._size + sum(map(len, lines)) > self.size_max:
                for line in lines:
                    if self._size and self._size + len(line) > self.size_max:
                        self.rotate()
                    self._write(line)
            elif lines:
                self._write(b"".join(lines))
        except OSError as error:
            log.error("audit events lost: %s: %s", self.path, error)

    def _write(self, data: bytes) -> None:
        self._file.write(data)
        self._size += len(data)

    def rotate(self) -> None:
        self._file.close()
        stamp = time.strftime("%Y-%m-%dT%H-%M-%S", time.gmtime(self.clock.time()))
        target = self._backup(stamp)
        os.rename(self.path, target)
        self._open()
        self._prune()

    def _backup(self, stamp: str) -> Path:
        for number in range(1000):
            found = self.path.with_name(f"{self.path.stem}-{stamp}.{number:03}{self.path.suffix}")
            if not found.exists():
                return found
        raise OSError("too many rotations in one second")

    def _prune(self) -> None:
        pattern = glob.escape(str(self.path.with_suffix(""))) + "-*" + glob.escape(self.path.suffix)
        backups = sorted(glob.glob(pattern), reverse=True)
        oldest = self.clock.time() - self.age_days_max * 86400
        for position, backup in enumerate(backups):
            too_many = self.backups_max and position >= self.backups_max
            if too_many or (self.age_days_max and os.stat(backup).st_mtime < oldest):
                os.unlink(backup)

    def close(self) -> None:
        self.flush()
        self._file.close()


class Sender(Protocol):
    async def post(self, body: bytes) -> int:
        """Send a JSON body; the HTTP status. Raises ConnectionError."""
        ...


class Webhook:
    """Sends EventLists in batches. `run()` belongs in the server's scope. Full, it drops events and says so."""

    def __init__(self, sender: Sender, clock: Clock = REAL) -> None:
        self.sender, self.clock = sender, clock
        self.dropped = 0
        self._events: deque[dict[str, Any]] = deque()
        self._woken = asyncio.Event()

    def write(self, event: dict[str, Any]) -> None:
        if len(self._events) >= BUFFER_EVENTS_MAX:
            self.dropped += 1
            if self.dropped % 1000 == 1:
                log.error("audit webhook does not keep up: %d events lost so far", self.dropped)
            return
        self._events.append(event)
        if len(self._events) >= BATCH_EVENTS_MAX:
            self._woken.set()

    async def run(self) -> None:
        while True:
            self._woken.clear()
            await wait_until(self._woken.wait(), BATCH_SECONDS_MAX, self.clock)
            while self._events:
                batch = [self._events.popleft() for _ in range(min(len(self._events), BATCH_EVENTS_MAX))]
                await self._send(batch)

    async def _send(self, batch: Sequence[dict[str, Any]]) -> None:
        body = orjson.dumps({"kind": "EventList", "apiVersion": "audit.k8s.io/v1", "metadata": {}, "items": batch})
        problem = ""
        for attempt in range(RETRIES_MAX):
            try:
                status = await self.sender.post(body)
                if status < 300:
                    return
                problem = f"HTTP {status}"
            except ConnectionError as error:
                problem = str(error)
            await self.clock.sleep(RETRY_SECONDS * 2**attempt)
        log.error("audit webhook: %d events lost: %s", len(batch), problem)

    def close(self) -> None:
        return
