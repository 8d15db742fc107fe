"""A structural schema as a `machinery.schema.Type`, so that apply and strategic paths work for custom resources."""

from __future__ import annotations

from peavine.machinery.schema import Field, Schema, Type
from peavine.machinery.structural.node import Structural

_SCALARS = {"string", "integer", "number", "boolean"}


def type_of(schema: Structural | None, *, root: bool = True) -> Type:
    """The type of objects of that schema. `root`: it is a whole object, with apiVersion, kind and metadata.

    No schema at all makes an object whose fields are all unknown and preserved.
    """
    schema = schema or Structural({"type": "object", "x-kubernetes-preserve-unknown-fields": True})
    if schema.int_or_string:
        return Type("int-or-string", nullable=schema.nullable, default=schema.default)
    if schema.type in _SCALARS:
        bits = 32 if schema.schema.get("format") == "int32" else 64
        return Type(schema.type, bits=bits, nullable=schema.nullable, default=schema.default)
    if schema.type == "array":
        return Type(
            "list",
            items=type_of(schema.items, root=False) if schema.items else Type("any"),
            list_type=schema.list_type or "atomic",
            list_map_keys=schema.list_map_keys,
            nullable=schema.nullable,
            default=schema.default,
        )
    if schema.type != "object" and not root:
        return Type("any", preserve_unknown=schema.preserve_unknown, nullable=schema.nullable, default=schema.default)
    if schema.additional is not None and not root and not schema.embedded:
        values = type_of(schema.value_schema, root=False) if schema.value_schema else Type("any")
        return Type("map", items=values, map_type=schema.map_type, nullable=schema.nullable, default=schema.default)
    required = tuple(schema.schema.get("required") or ())
    fields: dict[str, Field] = {}
    for name, child in schema.properties.items():
        fields[name] = Field(name, type_of(child, root=False), required=name in required)
        fields[name].default = child.default
    if root or schema.embedded:
        fields["apiVersion"], fields["kind"] = Field("apiVersion", Type("string")), Field("kind", Type("string"))
        fields["metadata"] = Field("metadata", Schema.load().meta("ObjectMeta"))
    return Type(
        "object",
        fields=fields,
        required=required,
        map_type=schema.map_type,
        preserve_unknown=schema.preserve_unknown,
        nullable=schema.nullable,
        default=schema.default,
    )
