"""Tells the API what became of a pod: always the latest state, one write at a time, nothing twice."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any

from peavine.client.transport import Unreachable
from peavine.kubelet.pods import termination
from peavine.kubelet.pods.records import PodRecord
from peavine.kubelet.pods.status import Look, pod_status, status_patch
from peavine.machinery.errors import ApiError

if TYPE_CHECKING:
    from peavine.kubelet.pods.worker import PodWorker

log = logging.getLogger(__name__)
Object = dict[str, Any]
RETRY_SECONDS = 1.0


class Reporter:
    __slots__ = ("_latest", "_target", "_task", "_worker")

    def __init__(self, worker: PodWorker) -> None:
        self._worker = worker
        # The newest state of the pod that the API has shown or answered; None while the worker rests: its own.
        self._latest: Object | None = worker.pod
        self._target: Object | None = worker.pod.get("status")
        self._task: asyncio.Task[None] | None = None

    @property
    def known(self) -> Object:
        """The newest state of the pod that the API has shown or answered."""
        return self._worker.pod if self._latest is None else self._latest

    @property
    def status(self) -> Object | None:
        """What was worked out last, whether the API has it already or not."""
        return self._worker.pod.get("status") if self._latest is None else self._target

    @property
    def idle(self) -> bool:
        """Whether the API has been told everything."""
        return self._task is None or self._task.done()

    def rest(self) -> None:
        """The API has what we said: the worker's pod tells it."""
        self._latest = self._target = self._task = None

    def rouse(self) -> None:
        self._latest, self._target = self._worker.pod, self._worker.pod.get("status")

    def observe(self, pod: Object) -> None:
        if _version(pod) >= _version(self.known):
            self._latest = pod

    def mirror(self, pod: Object) -> None:
        """The mirror pod of a static pod: its status is what is written."""
        self._latest = pod
        if self.status is not None and (self._task is None or self._task.done()):
            self._task = self._worker.kubelet.scope.start(self._write(), name=f"status {self._worker.key}")

    def compute(self, record: PodRecord) -> Object:
        worker, kubelet = self._worker, self._worker.kubelet
        probes = kubelet.probes
        pod = {**worker.pod, "status": self._merged()}
        return pod_status(
            pod,
            record,
            Look(
                now=kubelet.clock.time(),
                host_ips=kubelet.host_ips(worker),
                runtime=kubelet.runtime_name,
                ready=lambda c, spec: c.id not in worker.hooks_pending and probes.ready(c.id, spec),
                started=lambda c, spec: c.id not in worker.hooks_pending and probes.started(c.id, spec),
                reasons=worker.reasons,
                termination=lambda c: termination.message(kubelet.paths, worker.uid, worker.pod, c),
                forced=worker.forced,
                finished=worker.finished,
                start_time=worker.first_seen,
                more_conditions=worker.more_conditions,
                pod_resources=worker.allocated.get("") or None,
                recursive=lambda name, path: (name, path) in worker.recursive,
                allocated=lambda spec: worker.allocated.get(spec["name"], spec.get("resources")) or None,
            ),
        )

    def _merged(self) -> Object:
        """What we said last, with the conditions that others have set."""
        known = self.known.get("status") or {}
        if not self.status:
            return known
        own = {c["type"]: c for c in self.status.get("conditions") or []}
        others = [c for c in known.get("conditions") or [] if c["type"] not in own]
        return {**known, **self.status, "conditions": [*own.values(), *others]}

    def report(self, record: PodRecord) -> None:
        """Have the state of `record` written soon; a newer report replaces one that is still waiting."""
        self._target = self.compute(record)
        if self._task is None or self._task.done():
            self._task = self._worker.kubelet.scope.start(self._write(), name=f"status {self._worker.key}")

    async def report_final(self, record: PodRecord) -> None:
        """Write the last state, and return once the API has it (or the pod is gone)."""
        self._target = self.compute(record)
        if self._task is not None and not self._task.done():
            await asyncio.wait([self._task])
        if not self._worker.gone_from_api:
            await self._write_once()

    async def _write(self) -> None:
        while True:
            try:
                if not await self._write_once():
                    if self._worker.kubelet.packs:
                        asyncio.get_running_loop().call_soon(self._worker.rest)
                    return
            except Exception as error:
                if not isinstance(error, (ApiError, Unreachable, ConnectionError)):
                    log.exception("status of pod %s", self._worker.key)
                log.info("status of pod %s is not written: %s", self._worker.key, error)
                await self._worker.kubelet.clock.sleep(RETRY_SECONDS)
                if self._worker.gone_from_api:
                    return

    async def _write_once(self) -> bool:
        """True if there is something newer by now than what was written."""
        wanted = self.status
        assert wanted is not None
        if self._worker.static_source and "resourceVersion" not in self.known["metadata"]:
            # No mirror pod yet: `mirror` comes back to this.
            return False
        patch = status_patch(self.known, wanted, drop=self._worker.drop_conditions)
        if patch is None:
            return False
        meta = self.known["metadata"]
        kubelet = self._worker.kubelet
        try:
            async with kubelet.reports:
                answer = await kubelet.pods_api.patch(
                    meta["name"], patch, meta.get("namespace", "default"), type="strategic", subresource="status"
                )
        except ApiError as error:
            # Gone, or replaced by another of the same name: nobody is interested any more.
            if error.code in (404, 409):
                return False
            raise
        if answer["metadata"].get("uid") == meta["uid"] and _version(answer) > _version(self.known):
            answer["metadata"].pop("managedFields", None)
            self._latest = answer
        # Only a newer state is written again: a difference that the server does not take is no reason to insist.
        return self.status is not wanted


def _version(pod: Object) -> int:
    """Resource versions of one resource are ordered numbers (KEP-5504)."""
    text = pod["metadata"].get("resourceVersion") or "0"
    return int(text) if text.isdigit() else 0
