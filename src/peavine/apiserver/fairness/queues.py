"""One priority level: seats, and fair queues for who must wait for one.

Flows are dealt to a few queues each (shuffle sharding), so that one loud flow fills its own hand and rarely another's;
the queue that has been served least goes next.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

ESTIMATED_SECONDS = 60.0  # what a request is reckoned to take until it has ended


class Rejected(Exception):
    """No seat, and no place to wait; the reason is upstream's label."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(eq=False)
class _Queue:
    waiting: deque[asyncio.Future[None]] = field(default_factory=deque)
    executing: int = 0
    served: float = 0.0  # virtual seconds


@dataclass(eq=False)
class Seat:
    """Leave it when the request has been served."""

    level: Level
    queue: _Queue | None
    began: float


class Level:
    """`queues` 0: who finds no seat is rejected."""

    def __init__(
        self,
        name: str,
        nominal: int,
        *,
        uid: str = "",
        lendable: int = 0,
        queues: int = 0,
        hand_size: int = 0,
        queue_length_max: int = 0,
        exempt: bool = False,
    ) -> None:
        self.name, self.uid, self.nominal, self.lendable, self.exempt = name, uid, nominal, lendable, exempt
        self.hand_size, self.queue_length_max = hand_size, queue_length_max
        self.queues = [_Queue() for _ in range(queues)]
        self.executing = self.waiting = self.rejected = self.dispatched = 0

    @property
    def spare(self) -> int:
        """Seats that others may use now."""
        return max(0, min(self.lendable, self.nominal - self.executing - self.waiting))

    async def enter(self, flow: str, limit: Callable[[], int], now: Callable[[], float], seconds_max: float) -> Seat:
        """A seat, perhaps after waiting. `limit` is how many this level may have now. Raises Rejected."""
        if self.exempt or (self.executing < limit() and not self.waiting):
            return self._sit(self._queue(flow) if self.queues else None, now)
        if not self.queues:
            self.rejected += 1
            raise Rejected("concurrency-limit")
        queue = self._queue(flow)
        if len(queue.waiting) >= self.queue_length_max:
            self.rejected += 1
            raise Rejected("queue-full")
        if not queue.waiting and not queue.executing:
            queue.served = max(queue.served, self._least_served())
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        queue.waiting.append(turn)
        self.waiting += 1
        try:
            async with asyncio.timeout(seconds_max):
                await turn
        except BaseException as error:
            if turn.done() and not turn.cancelled():
                self._stand_up(queue)  # the turn came as we gave up
                self.dispatch(limit)
            else:
                queue.waiting.remove(turn)
                self.waiting -= 1
            if isinstance(error, TimeoutError):
                self.rejected += 1
                raise Rejected("time-out") from None
            raise
        return Seat(self, queue, now())

    def leave(self, seat: Seat, limit: Callable[[], int], now: Callable[[], float]) -> None:
        if seat.queue is not None:
            seat.queue.served -= ESTIMATED_SECONDS - min(ESTIMATED_SECONDS, now() - seat.began)
        self._stand_up(seat.queue)
        self.dispatch(limit)

    def dispatch(self, limit: Callable[[], int]) -> None:
        """Give free seats to those who wait, the least served queue first."""
        while self.waiting and self.executing < limit():
            queue = min((q for q in self.queues if q.waiting), key=lambda q: q.served)
            turn = queue.waiting.popleft()
            self.waiting -= 1
            queue.executing += 1
            queue.served += ESTIMATED_SECONDS
            self.executing += 1
            self.dispatched += 1
            if turn.done():  # its waiter was cancelled and has not run yet
                self._stand_up(queue)
            else:
                turn.set_result(None)

    def _sit(self, queue: _Queue | None, now: Callable[[], float]) -> Seat:
        self.executing += 1
        self.dispatched += 1
        if queue is not None:
            if not queue.waiting and not queue.executing:
                queue.served = max(queue.served, self._least_served())
            queue.executing += 1
            queue.served += ESTIMATED_SECONDS
        return Seat(self, queue, now())

    def _stand_up(self, queue: _Queue | None) -> None:
        self.executing -= 1
        if queue is not None:
            queue.executing -= 1

    def _least_served(self) -> float:
        return min((q.served for q in self.queues if q.waiting or q.executing), default=0.0)

    def _queue(self, flow: str) -> _Queue:
        """The shortest of the flow's hand."""
        hand = deal(flow, len(self.queues), self.hand_size)
        return min((self.queues[card] for card in hand), key=lambda q: (len(q.waiting), q.executing))


def deal(flow: str, deck: int, hand_size: int) -> list[int]:
    """`hand_size` distinct numbers below `deck`, always the same for a flow."""
    entropy = int.from_bytes(hashlib.blake2b(flow.encode(), digest_size=16).digest(), "big")
    left = list(range(deck))
    hand = []
    for _ in range(min(hand_size, deck)):
        entropy, position = divmod(entropy, len(left))
        hand.append(left.pop(position))
    return hand
