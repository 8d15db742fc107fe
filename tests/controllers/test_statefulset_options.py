"""Every option of a StatefulSet, on simulated nodes."""

import pytest

from tests.controllers.conftest import PROBED, on_cluster, workload

pytestmark = pytest.mark.slow

SIMULATED = "simulated.peavine.io/"
CLAIM = {
    "metadata": {"name": "data"},
    "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Mi"}}},
}


def stateful(replicas=2, **spec):
    return workload("StatefulSet", replicas=replicas, serviceName="web", **spec)


def image(name, **script):
    annotations = {SIMULATED + key.replace("_", "-"): str(value) for key, value in script.items()}
    container = {"name": "main", "image": name, **(PROBED if "ready_after" in script else {})}
    return {"spec": {"template": {"metadata": {"annotations": annotations}, "spec": {"containers": [container]}}}}


async def images(c):
    return {p["metadata"]["name"]: p["spec"]["containers"][0]["image"] for p in await c.pods()}


async def ready(c, replicas):
    return await c.until_status(
        "StatefulSet", "web", lambda s: s.get("readyReplicas", 0) == s.get("replicas") == replicas
    )


@on_cluster
async def test_ordered_sets_wait_for_each_pod_and_come_and_go_in_order(c):
    body = stateful(3)
    body["spec"]["template"]["metadata"]["annotations"] = {SIMULATED + "ready-after": "never"}
    body["spec"]["template"]["spec"]["containers"][0] |= PROBED
    await c.create(body)
    await c.until(lambda: c.pods())
    status = await c.until_status("StatefulSet", "web", lambda s: s.get("replicas") == 1)
    assert "readyReplicas" not in status and list(await images(c)) == ["web-0"]
    pod = await c.get("Pod", "web-0")
    assert pod["spec"]["hostname"] == "web-0" and pod["spec"]["subdomain"] == "web"
    assert pod["metadata"]["labels"]["apps.kubernetes.io/pod-index"] == "0"


@on_cluster
async def test_ordinals_start_where_they_are_told_to(c):
    await c.create(stateful(2, ordinals={"start": 5}))
    await ready(c, 2)
    assert sorted(await images(c)) == ["web-5", "web-6"]
    await c.patch("StatefulSet", "web", {"spec": {"ordinals": {"start": 6}}})

    async def shifted():
        return sorted(await images(c)) == ["web-6", "web-7"]

    await c.until(shifted)


@on_cluster
async def test_on_delete_changes_pods_only_when_somebody_deletes_them(c):
    await c.create(stateful(2, updateStrategy={"type": "OnDelete"}))
    await ready(c, 2)
    await c.patch("StatefulSet", "web", image("web:2"), type="strategic")
    status = await c.until_status("StatefulSet", "web", lambda s: s.get("updateRevision") != s.get("currentRevision"))
    assert set((await images(c)).values()) == {"web:1"} and "updatedReplicas" not in status
    await c.delete("Pod", "web-1")

    async def mixed():
        return await images(c) == {"web-0": "web:1", "web-1": "web:2"}

    await c.until(mixed)


@on_cluster
async def test_max_unavailable_updates_several_at_once(c):
    rolling = {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 2}}
    await c.create(stateful(4, updateStrategy=rolling, podManagementPolicy="Parallel"))
    await ready(c, 4)
    await c.patch("StatefulSet", "web", image("web:2", ready_after="never"), type="strategic")

    async def two():
        return sorted(n for n, i in (await images(c)).items() if i == "web:2") == ["web-2", "web-3"]

    await c.until(two)
    status = await c.until_status("StatefulSet", "web", lambda s: s.get("updatedReplicas") == 2)
    assert status["readyReplicas"] == 2


@on_cluster
async def test_a_rollout_is_undone_by_its_revision_and_old_revisions_go(c):
    await c.create(stateful(1, revisionHistoryLimit=1))
    first = (await ready(c, 1))["currentRevision"]
    for version in ("web:2", "web:3", "web:1"):
        await c.patch("StatefulSet", "web", image(version), type="strategic")

        async def updated(version=version):
            status = await c.status("StatefulSet", "web")
            done = status.get("currentRevision") == status.get("updateRevision") and status.get("readyReplicas") == 1
            return done and await images(c) == {"web-0": version} and status

        status = await c.until(updated)
    assert status["currentRevision"] == first, "the same template is the same revision"

    async def few():
        numbers = sorted(r["revision"] for r in await c.list("ControllerRevision"))
        return numbers == [3, 4]

    await c.until(few)


