"""What the cluster's own controllers keep: namespaces, roles, volumes, nodes, endpoints."""

import pytest

from tests.controllers.conftest import PROBED, on_cluster, workload

pytestmark = pytest.mark.slow


def pod(name="one", **more):
    spec = {"containers": [{"name": "main", "image": "web:1", "ports": [{"name": "http", "containerPort": 8080}]}]}
    return {"kind": "Pod", "metadata": {"name": name, "labels": {"app": "web"}}, "spec": {**spec, **more}}


def service(name="web", **more):
    spec = {"selector": {"app": "web"}, "ports": [{"name": "main", "port": 80, "targetPort": "http"}], **more}
    return {"kind": "Service", "metadata": {"name": name}, "spec": spec}


@on_cluster
async def test_a_namespace_goes_pods_first_and_tells_what_holds_it(c):
    namespaces, name = c.client.resource("v1", "namespaces"), f"{c.namespace}-gone"
    await c.cluster.create_namespace(name)
    pods, maps = c.client.resource("v1", "pods"), c.client.resource("v1", "configmaps")
    held = pod()
    held["metadata"]["finalizers"] = ["example.com/hold"]
    await pods.create(held, name)
    await maps.create({"metadata": {"name": "kept"}}, name)
    await namespaces.delete(name)

    async def told():
        conditions = ((await namespaces.get(name)).get("status") or {}).get("conditions") or ()
        return {x["type"]: x["message"] for x in conditions if x["status"] == "True"}

    def complete(found):
        return "NamespaceContentRemaining" in found and "NamespaceFinalizersRemaining" in found and found

    async def both():
        return complete(await told())

    messages = await c.until(both)
    assert messages["NamespaceContentRemaining"] == "Some resources are remaining: pods. has 1 resource instances"
    assert "example.com/hold in 1 resource instances" in messages["NamespaceFinalizersRemaining"]
    assert "kept" in {m["metadata"]["name"] for m in (await maps.list(name))["items"]}, "the rest waits for the pods"
    await pods.patch("one", {"metadata": {"finalizers": None}}, name)

    async def gone():
        return name not in {n["metadata"]["name"] for n in (await namespaces.list())["items"]}

    await c.until(gone)


@on_cluster
async def test_endpoints_and_slices_follow_pods_as_they_become_ready_and_end(c):
    slow = pod("slow")
    slow["metadata"]["annotations"] = {"simulated.peavine.io/ready-after": "never"}
    slow["spec"]["containers"][0] |= PROBED
    for obj in (service(), service("all", publishNotReadyAddresses=True, clusterIP="None"), pod("one"), slow):
        await c.create(obj)
    await c.until_status("Pod", "one", lambda s: s.get("phase") == "Running")
    slices = c.client.resource("discovery.k8s.io/v1", "endpointslices")

    async def endpoints(name):
        found = (await slices.list(c.namespace, label_selector=f"kubernetes.io/service-name={name}"))["items"]
        return {e["targetRef"]["name"]: e["conditions"]["ready"] for s in found for e in s.get("endpoints") or ()}

    async def are(name, wanted):
        return await endpoints(name) == wanted

    await c.until(lambda: are("web", {"one": True, "slow": False}))
    await c.until(lambda: are("all", {"one": True, "slow": True}))
    (found,) = (await slices.list(c.namespace, label_selector="kubernetes.io/service-name=web"))["items"]
    assert found["ports"] == [{"name": "main", "port": 8080, "protocol": "TCP"}]
    assert found["endpoints"][0]["nodeName"].startswith("node-")

    async def old_style():
        subsets = (await c.client.resource("v1", "endpoints").get("web", c.namespace)).get("subsets") or [{}]
        ready = [a["targetRef"]["name"] for a in subsets[0].get("addresses") or ()]
        return ready == ["one"] and [a["targetRef"]["name"] for a in subsets[0].get("notReadyAddresses") or ()] == [
            "slow"
        ]

    await c.until(old_style)
    await c.delete("Pod", "one")
    await c.until(lambda: are("web", {"slow": False}))
    await c.delete("Service", "web")

    async def removed():
        return not (await slices.list(c.namespace, label_selector="kubernetes.io/service-name=web"))["items"]

    await c.until(removed)


@on_cluster
async def test_endpoints_written_by_hand_are_mirrored(c):
    await c.create(service("outside", selector=None, ports=[{"port": 80}]))
    subset = {"addresses": [{"ip": "203.0.113.7"}], "ports": [{"port": 8080}]}
    body = {"metadata": {"name": "outside"}, "subsets": [subset]}
    await c.client.resource("v1", "endpoints").create(body, c.namespace)
    slices = c.client.resource("discovery.k8s.io/v1", "endpointslices")

    async def mirrored():
        found = (await slices.list(c.namespace, label_selector="kubernetes.io/service-name=outside"))["items"]
        return found and found[0]["endpoints"][0]["addresses"] == ["203.0.113.7"] and found[0]

    found = await c.until(mirrored)
    label = found["metadata"]["labels"]["endpointslice.kubernetes.io/managed-by"]
    assert label == "endpointslicemirroring-controller.k8s.io"


