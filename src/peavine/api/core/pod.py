"""Pod: the hooks of the kind. What others ask about pods is in `podstate`, the rules of its spec in `podspec_*`."""

from __future__ import annotations

from typing import Any

from peavine.api.conditions import condition, is_true
from peavine.api.core.podstate import all_containers, is_terminal, qos_class
from peavine.api.core.resources import is_sidecar
from peavine.api.kind import keep
from peavine.api.printing import AGE, NAME, NONE, Column, age, name, object_age
from peavine.machinery.errors import FieldError

Object = dict[str, Any]

KEEPS_STATUS_ON_CREATE = True  # prepare_create makes a new one

COLUMNS = (
    NAME,
    Column("Ready", description="The aggregate readiness state of this pod for accepting traffic."),
    Column("Status", description="The aggregate status of the containers in this pod."),
    Column(
        "Restarts",
        description="The number of times the containers in this pod have been restarted and when the last container "
        "in this pod has restarted.",
    ),
    AGE,
    Column("IP", description="@core.v1.PodStatus.podIP", priority=1),
    Column("Node", description="@core.v1.PodSpec.nodeName", priority=1),
    Column("Nominated Node", description="@core.v1.PodStatus.nominatedNodeName", priority=1),
    Column("Readiness Gates", description="@core.v1.PodSpec.readinessGates", priority=1),
)


def _spec(field: str) -> Any:
    return lambda pod: str((pod.get("spec") or {}).get(field) or "")


def _status(field: str) -> Any:
    return lambda pod: str((pod.get("status") or {}).get(field) or "")


FIELD_LABELS = {
    "spec.nodeName": _spec("nodeName"),
    "spec.restartPolicy": _spec("restartPolicy"),
    "spec.schedulerName": _spec("schedulerName"),
    "spec.serviceAccountName": _spec("serviceAccountName"),
    "spec.hostNetwork": lambda pod: "true" if (pod.get("spec") or {}).get("hostNetwork") else "false",
    "status.phase": _status("phase"),
    "status.podIP": _status("podIP"),
    "status.podIPs": _status("podIP"),
    "status.nominatedNodeName": _status("nominatedNodeName"),
}
UNKNOWN_FIELD_LABEL = "field label not supported: {}"


def default(pod: Object) -> None:
    from peavine.api.core.podspec_defaults import default_pod, default_pod_spec

    default_pod(pod)
    default_pod_spec(pod["spec"])


# Preparation


def prepare_create(pod: Object) -> None:
    pod["status"] = {"phase": "Pending", "qosClass": qos_class(pod)}
    spec = pod.setdefault("spec", {})
    if spec.get("schedulingGates"):
        pod["status"]["conditions"] = [
            {
                "type": "PodScheduled",
                "status": "False",
                "reason": "SchedulingGated",
                "message": "Scheduling is blocked due to non-empty scheduling gates",
            }
        ]
    _match_label_keys(pod)
    _apparmor_and_seccomp(pod)


def prepare_update(new: Object, old: Object) -> None:
    """The status stays; ephemeral containers have a subresource of their own."""
    keep(new, old, "status")


def prepare_status_update(new: Object, old: Object) -> None:
    keep(new, old, "spec")
    meta, before = new.setdefault("metadata", {}), old.get("metadata") or {}
    keep(meta, before, "ownerReferences")
    for field in ("deletionTimestamp", "deletionGracePeriodSeconds"):
        keep(meta, before, field)
    status = new.setdefault("status", {})
    if (old.get("status") or {}).get("qosClass"):
        status["qosClass"] = old["status"]["qosClass"]
    _keep_resource_fields(status)


def _keep_resource_fields(status: Object) -> None:
    for part in ("initContainerStatuses", "containerStatuses", "ephemeralContainerStatuses"):
        for entry in status.get(part) or []:
            if entry.get("resources") is None:
                entry.pop("resources", None)


def prepare_ephemeralcontainers_update(new: Object, old: Object) -> None:
    """Everything but the ephemeral containers stays as it was."""
    added = (new.get("spec") or {}).get("ephemeralContainers")
    new["spec"] = dict(old.get("spec") or {})
    if added:
        new["spec"]["ephemeralContainers"] = added
    else:
        new["spec"].pop("ephemeralContainers", None)
    keep(new, old, "status")
    _count_generation(new, old)


