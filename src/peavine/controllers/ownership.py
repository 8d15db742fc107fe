"""Who controls whom: controller references, and claiming objects by selector (adopt and release).

Follows upstream's controller-ref manager: an object has at most one controller; one without is adopted by whoever
selects it; one whose labels no longer match is released.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from typing import Any

from peavine.client import Informer, Resource
from peavine.client.informer import key_of
from peavine.machinery.errors import ApiError
from peavine.machinery.meta import controller_of
from peavine.machinery.selectors import Selector

Object = dict[str, Any]
INDEX = "controller"


def controlled_by(obj: Object, owner: Object) -> bool:
    reference = controller_of(obj)
    return reference is not None and reference["uid"] == owner["metadata"]["uid"]


def owner_reference(owner: Object) -> Object:
    """The controller reference to put on what `owner` creates."""
    return {
        "apiVersion": owner["apiVersion"],
        "kind": owner["kind"],
        "name": owner["metadata"]["name"],
        "uid": owner["metadata"]["uid"],
        "controller": True,
        "blockOwnerDeletion": True,
    }


def owner_keys(kind: str, group: str) -> Callable[[Object], list[tuple[str, str]]]:
    """A `keys` function for `Controller.watch`: the controller of the object, if it is of this kind."""

    def keys(obj: Object) -> list[tuple[str, str]]:
        reference = controller_of(obj)
        if reference is None or reference["kind"] != kind or _group(reference["apiVersion"]) != group:
            return []
        return [(obj["metadata"].get("namespace", ""), reference["name"])]

    return keys


def _group(api_version: str) -> str:
    return api_version.rpartition("/")[0]


def owners_of(
    kind: str, group: str, owners: Informer, selector: Callable[[Object], Selector]
) -> Callable[[Object], list[tuple[str, str]]]:
    """A `keys` function for what such owners claim: the controller; of an orphan, all who may adopt it."""
    controller = owner_keys(kind, group)

    def keys(obj: Object) -> list[tuple[str, str]]:
        if controller_of(obj) is not None:
            return controller(obj)
        labels = obj["metadata"].get("labels") or {}
        if not labels:
            return []
        return [key_of(o) for o in owners.list(obj["metadata"].get("namespace", "")) if selector(o).matches(labels)]

    return keys


def index_by_controller(informer: Informer) -> None:
    """Let `controlled` and `orphans` find this informer's objects without looking at all of them."""
    informer.add_index(INDEX, _controller)


def _controller(obj: Object) -> list[Any]:
    reference = controller_of(obj)
    return [reference["uid"] if reference else ("", obj["metadata"].get("namespace", ""))]


def controlled(informer: Informer, owner: Object) -> list[Object]:
    return informer.by_index(INDEX, owner["metadata"]["uid"])


def orphans(informer: Informer, namespace: str) -> list[Object]:
    """The objects of a namespace that nobody controls."""
    return informer.by_index(INDEX, ("", namespace))


async def claim(
    owner: Object,
    candidates: Iterable[Object],
    matches: Callable[[dict[str, str]], bool],
    resource: Resource,
    still_owner: Callable[[], Awaitable[bool]],
) -> list[Object]:
    """The candidates that `owner` controls after adopting those it selects and releasing those it no longer does.

    `still_owner` asks the API server (not the cache) whether the owner is alive; called once, before an adoption.
    """
    claimed, alive = [], None
    for obj in candidates:
        meta = obj["metadata"]
        reference = controller_of(obj)
        selected = matches(meta.get("labels") or {})
        if reference is not None:
            if reference["uid"] != owner["metadata"]["uid"]:
                continue
            if selected:
                claimed.append(obj)
            elif "deletionTimestamp" not in owner["metadata"]:
                await _ignoring_gone(_release(owner, obj, resource))
            continue
        if not selected or "deletionTimestamp" in meta or "deletionTimestamp" in owner["metadata"]:
            continue
        if alive is None:
            alive = await still_owner()
        if alive and (adopted := await _ignoring_gone(_adopt(owner, obj, resource))) is not None:
            claimed.append(adopted)
    return claimed


async def _adopt(owner: Object, obj: Object, resource: Resource) -> Object:
    meta = obj["metadata"]
    patch = {"metadata": {"ownerReferences": [owner_reference(owner)], "uid": meta["uid"]}}
    return await resource.patch(meta["name"], patch, meta.get("namespace"), type="strategic")


async def _release(owner: Object, obj: Object, resource: Resource) -> Object:
    meta = obj["metadata"]
    reference = {"$patch": "delete", "uid": owner["metadata"]["uid"]}
    patch = {"metadata": {"ownerReferences": [reference], "uid": meta["uid"]}}
    return await resource.patch(meta["name"], patch, meta.get("namespace"), type="strategic")


async def _ignoring_gone(write: Awaitable[Object]) -> Object | None:
    """The write's result; None if the object is gone or is another one by now (uid precondition)."""
    try:
        return await write
    except ApiError as error:
        if error.code in (404, 422) or (error.code == 409 and "uid" in error.message.lower()):
            return None
        raise


async def still_alive(resource: Resource, owner: Object) -> bool:
    """Whether the API server still has this owner (by uid), not being deleted: asked before an adoption."""
    meta = owner["metadata"]
    try:
        fresh = await resource.get(meta["name"], meta["namespace"])
    except ApiError as error:
        if error.code == 404:
            return False
        raise
    return fresh["metadata"]["uid"] == meta["uid"] and "deletionTimestamp" not in fresh["metadata"]
