"""Keep the processes of a cluster running (started by `up`, not by hand).

Each process is restarted when it ends, after a backoff that starts at once and forgets after ten good seconds. What
runs is told in `run/state.json`, for `status`. Processes get SIGTERM if the supervisor itself is killed; containerd
does not: containers outlive everything but `down`.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import ctypes
import fcntl
import json
import logging
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import IO

from peavine.base import logs
from peavine.base.backoff import Backoff
from peavine.base.clock import REAL, wait_until
from peavine.base.lifetimes import run, scope
from peavine.cmd.cluster import Cluster
from peavine.cmd.processes import Process, processes

log = logging.getLogger(__name__)

GOOD_SECONDS = 10.0
STOP_SECONDS_MAX = 15.0
RENEW_SECONDS = 12 * 3600.0
LOG_BYTES_MAX = 32 << 20
PR_SET_PDEATHSIG = 1


class Supervisor:
    """Runs `wanted` until cancelled, then stops them in reverse order."""

    def __init__(self, wanted: list[Process], directory: Path) -> None:
        self.wanted, self.directory = wanted, directory
        self._running: dict[str, asyncio.subprocess.Process] = {}
        self._state: dict[str, dict[str, float]] = {}
        self._libc = ctypes.CDLL(None) if sys.platform == "linux" else None

    async def run(self) -> None:
        async with scope() as tasks:
            for process in self.wanted:
                tasks.start(self._keep(process), name=process.name)
            try:
                await self._renew_certificates()
            finally:
                # The tasks restart what ends: they must be gone before the processes are.
                tasks.cancel()
                await self._stop_all()

    async def _keep(self, process: Process) -> None:
        backoff = Backoff(first=0.1, most=10.0)
        restarts = -1
        while True:
            restarts += 1
            started = time.time()
            child = await self._spawn(process)
            self._running[process.name] = child
            self._state[process.name] = {"pid": child.pid, "started": started, "restarts": restarts}
            self._write_state()
            code = await child.wait()
            if time.time() - started > GOOD_SECONDS:
                backoff.forget()
            delay = backoff.next()
            log.warning("%s ended with %s; again in %.1f s", process.name, _said(code), delay)
            await REAL.sleep(delay)

    async def _spawn(self, process: Process) -> asyncio.subprocess.Process:
        with self._log_of(process) as out:
            return await asyncio.create_subprocess_exec(
                *process.command,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                start_new_session=True,
                preexec_fn=None if process.survives else self._die_with_parent,
            )

    def _log_of(self, process: Process) -> IO[bytes]:
        path = self.directory / "logs" / f"{process.name}.log"
        with contextlib.suppress(FileNotFoundError):
            if path.stat().st_size > LOG_BYTES_MAX:
                path.replace(path.with_suffix(".log.1"))
        return open(path, "ab", opener=privately)

    def _die_with_parent(self) -> None:
        if self._libc is not None:
            self._libc.prctl(PR_SET_PDEATHSIG, signal.SIGTERM)

    async def _renew_certificates(self) -> None:
        """Twice a day, in a process of its own: the supervisor stays small."""
        while True:
            await REAL.sleep(RENEW_SECONDS)
            command = [sys.executable, "-m", "peavine.cmd.main", "certs", "renew", f"--data-dir={self.directory}"]
            child = await asyncio.create_subprocess_exec(*command)
            if await child.wait():
                log.warning("certificates were not renewed; trying again in %d h", RENEW_SECONDS // 3600)

    async def _stop_all(self) -> None:
        for process in reversed(self.wanted):
            child = self._running.get(process.name)
            if child is None or child.returncode is not None:
                continue
            child.terminate()
            if await wait_until(child.wait(), STOP_SECONDS_MAX) is None:
                log.warning("%s did not end in %.0f s: killed", process.name, STOP_SECONDS_MAX)
                child.kill()
                await child.wait()
        self._state.clear()
        self._write_state()

    def _write_state(self) -> None:
        path = self.directory / "run" / "state.json"
        draft = path.with_suffix(".new")
        draft.touch(mode=0o600)
        draft.write_text(json.dumps({"supervisor": os.getpid(), "processes": self._state}))
        draft.replace(path)


def privately(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _said(code: int) -> str:
    return f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"


def lock(directory: Path) -> int | None:
    """The descriptor of this directory's supervisor lock; None if another process holds it."""
    (directory / "run").mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor = os.open(directory / "run" / "supervisor.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return descriptor


def main(argv: list[str]) -> int:
    flags = argparse.ArgumentParser(prog="peavine supervise", description=__doc__)
    flags.add_argument("--data-dir", required=True, help="data directory of the cluster")
    args = flags.parse_args(argv)
    cluster = Cluster.load(args.data_dir)
    if cluster is None:
        print(f"peavine supervise: no cluster in {args.data_dir}; `peavine up` makes one", file=sys.stderr)
        return 1
    logs.setup()
    held = lock(cluster.directory)
    if held is None:
        print("peavine supervise: another supervisor runs this cluster already", file=sys.stderr)
        return 1
    (cluster.directory / "logs").mkdir(mode=0o700, exist_ok=True)
    with open(cluster.run_dir / "supervisor.pid", "w", opener=privately) as file:
        file.write(str(os.getpid()))
    return run(Supervisor(processes(cluster), cluster.directory).run())
