"""What controllers, scheduler and kubelet ask of pods and taints."""

from peavine.api.apps.revisions import deployment_revision, equal_ignore_hash, pod_template_hash
from peavine.api.core import nodeselector, podstate, taint
from peavine.api.core.resources import pod_limits, pod_requests


def container(cpu: str, memory: str = "", **more: object) -> dict:
    return {"resources": {"requests": {"cpu": cpu, **({"memory": memory} if memory else {})}}, **more}


def shown(resources: dict) -> dict[str, str]:
    return {name: str(quantity) for name, quantity in resources.items()}


def test_requests_are_the_larger_of_the_sum_of_containers_and_each_init_step() -> None:
    spec = {
        "containers": [container("100m", "1Gi"), container("200m")],
        "initContainers": [container("1"), container("50m", restartPolicy="Always"), container("2")],
    }
    assert shown(pod_requests({"spec": spec})) == {"cpu": "2050m", "memory": "1Gi"}


def test_overhead_comes_on_top_and_pod_level_resources_replace_the_sum() -> None:
    spec = {"containers": [container("100m")], "overhead": {"cpu": "10m"}, "resources": {"requests": {"cpu": "1"}}}
    assert shown(pod_requests({"spec": spec})) == {"cpu": "1010m"}
    assert shown(pod_limits({"spec": spec})) == {}


def test_quality_of_service_follows_requests_and_limits() -> None:
    both = {"requests": {"cpu": "1", "memory": "1Gi"}, "limits": {"cpu": "1000m", "memory": "1Gi"}}
    assert podstate.qos_class({"spec": {"containers": [{"resources": both}]}}) == "Guaranteed"
    assert podstate.qos_class({"spec": {"containers": [{"resources": both}, {}]}}) == "Burstable"
    assert podstate.qos_class({"spec": {"containers": [{}]}}) == "BestEffort"


def test_a_pod_is_available_only_after_having_been_ready_for_long_enough() -> None:
    ready = {"type": "Ready", "status": "True", "lastTransitionTime": "1970-01-01T00:01:40Z"}
    pod = {"status": {"conditions": [ready]}}
    assert podstate.is_available(pod, 0, 100.0)
    assert not podstate.is_available(pod, 10, 105.0)
    assert podstate.is_available(pod, 10, 110.0)


def test_a_condition_keeps_its_transition_time_while_its_value_stays() -> None:
    status: dict = {}
    assert podstate.set_condition(status, "Ready", "True", "A", "a", "t1")
    assert not podstate.set_condition(status, "Ready", "True", "A", "a", "t2")
    assert podstate.set_condition(status, "Ready", "True", "B", "", "t3")
    assert status["conditions"] == [{"type": "Ready", "status": "True", "lastTransitionTime": "t1", "reason": "B"}]


def test_a_toleration_without_key_covers_everything_only_with_exists() -> None:
    tainted = {"key": "a", "value": "b", "effect": "NoExecute"}
    assert taint.tolerates({"operator": "Exists"}, tainted)
    assert not taint.tolerates({}, tainted)
    assert taint.tolerates({"key": "a", "value": "b"}, tainted)
    assert not taint.tolerates({"key": "a", "value": "b", "effect": "NoSchedule"}, tainted)
    assert taint.toleration_seconds([tainted], [{"operator": "Exists", "tolerationSeconds": 30}]) == 30
    assert taint.toleration_seconds([tainted], []) == 0


def test_node_selector_terms_are_alternatives_and_their_requirements_conjoin() -> None:
    node = {"metadata": {"name": "n", "labels": {"zone": "a", "n": "5"}}}
    term = {"matchExpressions": [{"key": "zone", "operator": "In", "values": ["a"]}]}
    more = {"matchExpressions": [*term["matchExpressions"], {"key": "n", "operator": "Gt", "values": ["5"]}]}
    assert nodeselector.matches({"nodeSelectorTerms": [more, term]}, node)
    assert not nodeselector.matches({"nodeSelectorTerms": [more, {}]}, node)


def test_equal_templates_hash_equally_whatever_is_empty_in_them() -> None:
    a = {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "resources": {}}]}}
    b = {"metadata": {"labels": {"a": "b"}, "creationTimestamp": None}, "spec": {"containers": [{"name": "c"}]}}
    assert pod_template_hash(a) == pod_template_hash(b) != pod_template_hash(a, 1)
    labelled = {**a, "metadata": {"labels": {"a": "b", "pod-template-hash": "x"}}}
    assert equal_ignore_hash(a, labelled)
    assert deployment_revision({"metadata": {"annotations": {"deployment.kubernetes.io/revision": "7"}}}) == 7
