"""Objects of a custom resource in another of its versions: by name alone, or by the user's webhook."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from peavine.machinery.errors import ApiError
from peavine.machinery.names import group_version

Object = dict[str, Any]
kept_objects_max = 1000


class Converter:
    """Conversions of one definition. `call(client_config, review)` asks a webhook and gives its answer.

    The registry converts in the middle of synchronous work, so a webhook is asked synchronously: while it answers, the
    server waits. What it said of an object's revision is kept, so each is asked for once.
    """

    def __init__(self, definition: Object, call: Callable[[Object, Object], Object]) -> None:
        self._group = definition["spec"]["group"]
        self._name = definition["metadata"]["name"]
        conversion = definition["spec"].get("conversion") or {}
        self.by_webhook = conversion.get("strategy") == "Webhook"
        self._webhook = conversion.get("webhook") or {}
        self._call = call
        self._kept: dict[tuple[str, str, str], Object] = {}
        self.storage: Any = None  # the rules of the stored version

    def convert(self, obj: Object, source: str, target: str) -> Object:
        """`obj` in the version `target`. Raises ApiError 500 when a webhook fails."""
        wanted = group_version(self._group, target)
        if not self.by_webhook or source == target:
            obj["apiVersion"] = wanted
            return obj
        obj["apiVersion"] = group_version(self._group, source)
        meta = obj.get("metadata") or {}
        key = (meta.get("uid") or "", meta.get("resourceVersion") or "", target)
        kept = self._kept.get(key) if all(key) else None
        if kept is None:
            kept = self._ask(obj, wanted)
            if all(key):
                if len(self._kept) >= kept_objects_max:
                    self._kept.pop(next(iter(self._kept)))
                self._kept[key] = kept
        # What a webhook may not change comes from the object; and the kept answer stays as it is.
        converted = _copied(kept)
        own = _copied(meta)
        answered = converted.get("metadata") or {}
        for name in ("labels", "annotations"):
            if name in answered:
                own[name] = answered[name]
            else:
                own.pop(name, None)
        converted["metadata"] = own
        return converted

    def _ask(self, obj: Object, wanted: str) -> Object:
        uid = str((obj.get("metadata") or {}).get("uid") or "") or "conversion"
        review = {
            "kind": "ConversionReview",
            "apiVersion": "apiextensions.k8s.io/v1",
            "request": {"uid": uid, "desiredAPIVersion": wanted, "objects": [obj]},
        }
        try:
            answer = self._call(self._webhook.get("clientConfig") or {}, review)
        except (OSError, ValueError) as error:
            raise self._failed(str(error)) from error
        response = answer.get("response") or {}
        if (response.get("result") or {}).get("status") != "Success":
            raise self._failed((response.get("result") or {}).get("message") or "no message")
        converted = response.get("convertedObjects") or []
        if response.get("uid") != uid or len(converted) != 1:
            raise self._failed("webhook returned an answer that does not fit the request")
        if converted[0].get("apiVersion") != wanted or converted[0].get("kind") != obj.get("kind"):
            raise self._failed(f"invalid groupVersion (expected {wanted}, received {converted[0].get('apiVersion')})")
        return dict(converted[0])

    def _failed(self, why: str) -> ApiError:
        return ApiError(500, "", f"conversion webhook for {self._name} failed: {why}")


def _copied(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _copied(member) for name, member in value.items()}
    return [_copied(item) for item in value] if isinstance(value, list) else value
