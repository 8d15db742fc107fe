"""Node: a machine that runs pods."""

from __future__ import annotations

from typing import Any

from peavine.api import alpha, strict_ip
from peavine.api.conditions import condition, is_true
from peavine.api.fields import broken, non_negative_quantity, strip
from peavine.api.kind import keep
from peavine.api.printing import AGE, NAME, NONE, UNKNOWN, Column, name, object_age
from peavine.machinery import validation as rules
from peavine.machinery.errors import FieldError, duplicate, forbidden_field, invalid_value, not_supported, required

Object = dict[str, Any]

KEEPS_STATUS_ON_CREATE = True  # a kubelet registers its node status and all
ROLE_PREFIX, ROLE_LABEL = "node-role.kubernetes.io/", "kubernetes.io/role"

COLUMNS = (
    NAME,
    Column("Status", description="The status of the node"),
    Column("Roles", description="The roles of the node"),
    AGE,
    Column("Version", description="@core.v1.NodeSystemInfo.kubeletVersion"),
    Column("Internal-IP", description="@core.v1.NodeStatus.addresses", priority=1),
    Column("External-IP", description="@core.v1.NodeStatus.addresses", priority=1),
    Column("OS-Image", description="@core.v1.NodeSystemInfo.osImage", priority=1),
    Column("Kernel-Version", description="@core.v1.NodeSystemInfo.kernelVersion", priority=1),
    Column("Container-Runtime", description="@core.v1.NodeSystemInfo.containerRuntimeVersion", priority=1),
)
FIELD_LABELS = {
    "spec.unschedulable": lambda obj: "true" if (obj.get("spec") or {}).get("unschedulable") else "false",
}
UNKNOWN_FIELD_LABEL = "field label not supported: {}"


def row(obj: Object) -> list[Any]:
    status = obj.get("status") or {}
    info = status.get("nodeInfo") or {}
    ready = condition(obj, "Ready")
    words = ["Unknown" if ready is None else "Ready" if ready.get("status") == "True" else "NotReady"]
    if (obj.get("spec") or {}).get("unschedulable"):
        words.append("SchedulingDisabled")
    return [
        name(obj),
        ",".join(words),
        ",".join(roles(obj)) or NONE,
        object_age(obj),
        info.get("kubeletVersion") or "",
        address(obj, "InternalIP") or NONE,
        address(obj, "ExternalIP") or NONE,
        info.get("osImage") or UNKNOWN,
        info.get("kernelVersion") or UNKNOWN,
        info.get("containerRuntimeVersion") or UNKNOWN,
    ]


def roles(obj: Object) -> list[str]:
    """The node's roles by its labels, sorted."""
    found = set()
    for key, value in ((obj.get("metadata") or {}).get("labels") or {}).items():
        if key.startswith(ROLE_PREFIX):
            found.add(key.removeprefix(ROLE_PREFIX))
        elif key == ROLE_LABEL and value:
            found.add(value)
    return sorted(found - {""})


def address(obj: Object, type: str) -> str:
    """The node's first address of a type, or ""."""
    for entry in (obj.get("status") or {}).get("addresses") or []:
        if entry.get("type") == type:
            return entry.get("address") or ""
    return ""


def is_ready(obj: Object) -> bool:
    return is_true(obj, "Ready")


def default(obj: Object) -> None:
    status = obj.get("status") or {}
    if status.get("allocatable") is None and status.get("capacity") is not None:
        status["allocatable"] = dict(status["capacity"])
    spec = obj.setdefault("spec", {})
    alpha.drop(spec, alpha.NODE_SPEC)
    _mirror_pod_cidr(spec)


def _mirror_pod_cidr(spec: Object) -> None:
    """podCIDR is the first of podCIDRs."""
    if spec.get("podCIDR") and not spec.get("podCIDRs"):
        spec["podCIDRs"] = [spec["podCIDR"]]
    elif spec.get("podCIDRs") and not spec.get("podCIDR"):
        spec["podCIDR"] = spec["podCIDRs"][0]


def prepare_update(new: Object, old: Object) -> None:
    keep(new, old, "status")


def prepare_status_update(new: Object, old: Object) -> None:
    keep(new, old, "spec")


