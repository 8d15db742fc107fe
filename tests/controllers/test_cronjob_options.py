"""Every option of a CronJob; time is skipped."""

import pytest

from peavine.machinery.meta import now as stamp
from peavine.machinery.meta import parse_time
from tests.controllers.conftest import on_cluster

pytestmark = pytest.mark.slow

SIMULATED = "simulated.peavine.io/"


def cron(name="tick", schedule="* * * * *", seconds=100_000, code=0, **spec):
    annotations = {f"{SIMULATED}run-for": str(seconds), f"{SIMULATED}exit-code": str(code)}
    pod = {"restartPolicy": "Never", "containers": [{"name": "main", "image": "work:1"}]}
    template = {"metadata": {"annotations": annotations}, "spec": pod}
    return {
        "apiVersion": "batch/v1",
        "kind": "CronJob",
        "metadata": {"name": name},
        "spec": {"schedule": schedule, "jobTemplate": {"spec": {"template": template, "backoffLimit": 0}}, **spec},
    }


def finished(job):
    return any(
        c["type"] in ("Complete", "Failed") and c["status"] == "True" for c in job["status"].get("conditions") or ()
    )


@pytest.mark.parametrize("policy, running", [("Allow", 2), ("Forbid", 1), ("Replace", 1)])
@on_cluster
async def test_jobs_run_side_by_side_or_wait_or_take_the_place_of_the_one_before(c, policy, running):
    await c.create(cron(concurrencyPolicy=policy))
    await c.cluster.advance(61 - c.cluster._clock.time() % 60)  # just past the next full minute
    (first,) = await c.until(lambda: c.list("Job"))
    await c.cluster.advance(60)
    await c.until_status("CronJob", "tick", lambda s: len(s.get("active") or ()) == running)
    jobs = [j for j in await c.list("Job") if not j["metadata"].get("deletionTimestamp")]
    names = [j["metadata"]["name"] for j in jobs]
    assert len(names) == running and (first["metadata"]["name"] in names) == (policy != "Replace")
    if policy == "Forbid":
        assert await c.messages("JobAlreadyActive")
    scheduled = jobs[0]["metadata"]["annotations"]["batch.kubernetes.io/cronjob-scheduled-timestamp"]
    assert jobs[0]["metadata"]["name"] == f"tick-{int(parse_time(scheduled)) // 60}"


@on_cluster
async def test_histories_are_kept_apart_for_jobs_that_succeed_and_that_fail(c):
    await c.create(cron("good", seconds=0, successfulJobsHistoryLimit=1))
    await c.create(cron("bad", seconds=0, code=1, failedJobsHistoryLimit=0))
    for _ in range(2):
        await c.cluster.advance(61)

        async def all_done():
            return all(map(finished, await c.list("Job")))

        await c.until(all_done)

    async def short():
        names = [j["metadata"]["name"].split("-")[0] for j in await c.list("Job")]
        return names == ["good"]

    await c.until(short)
    status = await c.status("CronJob", "good")
    assert status["lastSuccessfulTime"] and "active" not in status


@on_cluster
async def test_a_suspended_cron_job_starts_nothing_and_a_time_too_long_ago_is_missed(c):
    await c.create(cron("late", suspend=True, startingDeadlineSeconds=100))
    await c.cluster.advance(200)
    assert not await c.list("Job")
    await c.patch("CronJob", "late", {"spec": {"schedule": stale(c), "suspend": False}})
    await c.until(lambda: c.list("CronJob"))
    await c.cluster.advance(2)
    assert not await c.list("Job"), "its time was longer ago than the deadline allows"
    await c.patch("CronJob", "late", {"spec": {"schedule": "* * * * *"}})
    await c.until(lambda: c.list("Job"))


def stale(c):
    """A time of each day that was half an hour ago."""
    then = stamp(c.cluster._clock.time() - 1800)
    return f"{int(then[14:16])} {int(then[11:13])} * * *"


@on_cluster
async def test_many_missed_starts_are_told_and_one_job_is_started(c):
    await c.create(cron(suspend=True))
    await c.cluster.advance(101 * 60 + 30)
    await c.patch("CronJob", "tick", {"spec": {"suspend": False}})
    (job,) = await c.until(lambda: c.list("Job"))
    assert "too many missed start times" in (await c.until(lambda: c.messages("TooManyMissedTimes")))[0]
    at = parse_time(job["metadata"]["annotations"]["batch.kubernetes.io/cronjob-scheduled-timestamp"])
    assert c.cluster._clock.time() - at < 120, "the last one that was missed, not the first"
