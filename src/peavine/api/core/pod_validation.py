"""The rules of pods beyond their spec's own: what a running pod may still change, resizing, ephemeral containers."""

from __future__ import annotations

import copy
import json
from typing import Any

from peavine.api import strict_ip
from peavine.api.core.podspec_validation import validate_pod_spec
from peavine.api.core.podstate import qos_class
from peavine.api.fields import broken, strip
from peavine.machinery import validation as rules
from peavine.machinery.errors import FieldError, forbidden_field, invalid_value, required

Object = dict[str, Any]

MIRROR = "kubernetes.io/config.mirror"
APPARMOR = "container.apparmor.security.beta.kubernetes.io/"
MUTABLE = (
    "pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,"
    "`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),"
    "`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)"
)
ONLY_ADD = "only additions are allowed (no mutations or deletions)"


def validate_pod(pod: Object) -> list[FieldError]:
    meta, spec = pod.get("metadata") or {}, pod.get("spec") or {}
    errors = _annotations(meta, spec)
    errors += validate_pod_spec(spec, "spec", meta)
    if not spec.get("serviceAccountName"):
        for i, volume in enumerate(spec.get("volumes") or []):
            for j, source in enumerate((volume.get("projected") or {}).get("sources") or []):
                if source.get("serviceAccountToken") is not None:
                    at = f"spec.volumes[{i}].projected.sources[{j}].serviceAccountToken"
                    message = "must not be specified when serviceAccountName is not set"
                    errors.append(forbidden_field(at, message))
    if spec.get("ephemeralContainers"):
        errors.append(forbidden_field("spec.ephemeralContainers", "cannot be set on create"))
    if spec.get("nodeName") and spec.get("schedulingGates"):
        message = "cannot be set until all schedulingGates have been cleared"
        errors.append(forbidden_field("spec.nodeName", message))
    return errors


def _annotations(meta: Object, spec: Object) -> list[FieldError]:
    errors: list[FieldError] = []
    annotations = meta.get("annotations") or {}
    names = {c.get("name") for part in ("containers", "initContainers") for c in spec.get(part) or []}
    names |= {c.get("name") for c in spec.get("ephemeralContainers") or []}
    for key, value in annotations.items():
        if not key.startswith(APPARMOR):
            continue
        container = key.removeprefix(APPARMOR)
        at = f"metadata.annotations[{key}]"
        if container not in names:
            errors.append(invalid_value(at, container, "container not found"))
        if value not in ("", "runtime/default", "unconfined") and not value.startswith("localhost/"):
            errors.append(invalid_value(at, value, 'invalid AppArmor profile name: "' + value + '"'))
    if MIRROR in annotations and not spec.get("nodeName"):
        message = "must set spec.nodeName if mirror pod annotation is set"
        errors.append(invalid_value(f"metadata.annotations[{MIRROR}]", annotations[MIRROR], message))
    return errors


# Update


def validate_pod_update(new: Object, old: Object) -> list[FieldError]:
    spec, before = new.get("spec") or {}, old.get("spec") or {}
    errors = _annotations(new.get("metadata") or {}, spec)
    for part, words in (("containers", "containers"), ("initContainers", "containers")):
        if len(spec.get(part) or []) != len(before.get(part) or []):
            errors.append(forbidden_field(f"spec.{part}", f"pod updates may not add or remove {words}"))
            return errors
    for part in ("containers", "initContainers"):
        for i, container in enumerate(spec.get(part) or []):
            image = container.get("image") or ""
            if image != image.strip():
                message = "must not have leading or trailing whitespace"
                errors.append(invalid_value(f"spec.{part}[{i}].image", image, message))
            if not image:
                errors.append(required(f"spec.{part}[{i}].image"))
    errors += _deadline(spec.get("activeDeadlineSeconds"), before.get("activeDeadlineSeconds"))
    errors += _added_tolerations(spec.get("tolerations") or [], before.get("tolerations") or [])
    errors += _removed_gates(spec.get("schedulingGates") or [], before.get("schedulingGates") or [])
    gated = bool(before.get("schedulingGates"))
    munged = _munged(spec, before, gated)
    if gated:
        errors += _tightened(spec, before)
    if strip(munged) != strip(before):
        errors.append(forbidden_field("spec", MUTABLE + "\n" + _difference(before, munged)))
    return errors


