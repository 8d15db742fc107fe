"""Stop signals: their names in the API, their numbers in CRI (its own, in the order of the alphabet) and in Linux."""

from __future__ import annotations

import signal

from peavine.api.core.probe_validation import SIGNALS

_PLAIN = sorted(name for name in SIGNALS if not name.startswith("SIGRT"))
# What the kernel counts as real-time signals; the C library keeps the first two for itself.
_FIRST, _LAST = 34, 64
_REALTIME = [
    "SIGRTMIN",
    *(f"SIGRTMIN+{n}" for n in range(1, 16)),
    *(f"SIGRTMAX-{n}" for n in range(14, 0, -1)),
    "SIGRTMAX",
]
CRI_NUMBERS = {name: number for number, name in enumerate([*_PLAIN, *_REALTIME], start=1)}
NAMES = {number: name for name, number in CRI_NUMBERS.items()}


def linux_number(name: str) -> int:
    """Raises ValueError for a name that is no signal."""
    if name not in CRI_NUMBERS:
        raise ValueError(f"unknown stop signal {name!r}")
    if name.startswith("SIGRTMIN"):
        return _FIRST + int(name.partition("+")[2] or 0)
    if name.startswith("SIGRTMAX"):
        return _LAST - int(name.partition("-")[2] or 0)
    return int(signal.Signals[name])
