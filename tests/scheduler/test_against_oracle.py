"""The array arithmetic says the same as the plain rules, on random clusters, also after random changes."""

import random
from collections import Counter

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from peavine.scheduler.cluster import Cluster
from peavine.scheduler.context import Context
from peavine.scheduler.evaluation import Evaluation
from peavine.scheduler.nodes import ALL
from peavine.scheduler.plugins.node_resources import NodeResourcesFit
from peavine.scheduler.preemption import Preemption
from peavine.scheduler.profiles import default_profile
from peavine.scheduler.template import Pod, Templates
from tests.scheduler import oracle
from tests.scheduler.objects import World, node, pod

ZONE, HOSTNAME = "topology.kubernetes.io/zone", "kubernetes.io/hostname"
_selectors = st.one_of(
    st.fixed_dictionaries({"matchLabels": st.dictionaries(st.sampled_from("ab"), st.sampled_from("xy"), max_size=2)}),
    st.fixed_dictionaries(
        {
            "matchExpressions": st.lists(
                st.one_of(
                    st.fixed_dictionaries(
                        {
                            "key": st.sampled_from("ab"),
                            "operator": st.sampled_from(["In", "NotIn"]),
                            "values": st.lists(st.sampled_from("xyz"), min_size=1, max_size=2),
                        }
                    ),
                    st.fixed_dictionaries(
                        {"key": st.sampled_from("ab"), "operator": st.sampled_from(["Exists", "DoesNotExist"])}
                    ),
                ),
                min_size=1,
                max_size=2,
            )
        }
    ),
    st.none(),
)
_keys = st.sampled_from([ZONE, HOSTNAME, "rack"])
_terms = st.fixed_dictionaries(
    {"topologyKey": _keys, "labelSelector": _selectors},
    optional={
        "namespaces": st.lists(st.sampled_from(["one", "two"]), max_size=2),
        "namespaceSelector": st.sampled_from([{}, {"matchLabels": {"team": "t"}}]),
    },
)
_weighted = st.fixed_dictionaries({"weight": st.integers(1, 100), "podAffinityTerm": _terms})
_pod_affinity = st.fixed_dictionaries(
    {}, optional={oracle.REQUIRED: st.lists(_terms, max_size=2), oracle.PREFERRED: st.lists(_weighted, max_size=2)}
)
_node_terms = st.fixed_dictionaries(
    {},
    optional={
        "matchExpressions": st.lists(
            st.sampled_from(
                [
                    {"key": ZONE, "operator": "In", "values": ["z0", "z1"]},
                    {"key": "rack", "operator": "DoesNotExist"},
                    {"key": "rack", "operator": "Exists"},
                    {"key": "size", "operator": "Gt", "values": ["3"]},
                    {"key": "size", "operator": "Lt", "values": ["5"]},
                    {"key": ZONE, "operator": "NotIn", "values": ["z0"]},
                ]
            ),
            max_size=2,
        ),
        "matchFields": st.just([{"key": "metadata.name", "operator": "NotIn", "values": ["n1"]}]),
    },
)
_node_affinity = st.fixed_dictionaries(
    {},
    optional={
        oracle.REQUIRED: st.fixed_dictionaries({"nodeSelectorTerms": st.lists(_node_terms, min_size=1, max_size=2)}),
        oracle.PREFERRED: st.lists(
            st.fixed_dictionaries({"weight": st.integers(1, 100), "preference": _node_terms}), max_size=2
        ),
    },
)
_constraints = st.fixed_dictionaries(
    {
        "maxSkew": st.integers(1, 3),
        "topologyKey": _keys,
        "whenUnsatisfiable": st.sampled_from(["DoNotSchedule", "ScheduleAnyway"]),
        "labelSelector": _selectors,
    },
    optional={
        "minDomains": st.integers(1, 4),
        "nodeAffinityPolicy": st.sampled_from(["Honor", "Ignore"]),
        "nodeTaintsPolicy": st.sampled_from(["Honor", "Ignore"]),
    },
)
_taints = st.lists(
    st.fixed_dictionaries(
        {
            "key": st.sampled_from("kl"),
            "value": st.sampled_from("vw"),
            "effect": st.sampled_from(["NoSchedule", "NoExecute", "PreferNoSchedule"]),
        }
    ),
    max_size=2,
)
_tolerations = st.lists(
    st.one_of(
        st.fixed_dictionaries(
            {"key": st.sampled_from("kl"), "value": st.sampled_from("vw")},
            optional={"effect": st.sampled_from(["NoSchedule", "PreferNoSchedule"])},
        ),
        st.fixed_dictionaries({"key": st.sampled_from("kl"), "operator": st.just("Exists")}),
    ),
    max_size=2,
)
_containers = st.fixed_dictionaries(
    {
        "name": st.just("c"),
        "image": st.sampled_from(["big", "small:1", "none"]),
        "resources": st.fixed_dictionaries(
            {
                "requests": st.fixed_dictionaries(
                    {},
                    optional={
                        "cpu": st.sampled_from(["0", "100m", "1500m", "3"]),
                        "memory": st.sampled_from(["64Mi", "1Gi", "5G"]),
                        "example.com/gpu": st.sampled_from(["1", "2"]),
                    },
                )
            }
        ),
    },
    optional={
        "ports": st.lists(
            st.fixed_dictionaries(
                {"containerPort": st.just(80), "hostPort": st.sampled_from([0, 80, 81])},
                optional={"hostIP": st.sampled_from(["0.0.0.0", "10.0.0.1", "10.0.0.2"])},
            ),
            max_size=1,
        )
    },
)


