"""ReplicaSet and ReplicationController: as many pods as the object asks for, no more, no fewer.

Upstream: pkg/controller/replicaset; KEP-2185 (log scale down), KEP-2255 (deletion cost), KEP-3973 (terminating pods).
"""

from __future__ import annotations

import math
from collections import Counter
from functools import partial
from typing import Any

from peavine.api.core.podstate import condition, is_active, is_available, is_ready, is_terminal, restart_count
from peavine.client.informer import key_of
from peavine.controllers.controller import Context, Controller, Key, Object
from peavine.controllers.expectations import Expectations
from peavine.controllers.ownership import claim, owner_keys, still_alive
from peavine.controllers.pods import PodControl, namespace_terminating, slow_start
from peavine.machinery.errors import ApiError
from peavine.machinery.meta import controller_of, parse_time
from peavine.machinery.meta import now as stamp
from peavine.machinery.selectors import Selector, selector_of, selector_of_labels

BURST_REPLICAS = 500
STATUS_TRIES_MAX = 2
DELETION_COST = "controller.kubernetes.io/pod-deletion-cost"


class ReplicaSetController(Controller):
    name = "replicaset-controller"
    account = "replicaset-controller"
    api_version, plural, kind, group = "apps/v1", "replicasets", "ReplicaSet", "apps"

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self.owners = self.watch(self.api_version, self.plural)
        self.pods = self.watch("v1", "pods", keys=self._owners_of)
        self.pods.add_index("controller", _controller_uid)
        self.expectations = Expectations(self.pods, self.clock)
        self.control = PodControl(self.client, self.recorder)
        self.resource = self.client.resource(self.api_version, self.plural)

    def selector(self, owner: Object) -> Selector:
        return selector_of(owner["spec"].get("selector"))

    def _owners_of(self, pod: Object) -> list[Key]:
        if controller_of(pod) is not None:
            return owner_keys(self.kind, self.group)(pod)
        # An orphan: whoever selects it may adopt it.
        labels = pod["metadata"].get("labels") or {}
        if not labels or not self.owners.synced.is_set():
            return []
        owners = self.owners.list(pod["metadata"].get("namespace", ""))
        return [key_of(owner) for owner in owners if self.selector(owner).matches(labels)]

    async def reconcile(self, key: Key) -> float | None:
        owner = self.owners.get(*key)
        if owner is None:
            self.expectations.forget(key)
            return None
        ready_to_count = self.expectations.satisfied(key)
        selector = self.selector(owner)
        mine = self.pods.by_index("controller", owner["metadata"]["uid"])
        orphans = [p for p in self.pods.by_index("controller", ("", key[0])) if is_active(p)]
        alive = partial(still_alive, self.resource, owner)
        pods = await claim(owner, [*mine, *orphans], selector.matches, self.control.pods, alive)
        active = [p for p in pods if is_active(p)]
        failure: Exception | None = None
        if ready_to_count and "deletionTimestamp" not in owner["metadata"]:
            try:
                await self._manage(key, owner, active)
            except Exception as error:
                failure = error
        terminating = sum("deletionTimestamp" in p["metadata"] and not is_terminal(p) for p in pods)
        status = self._status(owner, active, terminating, failure)
        if status != (owner.get("status") or {}):
            owner = await self._write_status(owner, status)
        if failure is not None and not (isinstance(failure, ApiError) and namespace_terminating(failure)):
            raise failure
        min_ready = owner["spec"].get("minReadySeconds") or 0
        if min_ready and status.get("readyReplicas", 0) != status.get("availableReplicas", 0):
            return _until_available(active, min_ready, self.clock.time())
        return None

    async def _manage(self, key: Key, owner: Object, active: list[Object]) -> None:
        wanted = owner["spec"].get("replicas", 1)
        missing = wanted - len(active)
        if missing > 0:
            template = owner["spec"].get("template") or {}

            async def create(_: int) -> None:
                self.expectations.created(key, await self.control.create(owner, template))

            await slow_start(min(missing, BURST_REPLICAS), create)
        elif missing < 0:
            for pod in self._victims(owner, active, min(-missing, BURST_REPLICAS)):
                if await self.control.delete(owner, pod):
                    self.expectations.deleted(key, pod)

    def _victims(self, owner: Object, active: list[Object], count: int) -> list[Object]:
        if count >= len(active):
            return active
        per_node = self._pods_per_node(owner)
        now = self.clock.time()
        return sorted(active, key=lambda pod: deletion_rank(pod, per_node, now))[:count]

    def _pods_per_node(self, owner: Object) -> Counter[str]:
        """Active pods of this owner's own controller (its sibling ReplicaSets too) on each node."""
        parent = controller_of(owner)
        family = [owner]
        if parent is not None:
            siblings = self.owners.list(owner["metadata"]["namespace"])
            family = [o for o in siblings if (controller_of(o) or {}).get("uid") == parent["uid"]]
        return Counter(
            pod["spec"].get("nodeName", "")
            for member in family
            for pod in self.pods.by_index("controller", member["metadata"]["uid"])
            if is_active(pod)
        )

    def _status(self, owner: Object, active: list[Object], terminating: int, failure: Exception | None) -> Object:
        spec, old = owner["spec"], owner.get("status") or {}
        template_labels = ((spec.get("template") or {}).get("metadata") or {}).get("labels") or {}
        now, min_ready = self.clock.time(), spec.get("minReadySeconds") or 0
        counts = {
            "fullyLabeledReplicas": sum(
                template_labels.items() <= (p["metadata"].get("labels") or {}).items() for p in active
            ),
            "readyReplicas": sum(is_ready(p) for p in active),
            "availableReplicas": sum(is_available(p, min_ready, now) for p in active),
        }
        status: Object = {"replicas": len(active), **{k: v for k, v in counts.items() if v}}
        if self.kind == "ReplicaSet":
            status["terminatingReplicas"] = terminating
        status["observedGeneration"] = owner["metadata"].get("generation", 0)
        conditions = [c for c in old.get("conditions") or () if c["type"] != "ReplicaFailure"]
        if failure is not None:
            reason = "FailedCreate" if len(active) < spec.get("replicas", 1) else "FailedDelete"
            before = condition(owner, "ReplicaFailure")
            conditions.append(
                before
                or {
                    "type": "ReplicaFailure",
                    "status": "True",
                    "lastTransitionTime": stamp(now),
                    "reason": reason,
                    "message": str(failure),
                }
            )
        if conditions:
            status["conditions"] = conditions
        return status

    async def _write_status(self, owner: Object, status: Object) -> Object:
        for attempt in range(STATUS_TRIES_MAX):
            try:
                return await self.resource.update({**owner, "status": status}, "status")
            except ApiError as error:
                if error.code != 409 or attempt + 1 == STATUS_TRIES_MAX:
                    raise
                meta = owner["metadata"]
                owner = await self.resource.get(meta["name"], meta["namespace"])
        raise AssertionError("unreachable: the loop returns or raises")


