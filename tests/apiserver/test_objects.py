"""Objects through the whole server: create, read, change, delete, as clients see them."""

from __future__ import annotations

import asyncio

import pytest

from tests.apiserver.inside import MAPS, Client, config_map, serving

PODS = "/api/v1/namespaces/default/pods"
MERGE = {"Content-Type": "application/merge-patch+json"}
APPLY = {"Content-Type": "application/apply-patch+yaml"}


def run(tmp_path, scenario, **settings):
    """Run `scenario(client)` against a fresh server."""
    settings.setdefault("disable_admission_plugins", ("ServiceAccount",))

    async def main():
        async with serving(tmp_path, **settings) as client:
            return await scenario(client)

    return asyncio.run(main())


def pod(name: str, **spec) -> dict:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name},
        "spec": {"containers": [{"name": "c", "image": "i"}], **spec},
    }


def test_an_object_lives_its_life(tmp_path):
    async def scenario(api: Client):
        made = await api("POST", MAPS, config_map("m", a="1"))
        assert made.status == 201
        meta = made.json["metadata"]
        assert meta["uid"] and meta["resourceVersion"] and meta["creationTimestamp"]
        assert (await api("POST", MAPS, config_map("m"))).json["reason"] == "AlreadyExists"
        assert (await api("GET", f"{MAPS}/m")).json == made.json

        changed = {**made.json, "data": {"a": "2"}}
        put = await api("PUT", f"{MAPS}/m", changed)
        assert put.status == 200 and put.json["data"] == {"a": "2"}
        assert int(put.json["metadata"]["resourceVersion"]) > int(meta["resourceVersion"])
        stale = await api("PUT", f"{MAPS}/m", changed)
        assert (stale.status, stale.json["reason"]) == (409, "Conflict")

        patched = await api("PATCH", f"{MAPS}/m", {"data": {"b": "3", "a": None}}, MERGE)
        assert patched.json["data"] == {"b": "3"}
        gone = await api("DELETE", f"{MAPS}/m")
        assert gone.json["status"] == "Success" and gone.json["details"]["uid"] == meta["uid"]
        assert (await api("GET", f"{MAPS}/m")).status == 404

    run(tmp_path, scenario)


def test_a_write_that_changes_nothing_is_not_made(tmp_path):
    async def scenario(api: Client):
        made = (await api("POST", MAPS, config_map("m"))).json
        again = (await api("PUT", f"{MAPS}/m", made)).json
        patched = (await api("PATCH", f"{MAPS}/m", {"data": {"a": "b"}}, MERGE)).json
        assert made["metadata"]["resourceVersion"] == again["metadata"]["resourceVersion"]
        assert made["metadata"]["resourceVersion"] == patched["metadata"]["resourceVersion"]

    run(tmp_path, scenario)


def test_a_dry_run_answers_and_stores_nothing(tmp_path):
    async def scenario(api: Client):
        made = await api("POST", f"{MAPS}?dryRun=All", config_map("m"))
        assert made.status == 201 and made.json["metadata"]["uid"]
        assert (await api("GET", f"{MAPS}/m")).status == 404
        await api("POST", MAPS, config_map("m"))
        put = await api("PATCH", f"{MAPS}/m?dryRun=All", {"data": {"x": "y"}}, MERGE)
        assert put.json["data"] == {"a": "b", "x": "y"}
        assert (await api("DELETE", f"{MAPS}/m?dryRun=All")).status == 200
        assert (await api("GET", f"{MAPS}/m")).json["data"] == {"a": "b"}

    run(tmp_path, scenario)


def test_a_name_is_generated_and_never_taken_twice(tmp_path):
    async def scenario(api: Client):
        body = {"metadata": {"generateName": "gen-"}}
        names = {(await api("POST", MAPS, body)).json["metadata"]["name"] for _ in range(5)}
        assert len(names) == 5 and all(name.startswith("gen-") and len(name) == 9 for name in names)

    run(tmp_path, scenario)


