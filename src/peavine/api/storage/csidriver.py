"""CSIDriver: what a storage driver can and wants."""

from __future__ import annotations

from typing import Any

from peavine.api.core.volume_validation import driver_name
from peavine.api.fields import strip
from peavine.api.printing import AGE, NAME, Column, name, object_age
from peavine.machinery.errors import FieldError, duplicate, invalid_value, not_supported, required

Object = dict[str, Any]

COLUMNS = (
    NAME,
    Column("AttachRequired", "boolean", "@storage.v1.CSIDriverSpec.attachRequired"),
    Column("PodInfoOnMount", "boolean", "@storage.v1.CSIDriverSpec.podInfoOnMount"),
    Column("StorageCapacity", "boolean", "@storage.v1.CSIDriverSpec.storageCapacity"),
    Column("TokenRequests", description="@storage.v1.CSIDriverSpec.tokenRequests"),
    Column("RequiresRepublish", "boolean", "@storage.v1.CSIDriverSpec.requiresRepublish"),
    Column("Modes", description="@storage.v1.CSIDriverSpec.volumeLifecycleModes"),
    AGE,
)
MODES = ("Ephemeral", "Persistent")
GROUP_POLICIES = ("File", "None", "ReadWriteOnceWithFSType")


def row(obj: Object) -> list[Any]:
    spec = obj.get("spec") or {}
    tokens = [token.get("audience") or "" for token in spec.get("tokenRequests") or []]
    return [
        name(obj),
        True if spec.get("attachRequired") is None else spec["attachRequired"],
        bool(spec.get("podInfoOnMount")),
        bool(spec.get("storageCapacity")),
        ",".join(tokens) or "<unset>",
        bool(spec.get("requiresRepublish")),
        ",".join(spec.get("volumeLifecycleModes") or []) or "<none>",
        object_age(obj),
    ]


def default(obj: Object) -> None:
    spec = obj.setdefault("spec", {})
    fixed: Object = {
        "attachRequired": True,
        "podInfoOnMount": False,
        "storageCapacity": False,
        "fsGroupPolicy": "ReadWriteOnceWithFSType",
        "requiresRepublish": False,
        "seLinuxMount": False,
    }
    for field, value in fixed.items():
        if spec.get(field) is None:
            spec[field] = value
    if not spec.get("volumeLifecycleModes"):
        spec["volumeLifecycleModes"] = ["Persistent"]


def validate_create(obj: Object) -> list[FieldError]:
    own = name(obj)
    return (driver_name(own, "metadata.name") if own else []) + _spec(obj.get("spec") or {})


def _spec(spec: Object) -> list[FieldError]:
    errors = [
        required(f"spec.{field}")
        for field in ("attachRequired", "podInfoOnMount", "storageCapacity", "seLinuxMount")
        if spec.get(field) is None
    ]
    policy = spec.get("fsGroupPolicy")
    if policy is not None and policy not in GROUP_POLICIES:
        errors.append(not_supported("spec.fsGroupPolicy", policy, GROUP_POLICIES))
    audiences: set[str] = set()
    for i, token in enumerate(spec.get("tokenRequests") or []):
        audience, seconds = token.get("audience") or "", token.get("expirationSeconds")
        if audience in audiences:
            errors.append(duplicate(f"spec.tokenRequests[{i}].audience", audience))
        audiences.add(audience)
        if seconds is not None and seconds < 600:
            field = f"spec.tokenRequests[{i}].expirationSeconds"
            errors.append(invalid_value(field, seconds, "may not specify a duration less than 10 minutes"))
    for mode in spec.get("volumeLifecycleModes") or []:
        if mode not in MODES:
            errors.append(not_supported("spec.volumeLifecycleModes", mode, MODES))
    return errors


def validate_update(new: Object, old: Object) -> list[FieldError]:
    errors = _spec(new.get("spec") or {})
    spec, before = new.get("spec") or {}, old.get("spec") or {}
    for field in ("attachRequired", "volumeLifecycleModes"):
        if strip(spec.get(field)) != strip(before.get(field)):
            errors.append(invalid_value(f"spec.{field}", spec.get(field), "field is immutable"))
    return errors
