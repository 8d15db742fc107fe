"""Which pod is tried when."""

import pytest

from peavine.base.clock import SimulatedClock
from peavine.scheduler.queue import SchedulingQueue
from peavine.scheduler.template import Pod, Templates
from tests.scheduler.objects import pod


@pytest.fixture
def clock():
    return SimulatedClock()


@pytest.fixture
def queue(clock):
    return SchedulingQueue(clock)


_templates = Templates()


def _add(queue, name, **more):
    one = Pod(pod(name, **more), _templates)
    queue.add(one)
    return one


def _later(clock, seconds):
    clock._now += seconds


def test_the_higher_priority_goes_first_then_the_longer_waiting(queue, clock):
    for name, priority in (("low", 0), ("early", 5), ("late", 5)):
        _add(queue, name, priority=priority)
        _later(clock, 1)
    assert [queue.pop().pod.name for _ in range(3)] == ["early", "late", "low"]
    assert queue.pop() is None and len(queue) == 0


def test_a_refused_pod_waits_for_an_event_that_may_help_it(queue, clock):
    _add(queue, "a")
    queue.failed(queue.pop(), frozenset(("NodeResourcesFit",)))
    assert queue.pop() is None
    queue.happened("Node/Add", ["NodeResourcesFit"], lambda queued: False)
    assert queue.sizes() == {"active": 0, "backoff": 0, "unschedulable": 1, "gated": 0}
    queue.happened("Node/Add", ["NodeResourcesFit"], lambda queued: "NodeResourcesFit" in queued.rejected_by)
    assert queue.sizes()["backoff"] == 1
    # Nothing else is active: a pod that the cluster refused need not sit out its backoff.
    assert queue.pop().pod.name == "a"


def test_a_pod_whose_binding_failed_sits_out_a_backoff_that_doubles(queue, clock):
    _add(queue, "a")
    waited = []
    for _ in range(6):
        queued = queue.pop()
        queue.retry(queued)
        assert queue.pop() is None
        waited.append(queue.ready_in())
        _later(clock, queue.ready_in())
    assert waited == [1, 2, 4, 8, 10, 10]


def test_a_refused_pod_is_tried_again_after_five_minutes_anyway(queue, clock):
    _add(queue, "a")
    queue.failed(queue.pop(), frozenset(("NodeAffinity",)))
    assert queue.ready_in() == 300
    _later(clock, 299)
    assert queue.pop() is None
    _later(clock, 1)
    assert queue.pop().pod.name == "a"
    assert queue.ready_in() is None


def test_a_gated_pod_waits_for_its_gates(queue):
    _add(queue, "a", schedulingGates=[{"name": "g"}])
    queue.happened("Node/Add", ["NodeResourcesFit"], lambda queued: True)
    assert queue.pop() is None and queue.sizes()["gated"] == 1
    queue.update(Pod(pod("a"), _templates))
    assert queue.pop().pod.name == "a"


def test_a_change_of_the_pod_itself_ends_its_wait_and_other_updates_do_not(queue, clock):
    _add(queue, "a", cpu="64")
    queue.failed(queue.pop(), frozenset(("NodeResourcesFit",)))
    queue.update(Pod({**pod("a", cpu="64"), "status": {"conditions": [{"type": "PodScheduled"}]}}, _templates))
    assert queue.sizes()["unschedulable"] == 1
    queue.update(Pod(pod("a", cpu="1"), _templates))
    assert queue.sizes()["backoff"] == 1


def test_a_deleted_pod_leaves_wherever_it_waits(queue):
    for name in ("a", "b"):
        _add(queue, name)
    queue.failed(queue.pop(), frozenset())
    queue.remove(("default", "a"))
    queue.remove(("default", "b"))
    assert queue.pop() is None and len(queue) == 0 and not any(queue.sizes().values())


def test_a_pod_made_anew_under_the_same_name_is_another_pod(queue):
    _add(queue, "a")
    queue.failed(queue.pop(), frozenset(("NodeAffinity",)))
    queue.update(Pod(pod("a", meta={"uid": "another"}), _templates))
    assert queue.pop().attempts == 0


def test_waking_is_told_when_something_becomes_ready(clock):
    woken = []
    queue = SchedulingQueue(clock, wake=lambda: woken.append(1))
    _add(queue, "a")
    assert woken
