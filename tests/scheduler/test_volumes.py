"""Pods with volumes: where their claims let them go, and what happens before they are bound."""

import asyncio

from peavine.scheduler.evaluation import Evaluation
from peavine.scheduler.plugins.base import Rejected
from peavine.scheduler.profiles import default_profile
from tests.scheduler.objects import World, node, pod
from tests.scheduler.test_scheduler import _condition, running

BOUND = {"pv.kubernetes.io/bind-completed": "yes"}


def claim(name, volume="", storage_class="", size="1Gi", modes=("ReadWriteOnce",), **spec):
    meta = {"name": name, "namespace": "default", "uid": f"uid-{name}", "annotations": BOUND if volume else {}}
    full = {"accessModes": list(modes), "resources": {"requests": {"storage": size}}, **spec}
    full |= {k: v for k, v in (("volumeName", volume), ("storageClassName", storage_class)) if v}
    return {"metadata": meta, "spec": full, "status": {"phase": "Bound" if volume else "Pending"}}


def volume(name, zone="", storage_class="", size="1Gi", labels=None, **spec):
    full = {"accessModes": ["ReadWriteOnce"], "capacity": {"storage": size}, **spec}
    if storage_class:
        full["storageClassName"] = storage_class
    if zone:
        expression = {"key": "zone", "operator": "In", "values": [zone]}
        full["nodeAffinity"] = {"required": {"nodeSelectorTerms": [{"matchExpressions": [expression]}]}}
    return {"metadata": {"name": name, "labels": labels or {}}, "spec": full, "status": {"phase": "Available"}}


def storage_class(name, provisioner="kubernetes.io/no-provisioner", mode="WaitForFirstConsumer", **more):
    return {"metadata": {"name": name}, "provisioner": provisioner, "volumeBindingMode": mode, **more}


def with_claims(name, *claims, **more):
    return pod(name, volumes=[{"name": c, "persistentVolumeClaim": {"claimName": c}} for c in claims], **more)


NODES = [node("a", labels={"zone": "a"}), node("b", labels={"zone": "b"})]


def _ask(world, obj):
    """Names of the nodes that fit, or the reasons why none does, or the message that refuses the pod altogether."""
    evaluation = Evaluation(world.context, default_profile(), world.pod(obj).template)
    try:
        feasible = evaluation.feasible()
        if feasible.any():
            return {world.cluster.nodes.names[row] for row in feasible.nonzero()[0]}
        return dict(evaluation.reasons().counts)
    except Rejected as rejected:
        return rejected.message


def _world(*pods, claims=(), volumes=(), classes=(), nodes=NODES, **more):
    return World(nodes, pods, persistentvolumeclaims=claims, persistentvolumes=volumes, storageclasses=classes, **more)


def test_a_bound_claim_goes_where_its_volume_can_be_reached():
    world = _world(claims=[claim("c", "v")], volumes=[volume("v", zone="b")])
    assert _ask(world, with_claims("p", "c")) == {"b"}
    world = _world(claims=[claim("c", "v")], volumes=[volume("v", zone="x")])
    assert _ask(world, with_claims("p", "c")) == {"node(s) didn't match PersistentVolume's node affinity": 2}
    gone = "node(s) unavailable due to one or more pvc(s) bound to non-existent pv(s)"
    assert _ask(_world(claims=[claim("c", "v")]), with_claims("p", "c")) == {gone: 2}


def test_claims_that_are_missing_or_not_bound_refuse_the_pod_altogether():
    assert _ask(_world(), with_claims("p", "c")) == 'persistentvolumeclaim "c" not found'
    immediate = _world(claims=[claim("c", storage_class="s")], classes=[storage_class("s", mode="Immediate")])
    assert _ask(immediate, with_claims("p", "c")) == "pod has unbound immediate PersistentVolumeClaims"
    ephemeral = pod("p", volumes=[{"name": "scratch", "ephemeral": {"volumeClaimTemplate": {}}}])
    waits = 'waiting for ephemeral volume controller to create the persistentvolumeclaim "p-scratch"'
    assert _ask(_world(), ephemeral) == waits


def test_a_waiting_claim_goes_where_a_volume_fits_or_can_be_made():
    local = storage_class("local")
    found = {"claims": [claim("c", storage_class="local", size="2Gi")], "classes": [local]}
    small, large = volume("s", zone="a", storage_class="local"), volume("l", "b", "local", "4Gi")
    assert _ask(_world(volumes=[small, large], **found), with_claims("p", "c")) == {"b"}
    nothing = "node(s) didn't find available persistent volumes to bind"
    assert _ask(_world(volumes=[small], **found), with_claims("p", "c")) == {nothing: 2}
    made = storage_class(
        "local", "csi.example.com", allowedTopologies=[{"matchLabelExpressions": [{"key": "zone", "values": ["a"]}]}]
    )
    assert _ask(_world(claims=found["claims"], classes=[made]), with_claims("p", "c")) == {"a"}


def test_two_claims_need_two_volumes():
    claims = [claim("c", storage_class="local"), claim("d", storage_class="local")]
    volumes = [volume("v", "a", "local"), volume("w", "b", "local"), volume("x", "b", "local")]
    world = _world(claims=claims, volumes=volumes, classes=[storage_class("local")])
    assert _ask(world, with_claims("p", "c", "d")) == {"b"}