def test_concurrent_patches_all_count(tmp_path):
    async def scenario(api: Client):
        await api("POST", MAPS, config_map("m"))
        patches = [api("PATCH", f"{MAPS}/m", {"data": {f"k{i}": "v"}}, MERGE) for i in range(5)]
        assert {answer.status for answer in await asyncio.gather(*patches)} == {200}
        assert len((await api("GET", f"{MAPS}/m")).json["data"]) == 6

    run(tmp_path, scenario)


def test_of_concurrent_updates_of_one_version_only_one_wins(tmp_path):
    async def scenario(api: Client):
        made = (await api("POST", MAPS, config_map("m"))).json
        updates = [api("PUT", f"{MAPS}/m", {**made, "data": {"a": str(i)}}) for i in range(8)]
        statuses = sorted(answer.status for answer in await asyncio.gather(*updates))
        assert statuses == [200] + [409] * 7

    run(tmp_path, scenario)


def test_finalizers_keep_an_object_until_the_last_is_gone(tmp_path):
    async def scenario(api: Client):
        body = config_map("m")
        body["metadata"]["finalizers"] = ["example.com/x"]
        await api("POST", MAPS, body)
        deleting = await api("DELETE", f"{MAPS}/m")
        assert deleting.json["metadata"]["deletionTimestamp"]
        again = await api("POST", MAPS, config_map("m"))
        assert again.json["message"].startswith("object is being deleted: ")
        assert (await api("GET", f"{MAPS}/m")).status == 200
        last = await api("PATCH", f"{MAPS}/m", {"metadata": {"finalizers": None}}, MERGE)
        assert last.status == 200
        assert (await api("GET", f"{MAPS}/m")).status == 404

    run(tmp_path, scenario)


@pytest.mark.parametrize(
    ("options", "finalizers"),
    [
        ({"propagationPolicy": "Orphan"}, ["orphan"]),
        ({"propagationPolicy": "Foreground"}, ["foregroundDeletion"]),
        ({"orphanDependents": True}, ["orphan"]),
    ],
)
def test_a_propagation_policy_becomes_a_finalizer(tmp_path, options, finalizers):
    async def scenario(api: Client):
        await api("POST", MAPS, config_map("m"))
        body = {"kind": "DeleteOptions", "apiVersion": "v1", **options}
        assert (await api("DELETE", f"{MAPS}/m", body)).json["metadata"]["finalizers"] == finalizers

    run(tmp_path, scenario)


def test_a_delete_with_the_wrong_uid_or_version_is_refused(tmp_path):
    async def scenario(api: Client):
        made = (await api("POST", MAPS, config_map("m"))).json["metadata"]
        for wrong in ({"uid": "nope"}, {"resourceVersion": "1"}):
            assert (await api("DELETE", f"{MAPS}/m", {"preconditions": wrong})).status == 409
        right = {"uid": made["uid"], "resourceVersion": made["resourceVersion"]}
        assert (await api("DELETE", f"{MAPS}/m", {"preconditions": right})).status == 200

    run(tmp_path, scenario)


def test_a_pod_with_a_node_is_deleted_gracefully(tmp_path):
    async def scenario(api: Client):
        await api("POST", PODS, pod("p", nodeName="n1", terminationGracePeriodSeconds=10))
        first = (await api("DELETE", f"{PODS}/p")).json["metadata"]
        assert first["deletionGracePeriodSeconds"] == 10
        same = (await api("DELETE", f"{PODS}/p")).json["metadata"]
        assert same["deletionTimestamp"] == first["deletionTimestamp"]
        shorter = (await api("DELETE", f"{PODS}/p?gracePeriodSeconds=2")).json["metadata"]
        assert shorter["deletionGracePeriodSeconds"] == 2
        assert shorter["deletionTimestamp"] < first["deletionTimestamp"]
        await api("DELETE", f"{PODS}/p?gracePeriodSeconds=0")
        assert (await api("GET", f"{PODS}/p")).status == 404
        await api("POST", PODS, pod("unscheduled"))
        await api("DELETE", f"{PODS}/unscheduled")
        assert (await api("GET", f"{PODS}/unscheduled")).status == 404

    run(tmp_path, scenario)


