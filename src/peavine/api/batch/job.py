"""Job: pods that run to an end."""

from __future__ import annotations

from typing import Any

from peavine.api.conditions import is_true
from peavine.api.core.podstate import unix_time
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
from peavine.machinery.errors import FieldError

Object = dict[str, Any]

CONTROLLER_UID, JOB_NAME = "batch.kubernetes.io/controller-uid", "batch.kubernetes.io/job-name"
OLD_CONTROLLER_UID, OLD_JOB_NAME = "controller-uid", "job-name"
TRACKING = "batch.kubernetes.io/job-tracking"

COLUMNS = (
    NAME,
    Column("Status", description="Status of the job."),
    Column("Completions", description="@batch.v1.JobStatus.succeeded"),
    Column("Duration", description="Time required to complete the job."),
    AGE,
    CONTAINERS,
    IMAGES,
    Column("Selector", description="@batch.v1.JobSpec.selector", priority=1),
)
FIELD_LABELS = {"status.successful": lambda obj: str((obj.get("status") or {}).get("succeeded") or 0)}
UNKNOWN_FIELD_LABEL = 'field label "{}" not supported for batchv1.Job'


def row(obj: Object) -> list[Any]:
    from peavine.machinery.duration import human_duration

    spec, status = obj.get("spec") or {}, obj.get("status") or {}
    succeeded = status.get("succeeded") or 0
    if spec.get("completions") is not None:
        completions = f"{succeeded}/{spec['completions']}"
    else:
        parallel = spec.get("parallelism") or 0
        completions = f"{succeeded}/1 of {parallel}" if parallel > 1 else f"{succeeded}/1"
    duration = ""
    started = unix_time(status.get("startTime"))
    if started is not None:
        import time

        duration = human_duration((unix_time(status.get("completionTime")) or time.time()) - started)
    return [
        name(obj),
        state(obj),
        completions,
        duration,
        object_age(obj),
        *containers_and_images(spec.get("template")),
        selector(spec.get("selector")),
    ]


def state(obj: Object) -> str:
    for condition_type, word in (("Complete", "Complete"), ("Failed", "Failed")):
        if is_true(obj, condition_type):
            return word
    if (obj.get("metadata") or {}).get("deletionTimestamp"):
        return "Terminating"
    for condition_type in ("Suspended", "FailureTarget", "SuccessCriteriaMet"):
        if is_true(obj, condition_type):
            return condition_type
    return "Running"


def is_finished(obj: Object) -> bool:
    return is_true(obj, "Complete") or is_true(obj, "Failed")


def default(obj: Object) -> None:
    spec = obj.setdefault("spec", {})
    if spec.get("completions") is None and spec.get("parallelism") is None:
        spec["completions"] = spec["parallelism"] = 1
    if spec.get("parallelism") is None:
        spec["parallelism"] = 1
    if spec.get("backoffLimit") is None:
        spec["backoffLimit"] = 2**31 - 1 if spec.get("backoffLimitPerIndex") is not None else 6
    if spec.get("completionMode") is None:
        spec["completionMode"] = "NonIndexed"
    if spec.get("suspend") is None:
        spec["suspend"] = False
    if spec.get("podReplacementPolicy") is None:
        spec["podReplacementPolicy"] = "Failed" if spec.get("podFailurePolicy") is not None else "TerminatingOrFailed"
    if spec.get("manualSelector") is None:
        spec.pop("manualSelector", None)
    own = ((spec.get("template") or {}).get("metadata") or {}).get("labels")
    meta = obj.setdefault("metadata", {})
    if own and not meta.get("labels"):
        meta["labels"] = dict(own)
    default_spec(spec)


def default_spec(spec: Object) -> None:
    """What also holds in the template of a CronJob."""
    from peavine.api import alpha
    from peavine.api.core.podspec_defaults import default_template

    alpha.drop(spec, alpha.JOB_SPEC)
    for rule in (spec.get("podFailurePolicy") or {}).get("rules") or []:
        for pattern in rule.get("onPodConditions") or []:
            pattern["status"] = pattern.get("status") or "True"
    default_template(spec.get("template"))


def prepare_create(obj: Object) -> None:
    """The selector and labels that tie pods to this job alone, by its uid, unless the user manages them."""
    spec, meta = obj.setdefault("spec", {}), obj.setdefault("metadata", {})
    if spec.get("manualSelector"):
        return
    template = spec.setdefault("template", {})
    labels = template.setdefault("metadata", {}).setdefault("labels", {})
    alike = bool(labels) and meta.get("labels") == dict(labels)
    for key, value in (
        (OLD_JOB_NAME, meta.get("name") or ""),
        (JOB_NAME, meta.get("name") or ""),
        (OLD_CONTROLLER_UID, meta.get("uid") or ""),
        (CONTROLLER_UID, meta.get("uid") or ""),
    ):
        if key in labels and labels[key] != value:
            continue  # validation reports it
        labels[key] = value
    if alike:
        meta["labels"] = dict(labels)  # labels that were defaulted from the template follow it
    if spec.get("selector") is None:
        spec["selector"] = {"matchLabels": {CONTROLLER_UID: meta.get("uid") or ""}}
    else:
        spec["selector"].setdefault("matchLabels", {}).setdefault(CONTROLLER_UID, meta.get("uid") or "")


def canonicalize(obj: Object) -> None:
    """A job without labels of its own is read back with those of its template."""
    meta = obj.setdefault("metadata", {})
    labels = (((obj.get("spec") or {}).get("template") or {}).get("metadata") or {}).get("labels")
    if labels and not meta.get("labels"):
        meta["labels"] = dict(labels)


def validate_create(obj: Object) -> list[FieldError]:
    from peavine.api.batch.job_validation import validate_job

    return validate_job(obj)


def validate_update(new: Object, old: Object) -> list[FieldError]:
    from peavine.api.batch.job_validation import validate_job_update

    return validate_job_update(new, old)


def validate_status_update(new: Object, old: Object) -> list[FieldError]:
    from peavine.api.batch.job_validation import validate_job_status

    return validate_job_status(new, old)


def warnings(obj: Object, old: Object | None) -> list[str]:
    from peavine.api.core.podspec_warnings import template_warnings

    found = template_warnings(obj, old)
    spec = obj.get("spec") or {}
    if spec.get("completionMode") == "Indexed":
        completions, parallel = spec.get("completions") or 0, spec.get("parallelism") or 0
        if completions > 100_000 and parallel > 10_000:
            found.append(
                "In Indexed Jobs with a number of completions higher than 10^5 and a parallelism higher than 10^4, "
                "Kubernetes might not be able to track completedIndexes when a big number of indexes fail"
            )
    return found
