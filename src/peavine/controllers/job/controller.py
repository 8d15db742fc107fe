"""The Job controller: which pods belong to a Job, and one `Step` for every look at it."""

from __future__ import annotations

from functools import partial
from typing import Any

from peavine.controllers.controller import Context, Controller, Key, Object
from peavine.controllers.expectations import Expectations
from peavine.controllers.job.step import Step
from peavine.controllers.job.tracking import FINALIZER, is_held
from peavine.controllers.ownership import claim, controlled, index_by_controller, orphans, owners_of, still_alive
from peavine.controllers.pods import PodControl
from peavine.machinery.errors import ApiError
from peavine.machinery.meta import controller_of
from peavine.machinery.selectors import selector_of

MANAGER = "kubernetes.io/job-controller"
STRAY = "stray pod"  # marks the keys of pods; those of Jobs are (namespace, name)


class JobController(Controller):
    name = "job-controller"
    account = "job-controller"

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self.jobs = self.watch("batch/v1", "jobs")
        owners = owners_of("Job", "batch", self.jobs, lambda job: selector_of(job["spec"].get("selector")))
        self.pods = self.watch("v1", "pods", keys=lambda pod: [*owners(pod), *_stray(pod)])
        index_by_controller(self.pods)
        self.expectations = Expectations(self.pods, self.clock)
        self.control = PodControl(self.client, self.recorder)
        self.resource = self.client.resource("batch/v1", "jobs")
        self._released: dict[Key, set[str]] = {}

    async def start(self) -> None:
        """Pods whose Job went while nobody looked: nothing may hold them."""
        for pod in self.pods.list():
            reference = controller_of(pod)
            if reference is not None and reference["kind"] == "Job" and is_held(pod):
                self.queue.add((pod["metadata"]["namespace"], reference["name"]))

    async def reconcile(self, key: Any) -> float | None:
        if key[0] == STRAY:
            await self._let_stray_go(key)
            return None
        job = self.jobs.get(*key)
        if job is None:
            await self._let_go(key)
            self.expectations.forget(key)
            self._released.pop(key, None)
            return None
        if (job["spec"].get("managedBy") or MANAGER) != MANAGER:
            return None
        selector = selector_of(job["spec"].get("selector"))
        candidates = [*controlled(self.pods, job), *orphans(self.pods, key[0])]
        alive = partial(still_alive, self.resource, job)
        pods = await claim(job, candidates, selector.matches, self.control.pods, alive)
        return await Step(self, key, job, pods).run()

    async def _let_go(self, key: Key) -> None:
        """Pods of a Job of this name that is gone: nobody will count them, so nothing may hold them."""
        for pod in self.pods.list(key[0]):
            reference = controller_of(pod)
            if reference is not None and (reference["kind"], reference["name"]) == ("Job", key[1]) and is_held(pod):
                await self.release(key, pod)

    async def _let_stray_go(self, key: tuple[str, str, str]) -> None:
        """A pod with our finalizer that no Job controls: it was released, or never was a Job's."""
        pod = self.pods.get(key[1], key[2])
        if pod is not None and _stray(pod):
            await self.release((STRAY, ""), pod)
            self._released.pop((STRAY, ""), None)

    def released(self, key: Key, pods: list[Object]) -> set[str]:
        """Uids of the pods let go that the cache still shows as held: they must not be counted again."""
        held = {p["metadata"]["uid"] for p in pods if is_held(p)}
        self._released[key] = self._released.get(key, set()) & held
        return self._released[key]

    async def release(self, key: Key, pod: Object) -> None:
        """Drop the finalizer from a pod of this Job."""
        meta = pod["metadata"]
        self._released.setdefault(key, set()).add(meta["uid"])
        patch = {"metadata": {"uid": meta["uid"], "$deleteFromPrimitiveList/finalizers": [FINALIZER]}}
        try:
            await self.control.pods.patch(meta["name"], patch, meta["namespace"], type="strategic")
        except ApiError as error:
            if error.code not in (404, 409, 422):
                self._released[key].discard(meta["uid"])
                raise


def _stray(pod: Object) -> list[Any]:
    reference = controller_of(pod)
    if not is_held(pod) or (reference is not None and reference["kind"] == "Job"):
        return []
    return [(STRAY, pod["metadata"]["namespace"], pod["metadata"]["name"])]
