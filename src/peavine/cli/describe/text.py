"""The layout of `describe`: indented lines whose columns are aligned, as upstream's tab writer does."""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Mapping
from typing import Any

from peavine.cli.failures import printable
from peavine.machinery.duration import human_duration
from peavine.machinery.meta import parse_time

_PADDING = 2


class Text:
    """Lines with tab-separated cells; `str` aligns the cells of neighbouring lines."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def line(self, level: int, text: str) -> None:
        self.lines.append("  " * level + text)

    def field(self, level: int, name: str, value: Any) -> None:
        self.line(level, f"{name}:\t{value}")

    def raw(self) -> str:
        """As it stands, tabs and all."""
        return "".join(line + "\n" for line in self.lines)

    def __str__(self) -> str:
        return align([line.split("\t") for line in self.lines])


def align(rows: list[list[str]], padding: int = _PADDING) -> str:
    """Go's tabwriter: a column is a run of lines that all have the cell; the last cell of a line is in no column."""
    widths: list[list[int]] = [[0] * max(0, len(row) - 1) for row in rows]
    depth = max((len(row) for row in rows), default=0)
    for column in range(depth):
        at = 0
        while at < len(rows):
            if len(rows[at]) - 1 <= column:
                at += 1
                continue
            end = at
            while end < len(rows) and len(rows[end]) - 1 > column:
                end += 1
            longest = max(len(rows[i][column]) for i in range(at, end))
            width = longest + padding
            for i in range(at, end):
                widths[i][column] = width
            at = end
    lines = []
    for row, sizes in zip(rows, widths, strict=True):
        lines.append("".join(cell.ljust(size) for cell, size in zip(row, sizes, strict=False)) + row[-1])
    return "".join(printable(line) + "\n" for line in lines)


def labels(text: Text, level: int, name: str, values: Mapping[str, str] | None, skip: Iterable[str] = ()) -> None:
    """One label a line, the name before the first; `<none>` without any."""
    shown = {key: value for key, value in (values or {}).items() if key not in skip}
    if not shown:
        text.line(level, f"{name}:\t<none>")
        return
    for at, key in enumerate(sorted(shown)):
        text.line(level, f"{name}:\t{key}={shown[key]}" if at == 0 else f"\t{key}={shown[key]}")


def annotation_lines(text: Text, level: int, name: str, values: Mapping[str, str] | None) -> None:
    """As labels; long or several-line values go below their key."""
    skip = {"kubectl.kubernetes.io/last-applied-configuration"}
    shown = {key: value for key, value in (values or {}).items() if key not in skip}
    if not shown:
        text.line(level, f"{name}:\t<none>")
        return
    for at, key in enumerate(sorted(shown)):
        before = f"{name}:\t" if at == 0 else "\t"
        value = shown[key].removesuffix("\n")
        if len(key) + len(value) > 140 or "\n" in value:
            text.line(level, f"{before}{key}:")
            for line in value.split("\n"):
                text.line(level, "\t  " + (line if len(line) <= 138 else line[:138] + "..."))
        else:
            text.line(level, f"{before}{key}: {value}")


def when(timestamp: str | None) -> str:
    """A time as describe shows it: `Mon, 23 Nov 2026 13:22:21 +0000`."""
    if not timestamp:
        return "<unset>"
    return time.strftime("%a, %d %b %Y %H:%M:%S +0000", time.gmtime(parse_time(timestamp)))


def ago(timestamp: str | None) -> str:
    if not timestamp:
        return "<unknown>"
    return human_duration(time.time() - parse_time(timestamp))


def selector_text(selector: Mapping[str, Any] | None) -> str:
    """A LabelSelector in one line."""
    if not selector:
        return "<none>"
    from peavine.machinery.selectors import selector_of

    return str(selector_of(selector)) or "<none>"


def camel_words(name: str) -> str:
    """`creationTimestamp` as `Creation Timestamp`; capitals that follow each other stay together (`Cluster IP`)."""
    if not name:
        return name
    words = re.findall(r"[A-Z]+(?=[A-Z][a-z])|[A-Z]?[a-z0-9]+|[A-Z]+|[^A-Za-z0-9]+", name)
    return " ".join(word[0].upper() + word[1:] for word in words)