@on_cluster
async def test_an_aggregated_role_has_the_rules_of_those_that_it_selects(c):
    roles = c.client.resource("rbac.authorization.k8s.io/v1", "clusterroles")
    mark = {f"rbac.example.com/{c.namespace}": "true"}
    await roles.create(
        {"metadata": {"name": c.namespace}, "aggregationRule": {"clusterRoleSelectors": [{"matchLabels": mark}]}}
    )
    rules = [{"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]}]
    await roles.create({"metadata": {"name": f"{c.namespace}-part", "labels": mark}, "rules": rules})

    async def has(wanted):
        return ((await roles.get(c.namespace)).get("rules") or []) == wanted

    await c.until(lambda: has(rules))
    await roles.delete(f"{c.namespace}-part")
    await c.until(lambda: has([]))
    await roles.delete(c.namespace)


@on_cluster
async def test_namespaces_have_their_account_and_the_clusters_authority(c):
    await c.delete("ServiceAccount", "default")

    async def again():
        found = {a["metadata"]["name"] for a in await c.list("ServiceAccount")}
        maps = {m["metadata"]["name"]: m for m in await c.list("ConfigMap")}
        return "default" in found and "BEGIN CERTIFICATE" in maps.get("kube-root-ca.crt", {}).get("data", {}).get(
            "ca.crt", ""
        )

    await c.until(again)
    await c.patch("ConfigMap", "kube-root-ca.crt", {"data": {"ca.crt": "forged"}})
    await c.until(again)


@on_cluster
async def test_nodes_get_a_subnet_each_and_a_ttl(c):
    ttl = "node.alpha.kubernetes.io/ttl"

    async def given():
        nodes = (await c.client.resource("v1", "nodes").list())["items"]
        subnets = {n["spec"].get("podCIDR", "") for n in nodes}
        ttls = {(n["metadata"].get("annotations") or {}).get(ttl) for n in nodes}
        return (
            len(subnets) == 3 and all(s.startswith("172.7.") and s.endswith("/24") for s in subnets) and ttls == {"0"}
        )

    await c.until(given)


@on_cluster
async def test_ephemeral_volumes_have_a_claim_that_goes_with_their_pod_and_claims_can_grow(c):
    spec = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Mi"}}}
    volume = {"name": "scratch", "ephemeral": {"volumeClaimTemplate": {"spec": spec}}}
    await c.create(pod("user", volumes=[volume]))
    await c.until_status("Pod", "user", lambda s: s.get("phase") == "Running")
    claim = await c.get("PersistentVolumeClaim", "user-scratch")
    assert claim["metadata"]["ownerReferences"][0]["name"] == "user"
    await c.patch("PersistentVolumeClaim", "user-scratch", {"spec": {"resources": {"requests": {"storage": "2Mi"}}}})
    await c.until_status("PersistentVolumeClaim", "user-scratch", lambda s: s["capacity"]["storage"] == "2Mi")
    volume = await c.client.resource("v1", "persistentvolumes").get(claim["spec"]["volumeName"])
    assert volume["spec"]["capacity"]["storage"] == "2Mi"
    await c.delete("PersistentVolumeClaim", "user-scratch")
    claim = await c.get("PersistentVolumeClaim", "user-scratch")
    assert claim["metadata"]["deletionTimestamp"], "it stays while its pod uses it"
    await c.delete("Pod", "user")

    async def gone():
        return not await c.list("PersistentVolumeClaim")

    await c.until(gone)


@on_cluster
async def test_a_budget_protects_pods_from_eviction_until_there_are_enough(c):
    await c.create(workload(replicas=2))
    await c.until_status("Deployment", "web", lambda s: s.get("readyReplicas") == 2)
    spec = {"maxUnavailable": 0, "selector": {"matchLabels": {"app": "web"}}}
    await c.create({"kind": "PodDisruptionBudget", "metadata": {"name": "all"}, "spec": spec})
    status = await c.until_status("PodDisruptionBudget", "all", lambda s: s.get("expectedPods") == 2)
    assert (status["disruptionsAllowed"], status["desiredHealthy"]) == (0, 2)
    name = (await c.pods("app=web"))[0]["metadata"]["name"]
    eviction = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": name}}

    async def evict():
        from peavine.machinery.errors import ApiError

        try:
            await c.resource("Pod").create_subresource(name, "eviction", eviction, c.namespace)
        except ApiError as error:
            return error.code
        return 201

    assert await evict() == 429
    await c.patch("PodDisruptionBudget", "all", {"spec": {"maxUnavailable": 1}})
    await c.until_status("PodDisruptionBudget", "all", lambda s: s.get("disruptionsAllowed") == 1)
    assert await evict() == 201


@on_cluster
async def test_a_class_of_volume_attributes_stays_while_a_claim_names_it(c):
    classes = c.client.resource("storage.k8s.io/v1", "volumeattributesclasses")
    await classes.create(
        {"metadata": {"name": c.namespace}, "driverName": "csi.example.com", "parameters": {"iops": "1"}}
    )
    spec = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Mi"}}}
    spec["volumeAttributesClassName"] = c.namespace
    await c.create({"kind": "PersistentVolumeClaim", "metadata": {"name": "fast"}, "spec": spec})

    async def protected():
        return "kubernetes.io/vac-protection" in ((await classes.get(c.namespace))["metadata"].get("finalizers") or ())

    await c.until(protected)
    await classes.delete(c.namespace)
    assert (await classes.get(c.namespace))["metadata"]["deletionTimestamp"]
    await c.delete("PersistentVolumeClaim", "fast")

    async def gone():
        return c.namespace not in {x["metadata"]["name"] for x in (await classes.list())["items"]}

    await c.until(gone)
