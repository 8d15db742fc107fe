"""What a failed pod means for its Job, and when some successes are enough. Pure."""

from __future__ import annotations

from typing import Any, NamedTuple

from peavine.controllers.job.indexes import parse

Object = dict[str, Any]

FAILURES = "batch.kubernetes.io/job-index-failure-count"
IGNORED_FAILURES = "batch.kubernetes.io/job-index-ignored-failure-count"


class Verdict(NamedTuple):
    """What podFailurePolicy says of a failed pod: an action (or "" where no rule matched) and a message for FailJob."""

    action: str
    message: str = ""


def judge(policy: Object | None, pod: Object) -> Verdict:
    """The first matching rule's action: FailJob, FailIndex, Ignore or Count."""
    if policy is None:
        return Verdict("")
    name = f"{pod['metadata']['namespace']}/{pod['metadata']['name']}"
    for i, rule in enumerate(policy.get("rules") or ()):
        if codes := rule.get("onExitCodes"):
            container = _matching_container(codes, pod)
            if container is not None:
                code = container["state"]["terminated"]["exitCode"]
                message = (
                    f"Container {container['name']} for pod {name} failed with exit code {code} "
                    f"matching {rule['action']} rule at index {i}"
                )
                return Verdict(rule["action"], message)
        for pattern in rule.get("onPodConditions") or ():
            for condition in (pod.get("status") or {}).get("conditions") or ():
                same_status = condition["status"] == (pattern.get("status") or "True")
                if condition["type"] == pattern["type"] and same_status:
                    message = (
                        f"Pod {name} has condition {condition['type']} matching {rule['action']} rule at index {i}"
                    )
                    return Verdict(rule["action"], message)
    return Verdict("")


def _matching_container(codes: Object, pod: Object) -> Object | None:
    status = pod.get("status") or {}
    for container in [*(status.get("containerStatuses") or ()), *(status.get("initContainerStatuses") or ())]:
        terminated = (container.get("state") or {}).get("terminated")
        if terminated is None or terminated["exitCode"] == 0:
            continue
        if codes.get("containerName") and codes["containerName"] != container["name"]:
            continue
        listed = terminated["exitCode"] in codes["values"]
        if listed == (codes["operator"] == "In"):
            return container
    return None


def met_success_policy(policy: Object | None, succeeded: set[int], completions: int) -> str | None:
    """The message of the first rule of successPolicy that holds; None while none does."""
    for i, rule in enumerate((policy or {}).get("rules") or ()):
        wanted = parse(rule["succeededIndexes"], completions) if rule.get("succeededIndexes") else None
        reached = succeeded if wanted is None else succeeded & wanted
        needed = rule.get("succeededCount")
        if needed is None:
            needed = len(wanted or ())
        if len(reached) >= needed and reached:
            return f"Matched rules at index {i}"
    return None


def all_failures(pod: Object) -> int:
    """How often this index had failed when the pod was made, with those failures that a policy ignored."""
    return _number(pod, FAILURES) + _number(pod, IGNORED_FAILURES)


def failures_after(pod: Object, policy: Object | None) -> tuple[int, int]:
    """(failures that count, ignored ones) of its index, this pod's own included: what its replacement is told."""
    counted, ignored = _number(pod, FAILURES), _number(pod, IGNORED_FAILURES)
    if judge(policy, pod).action == "Ignore":
        return counted, ignored + 1
    return counted + 1, ignored


def _number(pod: Object, annotation: str) -> int:
    text = (pod["metadata"].get("annotations") or {}).get(annotation, "0")
    return int(text) if text.isdigit() else 0
