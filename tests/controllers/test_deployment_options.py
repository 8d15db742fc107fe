"""Every option of Deployments, ReplicaSets and ReplicationControllers, on simulated nodes."""

import pytest

from tests.controllers.conftest import PROBED, on_cluster, true_conditions, workload

pytestmark = pytest.mark.slow

REVISION = "deployment.kubernetes.io/revision"
SIMULATED = "simulated.peavine.io/"


def image(name, **script):
    """A patch of the template: another image, and what its pods do."""
    annotations = {SIMULATED + key.replace("_", "-"): str(value) for key, value in script.items()}
    container = {"name": "main", "image": name, **(PROBED if "ready_after" in script else {})}
    return {"spec": {"template": {"metadata": {"annotations": annotations}, "spec": {"containers": [container]}}}}


async def rolled_out(c, name="web", replicas=3):
    async def complete():
        obj = await c.get("Deployment", name)
        status = obj.get("status") or {}
        settled = status.get("observedGeneration") == obj["metadata"]["generation"]
        counts = [status.get(k) for k in ("replicas", "updatedReplicas", "availableReplicas")]
        return obj if settled and counts == [replicas] * 3 else None

    return await c.until(complete, f"{name} is not rolled out")


async def sets_by_revision(c):
    return {s["metadata"]["annotations"][REVISION]: s for s in await c.list("ReplicaSet")}


def owner_of(obj):
    return next(iter(obj["metadata"].get("ownerReferences") or [{}])).get("name")


def reason_of(status, type_):
    return next((c["reason"] for c in status.get("conditions") or () if c["type"] == type_), "")


@on_cluster
async def test_a_paused_deployment_scales_but_does_not_roll_until_it_is_resumed(c):
    await c.create(workload(replicas=1))
    await rolled_out(c, replicas=1)
    await c.patch("Deployment", "web", {"spec": {"paused": True}})
    await c.patch("Deployment", "web", image("web:2"), type="strategic")
    await c.patch("Deployment", "web", {"spec": {"replicas": 2}})
    status = await c.until_status("Deployment", "web", lambda s: s.get("availableReplicas") == 2)
    assert reason_of(status, "Progressing") == "DeploymentPaused"
    assert len(await c.list("ReplicaSet")) == 1
    await c.patch("Deployment", "web", {"spec": {"paused": False}})
    await rolled_out(c, replicas=2)
    assert {p["spec"]["containers"][0]["image"] for p in await c.pods()} == {"web:2"}


@on_cluster
async def test_going_back_takes_the_old_replica_set_under_a_new_revision_and_old_ones_are_removed(c):
    await c.create(workload(replicas=1, revisionHistoryLimit=1))
    for version in ("web:2", "web:3", "web:2"):
        await rolled_out(c, replicas=1)
        await c.patch("Deployment", "web", image(version), type="strategic")
    await rolled_out(c, replicas=1)

    async def only_one_old():
        return set(await sets_by_revision(c)) == {"3", "4"}

    await c.until(only_one_old)
    newest = (await sets_by_revision(c))["4"]
    assert newest["metadata"]["annotations"]["deployment.kubernetes.io/revision-history"] == "2"
    assert (await c.get("Deployment", "web"))["metadata"]["annotations"][REVISION] == "4"
    await c.patch("Deployment", "web", {"metadata": {"annotations": {"deprecated.deployment.rollback.to": "3"}}})

    async def back():
        obj = await rolled_out(c, replicas=1)
        return obj["spec"]["template"]["spec"]["containers"][0]["image"] == "web:3"

    await c.until(back)
    assert await c.messages("DeploymentRollback") == ['Rolled back deployment "web" to revision 3']


@on_cluster
async def test_recreate_ends_all_old_pods_before_the_first_new_one(c):
    await c.create(workload(replicas=2, strategy={"type": "Recreate"}))
    await rolled_out(c, replicas=2)
    together = []
    seen = c.resource("Pod").watch(
        c.namespace, resource_version=(await c.resource("Pod").list())["metadata"]["resourceVersion"]
    )
    await c.patch("Deployment", "web", image("web:2"), type="strategic")
    alive = {p["metadata"]["name"]: "web:1" for p in await c.pods()}
    async for type_, pod in seen:
        name, version = pod["metadata"]["name"], pod["spec"]["containers"][0]["image"]
        alive[name] = version
        if type_ == "DELETED" or pod["status"].get("phase") in ("Succeeded", "Failed"):
            del alive[name]
        together.append(set(alive.values()))
        if list(alive.values()) == ["web:2"] * 2:
            break
    assert {"web:1", "web:2"} not in together
    await rolled_out(c, replicas=2)


