"""Who manages the replicas of an object, told of its Scale and back: the managed fields of both.

Follows apiserver's `managedfields.ScaleHandler`: an apply of a Scale meets the owners of the object's replicas.
"""

from __future__ import annotations

import copy
from typing import Any

Object = dict[str, Any]
SCALE_VERSION = "autoscaling/v1"
_IN_SCALE: Object = {"f:spec": {"f:replicas": {}}}


def of_scale(entries: list[Object], path: str) -> list[Object]:
    """The managed fields of the Scale of an object with these `entries`; `path` is where the object has replicas."""
    return [
        {**entry, "apiVersion": SCALE_VERSION, "fieldsV1": copy.deepcopy(_IN_SCALE)}
        for entry in entries
        if _has(entry.get("fieldsV1") or {}, _names(path))
    ]


def of_object(entries: list[Object], scale_entries: list[Object], path: str, api_version: str) -> list[Object]:
    """The managed fields of the object after its Scale has got `scale_entries`."""
    owners = {_manager(entry): entry for entry in scale_entries if entry.get("fieldsV1")}
    names = _names(path)
    kept: list[Object] = []
    for entry in entries:
        fields = entry.get("fieldsV1") or {}
        if not _has(fields, names) or owners.pop(_manager(entry), None) is not None:
            kept.append(entry)
        else:  # somebody else has them now
            rest = _without(fields, names)
            if rest:
                kept.append({**entry, "fieldsV1": rest})
    for entry in owners.values():
        fields = {}
        for name in reversed(names):
            fields = {name: fields}
        kept.append({**entry, "apiVersion": api_version, "fieldsV1": fields})
    return kept


def _names(path: str) -> list[str]:
    return ["f:" + part for part in path.strip(".").split(".")]


def _manager(entry: Object) -> tuple[str, str, str]:
    return entry.get("manager") or "", entry.get("operation") or "", entry.get("subresource") or ""


def _has(fields: Object, names: list[str]) -> bool:
    for name in names:
        if name not in fields:
            return False
        fields = fields[name]
    return True


def _without(fields: Object, names: list[str]) -> Object:
    first, *rest = names
    out = dict(fields)
    inner = _without(fields[first], rest) if rest else {}
    if inner:
        out[first] = inner
    else:
        del out[first]
    return out
