"""Deployment: a replica set at a time, rolled from one template to the next."""

from __future__ import annotations

from typing import Any

from peavine.api.kind import keep, spec_changed
from peavine.api.printing import (
    AGE,
    CONTAINERS,
    IMAGES,
    NAME,
    Column,
    containers_and_images,
    name,
    object_age,
    selector,
)
from peavine.machinery.errors import FieldError, forbidden_field, invalid_value, not_supported

Object = dict[str, Any]

COLUMNS = (
    NAME,
    Column("Ready", description="Number of the pod with ready state"),
    Column("Up-to-date", description="@apps.v1.DeploymentStatus.updatedReplicas"),
    Column("Available", description="@apps.v1.DeploymentStatus.availableReplicas"),
    AGE,
    CONTAINERS,
    IMAGES,
    Column("Selector", description="@apps.v1.DeploymentSpec.selector", priority=1),
)


def row(obj: Object) -> list[Any]:
    spec, status = obj.get("spec") or {}, obj.get("status") or {}
    return [
        name(obj),
        f"{status.get('readyReplicas') or 0}/{spec.get('replicas') or 0}",
        status.get("updatedReplicas") or 0,
        status.get("availableReplicas") or 0,
        object_age(obj),
        *containers_and_images(spec.get("template")),
        selector(spec.get("selector")),
    ]


def default(obj: Object) -> None:
    from peavine.api.core.podspec_defaults import default_template

    spec = obj.setdefault("spec", {})
    if spec.get("replicas") is None:
        spec["replicas"] = 1
    strategy = spec.setdefault("strategy", {})
    strategy["type"] = strategy.get("type") or "RollingUpdate"
    if strategy["type"] == "RollingUpdate":
        rolling = strategy.setdefault("rollingUpdate", {})
        for field in ("maxUnavailable", "maxSurge"):
            if rolling.get(field) is None:
                rolling[field] = "25%"
    if spec.get("revisionHistoryLimit") is None:
        spec["revisionHistoryLimit"] = 10
    if spec.get("progressDeadlineSeconds") is None:
        spec["progressDeadlineSeconds"] = 600
    default_template(spec.get("template"))


def changes_generation(new: Object, old: Object) -> bool:
    """Upstream counts changed annotations too: they travel to the replica sets."""
    annotations = [(o.get("metadata") or {}).get("annotations") or {} for o in (new, old)]
    return spec_changed(new, old) or annotations[0] != annotations[1]


def prepare_status_update(new: Object, old: Object) -> None:
    keep(new, old, "spec")
    keep(new.setdefault("metadata", {}), old.get("metadata") or {}, "labels")


def validate_create(obj: Object) -> list[FieldError]:
    from peavine.api.apps import workload
    from peavine.api.fields import non_negative

    spec = obj.get("spec") or {}
    errors = non_negative("spec.replicas", spec.get("replicas"))
    errors += workload.validate_selector(spec, "spec")
    errors += workload.validate_template(spec.get("template") or {}, spec, "spec.template")
    errors += _strategy(spec.get("strategy") or {}, "spec.strategy")
    errors += non_negative("spec.minReadySeconds", spec.get("minReadySeconds"))
    errors += non_negative("spec.revisionHistoryLimit", spec.get("revisionHistoryLimit"))
    deadline = spec.get("progressDeadlineSeconds")
    if deadline is not None:
        errors += non_negative("spec.progressDeadlineSeconds", deadline)
        if deadline <= (spec.get("minReadySeconds") or 0):
            message = "must be greater than minReadySeconds"
            errors.append(invalid_value("spec.progressDeadlineSeconds", deadline, message))
    return errors


def _strategy(strategy: Object, field: str) -> list[FieldError]:
    type = strategy.get("type") or ""
    rolling = strategy.get("rollingUpdate")
    if type == "Recreate":
        if rolling is not None:
            message = "may not be specified when strategy `type` is 'Recreate'"
            return [forbidden_field(f"{field}.rollingUpdate", message)]
        return []
    if type != "RollingUpdate":
        return [not_supported(f"{field}.type", type, ["Recreate", "RollingUpdate"])]
    if rolling is None:
        from peavine.machinery.errors import required

        message = "this should be defaulted and never be nil"
        return [required(f"{field}.rollingUpdate", message)]
    return validate_rolling_update(rolling, f"{field}.rollingUpdate")


def validate_rolling_update(rolling: Object, field: str) -> list[FieldError]:
    from peavine.api.apps import workload

    unavailable, surge = rolling.get("maxUnavailable"), rolling.get("maxSurge")
    errors = workload.int_or_percent(f"{field}.maxUnavailable", unavailable)
    errors += workload.int_or_percent(f"{field}.maxSurge", surge)
    if workload.whole(unavailable) == 0 and workload.whole(surge) == 0:
        message = "may not be 0 when `maxSurge` is 0"
        errors.append(invalid_value(f"{field}.maxUnavailable", unavailable or 0, message))
    return errors + workload.at_most_100_percent(f"{field}.maxUnavailable", unavailable)


def validate_update(new: Object, old: Object) -> list[FieldError]:
    from peavine.api.fields import immutable

    errors = validate_create(new)
    selectors = [(o.get("spec") or {}).get("selector") for o in (new, old)]
    return errors + immutable("spec.selector", *selectors)


def validate_status_update(new: Object, old: Object) -> list[FieldError]:
    from peavine.api.apps import workload

    status, field = new.get("status") or {}, "status"
    names = (
        "observedGeneration",
        "replicas",
        "updatedReplicas",
        "readyReplicas",
        "availableReplicas",
        "unavailableReplicas",
        "terminatingReplicas",
    )
    errors = workload.replicas_status(status, field, names)
    if (status.get("collisionCount") or 0) < (((old.get("status") or {}).get("collisionCount")) or 0):
        message = "cannot be decremented"
        errors.append(invalid_value("status.collisionCount", status.get("collisionCount") or 0, message))
    more = "cannot be greater than status.replicas"
    for part in ("updatedReplicas", "readyReplicas", "availableReplicas"):
        errors += workload.at_most(field, status, part, "replicas", more)
    message = "cannot be greater than readyReplicas"
    return errors + workload.at_most(field, status, "availableReplicas", "readyReplicas", message)


def warnings(obj: Object, old: Object | None) -> list[str]:
    from peavine.api.core.podspec_warnings import template_warnings

    return template_warnings(obj, old)
