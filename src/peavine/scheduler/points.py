"""Extension points: which plugin has a part at which, and what a profile leaves of that. Pure.

A plugin is one object here, asked for a check (its preFilter and filter) and a rating (preScore and score); what it
does elsewhere (bind volumes, say) belongs to the loop. A profile says at which points each of them counts.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

POINTS = (
    "preEnqueue",
    "queueSort",
    "preFilter",
    "filter",
    "postFilter",
    "preScore",
    "score",
    "reserve",
    "permit",
    "preBind",
    "bind",
    "postBind",
)
# Upstream's plugins in the order in which they are on by default, with the points that each has a part at.
_FILTERS = ("preFilter", "filter")
_SCORES = ("preScore", "score")
PLUGINS: dict[str, tuple[str, ...]] = {
    "SchedulingGates": ("preEnqueue",),
    "PrioritySort": ("queueSort",),
    "NodeUnschedulable": ("filter",),
    "NodeName": ("filter",),
    "TaintToleration": ("filter", *_SCORES),
    "NodeAffinity": (*_FILTERS, *_SCORES),
    "NodePorts": _FILTERS,
    "NodeResourcesFit": (*_FILTERS, *_SCORES),
    "VolumeRestrictions": _FILTERS,
    "NodeVolumeLimits": _FILTERS,
    "VolumeBinding": (*_FILTERS, *_SCORES, "reserve", "preBind"),
    "VolumeZone": _FILTERS,
    "PodTopologySpread": (*_FILTERS, *_SCORES),
    "InterPodAffinity": (*_FILTERS, *_SCORES),
    "DynamicResources": ("preEnqueue", *_FILTERS, "postFilter", "reserve", "preBind"),
    "DefaultPreemption": ("preEnqueue", "postFilter"),
    "NodeResourcesBalancedAllocation": _SCORES,
    "ImageLocality": ("score",),
    "DefaultBinder": ("bind",),
    "NodeDeclaredFeatures": _FILTERS,
}
WEIGHTS = {"TaintToleration": 3, "NodeAffinity": 2, "PodTopologySpread": 2, "InterPodAffinity": 2}
# Plugins whose filter, or score, cannot do without what they find out before it.
_NEEDS_PRE_FILTER = ("NodePorts", "NodeResourcesFit", "VolumeRestrictions", "PodTopologySpread", "InterPodAffinity")
_NEEDS_PRE_SCORE = ("TaintToleration", "PodTopologySpread", "InterPodAffinity")

Weighted = tuple[str, int]


class PointsError(ValueError):
    """A profile that no scheduler can be made of; the text is upstream's."""


def _interface(point: str) -> str:
    return point[0].upper() + point[1:] + "Plugin"


def default_points() -> dict[str, tuple[str, ...]]:
    return {point: tuple(name for name, parts in PLUGINS.items() if point in parts) for point in POINTS}


def points_of(scheduler: str, plugins: Mapping[str, Any], binds_otherwise: bool = False) -> dict[str, list[Weighted]]:
    """The plugins at each point, in their order, with their weights. `plugins` is a profile's `plugins`.

    Raises PointsError."""
    multi = _merged([(name, WEIGHTS.get(name, 1)) for name in PLUGINS], plugins.get("multiPoint") or {})
    for name, _ in multi:
        if name not in PLUGINS:
            raise PointsError(f'plugin "{name}" does not exist')
    points = {point: _at(point, multi, plugins.get(point) or {}) for point in POINTS}
    quoted = f'profile with scheduler name "{scheduler}"'
    if not points["queueSort"]:
        raise PointsError(f"at least one queue sort plugin is required for {quoted}")
    if not points["bind"] and not binds_otherwise:
        raise PointsError(f"at least one bind plugin is needed for {quoted}")
    return points


def _merged(defaults: list[Weighted], custom: Mapping[str, Any]) -> list[Weighted]:
    """The default set with a custom one laid over: disabled ones out (`*`: all), enabled ones in place, or last."""
    disabled = _names(custom.get("disabled"))
    enabled = dict(_enabled(custom))
    kept = [] if "*" in disabled else [(n, enabled.get(n, w)) for n, w in defaults if n not in disabled]
    known = dict(kept)
    return kept + [(n, w) for n, w in enabled.items() if n not in known]


def _at(point: str, multi: list[Weighted], custom: Mapping[str, Any]) -> list[Weighted]:
    """One point: what is enabled there comes first where it is on everywhere too, and last where it is not."""
    enabled, disabled = _enabled(custom), _names(custom.get("disabled"))
    seen: set[str] = set()
    for name, _ in enabled:
        if name not in PLUGINS:
            raise PointsError(f'{_interface(point)} "{name}" does not exist')
        if point not in PLUGINS[name]:
            raise PointsError(f'plugin "{name}" does not extend {_interface(point)} plugin')
        if name in seen:
            raise PointsError(f'plugin "{name}" already registered as "{_interface(point)}"')
        seen.add(name)
    everywhere = {name for name, _ in multi}
    middle = [(n, w) for n, w in multi if point in PLUGINS[n] and n not in disabled and n not in seen]
    first = [(n, w) for n, w in enabled if n in everywhere]
    last = [(n, w) for n, w in enabled if n not in everywhere]
    return [*first, *([] if "*" in disabled else middle), *last]


def _enabled(custom: Mapping[str, Any]) -> list[Weighted]:
    return [(entry.get("name") or "", entry.get("weight") or 1) for entry in custom.get("enabled") or ()]


def _names(entries: Iterable[Mapping[str, Any]] | None) -> set[str]:
    return {entry.get("name") or "" for entry in entries or ()}


def missing_part(points: Mapping[str, Iterable[str]]) -> str:
    """The error of every attempt in a profile that leaves out what another part of a plugin needs; "" where all is
    well."""
    for name in points["filter"]:
        if name in _NEEDS_PRE_FILTER and name not in points["preFilter"]:
            return f'running "{name}" filter plugin: reading "PreFilter{name}" from cycleState: not found'
    for name in points["score"]:
        if name in _NEEDS_PRE_SCORE and name not in points["preScore"]:
            words = f'reading "PreScore{name}" from cycleState: not found'
            return f'running Score plugins: plugin "{name}" failed with: {words}'
    return ""
