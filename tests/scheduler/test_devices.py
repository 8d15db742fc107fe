"""Pods with resource claims: which devices they get, and what is written before they are bound."""

import asyncio

import pytest

from peavine.machinery.errors import ApiError
from peavine.scheduler.devices import allocate, need_of
from peavine.scheduler.extended_resources import wanted_of
from peavine.scheduler.inventory import Inventory
from tests.scheduler.fake_api import FakeApi
from tests.scheduler.objects import World, node, pod
from tests.scheduler.test_scheduler import _condition, running
from tests.scheduler.test_volumes import _ask

CLASSES = {
    "gpu": {
        "metadata": {"name": "gpu"},
        "spec": {"selectors": [{"cel": {"expression": 'device.driver == "gpu.example.com"'}}]},
    }
}


def device(name, model="a", memory="40Gi", numa=0, **more):
    attributes = {"model": {"string": model}, "numa": {"int": numa}, "firmware": {"version": "1.2.3"}}
    return {"name": name, "attributes": attributes, "capacity": {"memory": {"value": memory}}, **more}


def slice_(on, *devices, generation=1, pool=None, **spec):
    where = {"nodeName": on} if on else {}
    return {
        "metadata": {"name": f"{pool or on}-{generation}-{len(devices)}"},
        "spec": {
            "driver": "gpu.example.com",
            "pool": {"name": pool or on, "generation": generation, "resourceSliceCount": 1},
            "devices": list(devices),
            **where,
            **spec,
        },
    }


def claim(name, *requests, constraints=(), allocated=(), on=""):
    exactly = [{"name": f"r{n}", "exactly": {"deviceClassName": "gpu", **r}} for n, r in enumerate(requests or ({},))]
    requests = [r if "firstAvailable" in r else e for r, e in zip(requests or ({},), exactly)]
    meta = {"name": name, "namespace": "default", "uid": f"uid-{name}"}
    obj = {"metadata": meta, "spec": {"devices": {"requests": requests, "constraints": list(constraints)}}}
    if allocated:
        results = [{"request": "r0", "driver": "gpu.example.com", "pool": on, "device": d} for d in allocated]
        fields = [{"key": "metadata.name", "operator": "In", "values": [on]}]
        selector = {"nodeSelectorTerms": [{"matchFields": fields}]}
        obj["status"] = {"allocation": {"devices": {"results": results}, "nodeSelector": selector}}
    return obj


def cel(text):
    return {"selectors": [{"cel": {"expression": text}}]}


def given(slices, *claims, taken=()):
    """Device names by claim, on node n."""
    inventory = Inventory(slices, taken, {})
    needs = [need_of(c, CLASSES) for c in claims]
    found = allocate(inventory, needs, inventory.on_node.get("n", []) + inventory.anywhere)
    return None if found is None else [[g.device.id.device for g in one] for one in found]


THREE = [slice_("n", device("d0"), device("d1", model="b", numa=1), device("d2", model="b", memory="80Gi"))]


@pytest.mark.parametrize(
    ("request_", "devices"),
    [
        ({}, ["d0"]),
        ({"count": 2}, ["d0", "d1"]),
        ({"count": 4}, None),
        ({"allocationMode": "All"}, ["d0", "d1", "d2"]),
        (cel('device.attributes["gpu.example.com"].model == "b"'), ["d1"]),
        (cel('device.capacity["gpu.example.com"].memory.compareTo(quantity("50Gi")) > 0'), ["d2"]),
        (cel('device.attributes["gpu.example.com"].firmware.isGreaterThan(semver("1.3.0"))'), None),
        (cel('device.attributes["gpu.example.com"].none == 1'), None),
    ],
)
def test_a_request_gets_the_devices_that_it_selects(request_, devices):
    assert given(THREE, claim("c", request_)) == (None if devices is None else [devices])


def test_what_one_claim_has_no_other_gets_but_an_administrator():
    taken = [claim("old", allocated=["d0", "d1"], on="n")]
    assert given(THREE, claim("c"), taken=taken) == [["d2"]]
    assert given(THREE, claim("c"), claim("d"), taken=taken) is None
    assert given(THREE, claim("c", {"adminAccess": True}), claim("d"), taken=taken) == [["d0"], ["d2"]]