@on_cluster
async def test_an_image_that_cannot_be_pulled_stops_the_rollout_and_a_better_one_heals_it(c):
    await c.create(workload(replicas=4, progressDeadlineSeconds=60))
    await rolled_out(c, replicas=4)
    await c.patch("Deployment", "web", image("unpullable.invalid/web:2"), type="strategic")
    stuck = lambda s: s.get("updatedReplicas") == 2 and s.get("availableReplicas") == 3  # noqa: E731
    await c.until_status("Deployment", "web", stuck)
    await c.cluster.advance(65)
    status = await c.until_status(
        "Deployment", "web", lambda s: reason_of(s, "Progressing") == "ProgressDeadlineExceeded"
    )
    assert "Available" in true_conditions(status) and status["availableReplicas"] == 3
    await c.patch("Deployment", "web", image("web:3"), type="strategic")
    obj = await rolled_out(c, replicas=4)
    assert reason_of(obj["status"], "Progressing") == "NewReplicaSetAvailable"


@on_cluster
async def test_crash_looping_pods_leave_the_old_ones_serving(c):
    await c.create(workload(replicas=2))
    await rolled_out(c, replicas=2)
    await c.patch("Deployment", "web", image("web:2", run_for=0, exit_code=1), type="strategic")

    async def crashing():
        found = [p for p in await c.pods() if p["spec"]["containers"][0]["image"] == "web:2"]
        return found and (found[0]["status"].get("containerStatuses") or [{}])[0].get("restartCount", 0) > 0

    await c.until(crashing)
    status = await c.status("Deployment", "web")
    assert status["availableReplicas"] >= 2 and status["updatedReplicas"] == 1


@on_cluster
async def test_a_pod_counts_as_available_only_after_min_ready_seconds(c):
    await c.create(workload(replicas=1, minReadySeconds=100))
    status = await c.until_status("Deployment", "web", lambda s: s.get("readyReplicas") == 1)
    assert "availableReplicas" not in status and status["unavailableReplicas"] == 1
    await c.cluster.advance(105)
    await rolled_out(c, replicas=1)


@on_cluster
async def test_a_name_that_is_taken_is_avoided_by_counting_collisions(c):
    await c.create(workload(replicas=0))
    first = await c.until(lambda: c.list("ReplicaSet"))
    name = first[0]["metadata"]["name"]
    await c.delete("Deployment", "web", propagation_policy="Orphan")

    async def orphaned():
        found = await c.list("ReplicaSet")
        return len(found) == 1 and not owner_of(found[0])

    await c.until(orphaned)
    other = {"spec": {"template": {"spec": {"containers": [{"name": "main", "image": "other:1"}]}}}}
    await c.patch("ReplicaSet", name, {"metadata": {"labels": {"app": "elsewhere"}}})
    await c.patch("ReplicaSet", name, other, type="strategic")
    await c.create(workload(replicas=1))
    status = await c.until_status("Deployment", "web", lambda s: s.get("availableReplicas") == 1)
    assert status["collisionCount"] == 1
    mine = [s for s in await c.list("ReplicaSet") if owner_of(s) == "web"]
    assert [s["metadata"]["name"] == name for s in mine] == [False]


@on_cluster
async def test_a_quota_shows_in_the_conditions_and_costs_few_tries(c):
    quota = {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "few"}, "spec": {"hard": {"pods": "2"}}}
    await c.create(quota)
    await c.until_status("ResourceQuota", "few", lambda s: s.get("hard"))
    c.recorded.forget()
    await c.create(workload(replicas=50))
    status = await c.until_status(
        "Deployment", "web", lambda s: "ReplicaFailure" in true_conditions(s) and s.get("readyReplicas") == 2
    )
    failure = next(x for x in status["conditions"] if x["type"] == "ReplicaFailure")
    assert failure["reason"] == "FailedCreate" and "exceeded quota: few" in failure["message"]
    tries = c.recorded.count(verb="create", resource="pods", subresource="", namespace=c.namespace)
    assert tries < 40, "each look tries one, then two, and not fifty"
    await c.patch("ResourceQuota", "few", {"spec": {"hard": {"pods": "60"}}})
    await c.patch("Deployment", "web", {"spec": {"replicas": 3}})
    status = await c.until_status("Deployment", "web", lambda s: s.get("readyReplicas") == 3)
    await c.until_status("Deployment", "web", lambda s: "ReplicaFailure" not in true_conditions(s))


@on_cluster
async def test_scaling_in_the_middle_of_a_rollout_is_shared_between_old_and_new(c):
    rolling = {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 3, "maxUnavailable": 2}}
    await c.create(workload(replicas=10, strategy=rolling))
    await rolled_out(c, replicas=10)
    await c.patch("Deployment", "web", image("web:2", ready_after="never"), type="strategic")
    sizes = lambda found: sorted(s["spec"]["replicas"] for s in found.values())  # noqa: E731

    async def are(wanted):
        return sizes(await sets_by_revision(c)) == wanted

    await c.until(lambda: are([5, 8]))
    await c.patch("Deployment", "web", {"spec": {"replicas": 15}})
    await c.until(lambda: are([7, 11]))


