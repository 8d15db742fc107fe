"""The Table of a custom resource: its printer columns, read from its objects."""

from __future__ import annotations

import json
import time
from typing import Any

from peavine.api.kind import CREATED, NAME, Column
from peavine.apiserver.customresources.jsonpath import compile_path, find
from peavine.machinery.duration import human_duration
from peavine.machinery.meta import parse_time

Object = dict[str, Any]

_AGE: Object = {"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp", "description": CREATED}


class Printer:
    """Columns and rows of one version."""

    def __init__(self, columns: list[Object]) -> None:
        self.sources = [column for column in columns or [_AGE] if _is_path(column["jsonPath"])]
        self.columns = (NAME, *(_column(source) for source in self.sources))

    def row(self, obj: Object) -> list[Any]:
        cells: list[Any] = [obj["metadata"].get("name")]
        for source in self.sources:
            found = find(obj, source["jsonPath"])
            cells.append(_cell(source["type"], found) if found else None)
        return cells


def _is_path(path: str) -> bool:
    try:
        compile_path(path)
    except ValueError:
        return False
    return True


def _column(source: Object) -> Column:
    words = source.get("description") or f"Custom resource definition column (in JSONPath format): {source['jsonPath']}"
    return Column(source["name"], source["type"], words, source.get("priority") or 0, source.get("format") or "")


def _cell(kind: str, found: list[Any]) -> Any:
    value = found[0]
    if kind == "string":
        return ",".join(_text(each) for each in found) if len(found) > 1 else _text(value)
    if kind == "integer":
        return int(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else None
    if kind == "number":
        return value if isinstance(value, (int, float)) and not isinstance(value, bool) else None
    if kind == "boolean":
        return value if isinstance(value, bool) else None
    if kind == "date":
        try:
            return human_duration(time.time() - parse_time(value))
        except (ValueError, TypeError, AttributeError):
            return "<invalid>"
    return None


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)