def validate_create(obj: Object) -> list[FieldError]:
    spec = obj.get("spec") or {}
    errors: list[FieldError] = []
    if spec.get("taints"):
        errors += validate_taints(spec["taints"], "metadata.taints")  # upstream's path
    errors += _resources(obj.get("status") or {})
    return errors + _pod_cidrs(spec)


def _pod_cidrs(spec: Object) -> list[FieldError]:
    networks = spec.get("podCIDRs") or []
    errors: list[FieldError] = []
    for i, network in enumerate(networks):
        errors += broken(f"spec.podCIDRs[{i}]", network, strict_ip.is_cidr(network))
    if errors or not networks:
        return errors
    if len(networks) > 2:
        message = "may specify no more than one CIDR for each IP family"
        errors.append(invalid_value("spec.podCIDRs", networks, message))
    elif len(networks) == 2:
        if networks[0] == networks[1]:
            errors.append(duplicate("spec.podCIDRs[1]", networks[1]))
        families = {getattr(rules.parse_cidr(network), "version", 0) for network in networks}
        if len(families) == 1:
            message = "may specify no more than one CIDR for each IP family"
            errors.append(invalid_value("spec.podCIDRs", networks, message))
    return errors


def _resources(status: Object) -> list[FieldError]:
    errors: list[FieldError] = []
    for part in ("capacity", "allocatable"):
        for resource, value in (status.get(part) or {}).items():
            errors += rules.validate_label_name(resource, f"status.{part}[{resource}]")
            errors += non_negative_quantity(f"status.{part}[{resource}]", value)
    return errors


def validate_taints(taints: list[Object], field: str) -> list[FieldError]:
    errors: list[FieldError] = []
    seen: set[tuple[Any, Any]] = set()
    for i, taint in enumerate(taints):
        at = f"{field}[{i}]"
        key, value, effect = (taint.get(part) or "" for part in ("key", "value", "effect"))
        errors += rules.validate_label_name(key, f"{at}.key")
        errors += broken(f"{at}.value", value, rules.is_label_value(value))
        if not effect:
            errors.append(required(f"{at}.effect"))
        elif effect not in ("NoSchedule", "PreferNoSchedule", "NoExecute"):
            errors.append(not_supported(f"{at}.effect", effect, ["NoSchedule", "PreferNoSchedule", "NoExecute"]))
        if (key, effect) in seen:
            duplicated = duplicate(at, taint)
            duplicated.detail = "taints must be unique by key and effect pair"
            errors.append(duplicated)
        seen.add((key, effect))
    return errors


def validate_update(new: Object, old: Object) -> list[FieldError]:
    spec, before = new.get("spec") or {}, old.get("spec") or {}
    errors = validate_create(new)
    now, then = spec.get("podCIDRs") or [], before.get("podCIDRs") or []
    if then and now != then:
        message = 'node updates may not change podCIDR except from "" to valid'
        errors.append(forbidden_field("spec.podCIDRs", message))
    if before.get("providerID") and (spec.get("providerID") or "") != before["providerID"]:
        message = 'node updates may not change providerID except from "" to valid'
        errors.append(forbidden_field("spec.providerID", message))
    mutable = ("podCIDR", "podCIDRs", "providerID", "unschedulable", "taints", "configSource", "externalID")
    after, earlier = ({k: v for k, v in s.items() if k not in mutable} for s in (spec, before))
    if strip(after) != strip(earlier):
        message = (
            "node updates may only change labels, taints, or capacity (or configSource, if "
            "the DynamicKubeletConfig feature gate is enabled)"
        )
        errors.append(forbidden_field("", message))
    return errors


def validate_status_update(new: Object, old: Object) -> list[FieldError]:
    errors = _resources(new.get("status") or {})
    seen: set[tuple[Any, Any]] = set()
    for i, entry in enumerate((new.get("status") or {}).get("addresses") or []):
        key = (entry.get("type"), entry.get("address"))
        if key in seen:
            errors.append(duplicate(f"status.addresses[{i}]", entry))
        seen.add(key)
    return errors


def warnings(obj: Object, old: Object | None) -> list[str]:
    found: list[str] = []
    spec = obj.get("spec") or {}
    if spec.get("configSource") is not None:
        found.append("spec.configSource: the feature is no longer supported in v1.26+")
    if spec.get("externalID"):
        found.append("spec.externalID: this field is deprecated, and is unused by Kubernetes")
    return found
