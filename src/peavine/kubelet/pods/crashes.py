"""How long a container that keeps ending has to wait: 10 s, doubled each time, at most 5 min; forgiven after 10 min."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class _Entry:
    delay: float
    counted_at: float


class Crashes:
    """Keys name a container of a pod with its definition; times are Unix seconds."""

    def __init__(self, first: float = 10.0, most: float = 300.0) -> None:
        self._first, self._most = first, most
        self._entries: dict[str, _Entry] = {}

    def delay(self, key: str) -> float:
        entry = self._entries.get(key)
        return entry.delay if entry is not None else 0.0

    def wait(self, key: str, ended: float, now: float) -> float:
        """Seconds until a container that ended at `ended` may start again; 0 or less: now."""
        entry = self._entries.get(key)
        if entry is None or self._forgiven(entry, ended):
            return 0.0
        return ended + entry.delay - now

    def count(self, key: str, ended: float) -> None:
        """It is started again, after an end at `ended`."""
        entry = self._entries.get(key)
        if entry is None or self._forgiven(entry, ended):
            self._entries[key] = _Entry(self._first, ended)
        else:
            entry.delay = min(self._most, entry.delay * 2)
            entry.counted_at = ended

    def _forgiven(self, entry: _Entry, ended: float) -> bool:
        # It ran well for twice the longest wait.
        return ended - entry.counted_at > 2 * self._most

    def forget(self, prefix: str) -> None:
        for key in [key for key in self._entries if key.startswith(prefix)]:
            del self._entries[key]
