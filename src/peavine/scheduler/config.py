"""KubeSchedulerConfiguration (kubescheduler.config.k8s.io/v1): read, check, and turn into profiles.

Errors carry the path of the field, as the API server's do: a scheduler with a configuration that it does not understand
does not start.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from peavine.machinery.errors import FieldError, aggregate, forbidden_field, invalid_value, not_supported, required
from peavine.scheduler.evaluation import Profile
from peavine.scheduler.plugins import DEFAULT_PLUGINS, OTHER_PLUGINS, Plugin

API_VERSION = "kubescheduler.config.k8s.io/v1"
DEFAULT_NAME = "default-scheduler"
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
    "multiPoint",
)
_WEIGHTED = {plugin.name: weight for plugin, weight in DEFAULT_PLUGINS}
_CLASSES: dict[str, type[Plugin]] = {plugin.name: plugin for plugin, _ in DEFAULT_PLUGINS}
# Upstream's full list in its order: those that are not filters or scores are named too, for they can be disabled.
DEFAULT_ORDER = (
    "SchedulingGates",
    "PrioritySort",
    "NodeUnschedulable",
    "NodeName",
    "TaintToleration",
    "NodeAffinity",
    "NodePorts",
    "NodeResourcesFit",
    "VolumeRestrictions",
    "NodeVolumeLimits",
    "VolumeBinding",
    "VolumeZone",
    "PodTopologySpread",
    "InterPodAffinity",
    "DynamicResources",
    "DefaultPreemption",
    "NodeResourcesBalancedAllocation",
    "ImageLocality",
    "DefaultBinder",
)


class ConfigurationError(ValueError):
    """The configuration cannot be used; the text names the fields."""


@dataclass(frozen=True)
class Extender:
    """An HTTP service that takes part in decisions."""

    url_prefix: str
    filter_verb: str = ""
    prioritize_verb: str = ""
    preempt_verb: str = ""
    bind_verb: str = ""
    weight: int = 1
    timeout_seconds: float = 5.0
    node_cache_capable: bool = False
    managed_resources: tuple[tuple[str, bool], ...] = ()  # (name, ignored by the scheduler)
    ignorable: bool = False


@dataclass(frozen=True)
class Configuration:
    profiles: tuple[Profile, ...]
    backoff_seconds: float = 1.0
    backoff_seconds_max: float = 10.0
    extenders: tuple[Extender, ...] = ()
    preempts: frozenset[str] = frozenset((DEFAULT_NAME,))  # profiles with DefaultPreemption
    preemption_args: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)  # by profile
    leader_election: Mapping[str, Any] = field(default_factory=dict)
    kubeconfig: str = ""


def load(text: str) -> Configuration:
    """From the text of a file, YAML or JSON. Raises ConfigurationError."""
    import yaml

    try:
        doc = yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    except yaml.YAMLError as error:
        raise ConfigurationError(f"couldn't parse the configuration: {error}") from error
    return parse(doc)


def parse(doc: Any) -> Configuration:
    """From the decoded document. Raises ConfigurationError."""
    if not isinstance(doc, dict) or (doc.get("apiVersion"), doc.get("kind")) != (
        API_VERSION,
        "KubeSchedulerConfiguration",
    ):
        kind = doc.get("kind") if isinstance(doc, dict) else None
        version = doc.get("apiVersion") if isinstance(doc, dict) else None
        raise ConfigurationError(
            f'couldn\'t decode as KubeSchedulerConfiguration, got {version}/{kind}: no kind "{kind}" is registered '
            f'for version "{version}"'
        )
    errors: list[FieldError] = []
    profiles = doc.get("profiles") or [{}]
    made, preempts, preemption_args = [], set(), {}
    names: set[str] = set()
    for n, profile in enumerate(profiles):
        path = f"profiles[{n}]"
        name = profile.get("schedulerName") or (DEFAULT_NAME if len(profiles) == 1 else "")
        if not name:
            errors.append(required(f"{path}.schedulerName"))
        if name in names:
            errors.append(FieldError("Duplicate", f"{path}.schedulerName", name))
        names.add(name)
        built, points = _profile(name, profile, path, errors)
        made.append(built)
        if "DefaultPreemption" in points.get("postFilter", ()):
            preempts.add(name)
        preemption_args[name] = _args_of(profile).get("DefaultPreemption", {})
    backoff = doc.get("podInitialBackoffSeconds", 1)
    backoff_max = doc.get("podMaxBackoffSeconds", 10)
    if backoff <= 0:
        errors.append(invalid_value("podInitialBackoffSeconds", backoff, "must be greater than 0"))
    if backoff_max < backoff:
        errors.append(
            invalid_value(
                "podMaxBackoffSeconds", backoff_max, "must be greater than or equal to PodInitialBackoffSeconds"
            )
        )
    percentage = doc.get("percentageOfNodesToScore") or 0
    if not 0 <= percentage <= 100:
        errors.append(invalid_value("percentageOfNodesToScore", percentage, "not in valid range [0-100]"))
    extenders = tuple(_extender(e, f"extenders[{n}]", errors) for n, e in enumerate(doc.get("extenders") or ()))
    if sum(bool(e.bind_verb) for e in extenders) > 1:
        errors.append(invalid_value("extenders", "found more than 1 extender implementing bind", "only one may"))
    if errors:
        raise ConfigurationError(aggregate(errors))
    return Configuration(
        tuple(made),
        float(backoff),
        float(backoff_max),
        extenders,
        frozenset(preempts),
        preemption_args,
        doc.get("leaderElection") or {},
        (doc.get("clientConnection") or {}).get("kubeconfig") or "",
    )


def _args_of(profile: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    return {entry["name"]: entry.get("args") or {} for entry in profile.get("pluginConfig") or ()}


def _profile(
    name: str, profile: Mapping[str, Any], path: str, errors: list[FieldError]
) -> tuple[Profile, dict[str, list[str]]]:
    """The profile, and which plugins are on at each point, in order."""
    known = frozenset(DEFAULT_ORDER) | {plugin.name for plugin in OTHER_PLUGINS}
    plugins = profile.get("plugins") or {}
    for point, part in plugins.items():
        if point not in POINTS:
            errors.append(forbidden_field(f"{path}.plugins.{point}", "unknown extension point"))
            continue
        for entry in part.get("enabled") or ():
            if entry.get("name") not in known:
                errors.append(not_supported(f"{path}.plugins.{point}.enabled", entry.get("name"), sorted(known)))
    args = _args_of(profile)
    for n, entry in enumerate(profile.get("pluginConfig") or ()):
        if entry["name"] in known:
            errors += _check_args(entry["name"], entry.get("args") or {}, f"{path}.pluginConfig[{n}].args")
    multi = plugins.get("multiPoint") or {}
    order = _merged([(n, _WEIGHTED.get(n, 0)) for n in DEFAULT_ORDER], multi)
    points: dict[str, list[str]] = {}
    weights: dict[str, int] = {}
    for point in ("filter", "score", "postFilter"):
        at = _merged(order, plugins.get(point) or {}, specific=True)
        points[point] = [plugin for plugin, _ in at]
        if point == "score":
            weights = {plugin: weight or 1 for plugin, weight in at}
    used = [*dict.fromkeys([*points["filter"], *points["score"]])]
    rank = {plugin: n for n, plugin in enumerate([p for p, _ in order])}
    used.sort(key=lambda plugin: rank.get(plugin, len(rank)))
    classes = _CLASSES | {plugin.name: plugin for plugin in OTHER_PLUGINS}
    return (
        Profile(
            name,
            tuple((classes[p](args.get(p)), weights.get(p, 0)) for p in used if p in classes),
            frozenset(points["filter"]),
            frozenset(points["score"]),
        ),
        points,
    )


def _merged(
    defaults: list[tuple[str, int]], custom: Mapping[str, Any], specific: bool = False
) -> list[tuple[str, int]]:
    """A plugin set with a custom one laid over: disabled ones out (`*`: all), enabled ones in their place, or after.

    At one point (`specific`), what is enabled there comes before what comes from multiPoint."""
    disabled = {entry.get("name") for entry in custom.get("disabled") or ()}
    enabled = {e["name"]: e.get("weight") or _WEIGHTED.get(e["name"], 0) for e in custom.get("enabled") or ()}
    kept = [] if "*" in disabled else [(n, w) for n, w in defaults if n not in disabled]
    if specific:
        return [*enabled.items(), *((n, w) for n, w in kept if n not in enabled)]
    replaced = [(n, enabled.get(n, w)) for n, w in kept]
    return replaced + [(n, w) for n, w in enabled.items() if n not in dict(kept)]


def _check_args(name: str, args: Mapping[str, Any], path: str) -> list[FieldError]:
    errors: list[FieldError] = []
    if name == "InterPodAffinity":
        weight = args.get("hardPodAffinityWeight", 1)
        if not 0 <= weight <= 100:
            errors.append(invalid_value(f"{path}.hardPodAffinityWeight", weight, "not in valid range [0-100]"))
    elif name == "NodeResourcesFit":
        strategy = args.get("scoringStrategy") or {}
        kinds = ("LeastAllocated", "MostAllocated", "RequestedToCapacityRatio")
        if strategy.get("type", "LeastAllocated") not in kinds:
            errors.append(not_supported(f"{path}.scoringStrategy.type", strategy["type"], kinds))
        for n, resource in enumerate(strategy.get("resources") or ()):
            if not 1 <= (resource.get("weight") or 1) <= 100:
                where = f"{path}.scoringStrategy.resources[{n}].weight"
                errors.append(
                    invalid_value(
                        where, resource["weight"], f"resource weight of {resource['name']} not in valid range [1, 100]"
                    )
                )
        if strategy.get("type") == "RequestedToCapacityRatio":
            errors += _check_shape(
                (strategy.get("requestedToCapacityRatio") or {}).get("shape") or [],
                f"{path}.scoringStrategy.requestedToCapacityRatio.shape",
            )
    elif name == "PodTopologySpread":
        kind, constraints = args.get("defaultingType", "System"), args.get("defaultConstraints") or ()
        if kind not in ("System", "List"):
            errors.append(not_supported(f"{path}.defaultingType", kind, ("System", "List")))
        if kind == "System" and constraints:
            detail = "when .defaultingType is System"
            errors.append(invalid_value(f"{path}.defaultConstraints", constraints, detail))
        for n, constraint in enumerate(constraints):
            if constraint.get("labelSelector"):
                where = f"{path}.defaultConstraints[{n}].labelSelector"
                errors.append(
                    forbidden_field(where, "constraint must not define a selector, as they deduced for each pod")
                )
    elif name == "DefaultPreemption":
        percent = args.get("minCandidateNodesPercentage", 10)
        if not 0 <= percent <= 100:
            where = f"{path}.minCandidateNodesPercentage"
            errors.append(invalid_value(where, percent, "not in valid range [0, 100]"))
    return errors


def _check_shape(shape: list[Mapping[str, Any]], path: str) -> list[FieldError]:
    if not shape:
        return [required(path, "at least one point must be specified")]
    errors = []
    before = -1
    for n, point in enumerate(shape):
        use, score = point.get("utilization") or 0, point.get("score") or 0
        if not 0 <= use <= 100:
            errors.append(invalid_value(f"{path}[{n}].utilization", use, "not in valid range [0-100]"))
        if not 0 <= score <= 10:
            errors.append(invalid_value(f"{path}[{n}].score", score, "not in valid range [0-10]"))
        if use <= before:
            errors.append(
                invalid_value(f"{path}[{n}].utilization", use, "utilization values must be sorted in increasing order")
            )
        before = use
    return errors


def _extender(doc: Mapping[str, Any], path: str, errors: list[FieldError]) -> Extender:
    if doc.get("prioritizeVerb") and (doc.get("weight") or 0) <= 0:
        errors.append(invalid_value(f"{path}.weight", doc.get("weight"), "must have a positive weight applied to it"))
    if not doc.get("urlPrefix"):
        errors.append(required(f"{path}.urlPrefix"))
    timeout = doc.get("httpTimeout", "5s")
    return Extender(
        (doc.get("urlPrefix") or "").rstrip("/"),
        doc.get("filterVerb") or "",
        doc.get("prioritizeVerb") or "",
        doc.get("preemptVerb") or "",
        doc.get("bindVerb") or "",
        doc.get("weight") or 1,
        _seconds(timeout),
        bool(doc.get("nodeCacheCapable")),
        tuple((r["name"], bool(r.get("ignoredByScheduler"))) for r in doc.get("managedResources") or ()),
        bool(doc.get("ignorable")),
    )


def _seconds(text: Any) -> float:
    """Seconds of a Go duration as far as people write them (`5s`, `500ms`, `1m`); a number is nanoseconds."""
    if isinstance(text, int | float):
        return float(text) / 1e9
    for suffix, factor in (("ms", 0.001), ("s", 1.0), ("m", 60.0), ("h", 3600.0)):
        number = str(text).removesuffix(suffix)
        if number != text and number.replace(".", "", 1).isdigit():
            return float(number) * factor
    raise ConfigurationError(f"time: invalid duration {text!r}")
