"""The plugins that are off by default."""

import pytest

from peavine.apiserver.admission import build_chain
from tests.apiserver.security.fakes import Objects
from tests.apiserver.security.test_admission import pod, quota, refusal, review, run


@pytest.fixture
def objects():
    found = Objects()
    found.put("", "namespaces", {"metadata": {"name": "team", "annotations": {}}, "status": {"phase": "Active"}})
    return found


def chain(objects, *enabled, **config):
    return build_chain(objects, objects, enabled=enabled, disabled=["ServiceAccount"], config=config)


def test_namespaces_are_made_on_demand(objects):
    run(chain(objects, "NamespaceAutoProvision"), review(pod(), namespace="new"))
    assert objects.get("", "namespaces", None, "new") is not None


def test_everything_can_be_denied(objects):
    assert "denying all modifications" in refusal(chain(objects, "AlwaysDeny"), review(pod())).message


def test_anti_affinity_is_kept_to_a_node(objects):
    def spread(key):
        terms = [{"topologyKey": key}]
        return pod(affinity={"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": terms}})

    limited = chain(objects, "LimitPodHardAntiAffinityTopology")
    run(limited, review(spread("kubernetes.io/hostname")))
    assert "only key kubernetes.io/hostname is allowed" in refusal(limited, review(spread("zone"))).message


def test_who_asks_for_a_device_tolerates_its_taint(objects):
    container = {"name": "c", "resources": {"requests": {"example.com/gpu": "1", "cpu": "1"}}}
    made = run(chain(objects, "ExtendedResourceToleration"), review(pod(containers=[container])))
    assert {"key": "example.com/gpu", "operator": "Exists"} in made["spec"]["tolerations"]


def namespaced(objects, **annotations):
    metadata = {
        "name": "team",
        "annotations": {f"scheduler.alpha.kubernetes.io/{k}": v for k, v in annotations.items()},
    }
    objects.put("", "namespaces", {"metadata": metadata, "status": {"phase": "Active"}})


def test_a_namespace_chooses_the_nodes_of_its_pods(objects):
    namespaced(objects, **{"node-selector": "env=dev"})
    selecting = chain(objects, "PodNodeSelector", PodNodeSelector={"team": "env=dev,disk=ssd"})
    assert run(selecting, review(pod()))["spec"]["nodeSelector"] == {"env": "dev"}
    assert run(selecting, review(pod(nodeSelector={"disk": "ssd"})))["spec"]["nodeSelector"]["disk"] == "ssd"
    assert "conflicts" in refusal(selecting, review(pod(nodeSelector={"env": "prod"}))).message
    assert "whitelist" in refusal(selecting, review(pod(nodeSelector={"zone": "a"}))).message


def test_a_namespace_gives_and_limits_tolerations(objects):
    namespaced(
        objects,
        defaultTolerations='[{"key":"dev","operator":"Exists"}]',
        tolerationsWhitelist='[{"key":"dev","operator":"Exists"},{"key":"node.kubernetes.io/not-ready",'
        '"operator":"Exists"},{"key":"node.kubernetes.io/unreachable","operator":"Exists"}]',
    )
    restricted = chain(objects, "PodTolerationRestriction")
    assert {"key": "dev", "operator": "Exists"} in run(restricted, review(pod()))["spec"]["tolerations"]
    assert "whitelist" in refusal(restricted, review(pod(tolerations=[{"operator": "Exists"}]))).message


def test_what_is_limited_by_default_needs_a_quota(objects):
    entry = {"resource": "pods", "matchScopes": [
        {"scopeName": "PriorityClass", "operator": "In", "values": ["high"]}]}  # fmt: skip
    objects.put("scheduling.k8s.io", "priorityclasses", {"metadata": {"name": "high"}, "value": 9})
    limited = chain(objects, ResourceQuota={"limitedResources": [entry]})
    assert "insufficient quota to match these scopes" in refusal(limited, review(pod(priorityClassName="high"))).message
    run(limited, review(pod()))
    quota(objects, scopeSelector={"matchExpressions": entry["matchScopes"]})
    run(limited, review(pod(priorityClassName="high")))
    claims = {"resource": "persistentvolumeclaims", "matchContains": ["gold.storageclass"]}
    limited = chain(objects, ResourceQuota={"limitedResources": [claims]})
    claim = {
        "metadata": {"name": "c"},
        "spec": {"storageClassName": "gold", "resources": {"requests": {"storage": "1Gi"}}},
    }
    assert (
        "insufficient quota to consume: gold.storageclass"
        in refusal(limited, review(claim, "persistentvolumeclaims")).message
    )
