"""Object metadata: its rules on create and update, generated names, times, the fields of deletion.

Follows apimachinery's `api/validation/objectmeta` and apiserver's `storage/names`.
"""

from __future__ import annotations

import json
import os
import random
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from peavine.machinery.errors import FieldError, forbidden_field, invalid_value, required, too_long
from peavine.machinery.validation import (
    is_dns1035_label,
    is_dns1123_label,
    is_dns1123_subdomain,
    is_path_segment,
    is_qualified_name,
    validate_annotations,
    validate_immutable,
    validate_labels,
    validate_nonnegative,
)

UIDS_AT_ONCE = 256

NameRule = str | Callable[[str, bool], list[str]]

ORPHAN_FINALIZER = "orphan"
FOREGROUND_FINALIZER = "foregroundDeletion"

FIELD_MANAGER_LENGTH_MAX = 128
_SUBRESOURCE_LENGTH_MAX = 256
_NAME_LENGTH_MAX = 63
_SUFFIX_LENGTH = 5
_SUFFIX_ALPHABET = "bcdfghjklmnpqrstvwxz2456789"


def validate_metadata(
    meta: dict[str, Any], *, namespaced: bool, name_rule: NameRule = "dns1123_subdomain", field: str = "metadata"
) -> list[FieldError]:
    """The rules of a new object's metadata, the name generated already.

    `name_rule` is dns1123_subdomain, dns1123_label, dns1035_label, path_segment or any; or a function of the name and
    whether it is a prefix (generateName) that returns messages.
    """
    errors: list[FieldError] = []
    check = _NAME_RULES[name_rule] if isinstance(name_rule, str) else name_rule
    prefix, name, namespace = meta.get("generateName"), meta.get("name"), meta.get("namespace")
    if prefix:
        errors += [invalid_value(f"{field}.generateName", prefix, message) for message in check(prefix, True)]
    if not name:
        errors.append(required(f"{field}.name", "name or generateName is required"))
    else:
        errors += [invalid_value(f"{field}.name", name, message) for message in check(name, False)]
    if not namespaced:
        if namespace:
            errors.append(forbidden_field(f"{field}.namespace", "not allowed on this type"))
    elif not namespace:
        errors.append(required(f"{field}.namespace"))
    else:
        errors += [invalid_value(f"{field}.namespace", namespace, message) for message in is_dns1123_label(namespace)]
    errors += validate_nonnegative(meta.get("generation", 0), f"{field}.generation")
    return errors + _validate_parts(meta, field)