@st.composite
def _pods(draw, name):
    spec = {"containers": draw(st.lists(_containers, min_size=1, max_size=2))}
    meta = {
        "name": name,
        "namespace": draw(st.sampled_from(["one", "two"])),
        "uid": name,
        "labels": draw(st.dictionaries(st.sampled_from("ab"), st.sampled_from("xy"), max_size=2)),
    }
    if draw(st.booleans()):
        spec["affinity"] = draw(
            st.fixed_dictionaries(
                {},
                optional={
                    "podAffinity": _pod_affinity,
                    "podAntiAffinity": _pod_affinity,
                    "nodeAffinity": _node_affinity,
                },
            )
        )
    spec["tolerations"] = draw(_tolerations)
    if draw(st.booleans()):
        spec["topologySpreadConstraints"] = draw(st.lists(_constraints, max_size=2))
    if draw(st.booleans()):
        spec["nodeSelector"] = draw(st.dictionaries(st.just(ZONE), st.sampled_from(["z0", "z1"]), max_size=1))
    return {"metadata": meta, "spec": spec}


@st.composite
def _nodes(draw, n):
    labels = {HOSTNAME: f"n{n}"} if draw(st.integers(0, 4)) else {}
    labels |= draw(
        st.fixed_dictionaries(
            {},
            optional={
                ZONE: st.sampled_from(["z0", "z1", "z2"]),
                "rack": st.sampled_from(["r0", "r1"]),
                "size": st.sampled_from(["2", "4", "large"]),
            },
        )
    )
    allocatable = draw(
        st.fixed_dictionaries(
            {"pods": st.sampled_from(["2", "110"])},
            optional={
                "cpu": st.sampled_from(["2", "4"]),
                "memory": st.sampled_from(["4Gi", "16Gi"]),
                "example.com/gpu": st.just("2"),
            },
        )
    )
    images = draw(
        st.lists(
            st.sampled_from(
                [{"names": ["big:latest"], "sizeBytes": 900 << 20}, {"names": ["small:1"], "sizeBytes": 90 << 20}]
            ),
            unique_by=lambda i: i["names"][0],
        )
    )
    return {
        "metadata": {"name": f"n{n}", "labels": labels},
        "spec": {"taints": draw(_taints), "unschedulable": draw(st.integers(0, 5)) == 0},
        "status": {"allocatable": allocatable, "images": images},
    }


_NAMESPACES = {"one": {"team": "t"}, "two": {}}


