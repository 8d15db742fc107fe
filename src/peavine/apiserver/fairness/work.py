"""How wide a request is: the seats that it takes while it is served, and for how long its events take some after it.

Upstream's estimates (pkg/util/flowcontrol/request): a list is as wide as what it reads, a write is as wide afterwards
as there are watchers who hear of it; everything else takes one seat.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

from peavine.apiserver.requests import RequestInfo

SEATS_MAX = 10
# No request takes more than this part of its level's seats.
SHARE_OF_LEVEL_MAX = 0.15
BYTES_PER_SEAT = 100_000
# A list is written out as it is read: no more than this is held at once, however long it is.
LIST_BYTES_MAX = 1_000_000
WATCHERS_PER_SEAT = 10
EVENT_SECONDS = 0.005


@dataclass(frozen=True, slots=True)
class Width:
    """`seats` while the request is served, then `after` seats for `seconds` more."""

    seats: int = 1
    after: int = 0
    seconds: float = 0.0

    @property
    def most(self) -> int:
        return max(self.seats, self.after)


class Stock(Protocol):
    """What is known of the stored objects of a kind, without looking at them."""

    def size(self, group: str, resource: str, namespace: str) -> tuple[int, int]:
        """(objects, bytes of them all together); zeros for what is stored elsewhere."""
        ...

    def watchers(self, group: str, resource: str, namespace: str) -> int:
        """How many hear of a change there."""
        ...


ONE = Width()


class Estimator:
    def __init__(self, stock: Stock) -> None:
        self.stock = stock

    def width(self, info: RequestInfo, nominal: int) -> Width:
        """The width of a request in a level of `nominal` seats."""
        if not info.is_resource:
            return ONE
        most = min(SEATS_MAX, max(1, math.ceil(nominal * SHARE_OF_LEVEL_MAX)))
        if info.verb == "list" or (info.verb == "watch" and info.flag("sendInitialEvents")):
            return self._list(info, most)
        if info.verb in ("create", "update", "patch", "delete") and info.subresource != "token":
            return self._write(info, most)
        return ONE

    def _list(self, info: RequestInfo, most: int) -> Width:
        count, size = self.stock.size(info.group, info.resource, info.namespace)
        if not count:
            return ONE
        read = 1 if info.name else count
        limit = info.parameter("limit")
        if limit.isdigit() and int(limit):
            read = min(read, int(limit))
        held = min(read * size / count, LIST_BYTES_MAX)
        return Width(min(most, max(1, math.ceil(held / BYTES_PER_SEAT))))

    def _write(self, info: RequestInfo, most: int) -> Width:
        watchers = self.stock.watchers(info.group, info.resource, info.namespace)
        if watchers < WATCHERS_PER_SEAT:
            return ONE
        seats = math.ceil(watchers / WATCHERS_PER_SEAT)
        after = min(seats, most)
        return Width(1, after, seats * EVENT_SECONDS / after)
