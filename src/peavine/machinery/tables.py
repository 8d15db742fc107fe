"""`Table`, `PartialObjectMetadata` and their lists: the forms of an object that a client may ask for instead of it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from peavine.machinery.duration import human_duration
from peavine.machinery.meta import parse_time

META_V1 = "meta.k8s.io/v1"

_NAME_DOC = (
    "Name must be unique within a namespace. Is required when creating resources, although some resources may allow a "
    "client to request the generation of an appropriate name automatically. Name is primarily intended for creation "
    "idempotence and configuration definition. Cannot be updated. More info: "
    "https://kubernetes.io/docs/concepts/overview/working-with-objects/names#names"
)
_CREATED_DOC = (
    "CreationTimestamp is a timestamp representing the server time when this object was created. It is not guaranteed "
    "to be set in happens-before order across separate operations. Clients may not set this value. It is represented "
    "in RFC3339 form and is in UTC.\n\nPopulated by the system. Read-only. Null for lists. More info: "
    "https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#metadata"
)


def column(
    name: str, type: str = "string", *, format: str = "", description: str = "", priority: int = 0
) -> dict[str, Any]:
    """A column definition; columns with a priority above 0 show with `-o wide` only."""
    return {"name": name, "type": type, "format": format, "description": description, "priority": priority}


NAME = column("Name", format="name", description=_NAME_DOC)
AGE = column("Age", description=_CREATED_DOC)
CREATED_AT = column("Created At", type="date", description=_CREATED_DOC)


def table(
    columns: list[dict[str, Any]],
    objects: Iterable[dict[str, Any]],
    cells: Callable[[dict[str, Any]], list[Any]],
    *,
    include_object: str = "Metadata",
    list_meta: Mapping[str, Any] | None = None,
    api_version: str = META_V1,
    with_columns: bool = True,
) -> dict[str, Any]:
    """A Table, one row an object. `include_object` is None, Metadata or Object; a watch sends columns only once."""
    rows = []
    for obj in objects:
        row: dict[str, Any] = {"cells": cells(obj)}
        if include_object == "Object":
            row["object"] = obj
        elif include_object != "None":
            row["object"] = partial_metadata(obj, api_version)
        rows.append(row)
    return {
        "kind": "Table",
        "apiVersion": api_version,
        "metadata": dict(list_meta or {}),
        "columnDefinitions": columns if with_columns else None,
        "rows": rows,
    }


def partial_metadata(obj: Mapping[str, Any], api_version: str = META_V1) -> dict[str, Any]:
    """The object's metadata, all else left out."""
    return {"kind": "PartialObjectMetadata", "apiVersion": api_version, "metadata": obj.get("metadata") or {}}


def partial_metadata_list(
    objects: Iterable[Mapping[str, Any]], list_meta: Mapping[str, Any] | None = None, api_version: str = META_V1
) -> dict[str, Any]:
    return {
        "kind": "PartialObjectMetadataList",
        "apiVersion": api_version,
        "metadata": dict(list_meta or {}),
        "items": [partial_metadata(obj, api_version) for obj in objects],
    }


def age(timestamp: str | None, unix_seconds: float | None = None) -> str:
    """How long ago, as tables show it; `<unknown>` without a time."""
    if not timestamp:
        return "<unknown>"
    current = time.time() if unix_seconds is None else unix_seconds
    try:
        return human_duration(current - parse_time(timestamp))
    except ValueError:
        return "<invalid>"


def default_columns() -> list[dict[str, Any]]:
    """The columns of a kind that brings none of its own."""
    return [NAME, CREATED_AT]


def default_cells(obj: Mapping[str, Any]) -> list[Any]:
    meta = obj.get("metadata") or {}
    return [meta.get("name", ""), meta.get("creationTimestamp")]
