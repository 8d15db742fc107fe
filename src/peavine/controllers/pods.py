"""Making and ending the pods of a workload: templates, slow start, events.

Shared by every controller that owns pods.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from peavine.client import Client, EventRecorder
from peavine.controllers.ownership import owner_reference
from peavine.machinery.errors import ApiError

Object = dict[str, Any]

SLOW_START_FIRST = 1


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
