"""Admission: what each plugin fills in and what it refuses."""

import asyncio
import copy

import pytest

from peavine.apiserver.admission import AdmissionRequest, build_chain
from peavine.apiserver.authentication import User
from peavine.apiserver.authorization.build import build_authorizer
from peavine.machinery.errors import ApiError
from peavine.machinery.names import GVK, GVR
from tests.apiserver.security.fakes import Objects

JANE = User("jane", groups=("system:authenticated",))
NODE = User("system:node:one", groups=("system:nodes", "system:authenticated"))


@pytest.fixture
def objects():
    found = Objects()
    for name in ("default", "kube-system", "team"):
        found.put("", "namespaces", {"metadata": {"name": name}, "status": {"phase": "Active"}})
        found.put("", "serviceaccounts", {"metadata": {"name": "default", "namespace": name}})
    found.put("", "nodes", {"metadata": {"name": "one", "uid": "node-uid"}})
    return found


@pytest.fixture
def chain(objects):
    return build_chain(objects, objects, authorizer=build_authorizer(objects))


def pod(name="web", **spec):
    spec = {"containers": [{"name": "c", "image": "i"}], **spec}
    return {"metadata": {"name": name, "namespace": "team"}, "spec": spec}


def review(
    obj, resource="pods", group="", operation="CREATE", user=JANE, old=None, subresource="", namespace="team", **more
):
    name = ((obj or old)["metadata"]).get("name", "")
    gvr, gvk = GVR(group, "v1", resource), GVK(group, "v1", "Kind")
    return AdmissionRequest(
        operation, gvk, gvr, subresource, namespace, name, copy.deepcopy(obj), old, user=user, **more
    )


def run(chain, req):
    async def both():
        await chain.admit(req)
        await chain.validate(req)

    asyncio.run(both())
    return req.obj


def refusal(chain, req):
    with pytest.raises(ApiError) as caught:
        run(chain, req)
    return caught.value


def test_nothing_is_made_in_a_namespace_that_is_missing_or_going(objects, chain):
    error = refusal(chain, review(pod(), namespace="nowhere"))
    assert (error.code, error.message) == (404, 'namespaces "nowhere" not found')
    objects.put("", "namespaces", {"metadata": {"name": "team"}, "status": {"phase": "Terminating"}})
    error = refusal(chain, review(pod()))
    assert error.message == (
        'pods "web" is forbidden: unable to create new content in namespace team because it is being terminated'
    )
    assert error.details["causes"][0]["reason"] == "NamespaceTerminating"
    run(chain, review(pod(), operation="UPDATE", old=pod()))


def test_the_namespaces_of_the_system_stay(chain):
    for name in ("default", "kube-system", "kube-public"):
        req = review(None, "namespaces", operation="DELETE", old={"metadata": {"name": name}}, namespace="")
        assert refusal(chain, req).message == f'namespaces "{name}" is forbidden: this namespace may not be deleted'
    run(chain, review(None, "namespaces", operation="DELETE", old={"metadata": {"name": "x"}}, namespace=""))


def test_a_pod_runs_as_the_default_account_with_its_token_mounted(objects, chain):
    objects.put(
        "",
        "serviceaccounts",
        {"metadata": {"name": "default", "namespace": "team"}, "imagePullSecrets": [{"name": "pull"}]},
    )
    spec = run(chain, review(pod(initContainers=[{"name": "i"}])))["spec"]
    assert spec["serviceAccountName"] == spec["serviceAccount"] == "default"
    assert spec["imagePullSecrets"] == [{"name": "pull"}]
    (volume,) = spec["volumes"]
    assert volume["name"].startswith("kube-api-access-") and len(volume["name"]) == 21
    assert volume["projected"]["sources"][0] == {"serviceAccountToken": {"expirationSeconds": 3607, "path": "token"}}
    for container in (*spec["containers"], *spec["initContainers"]):
        assert container["volumeMounts"] == [
            {"name": volume["name"], "readOnly": True, "mountPath": "/var/run/secrets/kubernetes.io/serviceaccount"}
        ]


def test_a_token_is_not_mounted_where_pod_or_account_say_so(objects, chain):
    assert "volumes" not in run(chain, review(pod(automountServiceAccountToken=False)))["spec"]
    objects.put(
        "",
        "serviceaccounts",
        {"metadata": {"name": "default", "namespace": "team"}, "automountServiceAccountToken": False},
    )
    assert "volumes" not in run(chain, review(pod()))["spec"]
    assert "volumes" in run(chain, review(pod(automountServiceAccountToken=True)))["spec"]