def test_provisioning_respects_the_capacity_that_a_driver_tells():
    capacity = {
        "metadata": {"name": "cap", "namespace": "default"},
        "storageClassName": "s",
        "capacity": "5Gi",
        "nodeTopology": {"matchLabels": {"zone": "a"}},
    }
    driver = {"metadata": {"name": "csi.example.com"}, "spec": {"storageCapacity": True}}
    more = {"csidrivers": [driver], "csistoragecapacities": [capacity]}
    for size, answer in (("5Gi", {"a"}), ("6Gi", {"node(s) did not have enough free storage": 2})):
        claims = [claim("c", storage_class="s", size=size)]
        world = _world(claims=claims, classes=[storage_class("s", "csi.example.com")], **more)
        assert _ask(world, with_claims("p", "c")) == answer


def test_a_read_write_once_pod_claim_has_one_pod():
    claims = [claim("c", "v", modes=["ReadWriteOncePod"])]
    world = _world(with_claims("user", "c", on="a"), claims=claims, volumes=[volume("v")])
    reason = "node has pod using PersistentVolumeClaim with the same name and ReadWriteOncePod access mode"
    assert _ask(world, with_claims("p", "c")) == {reason: 2}
    world.cluster.remove_pod(("default", "user"))
    assert _ask(world, with_claims("p", "c")) == {"a", "b"}


def test_a_node_takes_as_many_volumes_as_its_driver_says_counting_shared_ones_once():
    csi = {"driver": "d", "volumeHandle": ""}
    volumes = [volume(f"v{n}", csi={**csi, "volumeHandle": f"h{n}"}) for n in range(4)]
    claims = [claim(f"c{n}", f"v{n}") for n in range(4)]
    pods = [with_claims("one", "c0", on="a"), with_claims("two", "c0", "c1", on="a")]
    world = _world(*pods, claims=claims, volumes=volumes)
    for name in ("a", "b"):
        drivers = [{"name": "d", "allocatable": {"count": 2 if name == "a" else 1}}]
        world.context.storage.set_limits({"metadata": {"name": name}, "spec": {"drivers": drivers}})
    assert _ask(world, with_claims("p", "c2")) == {"b"}
    assert _ask(world, with_claims("p", "c0", "c1")) == {"a"}
    assert _ask(world, with_claims("p", "c2", "c3")) == {"node(s) exceed max volume count": 2}
    world.cluster.remove_pod(("default", "one"))
    assert _ask(world, with_claims("p", "c2")) == {"b"}
    world.cluster.remove_pod(("default", "two"))
    assert _ask(world, with_claims("p", "c2")) == {"a", "b"}


def test_a_volume_labelled_with_a_zone_is_used_there():
    key = "topology.kubernetes.io/zone"
    nodes = [node(z, labels={key: z}) for z in "ab"] + [node("nowhere")]
    world = _world(claims=[claim("c", "v")], volumes=[volume("v", labels={key: "b__c"})], nodes=nodes)
    assert _ask(world, with_claims("p", "c")) == {"b", "nowhere"}


def test_waiting_claims_are_bound_before_the_pod_is():
    async def main():
        async with running(*NODES) as (api, _):
            api.put("storageclasses", storage_class("local"))
            api.put("persistentvolumes", volume("v", zone="b", storage_class="local"))
            api.put("persistentvolumeclaims", claim("c", storage_class="local"))
            api.put("pods", with_claims("p", "c"))
            await api.until(lambda: api.calls)
            assert api.calls == [("patch", "persistentvolumes", "v")] and not api.bound()
            # Another pod must not get the volume meanwhile.
            api.put("persistentvolumeclaims", claim("d", storage_class="local"))
            api.put("pods", with_claims("q", "d"))
            await api.until(lambda: _condition(api, "q"))
            api.put("persistentvolumeclaims", claim("c", "v", storage_class="local"))
            await api.until(lambda: api.bound() == {"p": "b"})

    asyncio.run(main())


def test_a_claim_that_cannot_be_provisioned_on_the_node_sends_the_pod_back():
    async def main():
        async with running(*NODES) as (api, scheduler):
            scheduler.queue._backoff = 0.01
            api.put("storageclasses", storage_class("s", "csi.example.com"))
            api.put("persistentvolumeclaims", claim("c", storage_class="s"))
            api.put("pods", with_claims("p", "c"))
            await api.until(lambda: api.calls)
            told = api.get("persistentvolumeclaims", "c", "default")["metadata"]["annotations"]
            assert told["volume.kubernetes.io/selected-node"] in ("a", "b")
            api.put("persistentvolumeclaims", claim("c", storage_class="s"))  # the provisioner takes the mark away
            await api.until(lambda: api.calls.count(("patch", "persistentvolumeclaims", "c")) == 2)
            assert not api.bound()
            api.put("persistentvolumeclaims", claim("c", "v", storage_class="s"))
            api.put("persistentvolumes", volume("v", storage_class="s"))
            await api.until(api.bound)

    asyncio.run(main())
