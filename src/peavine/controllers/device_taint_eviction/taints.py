"""Which taints the devices of a claim have (ResourceSlices, DeviceTaintRules), and when they end its pods. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from peavine.api.core.taint import NO_EXECUTE, toleration_seconds
from peavine.machinery.meta import parse_time

Object = dict[str, Any]


class Source(NamedTuple):
    """A taint, and the uid of the rule that it is from ("" where its ResourceSlice has it)."""

    taint: Object
    rule: str


class Eviction(NamedTuple):
    """When a pod has to go (Unix seconds), and the rules because of which."""

    when: float
    rules: frozenset[str]


def selects(rule: Object, driver: str, pool: str, device: str) -> bool:
    """Whether a DeviceTaintRule is about this device. What its selector leaves out is any; no selector, no device."""
    selector = rule["spec"].get("deviceSelector")
    if selector is None:
        return False
    given = {"driver": driver, "pool": pool, "device": device}
    return all(selector.get(part) in (None, value) for part, value in given.items())


def current(slices: Iterable[Object]) -> list[Object]:
    """The slices of each pool's newest generation; the others are on their way out."""
    newest: dict[tuple[str, str], int] = {}
    listed = list(slices)
    for piece in listed:
        pool = piece["spec"]["pool"]
        key = (piece["spec"]["driver"], pool["name"])
        newest[key] = max(newest.get(key, 0), pool.get("generation", 0))
    return [
        s
        for s in listed
        if s["spec"]["pool"].get("generation", 0) == newest[s["spec"]["driver"], s["spec"]["pool"]["name"]]
    ]


def devices_of(claim: Object) -> list[Object]:
    """The devices that are allocated to a claim: `driver`, `pool`, `device`, `tolerations`."""
    allocation = (claim.get("status") or {}).get("allocation") or {}
    return (allocation.get("devices") or {}).get("results") or []


def taints_of(result: Object, slices: list[Object], rules: Iterable[Object]) -> Iterator[Source]:
    """All taints of an allocated device. `slices` are those of newest generations (`current`)."""
    driver, pool, name = result["driver"], result["pool"], result["device"]
    for piece in slices:
        if (piece["spec"]["driver"], piece["spec"]["pool"]["name"]) != (driver, pool):
            continue
        for device in piece["spec"].get("devices") or ():
            if device["name"] == name:
                yield from (Source(taint, "") for taint in device.get("taints") or ())
    for rule in rules:
        if selects(rule, driver, pool, name):
            yield Source(rule["spec"]["taint"], rule["metadata"]["uid"])


def eviction_of(claim: Object, slices: list[Object], rules: list[Object], now: float) -> Eviction | None:
    """When the pods of a claim must go; None where every NoExecute taint of its devices is tolerated for ever."""
    earliest: float | None = None
    because: set[str] = set()
    for result in devices_of(claim):
        for taint, rule in taints_of(result, slices, rules):
            if taint.get("effect") != NO_EXECUTE:
                continue
            allowed = toleration_seconds([taint], result.get("tolerations"))
            if allowed is None:
                continue
            since = parse_time(taint["timeAdded"]) if taint.get("timeAdded") else now
            earliest = since + allowed if earliest is None else min(earliest, since + allowed)
            because.add(rule)
    return None if earliest is None else Eviction(earliest, frozenset(because - {""}))
