"""Which seats a priority level has for the next ten seconds: its own, less what it lends, plus what it borrows.

Every level's demand is watched over the period; then all seats are dealt anew, to each in proportion to its (smoothed)
demand, within bounds: not below what it must keep and has used, not above what it may borrow. Upstream: "Seat
Borrowing" of KEP-1040.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

PERIOD_SECONDS = 10.0
# How much of the demand of before is still believed, each period.
SMOOTHING = 0.977
TARGET_MIN = 0.001


class Demand:
    """The seats in use or waited for, over one period: how many at most, and how they went up and down."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._value = self.most = 0
        self._since = now()
        self._seconds = self._sum = self._squares = 0.0

    def set(self, value: int) -> None:
        self._count()
        self._value = value
        self.most = max(self.most, value)

    def close_period(self) -> tuple[int, float]:
        """(the most, average plus standard deviation) of the period; a new one begins."""
        self._count()
        most = self.most
        if self._seconds > 0:
            average = self._sum / self._seconds
            envelope = average + math.sqrt(max(0.0, self._squares / self._seconds - average * average))
        else:
            envelope = float(self._value)
        self._restart()
        return most, envelope

    def _restart(self) -> None:
        self.most = self._value
        self._seconds = self._sum = self._squares = 0.0

    def _count(self) -> None:
        now = self._now()
        seconds, self._since = now - self._since, now
        self._seconds += seconds
        self._sum += self._value * seconds
        self._squares += self._value * self._value * seconds


def smoothed(before: float, envelope: float) -> float:
    """Demand goes up at once and down slowly."""
    return max(envelope, SMOOTHING * before + (1 - SMOOTHING) * envelope)


@dataclass(frozen=True)
class Claim:
    """What one level must have, may have, and would like."""

    least: float
    most: float
    target: float


def deal_seats(seats: int, claims: Sequence[Claim]) -> list[int]:
    """Everyone's part of `seats`: `target` times one factor for all, within each one's bounds; rounded.

    Where the bounds leave no choice (all at least, or all at most), those.
    """
    targets = [max(claim.target, TARGET_MIN) for claim in claims]

    def dealt(factor: float) -> list[float]:
        return [min(c.most, max(c.least, factor * t)) for c, t in zip(claims, targets)]

    # The sum only grows with the factor, and bends where a bound begins or ends to hold.
    low, high = 0.0, max((c.most / t for c, t in zip(claims, targets)), default=0.0)
    for _ in range(80):
        middle = (low + high) / 2
        if sum(dealt(middle)) < seats:
            low = middle
        else:
            high = middle
    return [round(part) for part in dealt(high)]