def _munged(spec: Object, before: Object, gated: bool) -> Object:
    """The new spec with all that may change set back to what it was."""
    munged = copy.copy(spec)
    for part in ("containers", "initContainers"):
        if part in spec:
            munged[part] = [
                {**container, "image": previous.get("image")}
                for container, previous in zip(spec[part] or [], before.get(part) or [])
            ]
    fields = ["activeDeadlineSeconds", "tolerations", "schedulingGates"]
    if (before.get("terminationGracePeriodSeconds") or 0) < 0 and spec.get("terminationGracePeriodSeconds") == 1:
        fields.append("terminationGracePeriodSeconds")
    if gated:
        fields += ["nodeSelector"]
        affinity = {**(munged.get("affinity") or {})}
        previous = (before.get("affinity") or {}).get("nodeAffinity")
        affinity["nodeAffinity"] = previous
        munged["affinity"] = affinity
    for field in fields:
        munged[field] = before.get(field)
    return munged


def _difference(before: Object, after: Object) -> str:
    """The lines of the spec's JSON that differ."""
    import difflib

    old, new = (json.dumps(strip(o), indent=1, sort_keys=True).splitlines() for o in (before, after))
    lines = [line for line in difflib.ndiff(old, new) if line[0] in "+-"]
    return "\n".join(lines[:40]) + "\n"


def _deadline(new: int | None, old: int | None) -> list[FieldError]:
    field = "spec.activeDeadlineSeconds"
    if new is not None:
        if not 0 <= new <= 2**31 - 1:
            return [invalid_value(field, new, f"must be between 0 and {2**31 - 1}, inclusive")]
        if old is not None and old < new:
            return [invalid_value(field, new, "must be less than or equal to previous value")]
    elif old is not None:
        return [invalid_value(field, None, "must not update from a positive integer to nil value")]
    return []


def _added_tolerations(new: list[Object], old: list[Object]) -> list[FieldError]:
    from peavine.api.core.scheduling_validation import validate_tolerations

    def key(toleration: Object) -> Any:
        return tuple((k, toleration.get(k) or "") for k in ("key", "operator", "value", "effect"))

    kept = {key(t) for t in new}
    if any(key(t) not in kept for t in old):
        message = "existing toleration can not be modified except its tolerationSeconds"
        return [forbidden_field("spec.tolerations", message)]
    return validate_tolerations(new, "spec.tolerations")


def _removed_gates(new: list[Object], old: list[Object]) -> list[FieldError]:
    known = {gate.get("name") for gate in old}
    return [
        forbidden_field(
            f"spec.schedulingGates[{i}].name",
            f"only deletion is allowed, but found new scheduling gate '{gate.get('name')}'",
        )
        for i, gate in enumerate(new)
        if gate.get("name") not in known
    ]


def _tightened(spec: Object, before: Object) -> list[FieldError]:
    """A gated pod may still be bound to fewer nodes, never to more."""
    errors: list[FieldError] = []
    selector, previous = spec.get("nodeSelector") or {}, before.get("nodeSelector") or {}
    if any(selector.get(key) != value for key, value in previous.items()):
        errors.append(invalid_value("spec.nodeSelector", selector, ONLY_ADD))
    field = "spec.affinity.nodeAffinity"
    affinity, old_affinity = (((s.get("affinity") or {}).get("nodeAffinity")) or {} for s in (spec, before))
    name = "requiredDuringSchedulingIgnoredDuringExecution"
    terms, old_terms = (((a.get(name) or {}).get("nodeSelectorTerms")) or [] for a in (affinity, old_affinity))
    if not old_terms:
        return errors
    if len(terms) != len(old_terms):
        message = "no additions/deletions to non-empty NodeSelectorTerms list are allowed"
        errors.append(invalid_value(f"{field}.{name}.nodeSelectorTerms", terms, message))
        return errors
    for i, (term, old_term) in enumerate(zip(terms, old_terms)):
        at = f"{field}.{name}.nodeSelectorTerms[{i}]"
        for part in ("matchExpressions", "matchFields"):
            now, then = term.get(part) or [], old_term.get(part) or []
            if now[: len(then)] != then:
                errors.append(invalid_value(at, term, ONLY_ADD))
                break
    return errors


# Status


def validate_pod_status_update(new: Object, old: Object) -> list[FieldError]:
    errors: list[FieldError] = []
    spec, before = new.get("spec") or {}, old.get("spec") or {}
    status, old_status = new.get("status") or {}, old.get("status") or {}
    if (spec.get("nodeName") or "") != (before.get("nodeName") or ""):
        errors.append(forbidden_field("status.nodeName", "may not be changed directly"))
    nominated = status.get("nominatedNodeName")
    if nominated:
        errors += broken("status.nominatedNodeName", nominated, rules.is_dns1123_subdomain(nominated))
    if (status.get("qosClass") or "") != (old_status.get("qosClass") or "") and old_status.get("qosClass"):
        errors.append(invalid_value("status.qosClass", status.get("qosClass") or "", "field is immutable"))
    always = spec.get("restartPolicy") == "Always"
    for part, init in (("containerStatuses", False), ("initContainerStatuses", True)):
        errors += _transitions(
            status.get(part) or [], old_status.get(part) or [], f"status.{part}", always and not init, spec
        )
    for i, entry in enumerate(status.get("conditions") or []):
        if entry.get("type") in ("", None):
            errors.append(required(f"status.conditions[{i}].type"))
    ips = [ip.get("ip") or "" for ip in status.get("podIPs") or []]
    for i, ip in enumerate(ips):
        errors += broken(f"status.podIPs[{i}]", ip, strict_ip.is_ip(ip))
    if len(ips) > 2:
        errors.append(
            invalid_value("status.podIPs", status["podIPs"], "may specify no more than one IP for each IP family")
        )
    return errors


