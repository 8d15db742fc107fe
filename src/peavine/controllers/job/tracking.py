"""What the ended pods of a Job add to its status. Pure: reads the Job and its pods, writes only its own status.

A pod holds a finalizer until it is counted, in three steps, each of which may be the last before a crash: its uid is
listed in `uncountedTerminatedPods` (with the written status), its finalizer is dropped, and once the cache shows that,
the uid leaves the list and the counter grows. For Indexed Jobs the set of completed indexes is enough to count once.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from peavine.api.core.podstate import is_terminal, phase
from peavine.controllers.job import indexes as ix
from peavine.controllers.job.policies import all_failures, failures_after, judge

Object = dict[str, Any]

FINALIZER = "batch.kubernetes.io/job-tracking"
UNCOUNTED_MAX = 500


def replaces_only_failed(job: Object) -> bool:
    """Whether a pod's replacement waits until it has failed for good (podReplacementPolicy)."""
    default = "Failed" if job["spec"].get("podFailurePolicy") else "TerminatingOrFailed"
    return (job["spec"].get("podReplacementPolicy") or default) == "Failed"


def is_failed(pod: Object, job: Object) -> bool:
    """Failed; or being deleted, unless the Job waits for the end."""
    if phase(pod) == "Failed":
        return True
    if replaces_only_failed(job):
        return False
    return "deletionTimestamp" in pod["metadata"] and phase(pod) != "Succeeded"


def is_held(pod: Object) -> bool:
    return FINALIZER in (pod["metadata"].get("finalizers") or ())


