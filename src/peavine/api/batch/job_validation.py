"""The rules of Jobs, and of the job templates of CronJobs."""

from __future__ import annotations

from typing import Any

from peavine.api.batch.job import CONTROLLER_UID, JOB_NAME
from peavine.api.core.podspec_validation import validate_pod_template
from peavine.api.fields import non_negative, same, selector_matches, strip
from peavine.machinery import validation as rules
from peavine.machinery.errors import (
    FieldError,
    duplicate,
    invalid_value,
    not_supported,
    required,
)

Object = dict[str, Any]

PARALLELISM_INDEXED_MAX = 100_000
COUNTS = (
    "parallelism",
    "completions",
    "activeDeadlineSeconds",
    "backoffLimit",
    "ttlSecondsAfterFinished",
    "backoffLimitPerIndex",
)


def validate_job(obj: Object) -> list[FieldError]:
    spec = obj.get("spec") or {}
    return _generated(obj, spec) + _with_selector(spec)


def _with_selector(spec: Object) -> list[FieldError]:
    errors = validate_job_spec(spec, "spec")
    selector = spec.get("selector")
    labels = (((spec.get("template") or {}).get("metadata")) or {}).get("labels") or {}
    if selector is None:
        errors.append(required("spec.selector"))
    else:
        errors += rules.validate_label_selector(selector, "spec.selector")
    if not selector_matches(selector, labels):
        message = "`selector` does not match template `labels`"
        errors.append(invalid_value("spec.template.metadata.labels", labels or None, message))
    return errors


def _generated(obj: Object, spec: Object) -> list[FieldError]:
    """Labels that the server generates may not be something else."""
    if spec.get("manualSelector"):
        return []
    meta = obj.get("metadata") or {}
    labels = ((spec.get("template") or {}).get("metadata") or {}).get("labels") or {}
    errors: list[FieldError] = []
    for key, value in ((CONTROLLER_UID, meta.get("uid")), (JOB_NAME, meta.get("name"))):
        if labels.get(key) != (value or ""):
            shown = f"must be '{value}'"
            errors.append(invalid_value("spec.template.metadata.labels", labels, shown))
    return errors


def validate_job_spec(spec: Object, field: str) -> list[FieldError]:
    errors: list[FieldError] = []
    for name in COUNTS:
        errors += non_negative(f"{field}.{name}", spec.get(name))
    errors += _per_index(spec, field)
    by = spec.get("managedBy")
    if by is not None:
        errors += rules.validate_domain_prefixed_path(f"{field}.managedBy", by)
        if len(by) > 63:
            errors.append(FieldError("TooLong", f"{field}.managedBy", "", "may not be more than 63 bytes"))
    errors += _mode(spec, field)
    errors += _failure_policy(spec, field)
    errors += _success_policy(spec, field)
    replacement = spec.get("podReplacementPolicy")
    if replacement is not None:
        choices = ["Failed", "TerminatingOrFailed"] if spec.get("podFailurePolicy") is None else ["Failed"]
        if replacement not in choices:
            errors.append(not_supported(f"{field}.podReplacementPolicy", replacement, choices))
    template = spec.get("template") or {}
    errors += validate_pod_template(template, f"{field}.template")
    at, policy = f"{field}.template.spec.restartPolicy", (template.get("spec") or {}).get("restartPolicy")
    if policy in (None, "", "Always"):
        errors.append(required(at, 'valid values: "OnFailure", "Never"'))
    elif policy not in ("OnFailure", "Never"):
        errors.append(not_supported(at, policy, ["OnFailure", "Never"]))
    elif spec.get("podFailurePolicy") is not None and policy != "Never":
        message = 'only "Never" is supported when podFailurePolicy is specified'
        errors.append(invalid_value(at, policy, message))
    return errors


def _per_index(spec: Object, field: str) -> list[FieldError]:
    errors: list[FieldError] = []
    per_index, most = spec.get("backoffLimitPerIndex"), spec.get("maxFailedIndexes")
    if most is not None:
        if per_index is None:
            errors.append(required(f"{field}.backoffLimitPerIndex", "when maxFailedIndexes is specified"))
        errors += non_negative(f"{field}.maxFailedIndexes", most)
    if spec.get("completionMode") != "Indexed":
        if per_index is not None:
            errors.append(invalid_value(f"{field}.backoffLimitPerIndex", per_index, "requires indexed completion mode"))
        if most is not None:
            errors.append(invalid_value(f"{field}.maxFailedIndexes", most, "requires indexed completion mode"))
    return errors


def _mode(spec: Object, field: str) -> list[FieldError]:
    mode = spec.get("completionMode")
    errors: list[FieldError] = []
    if mode is None:
        return errors
    if mode not in ("Indexed", "NonIndexed"):
        return [not_supported(f"{field}.completionMode", mode, ["Indexed", "NonIndexed"])]
    if mode == "Indexed":
        if spec.get("completions") is None:
            errors.append(required(f"{field}.completions", "when completion mode is Indexed"))
        parallel = spec.get("parallelism") or 0
        if parallel > PARALLELISM_INDEXED_MAX:
            message = f"must be less than or equal to {PARALLELISM_INDEXED_MAX} when completion mode is Indexed"
            errors.append(invalid_value(f"{field}.parallelism", parallel, message))
    return errors


