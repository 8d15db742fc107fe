# ruff: noqa: E501
"""Get documentation for a resource: its fields and what they mean."""

from __future__ import annotations

import textwrap
from typing import Any, TextIO

from peavine.cli.failures import CliError
from peavine.cli.flags import Parsed, boolean, string
from peavine.cli.session import Mapping, Session
from peavine.machinery.errors import ApiError

FLAGS = (
    string("api-version", help="Use given api-version (group/version) of the resource."),
    string(
        "output",
        "",
        "plaintext",
        "Format in which to render the schema. Valid values are: (plaintext, plaintext-openapiv2).",
    ),
    boolean("recursive", help="When true, print the name of all the fields recursively."),
)
_WIDTH = 80
Schema = dict[str, Any]


async def run(session: Session, flags: Parsed) -> int:
    if not flags.arguments:
        raise CliError(
            'You must specify the type of resource to explain. Use "kubectl api-resources" for a complete list of supported resources.'
        )
    if flags["output"] not in ("plaintext", "plaintext-openapiv2"):
        raise CliError(f"unrecognized format: {flags['output']}")
    if len(flags.arguments) > 1:
        raise CliError("We accept only this format: explain RESOURCE")
    name, *fields = flags.arguments[0].split(".")
    try:
        mapping = await session.mapping(name)
    except CliError as error:
        raise CliError(str(error), bare=True) from None
    if flags["api-version"]:
        found = await session.mapping_of(flags["api-version"], mapping.kind)
        if found is None:
            raise CliError(f'couldn\'t find resource for "{flags["api-version"]}, Resource={mapping.plural}"')
        mapping = found
    section = f"apis/{mapping.group}/{mapping.version}" if mapping.group else f"api/{mapping.version}"
    try:
        document = await session.get(f"/openapi/v3/{section}")
    except ApiError as error:
        if error.code == 404:
            raise CliError(f"couldn't find resource for {mapping.plural}") from None
        raise
    explained = _Explained(document["components"]["schemas"], mapping, session.out)
    if flags["output"] == "plaintext-openapiv2":
        from peavine.cli.explain_plain import PlainLayout

        session.out.write(PlainLayout(explained, mapping.kind, mapping.api_version).text(fields, flags["recursive"]))
    else:
        session.out.write(explained.text(fields, flags["recursive"]))
    return 0


class _Explained:
    def __init__(self, schemas: dict[str, Schema], mapping: Mapping, out: TextIO) -> None:
        self.schemas, self.mapping, self.out = schemas, mapping, out

    def text(self, fields: list[str], recursive: bool) -> str:
        m = self.mapping
        out = (f"GROUP:      {m.group}\n" if m.group else "") + f"KIND:       {m.kind}\nVERSION:    {m.version}\n\n"
        field = self.root()
        for name in fields:
            properties = self.object(field).get("properties") or {}
            if name not in properties:
                self.out.write(out)
                raise CliError(f'field "{name}" does not exist')
            field = properties[name]
        if fields:
            out += f"FIELD: {fields[-1]} <{self._type(field)}>\n" + (self._enum(field, "") or "\n\n")
        out += "DESCRIPTION:\n" + self._paragraphs(field)
        target = self.object(field)
        if target.get("properties"):
            out += "FIELDS:\n" + self._fields(target, recursive, 1, [])
        return out + "\n"

    def root(self) -> Schema:
        for schema in self.schemas.values():
            for gvk in schema.get("x-kubernetes-group-version-kind") or ():
                if (gvk.get("group", ""), gvk["version"], gvk["kind"]) == (
                    self.mapping.group,
                    self.mapping.version,
                    self.mapping.kind,
                ):
                    return schema
        raise CliError(f"couldn't find resource for {self.mapping.plural}")

    def resolve(self, schema: Schema) -> Schema:
        for part in [schema, *(schema.get("allOf") or ())]:
            if "$ref" in part:
                return self.schemas.get(part["$ref"].rpartition("/")[2], {})
        return schema

    def object(self, schema: Schema) -> Schema:
        """The object whose fields a field has: through references, lists and maps."""
        found = self.resolve(schema)
        while found.get("type") == "array" or isinstance(found.get("additionalProperties"), dict):
            found = self.resolve(found["items"] if found.get("type") == "array" else found["additionalProperties"])
        return found

    def _type(self, schema: Schema) -> str:
        for part in [schema, *(schema.get("allOf") or ())]:
            if "$ref" in part:
                target = self.resolve(schema)
                if target.get("type") in (None, "object") or target.get("properties"):
                    return part["$ref"].rpartition(".")[2]
                return self._type(target) if target.get("format") != "date-time" else "string"
        if schema.get("type") == "array":
            return f"[]{self._type(schema.get('items') or {})}"
        if schema.get("additionalProperties") and schema.get("type") == "object":
            inner = schema["additionalProperties"]
            return f"map[string]{self._type(inner)}" if isinstance(inner, dict) else "map[string]Object"
        kind = str(schema.get("type") or "object")
        return "Object" if kind == "object" else kind

    def _description(self, schema: Schema) -> str:
        target = self.resolve(schema)
        own = schema.get("description") or ""
        return own or target.get("description") or "<empty>"

    def _paragraphs(self, schema: Schema) -> str:
        target = self.object(schema)
        parts = [schema.get("description") or ""]
        if target is not schema and target.get("description"):
            parts.append(target["description"])
        parts = [p for p in parts if p] or ["<empty>"]
        return "".join(_wrapped(part, 4) for part in parts) + "    \n"

    def _enum(self, schema: Schema, indent: str) -> str:
        values = self.resolve(schema).get("enum") or schema.get("enum")
        if not values or len(values) < 2:
            return ""
        return f"{indent}ENUM:\n" + "".join(f"{indent}    {value}\n" for value in values) + "\n"

    def _fields(self, schema: Schema, recursive: bool, level: int, above: list[str]) -> str:
        out, indent = "", "  " * level
        required = schema.get("required") or []
        for name in sorted(schema.get("properties") or {}):
            field = schema["properties"][name]
            mark = " -required-" if name in required else ""
            out += f"{indent}{name}\t<{self._type(field)}>{mark}\n"
            enum = self.resolve(field).get("enum") or field.get("enum") or ()
            if len(enum) > 1:
                shown = [str(value) or '""' for value in sorted(enum)]
                out += f"{indent}enum: {', '.join(shown[:4])}{', ....' if len(shown) > 4 else ''}\n"
            if recursive:
                target = self.object(field)
                kind = self._type(field).removeprefix("[]").removeprefix("map[string]")
                if target.get("properties") and kind not in above:
                    out += self._fields(target, True, level + 1, [*above, kind])
                continue
            out += _wrapped(self._description(field), 4) + "\n"
        return out


def _wrapped(text: str, indent: int) -> str:
    lines: list[str] = []
    for paragraph in text.split("\n"):
        lines += textwrap.wrap(paragraph, _WIDTH - indent, break_long_words=False, break_on_hyphens=False) or [""]
    return "".join(" " * indent + line + "\n" for line in lines)
