"""`explain --output=plaintext-openapiv2`: the older layout, made from the same OpenAPI v3 document."""

from __future__ import annotations

import re
from typing import Any

from peavine.cli.failures import CliError

Schema = dict[str, Any]
_COLUMNS, _TEXT_INDENT, _FIELD_INDENT = 80, 5, 3
_NEW_LINE = re.compile(r"^(\d+\.?|-|\*)\s")


class PlainLayout:
    """`explained` knows the schemas and how fields lead to others; `named` is the kind and its version."""

    def __init__(self, explained: Any, kind: str, api_version: str) -> None:
        self.explained, self.kind, self.api_version = explained, kind, api_version

    def text(self, fields: list[str], recursive: bool) -> str:
        out = f"KIND:     {self.kind}\nVERSION:  {self.api_version}\n\n"
        field = self.explained.root()
        for name in fields:
            properties = self.explained.object(field).get("properties") or {}
            if name not in properties:
                raise CliError(f'field "{name}" does not exist')
            field = properties[name]
        target = self.explained.object(field)
        properties = target.get("properties") or {}
        if fields:
            word = "RESOURCE: " if properties else "FIELD:    "
            out += f"{word}{fields[-1]} <{self._type(field)}>\n\n"
        out += "DESCRIPTION:\n"
        own = field.get("description") or ""
        texts = (
            [own, target.get("description") or ""]
            if properties and fields
            else [own or target.get("description") or ""]
        )
        texts = [text for text in dict.fromkeys(texts) if text] or ["<empty>"]
        out += "\n".join(_wrapped(text, _TEXT_INDENT) for text in texts)
        if properties:
            out += "\nFIELDS:\n" + self._fields(target, recursive, _FIELD_INDENT, ())
        return out

    def _type(self, schema: Schema) -> str:
        found = self.explained.resolve(schema)
        if found.get("type") == "array":
            return f"[]{self._type(found.get('items') or {})}"
        if found.get("properties"):
            return "Object"
        if "additionalProperties" in found and isinstance(found["additionalProperties"], dict):
            return f"map[string]{self._type(found['additionalProperties'])}"
        kind = str(found.get("type") or ("string" if found.get("oneOf") else ""))
        return "map[string]" if kind == "object" else kind

    def _fields(self, schema: Schema, recursive: bool, indent: int, above: tuple[int, ...]) -> str:
        out, required = "", schema.get("required") or []
        for name in sorted(schema.get("properties") or {}):
            field = schema["properties"][name]
            mark = " -required-" if name in required and not recursive else ""
            out += f"{' ' * indent}{name}\t<{self._type(field)}>{mark}\n"
            target = self.explained.object(field)
            if not recursive:
                text = field.get("description") or target.get("description") or "<no description>"
                out += _wrapped(text, indent + 2) + "\n"
            elif target.get("properties") and id(target) not in above:
                out += self._fields(target, True, indent + 3, (*above, id(target)))
        return out


def _wrapped(text: str, indent: int) -> str:
    return "".join(" " * indent + line + "\n" if line else "\n" for line in _lines(text, _COLUMNS - indent))


def _lines(text: str, width: int) -> list[str]:
    """Lines of at most `width` bytes; empty lines, code and lists stay apart."""
    found: list[str] = []
    line: list[str] = []

    def flush() -> None:
        if line:
            found.append(" ".join(line))
            line.clear()

    for part in text.split("\n"):
        if part.startswith("    "):
            flush()
            found.append(part)
            continue
        if found and not part.strip():
            flush()
            found.append("")
            continue
        if line and (line[-1].endswith(":") or _NEW_LINE.match(part.lstrip())):
            flush()
        for word in part.split():
            if line and len(" ".join([*line, word]).encode()) > width:
                flush()
            line.append(word)
    flush()
    return found