ACTIONS = ("Count", "FailIndex", "FailJob", "Ignore")


def _failure_policy(spec: Object, field: str) -> list[FieldError]:
    policy = spec.get("podFailurePolicy")
    errors: list[FieldError] = []
    if policy is None:
        return errors
    at = f"{field}.podFailurePolicy"
    found = policy.get("rules") or []
    if len(found) > 20:
        errors.append(FieldError("TooMany", f"{at}.rules", len(found), "must have at most 20 items"))
    template = (spec.get("template") or {}).get("spec") or {}
    names = {c.get("name") for part in ("containers", "initContainers") for c in template.get(part) or []}
    for i, rule in enumerate(found):
        errors += _failure_rule(rule, f"{at}.rules[{i}]", names, spec.get("backoffLimitPerIndex") is not None)
    return errors


def _failure_rule(rule: Object, field: str, names: set[Any], indexed: bool) -> list[FieldError]:
    errors: list[FieldError] = []
    action, codes, conditions = rule.get("action") or "", rule.get("onExitCodes"), rule.get("onPodConditions") or []
    if not action:
        errors.append(required(f"{field}.action", "valid values: " + ", ".join(f'"{a}"' for a in ACTIONS)))
    elif action == "FailIndex" and not indexed:
        message = "requires the backoffLimitPerIndex to be set"
        errors.append(invalid_value(f"{field}.action", action, message))
    elif action not in ACTIONS:
        errors.append(not_supported(f"{field}.action", action, ACTIONS))
    if codes is not None:
        errors += _exit_codes(codes, f"{field}.onExitCodes", names)
    if len(conditions) > 20:
        message = "must have at most 20 items"
        errors.append(FieldError("TooMany", f"{field}.onPodConditions", len(conditions), message))
    for i, pattern in enumerate(conditions):
        at = f"{field}.onPodConditions[{i}]"
        errors += rules.validate_label_name(pattern.get("type") or "", f"{at}.type")
        if not pattern.get("status"):
            errors.append(required(f"{at}.status", 'valid values: "False", "True", "Unknown"'))
        elif pattern["status"] not in ("False", "True", "Unknown"):
            errors.append(not_supported(f"{at}.status", pattern["status"], ["False", "True", "Unknown"]))
    if codes is not None and conditions:
        errors.append(invalid_value(field, rule, "specifying both OnExitCodes and OnPodConditions is not supported"))
    if codes is None and not conditions:
        errors.append(invalid_value(field, rule, "specifying one of OnExitCodes and OnPodConditions is required"))
    return errors


def _exit_codes(codes: Object, field: str, names: set[Any]) -> list[FieldError]:
    errors: list[FieldError] = []
    operator, values = codes.get("operator") or "", codes.get("values") or []
    if operator not in ("In", "NotIn"):
        errors.append(
            not_supported(f"{field}.operator", operator, ["In", "NotIn"])
            if operator
            else required(f"{field}.operator", 'valid values: "In", "NotIn"')
        )
    container = codes.get("containerName")
    if container is not None and container not in names:
        message = "must be one of the container or initContainer names in the pod template"
        errors.append(invalid_value(f"{field}.containerName", container, message))
    if not values:
        errors.append(invalid_value(f"{field}.values", values, "at least one value is required"))
    elif len(values) > 255:
        errors.append(FieldError("TooMany", f"{field}.values", len(values), "must have at most 255 items"))
    seen: set[int] = set()
    ordered = True
    for i, value in enumerate(values):
        if operator == "In" and value == 0:
            errors.append(invalid_value(f"{field}.values[{i}]", value, "must not be 0 for the In operator"))
        if value in seen:
            errors.append(duplicate(f"{field}.values[{i}]", value))
        ordered = ordered and (i == 0 or value >= values[i - 1])
        seen.add(value)
    if not ordered:
        errors.append(invalid_value(f"{field}.values", values, "must be ordered"))
    return errors


