"""Which events make which plugin change its mind."""

from peavine.scheduler.plugins import DEFAULT_PLUGINS
from tests.scheduler.objects import World, node, pod

PLUGINS = {plugin.name: plugin() for plugin, _ in DEFAULT_PLUGINS}
REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"


def _wakes(name, waiting, event, old=None, new=None, world=None):
    plugin, world = PLUGINS[name], world or World()
    template = world.pod(waiting).template
    return event in plugin.wakes_on and plugin.hint(world.context, template, event, old, new)


def _term(app):
    return {"topologyKey": "kubernetes.io/hostname", "labelSelector": {"matchLabels": {"app": app}}}


def test_room_is_made_by_pods_that_go_and_by_nodes_that_have_it():
    world = World([node("small", cpu="1"), node("large", cpu="8")])
    waiting = pod("p", cpu="4")
    assert _wakes("NodeResourcesFit", waiting, "AssignedPod/Delete", old=pod("a"), world=world)
    assert _wakes("NodeResourcesFit", waiting, "Node/Add", new=node("large"), world=world)
    assert not _wakes("NodeResourcesFit", waiting, "Node/Add", new=node("small"), world=world)
    assert not _wakes("NodeResourcesFit", waiting, "AssignedPod/Add", new=pod("a"), world=world)
    assert not _wakes("NodeResourcesFit", waiting, "Node/UpdateLabel", new=node("large"), world=world)


def test_taints_and_cordons_matter_where_they_go():
    tainted = node("a", taints=[{"key": "k", "effect": "NoSchedule"}])
    assert _wakes("TaintToleration", pod("p"), "Node/UpdateTaint", tainted, node("a"))
    assert not _wakes("TaintToleration", pod("p"), "Node/Add", new=tainted)
    assert _wakes("NodeUnschedulable", pod("p"), "Node/Update", new=node("a"))
    assert not _wakes("NodeUnschedulable", pod("p"), "Node/Update", new=node("a", unschedulable=True))


def test_a_node_helps_a_selective_pod_only_if_it_is_selected():
    waiting = pod("p", nodeSelector={"disk": "ssd"})
    assert _wakes("NodeAffinity", waiting, "Node/UpdateLabel", node("a"), node("a", labels={"disk": "ssd"}))
    assert not _wakes("NodeAffinity", waiting, "Node/Add", new=node("a"))


def test_pods_that_come_matter_to_those_that_want_company_and_pods_that_go_to_those_that_avoid_it():
    near = pod("p", affinity={"podAffinity": {REQUIRED: [_term("friend")]}})
    far = pod("p", affinity={"podAntiAffinity": {REQUIRED: [_term("noise")]}})
    friend, noise, other = (pod(app, labels={"app": app}) for app in ("friend", "noise", "other"))
    assert _wakes("InterPodAffinity", near, "AssignedPod/Add", new=friend)
    assert not _wakes("InterPodAffinity", near, "AssignedPod/Add", new=other)
    assert _wakes("InterPodAffinity", far, "AssignedPod/Delete", old=noise)
    assert not _wakes("InterPodAffinity", far, "AssignedPod/Delete", old=other)
    shy = pod("shy", affinity={"podAntiAffinity": {REQUIRED: [_term("web")]}})
    assert _wakes("InterPodAffinity", pod("p", labels={"app": "web"}), "AssignedPod/Delete", old=shy)


def test_spreading_looks_at_pods_that_it_counts():
    constraint = {"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule"}
    constraint["labelSelector"] = {"matchLabels": {"app": "web"}}
    waiting = pod("p", topologySpreadConstraints=[constraint])
    assert _wakes("PodTopologySpread", waiting, "AssignedPod/Delete", old=pod("a", labels={"app": "web"}))
    assert not _wakes("PodTopologySpread", waiting, "AssignedPod/Delete", old=pod("a"))
    elsewhere = pod("a", labels={"app": "web"}, namespace="other")
    assert not _wakes("PodTopologySpread", waiting, "AssignedPod/Add", new=elsewhere)
