"""The layout of `describe`: indented lines whose columns are aligned, as upstream's tab writer does."""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Mapping
from typing import Any

from peavine.cli.output.tables import align
from peavine.machinery.duration import human_duration
from peavine.machinery.meta import parse_time


class Text:
    """Lines with tab-separated cells; `str` aligns the cells of neighbouring lines."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def line(self, level: int, text: str) -> None:
        self.lines.append("  " * level + text)

    def field(self, level: int, name: str, value: Any) -> None:
        self.line(level, f"{name}:\t{value}")

    def flat(self, name: str, value: str) -> None:
        """A field whose value may have lines of its own, which are printed as they are."""
        first, *rest = value.split("\n")
        self.field(0, name, first)
        self.lines += rest

    def raw(self) -> str:
        """As it stands, tabs and all."""
        return "".join(line + "\n" for line in self.lines)

    def __str__(self) -> str:
        return align([line.split("\t") for line in self.lines])


def labels(text: Text, level: int, name: str, values: Mapping[str, str] | None, skip: Iterable[str] = ()) -> None:
    """One label a line, the name before the first; `<none>` without any."""
    shown = {key: value for key, value in (values or {}).items() if key not in skip}
    if not shown:
        text.line(level, f"{name}:\t<none>")
        return
    for at, key in enumerate(sorted(shown)):
        if at == 0:
            text.line(level, f"{name}:\t{key}={shown[key]}")
        else:
            text.line(0, f"\t{key}={shown[key]}")


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


_ACRONYMS = {"API", "URL", "UID", "OSB", "GUID"}


def camel_words(name: str) -> str:
    """`creationTimestamp` as `Creation Timestamp`, `uid` as `UID`; what has more in it than letters and `-` stays."""
    if not name.replace("-", "").isalpha():
        return name
    words = re.findall(r"[A-Z]+(?=[A-Z][a-z])|[A-Z]?[a-z]+|[A-Z]+|-+", name)
    return " ".join(word.upper() if word.upper() in _ACRONYMS else word[0].upper() + word[1:] for word in words)


def flat(values: Mapping[str, str] | None) -> str:
    """Labels and their like in one line: `a=b,c=d`."""
    return ",".join(f"{key}={values[key]}" for key in sorted(values)) if values else "<none>"


def go_list(values: Iterable[Any]) -> str:
    """`[a b]`, as Go prints a slice."""
    return "[" + " ".join(map(str, values)) + "]"


_ACCESS = {"ReadWriteOnce": "RWO", "ReadOnlyMany": "ROX", "ReadWriteMany": "RWX", "ReadWriteOncePod": "RWOP"}


def access_modes(modes: Iterable[str] | None) -> str:
    """`RWO,ROX`: short, each once, in upstream's order."""
    return ",".join(short for mode, short in _ACCESS.items() if mode in (modes or ()))
