import asyncio

import pytest

from peavine.controllers.job.indexes import parse, render
from peavine.controllers.job.policies import met_success_policy
from tests.controllers.conftest import cluster, eventually


@pytest.mark.parametrize("indexes, text", [([], ""), ([0], "0"), ([0, 1], "0,1"), ([0, 2, 3, 4, 7], "0,2-4,7")])
def test_sets_of_indexes_have_one_text(indexes, text):
    assert render(indexes) == text
    assert parse(text, 100) == set(indexes)


def test_indexes_outside_of_the_job_do_not_count():
    assert parse("0-9", 3) == {0, 1, 2}


def test_a_success_policy_is_met_by_named_indexes_or_a_count():
    policy = {"rules": [{"succeededIndexes": "0-1"}, {"succeededCount": 3}]}
    assert met_success_policy(policy, {0}, 10) is None
    assert met_success_policy(policy, {0, 1}, 10) == "Matched rules at index 0"
    assert met_success_policy(policy, {5, 6, 7}, 10) == "Matched rules at index 1"


def job(name="work", **spec):
    template = {"spec": {"restartPolicy": "Never", "containers": [{"name": "main", "image": "work:1"}]}}
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {"template": template, **spec},
    }


async def status_of(client, name="work"):
    return (await client.resource("batch/v1", "jobs").get(name, "default")).get("status") or {}


def reasons(status):
    return {c["type"]: c.get("reason", "") for c in status.get("conditions") or () if c["status"] == "True"}


async def ended(client, type_):
    status = await status_of(client)
    return status if type_ in reasons(status) else None


def test_completions_are_counted_once_each_and_pods_are_let_go():
    async def main():
        async with cluster("job-controller") as (client, nodes):
            nodes.outcome = lambda pod: "Succeeded"
            await client.resource("batch/v1", "jobs").create(job(completions=5, parallelism=2))
            status = await eventually(lambda: ended(client, "Complete"), 20)
            assert status["succeeded"] == 5 and "active" not in status and status["completionTime"]
            pods = (await client.resource("v1", "pods").list("default"))["items"]
            assert len(pods) == 5
            assert all(not p["metadata"].get("finalizers") for p in pods)

    asyncio.run(main())


def test_failures_beyond_the_limit_end_the_job():
    async def main():
        async with cluster("job-controller") as (client, nodes):
            nodes.outcome = lambda pod: "Failed"
            await client.resource("batch/v1", "jobs").create(job(backoffLimit=0))
            status = await eventually(lambda: ended(client, "Failed"))
            assert reasons(status)["Failed"] == "BackoffLimitExceeded" and status["failed"] == 1

    asyncio.run(main())


def test_an_indexed_job_runs_every_index_once():
    async def main():
        async with cluster("job-controller") as (client, nodes):
            nodes.outcome = lambda pod: "Succeeded"
            await client.resource("batch/v1", "jobs").create(
                job(completions=4, parallelism=4, completionMode="Indexed")
            )
            status = await eventually(lambda: ended(client, "Complete"))
            assert status["completedIndexes"] == "0-3"
            pods = (await client.resource("v1", "pods").list("default"))["items"]
            indexes = sorted(p["metadata"]["labels"]["batch.kubernetes.io/job-completion-index"] for p in pods)
            assert indexes == ["0", "1", "2", "3"]
            env = {e["name"] for e in pods[0]["spec"]["containers"][0]["env"]}
            assert "JOB_COMPLETION_INDEX" in env

    asyncio.run(main())


def test_a_suspended_job_has_no_pods_until_it_is_resumed():
    async def main():
        async with cluster("job-controller") as (client, nodes):
            nodes.outcome = lambda pod: "Succeeded"
            jobs = client.resource("batch/v1", "jobs")
            await jobs.create(job(suspend=True))
            status = await eventually(lambda: ended(client, "Suspended"))
            assert "startTime" not in status
            assert (await client.resource("v1", "pods").list("default"))["items"] == []
            await jobs.patch("work", {"spec": {"suspend": False}}, "default")
            await eventually(lambda: ended(client, "Complete"))

    asyncio.run(main())


def test_a_deadline_ends_a_job_that_runs_too_long():
    async def main():
        async with cluster("job-controller") as (client, _):
            await client.resource("batch/v1", "jobs").create(job(activeDeadlineSeconds=1))
            status = await eventually(lambda: ended(client, "Failed"))
            assert reasons(status)["Failed"] == "DeadlineExceeded"

    asyncio.run(main())


def test_a_cron_job_starts_jobs_and_keeps_a_short_history():
    async def main():
        async with cluster("job-controller", "cronjob-controller") as (client, nodes):
            nodes.outcome = lambda pod: "Succeeded"
            body = {
                "apiVersion": "batch/v1",
                "kind": "CronJob",
                "metadata": {"name": "tick", "namespace": "default"},
                "spec": {
                    "schedule": "@every 1s",
                    "successfulJobsHistoryLimit": 1,
                    "jobTemplate": {"spec": job()["spec"]},
                },
            }
            await client.resource("batch/v1", "cronjobs").create(body)

            async def succeeded():
                status = (await client.resource("batch/v1", "cronjobs").get("tick", "default")).get("status") or {}
                return status.get("lastSuccessfulTime") and status.get("lastScheduleTime")

            await eventually(succeeded)

    asyncio.run(main())


def test_a_finished_job_goes_after_its_time():
    async def main():
        names = ("job-controller", "ttl-after-finished-controller", "garbage-collector-controller")
        async with cluster(*names) as (client, nodes):
            nodes.outcome = lambda pod: "Succeeded"
            await client.resource("batch/v1", "jobs").create(job(ttlSecondsAfterFinished=1))
            await eventually(lambda: _none(client, "batch/v1", "jobs"), 15)
            await eventually(lambda: _none(client, "v1", "pods"), 10)

    asyncio.run(main())


async def _none(client, api_version, plural):
    return not (await client.resource(api_version, plural).list("default"))["items"]