def test_a_namespace_terminates_and_goes_when_finalized(tmp_path):
    async def scenario(api: Client):
        made = await api("POST", "/api/v1/namespaces", {"metadata": {"name": "n"}})
        assert made.json["spec"]["finalizers"] == ["kubernetes"]
        gone = await api("DELETE", "/api/v1/namespaces/n")
        assert gone.json["status"]["phase"] == "Terminating"
        refused = await api("POST", "/api/v1/namespaces/n/configmaps", config_map("m"))
        assert refused.status == 403 and "being terminated" in refused.json["message"]
        assert (await api("DELETE", "/api/v1/namespaces/n")).status == 409
        live = (await api("GET", "/api/v1/namespaces/n")).json
        live["spec"]["finalizers"] = []
        assert (await api("PUT", "/api/v1/namespaces/n/finalize", live)).status == 200
        assert (await api("GET", "/api/v1/namespaces/n")).status == 404

    run(tmp_path, scenario)


def test_status_and_spec_are_written_apart(tmp_path):
    async def scenario(api: Client):
        made = (await api("POST", PODS, {**pod("p"), "status": {"phase": "Running"}})).json
        assert made["status"]["phase"] == "Pending"
        status = await api(
            "PATCH", f"{PODS}/p/status", {"status": {"phase": "Running"}, "spec": {"nodeName": "x"}}, MERGE
        )
        assert status.json["status"]["phase"] == "Running" and "nodeName" not in status.json["spec"]
        changed = await api(
            "PATCH", f"{PODS}/p", {"status": {"phase": "Failed"}, "metadata": {"labels": {"a": "b"}}}, MERGE
        )
        assert changed.json["status"]["phase"] == "Running" and changed.json["metadata"]["labels"] == {"a": "b"}

    run(tmp_path, scenario)


def test_a_binding_gives_a_pod_its_node_once(tmp_path):
    async def scenario(api: Client):
        await api("POST", PODS, pod("p"))
        binding = {
            "apiVersion": "v1",
            "kind": "Binding",
            "metadata": {"name": "p"},
            "target": {"kind": "Node", "name": "n1"},
        }
        assert (await api("POST", f"{PODS}/p/binding", binding)).status == 201
        bound = (await api("GET", f"{PODS}/p")).json
        assert bound["spec"]["nodeName"] == "n1"
        assert {"PodScheduled": "True"}.items() <= {
            c["type"]: c["status"] for c in bound["status"]["conditions"]
        }.items()
        again = await api("POST", f"{PODS}/p/binding", binding)
        assert again.status == 409 and 'already assigned to node "n1"' in again.json["message"]

    run(tmp_path, scenario)


def test_an_applied_scale_meets_the_owner_of_the_replicas(tmp_path):
    async def scenario(api: Client):
        deployments, apply = "/apis/apps/v1/namespaces/default/deployments", APPLY
        labels = {"app": "web"}
        template = {"metadata": {"labels": labels}, "spec": {"containers": [{"name": "c", "image": "i"}]}}
        spec = {"replicas": 1, "selector": {"matchLabels": labels}, "template": template}
        whole = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"}, "spec": spec}
        assert (await api("PATCH", f"{deployments}/web?fieldManager=one", whole, apply)).status == 201
        scale = {"apiVersion": "autoscaling/v1", "kind": "Scale", "metadata": {"name": "web"}, "spec": {"replicas": 5}}
        path = f"{deployments}/web/scale?fieldManager=two"
        refused = await api("PATCH", path, scale, apply)
        assert refused.status == 409
        assert refused.json["message"] == 'Apply failed with 1 conflict: conflict with "one": .spec.replicas'
        forced = await api("PATCH", path + "&force=true", scale, apply)
        assert forced.status == 200 and forced.json["spec"] == {"replicas": 5}, forced.body
        found = (await api("GET", f"{deployments}/web")).json
        owners = [
            (e["manager"], e["operation"], e.get("subresource"), e["apiVersion"])
            for e in found["metadata"]["managedFields"]
            if "f:replicas" in e["fieldsV1"].get("f:spec", {})
        ]
        assert owners == [("two", "Apply", "scale", "apps/v1")] and found["metadata"]["generation"] == 2
        again = await api("PATCH", path, scale, apply)
        assert again.json["metadata"]["resourceVersion"] == found["metadata"]["resourceVersion"]
        lost = await api("PATCH", f"{deployments}/web?fieldManager=one", whole, apply)
        assert lost.status == 409 and '"two" with subresource "scale"' in lost.json["message"], lost.json["message"]

    run(tmp_path, scenario)


