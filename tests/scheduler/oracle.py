"""The scheduler's rules once more: plain, slow, node by node over plain objects, after upstream's documents.

`verdict(pod, node, state)` is the list of reasons why a pod may not go to a node ([] = it may); `scores(pod, nodes,
state)` the weighted total of every feasible node. Shares nothing with the arrays but the parsing of quantities.
"""

import itertools
import math
from dataclasses import dataclass, field

from peavine.api.core.nodeselector import matches_term, pod_fits_node
from peavine.api.core.resources import pod_requests
from peavine.api.core.taint import tolerated, untolerated
from peavine.machinery.quantity import parse_quantity
from peavine.machinery.selectors import selector_of

HOSTNAME = "kubernetes.io/hostname"
REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"
PREFERRED = "preferredDuringSchedulingIgnoredDuringExecution"


@dataclass
class State:
    nodes: list
    pods: list  # bound
    namespaces: dict = field(default_factory=dict)  # name -> labels

    def on(self, node):
        return [p for p in self.pods if p["spec"]["nodeName"] == node["metadata"]["name"]]


def labels_of(obj):
    return obj["metadata"].get("labels") or {}


def requests(pod):
    return {k: (q.milli() if k == "cpu" else q.value()) for k, q in pod_requests(pod).items() if q.nanos > 0}


def nonzero(pod):
    cpu = memory = 0
    for c in pod["spec"]["containers"]:
        asked = (c.get("resources") or {}).get("requests") or {}
        cpu += parse_quantity(asked["cpu"]).milli() if "cpu" in asked else 100
        memory += parse_quantity(asked["memory"]).value() if "memory" in asked else 200 * 1024 * 1024
    return cpu, memory


def allocatable(node):
    return {
        k: (parse_quantity(v).milli() if k == "cpu" else parse_quantity(v).value())
        for k, v in node["status"]["allocatable"].items()
    }


# --- filters


def verdict(pod, node, state):
    for rule in (cordon, taints, affinity, ports, resources, spread, pod_affinity):
        if reasons := rule(pod, node, state):
            return reasons
    return []


def cordon(pod, node, state):
    cordoned = {"key": "node.kubernetes.io/unschedulable", "effect": "NoSchedule"}
    if node["spec"].get("unschedulable") and not tolerated(cordoned, pod["spec"].get("tolerations") or []):
        return ["node(s) were unschedulable"]
    return []


def taints(pod, node, state):
    if untolerated(node["spec"].get("taints") or [], pod["spec"].get("tolerations") or []):
        return ["node(s) had untolerated taint(s)"]
    return []


def affinity(pod, node, state):
    return [] if pod_fits_node(pod, node) else ["node(s) didn't match Pod's node affinity/selector"]


def wanted_ports(pod):
    return [
        (p.get("hostIP") or "0.0.0.0", p.get("protocol") or "TCP", p["hostPort"])
        for c in pod["spec"]["containers"]
        for p in c.get("ports") or []
        if p.get("hostPort")
    ]


def ports(pod, node, state):
    for other in state.on(node):
        for ip, protocol, port in wanted_ports(other):
            for my_ip, my_protocol, my_port in wanted_ports(pod):
                if (protocol, port) == (my_protocol, my_port) and (ip == my_ip or "0.0.0.0" in (ip, my_ip)):
                    return ["node(s) didn't have free ports for the requested pod ports"]
    return []


def resources(pod, node, state):
    here, room = state.on(node), allocatable(node)
    reasons = ["Too many pods"] if len(here) + 1 > room.get("pods", 0) else []
    for name, amount in requests(pod).items():
        used = sum(requests(p).get(name, 0) for p in here)
        if used + amount > room.get(name, 0):
            reasons.append(f"Insufficient {name}")
    return reasons


def spread_constraints(pod, hard):
    return [
        c
        for c in pod["spec"].get("topologySpreadConstraints") or []
        if (c["whenUnsatisfiable"] == "DoNotSchedule") == hard
    ]


def has_all_keys(node, constraints):
    return all(c["topologyKey"] in labels_of(node) for c in constraints)


