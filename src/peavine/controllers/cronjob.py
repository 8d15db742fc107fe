"""CronJob: a Job at every time of a schedule, as the concurrency policy allows.

Upstream: pkg/controller/cronjob (v2); "CronJob", KEP-3140 (time zones).
"""

from __future__ import annotations

from datetime import datetime
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from peavine.api.batch.schedule import Schedule, ScheduleError, parse_schedule
from peavine.api.conditions import is_true
from peavine.controllers.controller import Context, Controller, Key, Object
from peavine.controllers.ownership import controlled, controlled_by, index_by_controller, owner_keys, owner_reference
from peavine.controllers.pods import namespace_terminating
from peavine.machinery.errors import ApiError
from peavine.machinery.meta import now as stamp
from peavine.machinery.meta import parse_time

MISSED_MAX = 100
SCHEDULED = "batch.kubernetes.io/cronjob-scheduled-timestamp"


class CronJobController(Controller):
    name = "cronjob-controller"
    account = "cronjob-controller"

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self.cron_jobs = self.watch("batch/v1", "cronjobs")
        self.jobs = self.watch("batch/v1", "jobs", keys=owner_keys("CronJob", "batch"))
        index_by_controller(self.jobs)
        self.resource = self.client.resource("batch/v1", "cronjobs")
        self.job_resource = self.client.resource("batch/v1", "jobs")

    async def reconcile(self, key: Key) -> float | None:
        cron_job = self.cron_jobs.get(*key)
        if cron_job is None:
            return None
        jobs = controlled(self.jobs, cron_job)
        status = {**(cron_job.get("status") or {})}
        self._follow(cron_job, jobs, status)
        await self._trim_history(cron_job, jobs)
        again = None
        if "deletionTimestamp" not in cron_job["metadata"] and not cron_job["spec"].get("suspend"):
            again = await self._start_due(cron_job, jobs, status)
        if not status.get("active"):
            status.pop("active", None)
        if status != (cron_job.get("status") or {}):
            await self.resource.update({**cron_job, "status": status}, "status")
        return again

    def _follow(self, cron_job: Object, jobs: list[Object], status: Object) -> None:
        """Bring `active` and lastSuccessfulTime up to date with the Jobs as they are."""
        by_uid = {job["metadata"]["uid"]: job for job in jobs}
        active = []
        for reference in status.get("active") or ():
            job = by_uid.get(reference["uid"])
            if job is None:
                message = f"Active job went missing: {reference['name']}"
                self.recorder.event(cron_job, "Normal", "MissingJob", message)
            elif not finished(job):
                active.append(reference)
            else:
                word = "Complete" if is_true(job, "Complete") else "Failed"
                message = f"Saw completed job: {job['metadata']['name']}, condition: {word}"
                self.recorder.event(cron_job, "Normal", "SawCompletedJob", message)
        known = {reference["uid"] for reference in active}
        for job in jobs:
            if not finished(job) and job["metadata"]["uid"] not in known:
                active.append(_reference(job))
            ended = (job.get("status") or {}).get("completionTime")
            if is_true(job, "Complete") and ended and ended > status.get("lastSuccessfulTime", ""):
                status["lastSuccessfulTime"] = ended
        status["active"] = active

    async def _start_due(self, cron_job: Object, jobs: list[Object], status: Object) -> float | None:
        spec, meta = cron_job["spec"], cron_job["metadata"]
        try:
            times = Times(spec["schedule"], spec.get("timeZone"))
        except ScheduleError as error:
            message = f"unparseable schedule: {spec['schedule']}: {error}"
            self.recorder.event(cron_job, "Warning", "UnparseableSchedule", message)
            return None
        except (ZoneInfoNotFoundError, ValueError):
            message = f"invalid timeZone: {spec['timeZone']!r}: unknown time zone {spec['timeZone']}"
            self.recorder.event(cron_job, "Warning", "UnknownTimeZone", message)
            return None
        now = self.clock.time()
        due, missed = latest_due(times, cron_job, now)
        if missed > MISSED_MAX:
            advice = "Set or decrease .spec.startingDeadlineSeconds or check clock skew"
            message = f"too many missed start times: {missed}. {advice}"
            self.recorder.event(cron_job, "Warning", "TooManyMissedTimes", message)
        following = times.after(now)
        again = max(0.1, following - now) if following is not None else None
        if due is None:
            return again
        deadline = spec.get("startingDeadlineSeconds")
        if deadline is not None and due + deadline < now:
            message = f"Missed scheduled time to start a job: {stamp(due)}"
            self.recorder.event(cron_job, "Warning", "MissSchedule", message)
            return again
        name = f"{meta['name']}-{int(due) // 60}"
        if status.get("lastScheduleTime") == stamp(due) or any(j["metadata"]["name"] == name for j in jobs):
            status["lastScheduleTime"] = max(status.get("lastScheduleTime", ""), stamp(due))
            return again
        policy = spec.get("concurrencyPolicy", "Allow")
        if policy == "Forbid" and status.get("active"):
            message = "Not starting job because prior execution is running and concurrency policy is Forbid"
            self.recorder.event(cron_job, "Normal", "JobAlreadyActive", message)
            return again
        if policy == "Replace":
            for reference in status.get("active") or ():
                await self._delete(cron_job, reference["name"], reference["uid"])
            status["active"] = []
        job = await self._create(cron_job, name, due)
        if job is not None:
            status["active"] = [*(status.get("active") or ()), _reference(job)]
            status["lastScheduleTime"] = stamp(due)
        return again

    async def _create(self, cron_job: Object, name: str, due: float) -> Object | None:
        template = cron_job["spec"]["jobTemplate"]
        meta = template.get("metadata") or {}
        body = {
            "apiVersion": "batch/v1",
            "kind": "Job",
            "metadata": {
                "name": name,
                "namespace": cron_job["metadata"]["namespace"],
                "labels": meta.get("labels") or {},
                "annotations": {**(meta.get("annotations") or {}), SCHEDULED: stamp(due)},
                "ownerReferences": [owner_reference(cron_job)],
            },
            "spec": template["spec"],
        }
        try:
            job = await self.job_resource.create(body)
        except ApiError as error:
            if error.reason == "AlreadyExists":
                job = await self.job_resource.get(name, cron_job["metadata"]["namespace"])
                return job if controlled_by(job, cron_job) else None
            if namespace_terminating(error):
                return None
            message = f"Error creating job: {error.message}"
            self.recorder.event(cron_job, "Warning", "FailedCreate", message)
            raise
        self.recorder.event(cron_job, "Normal", "SuccessfulCreate", f"Created job {name}")
        return job

    async def _trim_history(self, cron_job: Object, jobs: list[Object]) -> None:
        spec = cron_job["spec"]
        for type_, limit in (
            ("Complete", spec.get("successfulJobsHistoryLimit", 3)),
            ("Failed", spec.get("failedJobsHistoryLimit", 1)),
        ):
            if limit is None:
                continue
            over = [j for j in jobs if is_true(j, type_)]
            over.sort(key=lambda j: ((j.get("status") or {}).get("startTime", ""), j["metadata"]["name"]))
            for job in over[: max(0, len(over) - limit)]:
                await self._delete(cron_job, job["metadata"]["name"], job["metadata"]["uid"])

    async def _delete(self, cron_job: Object, name: str, uid: str) -> None:
        try:
            await self.job_resource.delete(
                name, cron_job["metadata"]["namespace"], uid=uid, propagation_policy="Background"
            )
        except ApiError as error:
            if error.code not in (404, 409):
                self.recorder.event(cron_job, "Warning", "FailedDelete", f"Deleted job: {error.message}")
                raise
            return
        self.recorder.event(cron_job, "Normal", "SuccessfulDelete", f"Deleted job {name}")


