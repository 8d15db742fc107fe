"""VolumeAttachment: the wish to have a volume at a node, and whether it is there."""

from __future__ import annotations

from typing import Any

from peavine.api.fields import strip
from peavine.api.printing import AGE, NAME, Column, name, object_age
from peavine.machinery import validation as rules
from peavine.machinery.errors import FieldError, forbidden_field, invalid_value, required

Object = dict[str, Any]

ATTACHER_LENGTH_MAX, METADATA_BYTES_MAX, ERROR_LENGTH_MAX = 63, 256 * 1024, 1024

COLUMNS = (
    NAME,
    Column("Attacher", format="name", description="@storage.v1.VolumeAttachmentSpec.attacher"),
    Column("PV", description="@storage.v1.VolumeAttachmentSource.persistentVolumeName"),
    Column("Node", description="@storage.v1.VolumeAttachmentSpec.nodeName"),
    Column("Attached", "boolean", "@storage.v1.VolumeAttachmentStatus.attached"),
    AGE,
)


def row(obj: Object) -> list[Any]:
    spec = obj.get("spec") or {}
    return [
        name(obj),
        spec.get("attacher") or "",
        (spec.get("source") or {}).get("persistentVolumeName") or "",
        spec.get("nodeName") or "",
        bool((obj.get("status") or {}).get("attached")),
        object_age(obj),
    ]


def validate_create(obj: Object) -> list[FieldError]:
    return _spec(obj.get("spec") or {}) + _status(obj.get("status") or {})


def _spec(spec: Object) -> list[FieldError]:
    errors: list[FieldError] = []
    attacher = spec.get("attacher") or ""
    if not attacher:
        errors.append(required("spec.attacher"))
    errors += [invalid_value("spec.attacher", attacher, m) for m in rules.is_dns1123_subdomain(attacher.lower())]
    if len(attacher) > ATTACHER_LENGTH_MAX:
        message = f"may not be more than {ATTACHER_LENGTH_MAX} bytes"
        errors.append(FieldError("TooLong", "spec.attacher", attacher, message))
    source = spec.get("source") or {}
    volume, inline = source.get("persistentVolumeName"), source.get("inlineVolumeSpec")
    if volume is None and inline is None:
        message = "must specify exactly one of inlineVolumeSpec and persistentVolumeName"
        errors.append(required("spec.source", message))
    elif volume is not None and inline is not None:
        message = "must specify exactly one of inlineVolumeSpec and persistentVolumeName"
        errors.append(forbidden_field("spec.source", message))
    elif volume is not None:
        at = "spec.source.persistentVolumeName"
        if not volume:
            errors.append(required(at, "must specify non empty persistentVolumeName"))
        else:
            errors += [invalid_value(at, volume, m) for m in rules.is_dns1123_subdomain(volume)]
    node = spec.get("nodeName") or ""
    errors += [invalid_value("spec.nodeName", node, m) for m in rules.is_dns1123_subdomain(node)]
    return errors


def _status(status: Object) -> list[FieldError]:
    errors: list[FieldError] = []
    metadata = status.get("attachmentMetadata") or {}
    size = 0
    for key, value in metadata.items():
        errors += rules.validate_label_name(key.lower(), "status.attachmentMetadata")
        size += len(key) + len(value)
    if size > METADATA_BYTES_MAX:
        message = f"may not be more than {METADATA_BYTES_MAX} bytes"
        errors.append(FieldError("TooLong", "status.attachmentMetadata", "", message))
    for part in ("attachError", "detachError"):
        text = (status.get(part) or {}).get("message") or ""
        if len(text) > ERROR_LENGTH_MAX:
            message = f"may not be more than {ERROR_LENGTH_MAX} bytes"
            errors.append(FieldError("TooLong", f"status.{part}.message", text, message))
    return errors


def validate_update(new: Object, old: Object) -> list[FieldError]:
    errors = validate_create(new)
    if strip(new.get("spec")) != strip(old.get("spec")):
        errors.append(invalid_value("spec", new.get("spec"), "field is immutable"))
    return errors


def validate_status_update(new: Object, old: Object) -> list[FieldError]:
    return _status(new.get("status") or {})
