"""The loop, against an API server in the process."""

import asyncio
import contextlib

from peavine.base.lifetimes import scope
from peavine.machinery.errors import ApiError
from peavine.scheduler.config import API_VERSION, parse
from peavine.scheduler.scheduler import Scheduler
from tests.scheduler.fake_api import FakeApi
from tests.scheduler.objects import node, pod


@contextlib.asynccontextmanager
async def running(*nodes, api=None, **profile):
    """`profile` is of a KubeSchedulerProfile."""
    api = api or FakeApi()
    for one in nodes:
        api.put("nodes", one)
    kind = {"apiVersion": API_VERSION, "kind": "KubeSchedulerConfiguration"}
    async with scope() as tasks:
        scheduler = Scheduler(api, parse({**kind, "profiles": [profile]}))
        tasks.start(scheduler.run())
        yield api, scheduler


def _condition(api, name):
    status = api.get("pods", name, "default").get("status") or {}
    return next((c for c in status.get("conditions") or [] if c["type"] == "PodScheduled"), {})


def test_pods_are_bound_and_an_event_says_where():
    async def main():
        async with running(node("one")) as (api, _):
            for n in range(5):
                api.put("pods", pod(f"p{n}", cpu="500m"))
            await api.until(lambda: len(api.bound()) == 5 and len(api.events) == 5)
            event = api.events[0]
            assert (event["type"], event["reason"], event["source"]) == (
                "Normal",
                "Scheduled",
                {"component": "default-scheduler"},
            )
            assert event["message"] == f"Successfully assigned default/{event['involvedObject']['name']} to one"

    asyncio.run(main())


def test_a_pod_that_fits_nowhere_says_why_and_is_placed_once_it_fits():
    async def main():
        tainted = node("two", taints=[{"key": "k", "value": "v", "effect": "NoSchedule"}])
        async with running(node("one", cpu="1"), tainted) as (api, _):
            api.put("pods", pod("small", cpu="600m"))
            await api.until(api.bound)
            api.put("pods", pod("large", cpu="600m"))
            await api.until(lambda: _condition(api, "large"))
            condition = _condition(api, "large")
            assert (condition["status"], condition["reason"]) == ("False", "Unschedulable")
            assert condition["message"] == (
                "0/2 nodes are available: 1 Insufficient cpu, 1 node(s) had untolerated taint(s). no new claims to "
                "deallocate, preemption: 0/2 nodes are available: 1 No preemption victims found for incoming pod, "
                "1 Preemption is not helpful for scheduling."
            )
            await api.until(lambda: any(e["reason"] == "FailedScheduling" for e in api.events))
            assert {e["message"] for e in api.events if e["reason"] == "FailedScheduling"} == {condition["message"]}
            api.remove("pods", "small", "default")
            await api.until(lambda: "large" in api.bound())

    asyncio.run(main())


def test_without_nodes_the_message_is_upstreams():
    async def main():
        async with running() as (api, _):
            api.put("pods", pod("a"))
            await api.until(lambda: _condition(api, "a"))
            assert _condition(api, "a")["message"] == "no nodes available to schedule pods"
            api.put("nodes", node("one"))
            await api.until(api.bound)

    asyncio.run(main())


def test_a_failed_binding_gives_the_room_back_and_is_tried_again():
    async def main():
        async with running(node("one", cpu="1")) as (api, scheduler):
            failures = iter([ApiError(500, "InternalError", "boom")])
            api.refuse = lambda verb, plural, name: next(failures, None) if verb == "binding" else None
            scheduler.queue._backoff = 0.01
            api.put("pods", pod("a", cpu="800m"))
            await api.until(api.bound)
            assert [c for c in api.calls if c[0] == "binding"] == [("binding", "pods", "a")] * 2
            await api.until(lambda: any("binding rejected: boom" in e["message"] for e in api.events))

    asyncio.run(main())


