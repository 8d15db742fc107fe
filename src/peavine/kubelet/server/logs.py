"""`/containerLogs/NAMESPACE/POD/CONTAINER` with PodLogOptions as query."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from peavine.api.core.podstate import unix_time
from peavine.kubelet.logs.files import BLOCK, Formatter, Wanted, tail_offset
from peavine.kubelet.server.http import Answer, HttpError, Request

if TYPE_CHECKING:
    from peavine.kubelet.kubelet import Kubelet
    from peavine.kubelet.pods.records import Container
    from peavine.kubelet.pods.worker import PodWorker

# While a followed log grows, its file is looked at this often; nothing tells of appended bytes across mounts.
FOLLOW_SECONDS = 0.1


def _number(request: Request, name: str) -> int | None:
    text = request.first(name)
    if not text:
        return None
    try:
        return int(text)
    except ValueError:
        raise HttpError(400, f"invalid {name}: {text!r}") from None


def wanted_of(request: Request, now: float) -> Wanted:
    since = unix_time(request.first("sinceTime")) if request.first("sinceTime") else None
    seconds = _number(request, "sinceSeconds")
    if seconds is not None:
        since = now - seconds
    tail = _number(request, "tailLines")
    return Wanted(
        timestamps=request.flag("timestamps"),
        since=since,
        tail=None if tail is None or tail < 0 else tail,
        limit=_number(request, "limitBytes"),
        stream=request.first("stream") or "All",
    )


def answer(kubelet: Kubelet, worker: PodWorker, name: str, request: Request) -> Answer:
    container = _choose(worker, name, request.flag("previous"))
    wanted, follow = wanted_of(request, kubelet.clock.time()), request.flag("follow")
    if hasattr(kubelet.runtime, "log_text"):
        return Answer(stream=_scripted(kubelet, worker, container, follow))
    return Answer(stream=_follow(worker, container, wanted, follow))


def _choose(worker: PodWorker, name: str, previous: bool) -> Container:
    spec = worker.pod.get("spec") or {}
    names = [c["name"] for f in ("initContainers", "containers", "ephemeralContainers") for c in spec.get(f) or []]
    pod = worker.pod["metadata"]["name"]
    if names and name not in names:
        raise HttpError(400, f'container "{name}" in pod "{pod}" is not available')
    latest = worker.record.latest(name)
    if previous:
        before = worker.record.before(latest) if latest is not None else None
        if before is None:
            raise HttpError(400, f'previous terminated container "{name}" in pod "{pod}" not found')
        return before
    if latest is None:
        reason = worker.reasons.get(name, ("ContainerCreating", ""))
        tail = "image can't be pulled" if reason[0] in ("ErrImagePull", "ImagePullBackOff") else reason[0]
        if reason[0] in ("ErrImagePull", "ImagePullBackOff"):
            raise HttpError(
                400, f'container "{name}" in pod "{pod}" is waiting to start: trying and failing to pull image'
            )
        raise HttpError(400, f'container "{name}" in pod "{pod}" is waiting to start: {tail}')
    return latest


async def _scripted(kubelet: Kubelet, worker: PodWorker, container: Container, follow: bool) -> AsyncIterator[bytes]:
    text = kubelet.runtime.log_text(container.id)  # type: ignore[attr-defined]
    if text:
        yield (text + "\n").encode()
    while follow and _is_running(worker, container):
        await kubelet.clock.sleep(FOLLOW_SECONDS)


def _is_running(worker: PodWorker, container: Container) -> bool:
    if worker.removed:
        return False
    return any(c.id == container.id and c.state in ("created", "running") for c in worker.record.containers)


async def _follow(worker: PodWorker, container: Container, wanted: Wanted, follow: bool) -> AsyncIterator[bytes]:
    """The log, and if asked what is still to come, until the container has ended."""
    path = Path(container.log_path)
    formatter = Formatter(wanted)
    try:
        file = _open(path)
    except OSError:
        return
    try:
        if wanted.tail is not None:
            file.seek(tail_offset(path, wanted.tail))
        rest = b""
        while True:
            alive = follow and _is_running(worker, container)
            data = file.read(BLOCK)
            if data:
                lines = (rest + data).split(b"\n")
                rest = lines.pop()
                piece = b"".join([formatter.output(line + b"\n") for line in lines])
                if piece:
                    yield piece
                if formatter.full:
                    return
                continue
            if not alive:
                if rest:
                    yield formatter.output(rest)
                return
            replaced = _reopened(file, path)
            if replaced is not None:
                # Rotated: what was still written to the old file has been read by now.
                file.close()
                file = replaced
                continue
            await asyncio.sleep(FOLLOW_SECONDS)
    finally:
        file.close()


def _open(path: Path) -> BinaryIO:
    return open(path, "rb")


def _reopened(file: BinaryIO, path: Path) -> BinaryIO | None:
    """The new file, if the path leads to another one than the open one."""
    try:
        return _open(path) if os.fstat(file.fileno()).st_ino != path.stat().st_ino else None
    except OSError:
        return None
