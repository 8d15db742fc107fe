"""Exponential backoff with a cap, per key; time comes from the caller's clock."""

from __future__ import annotations

import random
from collections.abc import Hashable
from dataclasses import dataclass, field


@dataclass
class Backoff:
    """Delays `first * factor**n` seconds up to `most`, each stretched by up to `jitter` of itself."""

    first: float = 0.005
    factor: float = 2.0
    most: float = 1000.0
    jitter: float = 0.0
    failures: dict[Hashable, int] = field(default_factory=dict)

    def next(self, key: Hashable = None) -> float:
        """The delay in seconds before the next try of `key`; counts one more failure."""
        n = self.failures.get(key, 0)
        self.failures[key] = n + 1
        # 2**64 is past any cap in use: the bound keeps the power finite after days of failures.
        delay = min(self.most, self.first * self.factor ** min(n, 64))
        return delay * (1 + random.random() * self.jitter) if self.jitter else delay

    def forget(self, key: Hashable = None) -> None:
        self.failures.pop(key, None)
