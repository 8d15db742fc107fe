"""`replacements`: a value of one resource copied into others. `vars`: the older way, by `$(NAME)` in texts."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator
from typing import Any

from peavine.cli.failures import CliError
from peavine.cli.kustomize.fieldspecs import POD_SPECS
from peavine.cli.kustomize.patching import select
from peavine.cli.kustomize.resource import Collection, Resource

Object = dict[str, Any]


def replace(resources: Collection, entry: Object) -> None:
    source = entry.get("source")
    targets = entry.get("targets")
    if not source or not targets:
        raise CliError("replacements must specify a source and at least one target")
    value = _source_value(resources, source)
    for target in targets:
        if not target.get("select"):
            raise CliError("target must specify resources to select")
        for resource in _chosen(resources, target):
            for path in target.get("fieldPaths") or ("metadata.name",):
                _put(resource, path, value, target.get("options") or {})


def _exact(selector: Object) -> Object:
    """Names here are names, not expressions."""
    return {key: re.escape(text) if key in ("name", "namespace", "kind", "group", "version") else text
            for key, text in selector.items()}  # fmt: skip


def _chosen(resources: Collection, target: Object) -> list[Resource]:
    rejected = [r for selector in target.get("reject") or () for r in select(resources, _exact(selector))]
    return [r for r in select(resources, _exact(target["select"])) if r not in rejected]


def _source_value(resources: Collection, source: Object) -> Any:
    wanted = {key: source[key] for key in ("group", "version", "kind", "name", "namespace") if source.get(key)}
    found = select(resources, _exact(wanted))
    if len(found) != 1:
        shown = ".".join(wanted.get(key) or f"[no{word}]" for key, word in
                         (("kind", "Kind"), ("version", "Ver"), ("group", "Grp")))  # fmt: skip
        named = f"{shown}/{wanted.get('name') or '[noName]'}.{wanted.get('namespace') or '[noNs]'}"
        if not found:
            raise CliError(
                f"nothing selected by {named}" + (f":{source['fieldPath']}" if source.get("fieldPath") else "")
            )
        raise CliError(f"multiple matches for selector {named}")
    path = source.get("fieldPath") or "metadata.name"
    places = list(_places(found[0].obj, steps_of(path), False))
    if (
        not places or places[0][0].get(places[0][1]) is None
        if places and isinstance(places[0][0], dict)
        else not places
    ):
        raise CliError(f"fieldPath `{path}` is missing for replacement source {found[0].id.shown()}")
    value = places[0][0][places[0][1]]
    options = source.get("options") or {}
    if options.get("delimiter"):
        parts = str(value).split(options["delimiter"])
        index = int(options.get("index") or 0)
        if not 0 <= index < len(parts):
            raise CliError(f"options.index {index} is out of bounds for value {value}")
        value = parts[index]
    if options.get("encoding") == "base64":
        value = base64.b64encode(str(value).encode()).decode()
    return value


def _put(resource: Resource, path: str, value: Any, options: Object) -> None:
    create = bool(options.get("create"))
    places = list(_places(resource.obj, steps_of(path), create))
    if not places and not create:
        raise CliError(f'unable to find field "{path}" in replacement target')
    for container, key in places:
        new = value
        if options.get("delimiter"):
            parts = str(container[key]).split(options["delimiter"])
            index = int(options.get("index") or 0)
            if index < 0:
                parts.insert(0, str(value))
            elif index >= len(parts):
                parts.append(str(value))
            else:
                parts[index] = str(value)
            new = options["delimiter"].join(parts)
        elif (
            isinstance(container, dict) and isinstance(container.get(key), str) and not isinstance(value, (dict, list))
        ):
            new = value if isinstance(value, str) else str(value)
        container[key] = new


def steps_of(path: str) -> list[str]:
    """`a.b.[name=c].d\\.e` in steps; `a[0]` is two."""
    text = path.replace("\\.", "\0")
    found = []
    for step in re.findall(r"\[[^\]]*\]|[^.\[\]]+", text):
        step = step.replace("\0", ".")
        found.append(step[1:-1] if re.fullmatch(r"\[\d+\]", step) else step)
    return found


def _places(value: Any, steps: list[str], create: bool) -> Iterator[tuple[Any, Any]]:
    """(container, key) of every value at the path."""
    step, rest = steps[0], steps[1:]
    keys: list[Any] = []
    if step == "*":
        keys = list(range(len(value))) if isinstance(value, list) else list(value) if isinstance(value, dict) else []
    elif step.startswith("["):
        name, _, wanted = step[1:-1].partition("=")
        if isinstance(value, list):
            keys = [at for at, item in enumerate(value) if isinstance(item, dict) and str(item.get(name)) == wanted]
            if not keys and create:
                value.append({name: wanted})
                keys = [len(value) - 1]
    elif isinstance(value, list):
        keys = [int(step)] if step.isdigit() and int(step) < len(value) else []
    elif isinstance(value, dict):
        if step not in value and create:
            value[step] = ([] if rest[0].startswith("[") else {}) if rest else ""
        keys = [step] if step in value else []
    for key in keys:
        if rest:
            yield from _places(value[key], rest, create)
        else:
            yield value, key


# --- vars

_REFERENCE = re.compile(r"\$(\$)?\(([^)]*)\)")


def resolve_vars(resources: Collection, variables: list[Object]) -> None:
    values: dict[str, Any] = {}
    for variable in variables:
        wanted = variable.get("objref") or {}
        group, _, version = (wanted.get("apiVersion") or "").rpartition("/")
        selector = {"kind": wanted.get("kind"), "name": wanted.get("name"), "version": version, "group": group,
                    "namespace": wanted.get("namespace")}  # fmt: skip
        path = (variable.get("fieldref") or {}).get("fieldpath") or "metadata.name"
        values[variable["name"]] = _source_value(
            resources, {**{k: v for k, v in selector.items() if v}, "fieldPath": path}
        )
    if not values:
        return
    for resource in resources.resources:
        for holder in _var_holders(resource):
            for key in ("command", "args", "env"):
                if key in holder:
                    holder[key] = _expanded(holder[key], values)
        if resource.id.kind in ("Ingress", "ConfigMap", "Service"):
            for part in ("spec", "data"):
                if part in resource.obj:
                    resource.obj[part] = _expanded(resource.obj[part], values)
        for part in ("labels", "annotations"):
            if resource.meta.get(part):
                resource.meta[part] = _expanded(resource.meta[part], values)


def _var_holders(resource: Resource) -> Iterator[Object]:
    spec: Any = resource.obj
    for step in POD_SPECS.get(resource.id.kind, "spec").split("/"):
        spec = spec.get(step) if isinstance(spec, dict) else None
    for part in ("containers", "initContainers"):
        yield from (spec or {}).get(part) or ()


def _expanded(value: Any, values: dict[str, Any]) -> Any:
    if isinstance(value, dict):
        return {key: _expanded(item, values) for key, item in value.items()}
    if isinstance(value, list):
        return [_expanded(item, values) for item in value]
    if not isinstance(value, str) or "$(" not in value:
        return value
    whole = _REFERENCE.fullmatch(value)
    if whole and not whole[1] and whole[2] in values:
        return values[whole[2]]
    return _REFERENCE.sub(lambda m: m[0][1:] if m[1] else str(values.get(m[2], m[0])), value)