def test_a_pod_of_an_account_that_does_not_exist_is_refused(chain):
    assert refusal(chain, review(pod(serviceAccountName="nobody"))).message == (
        'pods "web" is forbidden: error looking up service account team/nobody: serviceaccount "nobody" not found'
    )


def test_the_first_pod_of_a_new_namespace_waits_for_the_default_account(objects, chain):
    objects.put("", "namespaces", {"metadata": {"name": "new"}, "status": {"phase": "Active"}})

    async def both():
        req = review(pod(), namespace="new")
        async with asyncio.TaskGroup() as group:
            group.create_task(chain.admit(req))
            await asyncio.sleep(0.01)
            objects.put("", "serviceaccounts", {"metadata": {"name": "default", "namespace": "new"}})
        return req.obj

    assert asyncio.run(both())["spec"]["serviceAccountName"] == "default"


def test_an_account_can_limit_which_secrets_its_pods_name(objects, chain):
    """CVE-2023-2728: ephemeral containers and envFrom are held to it as well."""
    objects.put(
        "",
        "serviceaccounts",
        {
            "metadata": {
                "name": "default",
                "namespace": "team",
                "annotations": {"kubernetes.io/enforce-mountable-secrets": "true"},
            },
            "secrets": [{"name": "mine"}],
        },
    )
    run(chain, review(pod(volumes=[{"name": "v", "secret": {"secretName": "mine"}}])))
    stolen = {"name": "e", "envFrom": [{"secretRef": {"name": "other"}}]}
    assert "is not allowed because" in refusal(chain, review(pod(containers=[stolen]))).message
    update = pod(serviceAccountName="default", ephemeralContainers=[stolen])
    req = review(update, operation="UPDATE", old=pod(), subresource="ephemeralcontainers")
    assert "ephemeral container e with envFrom" in refusal(chain, req).message


def test_priority_comes_from_the_class(objects, chain):
    group = "scheduling.k8s.io"
    assert run(chain, review(pod()))["spec"]["priority"] == 0
    objects.put(group, "priorityclasses", {"metadata": {"name": "high"}, "value": 1000, "preemptionPolicy": "Never"})
    spec = run(chain, review(pod(priorityClassName="high")))["spec"]
    assert (spec["priority"], spec["preemptionPolicy"]) == (1000, "Never")
    assert "no PriorityClass with name low was found" in refusal(chain, review(pod(priorityClassName="low"))).message
    error = refusal(chain, review(pod(priorityClassName="high", priority=5)))
    assert "the integer value of priority (5) must not be provided in pod spec" in error.message
    objects.put(group, "priorityclasses", {"metadata": {"name": "usual"}, "value": 7, "globalDefault": True})
    spec = run(chain, review(pod()))["spec"]
    assert (spec["priority"], spec["priorityClassName"]) == (7, "usual")
    second = {"metadata": {"name": "second"}, "value": 8, "globalDefault": True}
    error = refusal(chain, review(second, "priorityclasses", group, namespace=""))
    assert error.message.endswith("PriorityClass usual is already marked as default. Only one default can exist")


def test_a_pod_tolerates_a_node_that_is_away_for_five_minutes(chain):
    tolerations = run(chain, review(pod()))["spec"]["tolerations"]
    assert [(t["key"], t["tolerationSeconds"]) for t in tolerations] == [
        ("node.kubernetes.io/not-ready", 300),
        ("node.kubernetes.io/unreachable", 300),
    ]
    everything = [{"operator": "Exists"}]
    assert run(chain, review(pod(tolerations=everything)))["spec"]["tolerations"] == everything


def test_a_new_node_is_tainted_not_ready(chain):
    obj = run(chain, review({"metadata": {"name": "two"}}, "nodes", namespace=""))
    assert obj["spec"]["taints"] == [{"key": "node.kubernetes.io/not-ready", "effect": "NoSchedule"}]


