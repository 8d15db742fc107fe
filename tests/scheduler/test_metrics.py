"""The metrics: upstream's names and labels, and what they count."""

import asyncio
import re

from peavine.base.metrics import exposition
from tests.scheduler.objects import node, pod
from tests.scheduler.test_scheduler import _condition, running


def _samples(name):
    """Values by labels."""
    found = {}
    for line in exposition().decode().splitlines():
        match = re.fullmatch(rf"{name}(?:\{{(.*)\}})? (\S+)", line)
        if match:
            labels = dict(re.findall(r'(\w+)="([^"]*)"', match[1] or ""))
            found[tuple(sorted(labels.items()))] = float(match[2])
    return found


def _sum(name, **labels):
    return sum(value for key, value in _samples(name).items() if labels.items() <= dict(key).items())


def test_what_happens_to_pods_is_counted_under_upstreams_names():
    names = {
        "scheduler_schedule_attempts_total": {"result": "scheduled", "profile": "default-scheduler"},
        "scheduler_scheduling_attempt_duration_seconds_count": {"result": "scheduled", "profile": "default-scheduler"},
        "scheduler_scheduling_algorithm_duration_seconds_count": {},
        "scheduler_pod_scheduling_attempts_count": {},
        "scheduler_pod_scheduling_sli_duration_seconds_count": {"attempts": "1"},
        "scheduler_queue_incoming_pods_total": {"queue": "active", "event": "UnscheduledPodAdd"},
        "scheduler_framework_extension_point_duration_seconds_count": {
            "extension_point": "Filter",
            "status": "Success",
            "profile": "default-scheduler",
        },
        "scheduler_plugin_execution_duration_seconds_count": {
            "plugin": "NodeResourcesFit",
            "extension_point": "PreFilter",
            "status": "Success",
        },
        "scheduler_plugin_evaluation_total": {"plugin": "NodeResourcesFit", "extension_point": "Filter"},
        "scheduler_preemption_attempts_total": {},
        "scheduler_preemption_victims_count": {},
        "scheduler_preemption_goroutines_execution_total": {"result": "success"},
        "scheduler_preemption_goroutines_duration_seconds_count": {"result": "success"},
        "scheduler_queueing_hint_execution_duration_seconds_count": {"hint": "Queue"},
        "scheduler_event_handling_duration_seconds_count": {"event": "AssignedPodDelete"},
    }

    async def main():
        async with running(node("one", cpu="1")) as (api, _):
            api.put("pods", pod("low", cpu="800m"))
            await api.until(api.bound)
            api.put("pods", pod("high", cpu="800m", priority=100))
            await api.until(lambda: api.bound() == {"high": "one"})
            api.put("pods", pod("waits", cpu="800m"))
            await api.until(lambda: _condition(api, "waits"))
            assert _sum("scheduler_pending_pods", queue="unschedulable") == 1
            assert _sum("scheduler_unschedulable_pods", plugin="NodeResourcesFit", profile="default-scheduler") == 1
            assert _sum("scheduler_cache_size", type="nodes") == 1
            assert _sum("scheduler_goroutines", operation="binding") == 0
            api.remove("pods", "high", "default")
            await api.until(lambda: api.bound() == {"waits": "one"})

    before = {name: _sum(name, **labels) for name, labels in names.items()}
    asyncio.run(main())
    unchanged = [name for name, labels in names.items() if _sum(name, **labels) <= before[name]]
    assert unchanged == []
