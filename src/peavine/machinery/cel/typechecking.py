"""What a policy's expressions cannot mean, found by checking them against the types of the kinds they are about.

The policy is in force all the same: expressions may be about kinds that this checker does not see. Upstream:
ValidatingAdmissionPolicy, "Type checking".
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from peavine.machinery.cel.errors import CompileError
from peavine.machinery.cel.functions import Library
from peavine.machinery.cel.names import escape, unescape
from peavine.machinery.cel.program import Environment
from peavine.machinery.cel.types import (
    BOOL,
    BYTES,
    DOUBLE,
    DYN,
    INT,
    STRING,
    TIMESTAMP,
    Type,
    list_of,
    map_of,
    object_of,
)
from peavine.machinery.names import GVK
from peavine.machinery.schema import Type as SchemaType

Object = dict[str, Any]

KINDS_MAX = 10
_SCALARS = {
    "string": STRING,
    "quantity": STRING,
    "bytes": BYTES,
    "integer": INT,
    "number": DOUBLE,
    "boolean": BOOL,
    "time": TIMESTAMP,
    "micro-time": TIMESTAMP,
}


def cel_type(schema: SchemaType | None) -> Type:
    """The type that values of a built-in type have in CEL; what has none of its own is dynamic."""
    if schema is None:
        return DYN
    if schema.kind == "list":
        return list_of(cel_type(schema.items))
    if schema.kind == "map":
        return map_of(STRING, cel_type(schema.items))
    if schema.kind == "object":
        return object_of(_Fields(schema), schema.name or "object")
    return _SCALARS.get(schema.kind, DYN)


class _Fields(Mapping[str, Type]):
    """Fields are turned when they are asked for: types may hold themselves."""

    def __init__(self, schema: SchemaType) -> None:
        self._schema = schema
        self._known: dict[str, Type] = {}

    def __getitem__(self, name: str) -> Type:
        if name not in self._known:
            self._known[name] = cel_type(self._schema.fields[unescape(name)].type)
        return self._known[name]

    def __iter__(self) -> Iterator[str]:
        return (escaped for name in self._schema.fields if (escaped := escape(name)) is not None)

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and unescape(name) in self._schema.fields


_KIND = object_of({"group": STRING, "version": STRING, "kind": STRING}, "kubernetes.GroupVersionKind")
_RESOURCE = object_of({"group": STRING, "version": STRING, "resource": STRING}, "kubernetes.GroupVersionResource")
_USER = object_of(
    {"username": STRING, "uid": STRING, "groups": list_of(STRING), "extra": map_of(STRING, list_of(STRING))},
    "kubernetes.UserInfo",
)
_REQUEST = object_of(
    {
        "kind": _KIND,
        "resource": _RESOURCE,
        "subResource": STRING,
        "requestKind": _KIND,
        "requestResource": _RESOURCE,
        "requestSubResource": STRING,
        "name": STRING,
        "namespace": STRING,
        "operation": STRING,
        "userInfo": _USER,
        "dryRun": BOOL,
        "options": DYN,
    },
    "kubernetes.AdmissionRequest",
)


def check_policy(
    spec: Object, kinds: Sequence[tuple[GVK, Type]], params: Type | None = None, namespace: Type = DYN
) -> list[Object]:
    """The `expressionWarnings` of a ValidatingAdmissionPolicy's spec: one for each expression that does not fit.

    `kinds` are those that its rules name, the first ten count; `params` is the type of its parameters, `namespace` that
    of a Namespace.
    """
    environments = [(gvk, _environment(spec, kind, params, namespace)) for gvk, kind in kinds[:KINDS_MAX]]
    warnings = []
    for place, validation in enumerate(spec.get("validations") or ()):
        for field, result in (("expression", "bool"), ("messageExpression", "string")):
            text = (validation.get(field) or "").strip()
            found = [(gvk, _problem(environment, text, result)) for gvk, environment in environments if text]
            problems = [(gvk, problem) for gvk, problem in found if problem]
            if problems:
                words = "\n".join(f"{gvk.api_version}, Kind={gvk.kind}: {problem}\n" for gvk, problem in problems)
                warnings.append({"fieldRef": f"spec.validations[{place}].{field}", "warning": words})
    return warnings


def _problem(environment: Environment, text: str, result: str) -> str:
    try:
        environment.compile(text, result)
    except CompileError as error:
        return str(error)
    return ""


def _environment(spec: Object, kind: Type, params: Type | None, namespace: Type) -> Environment:
    known = {
        "object": kind,
        "oldObject": kind,
        "request": _REQUEST,
        "namespaceObject": namespace,
        "authorizer": DYN,
        "authorizer.requestResource": DYN,
    }
    authorizer = _authorizer()
    if params is not None:
        known["params"] = params
    variables: dict[str, Type] = {}
    for variable in spec.get("variables") or ():
        known["variables"] = object_of(dict(variables), "kubernetes.variables")
        try:
            variables[variable["name"]] = Environment(known, [authorizer]).compile(variable["expression"]).result
        except CompileError:
            variables[variable["name"]] = DYN
    known["variables"] = object_of(variables, "kubernetes.variables")
    return Environment(known, [authorizer])


def _authorizer() -> Library:
    """The names of the authorizer's functions: what they do is the API server's, and what they give is not checked."""
    library = Library()
    one = ("path", "group", "resource", "subresource", "namespace", "name", "fieldSelector", "labelSelector", "check")
    for name in one:
        library.method(name, (DYN, STRING), DYN, _never)
    library.method("serviceAccount", (DYN, STRING, STRING), DYN, _never)
    for name, result in (("allowed", BOOL), ("reason", STRING), ("errored", BOOL), ("error", STRING)):
        library.method(name, (DYN,), result, _never)
    return library


def _never(*_: Any) -> Any:
    raise AssertionError("these expressions are checked, and never evaluated")
