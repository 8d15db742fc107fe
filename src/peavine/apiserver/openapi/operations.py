"""One operation of a path, in OpenAPI v2 or v3: its id, parameters, bodies and answers. Pure functions."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

Object = dict[str, Any]
Parameter = tuple[str, str, str]  # name, type, description

JSON, YAML = "application/json", "application/yaml"
PROTOBUF = "application/vnd.kubernetes.protobuf"
OBJECTS = (JSON, YAML, PROTOBUF)
CUSTOM_OBJECTS = (JSON, YAML)
STREAMS = (JSON + ";stream=watch", PROTOBUF + ";stream=watch")
ANYTHING = ("*/*",)
WORDS = {200: "OK", 201: "Created", 202: "Accepted", 401: "Unauthorized"}


def name_part(text: str, capital: bool = True) -> str:
    """`rbac.authorization` -> `RbacAuthorization`: a part of an operation's id, as upstream makes it of paths."""
    parts = [part for part in re.split(r"[^A-Za-z0-9_]", text) if part]
    joined = "".join(part[:1].upper() + part[1:] for part in parts)
    return joined if capital else joined[:1].lower() + joined[1:]


def group_part(group: str) -> str:
    return group.removesuffix(".k8s.io") or "core"


@dataclass(frozen=True)
class Operation:
    """What is asked; `document` writes it down.

    `answer` and `body` are names of definitions, "" for text of any kind; `codes` those of success.
    """

    id: str
    tag: str
    action: str
    description: str
    answer: str
    codes: tuple[int, ...] = (200,)
    parameters: tuple[Parameter, ...] = ()
    body: str = ""
    body_optional: bool = False
    consumes: tuple[str, ...] = ANYTHING
    produces: tuple[str, ...] = OBJECTS
    gvk: Object | None = None

    def document(self, v3: bool) -> Object:
        doc: Object = {"description": self.description, "operationId": self.id, "tags": [self.tag]}
        parameters = [parameter(p, v3) for p in self.parameters]
        if v3:
            if self.body:
                doc["requestBody"] = {"content": _content(self.body, self.consumes)}
                if not self.body_optional:
                    doc["requestBody"]["required"] = True
        else:
            doc |= {"consumes": list(self.consumes), "produces": list(self.produces), "schemes": ["https"]}
            if self.body:
                body: Object = {"name": "body", "in": "body", "schema": _reference(self.body, v3)}
                if not self.body_optional:
                    body["required"] = True
                parameters.insert(0, body)
        if parameters:
            doc["parameters"] = parameters
        doc["responses"] = {str(code): self._response(code, v3) for code in self.codes}
        doc["responses"]["401"] = {"description": WORDS[401]}
        if self.action:
            doc["x-kubernetes-action"] = self.action
        if self.gvk:
            doc["x-kubernetes-group-version-kind"] = self.gvk
        return doc

    def _response(self, code: int, v3: bool) -> Object:
        if v3:
            return {"description": WORDS[code], "content": _content(self.answer, self.produces)}
        return {"description": WORDS[code], "schema": _reference(self.answer, v3)}


def parameter(described: Parameter, v3: bool, place: str = "query") -> Object:
    name, type, words = described
    made: Object = {"name": name, "in": place, "description": words}
    if place == "path":
        made["required"] = True
    schema: Object = {"type": type, "uniqueItems": True}
    return made | ({"schema": schema} if v3 else schema)


def _reference(name: str, v3: bool) -> Object:
    if not name:
        return {"type": "string"}
    return {"$ref": ("#/components/schemas/" if v3 else "#/definitions/") + name}


def _content(name: str, types: Iterable[str]) -> Object:
    return {type: {"schema": _reference(name, True)} for type in types}
