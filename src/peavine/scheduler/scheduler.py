"""The loop: watches feed the cluster's picture and the queue; pods are placed one after the other; bindings, conditions
and events go out concurrently.

Placing a pod is synchronous arithmetic on the picture, so nothing changes under it. A placed pod is assumed to be on
its node at once; if its binding fails the assumption is taken back and the pod tried again. Nothing that matters lives
only here: a scheduler that is killed finds every pod again, bound or pending.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import random
import time
from collections import Counter
from collections.abc import Coroutine
from typing import Any

import numpy as np

from peavine.base.clock import REAL, Clock, wait_until
from peavine.base.lifetimes import Scope, scope
from peavine.client import Client, EventRecorder, InformerFactory
from peavine.client.transport import Unreachable
from peavine.machinery.errors import ApiError
from peavine.scheduler import claims, metrics, volumes
from peavine.scheduler.cluster import Cluster
from peavine.scheduler.config import Configuration
from peavine.scheduler.context import Context
from peavine.scheduler.evaluation import Evaluation, Evaluations, Profile, Reasons, Rejected
from peavine.scheduler.extenders import ExtenderError, Filtered, HttpExtender, filtered, preempted, rated
from peavine.scheduler.intake import Intake
from peavine.scheduler.messages import CLAIM_FREED, CLAIMS_STAY, NO_CLAIMS, NO_NODES, STALE_CLAIM, fit_error
from peavine.scheduler.plugin_args import seconds_of
from peavine.scheduler.plugins.dynamic_resources import Allocations, allocations_for, idle_claim_elsewhere
from peavine.scheduler.plugins.volume_binding import Decision, decision_for
from peavine.scheduler.preemption import Candidate, Outcome, Preemption
from peavine.scheduler.profiles import default_profile
from peavine.scheduler.queue import Queued, SchedulingQueue
from peavine.scheduler.sampling import Sampling
from peavine.scheduler.template import Object, Pod, Templates
from peavine.scheduler.writes import Writes, condition_patch

log = logging.getLogger(__name__)

_AFFINITY = "NodeAffinity"
_BINDING = metrics.TASKS.labels("binding")
_DEVICES = frozenset(("DynamicResources",))
CALLS_MAX = 64  # requests under way at once
PLACEMENTS_AT_ONCE = 32  # before the loop's other work gets its turn


class Scheduler:
    def __init__(
        self,
        client: Client,
        configuration: Configuration | None = None,
        *,
        informers: InformerFactory | None = None,
        clock: Clock = REAL,
        random_source: random.Random | None = None,
    ) -> None:
        self._client, self._clock = client, clock
        self._random = random_source or random.Random()
        self.configuration = configuration or Configuration((default_profile(),))
        self.profiles = {profile.name: profile for profile in self.configuration.profiles}
        self.extenders = [HttpExtender(extender) for extender in self.configuration.extenders]
        self.informers = informers or InformerFactory(client, clock=clock)
        self._work = asyncio.Event()
        self.queue = SchedulingQueue(
            clock,
            backoff_seconds=self.configuration.backoff_seconds,
            backoff_seconds_max=self.configuration.backoff_seconds_max,
            wake=self._work.set,
            moved=_count_incoming,
            gated=self._is_gated,
        )
        self.cluster = Cluster()
        self.templates = Templates()
        self.intake = Intake(
            self.informers, self.cluster, self.queue, self.templates, self.profiles, whole_pods=bool(self.extenders)
        )
        self.context: Context = self.intake.context
        self.evaluations = Evaluations(self.context)
        self.preemption = {
            name: Preemption(
                self.context,
                self._random,
                profile.args.get("DefaultPreemption", {}).get("minCandidateNodesPercentage", 10),
                profile.args.get("DefaultPreemption", {}).get("minCandidateNodesAbsolute", 100),
            )
            for name, profile in self.profiles.items()
            if profile.has("postFilter", "DefaultPreemption")
        }
        self._sampling = {name: Sampling(profile.percentage) for name, profile in self.profiles.items()}
        self.recorders = {name: EventRecorder(client, name, clock=clock) for name in self.profiles}
        self._pods = client.resource("v1", "pods")
        self._calls = asyncio.Semaphore(CALLS_MAX)
        self._writes = Writes(client, self._calls, clock)
        self._tasks: Scope | None = None
        self._plugins_shown: set[tuple[str, str]] = set()  # in the gauge of unschedulable pods

    async def run(self) -> None:
        """Until cancelled. Everything needed is read from the API server first."""
        async with scope() as tasks:
            self._tasks = tasks
            tasks.start(self.informers.run(), name="informers")
            for name, recorder in self.recorders.items():
                tasks.start(recorder.run(), name=f"events of {name}")
            await self.intake.synced()
            log.info(
                "%d nodes, %d pods bound, %d pending", len(self.cluster.nodes), len(self.cluster.pods), len(self.queue)
            )
            await self._loop()

    async def _loop(self) -> None:
        while True:
            for _ in range(PLACEMENTS_AT_ONCE):
                queued = self.queue.pop()
                if queued is None:
                    break
                if self.extenders:
                    await self._schedule_extended(queued)
                else:
                    self._schedule(queued)
            else:
                await self._clock.sleep(0)
                continue
            self._set_gauges()
            self._work.clear()
            seconds = self.queue.ready_in()
            if seconds is None:
                await self._work.wait()
            else:
                await wait_until(self._work.wait(), seconds, self._clock)

    # One pod

    def _schedule(self, queued: Queued) -> None:
        pod = queued.pod
        profile = self._profile_for(pod)
        if profile is None:
            return
        started = time.perf_counter()
        if profile.broken:
            self._failed(profile, queued, profile.broken, started)
            return
        try:
            row = self._place(profile, pod)
        except Refused as refused:
            self._unschedulable(profile, queued, refused, started)
            return
        self._placed(profile, queued, row, started)

    def _is_gated(self, pod: Pod) -> bool:
        """Whether the pod must not be looked at yet: profiles may leave out the plugin that keeps such pods back."""
        profile = self.profiles.get(pod.template.scheduler_name)
        return pod.template.gated and (profile is None or profile.has("preEnqueue", "SchedulingGates"))

    def _profile_for(self, pod: Pod) -> Profile | None:
        """None where there is nothing to do for the pod."""
        if pod.deleting or pod.key in self.cluster.pods:
            return None
        self.cluster.denominate(pod.key)  # its own promise does not stand in its way
        return self.profiles.get(pod.template.scheduler_name)

    def _placed(self, profile: Profile, queued: Queued, row: int, started: float) -> None:
        pod = queued.pod
        metrics.ALGORITHM_SECONDS.observe(time.perf_counter() - started)
        decision = allocations = None
        try:
            if pod.template.volumes and _reserves(profile, "VolumeBinding"):
                decision = decision_for(self.context, pod, row)
            if (pod.template.resource_claims or pod.template.extended) and _reserves(profile, "DynamicResources"):
                allocations = allocations_for(self.context, pod, row)
        except Rejected as rejected:
            self._unschedulable(profile, queued, self._rejected(rejected), started)
            return
        self._assume(pod, self.cluster.nodes.names[row])
        if decision is not None:
            volumes.promise(self.context, decision)
        if allocations is not None:
            claims.promise(self.context, allocations)
        self._start(self._bind(profile, queued, decision, allocations, started))

    def _place(self, profile: Profile, pod: Pod) -> int:
        """The row for a pod. Raises `Refused`."""
        if not len(self.cluster.nodes):
            raise Refused(NO_NODES)
        if pod.template.extended and (stale := claims.left_over(self.context, pod)) is not None:
            # Of a try that failed: its devices are free only when it is gone, which will wake the pod.
            self._start(claims.discard(self._client, stale))
            raise Refused(fit_error(len(self.cluster.nodes), Counter({STALE_CLAIM: len(self.cluster.nodes)})), _DEVICES)
        evaluation = self.evaluations.of(profile, pod.template)
        try:
            row = self._choose(profile, evaluation, pod)
            if row is not None:
                return row
        except Rejected as rejected:
            raise self._rejected(rejected) from rejected
        raise self._refused(profile, evaluation, pod)

    def _rejected(self, rejected: Rejected) -> Refused:
        text = fit_error(len(self.cluster.nodes), Counter(), rejected.message)
        return Refused(text, frozenset((rejected.plugin,)))

    def _refused(self, profile: Profile, evaluation: Evaluation, pod: Pod, extended: Filtered | None = None) -> Refused:
        """Why the pod fits nowhere, and what preemption can do about it."""
        nodes = self.cluster.nodes
        shared = extended is None and not pod.pinned and not pod.nominated
        if shared and (known := evaluation.noted()) is not None:
            return Refused(*known)
        only = nodes.row_of.get(pod.pinned, -1) if pod.pinned else None
        reasons = evaluation.reasons(only)
        if pod.pinned:
            # The pod's affinity names one node: the others are out by that alone.
            others = len(nodes) - (only != -1)
            counts = reasons.counts + Counter({f"node(s) didn't satisfy plugin(s) [{_AFFINITY}]": others})
            hopeless = reasons.hopeless.copy()
            hopeless[np.arange(nodes.capacity) != only] = True
            reasons = Reasons(counts, reasons.plugins | {_AFFINITY}, hopeless)
        if extended is not None:
            hopeless = reasons.hopeless.copy()
            hopeless[[nodes.row_of[name] for name in extended.hopeless if name in nodes.row_of]] = True
            reasons = Reasons(reasons.counts + extended.reasons, frozenset(), hopeless)
        preemption = self.preemption.get(profile.name)
        after = []
        if profile.has("postFilter", "DynamicResources"):
            after.append(self._free_claim(pod) if pod.template.resource_claims else NO_CLAIMS)
        if preemption is None:
            return Refused(fit_error(len(nodes), reasons.counts, after=", ".join(after)), reasons.plugins)
        started = time.perf_counter()
        outcome = preemption.try_for(pod, evaluation, reasons)
        status = "Success" if outcome.candidate else "Unschedulable"
        metrics.point_seconds("PostFilter", status, profile.name).observe(time.perf_counter() - started)
        after = [] if outcome.candidate else [*after, f"preemption: {outcome.refusal}"]
        conclusion = fit_error(len(nodes), reasons.counts, after=", ".join(after)), reasons.plugins, outcome
        if shared and outcome.candidate is None:
            evaluation.note(conclusion)  # a thousand pods that wait for the same thing cost one look
        return Refused(*conclusion)

    def _free_claim(self, pod: Pod) -> str:
        """Free an idle claim that keeps the pod from a node; what DynamicResources says to that."""
        claim = idle_claim_elsewhere(self.context, pod)
        if claim is None:
            return CLAIMS_STAY
        resource = self._client.resource("resource.k8s.io/v1", "resourceclaims")
        self._start(claims.free(resource, claim))
        return CLAIM_FREED

    # With extenders: the same, with questions to others in between

    async def _schedule_extended(self, queued: Queued) -> None:
        pod = queued.pod
        if not any(extender.is_interested(pod) for extender in self.extenders):
            self._schedule(queued)
            return
        profile = self._profile_for(pod)
        if profile is None:
            return
        started = time.perf_counter()
        if profile.broken:
            self._failed(profile, queued, profile.broken, started)
            return
        try:
            row = await self._place_extended(profile, pod)
        except Refused as refused:
            try:
                await self._preempt_extended(profile, pod, refused)
            except ExtenderError as error:
                self._failed(profile, queued, str(error), started)
                return
            self._unschedulable(profile, queued, refused, started)
        except ExtenderError as error:
            self._failed(profile, queued, str(error), started)
        else:
            self._placed(profile, queued, row, started)

    async def _preempt_extended(self, profile: Profile, pod: Pod, refused: Refused) -> None:
        """Let extenders have their say about which node is cleared of whom. Raises ExtenderError."""
        if refused.preemption.candidate is None:
            return
        found = self.preemption[profile.name].candidates(pod)
        left = await preempted(self.extenders, pod, found, set(self.cluster.nodes.row_of))
        best = min(left.values(), default=None)
        refused.preemption = Outcome(best)

    async def _place_extended(self, profile: Profile, pod: Pod) -> int:
        """Raises `Refused`, ExtenderError."""
        nodes = self.cluster.nodes
        if not len(nodes):
            raise Refused(NO_NODES)
        evaluation = self.evaluations.of(profile, pod.template)
        try:
            while True:
                feasible = evaluation.feasible()
                rows = [
                    int(row) for row in np.flatnonzero(feasible) if not pod.pinned or nodes.names[row] == pod.pinned
                ]
                if not rows:
                    raise self._refused(profile, evaluation, pod)
                objects: dict[str, Object] = {nodes.names[row]: nodes.objects[row] or {} for row in rows}
                left = await filtered(self.extenders, pod, objects)
                if not left.nodes:
                    raise self._refused(profile, evaluation, pod, left)
                remaining = {name: objects[name] for name in left.nodes if name in objects}
                bonus = await rated(self.extenders, pod, remaining)
                # The cluster may have changed while they were asked.
                now = evaluation.feasible()
                fitting = [nodes.row_of[name] for name in remaining if name in nodes.row_of]
                fitting = [row for row in fitting if now[row] and self._keeps_promises(evaluation, pod, row)]
                if fitting:
                    among = np.zeros_like(now)
                    among[fitting] = True
                    totals = evaluation.totals(among)
                    return max(fitting, key=lambda row: int(totals[row]) + bonus[nodes.names[row]])
        except Rejected as rejected:
            raise self._rejected(rejected) from rejected

    def _choose(self, profile: Profile, evaluation: Evaluation, pod: Pod) -> int | None:
        """One of the best rows; a row that has promises to keep is looked at more closely before it is taken."""
        if named := pod.pinned or pod.nominated:
            at = self.cluster.nodes.row_of.get(named)
            if at is not None and evaluation.feasible()[at] and self._keeps_promises(evaluation, pod, at):
                return at
            if pod.pinned:
                return None
        excluded: list[int] = []
        among = None
        started = time.perf_counter()
        evaluation.attempts += 1
        feasible = evaluation.feasible()
        found = time.perf_counter()
        metrics.point_seconds("Filter", "Success", profile.name).observe(found - started)
        if profile.percentage:
            among = self._sampling[profile.name].narrowed(feasible, self.cluster.nodes.present)
        while True:
            rows, _ = evaluation.best(excluded or None, among)
            if not len(rows):
                return None
            if not excluded:
                metrics.point_seconds("Score", "Success", profile.name).observe(time.perf_counter() - found)
            row = int(rows[self._random.randrange(len(rows))] if len(rows) > 1 else rows[0])
            if self._keeps_promises(evaluation, pod, row):
                return row
            excluded.append(row)

    def _keeps_promises(self, evaluation: Evaluation, pod: Pod, row: int) -> bool:
        """Whether the pod fits beside those that were promised the node and are at least as important. (Their resources
        are in the arrays already; this is about ports, spreading and affinity.)"""
        promised = self.cluster.nominated_on.get(self.cluster.nodes.names[row])
        if not promised:
            return True
        guests = [p for p in promised.values() if p.priority >= pod.priority and p.key != pod.key]
        if evaluation.only_resources() and not any(p.template.anti_affinity_terms for p in guests):
            return True
        with self.cluster.tentative():
            for guest in guests:
                self.cluster.denominate(guest.key)
                self.cluster.put_back(guest, row)
            fits = evaluation.fits(row)
            for guest in guests:
                self.cluster.lift(guest, row)
                self.cluster.nominate(guest, guest.nominated)
        return fits

    def _assume(self, pod: Pod, node: str) -> None:
        pod.node = node
        self.cluster.add_pod(pod)
        self.intake.assumed.add(pod.key)

    def _forget(self, pod: Pod) -> None:
        self.intake.assumed.discard(pod.key)
        if self.cluster.pods.get(pod.key) is pod:
            self.cluster.remove_pod(pod.key)
            self.intake.happened("AssignedPod/Delete", None, pod.object)
        pod.node = ""

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        assert self._tasks is not None
        self._tasks.start(work)

    async def _bind(
        self,
        profile: Profile,
        queued: Queued,
        decision: Decision | None,
        allocations: Allocations | None,
        started: float,
    ) -> None:
        pod = queued.pod
        binding = {
            "apiVersion": "v1",
            "kind": "Binding",
            "metadata": {"name": pod.name, "namespace": pod.namespace, "uid": pod.uid},
            "target": {"kind": "Node", "name": pod.node},
        }
        node = pod.node
        _BINDING.inc()
        try:
            began = time.perf_counter()
            if decision is not None:
                seconds = profile.args.get("VolumeBinding", {}).get("bindTimeoutSeconds") or volumes.BIND_SECONDS_MAX
                await volumes.bind(self.context, self._client, decision, node, float(seconds))
            if allocations is not None:
                limit = profile.args.get("DynamicResources", {}).get("bindingTimeout")
                seconds = claims.BINDING_SECONDS if limit is None else seconds_of(limit)
                await claims.bind(self.context, self._client, allocations, pod, seconds)
            if decision is not None or allocations is not None:
                metrics.point_seconds("PreBind", "Success", profile.name).observe(time.perf_counter() - began)
            binder = next((e for e in self.extenders if e.about.bind_verb and e.is_interested(pod)), None)
            async with self._calls:
                began = time.perf_counter()
                if binder is not None:
                    await binder.bind(pod, node)
                else:
                    await self._pods.create_subresource(pod.name, "binding", binding, pod.namespace)
                metrics.point_seconds("Bind", "Success", profile.name).observe(time.perf_counter() - began)
        except (
            ApiError,
            Unreachable,
            ConnectionError,
            TimeoutError,
            volumes.VolumesNotBound,
            claims.DevicesNotBound,
            ExtenderError,
        ) as error:
            self._not_bound(profile, queued, error, started)
            return
        finally:
            _BINDING.dec()
        _count_attempt(profile, "scheduled", started)
        metrics.POD_ATTEMPTS.observe(queued.attempts + 1)
        waited = self._clock.monotonic() - queued.first
        _sli(min(queued.attempts + 1, 16)).observe(waited)
        self.recorders[profile.name].event(
            pod.object, "Normal", "Scheduled", f"Successfully assigned {pod.namespace}/{pod.name} to {node}"
        )

    def _not_bound(self, profile: Profile, queued: Queued, error: Exception, started: float) -> None:
        """Take the assumption back. A pod that is gone or bound elsewhere needs no new try; the watch tells which."""
        pod, node = queued.pod, queued.pod.node
        log.warning("binding of %s/%s to %s: %s", pod.namespace, pod.name, node, error)
        self._forget(pod)
        if not isinstance(error, ApiError) or error.code != 404:
            self._failed(profile, queued, f"binding rejected: {error}", started)

    def _failed(self, profile: Profile, queued: Queued, message: str, started: float) -> None:
        """Something other than the cluster kept the pod from its node: say so and try again after a while."""
        pod = queued.pod
        _count_attempt(profile, "error", started)
        current = self.intake.pending(pod.key)
        if current is None or current.uid != pod.uid:
            return
        queued.pod = current
        self.queue.retry(queued)
        self.recorders[profile.name].event(pod.object, "Warning", "FailedScheduling", message)
        self._set_condition(current, "SchedulerError", message)

    # Pods that fit nowhere

    def _unschedulable(self, profile: Profile, queued: Queued, refused: Refused, started: float) -> None:
        pod, outcome = queued.pod, refused.preemption
        metrics.ALGORITHM_SECONDS.observe(time.perf_counter() - started)
        _count_attempt(profile, "unschedulable", started)
        if outcome.candidate is not None:
            self._nominate(profile, pod, outcome.candidate)
        elif outcome.keeps_nomination and pod.nominated:
            self.cluster.nominate(pod, pod.nominated)
        else:
            pod.nominated = ""
        # Until its victims are told to go, no event can help it.
        self.queue.failed(queued, refused.plugins, held=outcome.candidate is not None)
        self.recorders[profile.name].event(pod.object, "Warning", "FailedScheduling", refused.message)
        self._set_condition(pod, "Unschedulable", refused.message)

    # Preemption

    def _nominate(self, profile: Profile, pod: Pod, candidate: Candidate) -> None:
        """Promise the pod the node and have its victims removed. The pod is tried again as they go."""
        node = self.cluster.nodes.names[candidate.row]
        metrics.PREEMPTION_ATTEMPTS.inc()
        metrics.PREEMPTION_VICTIMS.observe(len(candidate.victims))
        for other in list(self.cluster.nominated_on.get(node, {}).values()):
            if other.priority < pod.priority:  # the room is no longer theirs
                self.cluster.denominate(other.key)
                other.nominated = ""
                self.queue.activate(other.key)
                self._start(self._writes.patch_status(other, {"nominatedNodeName": None}))
        self.cluster.nominate(pod, node)
        self._start(self._remove_victims(profile, pod, node, candidate.victims))

    async def _remove_victims(self, profile: Profile, pod: Pod, node: str, victims: tuple[Pod, ...]) -> None:
        started = time.perf_counter()
        removed = await asyncio.gather(
            *(self._writes.remove(self.recorders[profile.name], profile.name, pod, node, victim) for victim in victims)
        )
        result = "success" if all(removed) else "error"
        metrics.PREEMPTIONS.labels(result).inc()
        metrics.PREEMPTION_SECONDS.labels(result).observe(time.perf_counter() - started)
        self.queue.release(pod.key)
        if not all(removed):
            self.cluster.denominate(pod.key)
        if not all(removed) or not any(self.cluster.pods.get(v.key) is v for v in victims):
            self.queue.activate(pod.key)

    def _set_condition(self, pod: Pod, reason: str, message: str) -> None:
        """PodScheduled=False on the pod, and its nominated node, if it does not say so already."""
        patch = condition_patch(pod.object, reason, message, pod.nominated, self._clock.time())
        if patch is not None:
            self._start(self._writes.patch_status(pod, patch))

    def _set_gauges(self) -> None:
        self.evaluations.counted()
        for place, size in self.queue.sizes().items():
            metrics.PENDING.labels(place).set(size)
        refused = self.queue.refused()
        for plugin in refused.keys() | self._plugins_shown:
            metrics.UNSCHEDULABLE.labels(*plugin).set(refused[plugin])
        self._plugins_shown = set(refused)
        metrics.CACHE.labels("nodes").set(len(self.cluster.nodes))
        metrics.CACHE.labels("pods").set(len(self.cluster.pods))
        metrics.CACHE.labels("assumed_pods").set(len(self.intake.assumed))


class Refused(Exception):
    """No node for a pod: the message for its condition, the plugins to wait for, the node that preemption clears."""

    def __init__(
        self, message: str, plugins: frozenset[str] = frozenset(), preemption: Outcome = Outcome(None)
    ) -> None:
        super().__init__(message)
        self.message, self.plugins, self.preemption = message, plugins, preemption


def _reserves(profile: Profile, plugin: str) -> bool:
    return profile.has("reserve", plugin) and profile.has("preBind", plugin)


@functools.cache
def _incoming(place: str, event: str) -> Any:
    return metrics.INCOMING.labels(place, event)


@functools.cache
def _sli(attempts: int) -> Any:
    return metrics.SLI_SECONDS.labels(str(attempts))


def _count_incoming(place: str, event: str) -> None:
    _incoming(place, event).inc()


@functools.cache
def _attempts(profile: str, result: str) -> tuple[Any, Any]:
    """The counter and the histogram of attempts: looking children up by their labels costs more than counting."""
    return metrics.ATTEMPTS.labels(profile, result), metrics.ATTEMPT_SECONDS.labels(profile, result)


def _count_attempt(profile: Profile, result: str, started: float) -> None:
    counter, histogram = _attempts(profile.name, result)
    counter.inc()
    histogram.observe(time.perf_counter() - started)


async def run_scheduler(client: Client, *, clock: Clock = REAL, configuration: Configuration | None = None) -> None:
    """A whole scheduler in the caller's loop, until cancelled. `peavine.scheduler.config` reads a configuration."""
    await Scheduler(client, configuration, clock=clock).run()
