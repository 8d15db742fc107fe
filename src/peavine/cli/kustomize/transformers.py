"""What a kustomization does to every resource: namespace, names, labels, annotations, replicas, images."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from peavine.cli.failures import CliError
from peavine.cli.kustomize.fieldspecs import NAMESPACES, NEVER_RENAMED, REPLICAS, Spec, visit
from peavine.cli.kustomize.resource import CLUSTER_SCOPED, Collection, Resource

Object = dict[str, Any]


def set_namespace(resources: Collection, namespace: str) -> None:
    for resource in resources.resources:
        kind = resource.id.kind
        if kind == "Namespace":
            if resource.meta.get("name") != namespace:
                resource.remember()
                resource.meta["name"] = namespace
            continue
        if kind not in CLUSTER_SCOPED and resource.meta.get("namespace") != namespace:
            resource.remember()
            resource.meta["namespace"] = namespace
        if kind in ("RoleBinding", "ClusterRoleBinding"):
            for subject in resource.obj.get("subjects") or ():
                if subject.get("kind") == "ServiceAccount" and subject.get("name") == "default":
                    subject["namespace"] = namespace
        for spec in NAMESPACES:
            if spec.fits(resource.id):
                visit(resource.obj, spec.path, lambda _: namespace, create="" if spec.create else None)
    seen: dict[Any, Resource] = {}
    for resource in resources.resources:
        if resource.id in seen:
            raise CliError(
                f"namespace transformation produces ID conflict: [{seen[resource.id].id.shown()} {resource.id.shown()}]"
            )
        seen[resource.id] = resource


def add_to_names(resources: Collection, prefix: str, suffix: str) -> None:
    for resource in resources.resources:
        id = resource.id
        if (id.group, id.kind) in NEVER_RENAMED or not (prefix or suffix):
            continue
        resource.remember()
        resource.meta["name"] = f"{prefix}{id.name}{suffix}"
        if prefix:
            resource.prefixes.append(prefix)
        if suffix:
            resource.suffixes.append(suffix)


def add_pairs(resources: Collection, pairs: Object, places: Iterable[Spec]) -> None:
    """Labels or annotations, at each of the places."""
    text = {str(key): value if isinstance(value, str) else _scalar(value) for key, value in pairs.items()}
    if not text:
        return
    places = tuple(places)
    for resource in resources.resources:
        for spec in places:
            if spec.fits(resource.id):
                visit(
                    resource.obj, spec.path, lambda found: {**(found or {}), **text}, create={} if spec.create else None
                )


def _scalar(value: Any) -> str:
    return "true" if value is True else "false" if value is False else "" if value is None else str(value)


def set_replicas(resources: Collection, name: str, count: int) -> None:
    found = False
    for resource in resources.resources:
        if not any(id.name == name for id in resource.ids):
            continue
        for spec in REPLICAS:
            if spec.fits(resource.id):
                found = True
                visit(resource.obj, spec.path, lambda _: count, create=0)
    if not found:
        kinds = " ".join(f"{spec.kind}.[noVer].[noGrp]" for spec in REPLICAS)
        raise CliError(f"resource with name {name} does not match a config with the following GVK [{kinds}]")


def set_images(resources: Collection, image: Object) -> None:
    pattern = re.compile(rf"^{image.get('name', '')}(:[a-zA-Z0-9_.{{}}-]*)?(@sha256:[a-zA-Z0-9_.{{}}-]*)?$")

    def change(text: Any) -> Any:
        if not isinstance(text, str) or not pattern.match(text):
            return text
        name, tag, digest = _split(text)
        name = image.get("newName") or name
        if image.get("newTag") and image.get("digest"):
            return f"{name}:{image['newTag']}@{image['digest']}"
        if image.get("newTag"):
            tag, digest = f":{image['newTag']}", ""
        elif image.get("digest"):
            tag, digest = "", f"@{image['digest']}"
        if image.get("tagSuffix") and tag:
            tag += image["tagSuffix"]
        return name + tag + digest

    for resource in resources.resources:
        if resource.id.kind != "CustomResourceDefinition":
            _containers(resource.obj, change)


def _split(image: str) -> tuple[str, str, str]:
    rest, at, digest = image.partition("@")
    slash = rest.rfind("/")
    colon = rest.find(":", slash + 1)
    name, tag = (rest[:colon], rest[colon:]) if colon > 0 else (rest, "")
    return name, tag, at + digest


def _containers(value: Any, change: Any) -> None:
    """Images of containers wherever containers are, in custom resources too."""
    if isinstance(value, list):
        for item in value:
            _containers(item, change)
        return
    if not isinstance(value, dict):
        return
    for key, inner in value.items():
        if key in ("containers", "initContainers") and isinstance(inner, list):
            for container in inner:
                if isinstance(container, dict) and "image" in container:
                    container["image"] = change(container["image"])
        else:
            _containers(inner, change)