class Times:
    """A schedule in a time zone (UTC unless named), in Unix seconds.

    Raises ScheduleError; ZoneInfoNotFoundError or ValueError for a zone that does not exist.
    """

    def __init__(self, schedule: str, zone: str | None) -> None:
        self._schedule: Schedule = parse_schedule(schedule)
        self._zone = ZoneInfo(zone or "UTC")

    def after(self, moment: float) -> float | None:
        found = self._schedule.next(datetime.fromtimestamp(moment, self._zone))
        return found.timestamp() if found else None


def finished(job: Object) -> bool:
    return is_true(job, "Complete") or is_true(job, "Failed")


def latest_due(times: Times, cron_job: Object, now: float) -> tuple[float | None, int]:
    """(the latest scheduled time not after `now` that has not had its Job, how many were missed with it)."""
    status = cron_job.get("status") or {}
    since = parse_time(status.get("lastScheduleTime") or cron_job["metadata"]["creationTimestamp"])
    deadline = cron_job["spec"].get("startingDeadlineSeconds")
    if deadline is not None:
        since = max(since, now - deadline)
    due, missed = None, 0
    moment = times.after(since)
    while moment is not None and moment <= now:
        due, missed = moment, missed + 1
        if missed > MISSED_MAX:
            # Far behind: jump close to now instead of walking through every missed time.
            period = (times.after(moment) or moment) - moment
            moment = max(moment, now - 2 * max(period, 60.0))
        moment = times.after(moment)
    return due, missed


def _reference(job: Object) -> Object:
    meta = job["metadata"]
    return {
        "kind": "Job",
        "namespace": meta["namespace"],
        "name": meta["name"],
        "uid": meta["uid"],
        "apiVersion": "batch/v1",
        "resourceVersion": meta["resourceVersion"],
    }