def _success_policy(spec: Object, field: str) -> list[FieldError]:
    policy = spec.get("successPolicy")
    errors: list[FieldError] = []
    if policy is None:
        return errors
    if spec.get("completionMode") != "Indexed":
        message = "requires indexed completion mode"
        return [invalid_value(f"{field}.successPolicy", policy, message)]
    found, at = policy.get("rules") or [], f"{field}.successPolicy.rules"
    if not found:
        errors.append(required(at, "at least one rules must be specified when the successPolicy is specified"))
    if len(found) > 20:
        errors.append(FieldError("TooMany", at, len(found), "must have at most 20 items"))
    for i, rule in enumerate(found):
        count, indexes = rule.get("succeededCount"), rule.get("succeededIndexes")
        if count is None and indexes is None:
            message = "at least one of succeededCount or succeededIndexes must be specified"
            errors.append(required(f"{at}[{i}]", message))
        if count is not None:
            errors += non_negative(f"{at}[{i}].succeededCount", count)
            if count > (spec.get("completions") or 0):
                message = (
                    f"must be less than or equal to {spec.get('completions') or 0} (the "
                    "number of specified completions)"
                )
                errors.append(invalid_value(f"{at}[{i}].succeededCount", count, message))
        if indexes is not None:
            total = _index_count(indexes, spec.get("completions") or 0)
            if isinstance(total, str):
                message = f"error parsing succeededIndexes: {total}"
                errors.append(invalid_value(f"{at}[{i}].succeededIndexes", indexes, message))
            elif count is not None and count > total:
                message = (
                    f"must be less than or equal to {total} (the number of indexes in the "
                    "specified succeededIndexes field)"
                )
                errors.append(invalid_value(f"{at}[{i}].succeededCount", count, message))
    return errors


def _index_count(text: str, completions: int) -> int | str:
    """How many indexes `1,3-5` names, or what is wrong with it."""
    total, last = 0, -1
    for part in text.split(","):
        first, dash, end = part.partition("-")
        if not first.isdigit() or (dash and not end.isdigit()):
            return f'cannot convert string to integer for index: "{first if not first.isdigit() else end}"'
        low, high = int(first), int(end or first)
        if high >= completions:
            return f'too large index: "{end or first}"'
        if low <= last or high < low:
            return f"non-increasing order, previous: {last}, current: {low}"
        total, last = total + high - low + 1, high
    return total


# Update


def validate_job_update(new: Object, old: Object) -> list[FieldError]:
    spec, before = new.get("spec") or {}, old.get("spec") or {}
    errors = _with_selector(spec)
    errors += _completions_update(spec, before)
    errors += same("spec.selector", spec.get("selector"), before.get("selector"))
    errors += _template_update(spec, before, old)
    for name in ("completionMode", "podFailurePolicy", "backoffLimitPerIndex", "managedBy", "successPolicy"):
        errors += same(f"spec.{name}", spec.get(name), before.get(name))
    return errors


def _completions_update(spec: Object, before: Object) -> list[FieldError]:
    now, then = spec.get("completions"), before.get("completions")
    if now == then:
        return []
    if spec.get("completionMode") != "Indexed" or now is None or then is None:
        return [invalid_value("spec.completions", now, "field is immutable")]
    if now != spec.get("parallelism"):
        message = "can only be modified in tandem with parallelism"
        return [invalid_value("spec.completions", now, message)]
    return []


SCHEDULING = ("affinity", "nodeSelector", "tolerations", "schedulingGates")


def _template_update(spec: Object, before: Object, old: Object) -> list[FieldError]:
    template, previous = spec.get("template") or {}, before.get("template") or {}
    if before.get("suspend") and not (old.get("status") or {}).get("startTime"):
        pod, old_pod = dict(template.get("spec") or {}), previous.get("spec") or {}
        for name in SCHEDULING:
            pod[name] = old_pod.get(name)
        meta, old_meta = dict(template.get("metadata") or {}), previous.get("metadata") or {}
        for name in ("labels", "annotations"):
            meta[name] = old_meta.get(name)
        template = {**template, "spec": pod, "metadata": meta}
    if strip(template) != strip(previous):
        return [invalid_value("spec.template", spec.get("template"), "field is immutable")]
    return []


def validate_job_status(new: Object, old: Object) -> list[FieldError]:
    status, before = new.get("status") or {}, old.get("status") or {}
    errors: list[FieldError] = []
    for name in ("active", "succeeded", "failed", "ready", "terminating"):
        errors += non_negative(f"status.{name}", status.get(name))
    types = {c.get("type") for c in status.get("conditions") or [] if c.get("status") == "True"}
    if {"Complete", "Failed"} <= types:
        message = "cannot set Complete=True and Failed=true conditions"
        errors.append(invalid_value("status.conditions", status.get("conditions"), message))
    if status.get("completionTime") and "Complete" not in types:
        message = "cannot set completionTime when there is no Complete=True condition"
        errors.append(invalid_value("status.completionTime", status["completionTime"], message))
    if "Complete" in types and not status.get("completionTime"):
        message = "completionTime is required for Complete jobs"
        errors.append(required("status.completionTime", message))
    finished = {"Complete", "Failed"} & {
        c.get("type") for c in before.get("conditions") or [] if c.get("status") == "True"
    }
    for name in finished:
        if name not in types:
            message = f"cannot disable the terminal {name}=True condition"
            errors.append(invalid_value("status.conditions", status.get("conditions"), message))
    if before.get("completionTime") and status.get("completionTime") != before["completionTime"]:
        message = "completionTime cannot be mutated"
        errors.append(invalid_value("status.completionTime", status.get("completionTime"), message))
    if (status.get("failed") or 0) < (before.get("failed") or 0):
        errors.append(invalid_value("status.failed", status.get("failed") or 0, "cannot decrease the failed counter"))
    return errors
