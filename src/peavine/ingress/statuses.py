"""Statuses written beside the work: thousands of them must not hold up the next change of HAProxy."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any, NamedTuple

from peavine.base.clock import REAL, Clock
from peavine.base.lifetimes import scope
from peavine.client.rest import Client
from peavine.client.transport import Unreachable
from peavine.machinery.errors import ApiError

log = logging.getLogger(__name__)

Object = dict[str, Any]

writers = 8
conflict_seconds, trouble_seconds = 0.2, 2.0


class Target(NamedTuple):
    group_version: str
    plural: str
    namespace: str
    name: str


class StatusWriter:
    """A newer status of an object takes the place of one that waits. What cannot be written is not kept: `again` is
    called after a while, and who knows what is to be written puts it here once more.
    """

    def __init__(self, client: Client, again: Callable[[], None], clock: Clock = REAL) -> None:
        self._client, self._again, self._clock = client, again, clock
        self._waiting: dict[Target, Object] = {}
        self._under_way = 0
        self._some = asyncio.Event()
        self.idle = asyncio.Event()
        """Set while nothing waits or is under way."""
        self.idle.set()

    def put(self, target: Target, body: Object) -> None:
        """`body` is a merge patch of the status subresource."""
        self._waiting[target] = body
        self._some.set()
        self.idle.clear()

    async def run(self) -> None:
        async with scope() as tasks:
            for _ in range(writers - 1):
                tasks.start(self._work(), name="statuses")
            await self._work()

    async def _work(self) -> None:
        while True:
            while not self._waiting:
                self._some.clear()
                await self._some.wait()
            target = next(iter(self._waiting))
            body = self._waiting.pop(target)
            self._under_way += 1
            try:
                await self._write(target, body)
            finally:
                self._under_way -= 1
            if not self._waiting and not self._under_way:
                self.idle.set()

    async def _write(self, target: Target, body: Object) -> None:
        resource = self._client.resource(target.group_version, target.plural)
        try:
            await resource.patch(target.name, body, target.namespace or None, subresource="status")
        except (ApiError, Unreachable) as error:
            code = error.code if isinstance(error, ApiError) else 0
            if code == 404:
                return
            # Somebody else wrote first: what that was comes with the next events.
            level = logging.INFO if code == 409 else logging.WARNING
            log.log(level, "status of %s %s/%s: %s", target.plural, target.namespace, target.name, error)
            await self._clock.sleep(conflict_seconds if code == 409 else trouble_seconds)
            self._again()