def test_limit_ranges_fill_in_and_bound(objects, chain):
    objects.put(
        "",
        "limitranges",
        {
            "metadata": {"name": "l", "namespace": "team"},
            "spec": {
                "limits": [
                    {
                        "type": "Container",
                        "default": {"cpu": "500m"},
                        "defaultRequest": {"cpu": "100m"},
                        "max": {"cpu": "1"},
                        "min": {"cpu": "50m"},
                        "maxLimitRequestRatio": {"cpu": "10"},
                    },
                    {"type": "PersistentVolumeClaim", "max": {"storage": "1Gi"}},
                ]
            },
        },
    )
    made = run(chain, review(pod()))
    assert made["spec"]["containers"][0]["resources"] == {"requests": {"cpu": "100m"}, "limits": {"cpu": "500m"}}
    assert made["metadata"]["annotations"]["kubernetes.io/limit-ranger"] == (
        "LimitRanger plugin set: cpu request for container c; cpu limit for container c"
    )

    def sized(requests, limits):
        return review(pod(containers=[{"name": "c", "resources": {"requests": requests, "limits": limits}}]))

    assert refusal(chain, sized({"cpu": "1"}, {"cpu": "2"})).message == (
        'pods "web" is forbidden: maximum cpu usage per Container is 1, but limit is 2'
    )
    assert (
        "minimum cpu usage per Container is 50m, but request is 10m"
        in refusal(chain, sized({"cpu": "10m"}, {"cpu": "90m"})).message
    )
    assert (
        "cpu max limit to request ratio per Container is 10, but provided ratio is 20.000000"
        in refusal(chain, sized({"cpu": "50m"}, {"cpu": "1"})).message
    )
    claim = {"metadata": {"name": "c"}, "spec": {"resources": {"requests": {"storage": "2Gi"}}}}
    assert refusal(chain, review(claim, "persistentvolumeclaims")).message.endswith(
        "maximum storage usage per PersistentVolumeClaim is 1Gi, but request is 2Gi"
    )


def quota(objects, name="q", hard=None, used=None, **spec):
    hard = hard or {"pods": "2"}
    return objects.put(
        "",
        "resourcequotas",
        {
            "metadata": {"name": name, "namespace": "team"},
            "spec": {"hard": hard, **spec},
            "status": {"hard": hard, "used": used or dict.fromkeys(hard, "0")},
        },
    )


def used(objects, name="q"):
    return objects.get("", "resourcequotas", "team", name)["status"]["used"]


def test_a_quota_is_taken_and_refuses_what_does_not_fit(objects, chain):
    quota(objects)
    run(chain, review(pod("a")))
    run(chain, review(pod("b")))
    assert refusal(chain, review(pod("c"))).message == (
        'pods "c" is forbidden: exceeded quota: q, requested: pods=1, used: pods=2, limited: pods=2'
    )
    assert used(objects) == {"pods": "2"}


def test_a_write_that_fails_gives_back_what_it_took(objects, chain):
    quota(objects)
    req = review(pod("a"))
    run(chain, req)
    asyncio.run(chain.undo(req))
    assert used(objects) == {"pods": "0"}
    asyncio.run(chain.undo(req))
    assert used(objects) == {"pods": "0"}


def test_a_request_refused_by_one_quota_takes_nothing_of_another(objects, chain):
    quota(objects, "a", {"pods": "5"})
    quota(objects, "b", {"count/pods": "0"})
    refusal(chain, review(pod()))
    assert used(objects, "a") == {"pods": "0"}


def test_a_hundred_concurrent_creates_never_exceed_a_quota(objects, chain):
    quota(objects, hard={"pods": "10", "requests.cpu": "1"})
    writes = []
    original = objects.patch

    async def slow(*args, **kwargs):
        await asyncio.sleep(0.001)
        writes.append(1)
        return await original(*args, **kwargs)

    objects.patch = slow

    async def create(number):
        req = review(pod(f"p{number}", containers=[{"name": "c", "resources": {"requests": {"cpu": "50m"}}}]))
        await chain.admit(req)
        try:
            await chain.validate(req)
        except ApiError as error:
            assert error.code == 403
            return 0
        return 1

    async def everybody():
        return sum(await asyncio.gather(*(create(n) for n in range(100))))

    assert asyncio.run(everybody()) == 10
    assert used(objects) == {"pods": "10", "requests.cpu": "500m"}
    assert len(writes) < 20


def test_compute_quotas_demand_that_containers_say_what_they_need(objects, chain):
    quota(objects, hard={"limits.cpu": "1", "memory": "1Gi"})
    assert refusal(chain, review(pod())).message == (
        'pods "web" is forbidden: failed quota: q: must specify limits.cpu for: c; memory for: c'
    )