def test_scale_reads_and_writes_replicas(tmp_path):
    async def scenario(api: Client):
        path = "/apis/apps/v1/namespaces/default/deployments"
        labels = {"app": "web"}
        template = {"metadata": {"labels": labels}, "spec": {"containers": [{"name": "c", "image": "i"}]}}
        spec = {"replicas": 2, "selector": {"matchLabels": labels}, "template": template}
        await api("POST", path, {"metadata": {"name": "web"}, "spec": spec})
        scale = (await api("GET", f"{path}/web/scale")).json
        assert scale["kind"] == "Scale" and scale["spec"]["replicas"] == 2
        assert scale["status"]["selector"] == "app=web"
        scale["spec"]["replicas"] = 5
        assert (await api("PUT", f"{path}/web/scale", scale)).json["spec"]["replicas"] == 5
        await api("PATCH", f"{path}/web/scale", {"spec": {"replicas": 0}}, MERGE)
        live = (await api("GET", f"{path}/web")).json
        assert live["spec"]["replicas"] == 0 and live["metadata"]["generation"] == 3
        wrong = await api("PATCH", f"{path}/web/scale", {"spec": {"replicas": -1}}, MERGE)
        assert wrong.status == 422

    run(tmp_path, scenario)


def test_apply_creates_conflicts_and_forces(tmp_path):
    async def scenario(api: Client):
        config = config_map("m", a="1")
        made = await api("PATCH", f"{MAPS}/m?fieldManager=one", config, APPLY)
        assert made.status == 201
        same = await api("PATCH", f"{MAPS}/m?fieldManager=one", config, APPLY)
        assert same.json["metadata"]["resourceVersion"] == made.json["metadata"]["resourceVersion"]
        other = config_map("m", a="2")
        conflict = await api("PATCH", f"{MAPS}/m?fieldManager=two", other, APPLY)
        assert conflict.status == 409 and conflict.json["details"]["causes"][0]["field"] == ".data.a"
        forced = await api("PATCH", f"{MAPS}/m?fieldManager=two&force=true", other, APPLY)
        assert forced.json["data"] == {"a": "2"}
        assert (await api("PATCH", f"{MAPS}/m", config, APPLY)).status == 422

    run(tmp_path, scenario)


