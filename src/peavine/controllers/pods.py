"""Making and ending pods: templates, slow start, events, which go first, and what a disrupted one is told.

Shared by every controller that makes or ends pods.
"""

from __future__ import annotations

import asyncio
import math
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

from peavine.api.core.podstate import condition, is_available, is_ready, restart_count
from peavine.client import Client, EventRecorder, Resource
from peavine.controllers.ownership import owner_reference
from peavine.machinery.errors import ApiError
from peavine.machinery.meta import now as stamp
from peavine.machinery.meta import parse_time

Object = dict[str, Any]

SLOW_START_FIRST = 1
DELETION_COST = "controller.kubernetes.io/pod-deletion-cost"
_PHASES = {"Pending": 0, "Unknown": 1, "Running": 2}


class PodControl:
    """Creates and deletes pods for an owner, recording upstream's events about it."""

    def __init__(self, client: Client, recorder: EventRecorder) -> None:
        self.pods = client.resource("v1", "pods")
        self._recorder = recorder

    async def create(self, owner: Object, template: Object, **meta: Any) -> Object:
        """A pod from `template`, controlled by `owner`. `meta` overrides metadata (name, labels, ...).

        Raises ApiError after recording FailedCreate; not recorded where the namespace is going away.
        """
        pod = pod_from_template(owner, template, **meta)
        try:
            created = await self.pods.create(pod)
        except ApiError as error:
            if not namespace_terminating(error):
                self._recorder.event(owner, "Warning", "FailedCreate", f"Error creating: {error.message}")
            raise
        self._recorder.event(owner, "Normal", "SuccessfulCreate", f"Created pod: {created['metadata']['name']}")
        return created

    async def delete(self, owner: Object, pod: Object) -> bool:
        """Delete one pod (this very one, by uid). False if it was gone already. Raises ApiError."""
        meta = pod["metadata"]
        try:
            await self.pods.delete(meta["name"], meta["namespace"], uid=meta["uid"])
        except ApiError as error:
            if error.code in (404, 409):
                return False
            self._recorder.event(owner, "Warning", "FailedDelete", f"Error deleting: {error.message}")
            raise
        self._recorder.event(owner, "Normal", "SuccessfulDelete", f"Deleted pod: {meta['name']}")
        return True


def pod_from_template(owner: Object, template: Object, **meta: Any) -> Object:
    """The pod that `owner` makes of a PodTemplateSpec: its labels, annotations and finalizers, and a generated name."""
    of_template = template.get("metadata") or {}
    name = owner["metadata"]["name"]
    metadata: Object = {
        "namespace": owner["metadata"]["namespace"],
        "generateName": f"{name}-",
        "ownerReferences": [owner_reference(owner)],
        **{k: of_template[k] for k in ("labels", "annotations", "finalizers") if of_template.get(k)},
        **meta,
    }
    if metadata.get("name"):
        del metadata["generateName"]
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": template.get("spec") or {}}


def namespace_terminating(error: ApiError) -> bool:
    """The create was refused because its namespace is being deleted: nothing to retry, nothing to report."""
    return error.code == 403 and any(
        cause.get("reason") == "NamespaceTerminating" for cause in error.details.get("causes") or ()
    )


async def slow_start(count: int, step: Callable[[int], Awaitable[Any]], first: int = SLOW_START_FIRST) -> int:
    """Run `step(0) … step(count-1)` in doubling batches, so that a quota refusal costs one try and not a thousand.

    Returns how many succeeded; after a batch with an error, raises the first error with `.succeeded` set on it.
    """
    done, size = 0, min(count, first)
    while size:
        results = await asyncio.gather(*(step(done + i) for i in range(size)), return_exceptions=True)
        errors = [r for r in results if isinstance(r, BaseException)]
        done += size - len(errors)
        if errors:
            errors[0].succeeded = done  # type: ignore[attr-defined]
            raise errors[0]
        size = min(2 * size, count - done)
    return done


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


def seconds_until_available(pods: list[Object], min_ready: int, now: float) -> float:
    """When the next ready pod has been so for long enough (at least a moment away)."""
    waits = [
        parse_time(ready["lastTransitionTime"]) + min_ready - now
        for pod in pods
        if is_ready(pod) and (ready := condition(pod, "Ready")) and not is_available(pod, min_ready, now)
    ]
    return max(0.05, min(waits, default=float(min_ready)))


async def disrupt(pods: Resource, pod: Object, reason: str, message: str, now: float, *, phase: str = "") -> None:
    """Note on a pod that it is ended from outside (condition DisruptionTarget), and that it has failed if `phase` says
    so. A pod that is gone or is another one by now is no error."""
    target = {"type": "DisruptionTarget", "status": "True", "reason": reason, "message": message}
    status: Object = {"conditions": [{**target, "lastTransitionTime": stamp(now)}]}
    if phase:
        status["phase"] = phase
    meta = pod["metadata"]
    patch = {"metadata": {"uid": meta["uid"]}, "status": status}
    await ignoring_gone(pods.patch(meta["name"], patch, meta["namespace"], type="strategic", subresource="status"))


async def remove(pods: Resource, pod: Object, grace_period_seconds: int | None = None) -> None:
    """Delete this very pod; one that is gone is no error."""
    meta = pod["metadata"]
    await ignoring_gone(
        pods.delete(meta["name"], meta["namespace"], grace_period_seconds=grace_period_seconds, uid=meta["uid"])
    )


async def ignoring_gone(write: Awaitable[Any]) -> None:
    """Do a write about one object, by uid; that it is gone, or another, is no error."""
    try:
        await write
    except ApiError as error:
        if error.code not in (404, 409):
            raise