def included(c, pod, node):
    if c.get("nodeAffinityPolicy", "Honor") == "Honor" and not pod_fits_node(pod, node):
        return False
    honors = c.get("nodeTaintsPolicy", "Ignore") == "Honor"
    return not (honors and untolerated(node["spec"].get("taints") or [], pod["spec"].get("tolerations") or []))


def matching(c, pod, pods):
    selector = selector_of(c.get("labelSelector"))
    return sum(
        p["metadata"]["namespace"] == pod["metadata"]["namespace"]
        and not p["metadata"].get("deletionTimestamp")
        and selector.matches(labels_of(p))
        for p in pods
    )


def spread(pod, node, state):
    constraints = spread_constraints(pod, True)
    for c in constraints:
        counts = {}
        for other in state.nodes:
            if has_all_keys(other, constraints) and included(c, pod, other):
                value = labels_of(other)[c["topologyKey"]]
                counts[value] = counts.get(value, 0) + matching(c, pod, state.on(other))
        if c["topologyKey"] not in labels_of(node):
            return ["node(s) didn't match pod topology spread constraints (missing required label)"]
        least = min(counts.values(), default=math.inf)
        if len(counts) < (c.get("minDomains") or 1) and counts:
            least = 0
        itself = selector_of(c.get("labelSelector")).matches(labels_of(pod))
        here = counts.get(labels_of(node)[c["topologyKey"]], 0)
        if here + itself - least > c["maxSkew"]:
            return ["node(s) didn't match pod topology spread constraints"]
    return []


def terms(pod, kind, when):
    return ((pod["spec"].get("affinity") or {}).get(kind) or {}).get(when) or []


def term_matches(term, owner, target, state):
    namespaces = term.get("namespaces") or []
    if not namespaces and term.get("namespaceSelector") is None:
        namespaces = [owner["metadata"]["namespace"]]
    target_namespace = target["metadata"]["namespace"]
    in_namespace = target_namespace in namespaces
    if term.get("namespaceSelector") is not None:
        labels = state.namespaces.get(target_namespace, {})
        in_namespace = in_namespace or selector_of(term["namespaceSelector"]).matches(labels)
    return in_namespace and selector_of(term.get("labelSelector")).matches(labels_of(target))


def same_place(key, a, b):
    return key in labels_of(a) and key in labels_of(b) and labels_of(a)[key] == labels_of(b)[key]


def node_of(pod, state):
    return next(n for n in state.nodes if n["metadata"]["name"] == pod["spec"]["nodeName"])


def pod_affinity(pod, node, state):
    near = terms(pod, "podAffinity", REQUIRED)
    if near:
        friends = [p for p in state.pods if all(term_matches(t, pod, p, state) for t in near)]
        placed = any(t["topologyKey"] in labels_of(node_of(p, state)) for p in friends for t in near)
        if not placed and all(term_matches(t, pod, pod, state) for t in near):
            fine = all(t["topologyKey"] in labels_of(node) for t in near)
        else:
            fine = all(any(same_place(t["topologyKey"], node, node_of(p, state)) for p in friends) for t in near)
        if not fine:
            return ["node(s) didn't match pod affinity rules"]
    for t in terms(pod, "podAntiAffinity", REQUIRED):
        for p in state.pods:
            if term_matches(t, pod, p, state) and same_place(t["topologyKey"], node, node_of(p, state)):
                return ["node(s) didn't match pod anti-affinity rules"]
    for p in state.pods:
        for t in terms(p, "podAntiAffinity", REQUIRED):
            if term_matches(t, p, pod, state) and same_place(t["topologyKey"], node, node_of(p, state)):
                return ["node(s) didn't satisfy existing pods anti-affinity rules"]
    return []


# --- scores


def scores(pod, nodes, state):
    total = dict.fromkeys((n["metadata"]["name"] for n in nodes), 0)
    for weight, score in (
        (3, score_taints),
        (2, score_affinity),
        (1, score_least_allocated),
        (2, score_spread),
        (2, score_pod_affinity),
        (1, score_balance),
        (1, score_images),
    ):
        for name, value in score(pod, nodes, state).items():
            assert 0 <= value <= 100, (score, value)
            total[name] += weight * value
    return total