def test_the_first_alternative_that_can_be_had_is_taken():
    wanted = {"name": "r0", "firstAvailable": []}
    for name, text in (("big", '"c"'), ("any", '"b"')):
        selector = cel(f'device.attributes["gpu.example.com"].model == {text}')
        wanted["firstAvailable"].append({"name": name, "deviceClassName": "gpu", **selector})
    inventory = Inventory(THREE, (), {})
    ((one,),) = allocate(inventory, [need_of(claim("c", wanted), CLASSES)], inventory.on_node["n"])
    assert (one.variant.request, one.device.id.device) == ("r0/any", "d1")


def test_constraints_tie_devices_together_even_if_the_first_choice_must_be_taken_back():
    same = [{"matchAttribute": "gpu.example.com/model"}]
    assert given(THREE, claim("c", {"count": 2}, constraints=same)) == [["d1", "d2"]]
    different = [{"distinctAttribute": "gpu.example.com/model"}]
    assert given(
        THREE, claim("c", {}, cel('device.attributes["gpu.example.com"].numa == 0'), constraints=different)
    ) in (
        [["d0", "d2"]],
        [["d1", "d0"]],
    )


def test_tainted_devices_need_a_toleration_and_old_generations_are_gone():
    tainted = device("d0", taints=[{"key": "broken", "effect": "NoSchedule"}])
    assert given([slice_("n", tainted)], claim("c")) is None
    assert given([slice_("n", tainted)], claim("c", {"tolerations": [{"key": "broken", "operator": "Exists"}]})) == [
        ["d0"]
    ]
    assert given([slice_("n", device("old")), slice_("n", device("new"), generation=2)], claim("c")) == [["new"]]


def with_claim(name, reference="c", **more):
    return pod(name, resourceClaims=[{"name": "gpu", "resourceClaimName": reference}], **more)


def test_a_pod_goes_where_its_claim_is_or_can_be_allocated():
    slices = [slice_("a", device("d0")), slice_("", device("d1"), pool="shared", allNodes=True)]

    def world(*claims):
        listed = {"resourceclaims": claims, "resourceslices": slices, "deviceclasses": CLASSES.values()}
        return World([node("a"), node("b")], **listed)

    assert _ask(world(claim("c", {"count": 2})), with_claim("p")) == {"a"}
    assert _ask(world(claim("c")), with_claim("p")) == {"a", "b"}
    assert _ask(world(claim("c", {"count": 3})), with_claim("p")) == {"cannot allocate all claims": 2}
    assert _ask(world(claim("c", allocated=["d0"], on="a")), with_claim("p")) == {"a"}
    assert _ask(world(), with_claim("p")) == 'resourceclaim.resource.k8s.io "c" not found'
    no_class = world(claim("c", {"deviceClassName": "tpu"}))
    assert _ask(no_class, with_claim("p")) == "request r0: device class tpu does not exist"


def test_claims_are_written_before_their_pod_is_bound_and_no_device_is_given_twice():
    async def main():
        async with running(node("a")) as (api, _):
            api.put("deviceclasses", CLASSES["gpu"])
            api.put("resourceslices", slice_("a", device("d0"), device("d1")))
            for n in range(3):
                api.put("resourceclaims", claim(f"c{n}"))
                api.put("pods", with_claim(f"p{n}", f"c{n}"))
            await api.until(lambda: len(api.bound()) == 2 and any(_condition(api, f"p{n}") for n in range(3)))
            claims = [api.get("resourceclaims", f"c{n}", "default") for n in range(3)]
            written = [c for c in claims if (c.get("status") or {}).get("allocation")]
            assert {c["status"]["allocation"]["devices"]["results"][0]["device"] for c in written} == {"d0", "d1"}
            for one in written:
                assert one["status"]["reservedFor"][0]["resource"] == "pods"
                assert one["metadata"]["finalizers"] == ["resource.kubernetes.io/delete-protection"]
            waits = next(f"p{n}" for n in range(3) if f"p{n}" not in api.bound())
            assert _condition(api, waits)["message"] == (
                "0/1 nodes are available: 1 cannot allocate all claims. still not schedulable, preemption: "
                "0/1 nodes are available: 1 Preemption is not helpful for scheduling."
            )
            gone = next(n for n in range(3) if f"p{n}" in api.bound())
            api.remove("pods", f"p{gone}", "default")
            api.remove("resourceclaims", f"c{gone}", "default")
            await api.until(lambda: waits in api.bound())

    asyncio.run(main())


