"""Random objects of any schema type: right types, wild content. For finding rules that trip over what is missing."""

from __future__ import annotations

import random
from typing import Any

from peavine.machinery.schema import Type

STRINGS = ("", "a", "x.y/z", "Bad_Value!", "a" * 300, "10.0.0.1", "::1/64", "*", "/p/../q", "50%", "ü", "v1", "TCP")
NUMBERS = (0, 1, -7, 80, 65536, 2**31)
DEPTH_MAX = 9


def value(type: Type, rng: random.Random, depth: int = 0) -> Any:
    kind = type.kind
    if depth > DEPTH_MAX:
        return None
    if kind == "object":
        keep = 0.75 if depth < 3 else 0.4
        return {
            name: value(field.type, rng, depth + 1)
            for name, field in type.fields.items()
            if rng.random() < keep or name in ("spec", "name")
        }
    if kind == "list":
        return [value(type.items, rng, depth + 1) for _ in range(rng.choice((0, 1, 1, 2)))] if type.items else []
    if kind == "map":
        if type.items is None:
            return {}
        return {rng.choice(("a", "cpu", "memory", "x.y/z")): value(type.items, rng, depth + 1) for _ in range(2)}
    if kind == "integer":
        return rng.choice(NUMBERS)
    if kind == "number":
        return rng.choice((0.5, 1.0))
    if kind == "boolean":
        return rng.random() < 0.5
    if kind == "quantity":
        return rng.choice(("1", "100m", "-1", "1Gi", "0"))
    if kind in ("time", "micro-time", "microtime"):
        return "2026-01-01T00:00:00Z"
    if kind == "int-or-string":
        return rng.choice((80, "50%", "http", 0, -1))
    if kind == "any":
        return {"a": 1}
    return rng.choice(STRINGS)
