"""One reconcile of one Job: what its pods say, whether it is over, which pods to start or stop, what to write."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import TYPE_CHECKING, Any, NamedTuple

from peavine.api.conditions import condition
from peavine.api.core.podstate import is_ready, phase
from peavine.controllers.controller import Key, Object
from peavine.controllers.job import backoff
from peavine.controllers.job import indexes as ix
from peavine.controllers.job.policies import FAILURES, IGNORED_FAILURES, failures_after, met_success_policy
from peavine.controllers.job.tracking import FINALIZER, Tracking, is_held, replaces_only_failed, set_count
from peavine.controllers.pods import deletion_rank, namespace_terminating, slow_start
from peavine.machinery.errors import ApiError
from peavine.machinery.meta import now as stamp
from peavine.machinery.meta import parse_time, random_suffix

if TYPE_CHECKING:
    from peavine.controllers.job.controller import JobController

PODS_PER_STEP_MAX = 500


class End(NamedTuple):
    """How a Job is over. First the interim condition says so, and once the last pod is counted and gone, the final."""

    final: str  # Complete or Failed
    reason: str
    message: str

    @property
    def interim(self) -> str:
        return "SuccessCriteriaMet" if self.final == "Complete" else "FailureTarget"


REACHED = End("Complete", "CompletionsReached", "Reached expected number of succeeded pods")


class Step:
    def __init__(self, controller: JobController, key: Key, job: Object, pods: list[Object]) -> None:
        self.controller, self.key, self.job, self.pods = controller, key, job, pods
        self.spec, self.now = job["spec"], controller.clock.time()
        self.tracking = Tracking(job, pods, controller.released(key, pods))
        self.status = self.tracking.status
        self.active, self.terminating = self.tracking.active, self.tracking.terminating
        self.indexed, self.completions = self.tracking.indexed, self.tracking.completions
        self.suspended = bool(self.spec.get("suspend"))
        self.again: float | None = None

    async def run(self) -> float | None:
        """Raises what the writes raise; the number is the seconds after which to look again."""
        if any(self._is(type_) for type_ in ("Complete", "Failed")):
            await self._release(self.tracking.held)
            return None
        satisfied = self.controller.expectations.satisfied(self.key)
        if not self.status.get("startTime") and not self.suspended:
            self.status["startTime"] = stamp(self.now)
        end, failure = self._end(), None
        try:
            if end is not None:
                await self._stop(list(self.active))
            elif satisfied and "deletionTimestamp" not in self.job["metadata"]:
                await self._manage()
                end = self._completion()
                if end is None:
                    self._note_suspension()
            else:
                end = self._completion()
        except ApiError as error:
            failure = error
        if not satisfied or failure is not None:
            # Pods that the cache has yet to show might still be running: it is too early to say that all is over.
            end = None
        await self._write(end)
        if failure is not None and not namespace_terminating(failure):
            raise failure
        return self._next_look()

    # whether it is over
    def _is(self, type_: str) -> Object | None:
        found = condition({"status": self.status}, type_)
        return found if found is not None and found["status"] == "True" else None

    def _end(self) -> End | None:
        """A verdict that stops the pods that still run; the first that holds counts."""
        tracking, spec = self.tracking, self.spec
        for interim, final in (("SuccessCriteriaMet", "Complete"), ("FailureTarget", "Failed")):
            if (decided := self._is(interim)) is not None:
                return End(final, decided.get("reason", ""), decided.get("message", ""))
        if (message := tracking.fail_job_message()) is not None:
            return End("Failed", "PodFailurePolicy", message)
        limit, deadline = spec.get("backoffLimit", 6), spec.get("activeDeadlineSeconds")
        if tracking.failed > limit or self._restarts_exceed(limit):
            return End("Failed", "BackoffLimitExceeded", "Job has reached the specified backoff limit")
        if deadline is not None and self._deadline_in() == 0:
            return End("Failed", "DeadlineExceeded", "Job was active longer than specified deadline")
        failed_indexes, done = tracking.failed_indexes, tracking.done
        if spec.get("maxFailedIndexes") is not None and len(failed_indexes) > spec["maxFailedIndexes"]:
            words = "Job has exceeded the specified maximal number of failed indexes"
            return End("Failed", "MaxFailedIndexesExceeded", words)
        if failed_indexes and len(failed_indexes) + len(done) >= (self.completions or 0):
            return End("Failed", "FailedIndexes", "Job has failed indexes")
        if self.indexed and (met := met_success_policy(spec.get("successPolicy"), done, self.completions or 0)):
            return End("Complete", "SuccessPolicy", met)
        return None

    def _completion(self) -> End | None:
        """The work is done: enough have succeeded, or (without a number) one has, and none runs."""
        succeeded = self.tracking.succeeded
        enough = succeeded > 0 if self.completions is None else succeeded >= self.completions
        return REACHED if enough and not self.active else None

    def _restarts_exceed(self, limit: int) -> bool:
        if (self.spec["template"].get("spec") or {}).get("restartPolicy") != "OnFailure":
            return False
        restarts = sum(
            container.get("restartCount", 0)
            for pod in self.pods
            if phase(pod) in ("Running", "Pending")
            for part in ("initContainerStatuses", "containerStatuses")
            for container in (pod.get("status") or {}).get(part) or ()
        )
        return restarts > 0 if limit == 0 else restarts >= limit

    def _deadline_in(self) -> float | None:
        """Seconds until activeDeadlineSeconds is over; None where it does not run."""
        deadline, started = self.spec.get("activeDeadlineSeconds"), self.status.get("startTime")
        if deadline is None or not started or self.suspended:
            return None
        return max(0.0, parse_time(started) + deadline - self.now)

    def _next_look(self) -> float | None:
        waits = [w for w in (self.again, self._deadline_in()) if w]
        return min(waits) if waits else None

    # pods
    async def _manage(self) -> None:
        if self.suspended:
            await self._take_back(self._surplus(len(self.active)))
            return
        succeeded, parallelism = self.tracking.succeeded, self.spec.get("parallelism", 1)
        if self.completions is None:
            wanted = len(self.active) if succeeded else parallelism
        else:
            wanted = max(0, min(parallelism, self.completions - succeeded))
        surplus = self._surplus(max(0, len(self.active) - wanted))[:PODS_PER_STEP_MAX]
        if surplus:
            await self._take_back(surplus)
            return
        occupied = len(self.active) + (len(self.terminating) if replaces_only_failed(self.job) else 0)
        missing = min(wanted - occupied, PODS_PER_STEP_MAX)
        if missing <= 0:
            return
        places: list[int | None] = [None] * missing
        if self.indexed:
            places = list(self._free_indexes(missing))
        if self.tracking.per_index is None:
            if wait := backoff.of_job(self.pods, self.now):
                self.again = wait
                return
        else:
            waits = {i: backoff.of_index(self.tracking.awaiting.get(i or 0), self.now) for i in places}
            places = [i for i in places if not waits[i]]
            self.again = min((w for w in waits.values() if w), default=None)
        await slow_start(len(places), lambda n: self._create(places[n]))

    def _surplus(self, count: int) -> list[Object]:
        """The active pods to do without: those of no index or of one that another has, then the least far."""
        rank = {id(p): deletion_rank(p, _NOWHERE, self.now) for p in self.active}
        ordered = sorted(self.active, key=lambda p: rank[id(p)])
        if not self.indexed:
            return ordered[:count]
        first: dict[int, Object] = {ix.index_of(p): p for p in ordered if self.tracking.valid_index(p)}
        needless = [p for p in ordered if first.get(ix.index_of(p)) is not p]
        return needless + [p for p in ordered if p not in needless][: max(0, count - len(needless))]

    def _free_indexes(self, count: int) -> list[int]:
        taken = {ix.index_of(p) for p in self.active} | self.tracking.done | self.tracking.failed_indexes
        if replaces_only_failed(self.job):
            taken |= {ix.index_of(p) for p in self.terminating}
        return [i for i in range(self.completions or 0) if i not in taken][:count]

    async def _create(self, index: int | None) -> None:
        template = self.spec["template"]
        meta = template.get("metadata") or {}
        more: dict[str, Any] = {"finalizers": [*(meta.get("finalizers") or ()), FINALIZER]}
        if index is not None:
            annotations = {**(meta.get("annotations") or {}), ix.INDEX: str(index)}
            if self.tracking.per_index is not None:
                annotations |= self._failures_annotations(index)
            more["annotations"] = annotations
            more["labels"] = {**(meta.get("labels") or {}), ix.INDEX: str(index)}
            name = f"{self.job['metadata']['name']}-{index}"
            more["name"] = f"{name}-{random_suffix()}"
            spec = {**template["spec"], "hostname": name}
            for part in ("containers", "initContainers"):
                if spec.get(part):
                    spec[part] = [_with_index(c) for c in spec[part]]
            template = {**template, "spec": spec}
        created = await self.controller.control.create(self.job, template, **more)
        self.controller.expectations.created(self.key, created)
        self.active.append(created)

    def _failures_annotations(self, index: int) -> dict[str, str]:
        """What the new pod of an index is told of the failures before it."""
        before = self.tracking.awaiting.get(index)
        if before is None:
            return {FAILURES: "0"}
        counted, ignored = failures_after(before, self.spec.get("podFailurePolicy"))
        return {FAILURES: str(counted), **({IGNORED_FAILURES: str(ignored)} if ignored else {})}

    async def _stop(self, pods: list[Object]) -> None:
        """End pods; they keep their finalizer until they are counted."""
        for pod in pods:
            await self.controller.control.delete(self.job, pod)
            self.active.remove(pod)
            self.terminating.append(pod)

    async def _take_back(self, pods: list[Object]) -> None:
        """End pods that are one too many: they are nobody's failure, so nothing counts them."""
        for pod in pods:
            if is_held(pod):
                await self.controller.release(self.key, pod)
            if await self.controller.control.delete(self.job, pod):
                self.controller.expectations.deleted(self.key, pod)
            self.active.remove(pod)
            self.tracking.held = [p for p in self.tracking.held if p is not pod]
            self.terminating.append(pod)

    # status
    def _note_suspension(self) -> None:
        current = condition({"status": self.status}, "Suspended")
        if self.suspended and (current is None or current["status"] != "True"):
            self._add_condition("Suspended", "JobSuspended", "Job suspended")
            self.status.pop("startTime", None)
            self.controller.recorder.event(self.job, "Normal", "Suspended", "Job suspended")
        elif not self.suspended and current is not None and current["status"] == "True":
            self._add_condition("Suspended", "JobResumed", "Job resumed", "False")
            self.status["startTime"] = stamp(self.now)
            self.controller.recorder.event(self.job, "Normal", "Resumed", "Job resumed")

    def _add_condition(self, type_: str, reason: str, message: str, status: str = "True") -> None:
        now = stamp(self.now)
        conditions = [c for c in self.status.get("conditions") or () if c["type"] != type_]
        entry = {"type": type_, "status": status, "lastProbeTime": now, "lastTransitionTime": now}
        conditions.append({**entry, "reason": reason, "message": message})
        self.status["conditions"] = conditions

    async def _write(self, end: End | None) -> None:
        released = self.tracking.take_in(end.final if end else None)
        set_count(self.status, "active", len(self.active))
        self.status["ready"] = sum(is_ready(p) for p in self.active)
        self.status["terminating"] = len(self.terminating)
        if end is not None and self._is(end.interim) is None:
            self._add_condition(end.interim, end.reason, end.message)
        over = end is not None and not released and not self.terminating
        over = over and not self.status["uncountedTerminatedPods"]
        if end is not None and over:
            self._add_condition(*end)
            if end.final == "Complete":
                self.status["completionTime"] = stamp(self.now)
        if self.status != (self.job.get("status") or {}):
            self.job = await self.controller.resource.update({**self.job, "status": self.status}, "status")
            if end is not None and over:
                self._announce(end)
        await self._release(released)

    async def _release(self, pods: list[Object]) -> None:
        await asyncio.gather(*(self.controller.release(self.key, pod) for pod in pods))

    def _announce(self, end: End) -> None:
        recorder = self.controller.recorder
        if end.final == "Failed":
            recorder.event(self.job, "Warning", end.reason, end.message)
            return
        if self.completions is not None and self.status.get("succeeded", 0) > self.completions:
            message = "Too many succeeded pods running after completion count reached"
            recorder.event(self.job, "Warning", "TooManySucceededPods", message)
        recorder.event(self.job, "Normal", "Completed", "Job completed")


# Of pods of one Job it does not matter how many share a node.
_NOWHERE: Counter[str] = Counter()


def _with_index(container: Object) -> Object:
    """The container with JOB_COMPLETION_INDEX in its environment, from the pod's own label."""
    env = list(container.get("env") or ())
    if any(e["name"] == "JOB_COMPLETION_INDEX" for e in env):
        return container
    source = {"fieldRef": {"fieldPath": f"metadata.labels['{ix.INDEX}']"}}
    return {**container, "env": [*env, {"name": "JOB_COMPLETION_INDEX", "valueFrom": source}]}
