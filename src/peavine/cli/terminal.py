"""What a person at a terminal gets and a script never sees: colour, progress, suggestions.

Everything here depends on the stream being a terminal; `NO_COLOR` and `TERM=dumb` turn colour off.
"""

from __future__ import annotations

import os
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import TextIO

_RED, _GREEN, _YELLOW, _BOLD, _END = "\x1b[31m", "\x1b[32m", "\x1b[33m", "\x1b[1m", "\x1b[0m"
_GOOD = {
    "Running",
    "Ready",
    "Active",
    "Bound",
    "Completed",
    "Succeeded",
    "Complete",
    "Available",
    "True",
    "Approved,Issued",
}
_WAITING = {
    "Pending", "ContainerCreating", "PodInitializing", "Terminating", "Unknown", "SchedulingDisabled", "Released",
    "Ready,SchedulingDisabled", "Suspended", "Warning",
}  # fmt: skip
_BAD = ("Error", "CrashLoop", "BackOff", "Failed", "OOMKilled", "Evicted", "NotReady", "ErrImage", "Invalid", "Denied")
_FRAMES = "|/-\\"


def has_colour(out: TextIO) -> bool:
    return out.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def heading(text: str) -> str:
    return f"{_BOLD}{text}{_END}"


def by_status(padded: str) -> str:
    """A table's cell in the colour of the state that it names; spaces around it stay as they are."""
    word = padded.strip()
    colour = ""
    if word in _GOOD:
        colour = _GREEN
    elif word in _WAITING or word.startswith("Init:"):
        colour = _YELLOW
    elif word.startswith(_BAD) or word.endswith(("Error", "BackOff")):
        colour = _RED
    elif "/" in word:
        have, _, want = word.partition("/")
        if have.isdigit() and want.isdigit():
            colour = "" if have == want else _YELLOW
    return padded.replace(word, f"{colour}{word}{_END}", 1) if colour else padded


def suggestion(word: str, known: Iterable[str], err: TextIO) -> str:
    """`\\n\\nDid you mean this?…` where a person reads and something is close; else nothing."""
    if not err.isatty():
        return ""
    import difflib

    close = difflib.get_close_matches(word, list(dict.fromkeys(known)), n=3, cutoff=0.7)
    return "\n\nDid you mean this?\n" + "\n".join(f"\t{name}" for name in close) if close else ""


class Progress:
    """A line that says what is waited for and how long it has been; gone when it ends. Silent without a terminal."""

    def __init__(self, err: TextIO) -> None:
        self.err, self.shown = err, err.isatty() and os.environ.get("TERM") != "dumb"
        self.since, self.turn, self.drawn = time.monotonic(), 0, False

    def __enter__(self) -> Progress:
        return self

    def tick(self, text: str) -> None:
        """Draw it anew; call it as often as there is something to look at."""
        if not self.shown:
            return
        self.turn += 1
        seconds = int(time.monotonic() - self.since)
        self.err.write(f"\r\x1b[K{_FRAMES[self.turn % len(_FRAMES)]} {text} ({seconds}s)")
        self.err.flush()
        self.drawn = True

    def clear(self) -> None:
        if self.drawn:
            self.err.write("\r\x1b[K")
            self.err.flush()
            self.drawn = False

    def __exit__(self, *why: object) -> None:
        self.clear()
