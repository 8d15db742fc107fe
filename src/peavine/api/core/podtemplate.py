"""PodTemplate: a pod's spec kept on its own."""

from __future__ import annotations

from typing import Any

from peavine.api.kind import content_changed
from peavine.api.printing import CONTAINERS, IMAGES, NAME, Column, containers_and_images, labels, name
from peavine.machinery.errors import FieldError

Object = dict[str, Any]

COLUMNS = (
    NAME,
    Column(CONTAINERS.name, description=CONTAINERS.description),
    Column(IMAGES.name, description=IMAGES.description),
    Column("Pod Labels", description="The labels for the pod template."),
)
changes_generation = content_changed


def row(obj: Object) -> list[Any]:
    template = obj.get("template") or {}
    own = (template.get("metadata") or {}).get("labels")
    return [name(obj), *containers_and_images(template), labels(own)]


def default(obj: Object) -> None:
    from peavine.api.core.podspec_defaults import default_template

    default_template(obj.get("template"))


def validate_create(obj: Object) -> list[FieldError]:
    from peavine.api.core.podspec_validation import validate_pod_template

    return validate_pod_template(obj.get("template") or {}, "template")


def warnings(obj: Object, old: Object | None) -> list[str]:
    from peavine.api.core.podspec_warnings import template_warnings

    return template_warnings(obj, old, "template")