@on_cluster
async def test_two_deployments_of_one_selector_keep_to_their_own_replica_sets(c):
    await c.create(workload(name="web", replicas=1))
    other = workload(name="web", replicas=1, image="rival:1")
    other["metadata"]["name"] = "rival"
    await c.create(other)
    await rolled_out(c, "web", 1)
    await rolled_out(c, "rival", 1)
    assert sorted(owner_of(s) for s in await c.list("ReplicaSet")) == ["rival", "web"]
    assert len(await c.pods()) == 2


async def _adoption(c, kind, api_version, selector):
    body = workload(kind, name="set", replicas=2, api_version=api_version)
    body["spec"]["selector"] = selector
    labels = {"app": "set"}
    spec = {"containers": [{"name": "main", "image": "web:1"}]}
    await c.create({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "orphan", "labels": labels}, "spec": spec})
    # A set whose controller has yet to see the orphan makes its own two, and may then give up any of the three.
    await c.until_status("Pod", "orphan", lambda s: s.get("phase") == "Running")
    await c.create(body)
    await c.until_status(kind, "set", lambda s: s.get("readyReplicas") == 2)
    names = [p["metadata"]["name"] for p in await c.pods("app=set")]
    assert "orphan" in names and len(names) == 2
    assert owner_of(await c.get("Pod", "orphan")) == "set"
    await c.patch("Pod", "orphan", {"metadata": {"labels": {"app": "loose"}}})

    async def released():
        return not owner_of(await c.get("Pod", "orphan")) and len(await c.pods("app=set")) == 2

    await c.until(released)


@on_cluster
async def test_replica_sets_adopt_pods_that_match_and_release_those_that_no_longer_do(c):
    await _adoption(c, "ReplicaSet", "apps/v1", {"matchLabels": {"app": "set"}})


@on_cluster
async def test_replication_controllers_adopt_and_release_alike(c):
    await _adoption(c, "ReplicationController", "v1", {"app": "set"})


@on_cluster
async def test_scaling_down_takes_the_pods_of_the_lowest_deletion_cost(c):
    body = workload("ReplicaSet", name="set", replicas=3)
    body["spec"]["template"]["metadata"]["labels"] = {"app": "set", "unpriced": "true"}
    await c.create(body)
    await c.until_status("ReplicaSet", "set", lambda s: s.get("readyReplicas") == 3)
    dear, cheap, middle = sorted(p["metadata"]["name"] for p in await c.pods())
    for name, cost in ((dear, "100"), (cheap, "-10")):
        annotation = {"controller.kubernetes.io/pod-deletion-cost": cost}
        await c.patch("Pod", name, {"metadata": {"annotations": annotation, "labels": {"unpriced": None}}})
    # The controller has seen both prices once it no longer counts the pods among the fully labelled.
    await c.until_status("ReplicaSet", "set", lambda s: s.get("fullyLabeledReplicas") == 1)
    for replicas, left in ((2, {dear, middle}), (1, {dear})):
        await c.patch("ReplicaSet", "set", {"spec": {"replicas": replicas}})

        async def remain(left=left):
            return {p["metadata"]["name"] for p in await c.pods()} == left

        await c.until(remain)


@on_cluster
async def test_a_pod_that_fails_is_replaced_and_terminating_ones_are_counted(c):
    await c.create(workload("ReplicaSet", name="set", replicas=1))
    await c.until_status("ReplicaSet", "set", lambda s: s.get("readyReplicas") == 1)
    (pod,) = await c.pods()
    name = pod["metadata"]["name"]
    await c.patch("Pod", name, {"metadata": {"finalizers": ["example.com/hold"]}})
    await c.delete("Pod", name)
    status = await c.until_status("ReplicaSet", "set", lambda s: s.get("readyReplicas") == 1 and s["replicas"] == 1)
    assert len(await c.pods()) == 2 and status["terminatingReplicas"] in (0, 1)
    await c.patch("Pod", name, {"metadata": {"finalizers": None}})


@on_cluster
async def test_a_replication_controller_tells_of_a_quota_until_it_wants_fewer(c):
    quota = {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "few"}, "spec": {"hard": {"pods": "2"}}}
    await c.create(quota)
    await c.until_status("ResourceQuota", "few", lambda s: s.get("hard"))
    body = workload("ReplicationController", name="set", replicas=3, api_version="v1")
    body["spec"]["selector"] = {"app": "set"}
    await c.create(body)
    failure = await c.until_true("ReplicationController", "set", "ReplicaFailure")
    assert failure["reason"] == "FailedCreate"
    await c.patch("ReplicationController", "set", {"spec": {"replicas": 2}})
    await c.until_status("ReplicationController", "set", lambda s: not s.get("conditions"))
