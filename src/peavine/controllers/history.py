"""ControllerRevisions: the past templates of a DaemonSet or StatefulSet, to roll back to.

Upstream: pkg/controller/history. A revision's data is a strategic merge patch that puts the template back.
"""

from __future__ import annotations

import json
from functools import partial
from typing import Any

import orjson

from peavine.api.apps.revisions import fnv32a, safe_encode
from peavine.controllers.controller import Controller, Object
from peavine.controllers.ownership import (
    claim,
    controlled,
    controlled_by,
    index_by_controller,
    orphans,
    owner_reference,
)
from peavine.machinery.errors import ApiError
from peavine.machinery.selectors import selector_of

COLLISIONS_MAX = 10


class History:
    """The revisions of one kind of owner. Revisions are immutable but for their number."""

    def __init__(self, controller: Controller, kind: str, hash_label: str) -> None:
        self.kind, self.hash_label = kind, hash_label
        self.revisions = controller.read("apps/v1", "controllerrevisions")
        index_by_controller(self.revisions)
        self.resource = controller.client.resource("apps/v1", "controllerrevisions")

    async def of(self, owner: Object) -> list[Object]:
        """The owner's revisions, oldest first; orphans that its selector matches are adopted."""
        selector = selector_of(owner["spec"].get("selector"))
        found = [*controlled(self.revisions, owner), *orphans(self.revisions, owner["metadata"]["namespace"])]
        mine = await claim(owner, found, selector.matches, self.resource, partial(_yes))
        return sorted(mine, key=lambda r: (r.get("revision", 0), r["metadata"].get("creationTimestamp", "")))

    async def sync(self, owner: Object) -> tuple[Object, list[Object]]:
        """(current revision, the others oldest first), making or renumbering the current one where needed."""
        revisions = await self.of(owner)
        data = template_patch(owner)
        same = [r for r in revisions if r.get("data") == data]
        last = max((r.get("revision", 0) for r in revisions), default=0)
        if same:
            current = same[-1]
            if current.get("revision", 0) < last:
                current = await self._renumber(current, last + 1)
        else:
            current = await self._create(owner, data, last + 1)
        uid = current["metadata"]["uid"]
        return current, [r for r in revisions if r["metadata"]["uid"] != uid]

    async def _renumber(self, revision: Object, number: int) -> Object:
        return await self.resource.update({**revision, "revision": number})

    async def _create(self, owner: Object, data: Any, number: int) -> Object:
        meta = owner["metadata"]
        template_labels = ((owner["spec"].get("template") or {}).get("metadata") or {}).get("labels") or {}
        collisions = (owner.get("status") or {}).get("collisionCount") or 0
        for attempt in range(collisions, collisions + COLLISIONS_MAX):
            salt = str(attempt) if attempt else ""
            digest = safe_encode(str(fnv32a((json.dumps(data, sort_keys=True) + salt).encode())))
            body = {
                "apiVersion": "apps/v1",
                "kind": "ControllerRevision",
                "metadata": {
                    "name": f"{meta['name']}-{digest}",
                    "namespace": meta["namespace"],
                    "labels": {**template_labels, self.hash_label: digest},
                    "annotations": meta.get("annotations") or {},
                    "ownerReferences": [owner_reference(owner)],
                },
                "data": data,
                "revision": number,
            }
            try:
                return await self.resource.create(body)
            except ApiError as error:
                if error.reason != "AlreadyExists":
                    raise
                existing = await self.resource.get(body["metadata"]["name"], meta["namespace"])
                if existing.get("data") == data and controlled_by(existing, owner):
                    return existing
        raise ApiError(409, "AlreadyExists", f"no free name for a revision of {meta['name']}")

    async def truncate(self, owner: Object, old: list[Object], pods: list[Object]) -> None:
        """Delete the oldest revisions beyond the limit that no pod is of."""
        limit = owner["spec"].get("revisionHistoryLimit", 10)
        live = {(p["metadata"].get("labels") or {}).get(self.hash_label) for p in pods}
        dead = [r for r in old if (r["metadata"].get("labels") or {}).get(self.hash_label) not in live]
        dead = [r for r in dead if r["metadata"]["name"] not in live]
        for revision in dead[: max(0, len(dead) - (10 if limit is None else limit))]:
            try:
                await self.resource.delete(revision["metadata"]["name"], revision["metadata"]["namespace"])
            except ApiError as error:
                if error.code != 404:
                    raise


async def _yes() -> bool:
    return True


def template_patch(owner: Object) -> Object:
    """The data of a revision: the template, to be put in place of what is there; with its keys in order, as Go writes
    maps: clients in Go compare the bytes."""
    patch = {"spec": {"template": {**owner["spec"]["template"], "$patch": "replace"}}}
    ordered: Object = orjson.loads(orjson.dumps(patch, option=orjson.OPT_SORT_KEYS))
    return ordered
