"""What a KubeSchedulerConfiguration turns on and off, and what it may not say."""

import pytest

from peavine.cmd.scheduler import _elect, flags
from peavine.scheduler.config import API_VERSION, ConfigurationError, load, parse
from peavine.scheduler.evaluation import Evaluation
from peavine.scheduler.sampling import Sampling
from tests.scheduler.objects import World, node, pod


def _parse(**doc):
    return parse({"apiVersion": API_VERSION, "kind": "KubeSchedulerConfiguration", **doc})


def _places(configuration, world, obj, n=0):
    evaluation = Evaluation(world.context, configuration.profiles[n], world.pod(obj).template)
    return {world.cluster.nodes.names[row] for row in evaluation.best()[0]}


def test_an_empty_configuration_is_upstreams_default():
    configuration = _parse()
    (profile,) = configuration.profiles
    assert profile.name == "default-scheduler" and profile.has("postFilter", "DefaultPreemption")
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


def _with(plugin, **args):
    return {"profiles": [{"pluginConfig": [{"name": plugin, "args": args}]}]}


def _points(**points):
    return {"profiles": [{"plugins": points}]}


_ARGS = "profiles[0].pluginConfig[0].args."


@pytest.mark.parametrize(
    ("doc", "message"),
    [
        ({"profiles": [{}, {}]}, "profiles[0].schedulerName: Required value"),
        (
            {"profiles": [{"schedulerName": "a"}, {"schedulerName": "a"}]},
            'profiles[1].schedulerName: Duplicate value: "profiles[0].schedulerName"',
        ),
        ({"percentageOfNodesToScore": 101}, "percentageOfNodesToScore: Invalid value: 101: not in valid range [0-100]"),
        (
            {"profiles": [{"percentageOfNodesToScore": -1}]},
            "profiles[0].percentageOfNodesToScore: Invalid value: -1: not in valid range [0-100]",
        ),
        ({"podInitialBackoffSeconds": 20}, "podMaxBackoffSeconds: Invalid value: 10: must be greater than or equal to"),
        ({"parallelism": 0}, "parallelism: Invalid value: 0: should be an integer value greater than zero"),
        ({"wrong": 1}, 'strict decoding error: unknown field "wrong"'),
        (_points(sort={}), 'unknown field "profiles[0].plugins.sort"'),
        (_with("NodeResourcesFit", wrong=1), f'unknown field "{_ARGS}wrong"'),
        (_points(filter={"enabled": [{"name": "None"}]}), 'FilterPlugin "None" does not exist'),
        (_points(multiPoint={"enabled": [{"name": "None"}]}), 'plugin "None" does not exist'),
        (
            _points(score={"enabled": [{"name": "NodePorts"}]}),
            'plugin "NodePorts" does not extend ScorePlugin plugin',
        ),
        (
            _points(filter={"enabled": [{"name": "NodePorts"}, {"name": "NodePorts"}]}),
            'plugin "NodePorts" already registered as "FilterPlugin"',
        ),
        (
            _points(bind={"disabled": [{"name": "*"}]}),
            'at least one bind plugin is needed for profile with scheduler name "default-scheduler"',
        ),
        (
            _points(queueSort={"disabled": [{"name": "PrioritySort"}]}),
            'at least one queue sort plugin is required for profile with scheduler name "default-scheduler"',
        ),
        (_points(filter={"enabled": [{"name": "EBSLimits"}]}), 'was invalid in version "v1"'),
        (
            {"profiles": [{"schedulerName": "a"}, {"schedulerName": "b", "plugins": {"queueSort": {"disabled": []}}}]},
            "profiles[1].plugins.queueSort: Invalid value",
        ),
        (
            _with("InterPodAffinity", hardPodAffinityWeight=101),
            f"{_ARGS}hardPodAffinityWeight: Invalid value: 101: not in valid range [0, 100]",
        ),
        (
            _with("DefaultPreemption", minCandidateNodesPercentage=0, minCandidateNodesAbsolute=0),
            "cannot be zero at the same time as minCandidateNodesAbsolute",
        ),
        (
            _with("DefaultPreemption", minCandidateNodesAbsolute=-1),
            f"{_ARGS}minCandidateNodesAbsolute: Invalid value: -1: not in valid range [0, inf)",
        ),
        (
            _with("NodeResourcesFit", scoringStrategy={"type": "Best"}),
            f'{_ARGS}scoringStrategy.type: Unsupported value: "Best": supported values: "LeastAllocated", '
            '"MostAllocated", "RequestedToCapacityRatio"',
        ),
        (
            _with(
                "NodeResourcesFit",
                scoringStrategy={"type": "LeastAllocated", "resources": [{"name": "cpu", "weight": 0}]},
            ),
            "resource weight of cpu not in valid range (0, 100]",
        ),
        (
            _with("NodeResourcesFit", scoringStrategy={"type": "RequestedToCapacityRatio"}),
            "requestedToCapacityRatio: Required value: must be specified when type is RequestedToCapacityRatio",
        ),
        (
            _with("NodeResourcesFit", ignoredResourceGroups=["a/b"]),
            "resource group name can't contain '/'",
        ),
        (
            _with("NodeResourcesBalancedAllocation", resources=[{"name": "cpu", "weight": 2}]),
            f"{_ARGS}resources[0].weight: Invalid value: 2: must be 1",
        ),
        (
            _with("PodTopologySpread", defaultConstraints=[{"maxSkew": 1, "topologyKey": "a"}]),
            f'{_ARGS}defaultingType: Invalid value: "System": when .defaultConstraints are not empty',
        ),
        (
            _with("PodTopologySpread", defaultingType="List", defaultConstraints=[{"maxSkew": 0, "topologyKey": "a"}]),
            f"{_ARGS}defaultConstraints[0].maxSkew: Invalid value: 0: not in valid range (0, inf)",
        ),
        (_with("VolumeBinding", bindTimeoutSeconds=-1), "invalid BindTimeoutSeconds, should not be a negative value"),
        (_with("VolumeBinding", shape=[]), "unexpected field `shape`, remove it or turn on the feature gate"),
        (_with("DynamicResources", bindingTimeout="10ms"), "must be at least 1 second"),
        ({"extenders": [{"filterVerb": "f"}]}, "extenders[0].urlPrefix: Required value"),
        (
            {"extenders": [{"urlPrefix": "http://a", "prioritizeVerb": "p"}]},
            "extenders[0].weight: Invalid value: 0: must have a positive weight applied to it",
        ),
        (
            {"extenders": [{"urlPrefix": "http://a", "bindVerb": "b"}] * 2},
            'extenders: Invalid value: "found 2 extenders implementing bind": only one extender can implement bind',
        ),
        (
            {"extenders": [{"urlPrefix": "http://a", "managedResources": [{"name": "kubernetes.io/x"}]}]},
            "is an invalid extended resource name",
        ),
        ({"leaderElection": {"resourceLock": "endpoints"}}, 'resourceLock value must be "leases"'),
    ],
)
def test_what_makes_no_sense_is_refused_with_upstreams_words(doc, message):
    with pytest.raises(ConfigurationError) as refused:
        _parse(**doc)
    assert message in str(refused.value)


