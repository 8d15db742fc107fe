"""Every option of a Job, on simulated nodes: pods do what the annotations of their template say."""

import asyncio

import pytest

from tests.controllers.conftest import on_cluster, true_conditions

pytestmark = pytest.mark.slow

SIMULATED = "simulated.peavine.io/"


def job(name="work", *, restart="Never", script=None, **spec):
    annotations = {SIMULATED + key: str(value) for key, value in (script or {}).items()}
    container = {"name": "main", "image": "work:1"}
    template = {"metadata": {"annotations": annotations}, "spec": {"restartPolicy": restart, "containers": [container]}}
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": name},
        "spec": {"template": template, **spec},
    }


FAILS = {"run-for": 0, "exit-code": 1}
ENDS = {"run-for": 0}
RUNS = {"run-for": 100_000}


def index_of(pod):
    return pod["metadata"]["labels"]["batch.kubernetes.io/job-completion-index"]


@on_cluster
async def test_backoff_limit_counts_failed_pods_and_each_waits_longer(c):
    await c.create(job(script=FAILS, backoffLimit=1))
    await c.until_status("Job", "work", lambda s: s.get("failed") == 1)
    assert len(await c.pods()) == 1, "the second waits for ten seconds"
    await c.cluster.advance(12)
    failed = await c.until_true("Job", "work", "Failed")
    assert failed["reason"] == "BackoffLimitExceeded"
    status = await c.status("Job", "work")
    assert status["failed"] == 2 and not status.get("uncountedTerminatedPods")
    assert "FailureTarget" in true_conditions(status) and "completionTime" not in status
    assert await c.messages("BackoffLimitExceeded") == ["Job has reached the specified backoff limit"]


@on_cluster
async def test_restarts_of_a_crash_looping_pod_count_against_the_limit(c):
    await c.create(job(script=FAILS, restart="OnFailure", backoffLimit=1))
    assert (await c.until_true("Job", "work", "Failed"))["reason"] == "BackoffLimitExceeded"
    await c.until(lambda: _none(c))


async def _none(c):
    return not await c.pods()


@on_cluster
async def test_pods_taken_back_are_nobodys_failure_and_deleted_ones_are(c):
    await c.create(job(script=RUNS, parallelism=3, completions=3))
    await c.until_status("Job", "work", lambda s: s.get("ready") == 3)
    await c.patch("Job", "work", {"spec": {"parallelism": 1}})
    await c.until_status("Job", "work", lambda s: s.get("active") == 1 and not s.get("terminating"))
    assert "failed" not in await c.status("Job", "work")
    (pod,) = await c.pods()
    await c.delete("Pod", pod["metadata"]["name"])
    status = await c.until_status("Job", "work", lambda s: s.get("failed") == 1)
    assert status.get("startTime")


@on_cluster
async def test_suspending_ends_the_pods_without_counting_them_and_resuming_starts_the_clock_anew(c):
    await c.create(job(script=RUNS, parallelism=2, completions=2, activeDeadlineSeconds=1000))
    await c.until_status("Job", "work", lambda s: s.get("ready") == 2)
    await c.patch("Job", "work", {"spec": {"suspend": True}})
    await c.until_true("Job", "work", "Suspended")
    status = await c.until_status("Job", "work", lambda s: not s.get("active") and not s.get("terminating"))
    assert "failed" not in status and not await c.pods()
    await c.patch("Job", "work", {"spec": {"suspend": False}})
    status = await c.until_status("Job", "work", lambda s: s.get("ready") == 2)
    assert "Suspended" not in true_conditions(status) and status["startTime"]
    assert await c.messages("Suspended") and await c.messages("Resumed")


