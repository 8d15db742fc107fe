"""Deletes Jobs some time after they have finished. Upstream: KEP-592, "Automatic Cleanup for Finished Jobs"."""

from __future__ import annotations

from peavine.controllers.controller import Context, Controller, Key, Object
from peavine.controllers.cronjob import finished
from peavine.machinery.errors import ApiError
from peavine.machinery.meta import parse_time


class TTLAfterFinishedController(Controller):
    name = "ttl-after-finished-controller"
    account = "ttl-after-finished-controller"

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self.jobs = self.watch("batch/v1", "jobs")
        self.resource = self.client.resource("batch/v1", "jobs")

    async def reconcile(self, key: Key) -> float | None:
        job = self.jobs.get(*key)
        if job is None or (left := self._left(job)) is None:
            return None
        if left > 0:
            return left
        try:
            # The cache may be old: the Job as the server knows it decides.
            fresh = await self.resource.get(key[1], key[0])
            left = self._left(fresh)
            if left is None or left > 0:
                return left
            await self.resource.delete(
                key[1],
                key[0],
                uid=fresh["metadata"]["uid"],
                resource_version=fresh["metadata"]["resourceVersion"],
                propagation_policy="Foreground",
            )
        except ApiError as error:
            if error.code != 404:
                raise
        return None

    def _left(self, job: Object) -> float | None:
        """Seconds until the Job's time is over; None while it has none."""
        ttl = job["spec"].get("ttlSecondsAfterFinished")
        if ttl is None or "deletionTimestamp" in job["metadata"] or not finished(job):
            return None
        ends = [
            parse_time(c["lastTransitionTime"])
            for c in (job.get("status") or {}).get("conditions") or ()
            if c["type"] in ("Complete", "Failed") and c["status"] == "True"
        ]
        return max(0.0, ends[0] + ttl - self.clock.time())