def prepare_resize_update(new: Object, old: Object) -> None:
    """Only the resources of containers, and of the pod, change."""
    wanted = new.get("spec") or {}
    spec = dict(old.get("spec") or {})
    for part in ("containers", "initContainers"):
        by_name = {c.get("name"): c for c in wanted.get(part) or []}
        if part in spec:
            spec[part] = [_resized(c, by_name.get(c.get("name"))) for c in spec[part]]
            extra = [c for c in wanted.get(part) or [] if c.get("name") not in {o.get("name") for o in spec[part]}]
            spec[part] = [*spec[part], *extra]  # validation will refuse what was not there
    if "resources" in wanted:
        spec["resources"] = wanted["resources"]
    new["spec"] = spec
    keep(new, old, "status")
    _count_generation(new, old)


def _resized(container: Object, wanted: Object | None) -> Object:
    if wanted is None:
        return container
    result = dict(container)
    for field in ("resources", "resizePolicy"):
        if field in wanted:
            result[field] = wanted[field]
    return result


def _count_generation(new: Object, old: Object) -> None:
    if (new.get("spec") or {}) != (old.get("spec") or {}):
        new.setdefault("metadata", {})["generation"] = ((old.get("metadata") or {}).get("generation") or 0) + 1
    else:
        keep(new.setdefault("metadata", {}), old.get("metadata") or {}, "generation")


COUNTS_GENERATION_IN_SUBRESOURCES = True


def _match_label_keys(pod: Object) -> None:
    """`matchLabelKeys` become expressions over the values that this pod has under them."""
    spec, labels = pod["spec"], (pod.get("metadata") or {}).get("labels") or {}
    affinity = spec.get("affinity") or {}
    for part in ("podAffinity", "podAntiAffinity"):
        terms = list((affinity.get(part) or {}).get("requiredDuringSchedulingIgnoredDuringExecution") or [])
        for weighted in (affinity.get(part) or {}).get("preferredDuringSchedulingIgnoredDuringExecution") or []:
            terms.append(weighted.get("podAffinityTerm") or {})
        for term in terms:
            for keys, operator in (("matchLabelKeys", "In"), ("mismatchLabelKeys", "NotIn")):
                _add_expressions(term, term.get(keys), operator, labels)
    for constraint in spec.get("topologySpreadConstraints") or []:
        _add_expressions(constraint, constraint.get("matchLabelKeys"), "In", labels)


def _add_expressions(holder: Object, keys: list[str] | None, operator: str, labels: Object) -> None:
    selector = holder.get("labelSelector")
    if selector is None:
        return
    for key in keys or []:
        if key in labels:
            requirement = {"key": key, "operator": operator, "values": [labels[key]]}
            selector.setdefault("matchExpressions", []).append(requirement)


def _apparmor_and_seccomp(pod: Object) -> None:
    """The AppArmor annotations of old become fields, and fields annotations, where only one is there."""
    annotations = (pod.get("metadata") or {}).get("annotations") or {}
    prefix = "container.apparmor.security.beta.kubernetes.io/"
    for container in all_containers(pod["spec"]):
        text = annotations.get(prefix + (container.get("name") or ""))
        profile = (container.get("securityContext") or {}).get("appArmorProfile")
        if text and profile is None:
            made = _profile(text)
            if made:
                container.setdefault("securityContext", {})["appArmorProfile"] = made


def _profile(text: str) -> Object | None:
    if text == "runtime/default":
        return {"type": "RuntimeDefault"}
    if text == "unconfined":
        return {"type": "Unconfined"}
    if text.startswith("localhost/"):
        return {"type": "Localhost", "localhostProfile": text.removeprefix("localhost/")}
    return None


# Validation


def validate_create(pod: Object) -> list[FieldError]:
    from peavine.api.core.pod_validation import validate_pod

    return validate_pod(pod)


def validate_update(new: Object, old: Object) -> list[FieldError]:
    from peavine.api.core.pod_validation import validate_pod_update

    return validate_pod_update(new, old)


def validate_status_update(new: Object, old: Object) -> list[FieldError]:
    from peavine.api.core.pod_validation import validate_pod_status_update

    return validate_pod_status_update(new, old)