def normalized(raw, reverse):
    high = max(raw.values())
    if not high:
        return dict.fromkeys(raw, 100) if reverse else raw
    scaled = {k: 100 * v // high for k, v in raw.items()}
    return {k: 100 - v for k, v in scaled.items()} if reverse else scaled


def by_name(nodes, value):
    return {n["metadata"]["name"]: value(n) for n in nodes}


def score_taints(pod, nodes, state):
    covering = [t for t in pod["spec"].get("tolerations") or [] if t.get("effect") in (None, "", "PreferNoSchedule")]

    def bad(node):
        soft = [t for t in node["spec"].get("taints") or [] if t["effect"] == "PreferNoSchedule"]
        return sum(not tolerated(t, covering) for t in soft)

    return normalized(by_name(nodes, bad), True)


def score_affinity(pod, nodes, state):
    wishes = terms(pod, "nodeAffinity", PREFERRED)
    return normalized(
        by_name(nodes, lambda n: sum(w["weight"] for w in wishes if matches_term(w["preference"], n))), False
    )


def score_least_allocated(pod, nodes, state):
    def one(node):
        room, parts = allocatable(node), []
        for n, name in enumerate(("cpu", "memory")):
            if room.get(name):
                used = sum(nonzero(p)[n] for p in state.on(node)) + nonzero(pod)[n]
                parts.append((room[name] - used) * 100 // room[name] if used <= room[name] else 0)
        return sum(parts) // len(parts) if parts else 0

    return by_name(nodes, one)


def score_room(pod, node, state, kind, resources, shape):
    """NodeResourcesFit by any strategy, of one node."""
    room, mine, total, weights = allocatable(node), requests(pod), 0, 0
    for resource in resources:
        name, weight = resource["name"], resource["weight"]
        if not room.get(name) or (name not in ("cpu", "memory") and not mine.get(name)):
            continue
        if name in ("cpu", "memory"):
            n = ("cpu", "memory").index(name)
            used = sum(nonzero(p)[n] for p in state.on(node)) + nonzero(pod)[n]
        else:
            used = sum(requests(p).get(name, 0) for p in state.on(node)) + mine.get(name, 0)
        if kind == "LeastAllocated":
            score = (room[name] - used) * 100 // room[name] if used <= room[name] else 0
        elif kind == "MostAllocated":
            score = min(used, room[name]) * 100 // room[name]
        else:
            score = on_shape(used * 100 // room[name] if used <= room[name] else 100, shape)
            if score == 0:
                continue
        total, weights = total + score * weight, weights + weight
    if not weights:
        return 0
    return math.floor(total / weights + 0.5) if kind == "RequestedToCapacityRatio" else total // weights


def on_shape(use, shape):
    points = [(p["utilization"], p["score"] * 10) for p in shape]
    if use <= points[0][0]:
        return points[0][1]
    for (x0, y0), (x1, y1) in itertools.pairwise(points):
        if use <= x1:
            return y0 + math.trunc((y1 - y0) * (use - x0) / (x1 - x0))
    return points[-1][1]


def score_balance(pod, nodes, state):
    mine = requests(pod)
    if not mine.get("cpu") and not mine.get("memory"):
        return {}

    def one(node):
        room, fractions = allocatable(node), []
        for name in ("cpu", "memory"):
            if room.get(name):
                used = sum(requests(p).get(name, 0) for p in state.on(node)) + mine.get(name, 0)
                fractions.append(min(1.0, used / room[name]))
        deviation = abs((fractions[0] - fractions[1]) / 2) if len(fractions) == 2 else 0
        return int((1 - deviation) * 100)

    return by_name(nodes, one)


def score_images(pod, nodes, state):
    wanted = [c["image"] if ":" in c["image"] else c["image"] + ":latest" for c in pod["spec"]["containers"]]

    def sizes(node):
        images = (node["status"].get("images")) or []
        return {name: i["sizeBytes"] for i in images for name in i["names"]}

    low, high = 23 << 20, (1000 << 20) * len(wanted)

    def one(node):
        total = 0
        for image in wanted:
            holders = sum(image in sizes(n) for n in state.nodes)
            if image in sizes(node):
                total += int(sizes(node)[image] * (holders / len(state.nodes)))
        return 100 * (min(max(total, low), high) - low) // (high - low)

    return by_name(nodes, one)


def score_spread(pod, nodes, state):
    constraints = spread_constraints(pod, False)
    if not constraints:
        return {}
    rated = [n for n in nodes if has_all_keys(n, constraints)]
    raw = {}
    for node in rated:
        total = 0.0
        for c in constraints:
            key = c["topologyKey"]
            value = labels_of(node)[key]
            if key == HOSTNAME:
                size, count = len(rated), matching(c, pod, state.on(node))
            else:
                size = len({labels_of(n)[key] for n in rated})
                count = sum(
                    matching(c, pod, state.on(n))
                    for n in state.nodes
                    if has_all_keys(n, constraints) and included(c, pod, n) and labels_of(n)[key] == value
                )
            total += count * math.log(size + 2) + (c["maxSkew"] - 1)
        raw[node["metadata"]["name"]] = math.floor(total + 0.5)
    result = dict.fromkeys((n["metadata"]["name"] for n in nodes), 0)
    if raw:
        low, high = min(raw.values()), max(raw.values())
        result |= {k: 100 if high == 0 else 100 * (high + low - v) // high for k, v in raw.items()}
    return result


def score_pod_affinity(pod, nodes, state):
    def one(node):
        total = 0
        for p in state.pods:
            there = node_of(p, state)
            for kind, sign in (("podAffinity", 1), ("podAntiAffinity", -1)):
                for owner, target in ((pod, p), (p, pod)):
                    for w in terms(owner, kind, PREFERRED):
                        t = w["podAffinityTerm"]
                        if term_matches(t, owner, target, state) and same_place(t["topologyKey"], node, there):
                            total += sign * w["weight"]
            for t in terms(p, "podAffinity", REQUIRED):
                if term_matches(t, p, pod, state) and same_place(t["topologyKey"], node, there):
                    total += 1
        return total

    raw = by_name(nodes, one)
    low, high = min(raw.values()), max(raw.values())
    return {k: int(100 * ((v - low) / (high - low))) if high > low else 0 for k, v in raw.items()}


# --- preemption

_HOPELESS = (
    "node(s) were unschedulable",
    "node(s) had untolerated taint(s)",
    "node(s) didn't match Pod's node affinity/selector",
    "node(s) didn't match pod topology spread constraints (missing required label)",
    "node(s) didn't match pod affinity rules",
)


def _priority(pod):
    return pod["spec"].get("priority") or 0


def _importance(pod):
    return -_priority(pod), (pod.get("status") or {}).get("startTime") or "~"


def _without(state, gone):
    return State(state.nodes, [p for p in state.pods if not any(p is g for g in gone)], state.namespaces)


def victims(pod, node, state, budgets):
    """(cost, names) of what has to go from a node, or None where that does not help."""
    reasons = verdict(pod, node, state)
    room, asked = allocatable(node), requests(pod)
    if any(why in _HOPELESS for why in reasons) or (
        any(why.startswith("Insufficient") for why in reasons) and any(a > room.get(k, 0) for k, a in asked.items())
    ):
        return None
    lower = sorted((p for p in state.on(node) if _priority(p) < _priority(pod)), key=_importance)
    if not lower or verdict(pod, node, _without(state, lower)):
        return None
    left = {b["metadata"]["name"]: b["status"]["disruptionsAllowed"] for b in budgets}
    violating, harmless = [], []
    for p in lower:
        broken = False
        for b in budgets:
            selector = selector_of(b["spec"]["selector"])
            if (
                b["metadata"]["namespace"] == p["metadata"]["namespace"]
                and labels_of(p)
                and not selector.empty
                and selector.matches(labels_of(p))
            ):
                left[b["metadata"]["name"]] -= 1
                broken = broken or left[b["metadata"]["name"]] < 0
        (violating if broken else harmless).append(p)
    gone = list(lower)
    broken_budgets = 0
    for p in violating + harmless:
        stay = [g for g in gone if g is not p]
        if not verdict(pod, node, _without(state, stay)):
            gone = stay
        elif any(p is v for v in violating):
            broken_budgets += 1
    if not gone:
        return None
    highest = max(map(_priority, gone))
    cost = (broken_budgets, highest, sum(_priority(p) + (1 << 31) for p in gone), len(gone))
    return cost, {p["metadata"]["name"] for p in gone}