class ReplicationControllerController(ReplicaSetController):
    name = "replicationcontroller-controller"
    account = "replication-controller"
    api_version, plural, kind, group = "v1", "replicationcontrollers", "ReplicationController", ""

    def selector(self, owner: Object) -> Selector:
        return selector_of_labels(owner["spec"].get("selector") or {})


def _controller_uid(pod: Object) -> list[Any]:
    """Pods are found by their controller's uid; those without one, by ("", namespace)."""
    reference = controller_of(pod)
    return [reference["uid"] if reference else ("", pod["metadata"].get("namespace", ""))]


_PHASES = {"Pending": 0, "Unknown": 1, "Running": 2}


def deletion_rank(pod: Object, per_node: Counter[str], now: float) -> tuple[Any, ...]:
    """Sort key: the pods to delete first come first (upstream's ActivePodsWithRanks)."""
    meta, status = pod["metadata"], pod.get("status") or {}
    node = pod["spec"].get("nodeName", "")
    ready = is_ready(pod)
    since = (condition(pod, "Ready") or {}).get("lastTransitionTime") if ready else None
    return (
        bool(node),
        _PHASES.get(status.get("phase", ""), 2),
        ready,
        _deletion_cost(meta),
        -per_node[node],
        _age_bucket(since, now),
        -restart_count(pod),
        _age_bucket(meta.get("creationTimestamp"), now),
        meta.get("uid", ""),
    )


def _deletion_cost(meta: Object) -> int:
    try:
        return int((meta.get("annotations") or {}).get(DELETION_COST, 0))
    except ValueError:
        return 0


def _age_bucket(since: str | None, now: float) -> float:
    """Ages by their logarithm: among pods of about the same age the choice is as good as random."""
    if since is None:
        return -math.inf
    age = now - parse_time(since)
    return math.floor(math.log2(age)) if age > 0 else -math.inf


def _until_available(pods: list[Object], min_ready: int, now: float) -> float:
    waits = [
        parse_time(ready["lastTransitionTime"]) + min_ready - now
        for pod in pods
        if is_ready(pod) and (ready := condition(pod, "Ready")) and not is_available(pod, min_ready, now)
    ]
    return max(0.05, min(waits, default=float(min_ready)))
