"""Events about objects, as `kubectl describe` shows them: recorded without waiting, repeated ones counted.

Follows client-go's event correlator: the same event again raises `count`; more than ten alike in ten minutes are
joined into one; a source may send 25 about an object at once, then one every five minutes.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any

from peavine.base.clock import REAL, Clock
from peavine.client.rest import Client, Object
from peavine.client.transport import Unreachable
from peavine.machinery.errors import ApiError

log = logging.getLogger(__name__)

PENDING_EVENTS_MAX = 1000
REMEMBERED_EVENTS_MAX = 4096
SIMILAR_EVENTS_MAX = 10
SIMILAR_SECONDS = 600.0
BURST_PER_OBJECT = 25
REFILL_PER_SECOND = 1 / 300
TRIES_MAX = 12
MESSAGE_LENGTH_MAX = 1024


def reference(obj: Object) -> dict[str, str]:
    """An ObjectReference to `obj`."""
    meta = obj.get("metadata", {})
    fields = {
        "kind": obj.get("kind", ""),
        "namespace": meta.get("namespace", ""),
        "name": meta.get("name", ""),
        "uid": meta.get("uid", ""),
        "apiVersion": obj.get("apiVersion", ""),
        "resourceVersion": meta.get("resourceVersion", ""),
    }
    return {k: v for k, v in fields.items() if v}


@dataclass
class _Series:
    name: str
    namespace: str
    count: int


class EventRecorder:
    """`event(...)` returns at once; `run()` sends. A full queue drops the newest: events are best effort."""

    def __init__(self, client: Client, component: str, host: str = "", *, clock: Clock = REAL) -> None:
        self._events = client.resource("v1", "events")
        self._source = {"component": component, **({"host": host} if host else {})}
        self._component, self._host = component, host
        self._clock = clock
        self._pending: asyncio.Queue[tuple[dict[str, Any], tuple[Any, ...]]] = asyncio.Queue(PENDING_EVENTS_MAX)
        self._series: OrderedDict[tuple[Any, ...], _Series] = OrderedDict()
        self._similar: OrderedDict[tuple[Any, ...], tuple[float, set[str]]] = OrderedDict()
        self._tokens: OrderedDict[tuple[Any, ...], tuple[float, float]] = OrderedDict()

    def event(self, obj: Object, type: str, reason: str, message: str, *, field_path: str = "") -> None:
        """Record one event about `obj` (an object, or a reference with kind, name, namespace, uid).

        `type` is Normal or Warning; `field_path` names a part, as `spec.containers{web}`.
        """
        about = reference(obj) if "metadata" in obj else dict(obj)
        if field_path:
            about["fieldPath"] = field_path
        if not self._allowed((about.get("uid"), about.get("name"), about.get("namespace"), about.get("kind"))):
            return
        message = message[:MESSAGE_LENGTH_MAX]
        message = self._joined(about, type, reason, message)
        now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(self._clock.time()))
        namespace = about.get("namespace") or "default"
        event = {
            "kind": "Event",
            "apiVersion": "v1",
            "metadata": {"name": f"{about['name']}.{int(self._clock.time() * 1e9):x}", "namespace": namespace},
            "involvedObject": about,
            "reason": reason,
            "message": message,
            "source": self._source,
            "firstTimestamp": now,
            "lastTimestamp": now,
            "count": 1,
            "type": type,
            "reportingComponent": self._component,
            "reportingInstance": self._host,
        }
        same = (about.get("uid"), about["name"], namespace, about.get("fieldPath"), type, reason, message)
        try:
            self._pending.put_nowait((event, same))
        except asyncio.QueueFull:
            log.debug("event dropped, queue is full: %s %s", reason, message)

    def _allowed(self, source: tuple[Any, ...]) -> bool:
        now = self._clock.monotonic()
        left, then = self._tokens.pop(source, (float(BURST_PER_OBJECT), now))
        left = min(BURST_PER_OBJECT, left + (now - then) * REFILL_PER_SECOND)
        self._tokens[source] = (left - 1 if left >= 1 else left, now)
        _trim(self._tokens)
        return left >= 1

    def _joined(self, about: dict[str, str], type: str, reason: str, message: str) -> str:
        now = self._clock.monotonic()
        group = (about.get("uid"), about.get("name"), about.get("namespace"), type, reason)
        first, seen = self._similar.pop(group, (now, set()))
        if now - first > SIMILAR_SECONDS:
            first, seen = now, set()
        if len(seen) < SIMILAR_EVENTS_MAX:
            seen.add(message)
        self._similar[group] = (first, seen)
        _trim(self._similar)
        return message if message in seen else f"(combined from similar events): {message}"

    async def run(self) -> None:
        """Send what is recorded. Ends by cancellation; what is still queued then is lost."""
        while True:
            event, same = await self._pending.get()
            for attempt in range(TRIES_MAX):
                try:
                    await self._send(event, same)
                    break
                except ApiError as error:
                    log.debug("event refused: %s", error)
                    break
                except (Unreachable, ConnectionError) as error:
                    log.debug("event not sent (try %d): %s", attempt + 1, error)
                    await self._clock.sleep(min(10.0, 0.1 * 2**attempt))

    async def _send(self, event: dict[str, Any], same: tuple[Any, ...]) -> None:
        series = self._series.get(same)
        if series is not None:
            patch = {"count": series.count + 1, "lastTimestamp": event["lastTimestamp"]}
            try:
                await self._events.patch(series.name, patch, series.namespace, type="strategic")
                series.count += 1
                return
            except ApiError as error:
                if error.code != 404:
                    raise
        await self._events.create(event)
        meta = event["metadata"]
        self._series[same] = _Series(meta["name"], meta["namespace"], 1)
        _trim(self._series)


def _trim(memory: OrderedDict[Any, Any]) -> None:
    while len(memory) > REMEMBERED_EVENTS_MAX:
        memory.popitem(last=False)
