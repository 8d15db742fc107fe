"""What reached the API server in a test, and faults put in its way by rule.

    cluster.requests.fail(verb="update", resource="pods", times=3)         # three 500s
    cluster.requests.delay(0.2, resource="leases")
    assert cluster.requests.count(verb="create", user="system:serviceaccount:*") <= 5

Faults act after authentication and authorization, before the request is carried out. Values may be shell patterns.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

from peavine.apiserver.http import Exchange, Response
from peavine.base.clock import Clock
from peavine.machinery.errors import ApiError

WRITES = ("create", "update", "patch", "delete", "deletecollection")
UNENDING = ("watch", "log", "exec", "attach", "portforward", "proxy")
RECORDED_MAX = 100_000


class Request(NamedTuple):
    verb: str
    group: str
    resource: str
    subresource: str
    namespace: str
    name: str
    user: str


@dataclass
class _Rule:
    where: dict[str, str]
    error: ApiError | None = None
    delay: float = 0.0
    left: int | None = None

    def takes(self, request: Request) -> bool:
        if self.left == 0 or not _matches(request, self.where):
            return False
        if self.left is not None:
            self.left -= 1
        return True


def _matches(request: Request, where: dict[str, str]) -> bool:
    return all(fnmatch.fnmatchcase(getattr(request, field), pattern) for field, pattern in where.items())


def _checked(where: dict[str, str]) -> dict[str, str]:
    unknown = set(where) - set(Request._fields)
    if unknown:
        raise TypeError(f"no such part of a request: {', '.join(sorted(unknown))}")
    return where


class Requests:
    """The record of one API server; `seen` is everything, oldest first (the first 100,000 since `forget`)."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._rules: list[_Rule] = []
        self.seen: list[Request] = []
        self.cut_off: Callable[[Request], bool] = lambda request: False  # whether it comes from a node that is lost
        self.handled = 0  # grows with every beginning and end of a request
        self.busy = 0  # requests that are being worked on, neither watching nor delayed on purpose
        self.delayed = 0  # requests that are delayed on purpose now

    def fail(self, *, times: int | None = None, code: int = 500, reason: str = "InternalError", **where: str) -> None:
        """Answer matching requests with an error, `times` times (for ever unless named)."""
        error = ApiError(code, reason, f"injected: {reason}")
        self._rules.append(_Rule(_checked(where), error, left=times))

    def delay(self, seconds: float, *, times: int | None = None, **where: str) -> None:
        """Hold matching requests for `seconds` of the cluster's clock."""
        self._rules.append(_Rule(_checked(where), delay=seconds, left=times))

    def heal(self) -> None:
        """Forget all faults."""
        self._rules.clear()

    def forget(self) -> None:
        """Start counting anew."""
        self.seen.clear()

    def count(self, **where: str) -> int:
        return sum(_matches(request, _checked(where)) for request in self.seen)

    def writes(self, **where: str) -> list[Request]:
        return [r for r in self.seen if r.verb in WRITES and _matches(r, _checked(where))]

    def around(
        self, handler: Callable[[Exchange], Awaitable[Response | None]]
    ) -> Callable[[Exchange], Awaitable[Response | None]]:
        """`handler` behind this record and its rules."""

        async def handle(exchange: Exchange) -> Any:
            info = exchange.info
            user = info.user.name if info.user else ""
            request = Request(info.verb, info.group, info.resource, info.subresource, info.namespace, info.name, user)
            if len(self.seen) < RECORDED_MAX:
                self.seen.append(request)
            if self.cut_off(request):
                raise ApiError(503, "ServiceUnavailable", "the node is cut off")
            for rule in self._rules:
                if rule.takes(request):
                    if rule.delay:
                        await self._hold(rule.delay)
                    if rule.error is not None:
                        raise rule.error
            counted = info.verb not in UNENDING and info.subresource not in UNENDING
            self.busy += counted
            self.handled += 1
            try:
                return await handler(exchange)
            finally:
                self.busy -= counted
                self.handled += 1

        return handle

    async def _hold(self, seconds: float) -> None:
        self.delayed += 1
        try:
            await self._clock.sleep(seconds)
        finally:
            self.delayed -= 1