def test_a_pod_that_goes_while_it_is_bound_leaves_nothing_behind():
    async def main():
        async with running(node("one", cpu="1")) as (api, scheduler):
            api.refuse = lambda verb, plural, name: (
                api.remove("pods", "a", "default") if verb == "binding" and name == "a" else None
            )
            api.put("pods", pod("a", cpu="800m"))
            await api.until(lambda: not api.objects["pods"] and not scheduler.cluster.pods)
            api.put("pods", pod("b", cpu="800m"))
            await api.until(lambda: api.bound() == {"b": "one"})

    asyncio.run(main())


def test_a_new_scheduler_counts_what_the_old_one_bound():
    async def main():
        api = FakeApi()
        async with running(node("one", cpu="1"), api=api):
            api.put("pods", pod("a", cpu="800m"))
            await api.until(api.bound)
        async with running(api=api):
            api.put("pods", pod("b", cpu="800m"))
            await api.until(lambda: _condition(api, "b"))
            assert api.bound() == {"a": "one"}

    asyncio.run(main())


def test_a_more_important_pod_takes_the_place_of_a_less_important_one():
    async def main():
        async with running(node("one", cpu="1")) as (api, _):
            api.put("pods", pod("low", cpu="800m"))
            await api.until(api.bound)
            api.put("pods", pod("high", cpu="800m", priority=100))
            await api.until(lambda: api.bound() == {"high": "one"})
            marked = next(c for c in api.calls if c == ("patch", "pods", "low"))
            assert api.calls.index(marked) < api.calls.index(("delete", "pods", "low"))
            assert api.get("pods", "high", "default")["status"]["nominatedNodeName"] == "one"
            await api.until(lambda: any(e["reason"] == "Preempted" for e in api.events))
            preempted = next(e for e in api.events if e["reason"] == "Preempted")
            assert preempted["message"] == "Preempted by pod uid-high on node one"

    asyncio.run(main())


def test_pods_of_other_schedulers_and_gated_pods_are_left_alone():
    async def main():
        async with running(node("one")) as (api, _):
            api.put("pods", pod("theirs", schedulerName="another"))
            api.put("pods", pod("gated", schedulingGates=[{"name": "g"}]))
            api.put("pods", pod("ours"))
            await api.until(api.bound)
            assert api.bound() == {"ours": "one"}
            api.put("pods", pod("gated"))
            await api.until(lambda: len(api.bound()) == 2)

    asyncio.run(main())


def test_a_daemon_sets_pod_goes_to_the_one_node_it_names_or_says_why_not():
    async def main():
        def daemon(name, on):
            term = {"matchFields": [{"key": "metadata.name", "operator": "In", "values": [on]}]}
            affinity = {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [term]}}
            return pod(name, cpu="1", affinity={"nodeAffinity": affinity})

        async with running(node("one"), node("two"), node("full", cpu="100m")) as (api, _):
            for name in ("two", "one", "full"):
                api.put("pods", daemon(f"d-{name}", name))
            await api.until(lambda: len(api.bound()) == 2 and _condition(api, "d-full"))
            assert api.bound() == {"d-one": "one", "d-two": "two"}
            assert _condition(api, "d-full")["message"].startswith(
                "0/3 nodes are available: 1 Insufficient cpu, 2 node(s) didn't satisfy plugin(s) [NodeAffinity]. "
            )

    asyncio.run(main())


def test_a_pod_for_a_node_that_does_not_exist_is_refused_by_all_that_do():
    async def main():
        async with running(*(node(f"n{i}") for i in range(64))) as (api, _):
            term = {"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["none"]}]}
            affinity = {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [term]}}
            api.put("pods", pod("lost", affinity={"nodeAffinity": affinity}))
            await api.until(lambda: _condition(api, "lost"))
            assert _condition(api, "lost")["message"].startswith(
                "0/64 nodes are available: 64 node(s) didn't satisfy plugin(s) [NodeAffinity]. "
            )
            api.put("nodes", node("none"))
            await api.until(lambda: api.bound() == {"lost": "none"})

    asyncio.run(main())


def test_room_promised_to_a_pod_that_is_deleted_goes_to_the_next():
    async def main():
        async with running(node("one", cpu="1")) as (api, _):
            waiting = pod("first", cpu="800m", priority=10, schedulingGates=[{"name": "g"}])
            waiting["status"]["nominatedNodeName"] = "one"
            api.put("pods", waiting)
            api.put("pods", pod("second", cpu="800m"))
            await api.until(lambda: _condition(api, "second"))
            api.remove("pods", "first", "default")
            await api.until(lambda: api.bound() == {"second": "one"})

    asyncio.run(main())


