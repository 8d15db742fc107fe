"""Lists of conditions, as nearly every status has one: find, and set with a transition time that means something."""

from __future__ import annotations

from typing import Any

Object = dict[str, Any]


def condition(obj: Object, type: str) -> Object | None:
    """The condition of that type in `status.conditions`, or None."""
    for entry in (obj.get("status") or {}).get("conditions") or []:
        if entry.get("type") == type:
            return entry  # type: ignore[no-any-return]
    return None


def is_true(obj: Object, type: str) -> bool:
    entry = condition(obj, type)
    return entry is not None and entry.get("status") == "True"


def set_condition(status: Object, type: str, value: str, reason: str, message: str, now: str) -> bool:
    """Set a condition of a `status`; `lastTransitionTime` moves only when its value changes.

    Fields that the entry has beside these (observedGeneration, lastProbeTime, ...) stay. Returns whether it changed.
    """
    conditions = status.setdefault("conditions", [])
    wanted = {"status": value, "reason": reason, "message": message}
    for entry in conditions:
        if entry.get("type") != type:
            continue
        if all((entry.get(name) or "") == text for name, text in wanted.items()):
            return False
        if entry.get("status") != value:
            entry["lastTransitionTime"] = now
        for name, text in wanted.items():
            if text:
                entry[name] = text
            else:
                entry.pop(name, None)
        return True
    made = {"type": type, "status": value, "lastTransitionTime": now}
    conditions.append(made | {name: text for name, text in wanted.items() if text})
    return True


def drop_condition(status: Object, type: str) -> bool:
    """Remove a condition of a `status`. Returns whether it was there."""
    conditions = status.get("conditions") or []
    left = [entry for entry in conditions if entry.get("type") != type]
    if len(left) == len(conditions):
        return False
    status["conditions"] = left
    return True
