"""What a KubeSchedulerConfiguration turns on and off, and what it may not say."""

import pytest

from peavine.scheduler.config import API_VERSION, ConfigurationError, load, parse
from peavine.scheduler.evaluation import Evaluation
from tests.scheduler.objects import World, node, pod


def _parse(**doc):
    return parse({"apiVersion": API_VERSION, "kind": "KubeSchedulerConfiguration", **doc})


def _places(configuration, world, obj, n=0):
    evaluation = Evaluation(world.context, configuration.profiles[n], world.pod(obj).template)
    return {world.cluster.nodes.names[row] for row in evaluation.best()[0]}


def test_an_empty_configuration_is_upstreams_default():
    configuration = _parse()
    (profile,) = configuration.profiles
    assert profile.name == "default-scheduler" and configuration.preempts == {"default-scheduler"}
    weights = {plugin.name: weight for plugin, weight in profile.plugins}
    assert (weights["TaintToleration"], weights["PodTopologySpread"], weights["ImageLocality"]) == (3, 2, 1)
    order = [plugin.name for plugin, _ in profile.plugins]
    assert order.index("NodeUnschedulable") < order.index("TaintToleration") < order.index("NodeResourcesFit")


def test_a_profile_packs_where_another_spreads():
    packing = {
        "schedulerName": "packer",
        "plugins": {"score": {"disabled": [{"name": "*"}], "enabled": [{"name": "NodeResourcesFit", "weight": 3}]}},
        "pluginConfig": [{"name": "NodeResourcesFit", "args": {"scoringStrategy": {"type": "MostAllocated"}}}],
    }
    configuration = _parse(profiles=[{"schedulerName": "default-scheduler"}, packing])
    world = World([node("empty"), node("half")], [pod("a", cpu="2", memory="8Gi", on="half")])
    assert _places(configuration, world, pod("p", cpu="1", memory="4Gi"), 0) == {"empty"}
    assert _places(configuration, world, pod("p", cpu="1", memory="4Gi"), 1) == {"half"}


def test_requested_to_capacity_ratio_follows_its_shape():
    shape = [{"utilization": 0, "score": 0}, {"utilization": 50, "score": 10}, {"utilization": 100, "score": 0}]
    strategy = {
        "type": "RequestedToCapacityRatio",
        "resources": [{"name": "cpu", "weight": 1}],
        "requestedToCapacityRatio": {"shape": shape},
    }
    args = [{"name": "NodeResourcesFit", "args": {"scoringStrategy": strategy}}]
    off = {"score": {"disabled": [{"name": "*"}], "enabled": [{"name": "NodeResourcesFit"}]}}
    configuration = _parse(profiles=[{"plugins": off, "pluginConfig": args}])
    world = World([node("empty"), node("third", cpu="3"), node("full", cpu="1")])
    assert _places(configuration, world, pod("p", cpu="1")) == {"third"}


def test_a_disabled_filter_lets_pass_what_it_refused():
    for point in ("filter", "multiPoint"):
        plugins = {point: {"disabled": [{"name": "TaintToleration"}]}}
        configuration = _parse(profiles=[{"plugins": plugins}])
        world = World([node("tainted", taints=[{"key": "k", "effect": "NoSchedule"}])])
        assert _places(configuration, world, pod("p")) == {"tainted"}


def test_added_affinity_holds_for_every_pod_of_the_profile():
    expression = {"key": "kubernetes.io/hostname", "operator": "In", "values": ["a"]}
    required = {"nodeSelectorTerms": [{"matchExpressions": [expression]}]}
    args = {"addedAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": required}}
    configuration = _parse(profiles=[{"pluginConfig": [{"name": "NodeAffinity", "args": args}]}])
    world = World([node("a"), node("b")])
    assert _places(configuration, world, pod("p")) == {"a"}


def test_the_default_spreading_keeps_a_services_pods_apart():
    service = {"metadata": {"name": "s", "namespace": "default"}, "spec": {"selector": {"app": "web"}}}
    nodes = [node(f"n{i}", labels={"topology.kubernetes.io/zone": f"z{i % 2}"}) for i in range(4)]
    world = World(nodes, [pod("a", on="n0", labels={"app": "web"})], services=[service])
    assert _places(_parse(), world, pod("p", labels={"app": "web"})) == {"n1", "n3"}
    assert _places(_parse(), World(nodes, [pod("a", on="n0")]), pod("p")) == {"n1", "n2", "n3"}


@pytest.mark.parametrize(
    ("doc", "message"),
    [
        ({"profiles": [{}, {}]}, "profiles[0].schedulerName: Required value"),
        ({"profiles": [{"schedulerName": "a"}, {"schedulerName": "a"}]}, "profiles[1].schedulerName: Duplicate value"),
        ({"percentageOfNodesToScore": 101}, "percentageOfNodesToScore: Invalid value: 101: not in valid range [0-100]"),
        ({"podInitialBackoffSeconds": 20}, "podMaxBackoffSeconds: Invalid value: 10: must be greater than or equal to"),
        ({"profiles": [{"plugins": {"filter": {"enabled": [{"name": "None"}]}}}]}, 'Unsupported value: "None"'),
        (
            {"profiles": [{"pluginConfig": [{"name": "InterPodAffinity", "args": {"hardPodAffinityWeight": 101}}]}]},
            "profiles[0].pluginConfig[0].args.hardPodAffinityWeight: Invalid value: 101: not in valid range [0-100]",
        ),
        ({"extenders": [{"filterVerb": "f"}]}, "extenders[0].urlPrefix: Required value"),
    ],
)
def test_what_makes_no_sense_is_refused_with_the_field(doc, message):
    with pytest.raises(ConfigurationError) as refused:
        _parse(**doc)
    assert message in str(refused.value)


def test_a_file_of_another_kind_is_refused():
    with pytest.raises(ConfigurationError, match='no kind "Pod" is registered for version "v1"'):
        load("apiVersion: v1\nkind: Pod\n")
    with pytest.raises(ConfigurationError, match="couldn't parse"):
        load("a: [")