def test_parts_of_one_piece_of_hardware_exclude_each_other_where_its_counters_are_used_up():
    counters = {"name": "gpu-0", "counters": {"memory": {"value": "8Gi"}}}

    def part(name, memory):
        uses = [{"counterSet": "gpu-0", "counters": {"memory": {"value": memory}}}]
        return device(name, consumesCounters=uses)

    slices = [
        slice_("n", pool="p", sharedCounters=[counters]),
        slice_("n", part("whole", "8Gi"), part("left", "4Gi"), part("right", "4Gi"), pool="p"),
    ]
    for one in slices:
        one["spec"]["pool"]["resourceSliceCount"] = 2
    assert given(slices, claim("c"), claim("d")) == [["left"], ["right"]]  # the whole would leave nothing for the other
    assert given(slices, claim("c", {"count": 3})) is None
    held = claim("old", allocated=["left"], on="p")
    assert given(slices, claim("c"), taken=[held]) == [["right"]]


def test_a_pool_that_is_being_published_gives_nothing_out_and_nobody_gets_all():
    half = slice_("n", device("d1"), pool="half")
    half["spec"]["pool"]["resourceSliceCount"] = 2
    slices = [slice_("n", device("d0")), half]
    assert given(slices, claim("c")) == [["d0"]]
    assert given(slices, claim("c", {"count": 2})) is None
    assert given(slices, claim("c", {"allocationMode": "All"})) is None


def _network_card(policy=None, bandwidth="10G"):
    capacity = {"bandwidth": {"value": bandwidth, **({"requestPolicy": policy} if policy else {})}}
    return slice_("n", {"name": "eth1", "allowMultipleAllocations": True, "attributes": {}, "capacity": capacity})


def _shares(slices, *claims, taken=()):
    inventory = Inventory(slices, taken, {})
    found = allocate(inventory, [need_of(c, CLASSES) for c in claims], inventory.on_node["n"])
    return None if found is None else [{k: str(v) for k, v in one[0].consumed.items()} for one in found]


def _asks(bandwidth):
    return {"capacity": {"requests": {"bandwidth": bandwidth}}}


@pytest.mark.parametrize(
    ("policy", "asked", "consumed"),
    [
        (None, "1G", "1G"),
        (None, None, "10G"),
        ({"default": "1M"}, None, "1M"),
        ({"default": "1M", "validRange": {"min": "1M", "step": "8"}}, "1000001", "1000008"),
        ({"default": "1M", "validRange": {"min": "2M"}}, "1M", "2M"),
        ({"default": "1M", "validRange": {"min": "1M", "max": "2M"}}, "3M", None),
        ({"default": "1M", "validValues": ["1M", "5M", "10M"]}, "4M", "5M"),
        ({"default": "1M", "validValues": ["1M", "5M"]}, "6M", None),
        (None, "11G", None),
    ],
)
def test_a_share_of_a_device_uses_what_the_drivers_policy_makes_of_the_request(policy, asked, consumed):
    found = _shares([_network_card(policy)], claim("c", _asks(asked) if asked else {}))
    assert found == (None if consumed is None else [{"bandwidth": consumed}])


def test_many_claims_share_a_device_up_to_its_capacity():
    card = [_network_card()]
    assert _shares(card, claim("a", _asks("6G")), claim("b", _asks("4G"))) == [
        {"bandwidth": "6G"},
        {"bandwidth": "4G"},
    ]
    assert _shares(card, claim("a", _asks("6G")), claim("b", _asks("5G"))) is None
    held = claim("old", allocated=["eth1"], on="n")
    held["status"]["allocation"]["devices"]["results"][0] |= {"shareID": "s", "consumedCapacity": {"bandwidth": "7G"}}
    assert _shares(card, claim("a", _asks("3G")), taken=[held]) == [{"bandwidth": "3G"}]
    assert _shares(card, claim("a", _asks("4G")), taken=[held]) is None
    twice = claim("a", {"count": 2, **_asks("4G")})
    assert given(card, twice) == [["eth1", "eth1"]]
    apart = claim("a", {"count": 2, **_asks("4G")}, constraints=[{"distinctAttribute": "gpu.example.com/none"}])
    assert given(card, apart) is None