def validate_resize_update(new: Object, old: Object) -> list[FieldError]:
    from peavine.api.core.pod_validation import validate_pod_resize

    return validate_pod_resize(new, old)


def validate_ephemeralcontainers_update(new: Object, old: Object) -> list[FieldError]:
    from peavine.api.core.pod_validation import validate_ephemeral_containers_update

    return validate_ephemeral_containers_update(new, old)


def warnings(pod: Object, old: Object | None) -> list[str]:
    from peavine.api.core.podspec_warnings import pod_warnings

    return pod_warnings(pod, old)


# The Table


def row(pod: Object) -> list[Any]:
    status, spec = pod.get("status") or {}, pod.get("spec") or {}
    ready, total, restarts, word = summary(pod)
    addresses = status.get("podIPs") or []
    gates = spec.get("readinessGates") or []
    passed = sum(is_true(pod, gate.get("conditionType", "")) for gate in gates)
    return [
        name(pod),
        f"{ready}/{total}",
        word,
        restarts,
        object_age(pod),
        (addresses[0].get("ip") if addresses else "") or status.get("podIP") or NONE,
        spec.get("nodeName") or NONE,
        status.get("nominatedNodeName") or NONE,
        f"{passed}/{len(gates)}" if gates else NONE,
    ]


def summary(pod: Object) -> tuple[int, int, str, str]:
    """(ready containers, containers, restarts as text, status word) as `kubectl get pods` shows them."""
    status, spec, meta = pod.get("status") or {}, pod.get("spec") or {}, pod.get("metadata") or {}
    total = len(spec.get("containers") or [])
    ready = restarts = sidecar_restarts = 0
    last = last_sidecar = ""
    word = status.get("reason") or status.get("phase") or ""
    gated = condition(pod, "PodScheduled")
    if gated is not None and gated.get("reason") == "SchedulingGated":
        word = "SchedulingGated"
    init = {c.get("name"): c for c in spec.get("initContainers") or []}
    total += sum(is_sidecar(c) for c in init.values())
    initializing = False
    for i, entry in enumerate(status.get("initContainerStatuses") or []):
        restarts += entry.get("restartCount") or 0
        last = max(last, _finished(entry))
        sidecar = is_sidecar(init.get(entry.get("name"), {}))
        if sidecar:
            sidecar_restarts += entry.get("restartCount") or 0
            last_sidecar = max(last_sidecar, _finished(entry))
        state = entry.get("state") or {}
        ended, waiting = state.get("terminated"), state.get("waiting")
        if ended is not None and not ended.get("exitCode"):
            continue
        if sidecar and entry.get("started"):
            ready += bool(entry.get("ready"))
            continue
        if ended is not None:
            word = "Init:" + _ended(ended)
        elif waiting and waiting.get("reason") and waiting["reason"] != "PodInitializing":
            word = "Init:" + waiting["reason"]
        else:
            word = f"Init:{i}/{len(init)}"
        initializing = True
        break
    if not initializing or is_true(pod, "Initialized"):
        restarts, last = sidecar_restarts, last_sidecar
        running = False
        for entry in reversed(status.get("containerStatuses") or []):
            restarts += entry.get("restartCount") or 0
            last = max(last, _finished(entry))
            state = entry.get("state") or {}
            ended, waiting = state.get("terminated"), state.get("waiting")
            if waiting and waiting.get("reason"):
                word = waiting["reason"]
            elif ended is not None:
                word = _ended(ended)
            elif entry.get("ready") and state.get("running") is not None:
                running = True
                ready += 1
        if word == "Completed" and running:
            word = "Running" if is_true(pod, "Ready") else "NotReady"
    if meta.get("deletionTimestamp"):
        if status.get("reason") == "NodeLost":
            word = "Unknown"
        elif not is_terminal(pod):
            word = "Terminating"
    shown = f"{restarts} ({age(last)} ago)" if restarts and last else str(restarts)
    return ready, total, shown, word


def _finished(entry: Object) -> str:
    return ((entry.get("lastState") or {}).get("terminated") or {}).get("finishedAt") or ""


def _ended(state: Object) -> str:
    if state.get("reason"):
        return str(state["reason"])
    if state.get("signal"):
        return f"Signal:{state['signal']}"
    return f"ExitCode:{state.get('exitCode') or 0}"
