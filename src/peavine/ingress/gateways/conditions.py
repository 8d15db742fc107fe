"""Conditions as Kubernetes writes them: made, and merged into what an object has already. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

Object = dict[str, Any]


class Condition(NamedTuple):
    type: str
    true: bool
    reason: str
    message: str = ""


def good(type_: str, reason: str = "") -> Condition:
    """A condition that holds; its reason is its type, as upstream mostly has it."""
    return Condition(type_, True, reason or type_)


ACCEPTED, RESOLVED = good("Accepted"), good("ResolvedRefs")


def merged(
    have: Iterable[Object], wanted: Iterable[Condition], generation: int, now: str, gone: Iterable[str] = ()
) -> list[Object]:
    """`have` with `wanted` in it. The time stays where the status does, and so do conditions of others; `gone` names
    types of ours that are left out when they are not wanted.
    """
    left = {c.type: c for c in wanted}
    result = []
    for old in have:
        new = left.pop(old["type"], None)
        if new is not None:
            result.append(_written(new, generation, now, old))
        elif old["type"] not in gone:
            result.append(old)
    return result + [_written(new, generation, now, None) for new in left.values()]


def _written(condition: Condition, generation: int, now: str, old: Object | None) -> Object:
    status = "True" if condition.true else "False"
    same = old is not None and old.get("status") == status
    assert old is not None or not same
    return {
        "type": condition.type,
        "status": status,
        "reason": condition.reason,
        "message": condition.message[:32768],
        "observedGeneration": generation,
        "lastTransitionTime": old["lastTransitionTime"] if same and old is not None else now,
    }
