"""Copy files and directories to and from containers. The container needs `tar`."""

from __future__ import annotations

import asyncio
import io
import sys
import tarfile
from pathlib import Path, PurePosixPath
from typing import Any

from peavine.cli.failures import CliError
from peavine.cli.flags import Parsed, boolean, integer, string
from peavine.cli.resources import Target
from peavine.cli.session import Session
from peavine.cli.streaming import default_container, open_channels

CONCURRENT = True
FLAGS = (
    string("container", "c", help="Container name."),
    boolean("no-preserve", help="The copied file/directory's ownership and permissions will not be preserved."),
    integer("retries", help="Set number of retries to complete a copy operation from a container."),
)


async def run(session: Session, flags: Parsed) -> int:
    if len(flags.arguments) != 2:
        raise CliError("source and destination are required")
    source, destination = (_place(text) for text in flags.arguments)
    if bool(source[0]) == bool(destination[0]):
        raise CliError("one of src or dest must be a remote file specification")
    if source[0]:
        await _fetch(session, flags, *source, Path(destination[1]))
    else:
        await _send(session, flags, Path(source[1]), *destination)
    return 0


def _place(text: str) -> tuple[str, str]:
    """`namespace/pod:path`, `pod:path` or a local path."""
    pod, colon, path = text.partition(":")
    if not colon or ("/" in pod and pod.startswith((".", "/"))):
        return "", text
    return pod, path


async def _exec(session: Session, flags: Parsed, pod: str, command: list[str], stdin: bytes | None) -> bytes:
    namespace, _, name = pod.rpartition("/")
    target = Target(await session.mapping("pods"), namespace or session.namespace, name)
    live = await session.get(target.path)
    container = default_container(live, flags["container"], session)
    query = [("command", word) for word in command] + [("container", container), ("stdout", "true"), ("stderr", "true")]
    query += [("stdin", "true")] if stdin is not None else []
    channels = await open_channels(session, target.path + "/exec", query)
    if stdin is not None:
        for at in range(0, len(stdin), 32768):
            channels.send(0, stdin[at : at + 32768])
            await asyncio.sleep(0)
        channels.close_channel(0)
    out, complaints, outcome = bytearray(), bytearray(), b""
    async for channel, data in channels.messages():
        if channel == 1:
            out += data
        elif channel == 2:
            complaints += data
        elif channel == 3:
            outcome = data
    channels.connection.close()
    if complaints:
        sys.stderr.buffer.write(bytes(complaints))
    if b'"Failure"' in outcome:
        raise CliError(
            f"command terminated: {bytes(complaints).decode('utf-8', 'replace') or outcome.decode('utf-8', 'replace')}"
        )
    return bytes(out)


async def _fetch(session: Session, flags: Parsed, pod: str, path: str, destination: Path) -> None:
    remote = PurePosixPath(path)
    data = await _exec(session, flags, pod, ["tar", "cf", "-", "-C", str(remote.parent), remote.name], None)
    _unpack(data, remote.name, destination)


def _unpack(data: bytes, name: str, destination: Path) -> None:
    """Unpack what lies below `name`; nothing is written outside of the destination."""
    target = destination / name if destination.is_dir() else destination
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        for member in archive:
            parts = PurePosixPath(member.name).parts
            inside = PurePosixPath(*parts[1:]) if parts[:1] == (name,) else PurePosixPath(*parts)
            if ".." in inside.parts or inside.is_absolute():
                raise CliError(f"tar contains an illegal path: {member.name}")
            place = target / inside
            if member.isdir():
                place.mkdir(parents=True, exist_ok=True)
            elif member.isfile():
                place.parent.mkdir(parents=True, exist_ok=True)
                content: Any = archive.extractfile(member)
                place.write_bytes(content.read())
                place.chmod(member.mode & 0o777)


async def _send(session: Session, flags: Parsed, source: Path, pod: str, path: str) -> None:
    remote = PurePosixPath(path)
    data = _packed(source, str(remote / source.name) if path.endswith("/") else str(remote))
    await _exec(session, flags, pod, ["tar", "-xmf", "-", "-C", "/"], data)


def _packed(source: Path, name: str) -> bytes:
    if not source.exists():
        raise CliError(f"{source} doesn't exist in local filesystem")
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        archive.add(source, name.lstrip("/"))
    return buffer.getvalue()
