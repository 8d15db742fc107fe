"""HAProxy as a child: started, reloaded without losing a connection, changed at run time through its socket.

The master process listens for SIGUSR2, starts a worker with the new configuration and hands it the listening sockets;
the old worker ends when its connections have. A crash of this program leaves HAProxy serving: the next one adopts it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import shutil
import signal
import socket
from collections.abc import Iterable
from pathlib import Path

log = logging.getLogger(__name__)

PROGRAM = "haproxy"
ready_seconds = 15.0
answer_seconds = 10.0
# One line of the runtime API must fit HAProxy's buffer (16 KB).
commands_bytes_max = 12_000


class HAProxyError(Exception):
    """HAProxy refused or did not answer; the text is its own."""


def program() -> str | None:
    return shutil.which(PROGRAM, path="/usr/local/sbin:/usr/sbin:/usr/local/bin:/usr/bin")


class HAProxy:
    """`run_dir` holds configuration, sockets, and the pid of the master."""

    def __init__(self, run_dir: Path) -> None:
        self.config = run_dir / "haproxy.cfg"
        self._socket = run_dir / "stats.sock"
        self._pid_file = run_dir / "haproxy.pid"
        self._notify_path = run_dir / "notify.sock"
        self._notify: socket.socket | None = None
        self._pid = 0
        self._process: asyncio.subprocess.Process | None = None
        self.reloads = 0

    @property
    def running(self) -> bool:
        return self._pid != 0

    async def check(self, config: Path) -> None:
        """Raises HAProxyError with HAProxy's complaint."""
        found = program()
        assert found is not None
        process = await asyncio.create_subprocess_exec(
            found, "-c", "-f", str(config), stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE
        )
        _, words = await process.communicate()
        if process.returncode:
            alerts = [line for line in words.decode(errors="replace").splitlines() if line.startswith("[ALERT]")]
            raise HAProxyError("\n".join(alerts))

    async def load(self) -> None:
        """Start with the configuration file, or reload it; returns when the new worker serves."""
        if self._notify is None:
            self._notify_path.unlink(missing_ok=True)
            self._notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
            self._notify.bind(str(self._notify_path))
        if not self._pid:
            self._pid = self._left_behind()
            if self._pid:
                log.info("adopting HAProxy %d", self._pid)
        self._drain_notices()
        before = await self._worker() if self._pid else ""
        if self._pid:
            os.kill(self._pid, signal.SIGUSR2)
            self.reloads += 1
        else:
            await self._start()
        try:
            async with asyncio.timeout(ready_seconds):
                await self._ready()
                # For a moment the old worker may still take what is sent to the socket.
                while await self._worker() in ("", before):
                    await asyncio.sleep(0.01)
        except TimeoutError as error:
            raise HAProxyError("HAProxy did not get ready") from error

    async def _start(self) -> None:
        found = program()
        assert found is not None
        self._process = await asyncio.create_subprocess_exec(
            found,
            "-Ws",
            "-f",
            str(self.config),
            "-p",
            str(self._pid_file),
            stdin=asyncio.subprocess.DEVNULL,
            env={**os.environ, "NOTIFY_SOCKET": str(self._notify_path)},
            start_new_session=True,
        )
        self._pid = self._process.pid

    async def _worker(self) -> str:
        """The pid of the worker that answers; empty if none does."""
        try:
            info = await self.ask("show info")
        except HAProxyError:
            return ""
        return next((line for line in info.splitlines() if line.startswith("Pid:")), "")

    async def _ready(self) -> None:
        loop = asyncio.get_running_loop()
        assert self._notify is not None
        while True:
            notice = await loop.sock_recv(self._notify, 4096)
            if b"READY=1" in notice:
                return

    def _drain_notices(self) -> None:
        assert self._notify is not None
        with contextlib.suppress(BlockingIOError):
            while True:
                self._notify.recv(4096)

    def _left_behind(self) -> int:
        """The master of an earlier process of ours, if it still runs with this configuration."""
        try:
            pid = int(self._pid_file.read_text().split()[0])
            command = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        except (OSError, ValueError, IndexError):
            return 0
        return pid if str(self.config).encode() in command and command[0].endswith(PROGRAM.encode()) else 0

    async def ended(self) -> None:
        """Return when the master has ended."""
        loop = asyncio.get_running_loop()
        try:
            descriptor = os.pidfd_open(self._pid)
        except ProcessLookupError:
            return
        over: asyncio.Future[None] = loop.create_future()

        def end() -> None:
            if not over.done():
                over.set_result(None)

        loop.add_reader(descriptor, end)
        try:
            await over
        finally:
            loop.remove_reader(descriptor)
            os.close(descriptor)

    async def stop(self) -> None:
        if self._pid:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._pid, signal.SIGTERM)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(5):
                    await self.ended()
            if self._process is not None:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(5):
                        await self._process.wait()
            self._pid = 0
            self._pid_file.unlink(missing_ok=True)
        if self._notify is not None:
            self._notify.close()
            self._notify = None
            self._notify_path.unlink(missing_ok=True)

    async def run(self, commands: Iterable[str]) -> None:
        """Runtime commands of the current worker, in order. Raises HAProxyError at the first complaint."""
        line: list[str] = []
        size = 0
        for command in commands:
            if size + len(command) > commands_bytes_max and line:
                await self._run(";".join(line))
                line, size = [], 0
            line.append(command)
            size += len(command) + 1
        if line:
            await self._run(";".join(line))

    async def _run(self, line: str) -> None:
        answer = await self.ask(line)
        for words in answer.splitlines():
            if words.strip() and not words.startswith(_HARMLESS):
                raise HAProxyError(words)

    async def ask(self, line: str) -> str:
        try:
            async with asyncio.timeout(answer_seconds):
                reader, writer = await asyncio.open_unix_connection(str(self._socket))
                try:
                    writer.write(line.encode() + b"\n")
                    await writer.drain()
                    return (await reader.read()).decode(errors="replace")
                finally:
                    writer.close()
        except (OSError, TimeoutError) as error:
            raise HAProxyError(f"runtime API: {error!r}") from error


_HARMLESS = (
    "IP changed",
    "port changed",
    "no need to change",
    "Transaction",
    "Success",
    "Committing",
    "nothing changed",
)
