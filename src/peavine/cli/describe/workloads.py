# ruff: noqa: E501
"""Replication controllers, stateful sets, daemon sets, jobs and cron jobs."""

from __future__ import annotations

from typing import Any

from peavine.cli.describe.pods import pod_template
from peavine.cli.describe.text import Text, annotation_lines, flat, go_list, labels, selector_text, when
from peavine.cli.session import Session

Object = dict[str, Any]


def owner_line(text: Text, meta: Object) -> None:
    owner = next((o for o in meta.get("ownerReferences") or () if o.get("controller")), None)
    if owner:
        text.field(0, "Controlled By", f"{owner['kind']}/{owner['name']}")


async def pods_status(session: Session, obj: Object, selector: Object | None) -> str:
    """`2 Running / 0 Waiting / 0 Succeeded / 0 Failed` of the pods that an object owns."""
    meta = obj["metadata"]
    wanted = ",".join(f"{key}={value}" for key, value in sorted((selector or {}).items()))
    pods = (await session.get(f"/api/v1/namespaces/{meta['namespace']}/pods", labelSelector=wanted)).get("items") or []
    owned = [
        p
        for p in pods
        if any(
            o.get("uid") == meta.get("uid") and o.get("controller") for o in p["metadata"].get("ownerReferences") or ()
        )
    ]
    phases = [(p.get("status") or {}).get("phase", "") for p in owned]
    counts = [f"{phases.count(phase)} {shown}" for phase, shown in
              (("Running", "Running"), ("Pending", "Waiting"), ("Succeeded", "Succeeded"), ("Failed", "Failed"))]  # fmt: skip
    return " / ".join(counts)


def _start(obj: Object) -> Text:
    text, meta = Text(), obj["metadata"]
    text.field(0, "Name", meta["name"])
    text.field(0, "Namespace", meta.get("namespace", ""))
    return text


def _conditions(text: Text, conditions: list[Object] | None) -> None:
    if conditions:
        text.line(0, "Conditions:")
        text.line(1, "Type\tStatus\tReason")
        text.line(1, "----\t------\t------")
        for c in conditions:
            text.line(1, f"{c['type']} \t{c['status']}\t{c.get('reason', '')}")


async def replication_controller(session: Session, obj: Object) -> Text:
    text, meta, spec, status = _start(obj), obj["metadata"], obj["spec"], obj.get("status") or {}
    text.field(0, "Selector", flat(spec.get("selector")))
    labels(text, 0, "Labels", meta.get("labels"))
    annotation_lines(text, 0, "Annotations", meta.get("annotations"))
    text.field(0, "Replicas", f"{status.get('replicas', 0)} current / {spec.get('replicas', 0)} desired")
    text.field(0, "Pods Status", await pods_status(session, obj, spec.get("selector")))
    text.line(0, "Pod Template:")
    pod_template(text, spec.get("template") or {})
    _conditions(text, status.get("conditions"))
    return text


async def stateful_set(session: Session, obj: Object) -> Text:
    text, meta, spec, status = _start(obj), obj["metadata"], obj["spec"], obj.get("status") or {}
    text.field(0, "CreationTimestamp", when(meta.get("creationTimestamp")))
    text.field(0, "Selector", selector_text(spec.get("selector")))
    labels(text, 0, "Labels", meta.get("labels"))
    annotation_lines(text, 0, "Annotations", meta.get("annotations"))
    text.field(0, "Replicas", f"{spec.get('replicas', 0)} desired | {status.get('replicas', 0)} total")
    update = spec.get("updateStrategy") or {}
    text.field(0, "Update Strategy", update.get("type", ""))
    rolling = update.get("rollingUpdate") or {}
    if rolling.get("partition") is not None:
        text.field(1, "Partition", rolling["partition"])
        if rolling.get("maxUnavailable") is not None:
            text.field(1, "MaxUnavailable", rolling["maxUnavailable"])
    text.field(0, "Pods Status", await pods_status(session, obj, (spec.get("selector") or {}).get("matchLabels")))
    text.line(0, "Pod Template:")
    pod_template(text, spec.get("template") or {})
    templates = spec.get("volumeClaimTemplates") or []
    text.line(0, "Volume Claims:" + ("" if templates else "\t<none>"))
    for template in templates:
        inner, claim = template.get("metadata") or {}, template.get("spec") or {}
        text.field(1, "Name", inner.get("name", ""))
        text.field(1, "StorageClass", claim.get("storageClassName", ""))
        labels(text, 1, "Labels", inner.get("labels"))
        annotation_lines(text, 1, "Annotations", inner.get("annotations"))
        size = ((claim.get("resources") or {}).get("requests") or {}).get("storage")
        text.field(1, "Capacity", size or "<default>")
        text.field(1, "Access Modes", go_list(claim.get("accessModes") or []))
    return text


