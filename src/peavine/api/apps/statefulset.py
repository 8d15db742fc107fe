"""StatefulSet: numbered pods, each with volumes of its own."""

from __future__ import annotations

from typing import Any

from peavine.api.fields import non_negative
from peavine.api.printing import AGE, CONTAINERS, IMAGES, NAME, Column, containers_and_images, name, object_age
from peavine.machinery.errors import FieldError, forbidden_field, invalid_value, not_supported, required

Object = dict[str, Any]

COLUMNS = (
    NAME,
    Column("Ready", description="Number of the pod with ready state"),
    AGE,
    CONTAINERS,
    IMAGES,
)
MUTABLE = (
    "updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template', 'updateStrategy', "
    "'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy' and 'minReadySeconds' are forbidden"
)
MUTABLE_FIELDS = (
    "replicas",
    "ordinals",
    "template",
    "updateStrategy",
    "minReadySeconds",
    "revisionHistoryLimit",
    "persistentVolumeClaimRetentionPolicy",
)


def row(obj: Object) -> list[Any]:
    spec, status = obj.get("spec") or {}, obj.get("status") or {}
    ready = f"{status.get('readyReplicas') or 0}/{spec.get('replicas') or 0}"
    return [name(obj), ready, object_age(obj), *containers_and_images(spec.get("template"))]


def default(obj: Object) -> None:
    from peavine.api.core.persistentvolumeclaim import default as default_claim
    from peavine.api.core.podspec_defaults import default_template

    spec = obj.setdefault("spec", {})
    spec["podManagementPolicy"] = spec.get("podManagementPolicy") or "OrderedReady"
    strategy = spec.setdefault("updateStrategy", {})
    strategy["type"] = strategy.get("type") or "RollingUpdate"
    if strategy["type"] == "RollingUpdate":
        rolling = strategy.setdefault("rollingUpdate", {})
        if rolling.get("partition") is None:
            rolling["partition"] = 0
        if rolling.get("maxUnavailable") is None:
            rolling["maxUnavailable"] = 1
    retention = spec.setdefault("persistentVolumeClaimRetentionPolicy", {})
    for field in ("whenDeleted", "whenScaled"):
        retention[field] = retention.get(field) or "Retain"
    if spec.get("replicas") is None:
        spec["replicas"] = 1
    if spec.get("revisionHistoryLimit") is None:
        spec["revisionHistoryLimit"] = 10
    for claim in spec.get("volumeClaimTemplates") or []:
        claim["apiVersion"], claim["kind"] = "v1", "PersistentVolumeClaim"
        default_claim(claim)
    default_template(spec.get("template"))


def validate_create(obj: Object) -> list[FieldError]:
    from peavine.api.apps.workload import selects_template
    from peavine.api.core.podspec_validation import validate_pod_template
    from peavine.machinery import validation as rules

    spec = obj.get("spec") or {}
    errors = _choices(spec)
    errors += non_negative("spec.replicas", spec.get("replicas"))
    errors += non_negative("spec.minReadySeconds", spec.get("minReadySeconds"))
    errors += non_negative("spec.ordinals.start", (spec.get("ordinals") or {}).get("start"))
    errors += non_negative("spec.revisionHistoryLimit", spec.get("revisionHistoryLimit"))
    selector, template = spec.get("selector"), spec.get("template") or {}
    if selector is None:
        errors.append(required("spec.selector"))
    else:
        errors += rules.validate_label_selector(selector, "spec.selector")
        if not selector.get("matchLabels") and not selector.get("matchExpressions"):
            errors.append(invalid_value("spec.selector", selector, "empty selector is invalid for statefulset"))
    labels = (template.get("metadata") or {}).get("labels") or {}
    if not selects_template(selector, labels):
        message = "`selector` does not match template `labels`"
        errors.append(invalid_value("spec.template.metadata.labels", labels or None, message))
    errors += validate_pod_template(template, "spec.template", claims=_claim_names(spec))
    pod = template.get("spec") or {}
    if pod.get("restartPolicy") != "Always":
        errors.append(not_supported("spec.template.spec.restartPolicy", pod.get("restartPolicy") or "", ["Always"]))
    if pod.get("activeDeadlineSeconds") is not None:
        message = "activeDeadlineSeconds in StatefulSet is not Supported"
        errors.append(forbidden_field("spec.template.spec.activeDeadlineSeconds", message))
    return errors


