"""The scheduler's metrics, under upstream's names."""

from __future__ import annotations

from peavine.base.metrics import Counter, Gauge, Histogram

_FAST = tuple(0.001 * 2**n for n in range(15))
_SLI = tuple(0.01 * 2**n for n in range(20))

ATTEMPTS = Counter(
    "scheduler_schedule_attempts",
    "Number of attempts to schedule pods, by the result.",
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
CACHE = Gauge("scheduler_scheduler_cache_size", "Number of nodes, pods, and assumed pods in the cache.", ["type"])
PREEMPTION_ATTEMPTS = Counter("scheduler_preemption_attempts", "Total preemption attempts in the cluster till now")
PREEMPTION_VICTIMS = Histogram(
    "scheduler_preemption_victims", "Number of selected preemption victims", buckets=(1, 2, 4, 8, 16, 32, 64)
)
BINDINGS = Gauge("scheduler_goroutines", "Number of running tasks by the work they do.", ["operation"])
