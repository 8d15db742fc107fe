"""Pruning: what a structural schema does not mention is dropped.

Follows apiextensions-apiserver's `schema/pruning` and, for embedded metadata, `schema/objectmeta`.
"""

from __future__ import annotations

from typing import Any

from peavine.machinery.decode import DecodeError, decode_plain
from peavine.machinery.schema import Schema
from peavine.machinery.structural.node import Structural

_OWN = ("apiVersion", "kind", "metadata")


def prune(obj: Any, schema: Structural, *, root: bool = True) -> list[str]:
    """Drop unknown fields in place; the paths of what was dropped (`spec.list[0].foo`).

    `root`: the value is a whole object, whose apiVersion, kind and metadata are kept whatever the schema says. Metadata
    itself is not looked into: it is decoded by its own type.
    """
    dropped: list[str] = []
    _prune(obj, schema, "", dropped, own=root)
    return dropped


def _prune(value: Any, schema: Structural | None, path: str, dropped: list[str], own: bool = False) -> None:
    preserve = schema is not None and schema.preserve_unknown
    if isinstance(value, dict):
        keeps = _OWN if own or (schema is not None and schema.embedded) else ()
        for key in list(value):
            if key in keeps:
                if key == "metadata" and not own:
                    _coerce_metadata(value, f"{path}.metadata" if path else "metadata", dropped)
                continue
            at = f"{path}.{key}" if path else key
            known = schema.properties.get(key) if schema else None
            if known is not None:
                _prune(value[key], known, at, dropped)
            elif schema is not None and schema.additional is not None:
                _prune(value[key], schema.value_schema, at, dropped)
            elif not preserve:
                dropped.append(at)
                del value[key]
    elif isinstance(value, list):
        items = schema.items if schema else None
        if items is None and preserve:
            return
        for index, item in enumerate(value):
            _prune(item, items, f"{path}[{index}]", dropped)


def _coerce_metadata(value: dict[str, Any], path: str, dropped: list[str]) -> None:
    """Decode the metadata of an embedded resource by its type; what does not fit is dropped."""
    metadata = value["metadata"]
    if not isinstance(metadata, dict):
        dropped.append(path)
        del value["metadata"]
        return
    meta_type = Schema.load().meta("ObjectMeta")
    for key in list(metadata):
        field = meta_type.fields.get(key)
        try:
            if field is None:
                raise DecodeError("unknown")
            decode_plain({key: metadata[key]}, meta_type)
        except DecodeError:
            dropped.append(f"{path}.{key}")
            del metadata[key]
