"""`percentageOfNodesToScore`: with a percentage, the search ends when so many nodes were found, and goes on next time
where it ended. Follows upstream's numbers; without a percentage all nodes are rated here, which costs nothing and never
chooses worse.
"""

from __future__ import annotations

import numpy as np

from peavine.scheduler.nodes import Mask

NODES_MIN = 100  # found at least, however small the percentage


class Sampling:
    """Remembers where the last search of a profile ended."""

    def __init__(self, percentage: int) -> None:
        self._percentage = percentage
        self._next = 0

    def narrowed(self, feasible: Mask, present: Mask) -> Mask | None:
        """Those of the feasible rows that the search finds before it ends; None where it finds all."""
        nodes = int(np.count_nonzero(present))
        wanted = max(nodes * self._percentage // 100, NODES_MIN)
        if not 0 < self._percentage < 100 or nodes <= wanted:
            return None
        rows = np.flatnonzero(present)
        start = self._next % len(rows)
        rows = np.concatenate([rows[start:], rows[:start]])
        found = np.flatnonzero(feasible[rows])[:wanted]
        looked_at = int(found[-1]) + 1 if len(found) == wanted else len(rows)
        self._next = (start + looked_at) % len(rows)
        mask = np.zeros_like(feasible)
        mask[rows[found]] = True
        return mask
