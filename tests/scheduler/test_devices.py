"""Pods with resource claims: which devices they get, and what is written before they are bound."""

import asyncio

import pytest

from peavine.scheduler.devices import Inventory, need_of
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
    inventory = Inventory(slices, taken, ())
    needs = [need_of(c, CLASSES) for c in claims]
    found = inventory.allocate(needs, inventory.on_node.get("n", []) + inventory.anywhere)
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
    inventory = Inventory(THREE, (), ())
    ((one,),) = inventory.allocate([need_of(claim("c", wanted), CLASSES)], inventory.on_node["n"])
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