class Tracking:
    """`status` is the Job's, moved on. `succeeded` and `failed` count what is listed and what is new, too."""

    def __init__(self, job: Object, pods: list[Object], released: Collection[str] = ()) -> None:
        """`released`: uids of pods whose finalizer is gone, though `pods` may not show it yet."""
        self.job, self.spec, self.pods = job, job["spec"], pods
        self.status: Object = {k: (list(v) if isinstance(v, list) else v) for k, v in (job.get("status") or {}).items()}
        self.completions = self.spec.get("completions")
        self.indexed = self.spec.get("completionMode") == "Indexed"
        self.per_index = self.spec.get("backoffLimitPerIndex") if self.indexed else None
        self.held = [p for p in pods if is_held(p) and p["metadata"]["uid"] not in released]
        self.active = [p for p in pods if not is_terminal(p) and "deletionTimestamp" not in p["metadata"]]
        self.terminating = [p for p in pods if not is_terminal(p) and "deletionTimestamp" in p["metadata"]]
        listed = self.status.get("uncountedTerminatedPods") or {}
        self.uncounted = {kind: list(listed.get(kind) or ()) for kind in ("succeeded", "failed")}
        self._settle()
        new_failed = [p for p in self._countable() if self._uid_new(p, "failed") and is_failed(p, job)]
        self.failed = self.status.get("failed", 0) + len(self.uncounted["failed"])
        self.failed += sum(not self._ignored(p) for p in new_failed)
        self.done = self._completed_indexes()
        self.succeeded = len(self.done) if self.indexed else self._succeeded()
        self.failed_indexes = self._failed_indexes()
        self.awaiting = self._awaiting_replacement()

    def _settle(self) -> None:
        """Pods that were listed and hold no finalizer any more are counted now."""
        held = {p["metadata"]["uid"] for p in self.held}
        for kind, listed in self.uncounted.items():
            kept = [uid for uid in listed if uid in held]
            set_count(self.status, kind, self.status.get(kind, 0) + len(listed) - len(kept))
            self.uncounted[kind] = kept

    def _uid_new(self, pod: Object, kind: str) -> bool:
        return pod["metadata"]["uid"] not in self.uncounted[kind]

    def _countable(self) -> list[Object]:
        return [p for p in self.held if self.valid_index(p)]

    def valid_index(self, pod: Object) -> bool:
        return not self.indexed or 0 <= ix.index_of(pod) < (self.completions or 0)

    def _succeeded(self) -> int:
        new = sum(phase(p) == "Succeeded" and self._uid_new(p, "succeeded") for p in self.held)
        return int(self.status.get("succeeded", 0)) + len(self.uncounted["succeeded"]) + new

    def _completed_indexes(self) -> set[int]:
        if not self.indexed:
            return set()
        before = ix.parse(self.status.get("completedIndexes"), self.completions or 0)
        return before | {ix.index_of(p) for p in self._countable() if phase(p) == "Succeeded"}

    def _failed_indexes(self) -> set[int]:
        if self.per_index is None:
            return set()
        found = ix.parse(self.status.get("failedIndexes"), self.completions or 0)
        policy = self.spec.get("podFailurePolicy")
        for pod in self._countable():
            if is_failed(pod, self.job) and (
                judge(policy, pod).action == "FailIndex" or failures_after(pod, policy)[0] > self.per_index
            ):
                found.add(ix.index_of(pod))
        return found - self.done

    def _awaiting_replacement(self) -> dict[int, Object]:
        """By index, the failed pod whose count of failures its replacement must carry on: until that is there, the pod
        keeps its finalizer."""
        if self.per_index is None:
            return {}
        busy = {ix.index_of(p) for p in self.active} | self.done | self.failed_indexes
        found: dict[int, Object] = {}
        for pod in self._countable():
            index = ix.index_of(pod)
            if index in busy or not is_failed(pod, self.job):
                continue
            if index not in found or all_failures(found[index]) <= all_failures(pod):
                found[index] = pod
        return found

    def fail_job_message(self) -> str | None:
        """Why podFailurePolicy fails the whole Job, if one of the failed pods says so."""
        policy = self.spec.get("podFailurePolicy")
        for pod in self.pods if policy else ():
            if is_failed(pod, self.job) and (verdict := judge(policy, pod)).action == "FailJob":
                return verdict.message
        return None

    def take_in(self, end: str | None) -> list[Object]:
        """List what is to be counted; returns the pods whose finalizer may go once that is written.

        `end` is "Failed" or "Complete" where the Job is about to be: then every pod is let go, and those that a failed
        Job stops count as failed.
        """
        over = end is not None or "deletionTimestamp" in self.job["metadata"]
        released = []
        for pod in sorted(self.held, key=ix.index_of):
            failed = is_failed(pod, self.job)
            delayed = self.awaiting.get(ix.index_of(pod))
            if not over and phase(pod) != "Succeeded" and (not failed or delayed is pod):
                continue
            released.append(pod)
            # Pods that a success ends are nobody's failure, in whichever step they are seen to be deleted.
            self._list(pod, phase(pod) == "Failed" or (end != "Complete" and (failed or end == "Failed")))
            if sum(map(len, self.uncounted.values())) >= UNCOUNTED_MAX:
                break
        if self.indexed:
            self.status["completedIndexes"] = ix.render(self.done)
            if not self.done:
                del self.status["completedIndexes"]
            set_count(self.status, "succeeded", len(self.done))
            if self.per_index is not None:
                self.status["failedIndexes"] = ix.render(self.failed_indexes)
        self.status["uncountedTerminatedPods"] = {k: v for k, v in self.uncounted.items() if v}
        return released

    def _list(self, pod: Object, failed: bool) -> None:
        uid = pod["metadata"]["uid"]
        if phase(pod) == "Succeeded" and self._uid_new(pod, "failed"):
            if not self.indexed and self._uid_new(pod, "succeeded"):
                self.uncounted["succeeded"].append(uid)
        elif failed and self._uid_new(pod, "failed") and self.valid_index(pod) and not self._ignored(pod):
            self.uncounted["failed"].append(uid)

    def _ignored(self, pod: Object) -> bool:
        return judge(self.spec.get("podFailurePolicy"), pod).action == "Ignore"


def set_count(status: Object, name: str, value: int) -> None:
    """A count in a status: 0 is left out."""
    if value:
        status[name] = value
    else:
        status.pop(name, None)