def test_a_thousand_pods_that_wait_for_the_same_thing_are_looked_at_once():
    async def main():
        async with running(node("one", cpu="1")) as (api, scheduler):
            looks = []
            preemption = scheduler.preemption["default-scheduler"]
            ask = preemption.try_for
            preemption.try_for = lambda *args: looks.append(1) or ask(*args)
            for n in range(1000):
                api.put("pods", pod(f"p{n}", cpu="2"))
            await api.until(lambda: all(_condition(api, f"p{n}") for n in range(1000)))
            assert len(looks) < 20  # once a batch that arrives between two looks at the cluster

    asyncio.run(main())


def _off(*points):
    return {name: {"disabled": [{"name": plugin}]} for name, plugin in points}


def test_plugins_can_be_left_out_where_they_say_no_to_pods_that_fit_nowhere():
    async def main():
        async with running(node("one", cpu="1"), plugins=_off(("postFilter", "DynamicResources"))) as (api, _):
            api.put("pods", pod("large", cpu="2"))
            await api.until(lambda: _condition(api, "large"))
            assert _condition(api, "large")["message"] == (
                "0/1 nodes are available: 1 Insufficient cpu. preemption: 0/1 nodes are available: "
                "1 Preemption is not helpful for scheduling."
            )
        async with running(node("one", cpu="1"), plugins=_off(("postFilter", "DefaultPreemption"))) as (api, _):
            api.put("pods", pod("low", cpu="800m"))
            await api.until(api.bound)
            api.put("pods", pod("high", cpu="800m", priority=10))
            await api.until(lambda: _condition(api, "high"))
            expected = "0/1 nodes are available: 1 Insufficient cpu. no new claims to deallocate"
            assert _condition(api, "high")["message"] == expected
            assert api.bound() == {"low": "one"}

    asyncio.run(main())


def test_without_its_plugin_nobody_waits_for_gates():
    async def main():
        async with running(node("one"), plugins=_off(("preEnqueue", "SchedulingGates"))) as (api, _):
            api.put("pods", pod("gated", schedulingGates=[{"name": "g"}]))
            await api.until(lambda: ("binding", "pods", "gated") in api.calls)

    asyncio.run(main())


def test_a_filter_without_its_first_half_fails_every_attempt():
    async def main():
        async with running(node("one"), plugins=_off(("preFilter", "NodePorts"))) as (api, _):
            api.put("pods", pod("p"))
            await api.until(lambda: _condition(api, "p"))
            assert _condition(api, "p")["reason"] == "SchedulerError"
            assert _condition(api, "p")["message"] == (
                'running "NodePorts" filter plugin: reading "PreFilterNodePorts" from cycleState: not found'
            )

    asyncio.run(main())


def test_a_percentage_of_nodes_still_finds_a_place():
    async def main():
        nodes = [node(f"n{n}", cpu="1") for n in range(150)]
        async with running(*nodes, percentageOfNodesToScore=10) as (api, _):
            for n in range(150):
                api.put("pods", pod(f"p{n}", cpu="1"))
            await api.until(lambda: len(api.bound()) == 150)
            assert len(set(api.bound().values())) == 150

    asyncio.run(main())


def test_a_pod_that_needs_a_new_kubelet_waits_until_one_says_that_it_is():
    async def main():
        async with running(node("old")) as (api, _):
            needs = pod("p")
            needs["spec"]["containers"][0]["restartPolicyRules"] = [{"action": "RestartAllContainers"}]
            api.put("pods", needs)
            await api.until(lambda: _condition(api, "p"))
            message = _condition(api, "p")["message"]
            assert message.startswith("0/1 nodes are available: 1 node(s) didn't match Pod's required features. ")
            new = node("old")
            new["status"]["declaredFeatures"] = ["RestartAllContainersOnContainerExits"]
            api.put("nodes", new)
            await api.until(api.bound)

    asyncio.run(main())