def test_at_one_point_plugins_come_in_upstreams_order():
    filters = {"enabled": [{"name": "NodePorts"}, {"name": "TaintToleration"}], "disabled": [{"name": "NodeName"}]}
    (profile,) = _parse(**_points(filter=filters)).profiles
    assert profile.points["filter"][:4] == ("NodePorts", "TaintToleration", "NodeUnschedulable", "NodeAffinity")
    assert "NodeName" not in profile.points["filter"]
    multi = {"disabled": [{"name": "NodePorts"}]}
    (profile,) = _parse(**_points(multiPoint=multi, filter={"enabled": [{"name": "NodePorts"}]})).profiles
    assert profile.points["filter"][-1] == "NodePorts" and "NodePorts" not in profile.points["preFilter"]
    assert profile.broken == (
        'running "NodePorts" filter plugin: reading "PreFilterNodePorts" from cycleState: not found'
    )


def test_a_plugin_enabled_without_a_weight_weighs_one():
    (profile,) = _parse(**_points(score={"enabled": [{"name": "TaintToleration"}]})).profiles
    assert {p.name: w for p, w in profile.plugins}["TaintToleration"] == 1


def test_with_a_percentage_only_so_many_nodes_are_looked_at_each_time_from_where_it_stopped():
    world = World([node(f"n{i}") for i in range(400)])
    evaluation = Evaluation(world.context, _parse().profiles[0], world.pod(pod("p")).template)
    nodes = world.cluster.nodes
    sampling = Sampling(50)
    feasible, present = evaluation.feasible(), nodes.present
    first, second = sampling.narrowed(feasible, present), sampling.narrowed(feasible, present)
    assert (first.sum(), second.sum(), (first & second).sum()) == (200, 200, 0)
    assert Sampling(5).narrowed(feasible, present).sum() == 100  # never fewer
    assert Sampling(0).narrowed(feasible, present) is Sampling(100).narrowed(feasible, present) is None
    few = feasible.copy()
    few[10:] = False
    assert (Sampling(50).narrowed(few, present) == few).all()


def test_resources_that_an_extender_manages_alone_are_not_looked_at():
    managed = [{"name": "example.com/x", "ignoredByScheduler": True}]
    configuration = _parse(extenders=[{"urlPrefix": "http://a", "managedResources": managed}])
    world = World([node("a")])
    asking = pod("p")
    asking["spec"]["containers"][0]["resources"] = {"requests": {"example.com/x": "1"}}
    assert _places(configuration, world, asking) == {"a"}
    assert _places(_parse(), world, asking) == set()


def test_a_file_of_another_kind_is_refused():
    with pytest.raises(ConfigurationError, match='no kind "Pod" is registered for version "v1"'):
        load("apiVersion: v1\nkind: Pod\n")
    with pytest.raises(ConfigurationError, match="couldn't parse"):
        load("a: [")


def test_the_file_says_how_leaders_are_elected():
    args = flags().parse_args([])
    wanted = {"leaderElect": False, "leaseDuration": "1m", "retryPeriod": "500ms", "resourceName": "mine"}
    _elect(args, _parse(leaderElection=wanted).leader_election)
    assert (args.leader_elect, args.leader_elect_lease_duration, args.leader_elect_retry_period) == (False, 60, 0.5)
    assert (args.leader_elect_resource_name, args.leader_elect_resource_namespace) == ("mine", "kube-system")
    assert args.leader_elect_renew_deadline == 10