def test_an_eviction_respects_the_disruption_budget(tmp_path):
    async def scenario(api: Client):
        body = pod("p", nodeName="n1")
        body["metadata"]["labels"] = {"app": "web"}
        await api("POST", PODS, body)
        ready = {"status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}}
        await api("PATCH", f"{PODS}/p/status", ready, MERGE)
        budgets = "/apis/policy/v1/namespaces/default/poddisruptionbudgets"
        await api(
            "POST",
            budgets,
            {"metadata": {"name": "b"}, "spec": {"minAvailable": 1, "selector": {"matchLabels": {"app": "web"}}}},
        )
        eviction = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": "p"}}
        status = {
            "observedGeneration": 1,
            "disruptionsAllowed": 0,
            "currentHealthy": 1,
            "desiredHealthy": 1,
            "expectedPods": 1,
        }
        await api("PATCH", f"{budgets}/b/status", {"status": status}, MERGE)
        refused = await api("POST", f"{PODS}/p/eviction", eviction)
        assert refused.status == 429 and refused.json["details"]["causes"][0]["reason"] == "DisruptionBudget"
        await api("PATCH", f"{budgets}/b/status", {"status": {**status, "disruptionsAllowed": 1}}, MERGE)
        assert (await api("POST", f"{PODS}/p/eviction", eviction)).status == 201
        assert (await api("GET", f"{PODS}/p")).json["metadata"]["deletionTimestamp"]
        assert (await api("GET", f"{budgets}/b")).json["status"]["disruptionsAllowed"] == 0

    run(tmp_path, scenario)


def test_unknown_fields_are_warned_of_refused_or_ignored(tmp_path):
    async def scenario(api: Client):
        body = {**config_map("m"), "bogus": 1}
        warned = await api("POST", f"{MAPS}?dryRun=All", body)
        assert warned.status == 201 and 'unknown field "bogus"' in warned.headers["warning"].replace("\\", "")
        strict = await api("POST", f"{MAPS}?dryRun=All&fieldValidation=Strict", body)
        assert strict.status == 400 and "strict decoding error" in strict.json["message"]
        ignored = await api("POST", f"{MAPS}?dryRun=All&fieldValidation=Ignore", body)
        assert ignored.status == 201 and "warning" not in ignored.headers

    run(tmp_path, scenario)


@pytest.mark.parametrize(
    ("path", "status", "reason"),
    [
        ("/api/v1/nonsense", 404, "NotFound"),
        ("/api/v1/namespaces/default/nodes", 404, "NotFound"),
        ("/api/v1/configmaps/x", 404, "NotFound"),
        (f"{MAPS}?labelSelector=a+in+(", 400, "BadRequest"),
        (f"{MAPS}?fieldSelector=spec.x%3D1", 400, "BadRequest"),
        (f"{MAPS}?limit=x", 400, "BadRequest"),
        (f"{MAPS}?continue=x", 400, "BadRequest"),
        (f"{MAPS}?resourceVersion=99999999", 504, "Timeout"),
    ],
)
def test_what_cannot_be_read_says_why(tmp_path, path, status, reason):
    async def scenario(api: Client):
        answer = await api("GET", path)
        assert (answer.status, answer.json["reason"]) == (status, reason)

    run(tmp_path, scenario)


def test_requests_without_rights_are_refused(tmp_path):
    async def scenario(api: Client):
        assert (await api("GET", MAPS, token="")).status == 401
        assert (await api("GET", MAPS, token="wrong")).status == 401
        forbidden = await api("GET", MAPS, token="user-token")
        assert forbidden.status == 403
        assert 'User "alice" cannot list resource "configmaps" in API group ""' in forbidden.json["message"]
        assert (await api("GET", "/healthz", token="")).body == b"ok"

    run(tmp_path, scenario)


def test_a_collection_is_deleted_as_it_is_selected(tmp_path):
    async def scenario(api: Client):
        for i in range(40):
            body = config_map(f"m{i:02}")
            body["metadata"]["labels"] = {"half": str(i % 2)}
            if i == 6:
                body["metadata"]["finalizers"] = ["example.com/x"]
            await api("POST", MAPS, body)
        dry = await api("DELETE", f"{MAPS}?labelSelector=half%3D0&dryRun=All")
        assert len(dry.json["items"]) == 20
        assert len((await api("GET", MAPS)).json["items"]) == 40
        gone = await api("DELETE", f"{MAPS}?labelSelector=half%3D0")
        assert gone.json["kind"] == "ConfigMapList"
        assert [i["metadata"]["name"] for i in gone.json["items"]] == [f"m{i:02}" for i in range(0, 40, 2)]
        left = [item["metadata"]["name"] for item in (await api("GET", MAPS)).json["items"]]
        assert left == sorted([f"m{i:02}" for i in range(1, 40, 2)] + ["m06"])

    run(tmp_path, scenario)