def test_a_rule_taints_the_devices_that_it_selects():
    def rule(**selector):
        return {"spec": {"deviceSelector": selector, "taint": {"key": "broken", "effect": "NoSchedule"}}}

    def left(*rules):
        inventory = Inventory(THREE, (), {}, rules)
        found = allocate(inventory, [need_of(claim("c"), CLASSES)], inventory.on_node["n"])
        return found and found[0][0].device.id.device

    assert left(rule(driver="gpu.example.com", pool="n", device="d0")) == "d1"
    assert left(rule(driver="another")) == "d0"
    assert left(rule()) is None


GPU = {**CLASSES["gpu"], "spec": {**CLASSES["gpu"]["spec"], "extendedResourceName": "example.com/gpu"}}


def _asking(name, resource="example.com/gpu", number="1", init=()):
    obj = pod(name)
    obj["spec"]["containers"][0]["resources"] = {"requests": {resource: number}}
    obj["spec"]["initContainers"] = [
        {"name": f"i{n}", "image": "x", "resources": {"requests": {resource: c}}} for n, c in enumerate(init)
    ]
    return obj


def test_an_extended_resource_is_served_by_a_device_plugin_or_by_devices_node_by_node():
    plugin = node("plugin")
    plugin["status"]["allocatable"]["example.com/gpu"] = "1"
    nodes = [plugin, node("dra"), node("none")]
    listed = {"resourceslices": [slice_("dra", device("d0"), device("d1"))], "deviceclasses": [GPU]}
    world = World(nodes, **listed)
    assert _ask(world, _asking("p")) == {"plugin", "dra"}
    assert _ask(world, _asking("p", number="2")) == {"dra"}
    assert _ask(world, _asking("p", "deviceclass.resource.kubernetes.io/gpu")) == {"dra"}
    assert _ask(world, _asking("p", number="3")) == {"Insufficient example.com/gpu": 1, "cannot allocate all claims": 2}
    assert _ask(World(nodes), _asking("p", number="2")) == {"Insufficient example.com/gpu": 3}


def test_containers_that_run_one_after_the_other_use_the_same_devices():
    world = World([node("n")], deviceclasses=[GPU])
    template = world.pod(_asking("p", number="2", init=("1", "3", "4"))).template
    wanted = wanted_of(template, ["example.com/gpu"], world.context.classes())
    assert [(r["name"], r["exactly"]["count"]) for r in wanted.requests] == [
        ("container-2-request-0", 2),
        ("container-3-request-0", 2),
    ]
    assert [(m["containerName"], m["requestName"]) for m in wanted.mappings] == [
        ("c", "container-3-request-0"),
        ("i0", "container-3-request-0"),
        ("i1", "container-3-request-0"),
        ("i1", "container-2-request-0"),
        ("i2", "container-3-request-0"),
        ("i2", "container-2-request-0"),
    ]


def _special(api):
    found = [c for c in api.objects["resourceclaims"].values() if "annotations" in c["metadata"]]
    return found[0] if found else None


def test_for_an_extended_resource_a_claim_is_made_and_the_pod_says_which():
    async def main():
        async with running(node("a")) as (api, _):
            api.put("deviceclasses", GPU)
            api.put("resourceslices", slice_("a", device("d0"), device("d1")))
            api.put("pods", _asking("p"))
            await api.until(lambda: "p" in api.bound())
            made, bound = _special(api), api.get("pods", "p", "default")
            assert made["metadata"]["annotations"] == {"resource.kubernetes.io/extended-resource-claim": "true"}
            assert made["metadata"]["name"].startswith("p-extended-resources-")
            assert made["metadata"]["ownerReferences"][0]["uid"] == bound["metadata"]["uid"]
            assert made["status"]["reservedFor"][0]["uid"] == bound["metadata"]["uid"]
            assert bound["status"]["extendedResourceClaimStatus"] == {
                "resourceClaimName": made["metadata"]["name"],
                "requestMappings": [
                    {
                        "containerName": "c",
                        "resourceName": "example.com/gpu",
                        "requestName": "container-0-request-0",
                    }
                ],
            }

    asyncio.run(main())