@on_cluster
async def test_a_pod_failure_policy_fails_the_job_or_ignores_or_counts(c):
    fail_job = {"action": "FailJob", "onExitCodes": {"operator": "In", "values": [42]}}
    ignore = {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget"}]}
    policy = {"rules": [fail_job, ignore]}
    await c.create(job("fatal", script={**FAILS, "exit-code": 42}, backoffLimit=6, podFailurePolicy=policy))
    failed = await c.until_true("Job", "fatal", "Failed")
    (pod,) = await c.pods("job-name=fatal")
    name = f"{c.namespace}/{pod['metadata']['name']}"
    assert failed["reason"] == "PodFailurePolicy"
    assert (
        failed["message"] == f"Container main for pod {name} failed with exit code 42 matching FailJob rule at index 0"
    )
    await c.create(job("tough", script=RUNS, backoffLimit=0, podFailurePolicy=policy))
    await c.until_status("Job", "tough", lambda s: s.get("ready") == 1)
    (pod,) = await c.pods("job-name=tough")
    eviction = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": pod["metadata"]["name"]}}
    await c.resource("Pod").create_subresource(pod["metadata"]["name"], "eviction", eviction, c.namespace)

    async def replaced():
        names = [
            p["metadata"]["name"] for p in await c.pods("job-name=tough") if not p["metadata"].get("deletionTimestamp")
        ]
        return names and pod["metadata"]["name"] not in names

    await c.until(replaced)
    status = await c.status("Job", "tough")
    assert "failed" not in status and "Failed" not in true_conditions(status)


@on_cluster
async def test_limits_per_index_fail_single_indexes_and_the_job_in_the_end(c):
    spec = {"completionMode": "Indexed", "completions": 2, "parallelism": 2, "backoffLimitPerIndex": 1}
    await c.create(job(script=FAILS, **spec))
    await c.until_status("Job", "work", lambda s: len(s.get("uncountedTerminatedPods") or {}) == 0)
    await c.cluster.advance(12)
    failed = await c.until_true("Job", "work", "Failed")
    status = await c.status("Job", "work")
    assert failed["reason"] == "FailedIndexes" and status["failedIndexes"] == "0,1" and status["failed"] == 4
    counts = [p["metadata"]["annotations"]["batch.kubernetes.io/job-index-failure-count"] for p in await c.pods()]
    assert sorted(counts) == ["0", "0", "1", "1"]


@on_cluster
async def test_fail_index_and_too_many_failed_indexes(c):
    rule = {"action": "FailIndex", "onExitCodes": {"operator": "In", "values": [1]}}
    spec = {"completionMode": "Indexed", "completions": 4, "parallelism": 2, "backoffLimitPerIndex": 5}
    await c.create(job(script=FAILS, **spec, maxFailedIndexes=1, podFailurePolicy={"rules": [rule]}))
    assert (await c.until_true("Job", "work", "Failed"))["reason"] == "MaxFailedIndexesExceeded"
    assert (await c.status("Job", "work"))["failedIndexes"] == "0,1"


@on_cluster
async def test_a_success_policy_ends_the_job_and_its_other_pods(c):
    spec = {"completionMode": "Indexed", "completions": 3, "parallelism": 3}
    await c.create(job(script=RUNS, **spec, successPolicy={"rules": [{"succeededIndexes": "1", "succeededCount": 1}]}))
    await c.until_status("Job", "work", lambda s: s.get("ready") == 3)
    leader = next(p for p in await c.pods() if index_of(p) == "1")
    done = {"phase": "Succeeded"}
    await c.patch("Pod", leader["metadata"]["name"], {"status": done}, subresource="status")
    complete = await c.until_true("Job", "work", "Complete")
    status = await c.status("Job", "work")
    assert complete["reason"] == "SuccessPolicy" and complete["message"] == "Matched rules at index 0"
    # Whether those that were stopped count as failed depends on who is first, as upstream: their kubelets, or the Job.
    assert status["succeeded"] == 1 and status["completedIndexes"] == "1"
    assert "SuccessCriteriaMet" in true_conditions(status)


@on_cluster
async def test_an_elastic_indexed_job_grows_and_shrinks_and_hostnames_are_indexes(c):
    await c.create(job(script=RUNS, completionMode="Indexed", completions=2, parallelism=2))
    await c.until_status("Job", "work", lambda s: s.get("ready") == 2)
    assert sorted(p["spec"]["hostname"] for p in await c.pods()) == ["work-0", "work-1"]
    await c.patch("Job", "work", {"spec": {"completions": 3, "parallelism": 3}})
    await c.until_status("Job", "work", lambda s: s.get("ready") == 3)
    await c.patch("Job", "work", {"spec": {"completions": 1, "parallelism": 1}})
    await c.until_status("Job", "work", lambda s: s.get("active") == 1 and not s.get("terminating"))
    assert [index_of(p) for p in await c.pods()] == ["0"]
    assert "failed" not in await c.status("Job", "work")


@pytest.mark.parametrize("policy, failed", [("TerminatingOrFailed", 1), ("Failed", None)])
@on_cluster
async def test_a_replacement_comes_at_once_or_when_the_pod_has_failed(c, policy, failed):
    script = {**RUNS, "ignore-stop": "true"}
    await c.create(job(script=script, podReplacementPolicy=policy))
    await c.until_status("Job", "work", lambda s: s.get("ready") == 1)
    (pod,) = await c.pods()
    deleting = asyncio.ensure_future(c.delete("Pod", pod["metadata"]["name"], grace_period_seconds=3000))
    status = await c.until_status("Job", "work", lambda s: s.get("terminating") == 1)
    if failed:
        status = await c.until_status("Job", "work", lambda s: s.get("failed") == 1)
        await c.cluster.advance(11)
        await c.until_status("Job", "work", lambda s: s.get("active") == 1)
    else:
        assert "active" not in status and "failed" not in status and len(await c.pods()) == 1
    await deleting


@on_cluster
async def test_any_success_is_enough_without_a_number_of_completions(c):
    await c.create(job(script={"run-for": 0}, parallelism=2))
    complete = await c.until_true("Job", "work", "Complete")
    assert complete["reason"] == "CompletionsReached"
    assert (await c.status("Job", "work"))["completionTime"]


@on_cluster
async def test_a_job_managed_by_another_controller_is_left_alone(c):
    await c.create(job("theirs", managedBy="example.com/theirs"))
    await c.create(job("ours", script=ENDS))
    await c.until_true("Job", "ours", "Complete")
    assert not await c.status("Job", "theirs") and not await c.pods("job-name=theirs")


@on_cluster
async def test_a_deadline_stops_running_pods_and_counts_them_as_failed(c):
    await c.create(job(script=RUNS, activeDeadlineSeconds=60))
    await c.until_status("Job", "work", lambda s: s.get("ready") == 1)
    await c.cluster.advance(70)
    assert (await c.until_true("Job", "work", "Failed"))["reason"] == "DeadlineExceeded"
    assert (await c.status("Job", "work"))["failed"] == 1
    await c.until(lambda: _none(c))


@on_cluster
async def test_pods_of_a_deleted_job_are_let_go(c):
    await c.create(job(script=RUNS, parallelism=2))
    await c.until_status("Job", "work", lambda s: s.get("ready") == 2)
    await c.delete("Job", "work", propagation_policy="Orphan")

    async def free():
        pods = await c.pods()
        return len(pods) == 2 and all(not p["metadata"].get("finalizers") for p in pods)

    await c.until(free)


@on_cluster
async def test_a_quota_refuses_pods_and_the_job_goes_on_when_it_is_raised(c):
    quota = {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "few"}, "spec": {"hard": {"pods": "1"}}}
    await c.create(quota)
    await c.until_status("ResourceQuota", "few", lambda s: s.get("hard"))
    await c.create(job(script=RUNS, parallelism=2, completions=2))
    await c.until_status("Job", "work", lambda s: s.get("active") == 1)
    messages = await c.until(lambda: c.messages("FailedCreate"))
    assert "exceeded quota: few" in messages[0]
    await c.patch("ResourceQuota", "few", {"spec": {"hard": {"pods": "5"}}})
    await c.until_status("Job", "work", lambda s: s.get("active") == 2)


@on_cluster
async def test_a_pod_that_is_no_jobs_any_more_is_let_go(c):
    await c.create(job(script=RUNS))
    await c.until_status("Job", "work", lambda s: s.get("ready") == 1)
    (pod,) = await c.pods()
    name = pod["metadata"]["name"]
    await c.patch("Pod", name, {"metadata": {"labels": dict.fromkeys(pod["metadata"]["labels"])}})

    async def loose():
        meta = (await c.get("Pod", name))["metadata"]
        return not meta.get("ownerReferences") and not meta.get("finalizers")

    await c.until(loose)
    await c.until_status("Job", "work", lambda s: s.get("active") == 1)
