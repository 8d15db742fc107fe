"""Objects of a custom resource in another of its versions: by name alone, or by the user's webhook."""

from __future__ import annotations

from collections.abc import Awaitable, Iterable
from typing import Any, Protocol

from peavine.machinery.errors import ApiError
from peavine.machinery.names import group_version

Object = dict[str, Any]
kept_objects_max = 20_000
asked_objects_max = 500  # in one review


class Caller(Protocol):
    """Asks a webhook: `now` blocks, `soon` does not. Both raise OSError or ValueError."""

    def now(self, client: Object, review: Object) -> Object: ...

    def soon(self, client: Object, review: Object) -> Awaitable[Object]: ...


class Converter:
    """Conversions of one definition.

    The registry converts in the middle of synchronous work. So whoever is about to read many objects asks `prefetch`
    first, without blocking; what the webhook said of an object's revision is kept, and what nobody prefetched is asked
    for on the spot, while the server waits.
    """

    def __init__(self, definition: Object, caller: Caller) -> None:
        self._group = definition["spec"]["group"]
        self._name = definition["metadata"]["name"]
        conversion = definition["spec"].get("conversion") or {}
        self.by_webhook = conversion.get("strategy") == "Webhook"
        self._client = (conversion.get("webhook") or {}).get("clientConfig") or {}
        self._caller = caller
        self._kept: dict[tuple[str, str, str], Object] = {}
        self.storage: Any = None  # the rules of the stored version

    def convert(self, obj: Object, source: str, target: str) -> Object:
        """`obj` in the version `target`. Raises ApiError 500 when a webhook fails."""
        wanted = group_version(self._group, target)
        if not self.by_webhook or source == target:
            obj["apiVersion"] = wanted
            return obj
        obj["apiVersion"] = group_version(self._group, source)
        key = _key(obj, target)
        kept = self._kept.get(key) if key else None
        if kept is None:
            review = self._review([obj], wanted)
            try:
                answer = self._caller.now(self._client, review)
            except (OSError, ValueError) as error:
                raise self._failed(str(error)) from error
            (kept,) = self._converted(answer, review)
            self._keep(key, kept)
        # What a webhook may not change comes from the object; and the kept answer stays as it is.
        converted = _copied(kept)
        own = _copied(obj.get("metadata") or {})
        answered = converted.get("metadata") or {}
        for name in ("labels", "annotations"):
            if name in answered:
                own[name] = answered[name]
            else:
                own.pop(name, None)
        converted["metadata"] = own
        return converted

    async def prefetch(self, objects: Iterable[Object], source: str, target: str) -> None:
        """Have the webhook convert these stored objects, so that `convert` need not wait. Raises ApiError 500."""
        if not self.by_webhook or source == target:
            return
        missing = [obj for obj in objects if (key := _key(obj, target)) is not None and key not in self._kept]
        for place in range(0, len(missing), asked_objects_max):
            some = missing[place : place + asked_objects_max]
            review = self._review(some, group_version(self._group, target))
            try:
                answer = await self._caller.soon(self._client, review)
            except (OSError, ValueError) as error:
                raise self._failed(str(error)) from error
            for obj, converted in zip(some, self._converted(answer, review)):
                self._keep(_key(obj, target), converted)

    def _keep(self, key: tuple[str, str, str] | None, converted: Object) -> None:
        if key is not None:
            if len(self._kept) >= kept_objects_max:
                self._kept.pop(next(iter(self._kept)))
            self._kept[key] = converted

    def _review(self, objects: list[Object], wanted: str) -> Object:
        uid = str((objects[0].get("metadata") or {}).get("uid") or "") or "conversion"
        return {
            "kind": "ConversionReview",
            "apiVersion": "apiextensions.k8s.io/v1",
            "request": {"uid": uid, "desiredAPIVersion": wanted, "objects": objects},
        }

    def _converted(self, answer: Object, review: Object) -> list[Object]:
        response, asked = answer.get("response") or {}, review["request"]
        if (response.get("result") or {}).get("status") != "Success":
            raise self._failed((response.get("result") or {}).get("message") or "no message")
        converted = response.get("convertedObjects") or []
        if response.get("uid") != asked["uid"] or len(converted) != len(asked["objects"]):
            raise self._failed("webhook returned an answer that does not fit the request")
        wanted = asked["desiredAPIVersion"]
        for new, old in zip(converted, asked["objects"]):
            if new.get("apiVersion") != wanted or new.get("kind") != old.get("kind"):
                raise self._failed(f"invalid groupVersion (expected {wanted}, received {new.get('apiVersion')})")
        return list(converted)

    def _failed(self, why: str) -> ApiError:
        return ApiError(500, "", f"conversion webhook for {self._name} failed: {why}")


def _key(obj: Object, target: str) -> tuple[str, str, str] | None:
    """What tells one revision of one object; None for an object that is not stored yet."""
    meta = obj.get("metadata") or {}
    uid, version = meta.get("uid"), meta.get("resourceVersion")
    return (uid, version, target) if uid and version else None


def _copied(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _copied(member) for name, member in value.items()}
    return [_copied(item) for item in value] if isinstance(value, list) else value
