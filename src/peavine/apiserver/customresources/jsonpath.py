"""The JSON paths of printer columns: fields, indices, `[*]`, and filters such as `[?(@.type=="Ready")]`."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from functools import lru_cache
from typing import Any

Step = Callable[[list[Any]], list[Any]]

_STEP = re.compile(
    r"""\.(?P<field>(?:[A-Za-z0-9_$-]|\\.)+)
    |\.\*|(?P<star>\[\*\])
    |\[(?P<index>-?\d+)\]
    |\[(?P<slice>-?\d*:-?\d*)\]
    |\[(?P<quoted>'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*")\]
    |\[\?\(\s*@(?P<path>[^=!<>]*?)\s*(?:(?P<op>==|!=|<=|>=|<|>)\s*(?P<value>'[^']*'|"[^"]*"|[^'")\s]+)\s*)?\)\]""",
    re.VERBOSE,
)


@lru_cache(maxsize=1024)
def compile_path(path: str) -> tuple[Step, ...]:
    """Raises ValueError for a path that is none."""
    path = path.strip()
    if path.startswith("{") and path.endswith("}"):
        path = path[1:-1]
    path = path.removeprefix("$")
    steps: list[Step] = []
    place = 0
    while place < len(path):
        match = _STEP.match(path, place)
        if not match:
            raise ValueError(f"{path!r} is no JSON path at {path[place:]!r}")
        steps.append(_step(match))
        place = match.end()
    return tuple(steps)


def find(obj: Any, path: str) -> list[Any]:
    """Everything in `obj` that the path leads to, nulls left out."""
    found = [obj]
    for step in compile_path(path):
        found = step(found)
    return [value for value in found if value is not None]


def _step(match: re.Match[str]) -> Step:
    if match["field"] is not None or match["quoted"] is not None:
        name = re.sub(r"\\(.)", r"\1", match["field"] if match["field"] is not None else match["quoted"][1:-1])
        return lambda values: [v[name] for v in values if isinstance(v, dict) and name in v]
    if match["index"] is not None:
        index = int(match["index"])
        return lambda values: [v[index] for v in values if isinstance(v, list) and -len(v) <= index < len(v)]
    if match["slice"] is not None:
        start, _, end = match["slice"].partition(":")
        part = slice(int(start) if start else None, int(end) if end else None)
        return lambda values: [item for v in values if isinstance(v, list) for item in v[part]]
    if match["path"] is not None:
        return _filter(match["path"].strip(), match["op"], match["value"])
    return lambda values: [item for v in values for item in _members(v)]


def _members(value: Any) -> list[Any]:
    return list(value.values()) if isinstance(value, dict) else value if isinstance(value, list) else []


def _filter(path: str, operator: str | None, text: str | None) -> Step:
    steps = compile_path(path)
    wanted: Any = None
    if text is not None:
        if text[0] in "'\"":
            wanted = text[1:-1]
        else:
            try:
                wanted = json.loads(text)
            except ValueError:
                wanted = text

    def keeps(item: Any) -> bool:
        found = [item]
        for step in steps:
            found = step(found)
        if operator is None:
            return bool(found)
        return any(_compare(value, operator, wanted) for value in found)

    return lambda values: [item for v in values for item in _members(v) if keeps(item)]


def _compare(value: Any, operator: str, wanted: Any) -> bool:
    if operator in ("==", "!="):
        return (value == wanted and isinstance(value, bool) == isinstance(wanted, bool)) is (operator == "==")
    numbers = isinstance(value, (int, float)) and isinstance(wanted, (int, float))
    if not numbers and not (isinstance(value, str) and isinstance(wanted, str)):
        return False
    low, same = value < wanted, value == wanted
    return {"<": low, "<=": low or same, ">": not low and not same, ">=": not low}[operator]