def _claim_names(spec: Object) -> set[str]:
    return {(c.get("metadata") or {}).get("name") or "" for c in spec.get("volumeClaimTemplates") or []}


def _choices(spec: Object) -> list[FieldError]:
    from peavine.api.apps import workload

    errors: list[FieldError] = []
    policy = spec.get("podManagementPolicy") or ""
    if not policy:
        errors.append(required("spec.podManagementPolicy"))
    elif policy not in ("OrderedReady", "Parallel"):
        message = "must be 'OrderedReady' or 'Parallel'"
        errors.append(invalid_value("spec.podManagementPolicy", policy, message))
    strategy = spec.get("updateStrategy") or {}
    type, rolling = strategy.get("type") or "", strategy.get("rollingUpdate")
    field = "spec.updateStrategy"
    if not type:
        errors.append(required(field))
    elif type == "OnDelete":
        if rolling is not None:
            message = "only allowed for updateStrategy 'RollingUpdate'"
            errors.append(invalid_value(f"{field}.rollingUpdate", rolling, message))
    elif type == "RollingUpdate":
        if rolling is not None:
            errors += non_negative(f"{field}.rollingUpdate.partition", rolling.get("partition"))
            unavailable = rolling.get("maxUnavailable")
            if unavailable is not None:
                at = f"{field}.rollingUpdate.maxUnavailable"
                errors += workload.int_or_percent(at, unavailable)
                if workload.whole(unavailable) == 0:
                    errors.append(invalid_value(at, unavailable, "cannot be 0"))
                errors += workload.at_most_100_percent(at, unavailable)
    else:
        errors.append(invalid_value(field, strategy, "must be 'RollingUpdate' or 'OnDelete'"))
    retention = spec.get("persistentVolumeClaimRetentionPolicy")
    for part in ("whenDeleted", "whenScaled"):
        if retention is not None and retention.get(part) not in ("Retain", "Delete"):
            at = f"spec.persistentVolumeClaimRetentionPolicy.{part}"
            errors.append(not_supported(at, retention.get(part) or "", ["Delete", "Retain"]))
    return errors


def validate_update(new: Object, old: Object) -> list[FieldError]:
    """Only some fields of the spec may change; volume claim templates and selectors never."""
    from peavine.api.fields import strip

    errors = validate_create(new)
    after, before = ({k: v for k, v in (o.get("spec") or {}).items() if k not in MUTABLE_FIELDS} for o in (new, old))
    if strip(after) != strip(before):
        errors.append(forbidden_field("spec", MUTABLE))
    return errors


def validate_status_update(new: Object, old: Object) -> list[FieldError]:
    from peavine.api.apps import workload

    status, field = new.get("status") or {}, "status"
    names = ("replicas", "readyReplicas", "currentReplicas", "updatedReplicas", "availableReplicas")
    errors = workload.replicas_status(status, field, (*names, "observedGeneration", "collisionCount"))
    message = "cannot be greater than status.replicas"
    for part in names[1:]:
        errors += workload.at_most(field, status, part, "replicas", message)
    message = "cannot be greater than status.readyReplicas"
    return errors + workload.at_most(field, status, "availableReplicas", "readyReplicas", message)


def warnings(obj: Object, old: Object | None) -> list[str]:
    from peavine.api.core.podspec_warnings import template_warnings
    from peavine.api.core.volume_warnings import claim_warnings

    found = template_warnings(obj, old)
    for i, claim in enumerate((obj.get("spec") or {}).get("volumeClaimTemplates") or []):
        found += claim_warnings(claim.get("spec") or {}, f"spec.volumeClaimTemplates[{i}].Spec")
    if ((obj.get("spec") or {}).get("revisionHistoryLimit") or 0) < 0:
        found.append(
            "spec.revisionHistoryLimit: a negative value retains all historical revisions; a value >= 0 is recommended"
        )
    return found
