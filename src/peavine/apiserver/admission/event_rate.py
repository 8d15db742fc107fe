"""EventRateLimit: no namespace, user or source fills the store with events."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

from peavine.apiserver.admission.chain import PluginContext
from peavine.apiserver.admission.request import CREATE, UPDATE, AdmissionRequest, Plugin
from peavine.base.clock import Clock
from peavine.machinery import errors

DEFAULT_CACHE_SIZE = 4096
DEFAULT_LIMITS = ({"type": "Namespace", "qps": 50, "burst": 100}, {"type": "Server", "qps": 1000, "burst": 5000})


class _Buckets:
    """Token buckets by key; the least recently used are forgotten."""

    def __init__(self, limit: dict[str, Any], clock: Clock) -> None:
        self.kind, self.clock = limit["type"], clock
        self.rate, self.burst = float(limit["qps"]), float(limit["burst"])
        self.size = limit.get("cacheSize") or DEFAULT_CACHE_SIZE
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()  # key -> tokens, when

    def accept(self, key: str) -> bool:
        now = self.clock.monotonic()
        tokens, then = self._buckets.pop(key, (self.burst, now))
        tokens = min(self.burst, tokens + (now - then) * self.rate)
        accepted = tokens >= 1
        self._buckets[key] = (tokens - 1 if accepted else tokens, now)
        if len(self._buckets) > self.size:
            self._buckets.popitem(last=False)
        return accepted


class EventRateLimit(Plugin):
    name = "EventRateLimit"
    operations = frozenset((CREATE, UPDATE))
    resources = frozenset((("", "events"), ("events.k8s.io", "events")))

    def __init__(self, context: PluginContext) -> None:
        config = context.config.get(self.name) or {}
        self.limits = [_Buckets(limit, context.clock) for limit in config.get("limits") or DEFAULT_LIMITS]

    async def validate(self, req: AdmissionRequest) -> None:
        if req.dry_run:
            return
        for limit in self.limits:
            key = self._key(limit.kind, req)
            if not limit.accept(key):
                raise errors.too_many_requests(f"limit reached on type {limit.kind} for key {key}")

    @staticmethod
    def _key(kind: str, req: AdmissionRequest) -> str:
        if kind == "Namespace":
            return req.namespace
        if kind == "User":
            return req.user.name
        if kind != "SourceAndObject":
            return ""
        event = req.obj or {}
        source, target = event.get("source") or {}, event.get("involvedObject") or event.get("regarding") or {}
        parts = [source.get("component") or event.get("reportingController"), source.get("host")]
        parts += [target.get(key) for key in ("kind", "namespace", "name", "uid", "apiVersion")]
        return "".join(part or "" for part in parts)
