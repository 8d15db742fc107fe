"""KubeSchedulerConfiguration (kubescheduler.config.k8s.io/v1): read, check, and turn into profiles.

Errors carry the path of the field, as the API server's do: a scheduler with a configuration that it does not understand
does not start.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from peavine.api.core.resourcenames import is_extended
from peavine.machinery.errors import FieldError, aggregate, duplicate, invalid_value, required
from peavine.machinery.validation import is_qualified_name
from peavine.scheduler.evaluation import Profile
from peavine.scheduler.plugin_args import FIELDS, check_args, seconds_of
from peavine.scheduler.plugins import DEFAULT_PLUGINS, Plugin
from peavine.scheduler.points import POINTS, PointsError, missing_part, points_of

API_VERSION = "kubescheduler.config.k8s.io/v1"
DEFAULT_NAME = "default-scheduler"
_CLASSES: dict[str, type[Plugin]] = {plugin.name: plugin for plugin, _ in DEFAULT_PLUGINS}
_GONE = ("AzureDiskLimits", "CinderLimits", "EBSLimits", "GCEPDLimits")
_FIELDS = frozenset(
    (
        "apiVersion",
        "kind",
        "parallelism",
        "leaderElection",
        "clientConnection",
        "enableProfiling",
        "enableContentionProfiling",
        "percentageOfNodesToScore",
        "podInitialBackoffSeconds",
        "podMaxBackoffSeconds",
        "profiles",
        "extenders",
        "delayCacheUntilActive",
    )
)
_PROFILE_FIELDS = frozenset(("schedulerName", "percentageOfNodesToScore", "plugins", "pluginConfig"))
_EXTENDER_FIELDS = frozenset(
    (
        "urlPrefix",
        "filterVerb",
        "preemptVerb",
        "prioritizeVerb",
        "weight",
        "bindVerb",
        "enableHTTPS",
        "tlsConfig",
        "httpTimeout",
        "nodeCacheCapable",
        "managedResources",
        "ignorable",
    )
)


class ConfigurationError(ValueError):
    """The configuration cannot be used; the text names the fields."""


@dataclass(frozen=True)
class Extender:
    """An HTTP service that takes part in decisions. `tls` is its `tlsConfig`, None where it speaks plain HTTP."""

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
    tls: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class Configuration:
    profiles: tuple[Profile, ...]
    backoff_seconds: float = 1.0
    backoff_seconds_max: float = 10.0
    extenders: tuple[Extender, ...] = ()
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
    unknown = _unknown_fields(doc)
    if unknown:
        listed = ", ".join(f'unknown field "{name}"' for name in unknown)
        raise ConfigurationError(f"strict decoding error: {listed}")
    errors: list[FieldError] = []
    extenders = _extenders(doc.get("extenders") or (), errors)
    percentage = _percentage(doc, "", errors)
    profiles: list[Profile] = []
    docs = doc.get("profiles") or [{}]
    seen: dict[str, int] = {}
    for n, profile in enumerate(docs):
        path = f"profiles[{n}]"
        name = profile.get("schedulerName") or (DEFAULT_NAME if len(docs) == 1 else "")
        if not name:
            errors.append(required(f"{path}.schedulerName"))
        elif name in seen:
            errors.append(duplicate(f"{path}.schedulerName", f"profiles[{seen[name]}].schedulerName"))
        seen[name] = n
        own = _percentage(profile, f"{path}.", errors)
        _check_plugins(profile, path, errors)
        if not errors:
            profiles.append(_profile(name, profile, extenders, percentage if own is None else own))
    _check_queue_sort(docs, errors)
    backoff, backoff_max = doc.get("podInitialBackoffSeconds", 1), doc.get("podMaxBackoffSeconds", 10)
    if backoff <= 0:
        errors.append(invalid_value("podInitialBackoffSeconds", backoff, "must be greater than 0"))
    if backoff_max < backoff:
        words = "must be greater than or equal to PodInitialBackoffSeconds"
        errors.append(invalid_value("podMaxBackoffSeconds", backoff_max, words))
    if doc.get("parallelism", 16) <= 0:
        words = "should be an integer value greater than zero"
        errors.append(invalid_value("parallelism", doc["parallelism"], words))
    leader_election = doc.get("leaderElection") or {}
    if (lock := leader_election.get("resourceLock") or "leases") != "leases":
        errors.append(invalid_value("leaderElection.resourceLock", lock, 'resourceLock value must be "leases"'))
    for name in ("leaseDuration", "renewDeadline", "retryPeriod"):
        if leader_election.get(name) is not None:
            try:
                if seconds_of(leader_election[name]) <= 0:
                    errors.append(
                        invalid_value(f"leaderElection.{name}", leader_election[name], "must be greater than zero")
                    )
            except ValueError as error:
                errors.append(invalid_value(f"leaderElection.{name}", leader_election[name], str(error)))
    if errors:
        raise ConfigurationError(aggregate(errors))
    connection = doc.get("clientConnection") or {}
    return Configuration(
        tuple(profiles),
        float(backoff),
        float(backoff_max),
        extenders,
        leader_election,
        connection.get("kubeconfig") or "",
    )


def _unknown_fields(doc: Mapping[str, Any]) -> list[str]:
    unknown = sorted(doc.keys() - _FIELDS)
    for n, profile in enumerate(doc.get("profiles") or ()):
        unknown += [f"profiles[{n}].{name}" for name in sorted(profile.keys() - _PROFILE_FIELDS)]
        points = sorted((profile.get("plugins") or {}).keys() - {*POINTS, "multiPoint"})
        unknown += [f"profiles[{n}].plugins.{name}" for name in points]
        for m, entry in enumerate(profile.get("pluginConfig") or ()):
            given = (entry.get("args") or {}).keys() - {"apiVersion", "kind"}
            known = FIELDS.get(entry.get("name") or "", given)
            unknown += [f"profiles[{n}].pluginConfig[{m}].args.{name}" for name in sorted(given - known)]
    for n, extender in enumerate(doc.get("extenders") or ()):
        unknown += [f"extenders[{n}].{name}" for name in sorted(extender.keys() - _EXTENDER_FIELDS)]
    return unknown


def _percentage(doc: Mapping[str, Any], path: str, errors: list[FieldError]) -> int | None:
    percentage: int | None = doc.get("percentageOfNodesToScore")
    if percentage is not None and not 0 <= percentage <= 100:
        errors.append(invalid_value(f"{path}percentageOfNodesToScore", percentage, "not in valid range [0-100]"))
    return percentage


def _check_plugins(profile: Mapping[str, Any], path: str, errors: list[FieldError]) -> None:
    words = f'was invalid in version "v1" (KubeSchedulerConfiguration is version "{API_VERSION}")'
    for point, part in (profile.get("plugins") or {}).items():
        for n, entry in enumerate(part.get("enabled") or ()):
            if entry.get("name") in _GONE:
                errors.append(invalid_value(f"{path}.plugins.{point}.enabled[{n}]", entry["name"], words))
    seen = set()
    for n, entry in enumerate(profile.get("pluginConfig") or ()):
        where, name = f"{path}.pluginConfig[{n}]", entry.get("name") or ""
        if name in seen:
            errors.append(duplicate(where, name))
        seen.add(name)
        if name in _GONE:
            errors.append(invalid_value(where, name, words))
        args = entry.get("args") or {}
        if name in FIELDS and args.get("kind", f"{name}Args") != f"{name}Args":
            errors.append(invalid_value(f"{where}.args", args["kind"], "has to match plugin args"))
        else:
            errors += check_args(name, args, f"{where}.args")


def _check_queue_sort(profiles: list[Mapping[str, Any]], errors: list[FieldError]) -> None:
    def sets(profile: Mapping[str, Any]) -> Any:
        return (profile.get("plugins") or {}).get("queueSort") or {}

    enabled = sets(profiles[0]).get("enabled") or ()
    if len(enabled) > 1:
        where = "profiles[0].plugins.queueSort.Enabled"
        errors.append(invalid_value(where, len(enabled), "only one queue sort plugin can be enabled"))
    for n, profile in enumerate(profiles[1:], 1):
        if sets(profile) != sets(profiles[0]):
            where = f"profiles[{n}].plugins.queueSort"
            errors.append(invalid_value(where, sets(profile), "must be the same for all profiles"))


def _profile(name: str, profile: Mapping[str, Any], extenders: tuple[Extender, ...], percentage: int | None) -> Profile:
    args: dict[str, Any] = {e["name"]: e.get("args") or {} for e in profile.get("pluginConfig") or ()}
    ignored = [r for extender in extenders for r, is_ignored in extender.managed_resources if is_ignored]
    if ignored:
        fit = args.get("NodeResourcesFit", {})
        args["NodeResourcesFit"] = {**fit, "ignoredResources": [*(fit.get("ignoredResources") or ()), *ignored]}
    binds = any(extender.bind_verb for extender in extenders)
    try:
        at = points_of(name, profile.get("plugins") or {}, binds)
    except PointsError as error:
        raise ConfigurationError(
            f"initializing profiles: creating profile for scheduler name {name}: {error}"
        ) from None
    points = {point: tuple(plugin for plugin, _ in plugins) for point, plugins in at.items()}
    weights = dict(at["score"])
    used = dict.fromkeys([*points["filter"], *points["score"]])
    return Profile(
        name,
        tuple((_CLASSES[plugin](args.get(plugin)), weights.get(plugin, 0)) for plugin in used if plugin in _CLASSES),
        frozenset(points["filter"]),
        frozenset(points["score"]),
        points,
        missing_part(points),
        percentage or 0,
        args,
    )


def _extenders(docs: Any, errors: list[FieldError]) -> tuple[Extender, ...]:
    extenders = []
    managed: set[str] = set()
    for n, doc in enumerate(docs):
        path = f"extenders[{n}]"
        if doc.get("prioritizeVerb") and (doc.get("weight") or 0) <= 0:
            words = "must have a positive weight applied to it"
            errors.append(invalid_value(f"{path}.weight", doc.get("weight") or 0, words))
        if not doc.get("urlPrefix"):
            errors.append(required(f"{path}.urlPrefix"))
        for m, resource in enumerate(doc.get("managedResources") or ()):
            where, resource_name = f"{path}.managedResources[{m}].name", resource.get("name") or ""
            problems = is_qualified_name(resource_name)
            if not problems and not is_extended(resource_name):
                problems = ["is an invalid extended resource name"]
            if resource_name in managed:
                problems = [*problems, "duplicate extender managed resource name"]
            managed.add(resource_name)
            errors += [invalid_value(where, resource_name, problem) for problem in problems]
        timeout = 5.0
        if doc.get("httpTimeout"):
            try:
                timeout = seconds_of(doc["httpTimeout"])
            except ValueError as error:
                errors.append(invalid_value(f"{path}.httpTimeout", doc["httpTimeout"], str(error)))
        tls = doc.get("tlsConfig") or {}
        extenders.append(
            Extender(
                (doc.get("urlPrefix") or "").rstrip("/"),
                doc.get("filterVerb") or "",
                doc.get("prioritizeVerb") or "",
                doc.get("preemptVerb") or "",
                doc.get("bindVerb") or "",
                doc.get("weight") or 1,
                timeout,
                bool(doc.get("nodeCacheCapable")),
                tuple((r["name"], bool(r.get("ignoredByScheduler"))) for r in doc.get("managedResources") or ()),
                bool(doc.get("ignorable")),
                tls if doc.get("enableHTTPS") or tls else None,
            )
        )
    binders = sum(bool(extender.bind_verb) for extender in extenders)
    if binders > 1:
        what = f"found {binders} extenders implementing bind"
        errors.append(invalid_value("extenders", what, "only one extender can implement bind"))
    return tuple(extenders)
