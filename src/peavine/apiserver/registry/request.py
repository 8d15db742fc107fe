"""A write as the registry sees it: of which kind, by whom, with which options."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from peavine.api.kind import Kind
from peavine.apiserver.admission.request import AdmissionRequest
from peavine.apiserver.authentication.user import User
from peavine.machinery.errors import FieldError, invalid, invalid_value, not_supported
from peavine.machinery.names import GVK, GVR

Object = dict[str, Any]
FIELD_MANAGER_CHARS_MAX = 128


@dataclass(slots=True)
class WriteRequest:
    """One write on one resource. `kind` is the kind of the request's version (of the parent, for subresources)."""

    kind: Kind
    namespace: str
    name: str
    user: User
    subresource: str = ""
    dry_run: bool = False
    manager: str = ""  # of managed fields
    validation: str = "Warn"  # of fields: Ignore, Warn or Strict
    options: Object = field(default_factory=dict)  # as sent: CreateOptions, UpdateOptions, PatchOptions, DeleteOptions
    warnings: list[str] = field(default_factory=list)
    annotations: dict[str, str] = field(default_factory=dict)
    admit: bool = True  # False for what the server itself does
    # The kind of the object that admission sees, where it is not the parent's (Scale, Binding, Eviction, ...), and how
    # it is made from the parent.
    object_gvk: GVK | None = None
    view: Callable[[Object], Object] | None = None

    @property
    def strategy(self) -> str:
        """The subresource whose rules of preparation and validation hold: scale goes by the object's own."""
        return "" if self.subresource == "scale" else self.subresource

    def admission(self, operation: str, obj: Object | None, old: Object | None) -> AdmissionRequest:
        kind = self.kind
        return AdmissionRequest(
            operation,
            self.object_gvk or kind.gvk,
            GVR(kind.group, kind.version, kind.plural),
            self.subresource,
            self.namespace,
            self.name,
            obj,
            old,
            self.options,
            self.user,
            self.dry_run,
            self.warnings,
            self.annotations,
        )

    def warn(self, text: str) -> None:
        if text not in self.warnings:
            self.warnings.append(text)


def validate_options(kind: str, options: Object) -> None:
    """The rules of CreateOptions, UpdateOptions, PatchOptions and DeleteOptions that need no object."""
    errors: list[FieldError] = []
    dry_run = options.get("dryRun") or []
    if any(value != "All" for value in dry_run):
        errors.append(not_supported("dryRun", dry_run, ["All"]))
    manager = options.get("fieldManager") or ""
    if len(manager) > FIELD_MANAGER_CHARS_MAX:
        detail = f"may not be more than {FIELD_MANAGER_CHARS_MAX} bytes"
        errors.append(FieldError("TooLong", "fieldManager", "", detail))
    elif not manager.isprintable():
        errors.append(invalid_value("fieldManager", manager, "should only contain printable characters"))
    validation = options.get("fieldValidation")
    if validation not in (None, "", "Ignore", "Warn", "Strict"):
        errors.append(not_supported("fieldValidation", validation, ["Ignore", "Strict", "Warn"]))
    if kind == "DeleteOptions":
        policy = options.get("propagationPolicy")
        if policy is not None and options.get("orphanDependents") is not None:
            words = "orphanDependents and deletionPropagation cannot be both set"
            errors.append(invalid_value("propagationPolicy", policy, words))
        if policy not in (None, "Orphan", "Background", "Foreground"):
            errors.append(not_supported("propagationPolicy", policy, ["Background", "Foreground", "Orphan", "nil"]))
        grace = options.get("gracePeriodSeconds")
        if grace is not None and grace < 0:
            options["gracePeriodSeconds"] = 1 if grace == -1 else grace
    if errors:
        raise invalid(kind, "", errors, "meta.k8s.io")
