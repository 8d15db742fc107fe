"""What /metrics says, under upstream's names. Plain dicts: counting a request costs a microsecond and no memory."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Mapping
from typing import Any

from peavine.apiserver.requests import RequestInfo

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_BUCKETS = (0.005, 0.025, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0, 1.25, 1.5, 2, 3, 4, 5, 6, 8, 10, 15, 20, 30, 45, 60)
_SIZES = (1000, 10_000, 100_000, 1_000_000, 10_000_000, 100_000_000, 1_000_000_000)
_STARTED = time.time()

Labels = tuple[str, ...]


class Histogram:
    """Counts of observations by upper bound, for each set of labels."""

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.values: dict[Labels, list[float]] = {}

    def observe(self, labels: Labels, value: float) -> None:
        row = self.values.get(labels)
        if row is None:
            row = self.values[labels] = [0.0] * (len(self.bounds) + 2)
        for at, bound in enumerate(self.bounds):
            if value <= bound:
                row[at] += 1
                break
        row[-2] += 1
        row[-1] += value


class ApiMetrics:
    """The counters of one server."""

    def __init__(self) -> None:
        self.requests: dict[Labels, int] = {}
        self.durations = Histogram(_BUCKETS)
        self.sizes = Histogram(_SIZES)
        self.in_flight = {"mutating": 0, "readOnly": 0}
        self.long_running: dict[Labels, int] = {}

    def observe(self, info: RequestInfo, status: int, seconds: float, size: int) -> None:
        verb = _VERBS.get(info.verb, info.verb.upper())
        if info.verb == "patch" and info.headers.get("content-type", "").startswith("application/apply-patch"):
            verb = "APPLY"
        scope = "cluster"
        if info.is_resource and info.parts[1:]:
            scope = "resource"
        elif info.namespace:
            scope = "namespace"
        dry_run = "All" if info.query.get("dryRun") else ""
        what = (verb, info.group, info.version, info.resource, info.subresource, scope)
        key = (*what, str(status), dry_run)
        self.requests[key] = self.requests.get(key, 0) + 1
        if verb not in ("WATCH", "CONNECT"):
            self.durations.observe((*what, dry_run), seconds)
            if verb in ("GET", "LIST"):
                self.sizes.observe(what, size)

    def exposition(self, server: Any) -> bytes:
        """Everything, in Prometheus' text format."""
        lines: list[str] = []
        what = ("verb", "group", "version", "resource", "subresource", "scope")
        _family(lines, "apiserver_request_total", "counter", "Counter of apiserver requests.")
        for labels, count in self.requests.items():
            names = (*what, "code", "dry_run", "component")
            lines.append(f"apiserver_request_total{_labels(names, (*labels, 'apiserver'))} {count}")
        _histogram(
            lines,
            "apiserver_request_duration_seconds",
            "Response latency distribution in seconds.",
            self.durations,
            (*what, "dry_run"),
        )
        _histogram(lines, "apiserver_response_sizes", "Response size distribution in bytes.", self.sizes, what)
        _family(lines, "apiserver_current_inflight_requests", "gauge", "Requests being answered, by kind.")
        for kind, count in self.in_flight.items():
            lines.append(f'apiserver_current_inflight_requests{{request_kind="{kind}"}} {count}')
        _family(lines, "apiserver_longrunning_requests", "gauge", "Watches and streams under way.")
        followed = (*what[:5], "component")
        for key, running in self.long_running.items():
            lines.append(f"apiserver_longrunning_requests{_labels(followed, (*key, 'apiserver'))} {running}")
        self._cache(lines, server.cache)
        _family(lines, "kubernetes_feature_enabled", "gauge", "Feature gates, by name and stage: 1 is on.")
        for name, stage, on in server.features:
            lines.append(f'kubernetes_feature_enabled{{name="{name}",stage="{stage}"}} {on:d}')
        _process(lines)
        return ("\n".join(lines) + "\n").encode()

    def _cache(self, lines: list[str], cache: Any) -> None:
        resources: Mapping[tuple[str, str], Any] = cache.resources
        _family(lines, "apiserver_storage_objects", "gauge", "Number of stored objects, by resource.")
        for (group, name), resource in resources.items():
            qualified = f"{name}.{group}" if group else name
            lines.append(f'apiserver_storage_objects{{resource="{qualified}"}} {resource.count}')
        _family(lines, "apiserver_registered_watchers", "gauge", "Number of watchers, by resource.")
        for (group, _), resource in resources.items():
            watchers = len(resource.watchers)
            if watchers:
                lines.append(f'apiserver_registered_watchers{{group="{group}",kind="{resource.form.kind}"}} {watchers}')
        _family(lines, "apiserver_watch_cache_resource_version", "gauge", "Revision that the watch cache shows.")
        lines.append(f"apiserver_watch_cache_resource_version {cache.revision}")


_VERBS = {"create": "POST", "update": "PUT", "delete": "DELETE", "deletecollection": "DELETECOLLECTION"}


def _escape(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _labels(names: Iterable[str], values: Iterable[str]) -> str:
    return "{" + ",".join(f'{name}="{_escape(value)}"' for name, value in zip(names, values)) + "}"


def _family(lines: list[str], name: str, type: str, help: str) -> None:
    lines.append(f"# HELP {name} {help}")
    lines.append(f"# TYPE {name} {type}")


def _histogram(lines: list[str], name: str, help: str, histogram: Histogram, names: tuple[str, ...]) -> None:
    _family(lines, name, "histogram", help)
    for values, row in histogram.values.items():
        labels = _labels(names, values)[:-1]
        total = 0.0
        for bound, count in zip(histogram.bounds, row):
            total += count
            lines.append(f'{name}_bucket{labels},le="{bound:g}"}} {total:g}')
        lines.append(f'{name}_bucket{labels},le="+Inf"}} {row[-2]:g}')
        lines.append(f"{name}_sum{labels}}} {row[-1]}")
        lines.append(f"{name}_count{labels}}} {row[-2]:g}")


def _process(lines: list[str]) -> None:
    times = os.times()
    _family(lines, "process_cpu_seconds_total", "counter", "Total user and system CPU time spent in seconds.")
    lines.append(f"process_cpu_seconds_total {times.user + times.system:.2f}")
    _family(lines, "process_start_time_seconds", "gauge", "Start time of the process since unix epoch in seconds.")
    lines.append(f"process_start_time_seconds {_STARTED:.2f}")
    try:
        with open("/proc/self/statm", encoding="ascii") as file:
            virtual, resident = (int(field) * os.sysconf("SC_PAGE_SIZE") for field in file.read().split()[:2])
        files = len(os.listdir("/proc/self/fd"))
    except OSError:
        return
    _family(lines, "process_resident_memory_bytes", "gauge", "Resident memory size in bytes.")
    lines.append(f"process_resident_memory_bytes {resident}")
    _family(lines, "process_virtual_memory_bytes", "gauge", "Virtual memory size in bytes.")
    lines.append(f"process_virtual_memory_bytes {virtual}")
    _family(lines, "process_open_fds", "gauge", "Number of open file descriptors.")
    lines.append(f"process_open_fds {files}")
