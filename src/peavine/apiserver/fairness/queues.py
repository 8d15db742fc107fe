"""One priority level: seats, and fair queues for who must wait for one.

Flows are dealt to a few queues each (shuffle sharding), so that one loud flow fills its own hand and rarely another's;
the queue that has been served least goes next. A wide request takes several seats; one that is wider than the level is
served alone.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache

from peavine.apiserver.fairness.borrowing import Demand
from peavine.apiserver.fairness.work import ONE, Width

ESTIMATED_SECONDS = 60.0  # what a request is reckoned to take until it has ended


class Rejected(Exception):
    """No seat, and no place to wait; the reason is upstream's label."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(eq=False)
class _Turn:
    """One who waits."""

    width: Width
    called: asyncio.Future[None]


@dataclass(eq=False)
class _Queue:
    waiting: deque[_Turn] = field(default_factory=deque)
    executing: int = 0
    served: float = 0.0  # virtual seat seconds


@dataclass(eq=False)
class Seat:
    """Leave it when the request has been served."""

    queue: _Queue | None
    width: Width
    began: float


class Level:
    """`queues` 0: who finds no seat is rejected. `seats` is what the level has now, after lending and borrowing."""

    def __init__(
        self,
        name: str,
        nominal: int,
        *,
        uid: str = "",
        lendable: int = 0,
        borrowable: int | None = None,
        queues: int = 0,
        hand_size: int = 0,
        queue_length_max: int = 0,
        exempt: bool = False,
        now: Callable[[], float] = lambda: 0.0,
    ) -> None:
        self.name, self.uid, self.nominal, self.lendable, self.exempt = name, uid, nominal, lendable, exempt
        self.borrowable = borrowable  # None: as much as there is
        self.seats = nominal
        self.hand_size, self.queue_length_max = hand_size, queue_length_max
        self.queues = [_Queue() for _ in range(queues)]
        self.executing = self.waiting = self.rejected = self.dispatched = 0  # requests
        self.taken = self.wanted = 0  # seats: of those that are served, of those that wait
        self.demand, self.smoothed = Demand(now), 0.0
        self._now = now

    async def enter(self, flow: str, seconds_max: float, width: Width = ONE) -> Seat:
        """A seat (or as many as the width says), perhaps after waiting. Raises Rejected."""
        queue = self._queue(flow) if self.queues else None
        if self.exempt or (not self.waiting and self._room(width)):
            return self._sit(queue, width)
        if queue is None:
            self.rejected += 1
            raise Rejected("concurrency-limit")
        if len(queue.waiting) >= self.queue_length_max:
            self.rejected += 1
            raise Rejected("queue-full")
        self._catch_up(queue)
        turn = _Turn(width, asyncio.get_running_loop().create_future())
        queue.waiting.append(turn)
        self._wait(1, width.most)
        try:
            async with asyncio.timeout(seconds_max):
                await turn.called
        except BaseException as error:
            if turn in queue.waiting:
                queue.waiting.remove(turn)
                self._wait(-1, -width.most)
            elif not turn.called.cancelled():
                self._stand_up(queue, width.most, 1)  # the turn came as we gave up
            self.dispatch()
            if isinstance(error, TimeoutError):
                self.rejected += 1
                raise Rejected("time-out") from None
            raise
        return Seat(queue, width, self._now())

    def leave(self, seat: Seat) -> None:
        """The request has been served. What its events still need is held a little longer."""
        width, queue = seat.width, seat.queue
        if queue is not None:
            spent = min(ESTIMATED_SECONDS, self._now() - seat.began)
            queue.served -= width.seats * (ESTIMATED_SECONDS - spent)
            queue.served += width.after * width.seconds
        held = width.after if width.seconds > 0 and not self.exempt else 0
        self._stand_up(queue, width.most - held, 1)
        if held:
            asyncio.get_running_loop().call_later(width.seconds, self._release, queue, held)
        self.dispatch()

    def _release(self, queue: _Queue | None, seats: int) -> None:
        self._stand_up(queue, seats, 0)
        self.dispatch()

    def dispatch(self) -> None:
        """Give free seats to those who wait, the least served queue first; nobody overtakes who is too wide for now."""
        while self.waiting:
            queue = min((q for q in self.queues if q.waiting), key=lambda q: q.served)
            turn = queue.waiting[0]
            if turn.called.done():  # its waiter was cancelled and has not run yet
                queue.waiting.popleft()
                self._wait(-1, -turn.width.most)
                continue
            if not self._room(turn.width):
                return
            queue.waiting.popleft()
            self._wait(-1, -turn.width.most)
            self._count(queue, turn.width)
            turn.called.set_result(None)

    def _room(self, width: Width) -> bool:
        return self.taken + width.most <= self.seats or (not self.taken and self.seats > 0)

    def _sit(self, queue: _Queue | None, width: Width) -> Seat:
        if queue is not None:
            self._catch_up(queue)
        self._count(queue, width)
        return Seat(queue, width, self._now())

    def _count(self, queue: _Queue | None, width: Width) -> None:
        self.executing += 1
        self.dispatched += 1
        self.taken += width.most
        if queue is not None:
            queue.executing += 1
            queue.served += width.seats * ESTIMATED_SECONDS
        self.demand.set(self.taken + self.wanted)

    def _stand_up(self, queue: _Queue | None, seats: int, requests: int) -> None:
        self.executing -= requests
        self.taken -= seats
        if queue is not None:
            queue.executing -= requests
        self.demand.set(self.taken + self.wanted)

    def _wait(self, requests: int, seats: int) -> None:
        self.waiting += requests
        self.wanted += seats
        self.demand.set(self.taken + self.wanted)

    def _catch_up(self, queue: _Queue) -> None:
        """A queue that was idle has saved up nothing."""
        if not queue.waiting and not queue.executing:
            least = min((q.served for q in self.queues if q.waiting or q.executing), default=0.0)
            queue.served = max(queue.served, least)

    def _queue(self, flow: str) -> _Queue:
        """The shortest of the flow's hand."""
        hand = deal(flow, len(self.queues), self.hand_size)
        return min((self.queues[card] for card in hand), key=lambda q: (len(q.waiting), q.executing))


@lru_cache(maxsize=2048)
def deal(flow: str, deck: int, hand_size: int) -> tuple[int, ...]:
    """`hand_size` distinct numbers below `deck`, always the same for a flow."""
    entropy = int.from_bytes(hashlib.blake2b(flow.encode(), digest_size=16).digest(), "big")
    left = list(range(deck))
    hand = []
    for _ in range(min(hand_size, deck)):
        entropy, position = divmod(entropy, len(left))
        hand.append(left.pop(position))
    return tuple(hand)