def _transitions(new: list[Object], old: list[Object], field: str, always: bool, spec: Object) -> list[FieldError]:
    """A container that ended for good does not come back."""
    errors: list[FieldError] = []
    if always:
        return errors
    own = {c.get("name"): c for part in ("containers", "initContainers") for c in spec.get(part) or []}
    by_name = {entry.get("name"): entry for entry in new}
    for i, entry in enumerate(old):
        ended = (entry.get("state") or {}).get("terminated")
        if ended is None:
            continue
        if ended.get("exitCode") and spec.get("restartPolicy") in ("OnFailure", "Always"):
            continue
        container = own.get(entry.get("name")) or {}
        if container.get("restartPolicy") or container.get("restartPolicyRules"):
            continue
        now = by_name.get(entry.get("name"))
        if now is not None and (now.get("state") or {}).get("terminated") is None:
            message = "may not be transitioned to non-terminated state"
            errors.append(forbidden_field(f"{field}[{i}].state", message))
    return errors


# Ephemeral containers and resizing


def validate_ephemeral_containers_update(new: Object, old: Object) -> list[FieldError]:
    spec, before = new.get("spec") or {}, old.get("spec") or {}
    errors = validate_pod_spec(spec, "spec", new.get("metadata") or {})
    errors = [e for e in errors if e.field.startswith("spec.ephemeralContainers")]
    if MIRROR in ((old.get("metadata") or {}).get("annotations") or {}):
        errors.append(forbidden_field("", "static pods do not support ephemeral containers"))
    by_name = {c.get("name"): c for c in spec.get("ephemeralContainers") or []}
    for container in before.get("ephemeralContainers") or []:
        name = container.get("name")
        if name not in by_name:
            message = f'existing ephemeral containers "{name}" may not be removed\n'
            errors.append(forbidden_field("spec.ephemeralContainers", message))
        elif strip(by_name[name]) != strip(container):
            message = f'existing ephemeral containers "{name}" may not be changed\n'
            errors.append(forbidden_field("spec.ephemeralContainers", message))
    return errors


def validate_pod_resize(new: Object, old: Object) -> list[FieldError]:
    from peavine.api.core.resource_validation import validate_requirements

    spec, before = new.get("spec") or {}, old.get("spec") or {}
    errors: list[FieldError] = []
    if MIRROR in ((old.get("metadata") or {}).get("annotations") or {}):
        errors.append(forbidden_field("", "static pods cannot be resized"))
    if (spec.get("os") or {}).get("name") == "windows":
        errors.append(forbidden_field("", "windows pods cannot be resized"))
    for part in ("containers", "initContainers"):
        now, then = spec.get(part) or [], before.get(part) or []
        if len(now) != len(then):
            errors.append(forbidden_field(f"spec.{part}", f"{part} may not be added or removed on resize"))
            return errors
        for i, (container, previous) in enumerate(zip(now, then)):
            at = f"spec.{part}[{i}]"
            resources, old_resources = container.get("resources") or {}, previous.get("resources") or {}
            errors += validate_requirements(resources, f"{at}.resources")
            if resources == old_resources:
                continue
            if part == "initContainers" and container.get("restartPolicy") != "Always":
                message = "only cpu and memory resources for sidecar containers are mutable"
                errors.append(forbidden_field("spec", message))
            errors += _only_cpu_and_memory(resources, old_resources, at)
    if not errors and qos_class({"spec": spec}) != qos_class({"spec": before}):
        message = "Pod QOS Class may not change as a result of resizing"
        errors.append(invalid_value("spec", qos_class({"spec": spec}), message))
    return errors


def _only_cpu_and_memory(new: Object, old: Object, field: str) -> list[FieldError]:
    errors: list[FieldError] = []
    for part in ("limits", "requests"):
        now, then = new.get(part) or {}, old.get(part) or {}
        for name in sorted(set(now) | set(then)):
            if name not in ("cpu", "memory") and now.get(name) != then.get(name):
                errors.append(forbidden_field("spec", "only cpu and memory resources are mutable"))
            if name in ("cpu", "memory") and name in then and name not in now:
                message = f"resource {part} cannot be removed"
                errors.append(forbidden_field(f"{field}.resources.{part}", message))
    return errors
