"""From client-side apply to server-side apply: what the annotation of `kubectl apply` allows and how it is kept."""

from __future__ import annotations

from typing import Any

import orjson

from peavine.machinery.apply.fieldset import FieldSet, difference
from peavine.machinery.apply.typed import compare, field_set
from peavine.machinery.schema import Type

LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"
annotations_bytes_max = 256 * 1024


def last_applied_fields(live: dict[str, Any], api_version: str, type: Type | None) -> FieldSet | None:
    """The paths of the last client-side applied configuration that live still has as applied; None without one."""
    text = _annotations(live).get(LAST_APPLIED)
    if not text:
        return None
    try:
        applied = orjson.loads(text)
    except ValueError:
        return None
    if not isinstance(applied, dict) or applied.get("apiVersion") != api_version:
        return None
    changed, removed = compare(applied, live, type)
    return difference(difference(field_set(applied, type), changed), removed)


def sync_last_applied(obj: dict[str, Any], config: dict[str, Any]) -> dict[str, Any]:
    """`obj` with its annotation saying `config`, where it has the annotation: client-side apply can take over again."""
    annotations = _annotations(obj)
    if not annotations.get(LAST_APPLIED):
        return obj
    meta = dict(config.get("metadata") or {})
    meta.pop("managedFields", None)
    own = {k: v for k, v in (meta.get("annotations") or {}).items() if k != LAST_APPLIED}
    if own:
        meta["annotations"] = own
    else:
        meta.pop("annotations", None)
    text = orjson.dumps({**config, "metadata": meta}, option=orjson.OPT_SORT_KEYS).decode() + "\n"
    annotations = {**annotations, LAST_APPLIED: text}
    if sum(len(k.encode()) + len(v.encode()) for k, v in annotations.items()) > annotations_bytes_max:
        del annotations[LAST_APPLIED]
    return {**obj, "metadata": {**obj["metadata"], "annotations": annotations}}


def _annotations(obj: dict[str, Any]) -> dict[str, str]:
    return (obj.get("metadata") or {}).get("annotations") or {}
