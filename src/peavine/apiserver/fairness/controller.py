"""Priority and fairness for the whole server: levels and schemas from their objects, seats for requests."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any

from peavine.apiserver.authentication.user import User
from peavine.apiserver.fairness.borrowing import PERIOD_SECONDS, Claim, deal_seats, smoothed
from peavine.apiserver.fairness.matching import Matcher, Schema
from peavine.apiserver.fairness.queues import Level, Rejected
from peavine.apiserver.fairness.work import ONE, Estimator, Stock
from peavine.apiserver.lister import Lister, Writer
from peavine.apiserver.requests import RequestInfo
from peavine.base.clock import REAL, Clock
from peavine.base.lifetimes import scope
from peavine.machinery import errors
from peavine.machinery.errors import ApiError
from peavine.machinery.meta import now as stamp

log = logging.getLogger(__name__)

GROUP = "flowcontrol.apiserver.k8s.io"
WAIT_SECONDS_MAX = 15.0
TOO_MANY = "Too many requests, please try again later."


@dataclass(slots=True)
class Admitted:
    """How a request was classified; `headers` go on its answer. Its holder calls `leave`."""

    level: str
    schema: str
    headers: tuple[tuple[str, str], ...]
    give_back: Callable[[], None] | None = None

    def leave(self) -> None:
        """Give the seat back; twice is as good as once."""
        if self.give_back is not None:
            give_back, self.give_back = self.give_back, None
            give_back()

    async def release(self) -> None:
        self.leave()


class PriorityAndFairness:
    def __init__(
        self,
        lister: Lister,
        writer: Writer | None = None,
        *,
        seats: int = 600,
        stock: Stock | None = None,
        clock: Clock = REAL,
    ) -> None:
        """`seats` are those of all levels together that are not exempt; without `stock` every request takes one."""
        self.lister, self.writer, self.seats, self.clock = lister, writer, seats, clock
        self.estimator = Estimator(stock) if stock is not None else None
        self.levels: dict[str, Level] = {}
        self.matcher = Matcher([])
        self._stale = True
        self._changed = asyncio.Event()
        for resource in ("flowschemas", "prioritylevelconfigurations"):
            lister.on_change(GROUP, resource, self._object_changed)

    @contextlib.asynccontextmanager
    async def admit(self, info: RequestInfo, user: User) -> AsyncIterator[Admitted]:
        """Hold a seat for the block. Raises ApiError 429."""
        admitted = await self.enter(info, user)
        try:
            yield admitted
        finally:
            admitted.leave()

    async def enter(self, info: RequestInfo, user: User) -> Admitted:
        """A seat, until the caller leaves it; of a watch, when its first events are sent.

        Raises ApiError 429 where there is neither a seat nor a place to wait.
        """
        if self._stale:
            self._rebuild()
        schema = self.matcher.match(info, user)
        level = self.levels.get(schema.level) if schema is not None else None
        if schema is None or level is None:
            level, schema_name, schema_uid = self._last_resort(), "catch-all", ""
            flow = user.name
        else:
            schema_name, schema_uid = schema.name, schema.uid
            flow = f"{schema.name}\0{schema.flow(info, user)}"

        width = self.estimator.width(info, level.nominal) if self.estimator is not None else ONE
        try:
            seat = await level.enter(flow, WAIT_SECONDS_MAX, width)
        except Rejected as rejected:
            log.debug("%s %s of %s rejected by %s: %s", info.verb, info.path, user.name, level.name, rejected.reason)
            raise errors.too_many_requests(TOO_MANY, 1) from None
        headers = (
            ("X-Kubernetes-Pf-Flowschema-Uid", schema_uid),
            ("X-Kubernetes-Pf-Prioritylevel-Uid", level.uid),
        )
        return Admitted(level.name, schema_name, headers, lambda: level.leave(seat))

    def borrow(self) -> None:
        """Deal the seats anew, after the demand of the period that has ended."""
        left, levels, claims = self.seats, [], []
        for level in self.levels.values():
            most, envelope = level.demand.close_period()
            level.smoothed = smoothed(level.smoothed, envelope)
            least = max(level.nominal - level.lendable, min(level.nominal, most))
            if level.exempt:
                left -= least
                continue
            borrowable = self.seats if level.borrowable is None else level.borrowable
            levels.append(level)
            claims.append(Claim(least, level.nominal + borrowable, max(least, level.smoothed)))
        for level, seats in zip(levels, deal_seats(max(0, left), claims)):
            level.seats = seats
            level.dispatch()

    def _last_resort(self) -> Level:
        """Before the objects exist, and when somebody has deleted them."""
        return self.levels.setdefault("catch-all", self._level("catch-all", max(1, self.seats // 20)))

    def _level(self, name: str, nominal: int, **more: Any) -> Level:
        return Level(name, nominal, now=self.clock.monotonic, **more)

    def _object_changed(self, event: str, obj: dict[str, Any], old: dict[str, Any] | None) -> None:
        if old is None or event == "DELETED" or obj.get("spec") != old.get("spec"):
            self._stale = True
            self._changed.set()

    def _rebuild(self) -> None:
        """Levels keep who is seated and who waits, unless their queues change shape."""
        self._stale = False
        configurations = self.lister.list(GROUP, "prioritylevelconfigurations")
        shares: dict[str, int] = {}
        for obj in configurations:
            part = obj["spec"].get("limited") or obj["spec"].get("exempt") or {}
            shares[obj["metadata"]["name"]] = part.get(
                "nominalConcurrencyShares", 30 if "limited" in obj["spec"] else 0
            )
        total = sum(shares.values()) or 1
        levels: dict[str, Level] = {}
        for obj in configurations:
            name, spec = obj["metadata"]["name"], obj["spec"]
            part = spec.get("limited") or spec.get("exempt") or {}
            nominal = math.ceil(self.seats * shares[name] / total)
            lendable = round(nominal * (part.get("lendablePercent") or 0) / 100)
            response = part.get("limitResponse") or {}
            queuing = response.get("queuing") or {} if response.get("type") == "Queue" else {}
            queues = queuing.get("queues", 64) if response.get("type") == "Queue" else 0
            percent = part.get("borrowingLimitPercent")
            fresh = self._level(
                name,
                nominal,
                uid=obj["metadata"].get("uid", ""),
                lendable=lendable,
                borrowable=None if percent is None else round(nominal * percent / 100),
                queues=queues,
                hand_size=queuing.get("handSize", 8),
                queue_length_max=queuing.get("queueLengthLimit", 50),
                exempt=spec.get("type") == "Exempt",
            )
            known = self.levels.get(name)
            if known is not None and len(known.queues) == len(fresh.queues) and known.exempt == fresh.exempt:
                for attribute in ("nominal", "seats", "lendable", "borrowable", "uid", "hand_size", "queue_length_max"):
                    setattr(known, attribute, getattr(fresh, attribute))
                fresh = known
            levels[name] = fresh
        self.levels = levels
        self.matcher = Matcher([Schema(obj) for obj in self.lister.list(GROUP, "flowschemas")])
        for level in self.levels.values():
            level.dispatch()

    async def run(self) -> None:
        """Lend and borrow, and keep the `Dangling` condition of FlowSchemas true. Ends by cancellation."""
        async with scope() as tasks:
            tasks.start(self._keep_dealing(), name="borrowing")
            await self._keep_statuses()

    async def _keep_dealing(self) -> None:
        while True:
            await self.clock.sleep(PERIOD_SECONDS)
            self.borrow()

    async def _keep_statuses(self) -> None:
        while True:
            await self._changed.wait()
            self._changed.clear()
            try:
                await self.update_statuses()
            except ApiError as error:
                log.warning("conditions of FlowSchemas are not up to date: %s", error)

    async def update_statuses(self) -> None:
        if self.writer is None:
            return
        for obj in self.lister.list(GROUP, "flowschemas"):
            wanted = self._dangling(obj)
            if not _has(obj, wanted):
                await self.writer.patch(
                    GROUP,
                    "v1",
                    "flowschemas",
                    None,
                    obj["metadata"]["name"],
                    lambda live, wanted=wanted: _with(live, wanted),  # type: ignore[misc]
                    "status",
                )

    def _dangling(self, obj: dict[str, Any]) -> dict[str, str]:
        level = obj["spec"]["priorityLevelConfiguration"]["name"]
        words = f'This FlowSchema references the PriorityLevelConfiguration object named "{level}" '
        if self.lister.get(GROUP, "prioritylevelconfigurations", None, level) is not None:
            return {"type": "Dangling", "status": "False", "reason": "Found", "message": words + "and it exists"}
        return {
            "type": "Dangling",
            "status": "True",
            "reason": "NotFound",
            "message": words + "but there is no such object",
        }


def _has(obj: dict[str, Any], wanted: dict[str, str]) -> bool:
    conditions = (obj.get("status") or {}).get("conditions") or []
    return any(all(found.get(key) == value for key, value in wanted.items()) for found in conditions)


def _with(live: dict[str, Any], wanted: dict[str, str]) -> dict[str, Any] | None:
    if _has(live, wanted):
        return None
    conditions = [c for c in (live.get("status") or {}).get("conditions") or [] if c.get("type") != wanted["type"]]
    return {**live, "status": {"conditions": [*conditions, {**wanted, "lastTransitionTime": stamp()}]}}


class MaxInFlight:
    """Without priority and fairness: a plain limit on reads, and one on writes."""

    def __init__(self, reads: int = 400, writes: int = 200) -> None:
        self.reads, self.writes = reads, writes
        self._under_way = [0, 0]

    @contextlib.asynccontextmanager
    async def admit(self, info: RequestInfo, user: User) -> AsyncIterator[Admitted]:
        """Hold a place for the block. Raises ApiError 429."""
        admitted = await self.enter(info, user)
        try:
            yield admitted
        finally:
            admitted.leave()

    async def enter(self, info: RequestInfo, user: User) -> Admitted:
        kind = 0 if info.verb in ("get", "list", "watch") else 1
        limit = (self.reads, self.writes)[kind]
        if "system:masters" not in user.groups and limit and self._under_way[kind] >= limit:
            raise errors.too_many_requests(TOO_MANY, 1)
        self._under_way[kind] += 1

        def leave() -> None:
            self._under_way[kind] -= 1

        return Admitted("", "", (), leave)
