"""The Job controller: counts finished pods through their finalizer, starts what is missing, ends what is over."""

from __future__ import annotations

from functools import partial
from typing import Any

from peavine.api.conditions import condition
from peavine.api.core.podstate import is_ready, is_terminal, phase
from peavine.client.informer import key_of
from peavine.controllers.controller import Context, Controller, Key, Object
from peavine.controllers.expectations import Expectations
from peavine.controllers.job import indexes as ix
from peavine.controllers.job.policies import judge, met_success_policy
from peavine.controllers.ownership import claim, owner_keys, still_alive
from peavine.controllers.pods import PodControl, namespace_terminating, slow_start
from peavine.machinery.errors import ApiError
from peavine.machinery.meta import controller_of, parse_time, random_suffix
from peavine.machinery.meta import now as stamp
from peavine.machinery.selectors import selector_of

FINALIZER = "batch.kubernetes.io/job-tracking"
MANAGER = "kubernetes.io/job-controller"
BACKOFF_FIRST = 10.0
BACKOFF_MOST = 600.0
UNCOUNTED_MAX = 500
PODS_PER_STEP_MAX = 500


class JobController(Controller):
    name = "job-controller"
    account = "job-controller"

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self.jobs = self.watch("batch/v1", "jobs")
        self.pods = self.watch("v1", "pods", keys=self._owners_of)
        self.pods.add_index("controller", lambda pod: [ref["uid"]] if (ref := controller_of(pod)) else [])
        self.expectations = Expectations(self.pods, self.clock)
        self.control = PodControl(self.client, self.recorder)
        self.resource = self.client.resource("batch/v1", "jobs")

    def _owners_of(self, pod: Object) -> list[Key]:
        if controller_of(pod) is not None:
            return owner_keys("Job", "batch")(pod)
        labels = pod["metadata"].get("labels") or {}
        if not labels:
            return []
        jobs = self.jobs.list(pod["metadata"]["namespace"])
        return [key_of(j) for j in jobs if selector_of(j["spec"].get("selector")).matches(labels)]

    async def reconcile(self, key: Key) -> float | None:
        job = self.jobs.get(*key)
        if job is None:
            self.expectations.forget(key)
            await self._release_orphans(key)
            return None
        if (job["spec"].get("managedBy") or MANAGER) != MANAGER:
            return None
        selector = selector_of(job["spec"].get("selector"))
        mine = self.pods.by_index("controller", job["metadata"]["uid"])
        orphans = [p for p in self.pods.list(key[0]) if controller_of(p) is None]
        alive = partial(still_alive, self.resource, job)
        pods = await claim(job, [*mine, *orphans], selector.matches, self.control.pods, alive)
        return await _Step(self, key, job, pods).run()

    async def _release_orphans(self, key: Key) -> None:
        """Pods of a Job that is gone: nobody will count them, so nothing may hold them."""
        for pod in self.pods.list(key[0]):
            reference = controller_of(pod)
            if reference is None or reference["kind"] != "Job" or reference["name"] != key[1]:
                continue
            if FINALIZER in (pod["metadata"].get("finalizers") or ()):
                await self.drop_finalizer(pod)

    async def drop_finalizer(self, pod: Object) -> None:
        meta = pod["metadata"]
        patch = {"metadata": {"uid": meta["uid"], "$deleteFromPrimitiveList/finalizers": [FINALIZER]}}
        try:
            await self.control.pods.patch(meta["name"], patch, meta["namespace"], type="strategic")
        except ApiError as error:
            if error.code not in (404, 409, 422):
                raise


