"""CRI's log format: `<RFC3339Nano> <stdout|stderr> <P|F> <text>`; reading it with what kubectl may ask for."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

BLOCK = 64 * 1024


@dataclass(frozen=True)
class Wanted:
    """PodLogOptions. `since` is in Unix seconds, `tail` counts lines (None: all), `limit` bytes of output."""

    timestamps: bool = False
    since: float | None = None
    tail: int | None = None
    limit: int | None = None
    stream: str = "All"


def parse_line(line: bytes) -> tuple[bytes, bytes, bool, bytes] | None:
    """(time, stream, whether the line is whole, text with its newline if whole); None for a broken line."""
    parts = line.split(b" ", 3)
    if len(parts) != 4 or parts[1] not in (b"stdout", b"stderr"):
        return None
    whole = not parts[2].startswith(b"P")
    text = parts[3]
    if not whole:
        text = text.removesuffix(b"\n")
    return parts[0], parts[1], whole, text


def unix_seconds(stamp: bytes) -> float:
    text = stamp.decode("ascii", "replace")
    try:
        # Nine digits of fraction are more than datetime takes.
        head, dot, rest = text.partition(".")
        if dot:
            digits = "".join(ch for ch in rest if ch.isdigit())[:6]
            zone = rest.lstrip("0123456789")
            text = f"{head}.{digits}{zone}"
        return datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp()
    except ValueError:
        return 0.0


def tail_offset(path: Path, lines: int) -> int:
    """Where the last `lines` lines of the file begin."""
    if lines <= 0:
        return os.path.getsize(path)
    with open(path, "rb") as file:
        at = file.seek(0, os.SEEK_END)
        if at == 0:
            return 0
        found = 0
        # The newline that ends the file ends the last line; it does not begin one.
        first = True
        while at > 0:
            step = min(BLOCK, at)
            at -= step
            file.seek(at)
            block = file.read(step)
            end = len(block)
            if first and block.endswith(b"\n"):
                end -= 1
            first = False
            while (end := block.rfind(b"\n", 0, end)) >= 0:
                found += 1
                if found == lines:
                    return at + end + 1
        return 0


class Formatter:
    """Turns raw lines into output, keeping count of what may still be written."""

    def __init__(self, wanted: Wanted) -> None:
        self._wanted = wanted
        self.left = wanted.limit
        self._continued: dict[bytes, bool] = {}

    def output(self, line: bytes) -> bytes:
        parsed = parse_line(line)
        if parsed is None:
            return b""
        stamp, stream, whole, text = parsed
        wanted = self._wanted
        if wanted.stream != "All" and wanted.stream.lower().encode() != stream:
            return b""
        if wanted.since is not None and unix_seconds(stamp) < wanted.since:
            return b""
        # A line in pieces gets its time once.
        if wanted.timestamps and not self._continued.get(stream):
            text = stamp + b" " + text
        self._continued[stream] = not whole
        if self.left is not None:
            text = text[: self.left]
            self.left -= len(text)
        return text

    @property
    def full(self) -> bool:
        return self.left is not None and self.left <= 0


def read_log(path: Path, wanted: Wanted) -> Iterator[bytes]:
    """The file as it is now, in pieces. Raises OSError."""
    formatter = Formatter(wanted)
    with open(path, "rb") as file:
        if wanted.tail is not None:
            file.seek(tail_offset(path, wanted.tail))
        for line in file:
            piece = formatter.output(line)
            if piece:
                yield piece
            if formatter.full:
                return


def tail_text(path: Path, *, lines: int, bytes_max: int) -> str:
    """The end of a log as text; empty if it cannot be read."""
    try:
        data = b"".join(read_log(path, Wanted(tail=lines)))
    except OSError:
        return ""
    return data[-bytes_max:].decode("utf-8", "replace")
