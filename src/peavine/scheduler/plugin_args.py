"""What a configuration may say to each plugin (`pluginConfig[].args`): upstream's rules and words. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import pairwise
from typing import Any

from peavine.machinery.duration import parse_duration
from peavine.machinery.errors import FieldError, duplicate, forbidden_field, invalid_value, not_supported, required
from peavine.machinery.validation import is_qualified_name

Args = Mapping[str, Any]
_STRATEGIES = ("LeastAllocated", "MostAllocated", "RequestedToCapacityRatio")
_ACTIONS = ("DoNotSchedule", "ScheduleAnyway")
SCORE_MAX = 10  # of a shape's point

# The fields of each plugin's arguments; others are refused.
FIELDS: dict[str, frozenset[str]] = {
    "DefaultPreemption": frozenset(("minCandidateNodesPercentage", "minCandidateNodesAbsolute")),
    "InterPodAffinity": frozenset(("hardPodAffinityWeight", "ignorePreferredTermsOfExistingPods")),
    "NodeAffinity": frozenset(("addedAffinity",)),
    "NodeResourcesBalancedAllocation": frozenset(("resources",)),
    "NodeResourcesFit": frozenset(("ignoredResources", "ignoredResourceGroups", "scoringStrategy")),
    "PodTopologySpread": frozenset(("defaultConstraints", "defaultingType")),
    "VolumeBinding": frozenset(("bindTimeoutSeconds", "shape")),
    "DynamicResources": frozenset(("filterTimeout", "bindingTimeout")),
}


def check_args(plugin: str, args: Args, path: str) -> list[FieldError]:
    """The mistakes in a plugin's arguments, in upstream's words."""
    check = _CHECKS.get(plugin)
    return check(args, path) if check is not None else []


def seconds_of(value: Any) -> float:
    """A metav1.Duration in seconds: `5s`; a number is nanoseconds. Raises ValueError."""
    return float(value) / 1e9 if isinstance(value, int | float) else parse_duration(str(value))


def _preemption(args: Args, path: str) -> list[FieldError]:
    percent, least = args.get("minCandidateNodesPercentage", 10), args.get("minCandidateNodesAbsolute", 100)
    percent_path, least_path = f"{path}.minCandidateNodesPercentage", f"{path}.minCandidateNodesAbsolute"
    errors = []
    if not 0 <= percent <= 100:
        errors.append(invalid_value(percent_path, percent, "not in valid range [0, 100]"))
    if least < 0:
        errors.append(invalid_value(least_path, least, "not in valid range [0, inf)"))
    if percent == 0 and least == 0:
        words = "cannot be zero at the same time as minCandidateNodes"
        errors.append(invalid_value(percent_path, percent, words + "Absolute"))
        errors.append(invalid_value(least_path, least, words + "Percentage"))
    return errors


def _inter_pod_affinity(args: Args, path: str) -> list[FieldError]:
    weight = args.get("hardPodAffinityWeight", 1)
    if 0 <= weight <= 100:
        return []
    return [invalid_value(f"{path}.hardPodAffinityWeight", weight, "not in valid range [0, 100]")]


def _node_affinity(args: Args, path: str) -> list[FieldError]:
    from peavine.api.core.nodeselector import matches_requirement

    errors = []
    affinity = args.get("addedAffinity") or {}
    required_part = affinity.get("requiredDuringSchedulingIgnoredDuringExecution") or {}
    where = f"{path}.addedAffinity.requiredDuringSchedulingIgnoredDuringExecution"
    terms = [
        (f"{where}.nodeSelectorTerms[{n}]", term) for n, term in enumerate(required_part.get("nodeSelectorTerms") or ())
    ]
    where = f"{path}.addedAffinity.preferredDuringSchedulingIgnoredDuringExecution"
    preferred = affinity.get("preferredDuringSchedulingIgnoredDuringExecution") or ()
    terms += [(f"{where}[{n}]", weighted.get("preference") or {}) for n, weighted in enumerate(preferred)]
    for where, term in terms:
        for n, requirement in enumerate(term.get("matchExpressions") or ()):
            operator = requirement.get("operator")
            if operator not in ("In", "NotIn", "Exists", "DoesNotExist", "Gt", "Lt"):
                problem = f'"{operator}" is not a valid label selector operator'
                errors.append(invalid_value(f"{where}.matchExpressions[{n}].operator", operator, problem))
                continue
            matches_requirement(requirement, {})
    return errors


def _balanced(args: Args, path: str) -> list[FieldError]:
    errors: list[FieldError] = []
    seen: set[str] = set()
    for n, resource in enumerate(args.get("resources") or ()):
        where = f"{path}.resources[{n}]"
        if resource["name"] in seen:
            errors.append(duplicate(f"{where}.name", resource["name"]))
        seen.add(resource["name"])
        if resource.get("weight", 1) != 1:
            errors.append(invalid_value(f"{where}.weight", resource["weight"], "must be 1"))
    return errors


def _fit(args: Args, path: str) -> list[FieldError]:
    errors: list[FieldError] = []
    for n, name in enumerate(args.get("ignoredResources") or ()):
        errors += [invalid_value(f"{path}.ignoredResources[{n}]", name, words) for words in is_qualified_name(name)]
    for n, group in enumerate(args.get("ignoredResourceGroups") or ()):
        where = f"{path}.ignoredResourceGroups[{n}]"
        if "/" in group:
            errors.append(invalid_value(where, group, "resource group name can't contain '/'"))
        errors += [invalid_value(where, group, words) for words in is_qualified_name(group)]
    strategy = args.get("scoringStrategy")
    if strategy is None:
        return errors
    where, kind = f"{path}.scoringStrategy", strategy.get("type") or ""
    if kind not in _STRATEGIES:
        errors.append(not_supported(f"{where}.type", kind, _STRATEGIES))
    for n, resource in enumerate(strategy.get("resources") or ()):
        weight = resource.get("weight", 1)
        if not 0 < weight <= 100:
            words = f"resource weight of {resource['name']} not in valid range (0, 100]"
            errors.append(invalid_value(f"{where}.resources[{n}].weight", weight, words))
    ratio = strategy.get("requestedToCapacityRatio")
    where += ".requestedToCapacityRatio"
    if kind == "RequestedToCapacityRatio":
        if ratio is None:
            errors.append(required(where, "must be specified when type is RequestedToCapacityRatio"))
        else:
            errors += _shape(ratio.get("shape") or [], f"{where}.shape")
    elif ratio is not None:
        errors.append(forbidden_field(where, "must be nil when type is not RequestedToCapacityRatio"))
    return errors


def _shape(shape: list[Args], path: str) -> list[FieldError]:
    if not shape:
        return [required(path, "at least one point must be specified")]
    errors = []
    for n, (before, point) in enumerate(pairwise(shape), 1):
        if (before.get("utilization") or 0) >= (use := point.get("utilization") or 0):
            words = "values must be sorted in increasing order"
            errors.append(invalid_value(f"{path}[{n}].utilization", use, words))
            break
    for n, point in enumerate(shape):
        use, score = point.get("utilization") or 0, point.get("score") or 0
        if not 0 <= use <= 100:
            errors.append(invalid_value(f"{path}[{n}].utilization", use, "not in valid range [0, 100]"))
        if not 0 <= score <= SCORE_MAX:
            errors.append(invalid_value(f"{path}[{n}].score", score, f"not in valid range [0, {SCORE_MAX}]"))
    return errors


def _spreading(args: Args, path: str) -> list[FieldError]:
    errors: list[FieldError] = []
    kind, constraints = args.get("defaultingType", "System"), args.get("defaultConstraints") or ()
    where = f"{path}.defaultingType"
    if kind not in ("System", "List"):
        errors.append(not_supported(where, kind, ("System", "List")))
    elif kind == "System" and constraints:
        errors.append(invalid_value(where, kind, "when .defaultConstraints are not empty"))
    seen: set[tuple[Any, Any]] = set()
    for n, constraint in enumerate(constraints):
        where = f"{path}.defaultConstraints[{n}]"
        skew, key = constraint.get("maxSkew") or 0, constraint.get("topologyKey") or ""
        action = constraint.get("whenUnsatisfiable") or ""
        if skew <= 0:
            errors.append(invalid_value(f"{where}.maxSkew", skew, "not in valid range (0, inf)"))
        if not key:
            errors.append(required(f"{where}.topologyKey", "can not be empty"))
        else:
            errors += [invalid_value(f"{where}.topologyKey", key, words) for words in is_qualified_name(key)]
        if not action:
            errors.append(required(f"{where}.whenUnsatisfiable", "can not be empty"))
        elif action not in _ACTIONS:
            errors.append(not_supported(f"{where}.whenUnsatisfiable", action, _ACTIONS))
        if constraint.get("labelSelector") is not None:
            words = "constraint must not define a selector, as they deduced for each pod"
            errors.append(forbidden_field(f"{where}.labelSelector", words))
        if (key, action) in seen:
            errors.append(duplicate(where, f"{{{key}, {action}}}"))
        seen.add((key, action))
    return errors


def _volume_binding(args: Args, path: str) -> list[FieldError]:
    errors = []
    seconds = args.get("bindTimeoutSeconds", 600)
    if seconds < 0:
        words = "invalid BindTimeoutSeconds, should not be a negative value"
        errors.append(invalid_value(f"{path}.bindTimeoutSeconds", seconds, words))
    if args.get("shape") is not None:
        words = "unexpected field `shape`, remove it or turn on the feature gate StorageCapacityScoring"
        errors.append(invalid_value(f"{path}.shape", args["shape"], words))
    return errors


def _dynamic_resources(args: Args, path: str) -> list[FieldError]:
    errors = []
    for field, least, words in (
        ("filterTimeout", 0.0, "must be zero or positive"),
        ("bindingTimeout", 1.0, "must be at least 1 second"),
    ):
        if args.get(field) is not None:
            try:
                if seconds_of(args[field]) < least:
                    errors.append(invalid_value(f"{path}.{field}", args[field], words))
            except ValueError as error:
                errors.append(invalid_value(f"{path}.{field}", args[field], str(error)))
    return errors


_CHECKS: dict[str, Callable[[Args, str], list[FieldError]]] = {
    "DefaultPreemption": _preemption,
    "InterPodAffinity": _inter_pod_affinity,
    "NodeAffinity": _node_affinity,
    "NodeResourcesBalancedAllocation": _balanced,
    "NodeResourcesFit": _fit,
    "PodTopologySpread": _spreading,
    "VolumeBinding": _volume_binding,
    "DynamicResources": _dynamic_resources,
}