def validate_metadata_update(new: dict[str, Any], old: dict[str, Any], *, field: str = "metadata") -> list[FieldError]:
    """The rules of an update. `keep_system_fields` comes first: what it restores is not an error."""
    errors: list[FieldError] = []
    if old.get("deletionTimestamp"):
        extra = sorted(set(new.get("finalizers") or ()) - set(old.get("finalizers") or ()))
        if extra:
            shown = "[]string{" + ", ".join(json.dumps(name) for name in extra) + "}"
            message = f"no new finalizers can be added if the object is being deleted, found new finalizers {shown}"
            errors.append(forbidden_field(f"{field}.finalizers", message))
    if not new.get("resourceVersion"):
        errors.append(invalid_value(f"{field}.resourceVersion", "", "must be specified for an update"))
    if new.get("generation", 0) < old.get("generation", 0):
        errors.append(invalid_value(f"{field}.generation", new.get("generation", 0), "must not be decremented"))
    for name in ("name", "namespace", "uid", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds"):
        errors += validate_immutable(new.get(name), old.get(name), f"{field}.{name}")
    return errors + _validate_parts(new, field)


def keep_system_fields(new: dict[str, Any], old: dict[str, Any]) -> None:
    """Put back, in place, what an update may leave out but never change: uid, creation, and a begun deletion."""
    for name in ("uid", "creationTimestamp"):
        if not new.get(name) and old.get(name):
            new[name] = old[name]
    if old.get("deletionTimestamp"):
        for name in ("deletionTimestamp", "deletionGracePeriodSeconds"):
            if not new.get(name) and name in old:
                new[name] = old[name]
    new.pop("selfLink", None)


def _validate_parts(meta: dict[str, Any], field: str) -> list[FieldError]:
    errors = validate_labels(meta.get("labels"), f"{field}.labels") if meta.get("labels") else []
    if meta.get("annotations"):
        errors += validate_annotations(meta["annotations"], f"{field}.annotations")
    if meta.get("ownerReferences"):
        errors += validate_owner_references(meta["ownerReferences"], f"{field}.ownerReferences")
    if meta.get("finalizers"):
        errors += validate_finalizers(meta["finalizers"], f"{field}.finalizers")
    if meta.get("managedFields"):
        errors += validate_managed_fields(meta["managedFields"], f"{field}.managedFields")
    return errors


def validate_owner_references(references: list[dict[str, Any]], field: str) -> list[FieldError]:
    errors: list[FieldError] = []
    first_controller = ""
    for reference in references:
        api_version, kind = reference.get("apiVersion", ""), reference.get("kind", "")
        if not api_version.rpartition("/")[2] or api_version.count("/") > 1:
            errors.append(
                invalid_value(f"{field}.apiVersion", reference.get("apiVersion", ""), "version must not be empty")
            )
        for name in ("kind", "name", "uid"):
            if not reference.get(name):
                errors.append(invalid_value(f"{field}.{name}", "", "must not be empty"))
        if (api_version, kind) == ("v1", "Event"):
            message = "/v1, Kind=Event is disallowed from being an owner"
            errors.append(invalid_value(field, reference, message))
        if reference.get("controller"):
            this = f"{kind}/{reference.get('name', '')}"
            if first_controller:
                message = (
                    'Only one reference can have Controller set to true. Found "true" in references for '
                    f"{first_controller} and {this}"
                )
                errors.append(invalid_value(field, references, message))
            else:
                first_controller = this
    return errors


def validate_finalizers(finalizers: list[str], field: str) -> list[FieldError]:
    errors = [invalid_value(field, name, message) for name in finalizers for message in is_qualified_name(name)]
    if ORPHAN_FINALIZER in finalizers and FOREGROUND_FINALIZER in finalizers:
        message = f"finalizer {ORPHAN_FINALIZER} and {FOREGROUND_FINALIZER} cannot be both set"
        errors.append(invalid_value(field, finalizers, message))
    return errors


def validate_managed_fields(entries: list[dict[str, Any]], field: str) -> list[FieldError]:
    errors: list[FieldError] = []
    for index, entry in enumerate(entries):
        path, operation = f"{field}[{index}]", entry.get("operation", "")
        if operation not in ("Apply", "Update"):
            errors.append(invalid_value(f"{path}.operation", operation, "must be `Apply` or `Update`"))
        if entry.get("fieldsType") and entry["fieldsType"] != "FieldsV1":
            errors.append(invalid_value(f"{path}.fieldsType", entry["fieldsType"], "must be `FieldsV1`"))
        errors += validate_field_manager(entry.get("manager", ""), f"{path}.manager")
        if len(entry.get("subresource", "")) > _SUBRESOURCE_LENGTH_MAX:
            errors.append(too_long(f"{path}.subresource", _SUBRESOURCE_LENGTH_MAX))
    return errors


def validate_field_manager(manager: str, field: str = "fieldManager") -> list[FieldError]:
    errors: list[FieldError] = []
    if len(manager.encode()) > FIELD_MANAGER_LENGTH_MAX:
        errors.append(too_long(field, FIELD_MANAGER_LENGTH_MAX))
    at = 0
    for character in manager:
        if not character.isprintable():
            message = f"invalid character U+{ord(character):04X} (at position {at})"
            errors.append(invalid_value(field, manager, message))
        at += len(character.encode())
    return errors


# --- names


def _plain(rule: Callable[[str], list[str]]) -> Callable[[str, bool], list[str]]:
    def check(name: str, prefix: bool) -> list[str]:
        if prefix and len(name) > 1 and name.endswith("-"):
            name = name[:-2] + "a"  # what follows a prefix will end it properly
        return rule(name)

    return check


_NAME_RULES: dict[str, Callable[[str, bool], list[str]]] = {
    "dns1123_subdomain": _plain(is_dns1123_subdomain),
    "dns1123_label": _plain(is_dns1123_label),
    "dns1035_label": _plain(is_dns1035_label),
    "path_segment": is_path_segment,
    "any": lambda name, prefix: [],
}


def generate_name(prefix: str) -> str:
    """The prefix, cut to fit, and five random characters (no vowels, so no words)."""
    cut = prefix.encode()[: _NAME_LENGTH_MAX - _SUFFIX_LENGTH].decode(errors="ignore")
    return cut + random_suffix()


def random_suffix(length: int = _SUFFIX_LENGTH) -> str:
    return "".join(random.choices(_SUFFIX_ALPHABET, k=length))


# Made some at a time: asking the kernel is most of what one costs. Never shared with a child process.
_uids: list[str] = []
os.register_at_fork(after_in_child=_uids.clear)


def new_uid() -> str:
    """A random UUID (version 4), as text."""
    try:
        return _uids.pop()
    except IndexError:
        random_bytes = os.urandom(16 * UIDS_AT_ONCE)
        made = [_uuid4(random_bytes[at : at + 16].hex()) for at in range(0, len(random_bytes), 16)]
        _uids.extend(made[1:])
        return made[0]


def _uuid4(bits: str) -> str:
    return f"{bits[:8]}-{bits[8:12]}-4{bits[13:16]}-{'89ab'[int(bits[16], 16) & 3]}{bits[17:20]}-{bits[20:]}"


# --- times on the wire: RFC 3339, UTC


def now(unix_seconds: float | None = None) -> str:
    """`2026-01-31T12:00:00Z`; of `unix_seconds` where given, so that a Clock decides."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(unix_seconds))


def now_micro(unix_seconds: float | None = None) -> str:
    """A MicroTime: `2026-01-31T12:00:00.123456Z`."""
    seconds = time.time() if unix_seconds is None else unix_seconds
    micros = round(seconds * 1_000_000)
    return f"{now(micros // 1_000_000)[:-1]}.{micros % 1_000_000:06d}Z"


def parse_time(text: str) -> float:
    """Unix seconds of an RFC 3339 time or MicroTime. Raises ValueError."""
    if len(text) == 20 and text[19] == "Z":  # the usual form, fast
        return datetime.strptime(text, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC).timestamp()
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError(f"{text!r} has no time zone")
    return moment.timestamp()


# --- what a new object gets, and a deleted one


def fill_system_fields(meta: dict[str, Any], unix_seconds: float | None = None) -> None:
    """What the server gives a new object: uid and creation time. What a client sent in their place is dropped."""
    for name in ("deletionTimestamp", "deletionGracePeriodSeconds", "selfLink", "resourceVersion"):
        meta.pop(name, None)
    meta["uid"] = new_uid()
    meta["creationTimestamp"] = now(unix_seconds)


def mark_deleted(meta: dict[str, Any], grace_period_seconds: int, unix_seconds: float | None = None) -> None:
    """Begin a graceful deletion: it ends `grace_period_seconds` from now."""
    seconds = time.time() if unix_seconds is None else unix_seconds
    meta["deletionTimestamp"] = now(seconds + grace_period_seconds)
    meta["deletionGracePeriodSeconds"] = grace_period_seconds
    if meta.get("generation", 0) > 0:
        meta["generation"] += 1


def controller_of(obj: dict[str, Any]) -> dict[str, Any] | None:
    """The owner reference of the managing controller, if there is one."""
    for reference in obj.get("metadata", {}).get("ownerReferences") or ():
        if reference.get("controller"):
            return reference
    return None
