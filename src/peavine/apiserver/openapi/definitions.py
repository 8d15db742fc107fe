"""The schema's definitions as OpenAPI writes them. Pure functions; nothing is kept."""

from __future__ import annotations

import importlib.resources
from collections.abc import Iterable
from functools import cache
from typing import Any

import orjson

from peavine.machinery.facts import FieldFact, load_facts

Object = dict[str, Any]
META = "io.k8s.apimachinery.pkg.apis.meta.v1."


def load(kubernetes_version: str) -> dict[str, Object]:
    """Every definition of a version, as JSON schema. Some megabytes: not to be kept."""
    root = importlib.resources.files("kubernetes_validate") / "kubernetes-json-schema"
    path = root / f"v{kubernetes_version}.0-local" / "_definitions.json"
    doc = orjson.loads(path.read_bytes())
    return doc.get("$defs") or doc.get("definitions") or doc


def converted(name: str, schema: Object, v3: bool) -> Object:
    """One definition in OpenAPI v2 or v3."""
    short = name.removeprefix("io.k8s.apimachinery.pkg.")
    if short == "util.intstr.IntOrString":
        if v3:
            return {"oneOf": [{"type": "integer"}, {"type": "string"}], "format": "int-or-string"}
        return {"type": "string", "format": "int-or-string"}
    if short == "api.resource.Quantity":
        return {"oneOf": [{"type": "string"}, {"type": "number"}]} if v3 else {"type": "string"}
    return _schema(schema, v3)


def _schema(schema: Any, v3: bool) -> Any:
    if not isinstance(schema, dict):
        return schema
    out: Object = {}
    for key, value in schema.items():
        if key == "type" and isinstance(value, list):
            kinds = [t for t in value if t != "null"]
            if len(kinds) == 1:
                out["type"] = kinds[0]
        elif key == "$ref":
            target = value.rsplit("/", 1)[-1]
            if v3 and len(schema) > 1:
                out["allOf"] = [{"$ref": "#/components/schemas/" + target}]
            else:
                out["$ref"] = ("#/components/schemas/" if v3 else "#/definitions/") + target
        elif key == "properties":
            out[key] = {name: _property(name, item, v3) for name, item in value.items()}
        elif key in ("items", "additionalProperties"):
            if value is not False:
                out[key] = _schema(value, v3)
        elif key in ("oneOf", "anyOf"):
            out[key] = [_schema(item, v3) for item in value]
            if not v3:
                del out[key]
        elif key not in ("enum", "$schema", "$id", "$defs"):
            out[key] = value
    return out


def _property(name: str, schema: Object, v3: bool) -> Object:
    if name in ("apiVersion", "kind") and "enum" in schema:
        schema = {k: v for k, v in schema.items() if k != "enum"}
    return _schema(schema, v3)


@cache
def enums() -> dict[str, list[str]]:
    """Values by Go type, as `"v1.Protocol"` is called without its package."""
    text = importlib.resources.files("peavine.apiserver.openapi").joinpath("enums.txt").read_text()
    lines = (line.split() for line in text.splitlines() if not line.startswith("#"))
    return {name: ["" if value == '""' else value for value in values] for name, *values in lines}


def with_enums(schema: Object, facts: dict[str, FieldFact]) -> Object:
    """A definition whose fields of enumerated types say what they may hold; `facts` are those of its Go type."""
    for field, fact in facts.items():
        known = enums().get((fact.go_type or "").rpartition(".")[2])
        held = (schema.get("properties") or {}).get(field)
        if known is not None and held is not None and held.get("type") == "string":
            held["enum"] = known
    return schema


# What OpenAPI v2 cannot say.
_V3_ONLY = ("oneOf", "anyOf", "allOf", "not", "nullable")


def as_v2(schema: Any) -> Any:
    """The schema of a custom resource as upstream shows it in v2: looser where v2 has no words, as old clients check by
    it. What may be null, or holds fields that nobody names, is of any form there."""
    if not isinstance(schema, dict):
        return schema
    out = {key: value for key, value in schema.items() if key not in _V3_ONLY}
    if schema.get("nullable") or schema.get("x-kubernetes-preserve-unknown-fields"):
        for key in ("items", "properties", "type"):
            out.pop(key, None)
    if "properties" in out:
        out["properties"] = {name: as_v2(child) for name, child in out["properties"].items()}
        nullable = {name for name, child in schema["properties"].items() if child.get("nullable")}
        if nullable & set(out.get("required") or ()):
            out["required"] = [name for name in out["required"] if name not in nullable]
            if not out["required"]:
                del out["required"]
    for key in ("items", "additionalProperties"):
        if isinstance(out.get(key), dict):
            out[key] = as_v2(out[key])
    if out.get("type") == "array" and "items" not in out:
        del out["type"]
    return out


def references(schema: Any) -> Iterable[str]:
    """Names of the definitions that a converted schema mentions."""
    if isinstance(schema, dict):
        target = schema.get("$ref")
        if isinstance(target, str):
            yield target.rsplit("/", 1)[-1]
        for value in schema.values():
            yield from references(value)
    elif isinstance(schema, list):
        for value in schema:
            yield from references(value)


def closure(definitions: dict[str, Object], roots: Iterable[str], v3: bool) -> dict[str, Object]:
    """The roots and everything they mention, converted, by name."""
    facts = load_facts()
    found: dict[str, Object] = {}
    waiting = [name for name in roots if name in definitions]
    while waiting:
        name = waiting.pop()
        if name in found:
            continue
        found[name] = with_enums(converted(name, definitions[name], v3), facts.get(name) or {})
        waiting += [other for other in references(found[name]) if other in definitions and other not in found]
    return dict(sorted(found.items()))
