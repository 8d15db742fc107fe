"""Objects of a custom resource in another of its versions: by name alone, or by the user's webhook."""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

import orjson

from peavine.apiserver.cache.entries import dumps
from peavine.apiserver.registry.conversions import Unconverted
from peavine.machinery.errors import ApiError
from peavine.machinery.meta import new_uid
from peavine.machinery.names import group_version
from peavine.machinery.validation import validate_annotations, validate_labels

Object = dict[str, Any]
kept_bytes_max = 32 << 20
asked_objects_max = 500  # in one review

# Asks a webhook (its clientConfig, the review). Raises OSError or ValueError.
Ask = Callable[[Object, Object], Awaitable[Object]]


class Converter:
    """Conversions of one definition.

    What the webhook has answered is kept, by the content of the object that it was asked about. `convert` works with
    that, and raises `Unconverted` where it is not there yet; `prefetch` asks for many objects at once.
    """

    def __init__(self, definition: Object, ask: Ask) -> None:
        self._group = definition["spec"]["group"]
        self._kind = definition["spec"]["names"]["kind"]
        conversion = definition["spec"].get("conversion") or {}
        self.by_webhook = conversion.get("strategy") == "Webhook"
        webhook = conversion.get("webhook") or {}
        self._client = webhook.get("clientConfig") or {}
        known = [v for v in webhook.get("conversionReviewVersions") or ["v1"] if v in ("v1", "v1beta1")]
        self._review_version = group_version("apiextensions.k8s.io", known[0] if known else "v1")
        self._ask = ask
        self._kept: dict[bytes, bytes] = {}
        self._kept_bytes = 0
        self.storage: Any = None  # the rules of the stored version

    def convert(self, obj: Object, source: str, target: str) -> Object:
        """`obj` in the version `target`. Raises Unconverted while nobody knows it."""
        wanted = group_version(self._group, target)
        if not self.by_webhook or source == target:
            obj["apiVersion"] = wanted
            return obj
        obj["apiVersion"] = group_version(self._group, source)
        kept = self._kept.get(_key(obj, target))
        if kept is None:
            raise _Missing(self, obj, target)
        return orjson.loads(kept)

    async def prefetch(self, objects: Iterable[Object], source: str, target: str) -> None:
        """Have the webhook convert these objects, so that `convert` need not wait. Raises ApiError 500."""
        if self.by_webhook and source != target:
            await self.ask([obj for obj in objects if _key(obj, target) not in self._kept], target)

    async def ask(self, objects: list[Object], target: str) -> None:
        for place in range(0, len(objects), asked_objects_max):
            some = objects[place : place + asked_objects_max]
            request = {"uid": new_uid(), "desiredAPIVersion": group_version(self._group, target), "objects": some}
            review = {"kind": "ConversionReview", "apiVersion": self._review_version, "request": request}
            try:
                answer = await self._ask(self._client, review)
            except (OSError, ValueError) as error:
                raise self._failed(some[0], f"failed: {error}") from error
            for obj, converted in zip(some, self._answered(answer, review)):
                self._keep(_key(obj, target), dumps(converted))

    def _keep(self, key: bytes, converted: bytes) -> None:
        self._kept_bytes += len(converted) - len(self._kept.pop(key, b""))
        self._kept[key] = converted
        while self._kept_bytes > kept_bytes_max and len(self._kept) > asked_objects_max:
            self._kept_bytes -= len(self._kept.pop(next(iter(self._kept))))

    def _answered(self, answer: Object, review: Object) -> list[Object]:
        """The converted objects of an answer. Raises ApiError 500 with what upstream says of a wrong one."""
        asked = review["request"]
        objects, wanted = asked["objects"], asked["desiredAPIVersion"]
        first = objects[0]
        response = answer.get("response")
        problem = ""
        if not isinstance(response, dict):
            problem = "no response provided"
        elif answer.get("apiVersion") != review["apiVersion"] or answer.get("kind") != review["kind"]:
            shown = f"{answer.get('apiVersion') or ''}, Kind={answer.get('kind') or ''}"
            problem = f"expected webhook response of {review['apiVersion']}, Kind={review['kind']}, got {shown}"
        elif response.get("uid") != asked["uid"]:
            problem = f'expected response.uid="{asked["uid"]}", got "{response.get("uid") or ""}"'
        else:
            result = response.get("result") or {}
            if result.get("status") != "Success":
                usual = f"response.result.status was '{result.get('status') or ''}', not 'Success'"
                problem = result.get("message") or usual
        if problem or not isinstance(response, dict):
            raise self._failed(first, f"failed: {problem}")
        converted = response.get("convertedObjects") or []
        if len(converted) != len(objects):
            raise self._failed(first, f"returned {len(converted)} objects, expected {len(objects)}")
        for place, (new, old) in enumerate(zip(converted, objects)):
            where = f"invalid converted object at index {place}" if len(objects) > 1 else "invalid object"
            why = _misfit(new, old, wanted)
            if why:
                raise self._failed(old, f"returned {where}: {why}")
            why = _restored(new, old)
            if why:
                where = f"invalid metadata in object at index {place}" if len(objects) > 1 else "invalid metadata"
                raise self._failed(old, f"returned {where}: {why}")
        return list(converted)

    def _failed(self, obj: Object, why: str) -> ApiError:
        shown = f"{obj.get('apiVersion')}, Kind={obj.get('kind') or self._kind}"
        return ApiError(500, "", f"conversion webhook for {shown} {why}")


class _Missing(Unconverted):
    def __init__(self, converter: Converter, obj: Object, target: str) -> None:
        super().__init__(f"{obj.get('kind')} has not been converted to {target}")
        self._converter, self._obj, self._target = converter, obj, target

    async def fetch(self) -> None:
        await self._converter.ask([self._obj], self._target)


def _key(obj: Object, target: str) -> bytes:
    return hashlib.blake2b(dumps(obj), digest_size=16, person=target.encode()[:16]).digest()


def _misfit(new: Any, old: Object, wanted: str) -> str:
    """How an answered object is not the one asked about; "" where it is."""
    if not isinstance(new, dict):
        return "it is no object"
    if new.get("apiVersion") != wanted:
        return f"invalid groupVersion (expected {wanted}, received {new.get('apiVersion') or ''})"
    if new.get("kind") != old.get("kind"):
        return f"invalid kind (expected {old.get('kind')}, received {new.get('kind') or ''})"
    meta, own = new.get("metadata"), old.get("metadata") or {}
    held = meta if isinstance(meta, dict) else {}
    for field, shown in (("name", "name"), ("namespace", "namespace"), ("uid", "UID")):
        before, after = own.get(field) or "", held.get(field) or ""
        if before != after:
            return f"must have the same {shown}: {before} != {after}"
    return ""


def _restored(new: Object, old: Object) -> str:
    """Give an answered object its own metadata back: a webhook may change labels and annotations alone.

    What is wrong with those, or "".
    """
    meta = new.get("metadata")
    if not isinstance(meta, dict):
        return "missing metadata in converted object"
    own = dict(old.get("metadata") or {})
    for field, rule in (("labels", validate_labels), ("annotations", validate_annotations)):
        answered = meta.get(field)
        if answered is None:
            own.pop(field, None)
            continue
        if not isinstance(answered, dict):
            return f"invalid metadata.{field} in converted object"
        for name, value in answered.items():
            if not isinstance(value, str):
                return f"metadata.{field}[{name}] must be a string in converted object"
        if answered != own.get(field):
            problems = rule(answered, f"metadata.{field}")
            if problems:
                return ", ".join(map(str, problems))
        own[field] = answered
    new["metadata"] = own
    return ""
