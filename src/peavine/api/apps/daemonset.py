"""DaemonSet: a pod on every node that it fits."""

from __future__ import annotations

from typing import Any

from peavine.api.printing import (
    AGE,
    CONTAINERS,
    IMAGES,
    NAME,
    Column,
    containers_and_images,
    labels,
    name,
    object_age,
    selector,
)
from peavine.machinery.errors import FieldError, forbidden_field, invalid_value, not_supported, required

Object = dict[str, Any]

TEMPLATE_GENERATION = "deprecated.daemonset.template.generation"

COLUMNS = (
    NAME,
    Column("Desired", "integer", "@apps.v1.DaemonSetStatus.desiredNumberScheduled"),
    Column("Current", "integer", "@apps.v1.DaemonSetStatus.currentNumberScheduled"),
    Column("Ready", "integer", "@apps.v1.DaemonSetStatus.numberReady"),
    Column("Up-to-date", "integer", "@apps.v1.DaemonSetStatus.updatedNumberScheduled"),
    Column("Available", "integer", "@apps.v1.DaemonSetStatus.numberAvailable"),
    Column("Node Selector", description="@core.v1.PodSpec.nodeSelector"),
    AGE,
    CONTAINERS,
    IMAGES,
    Column("Selector", description="@apps.v1.DaemonSetSpec.selector", priority=1),
)


def row(obj: Object) -> list[Any]:
    spec, status = obj.get("spec") or {}, obj.get("status") or {}
    return [
        name(obj),
        status.get("desiredNumberScheduled") or 0,
        status.get("currentNumberScheduled") or 0,
        status.get("numberReady") or 0,
        status.get("updatedNumberScheduled") or 0,
        status.get("numberAvailable") or 0,
        labels(((spec.get("template") or {}).get("spec") or {}).get("nodeSelector")),
        object_age(obj),
        *containers_and_images(spec.get("template")),
        selector(spec.get("selector")),
    ]


def default(obj: Object) -> None:
    from peavine.api.core.podspec_defaults import default_template

    meta = obj.setdefault("metadata", {})
    if TEMPLATE_GENERATION not in (meta.get("annotations") or {}):
        meta["annotations"] = {**(meta.get("annotations") or {}), TEMPLATE_GENERATION: "0"}
    spec = obj.setdefault("spec", {})
    strategy = spec.setdefault("updateStrategy", {})
    strategy["type"] = strategy.get("type") or "RollingUpdate"
    if strategy["type"] == "RollingUpdate":
        rolling = strategy.setdefault("rollingUpdate", {})
        if rolling.get("maxUnavailable") is None:
            rolling["maxUnavailable"] = 1
        if rolling.get("maxSurge") is None:
            rolling["maxSurge"] = 0
    if spec.get("revisionHistoryLimit") is None:
        spec["revisionHistoryLimit"] = 10
    default_template(spec.get("template"))


def prepare_create(obj: Object) -> None:
    meta = obj.setdefault("metadata", {})
    generation = max(1, _template_generation(obj))
    meta["annotations"] = {**(meta.get("annotations") or {}), TEMPLATE_GENERATION: str(generation)}


def prepare_update(new: Object, old: Object) -> None:
    """Upstream still counts changes of the template, for clients of long ago."""
    meta = new.setdefault("metadata", {})
    changed = ((new.get("spec") or {}).get("template")) != ((old.get("spec") or {}).get("template"))
    generation = _template_generation(old) + (1 if changed else 0)
    meta["annotations"] = {**(meta.get("annotations") or {}), TEMPLATE_GENERATION: str(generation)}


def _template_generation(obj: Object) -> int:
    text = ((obj.get("metadata") or {}).get("annotations") or {}).get(TEMPLATE_GENERATION) or "0"
    return int(text) if text.isdigit() else 0


def validate_create(obj: Object) -> list[FieldError]:
    from peavine.api.apps import workload
    from peavine.api.core.podspec_validation import validate_pod_template
    from peavine.api.fields import non_negative, selector_matches
    from peavine.machinery import validation as rules

    spec = obj.get("spec") or {}
    selector = spec.get("selector")
    template = spec.get("template") or {}
    errors = rules.validate_label_selector(selector, "spec.selector")
    labels = (template.get("metadata") or {}).get("labels") or {}
    if not selector_matches(selector, labels):
        message = "`selector` does not match template `labels`"
        errors.append(invalid_value("spec.template.metadata.labels", labels or None, message))
    if selector is not None and not selector.get("matchLabels") and not selector.get("matchExpressions"):
        errors.append(invalid_value("spec.selector", selector, "empty selector is invalid for daemonset"))
    errors += validate_pod_template(template, "spec.template")
    errors += workload._exclusive_disks(template.get("spec") or {}, "spec.template")
    pod = template.get("spec") or {}
    if pod.get("restartPolicy") != "Always":
        errors.append(not_supported("spec.template.spec.restartPolicy", pod.get("restartPolicy") or "", ["Always"]))
    if pod.get("activeDeadlineSeconds") is not None:
        message = "activeDeadlineSeconds in DaemonSet is not Supported"
        errors.append(forbidden_field("spec.template.spec.activeDeadlineSeconds", message))
    errors += non_negative("spec.minReadySeconds", spec.get("minReadySeconds"))
    errors += _strategy(spec.get("updateStrategy") or {}, "spec.updateStrategy")
    return errors + non_negative("spec.revisionHistoryLimit", spec.get("revisionHistoryLimit"))


def _strategy(strategy: Object, field: str) -> list[FieldError]:
    from peavine.api.apps import workload

    type = strategy.get("type") or ""
    if type == "OnDelete":
        return []
    if type != "RollingUpdate":
        return [not_supported(f"{field}.type", type, ["OnDelete", "RollingUpdate"])]
    rolling = strategy.get("rollingUpdate")
    if rolling is None:
        return [required(f"{field}.rollingUpdate")]
    unavailable, surge = rolling.get("maxUnavailable"), rolling.get("maxSurge")
    at = f"{field}.rollingUpdate"
    errors = workload.int_or_percent(f"{at}.maxUnavailable", unavailable)
    errors += workload.at_most_100_percent(f"{at}.maxUnavailable", unavailable)
    errors += workload.int_or_percent(f"{at}.maxSurge", surge)
    errors += workload.at_most_100_percent(f"{at}.maxSurge", surge)
    has_unavailable, has_surge = workload.whole(unavailable) != 0, workload.whole(surge) != 0
    if has_unavailable and has_surge:
        message = "may not be set when maxUnavailable is non-zero"
        errors.append(invalid_value(f"{at}.maxSurge", surge, message))
    if not has_unavailable and not has_surge:
        message = "cannot be 0 when maxSurge is 0"
        errors.append(required(f"{at}.maxUnavailable", message))
    return errors


def validate_update(new: Object, old: Object) -> list[FieldError]:
    from peavine.api.fields import immutable

    selectors = [(o.get("spec") or {}).get("selector") for o in (new, old)]
    return validate_create(new) + immutable("spec.selector", *selectors)


def validate_status_update(new: Object, old: Object) -> list[FieldError]:
    from peavine.api.apps import workload

    status = new.get("status") or {}
    names = (
        "currentNumberScheduled",
        "numberMisscheduled",
        "desiredNumberScheduled",
        "numberReady",
        "observedGeneration",
        "updatedNumberScheduled",
        "numberAvailable",
        "numberUnavailable",
    )
    return workload.replicas_status(status, "status", names)


def warnings(obj: Object, old: Object | None) -> list[str]:
    from peavine.api.core.podspec_warnings import template_warnings

    return template_warnings(obj, old)