def test_a_claim_made_by_a_try_that_failed_is_deleted_and_the_pod_placed_again():
    async def main():
        async with running(node("a")) as (api, scheduler):
            scheduler.queue._backoff = 0.01
            failures = iter([ApiError(500, "InternalError", "boom")])
            api.refuse = lambda verb, plural, name: next(failures, None) if verb == "binding" else None
            api.put("deviceclasses", GPU)
            api.put("resourceslices", slice_("a", device("d0")))
            api.put("pods", _asking("p"))
            await api.until(lambda: "p" in api.bound())
            assert [c for c in api.calls if c[:2] == ("create", "resourceclaims")]
            assert len([c for c in api.objects["resourceclaims"].values() if "annotations" in c["metadata"]]) == 1

    asyncio.run(main())


def test_a_claim_left_by_a_scheduler_that_died_is_deleted_first():
    async def main():
        api = FakeApi()
        api.put("deviceclasses", GPU)
        api.put("resourceslices", slice_("a", device("d0")))
        waiting = api.put("pods", _asking("p"))
        left = claim("p-extended-resources-x", allocated=["d0"], on="a")
        owner = {"kind": "Pod", "name": "p", "uid": waiting["metadata"]["uid"], "controller": True}
        left["metadata"] |= {
            "annotations": {"resource.kubernetes.io/extended-resource-claim": "true"},
            "ownerReferences": [owner],
        }
        api.put("resourceclaims", left)
        async with running(node("a"), api=api):
            await api.until(lambda: "p" in api.bound())
            assert api.get("resourceclaims", "p-extended-resources-x", "default") is None

    asyncio.run(main())


def test_a_pod_is_bound_when_its_devices_are_and_placed_anew_when_they_fail():
    async def main():
        async with running(node("a")) as (api, scheduler):
            scheduler.queue._backoff = 0.01
            api.put("deviceclasses", CLASSES["gpu"])
            conditions = {"bindingConditions": ["Attached"], "bindingFailureConditions": ["Broken"]}
            api.put("resourceslices", slice_("a", device("d0", **conditions)))
            api.put("resourceclaims", claim("c"))
            api.put("pods", with_claim("p"))

            def state(type_):
                now = api.get("resourceclaims", "c", "default")
                result = now["status"]["allocation"]["devices"]["results"][0]
                assert result["bindingConditions"] == ["Attached"]
                one = {k: result[k] for k in ("driver", "pool", "device")}
                conditions = [{"type": type_, "status": "True"}]
                status = {**now["status"], "devices": [{**one, "conditions": conditions}]}
                api.put("resourceclaims", {**now, "status": status})

            def allocated():
                return (api.get("resourceclaims", "c", "default").get("status") or {}).get("allocation")

            await api.until(allocated)
            assert not api.bound()
            state("Broken")
            await api.until(lambda: any("cannot be bound" in e["message"] for e in api.events))
            await api.until(allocated)
            state("Attached")
            await api.until(lambda: "p" in api.bound())

    asyncio.run(main())


def test_a_claim_that_nobody_uses_is_freed_for_a_pod_that_it_keeps_from_a_node():
    async def main():
        full = node("a", cpu="100m")
        async with running(full, node("b")) as (api, _):
            api.put("deviceclasses", CLASSES["gpu"])
            api.put("resourceslices", slice_("a", device("d0")))
            api.put("resourceslices", slice_("b", device("d1")))
            api.put("resourceclaims", claim("c", allocated=["d0"], on="a"))
            api.put("pods", with_claim("p", cpu="1"))
            await api.until(lambda: api.bound() == {"p": "b"})
            assert any("deallocation of ResourceClaim completed, preemption: " in e["message"] for e in api.events)

    asyncio.run(main())
