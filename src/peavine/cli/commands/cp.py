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
    if source[0] and destination[0]:
        raise CliError("one of src or dest must be a local file specification")
    if not source[0] and not destination[0]:
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
    _unpack(session, data, remote.name, destination, preserve=not flags["no-preserve"])


def _unpack(session: Session, data: bytes, name: str, destination: Path, *, preserve: bool = True) -> None:
    """Unpack what lies below `name`. Nothing is written outside of the destination; links are not made."""
    target = destination / name if destination.is_dir() else destination
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        for member in archive:
            parts = PurePosixPath(member.name).parts
            inside = PurePosixPath(*parts[1:]) if parts[:1] == (name,) else PurePosixPath(*parts)
            place = target / inside
            if ".." in inside.parts or inside.is_absolute() or _through_link(target, place):
                session.warn(f'warning: file "{member.name}" is outside target destination, skipping')
            elif member.issym() or member.islnk():
                session.warn(f'warning: skipping symlink: "{place}" -> "{member.linkname}"')
            elif member.isdir():
                place.mkdir(parents=True, exist_ok=True)
            elif member.isfile():
                place.parent.mkdir(parents=True, exist_ok=True)
                content: Any = archive.extractfile(member)
                place.write_bytes(content.read())
                if preserve:
                    place.chmod(member.mode & 0o777)


def _through_link(target: Path, place: Path) -> bool:
    """Whether a link below the target leads the way to a place elsewhere."""
    return not place.parent.resolve().is_relative_to(target.parent.resolve())


async def _send(session: Session, flags: Parsed, source: Path, pod: str, path: str) -> None:
    remote = PurePosixPath(path)
    name = remote.name
    if path.endswith("/") or await _is_directory(session, flags, pod, path):
        remote, name = remote / source.name, source.name
    command = ["tar", "-xmf", "-"]
    if flags["no-preserve"]:
        command = ["tar", "--no-same-permissions", "--no-same-owner", "-xmf", "-"]
    await _exec(session, flags, pod, [*command, "-C", str(remote.parent)], _packed(source, name))


async def _is_directory(session: Session, flags: Parsed, pod: str, path: str) -> bool:
    try:
        await _exec(session, flags, pod, ["test", "-d", path], None)
    except CliError:
        return False
    return True


def _packed(source: Path, name: str) -> bytes:
    if not source.exists():
        raise CliError(f"{source} doesn't exist in local filesystem")
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        archive.add(source, name)
    return buffer.getvalue()