async def daemon_set(session: Session, obj: Object) -> Text:
    text, meta, spec, status = _start(obj), obj["metadata"], obj["spec"], obj.get("status") or {}
    text.field(0, "Selector", selector_text(spec.get("selector")))
    template = spec.get("template") or {}
    text.field(0, "Node-Selector", flat((template.get("spec") or {}).get("nodeSelector")))
    labels(text, 0, "Labels", meta.get("labels"))
    annotation_lines(text, 0, "Annotations", meta.get("annotations"))
    for shown, key in (
        ("Desired Number of Nodes Scheduled", "desiredNumberScheduled"),
        ("Current Number of Nodes Scheduled", "currentNumberScheduled"),
        ("Number of Nodes Scheduled with Up-to-date Pods", "updatedNumberScheduled"),
        ("Number of Nodes Scheduled with Available Pods", "numberAvailable"),
        ("Number of Nodes Misscheduled", "numberMisscheduled"),
    ):
        text.line(0, f"{shown}: {status.get(key, 0)}")
    text.field(0, "Pods Status", await pods_status(session, obj, (spec.get("selector") or {}).get("matchLabels")))
    text.line(0, "Pod Template:")
    pod_template(text, template)
    return text


async def job(session: Session, obj: Object) -> Text:
    text, meta, spec, status = _start(obj), obj["metadata"], obj["spec"], obj.get("status") or {}
    text.field(0, "Selector", selector_text(spec.get("selector")))
    labels(text, 0, "Labels", meta.get("labels"))
    annotation_lines(text, 0, "Annotations", meta.get("annotations"))
    owner_line(text, meta)
    if spec.get("parallelism") is not None:
        text.field(0, "Parallelism", spec["parallelism"])
    text.field(0, "Completions", "<unset>" if spec.get("completions") is None else spec["completions"])
    if spec.get("completionMode"):
        text.field(0, "Completion Mode", spec["completionMode"])
    if spec.get("suspend") is not None:
        text.field(0, "Suspend", str(spec["suspend"]).lower())
    if spec.get("backoffLimit") is not None:
        text.field(0, "Backoff Limit", spec["backoffLimit"])
    if spec.get("ttlSecondsAfterFinished") is not None:
        text.field(0, "TTL Seconds After Finished", spec["ttlSecondsAfterFinished"])
    if status.get("startTime"):
        text.field(0, "Start Time", when(status["startTime"]))
    if status.get("completionTime"):
        text.field(0, "Completed At", when(status["completionTime"]))
    if status.get("startTime") and status.get("completionTime"):
        from peavine.machinery.duration import human_duration
        from peavine.machinery.meta import parse_time

        text.field(
            0, "Duration", human_duration(parse_time(status["completionTime"]) - parse_time(status["startTime"]))
        )
    if spec.get("activeDeadlineSeconds") is not None:
        text.field(0, "Active Deadline Seconds", f"{spec['activeDeadlineSeconds']}s")
    active, ready = status.get("active", 0), status.get("ready")
    shown = f"{active} Active" if ready is None else f"{active} Active ({ready} Ready)"
    text.field(
        0, "Pods Statuses", f"{shown} / {status.get('succeeded', 0)} Succeeded / {status.get('failed', 0)} Failed"
    )
    if spec.get("completionMode") == "Indexed":
        text.field(0, "Completed Indexes", _capped(status.get("completedIndexes", "")))
    text.line(0, "Pod Template:")
    pod_template(text, spec.get("template") or {})
    return text


def _capped(indexes: str) -> str:
    if not indexes:
        return "<none>"
    if len(indexes) <= 50:
        return indexes
    return indexes[: indexes[:50].rfind(",")] + ",..."


async def cron_job(session: Session, obj: Object) -> Text:
    text, meta, spec, status = _start(obj), obj["metadata"], obj["spec"], obj.get("status") or {}
    labels(text, 0, "Labels", meta.get("labels"))
    annotation_lines(text, 0, "Annotations", meta.get("annotations"))
    text.field(0, "Schedule", spec.get("schedule", ""))
    text.field(0, "Concurrency Policy", spec.get("concurrencyPolicy", ""))
    text.field(0, "Suspend", "True" if spec.get("suspend") else "False")
    for shown, key in (
        ("Successful Job History Limit", "successfulJobsHistoryLimit"),
        ("Failed Job History Limit", "failedJobsHistoryLimit"),
    ):
        text.field(0, shown, "<unset>" if spec.get(key) is None else spec[key])
    deadline = spec.get("startingDeadlineSeconds")
    text.field(0, "Starting Deadline Seconds", "<unset>" if deadline is None else f"{deadline}s")
    made = (spec.get("jobTemplate") or {}).get("spec") or {}
    text.field(0, "Selector", selector_text(made["selector"]) if made.get("selector") else "<unset>")
    for shown, key in (("Parallelism", "parallelism"), ("Completions", "completions")):
        text.field(0, shown, "<unset>" if made.get(key) is None else made[key])
    if made.get("activeDeadlineSeconds") is not None:
        text.field(0, "Active Deadline Seconds", f"{made['activeDeadlineSeconds']}s")
    text.line(0, "Pod Template:")
    pod_template(text, made.get("template") or {})
    text.field(0, "Last Schedule Time", when(status.get("lastScheduleTime")))
    running = [reference.get("name", "") for reference in status.get("active") or ()]
    text.field(0, "Active Jobs", ", ".join(running) or "<none>")
    return text
