"""Claims of devices: made for pods, freed when they end; pods leave devices that are tainted."""

import pytest

from peavine.controllers.device_taint_eviction.taints import eviction_of
from tests.controllers.conftest import on_cluster

pytestmark = pytest.mark.slow

API = "resource.k8s.io/v1"
RULE = {"metadata": {"uid": "r"}, "spec": {"deviceSelector": {"driver": "gpu.example.com"}}}


def claim_of(*tolerations):
    device = {"driver": "gpu.example.com", "pool": "p", "device": "gpu-0", "tolerations": list(tolerations)}
    return {"status": {"allocation": {"devices": {"results": [device]}}}}


def rule(effect="NoExecute", **selector):
    taint = {"key": "example.com/broken", "effect": effect, "timeAdded": "1970-01-01T00:01:40Z"}
    return {**RULE, "spec": {"deviceSelector": {"driver": "gpu.example.com", **selector}, "taint": taint}}


def test_a_tainted_device_is_left_at_once_or_after_its_toleration_or_never():
    assert eviction_of(claim_of(), [], [rule()], 0).when == 100
    brief = {"key": "example.com/broken", "operator": "Exists", "tolerationSeconds": 30}
    assert eviction_of(claim_of(brief), [], [rule()], 0).when == 130
    assert eviction_of(claim_of({"operator": "Exists"}), [], [rule()], 0) is None
    assert eviction_of(claim_of(), [], [rule("NoSchedule")], 0) is None
    assert eviction_of(claim_of(), [], [rule(device="gpu-1")], 0) is None


def test_of_a_pool_only_the_newest_generation_counts():
    def piece(generation, *taints):
        pool = {"name": "p", "generation": generation, "resourceSliceCount": 1}
        devices = [{"name": "gpu-0", "taints": list(taints)}]
        return {"spec": {"driver": "gpu.example.com", "pool": pool, "devices": devices}}

    from peavine.controllers.device_taint_eviction.taints import current

    taint = {"key": "old", "effect": "NoExecute"}
    slices = [piece(1, taint), piece(2)]
    assert eviction_of(claim_of(), current(slices), [], 5) is None
    assert eviction_of(claim_of(), current(slices[:1]), [], 5).when == 5


async def published(c):
    """A device class and a slice with one device on node-0."""
    name = c.namespace
    classes, slices = (c.client.resource(API, plural) for plural in ("deviceclasses", "resourceslices"))
    await classes.create({"metadata": {"name": name}, "spec": {}})
    pool = {"name": "pool", "generation": 1, "resourceSliceCount": 1}
    spec = {"driver": f"{name}.example.com", "nodeName": "node-0", "pool": pool, "devices": [{"name": "gpu-0"}]}
    await slices.create({"metadata": {"name": name}, "spec": spec})


def claiming_pod(name, annotations):
    claims = [{"name": "gpu", "resourceClaimTemplateName": "gpu"}]
    container = {"name": "main", "image": "work:1", "resources": {"claims": [{"name": "gpu"}]}}
    spec = {"resourceClaims": claims, "containers": [container], "restartPolicy": "Never"}
    return {"kind": "Pod", "metadata": {"name": name, "annotations": annotations}, "spec": spec}


async def template(c):
    request = {"name": "gpu", "exactly": {"deviceClassName": c.namespace}}
    spec = {"spec": {"devices": {"requests": [request]}}}
    await c.create({"kind": "ResourceClaimTemplate", "metadata": {"name": "gpu"}, "spec": spec})


@on_cluster
async def test_pods_get_claims_that_are_freed_when_they_end_and_leave_tainted_devices(c):
    await published(c)
    await template(c)
    await c.create(claiming_pod("brief", {"simulated.peavine.io/run-for": "0"}))
    await c.until_status("Pod", "brief", lambda s: s.get("phase") == "Succeeded")

    async def no_claims():
        return not await c.list("ResourceClaim")

    await c.until(no_claims, "the claim of an ended pod goes")
    await c.create(claiming_pod("steady", {}))
    await c.until_status("Pod", "steady", lambda s: s.get("phase") == "Running")
    (claim,) = await c.list("ResourceClaim")
    assert claim["status"]["allocation"] and claim["status"]["reservedFor"][0]["name"] == "steady"
    assert claim["metadata"]["annotations"]["resource.kubernetes.io/pod-claim-name"] == "gpu"
    rules = c.client.resource(API, "devicetaintrules")
    taint = {"key": "example.com/broken", "effect": "NoExecute"}
    spec = {"deviceSelector": {"driver": f"{c.namespace}.example.com"}, "taint": {**taint, "effect": "None"}}
    await rules.create({"metadata": {"name": f"{c.namespace}-look"}, "spec": spec})

    async def previewed():
        conditions = ((await rules.get(f"{c.namespace}-look")).get("status") or {}).get("conditions") or [{}]
        return conditions[0].get("reason") == "NoEffect" and conditions[0]["message"]

    assert "1 pod would be evicted in 1 namespace if the effect was NoExecute" in await c.until(previewed)
    await rules.create({"metadata": {"name": c.namespace}, "spec": {**spec, "taint": taint}})

    async def evicted():
        return "steady" not in {p["metadata"]["name"] for p in await c.pods()}

    await c.until(evicted)
    assert await c.messages("DeviceTaintManagerEviction") == ["Marking for deletion"]
    for name in (c.namespace, f"{c.namespace}-look"):
        await rules.delete(name)
    for plural in ("deviceclasses", "resourceslices"):
        await c.client.resource(API, plural).delete(c.namespace)
