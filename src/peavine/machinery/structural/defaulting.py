"""Defaulting: the values that a structural schema gives to what is absent.

Follows apiextensions-apiserver's `schema/defaulting`.
"""

from __future__ import annotations

import copy
from typing import Any

from peavine.machinery.structural.node import Structural


def apply_defaults(value: Any, schema: Structural | None) -> None:
    """Fill in defaults, in place; nulls where null is not allowed count as absent."""
    if schema is None or not schema.has_defaults:
        return
    if isinstance(value, dict):
        for key, child in schema.properties.items():
            if child.has_default and (key not in value or (value[key] is None and not child.nullable)):
                value[key] = copy.deepcopy(child.default)
        for key in value:
            known = schema.properties.get(key)
            if known is None:
                known = schema.value_schema
                if known and value[key] is None and not known.nullable:
                    value[key] = copy.deepcopy(known.default)
            apply_defaults(value[key], known)
    elif isinstance(value, list):
        items = schema.items
        for index, item in enumerate(value):
            if items and item is None and not items.nullable:
                value[index] = copy.deepcopy(items.default)
            apply_defaults(value[index], items)


def prune_nulls(value: Any, schema: Structural | None) -> None:
    """Drop, in place, nulls that are not allowed and that no default replaces."""
    if schema is None:
        return
    if isinstance(value, dict):
        for key in list(value):
            known = schema.child(key)
            if known is None:
                continue
            if value[key] is None:
                if not known.nullable and not known.has_default:
                    del value[key]
            else:
                prune_nulls(value[key], known)
    elif isinstance(value, list):
        for item in value:
            prune_nulls(item, schema.items)
