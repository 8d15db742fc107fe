"""KYAML: YAML in flow style that cannot be misread. Strings are quoted, brackets tell what is inside what.

Follows KEP-5295. Valid YAML; what reads YAML reads it.
"""

from __future__ import annotations

import json
import re
from typing import Any

_PLAIN_KEY = re.compile(r"[A-Za-z_][A-Za-z0-9_./-]*")


def to_kyaml(value: Any) -> str:
    """One document with its header."""
    return f"---\n{_value(value, 0)}\n"


def _value(value: Any, level: int) -> str:
    if isinstance(value, dict):
        return _map(value, level)
    if isinstance(value, list):
        return _list(value, level)
    if isinstance(value, bool):
        return "true" if value else "false"
    if value is None:
        return "null"
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False)
    if isinstance(value, float):
        return str(int(value)) if value.is_integer() and abs(value) < 1e21 else repr(value)
    return str(value)


def _key(key: str) -> str:
    """Without quotes only where no reader takes it for anything but a string."""
    from peavine.machinery.codecs.yaml import is_plain_string

    return key if _PLAIN_KEY.fullmatch(key) and is_plain_string(key) else json.dumps(key, ensure_ascii=False)


def _map(value: dict[str, Any], level: int) -> str:
    if not value:
        return "{}"
    from peavine.cli.output.documents import natural

    indent = "  " * (level + 1)
    lines = [f"{indent}{_key(key)}: {_value(value[key], level + 1)},\n" for key in sorted(value, key=natural)]
    return "{\n" + "".join(lines) + "  " * level + "}"


def _list(items: list[Any], level: int) -> str:
    if not items:
        return "[]"
    if all(isinstance(item, (dict, list)) and item for item in items):  # brackets of both stand together
        return "[" + ", ".join(_value(item, level) for item in items) + "]"
    indent = "  " * (level + 1)
    return "[\n" + "".join(f"{indent}{_value(item, level + 1)},\n" for item in items) + "  " * level + "]"
