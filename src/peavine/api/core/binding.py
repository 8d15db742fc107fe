"""Binding: the scheduler's word that a pod belongs on a node."""

from __future__ import annotations

from typing import Any

from peavine.machinery.errors import FieldError, not_supported, required

Object = dict[str, Any]


def validate_metadata(obj: Object) -> list[FieldError]:
    """The name is the pod's, in the URL too; the endpoint sees to that."""
    return []


def validate_create(obj: Object) -> list[FieldError]:
    target = obj.get("target") or {}
    errors: list[FieldError] = []
    if target.get("kind") not in (None, "", "Node"):
        errors.append(not_supported("target.kind", target["kind"], ["Node", "<empty>"]))
    if not target.get("name"):
        errors.append(required("target.name"))
    return errors