@pytest.mark.parametrize(
    ("scopes", "spec", "counts"),
    [
        (["BestEffort"], {}, True),
        (["BestEffort"], {"containers": [{"name": "c", "resources": {"requests": {"cpu": "1"}}}]}, False),
        (["NotBestEffort"], {"containers": [{"name": "c", "resources": {"requests": {"cpu": "1"}}}]}, True),
        (["Terminating"], {"activeDeadlineSeconds": 5}, True),
        (["Terminating"], {}, False),
        (["NotTerminating"], {}, True),
        (["PriorityClass"], {}, False),
    ],
)
def test_scopes_choose_which_pods_a_quota_counts(objects, chain, scopes, spec, counts):
    quota(objects, scopes=scopes)
    run(chain, review(pod(**spec)))
    assert used(objects)["pods"] == ("1" if counts else "0")


def needs(scope, operator, *values):
    return {"matchExpressions": [{"scopeName": scope, "operator": operator, "values": list(values)}]}


ELSEWHERE = {"topologyKey": "zone", "namespaces": ["other"]}


@pytest.mark.parametrize(
    ("selector", "spec", "counts"),
    [
        (needs("PriorityClass", "In", "gold"), {"priorityClassName": "gold"}, True),
        (needs("PriorityClass", "In", "gold"), {"priorityClassName": "tin"}, False),
        (needs("PriorityClass", "NotIn", "gold"), {"priorityClassName": "tin"}, True),
        (needs("PriorityClass", "NotIn", "gold"), {"priorityClassName": "gold"}, False),
        (needs("PriorityClass", "Exists"), {"priorityClassName": "tin"}, True),
        (needs("PriorityClass", "DoesNotExist"), {}, True),
        (needs("PriorityClass", "DoesNotExist"), {"priorityClassName": "tin"}, False),
        (needs("BestEffort", "Exists"), {}, True),
        (
            needs("CrossNamespacePodAffinity", "Exists"),
            {"affinity": {"podAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [ELSEWHERE]}}},
            True,
        ),
        (
            needs("CrossNamespacePodAffinity", "Exists"),
            {
                "affinity": {
                    "podAntiAffinity": {
                        "preferredDuringSchedulingIgnoredDuringExecution": [
                            {"weight": 1, "podAffinityTerm": {"topologyKey": "zone", "namespaceSelector": {}}}
                        ]
                    }
                }
            },
            True,
        ),
        (
            needs("CrossNamespacePodAffinity", "Exists"),
            {"affinity": {"podAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [{"topologyKey": "z"}]}}},
            False,
        ),
    ],
)
def test_scope_selectors_choose_by_operator(objects, chain, selector, spec, counts):
    for name in ("gold", "tin"):
        objects.put("scheduling.k8s.io", "priorityclasses", {"metadata": {"name": name}, "value": 5})
    quota(objects, scopeSelector=selector)
    run(chain, review(pod(**spec)))
    assert used(objects)["pods"] == ("1" if counts else "0")


@pytest.mark.parametrize(
    ("selector", "class_", "counts"),
    [
        (needs("VolumeAttributesClass", "In", "fast"), "fast", True),
        (needs("VolumeAttributesClass", "In", "fast"), "slow", False),
        (needs("VolumeAttributesClass", "NotIn", "fast"), "slow", True),
        (needs("VolumeAttributesClass", "NotIn", "fast"), "fast", False),
        (needs("VolumeAttributesClass", "Exists"), "slow", True),
        (needs("VolumeAttributesClass", "Exists"), None, False),
        (needs("VolumeAttributesClass", "DoesNotExist"), None, True),
        (needs("VolumeAttributesClass", "DoesNotExist"), "fast", False),
    ],
)
def test_a_quota_of_claims_may_be_for_a_volume_attributes_class(objects, chain, selector, class_, counts):
    quota(objects, hard={"persistentvolumeclaims": "5"}, scopeSelector=selector)
    spec = {"volumeAttributesClassName": class_} if class_ else {}
    run(chain, review({"metadata": {"name": "c"}, "spec": spec}, "persistentvolumeclaims"))
    assert used(objects)["persistentvolumeclaims"] == ("1" if counts else "0")


def test_services_claims_and_any_kind_are_counted(objects, chain):
    quota(
        objects,
        hard={
            "services": "9",
            "services.nodeports": "9",
            "requests.storage": "10Gi",
            "count/deployments.apps": "1",
            "fast.storageclass.storage.k8s.io/requests.storage": "4Gi",
        },
    )
    service = {"metadata": {"name": "s"}, "spec": {"type": "NodePort", "ports": [{"port": 1}, {"port": 2}]}}
    run(chain, review(service, "services"))
    claim = {
        "metadata": {"name": "c"},
        "spec": {"storageClassName": "fast", "resources": {"requests": {"storage": "3Gi"}}},
    }
    run(chain, review(claim, "persistentvolumeclaims"))
    run(chain, review({"metadata": {"name": "d"}}, "deployments", "apps"))
    assert used(objects) == {
        "services": "1",
        "services.nodeports": "2",
        "requests.storage": "3Gi",
        "count/deployments.apps": "1",
        "fast.storageclass.storage.k8s.io/requests.storage": "3Gi",
    }
    objects.put("storage.k8s.io", "storageclasses", {"metadata": {"name": "fast"}, "allowVolumeExpansion": True})
    claim["status"] = {"phase": "Bound"}
    grown = copy.deepcopy(claim)
    grown["spec"]["resources"]["requests"]["storage"] = "5Gi"
    assert (
        "exceeded quota"
        in refusal(chain, review(grown, "persistentvolumeclaims", operation="UPDATE", old=claim)).message
    )
    assert "exceeded quota" in refusal(chain, review({"metadata": {"name": "e"}}, "deployments", "apps")).message


def test_a_dry_run_is_checked_and_takes_nothing(objects, chain):
    quota(objects, hard={"pods": "0"})
    assert "exceeded quota" in refusal(chain, review(pod(), dry_run=True)).message
    quota(objects, hard={"pods": "1"})
    run(chain, review(pod(), dry_run=True))
    assert used(objects) == {"pods": "0"}


def mirror(**changes):
    owner = {"apiVersion": "v1", "kind": "Node", "name": "one", "uid": "node-uid", "controller": True}
    obj = pod(nodeName="one")
    obj["metadata"].update(annotations={"kubernetes.io/config.mirror": "x"}, ownerReferences=[owner])
    obj["metadata"].update(changes.pop("metadata", {}))
    obj["spec"].update(changes)
    return obj


def test_a_node_creates_mirror_pods_of_itself_only(chain):
    run(chain, review(mirror(), user=NODE))
    assert "can only create mirror pods" in refusal(chain, review(pod(nodeName="one"), user=NODE)).message
    for wrong in (
        mirror(nodeName="two"),
        mirror(metadata={"ownerReferences": []}),
        mirror(serviceAccountName="default"),
        mirror(volumes=[{"name": "s", "secret": {"secretName": "s"}}]),
        mirror(volumes=[{"name": "s", "persistentVolumeClaim": {"claimName": "s"}}]),
    ):
        assert refusal(chain, review(wrong, user=NODE)).code == 403


def test_a_node_touches_the_status_of_its_own_pods_only(chain):
    mine, theirs = pod(nodeName="one"), pod(nodeName="two")
    run(chain, review(mine, operation="UPDATE", old=mine, subresource="status", user=NODE))
    refusal(chain, review(theirs, operation="UPDATE", old=theirs, subresource="status", user=NODE))
    labelled = copy.deepcopy(mine)
    labelled["metadata"]["labels"] = {"a": "b"}
    refusal(chain, review(labelled, operation="UPDATE", old=mine, subresource="status", user=NODE))
    refusal(chain, review(None, operation="DELETE", old=theirs, user=NODE))
    run(chain, review(None, operation="DELETE", old=mine, user=NODE))


def node(name="one", labels=None, taints=None, **metadata):
    return {"metadata": {"name": name, "labels": labels or {}, **metadata}, "spec": {"taints": taints or []}}


@pytest.mark.parametrize(
    ("new", "allowed"),
    [
        (node(labels={"example.com/x": "y", "kubernetes.io/hostname": "one"}), True),
        (node(labels={"node.kubernetes.io/exclude": "y", "sub.kubelet.kubernetes.io/a": "b"}), True),
        (node(labels={"node-restriction.kubernetes.io/zone": "y"}), False),
        (node(labels={"node-role.kubernetes.io/control-plane": ""}), False),
        (node("two"), False),
        (node(taints=[{"key": "a", "effect": "NoSchedule"}]), False),
        (node(ownerReferences=[{"kind": "ConfigMap", "name": "gone", "uid": "x"}]), False),
    ],
)
def test_a_node_changes_about_itself_what_it_may(chain, new, allowed):
    """The last case is CVE-2025-5187: an owner that does not exist would have the node deleted and come back new."""
    old = node(new["metadata"]["name"])
    for subresource in ("", "status"):
        req = review(new, "nodes", operation="UPDATE", old=old, user=NODE, namespace="", subresource=subresource)
        if allowed:
            run(chain, req)
        else:
            assert refusal(chain, req).code == 403


def test_a_node_gets_tokens_for_its_own_pods_only(objects, chain):
    volumes = [{"name": "t", "projected": {"sources": [{"serviceAccountToken": {"audience": "vault"}}]}}]
    mine = objects.put("", "pods", pod("mine", nodeName="one", volumes=volumes))
    theirs = objects.put("", "pods", pod("theirs", nodeName="two"))

    def token(of, audiences=(), uid=None):
        ref = {"apiVersion": "v1", "kind": "Pod", "name": of["metadata"]["name"], "uid": uid or of["metadata"]["uid"]}
        body = {"metadata": {"name": "default"}, "spec": {"boundObjectRef": ref, "audiences": list(audiences)}}
        return review(body, "serviceaccounts", subresource="token", user=NODE)

    run(chain, token(mine))
    run(chain, token(mine, ["vault"]))
    assert "different node" in refusal(chain, token(theirs)).message
    assert "does not match the UID" in refusal(chain, token(mine, uid="old")).message
    assert 'audience "other" not found in pod spec volume' in refusal(chain, token(mine, ["other"])).message
    bare = {"metadata": {"name": "default"}, "spec": {}}
    req = review(bare, "serviceaccounts", subresource="token", user=NODE)
    assert refusal(chain, req).message.endswith("node requested token not bound to a pod")


def test_plugins_are_chosen_by_name_and_unknown_names_are_errors(objects):
    chain = build_chain(objects, objects, disabled=["ServiceAccount"])
    assert "serviceAccountName" not in run(chain, review(pod()))["spec"]
    with pytest.raises(ValueError, match="unknown admission plugins: Nonsense"):
        build_chain(objects, objects, enabled=["Nonsense"])


def test_claims_get_the_newest_default_class_and_a_finalizer(objects, chain):
    group, annotation = "storage.k8s.io", {"storageclass.kubernetes.io/is-default-class": "true"}
    for name, stamp in (("old", "2020-01-01T00:00:00Z"), ("new", "2024-01-01T00:00:00Z")):
        metadata = {"name": name, "annotations": annotation, "creationTimestamp": stamp}
        objects.put(group, "storageclasses", {"metadata": metadata})
    made = run(chain, review({"metadata": {"name": "c"}, "spec": {}}, "persistentvolumeclaims"))
    assert made["spec"]["storageClassName"] == "new"
    assert made["metadata"]["finalizers"] == ["kubernetes.io/pvc-protection"]
    made = run(chain, review({"metadata": {"name": "c"}, "spec": {"storageClassName": ""}}, "persistentvolumeclaims"))
    assert made["spec"]["storageClassName"] == ""


def test_claims_grow_only_when_bound_and_their_class_allows_it(objects, chain):
    def claim(size, phase="Bound"):
        spec = {"storageClassName": "fixed", "resources": {"requests": {"storage": size}}}
        return {"metadata": {"name": "c"}, "spec": spec, "status": {"phase": phase}}

    def grow(phase="Bound"):
        req = review(claim("2Gi"), "persistentvolumeclaims", operation="UPDATE", old=claim("1Gi", phase))
        return refusal(chain, req).message

    assert "Only bound persistent volume claims can be expanded" in grow("Pending")
    assert "the storageclass that provisions the pvc must support resize" in grow()


def test_a_runtime_class_brings_overhead_and_scheduling(objects, chain):
    objects.put(
        "node.k8s.io",
        "runtimeclasses",
        {
            "metadata": {"name": "kata"},
            "overhead": {"podFixed": {"cpu": "250m"}},
            "scheduling": {"nodeSelector": {"kata": "yes"}, "tolerations": [{"key": "kata"}]},
        },
    )
    spec = run(chain, review(pod(runtimeClassName="kata")))["spec"]
    assert spec["overhead"] == {"cpu": "250m"} and spec["nodeSelector"] == {"kata": "yes"}
    assert {"key": "kata"} in spec["tolerations"]
    assert 'RuntimeClass "none" not found' in refusal(chain, review(pod(runtimeClassName="none"))).message
    assert "Pod Overhead set without" in refusal(chain, review(pod(overhead={"cpu": "1"}))).message
    assert "conflict" in refusal(chain, review(pod(runtimeClassName="kata", nodeSelector={"kata": "no"}))).message


def test_cve_2020_8554_services_take_no_external_addresses(chain):
    service = {"metadata": {"name": "s"}, "spec": {"externalIPs": ["1.2.3.4"]}}
    assert refusal(chain, review(service, "services")).message.endswith(
        "Use of external IPs is denied by admission control"
    )
    run(chain, review(service, "services", operation="UPDATE", old=service))


def test_an_ingress_gets_the_default_class(objects, chain):
    objects.put(
        "networking.k8s.io",
        "ingressclasses",
        {"metadata": {"name": "main", "annotations": {"ingressclass.kubernetes.io/is-default-class": "true"}}},
    )
    made = run(chain, review({"metadata": {"name": "i"}, "spec": {}}, "ingresses", "networking.k8s.io"))
    assert made["spec"]["ingressClassName"] == "main"


def csr_pem(common_name, *organizations):
    import base64

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    names = [x509.NameAttribute(x509.NameOID.ORGANIZATION_NAME, o) for o in organizations]
    names.append(x509.NameAttribute(x509.NameOID.COMMON_NAME, common_name))
    key = ec.generate_private_key(ec.SECP256R1())
    request = x509.CertificateSigningRequestBuilder().subject_name(x509.Name(names)).sign(key, hashes.SHA256())
    return base64.b64encode(request.public_bytes(serialization.Encoding.PEM)).decode()


def signing(signer, request=""):
    return {"metadata": {"name": "r"}, "spec": {"signerName": signer, "request": request}}


def test_certificates_are_asked_approved_and_signed_by_who_may(objects, chain):
    group, resource = "certificates.k8s.io", "certificatesigningrequests"
    client, kubelet = "kubernetes.io/kube-apiserver-client", "kubernetes.io/kube-apiserver-client-kubelet"
    asked = signing(client, csr_pem("eve", "system:masters"))
    assert "system:masters group is not allowed" in refusal(chain, review(asked, resource, group, namespace="")).message
    run(chain, review(signing(client, csr_pem("jane", "dev")), resource, group, namespace=""))
    approve = {"operation": "UPDATE", "old": asked, "subresource": "approval", "namespace": ""}
    assert "not permitted to approve" in refusal(chain, review(asked, resource, group, **approve)).message
    signed = {**asked, "status": {"certificate": "x"}}
    sign = {"operation": "UPDATE", "old": asked, "subresource": "status", "namespace": ""}
    assert "not permitted to sign" in refusal(chain, review(signed, resource, group, **sign)).message
    own, other = (signing(kubelet, csr_pem(f"system:node:{n}", "system:nodes")) for n in ("one", "two"))
    run(chain, review(own, resource, group, user=NODE, namespace=""))
    assert (
        "can only create a node CSR with CN=system:node:one"
        in refusal(chain, review(other, resource, group, user=NODE, namespace="")).message
    )


def test_a_bundle_of_a_signer_is_made_by_who_may_attest_for_it(objects, chain):
    group, kind = "certificates.k8s.io", "clustertrustbundles"
    bundle = {"metadata": {"name": "example.com:s:b"}, "spec": {"signerName": "example.com/s", "trustBundle": "x"}}
    asked = review(bundle, kind, group, namespace="")
    assert refusal(chain, asked).message.endswith('user not permitted to attest for signerName "example.com/s"')
    run(chain, review({**bundle, "spec": {"trustBundle": "x"}}, kind, group, namespace=""))  # of nobody's
    rule = {"verbs": ["attest"], "apiGroups": [group], "resources": ["signers"], "resourceNames": ["example.com/*"]}
    rbac = "rbac.authorization.k8s.io"
    objects.put(rbac, "clusterroles", {"metadata": {"name": "attester"}, "rules": [rule]})
    ref = {"apiGroup": rbac, "kind": "ClusterRole", "name": "attester"}
    subjects = [{"kind": "User", "name": "jane", "apiGroup": rbac}]
    objects.put(rbac, "clusterrolebindings", {"metadata": {"name": "a"}, "roleRef": ref, "subjects": subjects})
    run(chain, asked)


def test_images_are_always_pulled_where_that_is_asked(objects):
    chain = build_chain(objects, objects, enabled=["AlwaysPullImages"])
    made = run(chain, review(pod(containers=[{"name": "c", "image": "i", "imagePullPolicy": "Never"}])))
    assert made["spec"]["containers"][0]["imagePullPolicy"] == "Always"


def test_events_beyond_the_rate_are_refused(objects):
    from peavine.base.clock import SimulatedClock

    clock = SimulatedClock()
    config = {"EventRateLimit": {"limits": [{"type": "Namespace", "qps": 1, "burst": 2}]}}
    chain = build_chain(objects, objects, enabled=["EventRateLimit"], config=config, clock=clock)
    event = {"metadata": {"name": "e"}}
    for _ in range(2):
        run(chain, review(event, "events"))
    assert refusal(chain, review(event, "events")).code == 429
    run(chain, review(event, "events", namespace="default"))
    asyncio.run(clock.advance(1))
    run(chain, review(event, "events"))


def test_roles_are_held_to_what_their_writer_holds(chain):
    role = {
        "metadata": {"name": "r", "namespace": "team"},
        "rules": [{"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]}],
    }
    assert (
        "attempting to grant RBAC permissions not currently held"
        in refusal(chain, review(role, "roles", "rbac.authorization.k8s.io")).message
    )


def test_owners_are_set_by_who_may_delete_and_made_to_wait_by_who_may_finalize(objects):
    chain = build_chain(
        objects, objects, enabled=["OwnerReferencesPermissionEnforcement"], authorizer=build_authorizer(objects)
    )
    ref = {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "r", "uid": "u"}
    owned = pod()
    owned["metadata"]["ownerReferences"] = [{**ref, "blockOwnerDeletion": True}]
    assert "cannot set blockOwnerDeletion" in refusal(chain, review(owned)).message
    owned["metadata"]["ownerReferences"] = [ref]
    run(chain, review(owned))
    updated = {**owned, "spec": {**owned["spec"], "serviceAccountName": "default"}}
    req = review(updated, operation="UPDATE", old=pod())
    assert "you can't delete" in refusal(chain, req).message


def test_plugin_configurations_are_read_from_a_file(tmp_path):
    from peavine.apiserver.admission.config import ConfigError, load_admission

    (tmp_path / "rates.yaml").write_text("limits:\n- {type: Namespace, qps: 1, burst: 2}\n")
    path = tmp_path / "admission.yaml"
    path.write_text(
        "apiVersion: apiserver.config.k8s.io/v1\nkind: AdmissionConfiguration\nplugins:\n"
        "- {name: EventRateLimit, path: rates.yaml}\n"
        "- {name: PodSecurity, configuration: {defaults: {enforce: baseline}}}\n"
    )
    found = load_admission(path)
    assert found["EventRateLimit"]["limits"][0]["burst"] == 2
    assert found["PodSecurity"] == {"defaults": {"enforce": "baseline"}}
    path.write_text("kind: Other\n")
    with pytest.raises(ConfigError):
        load_admission(path)


def test_a_node_asks_for_certificates_of_its_own_pods_only_and_a_signer_alone_answers(objects, chain):
    group, resource = "certificates.k8s.io", "podcertificaterequests"
    account = objects.get("", "serviceaccounts", "team", "default")["metadata"]["uid"]
    mine = objects.put("", "pods", pod("mine", nodeName="one", serviceAccountName="default"))
    theirs = objects.put("", "pods", pod("theirs", nodeName="two", serviceAccountName="default"))

    def asked(of, **changes):
        spec = {
            "signerName": "example.com/s",
            "podName": of["metadata"]["name"],
            "podUID": of["metadata"]["uid"],
            "serviceAccountName": "default",
            "serviceAccountUID": account,
            "nodeName": "one",
            "nodeUID": "node-uid",
        }
        return {"metadata": {"name": "r", "namespace": "team"}, "spec": {**spec, **changes}}  # fmt: skip

    run(chain, review(asked(mine), resource, group, user=NODE))
    lies = ("podUID", "nodeName", "nodeUID", "serviceAccountName", "serviceAccountUID")
    for wrong in (asked(theirs), *(asked(mine, **{field: "other"}) for field in lies)):
        assert refusal(chain, review(wrong, resource, group, user=NODE)).code == 403
    signed = {**asked(mine), "status": {"certificateChain": "x"}}
    req = review(signed, resource, group, operation="UPDATE", old=asked(mine), subresource="status")
    assert "not permitted to sign" in refusal(chain, req).message


def test_nobody_but_the_servers_says_where_the_api_is(objects, chain):
    def lease(name, **labels):
        obj = {"metadata": {"name": name, "namespace": "kube-system", "labels": labels}}
        return review(obj, "leases", "coordination.k8s.io", namespace="kube-system")

    forged = {"apiserver.kubernetes.io/identity": "kube-apiserver"}
    for req in (lease("apiserver-x"), lease("innocent", **forged)):
        assert "written by API servers only" in refusal(chain, req).message
    run(chain, lease("kube-scheduler"))
