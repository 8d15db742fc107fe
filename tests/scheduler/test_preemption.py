"""Who has to go so that a more important pod fits."""

import random

import pytest

from peavine.scheduler.evaluation import Evaluation
from peavine.scheduler.preemption import Preemption
from peavine.scheduler.profiles import default_profile
from tests.scheduler.objects import World, node, pod


def _preempt(world, obj):
    one = world.pod(obj)
    evaluation = Evaluation(world.context, default_profile(), one.template)
    assert not evaluation.best()[1], "the pod fits without"
    outcome = Preemption(world.context, random.Random(0)).try_for(one, evaluation, evaluation.reasons())
    if outcome.candidate is None:
        return outcome.refusal
    names = world.cluster.nodes.names
    return names[outcome.candidate.row], {victim.name for victim in outcome.candidate.victims}


# The same questions with and without an anti-affinity term: by arithmetic, and by trying out on the picture.
_TRIED = {
    "podAntiAffinity": {
        "requiredDuringSchedulingIgnoredDuringExecution": [
            {"topologyKey": "kubernetes.io/hostname", "labelSelector": {"matchLabels": {"none": "such"}}}
        ]
    }
}


@pytest.fixture(params=["by arithmetic", "by trial"])
def high(request):
    more = {} if request.param == "by arithmetic" else {"affinity": _TRIED}
    return lambda cpu="3", **spec: pod("high", cpu=cpu, priority=100, **more, **spec)


def test_only_as_many_and_only_the_least_important_are_removed(high):
    pods = [pod("a", cpu="1", on="n", priority=1), pod("b", cpu="1", on="n", priority=5)]
    pods += [pod("c", cpu="2", on="n", priority=3)]
    assert _preempt(World([node("n")], pods), high("1")) == ("n", {"a"})
    assert _preempt(World([node("n")], pods), high("3")) == ("n", {"a", "c"})


def test_the_node_with_the_least_important_victims_is_taken(high):
    nodes = [node("one"), node("two"), node("three")]
    pods = [pod("a", cpu="4", on="one", priority=9), pod("b", cpu="4", on="two", priority=2)]
    pods += [pod("c", cpu="4", on="three", priority=9)]
    assert _preempt(World(nodes, pods), high()) == ("two", {"b"})


def test_of_equal_priorities_fewer_victims_then_younger_ones_are_taken(high):
    nodes = [node("one"), node("two")]
    pods = [pod(f"a{n}", cpu="2", on="one") for n in range(2)] + [pod("b", cpu="4", on="two")]
    assert _preempt(World(nodes, pods), high()) == ("two", {"b"})
    old, young = pod("old", cpu="4", on="one"), pod("young", cpu="4", on="two")
    old["status"]["startTime"], young["status"]["startTime"] = "2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z"
    assert _preempt(World(nodes, [old, young]), high()) == ("two", {"young"})


def test_a_disruption_budget_is_broken_only_where_nothing_else_helps(high):
    nodes = [node("one"), node("two")]
    pods = [pod("guarded", cpu="4", on="one", labels={"app": "db"}), pod("b", cpu="4", on="two", priority=50)]
    budget = {
        "metadata": {"name": "db", "namespace": "default"},
        "spec": {"selector": {"matchLabels": {"app": "db"}}},
        "status": {"disruptionsAllowed": 0},
    }
    assert _preempt(World(nodes, pods, poddisruptionbudgets=[budget]), high()) == ("two", {"b"})
    assert _preempt(World(nodes[:1], pods[:1], poddisruptionbudgets=[budget]), high()) == ("one", {"guarded"})
    budget["status"]["disruptionsAllowed"] = 1
    assert _preempt(World(nodes, pods, poddisruptionbudgets=[budget]), high()) == ("one", {"guarded"})


def test_equal_or_higher_priority_is_no_victim_and_the_message_says_so(high):
    nodes = [node("one"), node("two", taints=[{"key": "k", "effect": "NoSchedule"}]), node("small", cpu="1")]
    pods = [pod("a", cpu="4", on="one", priority=100), pod("b", cpu="4", on="two")]
    assert _preempt(World(nodes, pods), high()) == (
        "0/3 nodes are available: 1 No preemption victims found for incoming pod, "
        "2 Preemption is not helpful for scheduling."
    )


def test_removal_that_does_not_make_room_is_not_done_and_the_message_says_why(high):
    pods = [pod("a", cpu="2", on="one", priority=100), pod("b", cpu="1", on="one")]
    assert _preempt(World([node("one")], pods), high()) == "0/1 nodes are available: 1 Insufficient cpu."


def test_a_pod_that_never_preempts_does_not(high):
    world = World([node("one")], [pod("a", cpu="4", on="one")])
    assert _preempt(world, high(preemptionPolicy="Never")) == "not eligible due to preemptionPolicy=Never."


def test_while_a_victim_ends_on_the_nominated_node_no_other_is_taken(high):
    ending = pod("a", cpu="4", on="one", meta={"deletionTimestamp": "2026-01-01T00:00:00Z"})
    world = World([node("one"), node("two")], [ending, pod("b", cpu="4", on="two")])
    waiting = high()
    waiting["status"]["nominatedNodeName"] = "one"
    assert _preempt(world, waiting) == "not eligible due to a terminating pod on the nominated node."


def test_room_that_is_promised_is_not_given_to_less_important_pods():
    world = World([node("one")])
    promised = world.pod(pod("high", cpu="3", priority=100))
    world.cluster.nominate(promised, "one")
    low = Evaluation(world.context, default_profile(), world.pod(pod("low", cpu="2")).template)
    higher = Evaluation(world.context, default_profile(), world.pod(pod("top", cpu="2", priority=200)).template)
    assert low.best()[1] == 0 and higher.best()[1] == 1
    assert low.reasons().counts == {"Insufficient cpu": 1}
    world.cluster.denominate(promised.key)
    assert low.best()[1] == 1


def test_a_pod_kept_away_by_anti_affinity_alone_removes_the_one_it_cannot_stand():
    apart = {
        "podAntiAffinity": {
            "requiredDuringSchedulingIgnoredDuringExecution": [
                {"topologyKey": "kubernetes.io/hostname", "labelSelector": {"matchLabels": {"app": "noisy"}}}
            ]
        }
    }
    pods = [pod("noisy", on="one", labels={"app": "noisy"}), pod("quiet", on="one")]
    world = World([node("one")], pods)
    assert _preempt(world, pod("high", priority=100, affinity=apart)) == ("one", {"noisy"})
    again = Evaluation(world.context, default_profile(), world.pod(pod("high", priority=100, affinity=apart)).template)
    assert again.reasons().counts == {"node(s) didn't match pod anti-affinity rules": 1}
