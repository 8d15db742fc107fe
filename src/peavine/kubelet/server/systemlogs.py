"""`/logs/`: files of the node's log directory, and (`?query=SERVICE`) what a service has written, where the options
allow it (upstream's NodeLogQuery: journald first, then files named after the service)."""

# ruff: noqa: ASYNC230 -- local files: shorter than a thread switch
from __future__ import annotations

import asyncio
import html
import mimetypes
import re
import shutil
from collections.abc import AsyncIterator
from datetime import datetime
from pathlib import Path

from peavine.kubelet.logs.files import BLOCK, tail_offset
from peavine.kubelet.options import Options
from peavine.kubelet.server.http import Answer, HttpError, Request

DIRECTORY = Path("/var/log")
SERVICES_MAX = 4
LINES_MAX = 100_000
JOURNAL_SECONDS_MAX = 30.0
_SERVICE = re.compile(r"^[a-zA-Z0-9][a-zA-Z0-9@_.:-]*$")


async def answer(options: Options, path: str, request: Request, directory: Path = DIRECTORY) -> Answer:
    """Raises HttpError."""
    if not options.system_logs:
        raise HttpError(405, "logs endpoint is disabled.")
    if "query" in request.query:
        if not options.system_log_queries:
            raise HttpError(405, "log query is disabled: enableSystemLogQuery is false")
        return await _query(request, directory)
    return _file(path, directory)


def _file(path: str, directory: Path) -> Answer:
    top = directory.resolve()
    wanted = (top / path).resolve()
    if wanted != top and top not in wanted.parents:
        raise HttpError(404, "404 page not found")
    if wanted.is_dir():
        names = sorted(entry.name + "/" * entry.is_dir() for entry in wanted.iterdir())
        links = "\n".join(f'<a href="{html.escape(name)}">{html.escape(name)}</a>' for name in names)
        return Answer(body=f"<pre>\n{links}\n</pre>\n".encode(), content_type="text/html; charset=utf-8")
    if not wanted.is_file():
        raise HttpError(404, "404 page not found")
    kind = mimetypes.guess_type(wanted.name)[0] or "text/plain; charset=utf-8"
    return Answer(stream=_pieces(wanted), content_type=kind)


async def _pieces(path: Path, at: int = 0) -> AsyncIterator[bytes]:
    with open(path, "rb") as file:
        file.seek(at)
        while piece := file.read(BLOCK):
            yield piece


def _time(request: Request, name: str) -> datetime | None:
    text = request.first(name)
    if not text:
        return None
    try:
        return datetime.fromisoformat(text.replace("Z", "+00:00"))
    except ValueError:
        raise HttpError(400, f"invalid {name}: {text!r}") from None


def _lines(request: Request) -> int | None:
    text = request.first("tailLines")
    if not text:
        return None
    if not text.isdigit() or int(text) > LINES_MAX:
        raise HttpError(400, f"tailLines: must be between 0 and {LINES_MAX}, inclusive")
    return int(text)


async def _query(request: Request, directory: Path) -> Answer:
    services = [name for name in request.query["query"] if name]
    if not services or len(services) > SERVICES_MAX:
        raise HttpError(400, f"query: 1 to {SERVICES_MAX} services or files")
    files = [name for name in services if "/" in name]
    if files:
        if len(services) > 1:
            raise HttpError(400, "query: a file must be asked for alone")
        return _file(files[0].removeprefix("/"), directory)
    for name in services:
        if not _SERVICE.match(name):
            raise HttpError(400, f"query: invalid service {name!r}")
    pattern, lines = request.first("pattern"), _lines(request)
    since, until = _time(request, "sinceTime"), _time(request, "untilTime")
    if shutil.which("journalctl"):
        found = await _journal(services, since, until, lines, pattern, request.first("boot"))
        if found is not None:
            return Answer(body=found)
    out = b"".join([_of_service(name, directory, lines, pattern) for name in services])
    return Answer(body=out)


async def _journal(
    services: list[str],
    since: datetime | None,
    until: datetime | None,
    lines: int | None,
    pattern: str,
    boot: str,
) -> bytes | None:
    """What journald has of the services; None if it has nothing to say."""
    command = ["journalctl", "--utc", "--no-pager", "--output=short-precise"]
    command += [f"--unit={name}" for name in services]
    if since is not None:
        command.append(f"--since={since.strftime('%Y-%m-%d %H:%M:%S')}")
    if until is not None:
        command.append(f"--until={until.strftime('%Y-%m-%d %H:%M:%S')}")
    if lines is not None:
        command.append(f"--lines={lines}")
    if pattern:
        command.append(f"--grep={pattern}")
    if boot.lstrip("-").isdigit():
        command.append(f"--boot={boot}")
    process = await asyncio.create_subprocess_exec(
        *command, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL
    )
    try:
        async with asyncio.timeout(JOURNAL_SECONDS_MAX):
            out, _ = await process.communicate()
    except TimeoutError:
        process.kill()
        raise HttpError(500, "journalctl did not end in time") from None
    return out if process.returncode == 0 and b"-- No entries --" not in out else None


def _of_service(name: str, directory: Path, lines: int | None, pattern: str) -> bytes:
    """`SERVICE`, `SERVICE.log` or `SERVICE/SERVICE.log` of the directory. Files tell no times of their lines."""
    for candidate in (directory / name, directory / f"{name}.log", directory / name / f"{name}.log"):
        if candidate.is_file():
            with open(candidate, "rb") as file:
                if lines is not None and not pattern:
                    file.seek(tail_offset(candidate, lines))
                text = file.read()
            if pattern:
                try:
                    wanted = re.compile(pattern.encode())
                except re.error as error:
                    raise HttpError(400, f"invalid pattern: {error}") from error
                chosen = [line for line in text.splitlines(keepends=True) if wanted.search(line)]
                text = b"".join(chosen if lines is None else chosen[len(chosen) - lines :])
            return text
    raise HttpError(404, f"options present in query: log not found for {name}")
