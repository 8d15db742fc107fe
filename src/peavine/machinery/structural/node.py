"""One node of a structural schema, compiled from the `openAPIV3Schema` of a custom resource."""

from __future__ import annotations

from functools import cached_property
from typing import Any

JUNCTORS = ("allOf", "anyOf", "oneOf")
INT_OR_STRING_ANY_OF = [{"type": "integer"}, {"type": "string"}]


class Structural:
    """A schema node. `schema` is the document it was made from; the rest are the parts that are asked for often.

    `additional` is the schema of a map's values, True for any values, None when there is no such keyword.
    """

    def __init__(self, schema: dict[str, Any]) -> None:
        self.schema = schema
        self.type: str = schema.get("type") or ""
        self.nullable = bool(schema.get("nullable"))
        self.preserve_unknown = bool(schema.get("x-kubernetes-preserve-unknown-fields"))
        self.embedded = bool(schema.get("x-kubernetes-embedded-resource"))
        self.int_or_string = bool(schema.get("x-kubernetes-int-or-string"))
        self.list_type: str | None = schema.get("x-kubernetes-list-type")
        self.list_map_keys: tuple[str, ...] = tuple(schema.get("x-kubernetes-list-map-keys") or ())
        self.map_type: str | None = schema.get("x-kubernetes-map-type")
        self.rules: list[dict[str, Any]] = schema.get("x-kubernetes-validations") or []
        self.has_default = schema.get("default") is not None
        self.default = schema.get("default")

    @cached_property
    def properties(self) -> dict[str, Structural]:
        return {name: Structural(child) for name, child in (self.schema.get("properties") or {}).items()}

    @cached_property
    def items(self) -> Structural | None:
        items = self.schema.get("items")
        return Structural(items) if isinstance(items, dict) else None

    @cached_property
    def additional(self) -> Structural | bool | None:
        found = self.schema.get("additionalProperties")
        if isinstance(found, dict):
            return Structural(found)
        return found if isinstance(found, bool) and found else None

    @cached_property
    def value_schema(self) -> Structural | None:
        """The schema of a map's values, where it has one."""
        return self.additional if isinstance(self.additional, Structural) else None

    @cached_property
    def has_defaults(self) -> bool:
        """Whether a default stands anywhere below."""
        children = [*self.properties.values(), self.items, self.value_schema]
        return self.has_default or any(child.has_defaults for child in children if child)

    @cached_property
    def has_list_types(self) -> bool:
        """Whether a list below is a set or a map, or an object is embedded: what needs a walk of its own."""
        children = [*self.properties.values(), self.items, self.value_schema]
        own = self.list_type in ("set", "map") or self.embedded
        return own or any(child.has_list_types for child in children if child)

    @cached_property
    def has_rules(self) -> bool:
        """Whether a CEL rule stands anywhere below."""
        children = [*self.properties.values(), self.items, self.value_schema]
        return bool(self.rules) or any(child.has_rules for child in children if child)

    def child(self, key: str) -> Structural | None:
        """The schema of a key of an object: its property, else that of a map's values."""
        return self.properties.get(key) or self.value_schema

    def __repr__(self) -> str:
        return f"Structural({self.type or self.schema})"
