"""The scheduler's metrics, under upstream's names."""

from __future__ import annotations

import functools
from typing import Any

from peavine.base.metrics import Counter, Gauge, Histogram

_FAST = tuple(0.001 * 2**n for n in range(15))
_SLI = tuple(0.01 * 2**n for n in range(20))

ATTEMPTS = Counter(
    "scheduler_schedule_attempts",
    "Number of attempts to schedule pods, by the result. 'unschedulable' means a pod could not be scheduled, while "
    "'error' means an internal scheduler problem.",
    ["profile", "result"],
)
ATTEMPT_SECONDS = Histogram(
    "scheduler_scheduling_attempt_duration_seconds",
    "Scheduling attempt latency in seconds (scheduling algorithm + binding)",
    ["profile", "result"],
    buckets=_FAST,
)
ALGORITHM_SECONDS = Histogram(
    "scheduler_scheduling_algorithm_duration_seconds", "Scheduling algorithm latency in seconds", buckets=_FAST
)
SLI_SECONDS = Histogram(
    "scheduler_pod_scheduling_sli_duration_seconds",
    "E2e latency for a pod being scheduled, from the time the pod enters the scheduling queue.",
    ["attempts"],
    buckets=_SLI,
)
POD_ATTEMPTS = Histogram(
    "scheduler_pod_scheduling_attempts",
    "Number of attempts to successfully schedule a pod.",
    buckets=(1, 2, 4, 8, 16),
)
PENDING = Gauge("scheduler_pending_pods", "Number of pending pods, by the queue type.", ["queue"])
INCOMING = Counter(
    "scheduler_queue_incoming_pods",
    "Number of pods added to scheduling queues by event and queue type.",
    ["queue", "event"],
)
UNSCHEDULABLE = Gauge(
    "scheduler_unschedulable_pods",
    "The number of unschedulable pods broken down by plugin name.",
    ["plugin", "profile"],
)
CACHE = Gauge(
    "scheduler_cache_size", "Number of nodes, pods, and assumed (bound) pods in the scheduler cache.", ["type"]
)
PREEMPTION_ATTEMPTS = Counter("scheduler_preemption_attempts", "Total preemption attempts in the cluster till now")
PREEMPTION_VICTIMS = Histogram(
    "scheduler_preemption_victims", "Number of selected preemption victims", buckets=(1, 2, 4, 8, 16, 32, 64)
)
PREEMPTIONS = Counter(
    "scheduler_preemption_goroutines_execution", "Number of preemptions that were carried out.", ["result"]
)
PREEMPTION_SECONDS = Histogram(
    "scheduler_preemption_goroutines_duration_seconds",
    "Duration of removing the victims of one preemption.",
    ["result"],
    buckets=_SLI,
)
TASKS = Gauge("scheduler_goroutines", "Number of running tasks by the work they do.", ["operation"])
POINT_SECONDS = Histogram(
    "scheduler_framework_extension_point_duration_seconds",
    "Latency for running all plugins of a specific extension point.",
    ["extension_point", "status", "profile"],
    buckets=tuple(0.0001 * 2**n for n in range(12)),
)
PLUGIN_SECONDS = Histogram(
    "scheduler_plugin_execution_duration_seconds",
    "Duration for running a plugin at a specific extension point (of one in ten times).",
    ["plugin", "extension_point", "status"],
    buckets=tuple(0.00001 * 1.5**n for n in range(20)),
)
EVALUATIONS = Counter(
    "scheduler_plugin_evaluation",
    "Number of attempts to schedule pods by each plugin and the extension point (PreFilter and Filter).",
    ["plugin", "extension_point", "profile"],
)
HINT_SECONDS = Histogram(
    "scheduler_queueing_hint_execution_duration_seconds",
    "Latency for executing a queueing hint, by plugin, event and answer.",
    ["plugin", "event", "hint"],
    buckets=tuple(0.00001 * 2**n for n in range(12)),
)
EVENT_SECONDS = Histogram(
    "scheduler_event_handling_duration_seconds",
    "Latency of moving pods that wait when something has happened in the cluster.",
    ["event"],
    buckets=tuple(0.0001 * 2**n for n in range(12)),
)
CLAIMS_CREATED = Counter(
    "scheduler_resourceclaim_creates", "Number of ResourceClaims that the scheduler has created.", ["status"]
)
VOLUME_ERRORS = Counter("scheduler_volume_scheduling_stage_error", "Volume scheduling stage error count", ["operation"])


@functools.cache
def plugin_seconds(plugin: str, point: str) -> Any:
    """The histogram of one plugin at one point: looking children up by their labels costs more than counting."""
    return PLUGIN_SECONDS.labels(plugin, point, "Success")


@functools.cache
def point_seconds(point: str, status: str, profile: str) -> Any:
    return POINT_SECONDS.labels(point, status, profile)
