"""What a fresh server makes, and how it mends what an older one left."""

import asyncio
import gzip
import json
from pathlib import Path

from peavine.apiserver.bootstrap import flowcontrol, policy
from peavine.apiserver.bootstrap.presence import LEASE_SECONDS, Presence
from peavine.apiserver.bootstrap.reconcile import BootstrapOptions, bootstrap
from peavine.base.clock import SimulatedClock
from tests.apiserver.security.fakes import Objects

RBAC = policy.GROUP
OPTIONS = BootstrapOptions(client_ca="CA\n", requestheader_ca="FRONT\n")


def run(objects, options=OPTIONS):
    asyncio.run(bootstrap(objects, objects, options))
    return objects


def test_a_fresh_server_holds_what_upstreams_does():
    objects = run(Objects())
    assert [n["metadata"]["name"] for n in objects.list("", "namespaces")] == [
        "default", "kube-node-lease", "kube-public", "kube-system",
    ]  # fmt: skip
    classes = {c["metadata"]["name"]: c["value"] for c in objects.list("scheduling.k8s.io", "priorityclasses")}
    assert classes == {"system-cluster-critical": 2000000000, "system-node-critical": 2000001000}
    assert objects.get("networking.k8s.io", "servicecidrs", None, "kubernetes")["spec"] == {"cidrs": ["192.168.0.0/16"]}
    authentication = objects.get("", "configmaps", "kube-system", "extension-apiserver-authentication")["data"]
    assert authentication["client-ca-file"] == "CA\n"
    assert authentication["requestheader-username-headers"] == '["X-Remote-User"]'
    assert len(objects.list(flowcontrol.GROUP, "flowschemas")) == 13
    assert len(objects.list(flowcontrol.GROUP, "prioritylevelconfigurations")) == 8


def test_every_role_and_binding_of_the_recorded_server_is_there():
    recorded = Path(__file__).with_name("recorded_bootstrap.jsonl.gz")
    objects = run(Objects())
    for line in gzip.decompress(recorded.read_bytes()).splitlines():
        exchange = json.loads(line)
        if exchange["scenario"] != "bootstrap" or RBAC not in exchange["path"]:
            continue
        resource = exchange["path"].rsplit("/", 1)[1]
        for item in exchange["response"]["items"]:
            metadata = item["metadata"]
            ours = objects.get(RBAC, resource, metadata.get("namespace"), metadata["name"])
            assert ours is not None, (resource, metadata["name"])
            if "roleRef" in item:
                assert ours["roleRef"] == item["roleRef"] and ours.get("subjects") == item.get("subjects")


def test_a_second_start_writes_nothing():
    objects = run(Objects())
    before = next(objects.revisions)
    run(objects)
    assert next(objects.revisions) == before + 1


def test_what_was_taken_from_a_default_role_comes_back_and_what_was_added_stays():
    objects = run(Objects())
    role = objects.get(RBAC, "clusterroles", None, "system:kube-dns")
    extra = {"verbs": ["get"], "apiGroups": ["x"], "resources": ["y"]}
    objects.put(RBAC, "clusterroles", {**role, "rules": [extra]})
    binding = objects.get(RBAC, "clusterrolebindings", None, "system:kube-dns")
    objects.put(RBAC, "clusterrolebindings", {**binding, "subjects": [{"kind": "User", "name": "a"}]})
    run(objects)
    assert objects.get(RBAC, "clusterroles", None, "system:kube-dns")["rules"] == [extra, *role["rules"]]
    subjects = objects.get(RBAC, "clusterrolebindings", None, "system:kube-dns")["subjects"]
    assert {"kind": "User", "name": "a"} in subjects and len(subjects) == 2


def test_a_role_that_asks_not_to_be_updated_is_left_alone():
    objects = run(Objects())
    role = objects.get(RBAC, "clusterroles", None, "system:discovery")
    frozen = {**role["metadata"], "annotations": {policy.AUTOUPDATE: "false"}}
    objects.put(RBAC, "clusterroles", {"metadata": frozen, "rules": []})
    run(objects)
    assert objects.get(RBAC, "clusterroles", None, "system:discovery")["rules"] == []


def test_a_default_binding_to_another_role_is_made_anew():
    objects = run(Objects())
    binding = objects.get(RBAC, "clusterrolebindings", None, "system:discovery")
    objects.put(RBAC, "clusterrolebindings", {**binding, "roleRef": {**binding["roleRef"], "name": "cluster-admin"}})
    run(objects)
    assert objects.get(RBAC, "clusterrolebindings", None, "system:discovery")["roleRef"]["name"] == "system:discovery"


def test_cve_2021_25740_new_clusters_let_nobody_below_admin_write_endpoints():
    """Writing Endpoints lets a tenant point a shared proxy at another tenant's pods."""
    for role in policy.roles():
        if role["metadata"]["name"] in ("system:aggregate-to-edit", "system:aggregate-to-admin"):
            for rule in role["rules"]:
                resources = set(rule.get("resources", ())) & {"endpoints", "endpointslices"}
                assert not resources or set(rule["verbs"]) <= {"get", "list", "watch"}


def presence(objects, clock, address):
    return Presence(
        objects, objects, OPTIONS, advertise_address=address, advertise_port=6443, identity=address, clock=clock
    )


def test_servers_stand_behind_the_kubernetes_service_while_they_live():
    objects, clock = run(Objects()), SimulatedClock()
    one, two = presence(objects, clock, "10.0.0.1"), presence(objects, clock, "10.0.0.2")

    def addresses():
        endpoints = objects.get("", "endpoints", "default", "kubernetes")
        sliced = objects.get("discovery.k8s.io", "endpointslices", "default", "kubernetes")
        found = [a["ip"] for a in endpoints["subsets"][0]["addresses"]]
        assert [e["addresses"][0] for e in sliced["endpoints"]] == found
        return found

    asyncio.run(one.appear())
    assert objects.get("", "services", "default", "kubernetes")["spec"]["clusterIP"] == "192.168.0.1"
    assert addresses() == ["10.0.0.1"]
    asyncio.run(two.appear())
    assert addresses() == ["10.0.0.1", "10.0.0.2"]
    asyncio.run(clock.advance(LEASE_SECONDS + 1))
    asyncio.run(one.appear())
    assert addresses() == ["10.0.0.1"]
    asyncio.run(two.appear())
    asyncio.run(two.leave())
    assert addresses() == ["10.0.0.1"]
    asyncio.run(one.leave())
    assert addresses() == ["10.0.0.1"]