class _Step:
    """One reconcile of one Job."""

    def __init__(self, controller: JobController, key: Key, job: Object, pods: list[Object]) -> None:
        self.controller, self.key, self.job, self.pods = controller, key, job, pods
        self.spec = job["spec"]
        self.old = job.get("status") or {}
        self.status: Object = {k: (list(v) if isinstance(v, list) else v) for k, v in self.old.items()}
        self.now = controller.clock.time()
        self.completions = self.spec.get("completions")
        self.indexed = self.spec.get("completionMode") == "Indexed"
        self.per_index = self.spec.get("backoffLimitPerIndex")
        self.finished = _finished(job)
        self.active = [p for p in pods if not is_terminal(p) and "deletionTimestamp" not in p["metadata"]]
        self.terminating = [p for p in pods if not is_terminal(p) and "deletionTimestamp" in p["metadata"]]

    async def run(self) -> float | None:
        if self.finished:
            await self._clean_up_finished()
            return None
        if self.job["metadata"].get("deletionTimestamp"):
            for pod in self.pods:
                if FINALIZER in (pod["metadata"].get("finalizers") or ()):
                    await self.controller.drop_finalizer(pod)
            return None
        suspended = bool(self.spec.get("suspend"))
        if self.status.get("startTime") is None and not suspended:
            self.status["startTime"] = stamp(self.now)
        counted = self._count()
        end = self._verdict(counted)
        again: float | None = None
        failure: ApiError | None = None
        if end is None and self.controller.expectations.satisfied(self.key):
            try:
                again = await self._manage(suspended)
            except ApiError as error:
                failure = error
        elif end is not None:
            await self._stop(list(self.active))
        self._note_suspension(suspended)
        await self._write(end, counted)
        if failure is not None and not namespace_terminating(failure):
            raise failure
        deadline = self._deadline_wait(suspended)
        waits = [w for w in (again, deadline) if w is not None]
        return min(waits) if waits else None

    # counting: a pod is counted once, when its finalizer is still there, and released after the count is written
    def _count(self) -> list[Object]:
        counted = [p for p in self.pods if self._is_over(p) and FINALIZER in (p["metadata"].get("finalizers") or ())][
            :UNCOUNTED_MAX
        ]
        uncounted = self.old.get("uncountedTerminatedPods") or {}
        already = {*(uncounted.get("succeeded") or ()), *(uncounted.get("failed") or ())}
        done = ix.parse(self.old.get("completedIndexes"), self.completions or 0) if self.indexed else set()
        failed_indexes = ix.parse(self.old.get("failedIndexes"), self.completions or 0)
        succeeded, failed = self.old.get("succeeded", 0), self.old.get("failed", 0)
        for pod in counted:
            if pod["metadata"]["uid"] in already:
                continue
            if phase(pod) == "Succeeded":
                if self.indexed:
                    if 0 <= ix.index_of(pod) < (self.completions or 0):
                        done.add(ix.index_of(pod))
                else:
                    succeeded += 1
                continue
            verdict = judge(self.spec.get("podFailurePolicy"), pod)
            if verdict.action == "FailJob":
                self._fail_target("PodFailurePolicy", verdict.message)
            if verdict.action != "Ignore":
                failed += 1
            index = ix.index_of(pod)
            if self.per_index is None or not 0 <= index < (self.completions or 0):
                continue
            spent = verdict.action != "Ignore" and _failures(pod) + 1 > self.per_index
            if verdict.action == "FailIndex" or spent:
                failed_indexes.add(index)
        if self.indexed:
            succeeded = len(done)
            if done:
                self.status["completedIndexes"] = ix.render(done)
            if self.per_index is not None:
                self.status["failedIndexes"] = ix.render(failed_indexes - done)
        _set_count(self.status, "succeeded", succeeded)
        _set_count(self.status, "failed", failed)
        return counted

    def _is_over(self, pod: Object) -> bool:
        """Ended; or being deleted, which counts as failed unless replacements wait for the end (policy Failed)."""
        if is_terminal(pod):
            return True
        if "deletionTimestamp" not in pod["metadata"]:
            return False
        return self._replacement_policy() != "Failed" and not pod["spec"].get("nodeName")

    def _replacement_policy(self) -> str:
        default = "Failed" if self.spec.get("podFailurePolicy") else "TerminatingOrFailed"
        return self.spec.get("podReplacementPolicy") or default

    # verdicts
    def _fail_target(self, reason: str, message: str) -> None:
        if condition({"status": self.status}, "FailureTarget") is None:
            self._add_condition("FailureTarget", reason, message)

    def _add_condition(self, type_: str, reason: str, message: str, status: str = "True") -> None:
        now = stamp(self.now)
        conditions = [c for c in self.status.get("conditions") or () if c["type"] != type_]
        conditions.append(
            {
                "type": type_,
                "status": status,
                "lastProbeTime": now,
                "lastTransitionTime": now,
                **({"reason": reason} if reason else {}),
                **({"message": message} if message else {}),
            }
        )
        self.status["conditions"] = conditions

    def _verdict(self, counted: list[Object]) -> tuple[str, str, str] | None:
        """(Complete or Failed, reason, message) once it is decided."""
        for target, final in (("FailureTarget", "Failed"), ("SuccessCriteriaMet", "Complete")):
            decided = condition({"status": self.status}, target)
            if decided is not None and decided["status"] == "True":
                return final, decided.get("reason", ""), decided.get("message", "")
        succeeded, failed = self.status.get("succeeded", 0), self.status.get("failed", 0)
        over: tuple[str, str, str] | None = None
        deadline = self.spec.get("activeDeadlineSeconds")
        limit = self.spec.get("backoffLimit", 6)
        failed_indexes = ix.parse(self.status.get("failedIndexes"), self.completions or 0)
        done = ix.parse(self.status.get("completedIndexes"), self.completions or 0) if self.indexed else set()
        max_failed = self.spec.get("maxFailedIndexes")
        if failed > limit or self._restarts_exceed(limit):
            over = ("Failed", "BackoffLimitExceeded", "Job has reached the specified backoff limit")
        elif deadline is not None and self._deadline_passed(deadline):
            over = ("Failed", "DeadlineExceeded", "Job was active longer than specified deadline")
        elif max_failed is not None and len(failed_indexes) > max_failed:
            message = "Job has exceeded the specified maximal number of failed indexes"
            over = ("Failed", "MaxFailedIndexesExceeded", message)
        elif self.indexed and (
            message_ := met_success_policy(self.spec.get("successPolicy"), done, self.completions or 0)
        ):
            over = ("Complete", "SuccessPolicy", message_)
        elif failed_indexes and len(failed_indexes | done) >= (self.completions or 0):
            over = ("Failed", "FailedIndexes", "Job has failed indexes")
        elif self._complete(succeeded, counted):
            over = ("Complete", "CompletionsReached", "Reached expected number of succeeded pods")
        if over is not None:
            target = "SuccessCriteriaMet" if over[0] == "Complete" else "FailureTarget"
            self._add_condition(target, over[1], over[2])
        return over

    def _complete(self, succeeded: int, counted: list[Object]) -> bool:
        if self.completions is None:
            # Any success means that the work is done; the others finish what they have begun.
            return succeeded > 0 and not self.active and not self.terminating
        return succeeded >= self.completions

    def _restarts_exceed(self, limit: int) -> bool:
        if (self.spec["template"].get("spec") or {}).get("restartPolicy") != "OnFailure":
            return False
        restarts = 0
        for pod in self.pods:
            status = pod.get("status") or {}
            if phase(pod) in ("Running", "Pending"):
                both = [*(status.get("initContainerStatuses") or ()), *(status.get("containerStatuses") or ())]
                restarts += sum(c.get("restartCount", 0) for c in both)
        return restarts > 0 if limit == 0 else restarts >= limit

    def _deadline_passed(self, deadline: int) -> bool:
        started = self.status.get("startTime")
        if not started or self.spec.get("suspend"):
            return False
        return self.now - parse_time(started) >= deadline

    def _deadline_wait(self, suspended: bool) -> float | None:
        deadline, started = self.spec.get("activeDeadlineSeconds"), self.status.get("startTime")
        if deadline is None or suspended or not started or self.finished:
            return None
        return max(0.1, parse_time(started) + deadline - self.now)

    # pods
    async def _manage(self, suspended: bool) -> float | None:
        parallelism = self.spec.get("parallelism", 1)
        if suspended:
            await self._stop(self.active)
            return None
        succeeded = self.status.get("succeeded", 0)
        if self.completions is None:
            wanted = len(self.active) if succeeded else parallelism
        else:
            wanted = min(parallelism, max(0, self.completions - succeeded))
        occupied = len(self.active) + (len(self.terminating) if self._replacement_policy() == "Failed" else 0)
        excess = len(self.active) - wanted
        if self.indexed:
            excess = max(excess, 0)
        if excess > 0:
            doomed = sorted(self.active, key=lambda p: (is_ready(p), phase(p) == "Running", -ix.index_of(p)))[:excess]
            await self._stop(doomed)
            return None
        missing = min(wanted - occupied, PODS_PER_STEP_MAX)
        if missing <= 0:
            return None
        wait = self._backoff_wait()
        if wait > 0:
            return wait
        free = self._free_indexes(missing) if self.indexed else [None] * missing
        before = len(self.active)

        async def make(i: int) -> None:
            created = await self._create(free[i])
            self.controller.expectations.created(self.key, created)
            self.active.append(created)

        if free:
            await slow_start(len(free), make, first=max(1, before))
        return None

    def _free_indexes(self, count: int) -> list[int]:
        taken = {ix.index_of(p) for p in self.active}
        if self._replacement_policy() == "Failed":
            taken |= {ix.index_of(p) for p in self.terminating}
        taken |= ix.parse(self.status.get("completedIndexes"), self.completions or 0)
        taken |= ix.parse(self.status.get("failedIndexes"), self.completions or 0)
        return [i for i in range(self.completions or 0) if i not in taken][:count]

    def _backoff_wait(self) -> float:
        """Seconds until the next pod may start: the wait doubles with each failure since the last success."""
        failed = sorted(_ended_at(p) for p in self.pods if phase(p) == "Failed" and _ended_at(p))
        if not failed:
            return 0.0
        succeeded = max((_ended_at(p) for p in self.pods if phase(p) == "Succeeded"), default=0.0)
        recent = [t for t in failed if t > succeeded]
        if not recent:
            return 0.0
        delay = min(BACKOFF_MOST, BACKOFF_FIRST * 2 ** min(len(recent) - 1, 20))
        return max(0.0, recent[-1] + delay - self.now)

    async def _create(self, index: int | None) -> Object:
        template = self.spec["template"]
        meta = template.get("metadata") or {}
        more: dict[str, Any] = {"finalizers": [*(meta.get("finalizers") or ()), FINALIZER]}
        pod_template = template
        if index is not None:
            annotations = {**(meta.get("annotations") or {}), ix.INDEX: str(index)}
            if self.per_index is not None:
                annotations[ix.FAILURES] = str(self._index_failures(index))
            more["annotations"] = annotations
            more["labels"] = {**(meta.get("labels") or {}), ix.INDEX: str(index)}
            name = f"{self.job['metadata']['name']}-{index}"
            more["name"] = f"{name}-{random_suffix()}"
            spec = {**template["spec"], "hostname": name}
            for part in ("containers", "initContainers"):
                if spec.get(part):
                    spec[part] = [_with_index(c) for c in spec[part]]
            pod_template = {**template, "spec": spec}
        return await self.controller.control.create(self.job, pod_template, **more)

    def _index_failures(self, index: int) -> int:
        past = [p for p in self.pods if ix.index_of(p) == index and phase(p) == "Failed"]
        return max((_failures(p) + 1 for p in past), default=0)

    async def _stop(self, pods: list[Object]) -> None:
        for pod in pods:
            if await self.controller.control.delete(self.job, pod):
                self.controller.expectations.deleted(self.key, pod)
                self.active = [p for p in self.active if p is not pod]
                self.terminating.append(pod)

    async def _clean_up_finished(self) -> None:
        await self._stop(list(self.active))
        for pod in self.pods:
            if FINALIZER in (pod["metadata"].get("finalizers") or ()):
                await self.controller.drop_finalizer(pod)

    def _note_suspension(self, suspended: bool) -> None:
        current = condition({"status": self.status}, "Suspended")
        if suspended and (current is None or current["status"] != "True"):
            self._add_condition("Suspended", "JobSuspended", "Job suspended")
            self.status.pop("startTime", None)
            self.controller.recorder.event(self.job, "Normal", "Suspended", "Job suspended")
        elif not suspended and current is not None and current["status"] == "True":
            self._add_condition("Suspended", "JobResumed", "Job resumed", "False")
            self.status["startTime"] = stamp(self.now)
            self.controller.recorder.event(self.job, "Normal", "Resumed", "Job resumed")

    # status
    async def _write(self, end: tuple[str, str, str] | None, counted: list[Object]) -> None:
        _set_count(self.status, "active", len(self.active))
        self.status["ready"] = sum(is_ready(p) for p in self.active)
        self.status["terminating"] = len(self.terminating)
        if self.completions is not None and not self.indexed:
            self.status["succeeded"] = self.status.get("succeeded", 0)
            _set_count(self.status, "succeeded", self.status["succeeded"])
        over = end is not None and not self.active and not self.terminating
        uncounted = {"succeeded": [], "failed": []}  # type: dict[str, list[str]]
        for pod in counted:
            uncounted["succeeded" if phase(pod) == "Succeeded" else "failed"].append(pod["metadata"]["uid"])
        self.status["uncountedTerminatedPods"] = {k: v for k, v in uncounted.items() if v}
        if over and end is not None and not counted:
            self._add_condition(*end)
            if end[0] == "Complete":
                self.status["completionTime"] = stamp(self.now)
            self.status["uncountedTerminatedPods"] = {}
        if self.status != self.old:
            self.job = await self.controller.resource.update({**self.job, "status": self.status}, "status")
            if over and not counted and end is not None:
                self._announce(end)
        for pod in counted:
            # Written: now the pods may go, and what is listed as uncounted is cleared by the next step.
            await self.controller.drop_finalizer(pod)
        if counted:
            self.controller.queue.add_after(self.key, 0.1)

    def _announce(self, end: tuple[str, str, str]) -> None:
        recorder = self.controller.recorder
        if end[0] == "Complete":
            recorder.event(self.job, "Normal", "Completed", "Job completed")
        else:
            recorder.event(self.job, "Warning", end[1], end[2])


