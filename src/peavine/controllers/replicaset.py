"""ReplicaSet and ReplicationController: as many pods as the object asks for, no more, no fewer.

Upstream: pkg/controller/replicaset; KEP-2185 (log scale down), KEP-2255 (deletion cost), KEP-3973 (terminating pods).
"""

from __future__ import annotations

import asyncio
from collections import Counter
from functools import partial

from peavine.api.core.podstate import condition, is_active, is_available, is_ready, is_terminal
from peavine.controllers.controller import Context, Controller, Key, Object
from peavine.controllers.expectations import Expectations
from peavine.controllers.ownership import INDEX, claim, controlled, index_by_controller, orphans, owners_of, still_alive
from peavine.controllers.pods import (
    PodControl,
    deletion_rank,
    namespace_terminating,
    seconds_until_available,
    slow_start,
)
from peavine.machinery.errors import ApiError
from peavine.machinery.meta import controller_of
from peavine.machinery.meta import now as stamp
from peavine.machinery.selectors import Selector, selector_of, selector_of_labels

BURST_REPLICAS = 500
STATUS_TRIES_MAX = 2


class ReplicaSetController(Controller):
    name = "replicaset-controller"
    account = "replicaset-controller"
    api_version, plural, kind, group = "apps/v1", "replicasets", "ReplicaSet", "apps"

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self.owners = self.watch(self.api_version, self.plural)
        index_by_controller(self.owners)
        self.pods = self.watch("v1", "pods", keys=owners_of(self.kind, self.group, self.owners, self.selector))
        index_by_controller(self.pods)
        self.expectations = Expectations(self.pods, self.clock)
        self.control = PodControl(self.client, self.recorder)
        self.resource = self.client.resource(self.api_version, self.plural)

    def selector(self, owner: Object) -> Selector:
        return selector_of(owner["spec"].get("selector"))

    async def reconcile(self, key: Key) -> float | None:
        owner = self.owners.get(*key)
        if owner is None:
            self.expectations.forget(key)
            return None
        ready_to_count = self.expectations.satisfied(key)
        selector = self.selector(owner)
        candidates = controlled(self.pods, owner) + [p for p in orphans(self.pods, key[0]) if is_active(p)]
        alive = partial(still_alive, self.resource, owner)
        pods = await claim(owner, candidates, selector.matches, self.control.pods, alive)
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
            return seconds_until_available(active, min_ready, self.clock.time())
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

            async def delete(pod: Object) -> None:
                if await self.control.delete(owner, pod):
                    self.expectations.deleted(key, pod)

            await asyncio.gather(*map(delete, self._victims(owner, active, min(-missing, BURST_REPLICAS))))

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
            family = self.owners.by_index(INDEX, parent["uid"])
        return Counter(
            pod["spec"].get("nodeName", "")
            for member in family
            for pod in controlled(self.pods, member)
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
