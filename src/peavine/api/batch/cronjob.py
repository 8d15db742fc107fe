"""CronJob: jobs by the clock."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from peavine.api.printing import (
    AGE,
    CONTAINERS,
    IMAGES,
    NAME,
    NONE,
    Column,
    age,
    containers_and_images,
    name,
    object_age,
    selector,
)
from peavine.machinery.errors import FieldError, invalid_value, not_supported, required

Object = dict[str, Any]

NAME_LENGTH_MAX = 52

COLUMNS = (
    NAME,
    Column("Schedule", description="@batch.v1.CronJobSpec.schedule"),
    Column("Timezone", description="@batch.v1.CronJobSpec.timeZone"),
    Column("Suspend", "boolean", "@batch.v1.CronJobSpec.suspend"),
    Column("Active", "integer", "@batch.v1.CronJobStatus.active"),
    Column("Last Schedule", description="@batch.v1.CronJobStatus.lastScheduleTime"),
    AGE,
    CONTAINERS,
    IMAGES,
    Column("Selector", description="@batch.v1.JobSpec.selector", priority=1),
)


def row(obj: Object) -> list[Any]:
    spec, status = obj.get("spec") or {}, obj.get("status") or {}
    job = ((spec.get("jobTemplate") or {}).get("spec")) or {}
    last = status.get("lastScheduleTime")
    return [
        name(obj),
        spec.get("schedule") or "",
        spec.get("timeZone") or NONE,
        bool(spec.get("suspend")),
        len(status.get("active") or []),
        age(last) if last else NONE,
        object_age(obj),
        *containers_and_images(job.get("template")),
        selector(job.get("selector")),
    ]


def default(obj: Object) -> None:
    from peavine.api.batch.job import default_spec

    spec = obj.setdefault("spec", {})
    spec["concurrencyPolicy"] = spec.get("concurrencyPolicy") or "Allow"
    for field, value in (("suspend", False), ("successfulJobsHistoryLimit", 3), ("failedJobsHistoryLimit", 1)):
        if spec.get(field) is None:
            spec[field] = value
    job = (spec.get("jobTemplate") or {}).get("spec")
    if job is not None:
        default_spec(job)


def validate_create(obj: Object) -> list[FieldError]:
    errors = _spec(obj)
    own = (obj.get("metadata") or {}).get("name") or ""
    if len(own) > NAME_LENGTH_MAX:
        message = f"must be no more than {NAME_LENGTH_MAX} characters"
        errors.append(invalid_value("metadata.name", own, message))
    return errors


def _spec(obj: Object) -> list[FieldError]:
    from peavine.api.batch.job_validation import validate_job_spec
    from peavine.api.fields import non_negative, one_of
    from peavine.machinery import validation as rules

    spec = obj.get("spec") or {}
    errors: list[FieldError] = []
    schedule = spec.get("schedule") or ""
    if not schedule:
        errors.append(required("spec.schedule"))
    else:
        errors += _schedule(schedule, spec.get("timeZone"))
    errors += non_negative("spec.startingDeadlineSeconds", spec.get("startingDeadlineSeconds"))
    if not spec.get("concurrencyPolicy"):
        errors.append(required("spec.concurrencyPolicy"))
    else:
        errors += one_of("spec.concurrencyPolicy", spec["concurrencyPolicy"], ("Allow", "Forbid", "Replace"))
    template = spec.get("jobTemplate") or {}
    meta = template.get("metadata") or {}
    errors += rules.validate_labels(meta.get("labels"), "spec.jobTemplate.labels")
    errors += rules.validate_annotations(meta.get("annotations"), "spec.jobTemplate.annotations")
    job = template.get("spec") or {}
    errors += validate_job_spec(job, "spec.jobTemplate.spec")
    if job.get("manualSelector"):
        field = "spec.jobTemplate.spec.manualSelector"
        errors.append(not_supported(field, job["manualSelector"], ["nil", "false"]))
    for field in ("successfulJobsHistoryLimit", "failedJobsHistoryLimit"):
        errors += non_negative(f"spec.{field}", spec.get(field))
    return errors


def _schedule(schedule: str, zone: str | None) -> list[FieldError]:
    from peavine.api.batch.schedule import ScheduleError, parse_schedule

    errors: list[FieldError] = []
    if "TZ" in schedule:
        message = "cannot use TZ or CRON_TZ in schedule, use timeZone field instead"
        errors.append(invalid_value("spec.schedule", schedule, message))
    else:
        try:
            parse_schedule(schedule)
        except ScheduleError as error:
            errors.append(invalid_value("spec.schedule", schedule, str(error)))
    if zone is not None:
        if not zone:
            errors.append(invalid_value("spec.timeZone", zone, "must be nil or non-empty string"))
        elif zone.lower() == "local":
            message = "timeZone must be an explicit time zone as defined in https://www.iana.org/time-zones"
            errors.append(invalid_value("spec.timeZone", zone, message))
        elif not _known_zone(zone):
            errors.append(invalid_value("spec.timeZone", zone, f"unknown time zone {zone}"))
    return errors


@lru_cache(maxsize=64)
def _known_zone(name_: str) -> bool:
    import zoneinfo

    try:
        zoneinfo.ZoneInfo(name_)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
        return False
    return True


def validate_update(new: Object, old: Object) -> list[FieldError]:
    return _spec(new)


def validate_status_update(new: Object, old: Object) -> list[FieldError]:
    return []


def warnings(obj: Object, old: Object | None) -> list[str]:
    from peavine.api.core.podspec_warnings import template_warnings

    found = template_warnings(obj, old, "spec.jobTemplate.spec.template")
    own = (obj.get("metadata") or {}).get("name") or ""
    if old is None and "." in own:
        found.append(
            "metadata.name: this is used in Pod names and hostnames, which can result in surprising behavior; "
            "a DNS label is recommended: [must not contain dots]"
        )
    return found