def _finished(job: Object) -> bool:
    return any(
        c["type"] in ("Complete", "Failed") and c["status"] == "True"
        for c in (job.get("status") or {}).get("conditions") or ()
    )


def _failures(pod: Object) -> int:
    text = (pod["metadata"].get("annotations") or {}).get(ix.FAILURES, "0")
    return int(text) if text.isdigit() else 0


def _ended_at(pod: Object) -> float:
    ends = [
        parse_time(t["finishedAt"])
        for c in (pod.get("status") or {}).get("containerStatuses") or ()
        if (t := (c.get("state") or {}).get("terminated")) and t.get("finishedAt")
    ]
    if ends:
        return max(ends)
    deleted = pod["metadata"].get("deletionTimestamp")
    return parse_time(deleted) if deleted else 0.0


def _set_count(status: Object, name: str, value: int) -> None:
    if value:
        status[name] = value
    else:
        status.pop(name, None)


def _with_index(container: Object) -> Object:
    """The container with JOB_COMPLETION_INDEX in its environment, from the pod's own annotation."""
    env = list(container.get("env") or ())
    if any(e["name"] == "JOB_COMPLETION_INDEX" for e in env):
        return container
    source = {"fieldRef": {"fieldPath": f"metadata.labels['{ix.INDEX}']"}}
    return {**container, "env": [*env, {"name": "JOB_COMPLETION_INDEX", "valueFrom": source}]}