def _compare(evaluation, cluster, pod, state):
    names = cluster.nodes.names
    verdicts = {n["metadata"]["name"]: oracle.verdict(pod, n, state) for n in state.nodes}
    feasible = evaluation.feasible()
    assert {names[row] for row in np.flatnonzero(feasible)} == {name for name, why in verdicts.items() if not why}
    if not feasible.any():
        assert evaluation.reasons().counts == Counter(why for all_why in verdicts.values() for why in all_why)
        return
    fitting = [n for n in state.nodes if not verdicts[n["metadata"]["name"]]]
    want, got = oracle.scores(pod, fitting, state), evaluation.totals(feasible)
    # A plugin that rates all nodes alike may say so by any number: the differences count.
    best = max(want.values())
    assert {n: v - best for n, v in want.items()} == {
        names[row]: int(got[row] - got[feasible].max()) for row in np.flatnonzero(feasible)
    }
    rows, number = evaluation.best()
    assert number == len(fitting) and {names[row] for row in rows} == {n for n, v in want.items() if v == best}


@settings(max_examples=100, derandomize=True, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.data())
def test_filters_scores_and_reasons_are_those_of_the_plain_rules(data):
    state = oracle.State([data.draw(_nodes(n)) for n in range(data.draw(st.integers(1, 5)))], [], _NAMESPACES)
    templates, cluster = Templates(), Cluster()
    for name, labels in _NAMESPACES.items():
        cluster.set_namespace(name, labels)
    for one in state.nodes:
        cluster.set_node(one)
    node_names = st.sampled_from([n["metadata"]["name"] for n in state.nodes])
    incoming = data.draw(_pods("incoming"))
    template = Pod(incoming, templates).template
    evaluation = Evaluation(Context(cluster), default_profile(), template)
    for turn in range(data.draw(st.integers(1, 6))):
        change = data.draw(st.sampled_from(["add", "add", "add", "remove", "delete", "node"]))
        if change == "add":
            # Sometimes one more of the pod's own kind: the case that is cached hardest.
            other = data.draw(st.one_of(_pods(f"p{turn}"), st.just(incoming)))
            other = {"metadata": {**other["metadata"], "name": f"p{turn}"}, "spec": dict(other["spec"])}
            other["spec"]["nodeName"] = data.draw(node_names)
            state.pods.append(other)
            cluster.add_pod(Pod(other, templates))
        elif change == "remove" and state.pods:
            gone = state.pods.pop(data.draw(st.integers(0, len(state.pods) - 1)))
            cluster.remove_pod((gone["metadata"]["namespace"], gone["metadata"]["name"]))
        elif change == "delete" and state.pods:
            one = state.pods[data.draw(st.integers(0, len(state.pods) - 1))]
            one["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
            cluster.add_pod(Pod(one, templates))
        elif change == "node":
            n = data.draw(st.integers(0, len(state.nodes) - 1))
            state.nodes[n] = data.draw(_nodes(n))
            cluster.set_node(state.nodes[n])
        _compare(evaluation, cluster, incoming, state)


@settings(max_examples=100, derandomize=True, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.data())
def test_what_is_tried_out_and_taken_back_leaves_no_trace(data):
    state = oracle.State([data.draw(_nodes(n)) for n in range(3)], [], _NAMESPACES)
    templates, cluster = Templates(), Cluster()
    for name, labels in _NAMESPACES.items():
        cluster.set_namespace(name, labels)
    for one in state.nodes:
        cluster.set_node(one)
    pods = []
    for n in range(data.draw(st.integers(1, 5))):
        obj = data.draw(_pods(f"p{n}"))
        obj["spec"]["nodeName"] = data.draw(st.sampled_from(["n0", "n1", "n2"]))
        state.pods.append(obj)
        pods.append(Pod(obj, templates))
        cluster.add_pod(pods[-1])
    incoming = data.draw(_pods("incoming"))
    evaluation = Evaluation(Context(cluster), default_profile(), Pod(incoming, templates).template)
    evaluation.feasible()
    lifted = data.draw(st.lists(st.sampled_from(pods), unique_by=id))
    with cluster.tentative():
        for other in lifted:
            cluster.lift(other, cluster.nodes.row_of[other.node])
        without = oracle.State(state.nodes, [p.object for p in pods if p not in lifted], state.namespaces)
        for one in state.nodes:
            fits = evaluation.fits(cluster.nodes.row_of[one["metadata"]["name"]])
            assert fits == (not oracle.verdict(incoming, one, without))
        for other in lifted:
            cluster.put_back(other, cluster.nodes.row_of[other.node])
    _compare(evaluation, cluster, incoming, state)


def test_label_keys_of_a_term_and_a_constraint_take_the_pods_own_values():
    nodes = [node("a"), node("b")]
    old, new = {"app": "web", "rev": "1"}, {"app": "web", "rev": "2"}
    selector = {"matchLabels": {"app": "web"}}
    term = {"topologyKey": HOSTNAME, "labelSelector": selector, "matchLabelKeys": ["rev"]}
    anti = {"podAntiAffinity": {oracle.REQUIRED: [term]}}
    assert _names(World(nodes, [pod("o", on="a", labels=old)]), pod("p", labels=new, affinity=anti)) == {"a", "b"}
    assert _names(World(nodes, [pod("o", on="a", labels=new)]), pod("p", labels=new, affinity=anti)) == {"b"}
    other = {"topologyKey": HOSTNAME, "labelSelector": selector, "mismatchLabelKeys": ["rev"]}
    away = {"podAntiAffinity": {oracle.REQUIRED: [other]}}
    assert _names(World(nodes, [pod("o", on="a", labels=old)]), pod("p", labels=new, affinity=away)) == {"b"}
    constraint = {"maxSkew": 1, "topologyKey": HOSTNAME, "whenUnsatisfiable": "DoNotSchedule"}
    constraint |= {"labelSelector": selector, "matchLabelKeys": ["rev"]}
    spread = {"topologySpreadConstraints": [constraint]}
    assert _names(World(nodes, [pod("o", on="a", labels=old)]), pod("p", labels=new, **spread)) == {"a", "b"}
    assert _names(World(nodes, [pod("o", on="a", labels=new)]), pod("p", labels=new, **spread)) == {"b"}


def test_sidecars_overhead_and_pod_level_requests_count_as_the_kubelet_counts_them():
    sidecar = {"name": "s", "image": "i", "restartPolicy": "Always", "resources": {"requests": {"cpu": "1"}}}
    first = {"name": "f", "image": "i", "resources": {"requests": {"cpu": "2"}}}
    world = World([node("a", cpu="3"), node("b", cpu="2")])
    assert _names(world, pod("p", cpu="1", initContainers=[sidecar, first])) == {"a"}
    assert _names(world, pod("p", cpu="2", overhead={"cpu": "500m"})) == {"a"}
    assert _names(world, pod("p", cpu="1", resources={"requests": {"cpu": "2500m"}})) == {"a"}


def _names(world, obj):
    feasible = Evaluation(world.context, default_profile(), world.pod(obj).template).feasible()
    return {world.cluster.nodes.names[row] for row in np.flatnonzero(feasible)}


_budgets = st.lists(
    st.builds(
        lambda number, selector, allowed, namespace: {
            "metadata": {"name": f"budget-{number}", "namespace": namespace},
            "spec": {"selector": selector},
            "status": {"disruptionsAllowed": allowed},
        },
        st.integers(0, 99),
        _selectors,
        st.integers(0, 1),
        st.sampled_from(["one", "two"]),
    ),
    max_size=2,
    unique_by=lambda b: b["metadata"]["name"],
)


@settings(max_examples=80, derandomize=True, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.data())
def test_preemption_takes_the_victims_that_the_plain_rules_take(data):
    plain = data.draw(st.booleans())  # nothing but the room is in the way
    state = oracle.State([data.draw(_nodes(n)) for n in range(data.draw(st.integers(1, 3)))], [], _NAMESPACES)
    for one in state.nodes:
        one["status"]["allocatable"] = {"cpu": "4", "memory": "16Gi", "pods": "110", "example.com/gpu": "2"}
        one["spec"] = {} if plain else one["spec"]
    for n in range(data.draw(st.integers(3, 10))):
        obj = data.draw(_pods(f"p{n}"))
        if plain:
            container = {"name": "c", "image": "i"}
            container["resources"] = {"requests": {"cpu": data.draw(st.sampled_from(["700m", "1", "2"]))}}
            obj["spec"] = {"containers": [container]}
            obj["metadata"] |= {"namespace": "one", "labels": {"a": data.draw(st.sampled_from("xy"))}}
        obj["spec"]["nodeName"] = data.draw(st.sampled_from(state.nodes))["metadata"]["name"]
        obj["spec"]["priority"] = data.draw(st.integers(0, 3))
        obj["status"] = {"startTime": f"2026-01-01T00:00:{data.draw(st.integers(0, 3)):02}Z"}
        state.pods.append(obj)
    budgets = data.draw(_budgets)
    if plain:
        status = {"disruptionsAllowed": data.draw(st.integers(0, 1))}
        selector = {"matchLabels": {"a": "x"}}
        meta = {"name": "guard", "namespace": "one"}
        budgets = [{"metadata": meta, "spec": {"selector": selector}, "status": status}]
    incoming = data.draw(_pods("incoming"))
    incoming["spec"]["priority"] = 2
    if plain:
        container = {"name": "c", "image": "i", "resources": {"requests": {"cpu": "3"}}}
        incoming["spec"] = {"containers": [container], "priority": 2}
    world = World(state.nodes, [], poddisruptionbudgets=budgets)
    for name, labels in _NAMESPACES.items():
        world.cluster.set_namespace(name, labels)
    for obj in state.pods:
        world.cluster.add_pod(world.pod(obj))
    pod_ = world.pod(incoming)
    evaluation = Evaluation(world.context, default_profile(), pod_.template)
    if evaluation.best()[1]:
        return
    outcome = Preemption(world.context, random.Random(0)).try_for(pod_, evaluation, evaluation.reasons())
    found = {n["metadata"]["name"]: oracle.victims(incoming, n, state, budgets) for n in state.nodes}
    possible = {name: one for name, one in found.items() if one is not None}
    if not possible:
        assert outcome.candidate is None
        return
    assert outcome.candidate is not None
    name = world.cluster.nodes.names[outcome.candidate.row]
    cost, names = possible[name]
    assert {p.name for p in outcome.candidate.victims} == names
    assert cost == outcome.candidate.cost[:4] == min(cost for cost, _ in possible.values())
    _compare(evaluation, world.cluster, incoming, state)


_SHAPE = [{"utilization": 0, "score": 2}, {"utilization": 40, "score": 10}, {"utilization": 90, "score": 0}]


@settings(max_examples=60, derandomize=True, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.data())
def test_other_ways_to_rate_room_are_those_of_the_plain_rules(data):
    draw = data.draw
    sizes = st.integers(1, 12).map(str)
    nodes = [node(f"n{n}", cpu=draw(sizes), memory=draw(sizes) + "Gi", example_com__x=draw(sizes)) for n in range(3)]
    resources = [{"name": name, "weight": draw(st.integers(1, 5))} for name in ("cpu", "memory", "example-com/x")]

    def asking(name, on=""):
        made = pod(name, cpu=draw(sizes), memory=draw(sizes) + "Gi", on=on)
        if draw(st.booleans()):
            made["spec"]["containers"][0]["resources"]["requests"]["example-com/x"] = draw(sizes)
        return made

    pods = [asking(f"p{n}", f"n{n % 3}") for n in range(draw(st.integers(0, 4)))]
    world, asked = World(nodes, pods), asking("asked")
    state = oracle.State(nodes, pods)
    for kind in ("LeastAllocated", "MostAllocated", "RequestedToCapacityRatio"):
        strategy = {"type": kind, "resources": resources, "requestedToCapacityRatio": {"shape": _SHAPE}}
        rating = NodeResourcesFit({"scoringStrategy": strategy}).rating(world.context, world.pod(asked).template)
        got = rating.rate(ALL, world.cluster.nodes.present)
        for one in nodes:
            row = world.cluster.nodes.row_of[one["metadata"]["name"]]
            assert int(got[row]) == oracle.score_room(asked, one, state, kind, resources, _SHAPE), kind
