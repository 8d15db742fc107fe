"""Any object: its fields in order of name, as upstream describes custom resources."""

from __future__ import annotations

from typing import Any

from peavine.cli.describe.text import Text, annotation_lines, camel_words, labels

Object = dict[str, Any]
_SKIPPED = {
    ".metadata.managedFields", ".metadata.name", ".metadata.namespace", ".metadata.labels", ".metadata.annotations",
}  # fmt: skip


def describe_any(obj: Object) -> Text:
    text, meta = Text(), obj["metadata"]
    text.field(0, "Name", meta["name"])
    text.field(0, "Namespace", meta.get("namespace", ""))
    labels(text, 0, "Labels", meta.get("labels"))
    annotation_lines(text, 0, "Annotations", meta.get("annotations"))
    _fields(text, 0, obj, "")
    return text


def _fields(text: Text, level: int, value: Object, path: str) -> None:
    for key in sorted(value):
        at = f"{path}.{key}"
        if at in _SKIPPED:
            continue
        _field(text, level, camel_words(key), value[key], at)


def _field(text: Text, level: int, name: str, value: Any, path: str) -> None:
    if isinstance(value, dict):
        text.line(level, f"{name}:")
        _fields(text, level + 1, value, path)
    elif isinstance(value, list):
        text.line(level, f"{name}:")
        for item in value:
            if isinstance(item, dict):
                _fields(text, level + 1, item, path)
            else:
                text.line(level + 1, _scalar(item))
    else:
        text.field(level, name, _scalar(value))


def _scalar(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return "<nil>" if value is None else str(value)