@on_cluster
async def test_claims_are_kept_or_go_when_the_set_shrinks_or_is_deleted(c):
    policy = {"whenScaled": "Delete", "whenDeleted": "Delete"}
    await c.create(stateful(2, volumeClaimTemplates=[CLAIM], persistentVolumeClaimRetentionPolicy=policy))
    await ready(c, 2)
    claims = {p["metadata"]["name"]: p["status"]["phase"] for p in await c.list("PersistentVolumeClaim")}
    assert claims == {"data-web-0": "Bound", "data-web-1": "Bound"}
    await c.patch("StatefulSet", "web", {"spec": {"replicas": 1}})

    async def are(names):
        return sorted(p["metadata"]["name"] for p in await c.list("PersistentVolumeClaim")) == names

    await c.until(lambda: are(["data-web-0"]))
    await c.delete("StatefulSet", "web", propagation_policy="Background")
    await c.until(lambda: are([]))


@on_cluster
async def test_claims_stay_by_default_and_serve_the_pod_that_comes_back(c):
    await c.create(stateful(1, volumeClaimTemplates=[CLAIM]))
    await ready(c, 1)
    (claim,) = await c.list("PersistentVolumeClaim")
    await c.patch("StatefulSet", "web", {"spec": {"replicas": 0}})
    await ready(c, 0)
    await c.patch("StatefulSet", "web", {"spec": {"replicas": 1}})
    await ready(c, 1)
    (same,) = await c.list("PersistentVolumeClaim")
    assert same["metadata"]["uid"] == claim["metadata"]["uid"]


@on_cluster
async def test_a_failed_pod_is_made_anew_under_its_name(c):
    await c.create(stateful(1))
    await ready(c, 1)
    before = (await c.get("Pod", "web-0"))["metadata"]["uid"]
    await c.patch("Pod", "web-0", {"status": {"phase": "Failed"}}, subresource="status")

    async def another():
        found = {p["metadata"]["name"]: p["metadata"]["uid"] for p in await c.pods()}
        return found.get("web-0", before) != before

    await c.until(another)
    assert await c.messages("RecreatingFailedPod")


@on_cluster
async def test_a_name_that_belongs_to_somebody_else_is_waited_for(c):
    spec = {"containers": [{"name": "main", "image": "rival:1"}]}
    await c.create({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "web-0"}, "spec": spec})
    await c.create(stateful(1))
    await c.until(lambda: c.recorded.count(verb="create", resource="pods", namespace=c.namespace) > 2)
    assert (await images(c)) == {"web-0": "rival:1"}
    await c.delete("Pod", "web-0")
    await ready(c, 1)
    assert await images(c) == {"web-0": "web:1"}


@on_cluster
async def test_a_refused_pod_does_not_stop_the_others_of_a_parallel_set(c):
    quota = {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "few"}, "spec": {"hard": {"pods": "1"}}}
    await c.create(quota)
    await c.until_status("ResourceQuota", "few", lambda s: s.get("hard"))
    await c.create(stateful(2, podManagementPolicy="Parallel"))
    await c.until_status("StatefulSet", "web", lambda s: s.get("readyReplicas") == 1)
    assert "exceeded quota" in (await c.until(lambda: c.messages("FailedCreate")))[0]
    await c.patch("ResourceQuota", "few", {"spec": {"hard": {"pods": "2"}}})
    await ready(c, 2)


@on_cluster
async def test_a_pod_that_lost_the_label_of_its_name_gets_it_back(c):
    await c.create(stateful(1))
    await ready(c, 1)
    await c.patch("Pod", "web-0", {"metadata": {"labels": {"statefulset.kubernetes.io/pod-name": None}}})

    async def restored():
        return (await c.get("Pod", "web-0"))["metadata"]["labels"].get("statefulset.kubernetes.io/pod-name") == "web-0"

    await c.until(restored)
