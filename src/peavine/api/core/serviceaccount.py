"""ServiceAccount: an identity for pods."""

from __future__ import annotations

from typing import Any

from peavine.api.printing import AGE, NAME, Column, name, object_age
from peavine.machinery.errors import FieldError

Object = dict[str, Any]

COLUMNS = (NAME, Column("Secrets", description="@core.v1.ServiceAccount.secrets"), AGE)
ENFORCE_MOUNTABLE_SECRETS = "kubernetes.io/enforce-mountable-secrets"


def row(obj: Object) -> list[Any]:
    return [name(obj), len(obj.get("secrets") or []), object_age(obj)]


def validate_create(obj: Object) -> list[FieldError]:
    return []


def warnings(obj: Object, old: Object | None) -> list[str]:
    annotations = (obj.get("metadata") or {}).get("annotations") or {}
    before = ((old or {}).get("metadata") or {}).get("annotations") or {}
    if ENFORCE_MOUNTABLE_SECRETS in annotations and ENFORCE_MOUNTABLE_SECRETS not in before:
        return [
            f"metadata.annotations[{ENFORCE_MOUNTABLE_SECRETS}]: deprecated in v1.32+; "
            "prefer separate namespaces to isolate access to mounted secrets"
        ]
    return []
