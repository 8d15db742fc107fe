"""One pod's serial worker: reads what is, decides, acts, reports; one thing at a time.

Woken by the API (spec, deletion), by the runtime (a container ended), by probes, and by its own clock. Killed at any
instant, a new worker finds everything in the runtime again: nothing that matters is kept here.
"""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import shutil
import sys
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from peavine.api.core.podstate import unix_time
from peavine.client.transport import Unreachable
from peavine.kubelet.cri.runtime import RpcError
from peavine.kubelet.node.admission import Held
from peavine.kubelet.pods import actions as decide
from peavine.kubelet.pods import killing, resizing, starting
from peavine.kubelet.pods.environment import ConfigError
from peavine.kubelet.pods.packing import Packed
from peavine.kubelet.pods.records import POD_UID, Container, PodRecord, Sandbox, container_record, sandbox_record
from peavine.kubelet.pods.reporting import Reporter
from peavine.kubelet.volumes.manager import Volumes
from peavine.kubelet.volumes.source import VolumeError
from peavine.machinery.errors import ApiError

if TYPE_CHECKING:
    from peavine.kubelet.kubelet import Kubelet

log = logging.getLogger(__name__)

Object = dict[str, Any]

RETRY_SECONDS_FIRST, RETRY_SECONDS_MAX = 1.0, 60.0
EXIT_SHOWN_SECONDS_MAX = 5.0
SETTLE_SECONDS = 0.1


# Shared by all workers that have nothing to note.
NONE: frozenset[str] = frozenset()
EMPTY: Any = MappingProxyType({})


