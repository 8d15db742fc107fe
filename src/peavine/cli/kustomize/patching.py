"""`patches`, `patchesStrategicMerge`, `patchesJson6902`: which resources a patch is for, and what it does to them."""

from __future__ import annotations

import re
from typing import Any

from peavine.cli.failures import CliError
from peavine.cli.kustomize.files import Loader
from peavine.cli.kustomize.merging import merge
from peavine.cli.kustomize.resource import Collection, Id, Resource, id_of
from peavine.machinery.errors import ApiError

Object = dict[str, Any]


def apply_patch(resources: Collection, entry: Object, loader: Loader) -> None:
    """One entry of `patches`: `path` or `patch`, for its `target` or, without one, for the object that it names."""
    if bool(entry.get("path")) == bool(entry.get("patch")):
        raise CliError(f"must specify one of patch and path in\n{_shown(entry)}")
    text = loader.read(entry["path"]).decode() if entry.get("path") else entry["patch"]
    documents = _parse(text, entry.get("path") or "")
    target = entry.get("target")
    operations = _operations(documents)
    if operations is not None:
        if not target:
            raise CliError("must specify a target for JSON patch\n" + _shown(entry))
        found = select(resources, target)
        for resource in found:
            _json_patch(resource, operations)
        return
    options = entry.get("options") or {}
    for document in documents:
        if target:
            for resource in select(resources, target):
                _strategic(resources, resource, document, options)
        else:
            named = id_of(document)
            found = resources.matching(named)
            if not found:
                raise CliError(
                    f'no resource matches strategic merge patch "{named.shown()}": no matches for Id {named.shown()}; '
                    "failed to find unique target for patch " + named.shown()
                )
            if len(found) > 1:
                raise CliError(f"multiple matches for Id {named.shown()}; failed to find unique target for patch")
            _strategic(resources, found[0], document, options)


def _parse(text: str, source: str) -> list[Any]:
    from peavine.cli.resources import split_yaml
    from peavine.machinery.codecs import yaml

    try:
        parsed = [yaml.decode(part, few_words=True) for part in split_yaml(text.encode())]
    except yaml.YamlError as error:
        raise CliError(f"unable to parse SM or JSON patch from [{text}]: {error}") from None
    return [document for document in parsed if document]


def _operations(documents: list[Any]) -> list[Object] | None:
    """The operations of a JSON patch, or None for objects. Operations may stand one a line, without a list."""
    if len(documents) == 1 and isinstance(documents[0], list):
        return documents[0]
    return None


def _shown(entry: Object) -> str:
    from peavine.cli.output.documents import to_yaml

    return to_yaml(entry)


def select(resources: Collection, target: Object) -> list[Resource]:
    """The resources that a selector means; names are whole regular expressions, of the first or any later name."""
    from peavine.machinery.selectors import SelectorError, parse_label_selector

    def fits(pattern: str | None, text: str) -> bool:
        return not pattern or re.fullmatch(pattern, text) is not None

    def chosen(id: Id) -> bool:
        return (
            fits(target.get("group"), id.group)
            and fits(target.get("version"), id.version)
            and fits(target.get("kind"), id.kind)
            and fits(target.get("name"), id.name)
            and (not target.get("namespace") or fits(target["namespace"], id.effective_namespace))
        )

    try:
        labels = parse_label_selector(target.get("labelSelector") or "")
        annotations = parse_label_selector(target.get("annotationSelector") or "")
    except SelectorError as error:
        raise CliError(str(error)) from None
    return [
        resource
        for resource in resources.resources
        if any(map(chosen, resource.ids))
        and labels.matches(resource.meta.get("labels") or {})
        and annotations.matches(resource.meta.get("annotations") or {})
    ]


def _json_patch(resource: Resource, operations: list[Object]) -> None:
    from peavine.machinery.patches.json import apply_json_patch

    try:
        changed = apply_json_patch(resource.obj, operations)
    except ApiError as error:
        raise CliError(f"failed to apply json patch '{operations}': {error.message}") from None
    if id_of(changed) != resource.id:
        resource.remember()
    resource.obj = changed


def _strategic(resources: Collection, resource: Resource, patch: Object, options: Object) -> None:
    from peavine.machinery.names import GVK
    from peavine.machinery.schema import Schema

    before = resource.id
    type = Schema.load().for_kind(GVK(before.group, before.version, before.kind))
    merged = merge(resource.obj, patch, type)
    if merged is None:
        resources.resources.remove(resource)
        return
    meta = merged.setdefault("metadata", {})
    if not options.get("allowKindChange"):
        merged["kind"], merged["apiVersion"] = resource.obj["kind"], resource.obj["apiVersion"]
    if not options.get("allowNameChange"):
        meta["name"] = before.name
    if before.namespace:
        meta["namespace"] = before.namespace
    else:
        meta.pop("namespace", None)
    if id_of(merged) != before:
        resource.remember()
    resource.obj = merged
