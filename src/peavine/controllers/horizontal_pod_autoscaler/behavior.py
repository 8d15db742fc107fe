"""Limits, rates and stabilisation of a wish to scale. Pure; keeps what was wished and done before in `History`."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

Object = dict[str, Any]

DOWNSCALE_SECONDS = 300
UP_FACTOR, UP_LEAST = 2, 4


@dataclass
class History:
    """Of one autoscaler: recommendations and changes with their times (Unix seconds)."""

    wishes: list[tuple[float, int]] = field(default_factory=list)
    ups: list[tuple[float, int]] = field(default_factory=list)
    downs: list[tuple[float, int]] = field(default_factory=list)


@dataclass(frozen=True)
class Verdict:
    replicas: int
    able: tuple[str, str]  # reason and message of AbleToScale
    limited: tuple[bool, str, str]  # value, reason and message of ScalingLimited


NOT_LIMITED = (False, "DesiredWithinRange", "the desired count is within the acceptable range")
READY = ("ReadyForNewScale", "recommended size matches current size")


def decide(
    spec: Object,
    current: int,
    wish: int,
    history: History,
    now: float,
    *,
    downscale_seconds: float = DOWNSCALE_SECONDS,
) -> Verdict:
    """What becomes of `wish` replicas. `downscale_seconds` is the window downwards where the spec names none."""
    behavior = spec.get("behavior")
    least, most = spec.get("minReplicas", 1), spec["maxReplicas"]
    stable, able = _stabilized(behavior, current, wish, history, now, downscale_seconds)
    if behavior is None:
        limit = max(UP_FACTOR * current, UP_LEAST)
        if stable > min(limit, most):
            if limit < most:
                message = "the desired replica count is increasing faster than the maximum scale rate"
                return Verdict(limit, able, (True, "ScaleUpLimit", message))
            return Verdict(most, able, _too_many())
        return Verdict(max(stable, least), able, _too_few(least) if stable < least else NOT_LIMITED)
    if stable > current:
        limit = max(current, _rate_up(behavior.get("scaleUp") or {}, current, history, now))
        if stable > min(limit, most):
            if limit < most:
                message = "the desired replica count is increasing faster than the maximum scale rate"
                return Verdict(limit, able, (True, "ScaleUpLimit", message))
            return Verdict(most, able, _too_many())
    elif stable < current:
        limit = min(current, _rate_down(behavior.get("scaleDown") or {}, current, history, now))
        if stable < max(limit, least):
            if limit > least:
                message = "the desired replica count is decreasing faster than the maximum scale rate"
                return Verdict(limit, able, (True, "ScaleDownLimit", message))
            return Verdict(least, able, _too_few(least))
    return Verdict(max(least, min(most, stable)), able, NOT_LIMITED)


def _too_many() -> tuple[bool, str, str]:
    return True, "TooManyReplicas", "the desired replica count is more than the maximum replica count"


def _too_few(least: int) -> tuple[bool, str, str]:
    if least == 0:
        return True, "TooFewReplicas", "the desired replica count is zero"
    return True, "TooFewReplicas", "the desired replica count is less than the minimum replica count"


def _stabilized(
    behavior: Object | None, current: int, wish: int, history: History, now: float, downscale_seconds: float
) -> tuple[int, tuple[str, str]]:
    """Not below the highest wish of the last minutes, nor above the lowest of the (mostly empty) window upwards."""
    up, down = ((behavior or {}).get(part) or {} for part in ("scaleUp", "scaleDown"))
    up_window = up.get("stabilizationWindowSeconds") or 0
    down_window = down.get("stabilizationWindowSeconds")
    down_window = downscale_seconds if down_window is None else down_window
    kept = max(up_window, down_window)
    history.wishes = [(at, n) for at, n in history.wishes if at > now - kept] if kept else []
    floor = min([wish, *(n for at, n in history.wishes if at > now - up_window)])
    ceiling = max([wish, *(n for at, n in history.wishes if at > now - down_window)])
    history.wishes.append((now, wish))
    stable = current
    if stable < floor:
        stable = floor
    if stable > ceiling:
        stable = ceiling
    if stable == wish:
        return stable, READY
    if wish < current:
        return stable, (
            "ScaleDownStabilized",
            "recent recommendations were higher than current one, applying the highest recent recommendation",
        )
    return stable, (
        "ScaleUpStabilized",
        "recent recommendations were lower than current one, applying the lowest recent recommendation",
    )


def _recent(events: list[tuple[float, int]], seconds: int, now: float) -> int:
    return sum(change for at, change in events if at > now - seconds)


def _rate_up(rules: Object, current: int, history: History, now: float) -> int:
    select = rules.get("selectPolicy") or "Max"
    if select == "Disabled":
        return current
    found = []
    for policy in rules.get("policies") or []:
        period = policy["periodSeconds"]
        start = current - _recent(history.ups, period, now) + _recent(history.downs, period, now)
        if policy["type"] == "Pods":
            found.append(start + policy["value"])
        else:
            found.append(math.ceil(start * (1 + policy["value"] / 100)))
    return (min if select == "Min" else max)(found, default=current)


def _rate_down(rules: Object, current: int, history: History, now: float) -> int:
    select = rules.get("selectPolicy") or "Max"
    if select == "Disabled":
        return current
    found = []
    for policy in rules.get("policies") or []:
        period = policy["periodSeconds"]
        start = current + _recent(history.downs, period, now) - _recent(history.ups, period, now)
        if policy["type"] == "Pods":
            found.append(start - policy["value"])
        else:
            found.append(int(start * (1 - policy["value"] / 100)))
    return (max if select == "Min" else min)(found, default=current)


def remember(history: History, spec: Object, before: int, after: int, now: float) -> None:
    """A change that was made, for the rates; only where there are any."""
    if spec.get("behavior") is None:
        return
    kept = 1800
    history.ups = [(at, n) for at, n in history.ups if at > now - kept]
    history.downs = [(at, n) for at, n in history.downs if at > now - kept]
    if after > before:
        history.ups.append((now, after - before))
    elif after < before:
        history.downs.append((now, before - after))