class PodWorker:
    __slots__ = (
        "_dirty",
        "_grace_changed",
        "_held",
        "_pod",
        "_record",
        "_refresh",
        "_retries",
        "_seen",
        "_seen_sandboxes",
        "_step",
        "_task",
        "_timer",
        "admitted",
        "allocated",
        "drop_conditions",
        "expected_exits",
        "finished",
        "first_seen",
        "forced",
        "gone_from_api",
        "grace",
        "held",
        "hooks_pending",
        "kubelet",
        "lost_sandboxes",
        "more_conditions",
        "node_name",
        "reasons",
        "recursive",
        "removed",
        "reporter",
        "static_source",
        "uid",
        "volumes",
    )

    def __init__(self, kubelet: Kubelet, pod: Object) -> None:
        self.kubelet = kubelet
        # While the worker rests, its pod is kept packed, and what the runtime knows is asked for when it is wanted.
        self._held: Packed | None = None
        self._pod: Object | None = pod
        self.uid: str = pod["metadata"]["uid"]
        self._record: PodRecord | None = PodRecord(self.uid)
        self.node_name: str = sys.intern((pod.get("spec") or {}).get("nodeName") or kubelet.options.node_name)
        self.held: Held = kubelet.shared(pod)
        self.static_source = ""
        self.reasons: dict[str, tuple[str, str]] = {}
        self.volumes: Volumes | None = None
        self.first_seen = kubelet.clock.time()
        # (phase, reason, message) when the kubelet itself has ended the pod
        self.forced: tuple[str, str, str] | None = None
        self.more_conditions: list[Object] = []
        # Conditions of ours that hold no longer and are to be taken away.
        self.drop_conditions: frozenset[str] = NONE
        # Container -> resources that it was granted.
        self.allocated: dict[str, Object] = {}
        # Seconds that everything gets to end, when the pod is being taken down; None while it lives.
        self.grace: float | None = None
        self._grace_changed: asyncio.Event | None = None
        self.finished = False
        self.gone_from_api = False
        self.removed = False
        self.admitted = False
        self.hooks_pending: frozenset[str] = NONE
        self.expected_exits: frozenset[str] = NONE
        self.lost_sandboxes: frozenset[str] = NONE
        # (container, mount path) of mounts that are read-only down to the last mount below.
        self.recursive: frozenset[tuple[str, str]] = frozenset()
        self.reporter = Reporter(self)
        self._seen: dict[str, Container] = {}
        self._seen_sandboxes: dict[str, Sandbox] = {}
        self._task: asyncio.Task[None] | None = None
        self._step: asyncio.Task[float | None] | None = None
        self._dirty = False
        self._refresh = False
        self._timer: asyncio.TimerHandle | asyncio.Task[None] | None = None
        self._retries = 0

    # ---- at rest and awake
    @property
    def pod(self) -> Object:
        """The newest state of the pod that the API has told."""
        if self._pod is not None:
            return self._pod
        assert self._held is not None
        return self._held.unpack()

    @pod.setter
    def pod(self, pod: Object) -> None:
        self._pod, self._held = pod, None

    @property
    def record(self) -> PodRecord:
        """What the runtime had of the pod at the last look."""
        if self._record is not None:
            return self._record
        return self.kubelet.recall(self.uid)

    @record.setter
    def record(self, record: PodRecord) -> None:
        self._record = record

    @property
    def resting(self) -> bool:
        return self._held is not None

    def rest(self) -> None:
        """Let go of everything that can be had again. Only with a runtime that recalls at once (the simulated one)."""
        if self._task is not None or self._dirty or self._pod is None or not self.reporter.idle:
            return
        held = self.kubelet.packed(self._pod, newest=self.reporter.known)
        if held is None or len(self.record.containers) > len(_specs(self._pod)):
            # Dead containers are collected by the housekeeping, which leaves the resting alone.
            return
        self._held, self._pod, self._record = held, None, None
        self._seen = self._seen_sandboxes = EMPTY
        self._grace_changed = self.volumes = None
        self.reporter.rest()

    def rouse(self) -> None:
        """The opposite of `rest`."""
        if self._held is not None:
            self.pod = self._held.unpack()
            self.record = self.kubelet.recall(self.uid)
            self.reporter.rouse()

    @property
    def grace_changed(self) -> asyncio.Event:
        if self._grace_changed is None:
            self._grace_changed = asyncio.Event()
        return self._grace_changed

    # ---- being woken
    @property
    def key(self) -> str:
        meta = self.pod["metadata"]
        return f"{meta.get('namespace', 'default')}/{meta['name']}"

    @property
    def described(self) -> str:
        """As upstream writes a pod in messages."""
        meta = self.pod["metadata"]
        return f"{meta['name']}_{meta.get('namespace', 'default')}({self.uid})"

    def wake(self, *, refresh_volumes: bool = False) -> None:
        """Look again, now or as soon as the present look is over."""
        self._dirty = True
        self._refresh = self._refresh or refresh_volumes
        self.rouse()
        if self._task is None and not self.removed:
            self._task = self.kubelet.scope.start(self._run(), name=f"pod {self.key}")

    def note_exit(self, identity: str) -> None:
        """The runtime says that a container, or the sandbox itself, has ended; its books may show it only later."""
        if any(sandbox.id == identity for sandbox in self.record.sandboxes):
            self.lost_sandboxes |= {identity}
        else:
            self.expected_exits |= {identity}

    def update(self, pod: Object) -> None:
        """The API has a new state of the pod."""
        self.rouse()
        old, self.pod = self.pod, pod
        self.reporter.observe(pod)
        meta = pod["metadata"]
        if meta.get("deletionTimestamp"):
            grace = meta.get("deletionGracePeriodSeconds")
            self.end(float(30 if grace is None else grace))
        elif old["metadata"].get("generation") != meta.get("generation") or old.get("spec") != pod.get("spec"):
            self.wake()
        elif _others_conditions(old) != _others_conditions(pod) or any(
            old["metadata"].get(field) != meta.get(field) for field in ("labels", "annotations")
        ):
            self.wake(refresh_volumes=True)
        elif self.kubelet.packs:
            self.rest()

    def delete(self) -> None:
        """The pod is gone from the API; take it down with what grace it was given."""
        self.gone_from_api = True
        spec = self.pod.get("spec") or {}
        meta = self.pod["metadata"]
        grace = meta.get("deletionGracePeriodSeconds")
        if grace is None:
            grace = spec.get("terminationGracePeriodSeconds")
        self.end(float(30 if grace is None else grace))

    def end(self, grace: float, *, forced: tuple[str, str, str] | None = None) -> None:
        """Take the pod down. A second call may only shorten the time that its containers have."""
        if forced is not None and self.forced is None:
            self.forced = forced
        first = self.grace is None
        if first or (self.grace is not None and grace < self.grace):
            self.grace = grace
            self.grace_changed.set()
        if first and self._step is not None and not self.finished:
            # Whatever was being done to bring it up (a pull, a hook, a wait for a volume) is moot.
            self._step.cancel()
        self.wake()

    def _later(self, seconds: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self.kubelet.call_later(max(0.0, seconds), self.wake)

    # ---- the loop
    async def _run(self) -> None:
        try:
            while self._dirty and not self.removed:
                self._dirty = False
                self._step = self.kubelet.scope.start(self._guarded(), name=f"step {self.key}")
                try:
                    delay = await self._step
                except asyncio.CancelledError:
                    current = asyncio.current_task()
                    if current is not None and current.cancelling():
                        self._step.cancel()
                        raise
                    continue
                finally:
                    self._step = None
                if delay is not None and not self._dirty:
                    self._later(delay)
        finally:
            self._task = None
            if self._dirty and not self.removed and not self.kubelet.stopping:
                self.wake()
            elif self.kubelet.packs:
                self.rest()

    async def _guarded(self) -> float | None:
        """One look; returns the seconds until the next one is due (None: only when woken)."""
        try:
            delay = await (self._look() if self.grace is None else self._take_down())
            self._retries = 0
            return delay
        except (RpcError, ApiError, Unreachable, VolumeError, ConfigError, OSError) as error:
            log.info("pod %s: %s", self.key, error)
        except Exception:
            # A mistake of ours with one pod must not end the others' kubelet.
            log.exception("pod %s", self.key)
        self._retries += 1
        return min(RETRY_SECONDS_MAX, RETRY_SECONDS_FIRST * 2 ** min(10, self._retries - 1))

    async def read_record(self) -> PodRecord:
        """What the runtime has of this pod. Statuses that cannot change any more are not asked for twice."""
        runtime, labels = self.kubelet.runtime, {POD_UID: self.uid}
        listed, containers = await asyncio.gather(runtime.list_sandboxes(labels), runtime.list_containers(labels))
        meta = self.pod["metadata"]
        record = PodRecord(self.uid, meta["name"], meta.get("namespace", "default"))
        for item in listed:
            known = self._seen_sandboxes.get(item["id"])
            if known is None or known.ready != (item.get("state", 0) == 0):
                try:
                    known = sandbox_record(await runtime.sandbox_status(item["id"]))
                except RpcError as error:
                    if error.code == "NOT_FOUND":
                        continue
                    raise
            if item["id"] in self.lost_sandboxes:
                known = dataclasses.replace(known, ready=False)
            record.sandboxes.append(known)
        for item in containers:
            cached = self._seen.get(item["id"])
            stale = cached is None or cached.state != ("created", "running", "exited", "unknown")[item.get("state", 0)]
            if stale or item["id"] in self.expected_exits:
                try:
                    cached = await self._status_of(item["id"], item.get("pod_sandbox_id", ""))
                except RpcError as error:
                    if error.code == "NOT_FOUND":
                        continue
                    raise
            assert cached is not None
            record.containers.append(cached)
        record.sandboxes.sort(key=lambda s: s.created_at, reverse=True)
        record.containers.sort(key=lambda c: c.created_at, reverse=True)
        self._seen = {c.id: c for c in record.containers}
        self._seen_sandboxes = {s.id: s for s in record.sandboxes}
        self.lost_sandboxes &= frozenset(self._seen_sandboxes)
        self.record = record
        self.kubelet.watch.index(self)
        return record

    async def _status_of(self, container_id: str, sandbox_id: str) -> Container:
        """The status; of a container whose end was announced, once the runtime's own books show it."""
        pause, waited = 0.005, 0.0
        while True:
            found = container_record(await self.kubelet.runtime.container_status(container_id), sandbox_id)
            if container_id not in self.expected_exits or found.state == "exited" or waited > EXIT_SHOWN_SECONDS_MAX:
                self.expected_exits -= {container_id}
                return found
            await self.kubelet.clock.sleep(pause)
            waited, pause = waited + pause, min(0.1, pause * 2)

    async def _look(self) -> float | None:
        """Bring a living pod nearer to its spec."""
        kubelet, pod = self.kubelet, self.pod
        record = await self.read_record()
        if (pod.get("status") or {}).get("phase") in ("Succeeded", "Failed"):
            self.admitted = True
            self.end(0.0)
            return 0.0
        if not self.admitted:
            refusal = await kubelet.admit(self)
            if refusal is not None:
                reason, message = refusal
                kubelet.recorder.event(pod, "Warning", reason, message)
                self.end(0.0, forced=("Failed", reason, f"Pod was rejected: {message}"))
                return 0.0
            self.admitted = True
            if self.grace is not None:
                return 0.0
            kubelet.adopt_probe_results(self)
            resizing.load(self)
        deadline = self._deadline_left()
        if deadline is not None and deadline <= 0:
            message = "Pod was active on the node longer than the specified deadline"
            kubelet.recorder.event(pod, "Normal", "DeadlineExceeded", message)
            self.end(self._own_grace(), forced=("Failed", "DeadlineExceeded", message))
            return 0.0
        self.reporter.report(record)
        if not kubelet.network_ready and not (pod.get("spec") or {}).get("hostNetwork"):
            message = f"network is not ready: {kubelet.network_message}"
            kubelet.recorder.event(pod, "Warning", "NetworkNotReady", message)
            return 1.0
        if kubelet.options.cgroups:
            kubelet.objects.register(pod)
        plan = decide.next_actions(pod, record, self.verdicts())
        if (settling := self._settling(plan, record)) > 0:
            return settling
        if self.volumes is None or self._refresh:
            self._refresh = False
            await self._mount()
        if _is_over(pod, record, plan):
            self.end(self._own_grace())
            self.reporter.report(record)
            return 0.0
        if resizing.changed(self, record) or resizing.pod_changed(self) or self.more_conditions:
            await resizing.resize(self, record)
        delay = await self._act(plan, record)
        record = await self.read_record()
        self.watch_probes(record)
        self.reporter.report(record)
        again = decide.next_actions(pod, record, self.verdicts())
        if _is_over(pod, record, again):
            self.end(self._own_grace())
            return 0.0
        if delay is None and (again.start or again.start_init or again.create_sandbox):
            # Something has ended or come through meanwhile.
            delay = 0.0 if not self.reasons else 1.0
        ageing = kubelet.options.sync_frequency_seconds if self._is_live() else None
        return min((due for due in (delay, self._deadline_left(), ageing) if due is not None), default=None)

    def _settling(self, plan: decide.Actions, record: PodRecord) -> float:
        """Seconds to wait before a container that has just ended is started again.

        If its sandbox is going down, its containers end first: a new one would start into nothing.
        """
        now = self.kubelet.clock.time()
        ends = [
            last.finished_at / 1e9
            for spec in [*plan.start, *plan.start_init]
            if (last := record.latest(spec["name"])) is not None and last.state == "exited"
        ]
        return max((end + SETTLE_SECONDS - now for end in ends if end > 0), default=0.0)

    def _is_live(self) -> bool:
        """Whether a volume has content that ages (tokens)."""
        return self.kubelet.options.cgroups and any(
            "projected" in v for v in (self.pod.get("spec") or {}).get("volumes") or []
        )

    def verdicts(self) -> decide.Verdicts:
        probes = self.kubelet.probes
        failed = {c.id: c for c in self.record.running()}
        by_name = {c["name"]: c for c in _specs(self.pod)}
        return decide.Verdicts(
            failed_liveness={i for i in failed if probes.failed(i, "liveness")},
            failed_startup={i for i in failed if probes.failed(i, "startup")},
            started=lambda i: probes.started(i, by_name.get(failed[i].name, {})) if i in failed else True,
            hook_pending=self.hooks_pending,
        )

    def watch_probes(self, record: PodRecord) -> None:
        by_name = {c["name"]: c for c in _specs(self.pod)}
        for container in record.running():
            spec = by_name.get(container.name)
            if spec is not None and container.id not in self.hooks_pending:
                self.kubelet.watch_probes(self, spec, container)

    async def _mount(self) -> None:
        pod, kubelet = self.pod, self.kubelet
        try:
            found = await kubelet.volumes.set_up(pod)
        except VolumeError as error:
            kubelet.recorder.event(pod, "Warning", "FailedMount", str(error))
            raise
        self.volumes = found

    async def _act(self, plan: decide.Actions, record: PodRecord) -> float | None:
        """Kills, then the sandbox, then starts. Returns seconds until a back-off ends."""
        kubelet = self.kubelet
        if plan.kill_pod and record.sandboxes:
            for sandbox in record.sandboxes:
                if sandbox.ready or record.running():
                    message = "Pod sandbox changed, it will be killed and re-created."
                    kubelet.recorder.event(self.pod, "Normal", "SandboxChanged", message)
                    break
            await killing.kill_containers(self, record.running(), "", None)
            await killing.stop_sandboxes(self, record)
        for kill in plan.kill:
            await killing.kill_container(self, kill.container, kill.spec, kill.message, None, kill.reason)
        sandbox_id = plan.sandbox.id if plan.sandbox is not None else ""
        if kubelet.dynamic is not None and (plan.create_sandbox or plan.start or plan.start_init):
            try:
                await kubelet.dynamic.prepare(self)
            except ConfigError as error:
                message = f"Failed to prepare dynamic resources: {error}"
                kubelet.recorder.event(self.pod, "Warning", "FailedPrepareDynamicResources", message)
                raise
        if plan.create_sandbox:
            sandbox = await starting.start_sandbox(self, plan.attempt)
            sandbox_id = sandbox.id
            record.sandboxes.insert(0, sandbox)
            self.reporter.report(record)
        if not sandbox_id:
            return None
        delays = []
        for spec in [*plan.start_ephemeral, *plan.start_init, *plan.start]:
            delays.append(await starting.start_container(self, spec, sandbox_id))
        waits = [d for d in delays if d is not None]
        return min(waits) if waits else None

    def _deadline_left(self) -> float | None:
        limit = (self.pod.get("spec") or {}).get("activeDeadlineSeconds")
        if limit is None:
            return None
        started = unix_time((self.reporter.status or {}).get("startTime"))
        return None if started is None else started + limit - self.kubelet.clock.time()

    def _own_grace(self) -> float:
        grace = (self.pod.get("spec") or {}).get("terminationGracePeriodSeconds")
        return float(30 if grace is None else grace)

    # ---- the end
    async def _take_down(self) -> float | None:
        """End everything, report it, give everything back; then the API may forget the pod."""
        kubelet = self.kubelet
        record = await self.read_record()
        if not self.finished:
            self.reporter.report(record)
            running = record.running()
            if running:
                assert self.grace is not None
                await killing.kill_pod(self, record)
            await killing.stop_sandboxes(self, record)
            kubelet.probes.forget(self.uid)
            record = await self.read_record()
            if record.running():
                return 0.5
            if kubelet.dynamic is not None:
                await kubelet.dynamic.unprepare(self.uid)
            self.finished = True
        await self.reporter.report_final(record)
        kubelet.release(self)
        if not (self.pod["metadata"].get("deletionTimestamp") or self.gone_from_api):
            # It has ended by itself: containers and logs stay until somebody deletes it.
            await kubelet.volumes.tear_down_volumes(self.uid)
            await self._remove_cgroup()
            return None
        if not await kubelet.volumes.tear_down(self.uid):
            return 1.0
        await self._remove_cgroup()
        await self._remove_from_runtime(record)
        if not self.gone_from_api and not self.static_source:
            await self._delete_from_api()
        if kubelet.options.cgroups:
            shutil.rmtree(kubelet.paths.logs(self.pod), ignore_errors=True)
        self.removed = True
        if self._timer is not None:
            self._timer.cancel()
        kubelet.forget(self)
        return None

    async def _remove_cgroup(self) -> None:
        if self.kubelet.options.cgroups:
            from peavine.linux import cgroups

            await cgroups.remove_tree(self.kubelet.pod_group(self.pod))

    async def _remove_from_runtime(self, record: PodRecord) -> None:
        runtime = self.kubelet.runtime
        for container in record.containers:
            await _ignoring_missing(runtime.remove_container(container.id))
        for sandbox in record.sandboxes:
            await _ignoring_missing(runtime.remove_sandbox(sandbox.id))

    async def _delete_from_api(self) -> None:
        meta = self.pod["metadata"]
        try:
            await self.kubelet.pods_api.delete(
                meta["name"], meta.get("namespace", "default"), grace_period_seconds=0, uid=self.uid
            )
        except ApiError as error:
            # Gone, or another pod of the same name by now.
            if error.code not in (404, 409):
                raise

    def container_dir(self, name: str) -> Path:
        return self.kubelet.paths.container(self.uid, name)


async def _ignoring_missing(call: Any) -> None:
    try:
        await call
    except RpcError as error:
        if error.code != "NOT_FOUND":
            raise


def _is_over(pod: Object, record: PodRecord, plan: decide.Actions) -> bool:
    """Whether the pod has ended for good: nothing runs that counts, and nothing is to be started."""
    if decide.init_failed(pod, record):
        return True
    containers = (pod.get("spec") or {}).get("containers") or []
    if plan.start or plan.start_init or plan.create_sandbox or not containers:
        return False
    statuses = [record.latest(c["name"]) for c in containers]
    return all(s is not None and s.state == "exited" for s in statuses)


def _specs(pod: Object) -> list[Object]:
    spec = pod.get("spec") or {}
    return [
        *(spec.get("initContainers") or []),
        *(spec.get("containers") or []),
        *(spec.get("ephemeralContainers") or []),
    ]


def _others_conditions(pod: Object) -> dict[str, Any]:
    from peavine.kubelet.pods.status import OWN_CONDITIONS

    return {
        c["type"]: c.get("status")
        for c in (pod.get("status") or {}).get("conditions") or []
        if c["type"] not in OWN_CONDITIONS
    }
