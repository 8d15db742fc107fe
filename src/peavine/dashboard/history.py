"""What nodes and pods used over the last hour: samples of `metrics.k8s.io`, in memory, bounded.

They are taken with the rights of those who are logged in, and told only to who may list the same metrics now: each
question is asked of the API server first. Where nobody was logged in there is a gap.
"""

from __future__ import annotations

import re
from array import array
from collections.abc import Iterable
from typing import Any

import orjson

from peavine.base.clock import Clock
from peavine.client.transport import Unreachable
from peavine.dashboard.sessions import Sessions
from peavine.dashboard.upstream import Upstream
from peavine.machinery.quantity import QuantityError, parse_quantity

INTERVAL_SECONDS = 15.0
SPAN_SECONDS = 3600.0
SERIES_MAX = 6000
POINTS_MAX = int(SPAN_SECONDS / INTERVAL_SECONDS)
ROOT = "/apis/metrics.k8s.io/v1beta1"
SCOPE = re.compile(r"nodes|pods|namespaces/[a-z0-9-]{1,63}/pods")
# Whoever is logged in has these sampled; a namespace's pods are once they were asked for.
EVERYWHERE = ("nodes", "pods")
FIELDS = 3  # of one point: seconds since the history's birth, cores, bytes

Sample = tuple[str, float, float]


class History:
    """Points by scope ("nodes" or "pods") and name; a pod's name has its namespace before it."""

    def __init__(self, clock: Clock) -> None:
        self._clock, self._born = clock, clock.monotonic()
        self._epoch = clock.time()
        self._series: dict[tuple[str, str], array[float]] = {}

    def add(self, what: str, samples: Iterable[Sample]) -> None:
        """One point for each name, unless the last one is too young."""
        now = self._clock.monotonic() - self._born
        for name, cores, memory in samples:
            points = self._series.get((what, name))
            if points is None:
                if len(self._series) >= SERIES_MAX:
                    continue
                points = self._series[what, name] = array("f")
            if points and now - points[-FIELDS] < INTERVAL_SECONDS / 2:
                continue
            points.extend((now, cores, memory))
            if len(points) > POINTS_MAX * FIELDS:
                del points[:FIELDS]

    def forget_old(self) -> None:
        oldest = self._clock.monotonic() - self._born - SPAN_SECONDS
        for key in [key for key, points in self._series.items() if points[-FIELDS] < oldest]:
            del self._series[key]

    def told(self, what: str, names: Iterable[str]) -> dict[str, dict[str, list[float]]]:
        """{name: {time (Unix seconds), cpu (cores), memory (bytes)}} of those that are known."""
        found: dict[str, dict[str, list[float]]] = {}
        for name in names:
            points = self._series.get((what, name))
            if points is not None:
                times = [float(round(self._epoch + t)) for t in points[::FIELDS]]
                found[name] = {"time": times, "cpu": list(points[1::FIELDS]), "memory": list(points[2::FIELDS])}
        return found


class Recorder:
    """Fills a history through the sessions."""

    def __init__(self, sessions: Sessions, clock: Clock) -> None:
        self._sessions, self._clock = sessions, clock
        self.history = History(clock)
        self._scopes: dict[Upstream, set[str]] = {}

    async def ask(self, upstream: Upstream, scope: str, *, name: str = "", top: int = 0) -> tuple[int, Any]:
        """(status, body) for one user: the series of `name`, or of the `top` users of CPU, or of all.

        What the user may not list is answered as the API server answers it. Raises Unreachable.
        """
        status, body, samples = await _sampled(upstream, scope)
        if status != 200:
            return status, body
        self._scopes.setdefault(upstream, set(EVERYWHERE)).add(scope)
        what = _what(scope)
        self.history.add(what, samples)
        if name:
            samples = [sample for sample in samples if sample[0] == name]
        elif top:
            samples = sorted(samples, key=lambda sample: -sample[1])[:top]
        return 200, {"interval": INTERVAL_SECONDS, "series": self.history.told(what, (s[0] for s in samples))}

    async def run(self) -> None:
        while True:
            await self._clock.sleep(INTERVAL_SECONDS)
            await self.sample()

    async def sample(self) -> None:
        """Every scope once, with the first session whose user may list it."""
        upstreams = self._sessions.upstreams()
        self._scopes = {upstream: self._scopes.get(upstream, set(EVERYWHERE)) for upstream in upstreams}
        done: set[str] = set()
        for upstream, scopes in list(self._scopes.items()):
            for scope in sorted(scopes - done):
                if scope.startswith("namespaces/") and "pods" in done:
                    continue
                try:
                    status, _, samples = await _sampled(upstream, scope)
                except Unreachable:
                    return
                if status == 200:
                    done.add(scope)
                    self.history.add(_what(scope), samples)
                else:
                    # No right, or no metrics: not again, unless the page asks.
                    scopes.discard(scope)
        self.history.forget_old()


def _what(scope: str) -> str:
    return "nodes" if scope == "nodes" else "pods"


async def _sampled(upstream: Upstream, scope: str) -> tuple[int, Any, list[Sample]]:
    answer = await upstream.send("GET", f"{ROOT}/{scope}", {"accept": "application/json"}, b"")
    data = await answer.read()
    try:
        body = orjson.loads(data)
    except orjson.JSONDecodeError:
        body = None
    if answer.status != 200 or not isinstance(body, dict):
        return answer.status if answer.status >= 400 else 502, body, []
    return 200, None, [sample for item in body.get("items") or () if (sample := _sample(item)) is not None]


def _sample(item: dict[str, Any]) -> Sample | None:
    meta = item.get("metadata") or {}
    parts = [item["usage"]] if "usage" in item else [c.get("usage") or {} for c in item.get("containers") or ()]
    name = "/".join(filter(None, (meta.get("namespace"), meta.get("name"))))
    try:
        sums = [sum(parse_quantity(part.get(of, "0")).nanos / 1e9 for part in parts) for of in ("cpu", "memory")]
    except (QuantityError, AttributeError, TypeError):
        return None
    return name, sums[0], sums[1]
