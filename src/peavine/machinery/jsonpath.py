"""JSONPath in Kubernetes' dialect: templates of text and `{actions}`, `{range}…{end}`, filters, unions, slices, `..`.

Follows client-go's `util/jsonpath` and the page "JSONPath Support": what kubectl's `-o jsonpath`, custom columns and
the printer columns of a custom resource mean by it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Any

import orjson

_NUMBER = re.compile(r"-?\d+(?:\.\d+)?")
_NAME = re.compile(r"(?:\\.|[^\s.,\[\](){}|&=!<>'\"\\*?@$:])+")
_SLICE = re.compile(r"(-?\d*):(-?\d*)(?::(-?\d*))?")
_INDEX = re.compile(r"-?\d+")
_COMPARISON = re.compile(r"==|!=|<=|>=|<|>")

Step = Callable[[list[Any], "JsonPath"], list[Any]]


class JsonPathError(ValueError):
    """The template cannot be parsed, or does not fit the data."""


class JsonPath:
    """A parsed template. `find` gives the values of its actions, `render` its text."""

    def __init__(self, text: str, *, allow_missing_keys: bool = True) -> None:
        self.allow_missing = allow_missing_keys
        self.nodes = _Parser(text).template()

    def find(self, data: Any) -> list[Any]:
        """All values that the template's actions yield, in order."""
        return [value for values in self._evaluate(self.nodes, data, data) if values is not None for value in values]

    def render(self, data: Any) -> str:
        """The text: values of one action are separated by spaces, objects and lists are JSON."""
        out: list[str] = []
        self._write(self.nodes, data, data, out)
        return "".join(out)

    def _evaluate(self, nodes: list[_Node], root: Any, current: Any) -> Iterable[list[Any] | None]:
        for node in nodes:
            if isinstance(node, _Path):
                yield node.values(root, current, self)
            elif isinstance(node, _Range):
                for value in node.path.values(root, current, self):
                    yield from self._evaluate(node.body, root, value)

    def _write(self, nodes: list[_Node], root: Any, current: Any, out: list[str]) -> None:
        for node in nodes:
            if isinstance(node, str):
                out.append(node)
            elif isinstance(node, _Range):
                for value in node.path.values(root, current, self):
                    self._write(node.body, root, value, out)
            else:
                out.append(" ".join(show(value) for value in node.values(root, current, self)))


def relaxed(text: str) -> str:
    """The template of a short form: `.spec.x`, `spec.x` and `{.spec.x}` all mean the last. Raises JsonPathError."""
    if not text:
        return text
    inner = text[1:-1] if text.startswith("{") and text.endswith("}") else text
    if "{" in inner.partition("[")[0] or "}" in inner.partition("[")[0]:
        forms = "'name1.name2' or '.name1.name2' or '{name1.name2}' or '{.name1.name2}'"
        raise JsonPathError(f"unexpected path string, expected a {forms}")
    return "{" + (inner if inner[:1] in (".", "$", "[", "@") else "." + inner) + "}"


def show(value: Any) -> str:
    """A value as text: strings bare, objects and lists as JSON."""
    if isinstance(value, str):
        return value
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return str(int(value)) if value.is_integer() and abs(value) < 1e21 else repr(value)
    if isinstance(value, int):
        return str(value)
    return orjson.dumps(value, option=orjson.OPT_SORT_KEYS).decode()


class _Path:
    """`{.a.b[*]}`: steps from the root (`$`) or the current value."""

    def __init__(self, steps: list[Step], from_root: bool = False, literal: Any = None) -> None:
        self.steps, self.from_root, self.literal = steps, from_root, literal

    def values(self, root: Any, current: Any, context: JsonPath) -> list[Any]:
        if self.literal is not None:
            return [self.literal]
        found = [root if self.from_root else current]
        for step in self.steps:
            found = step(found, context)
        return found


class _Range:
    def __init__(self, path: _Path, body: list[_Node]) -> None:
        self.path, self.body = path, body


_Node = str | _Path | _Range


class _Parser:
    def __init__(self, text: str) -> None:
        self.text, self.at = text, 0

    def template(self, inside_range: bool = False) -> list[_Node]:
        nodes: list[_Node] = []
        while self.at < len(self.text):
            start = self.text.find("{", self.at)
            if start < 0:
                nodes.append(self.text[self.at :])
                self.at = len(self.text)
                break
            if start > self.at:
                nodes.append(self.text[self.at : start])
            self.at = start + 1
            self._space()
            if self._word("end"):
                if not inside_range:
                    raise JsonPathError("not in range, nothing to end")
                self._close()
                return nodes
            if self._word("range"):
                path = self._action()
                self._close()
                nodes.append(_Range(path, self.template(inside_range=True)))
                continue
            while True:
                self._space()
                if self._peek() == "}":
                    break
                quoted = self._quoted()
                nodes.append(quoted if quoted is not None else self._action())
            self._close()
        if inside_range:
            raise JsonPathError("unclosed range: missing {end}")
        return nodes

    def _peek(self) -> str:
        return self.text[self.at] if self.at < len(self.text) else ""

    def _space(self) -> None:
        while self._peek() in (" ", "\t", "\n", "\r") and self._peek():
            self.at += 1

    def _word(self, word: str) -> bool:
        end = self.at + len(word)
        follows = self.text[end : end + 1]
        if self.text.startswith(word, self.at) and not (follows.isalnum() or follows == "_"):
            self.at = end
            return True
        return False

    def _close(self) -> None:
        self._space()
        if self._peek() != "}":
            found = self._peek()
            raise JsonPathError(f"unrecognized character in action: {found!r}" if found else "unclosed action")
        self.at += 1

    def _quoted(self) -> str | None:
        quote = self._peek()
        if quote not in ("'", '"') or not quote:
            return None
        match = re.compile(rf"{quote}((?:\\.|[^{quote}\\])*){quote}", re.DOTALL).match(self.text, self.at)
        if not match:
            raise JsonPathError("unterminated quoted string")
        self.at = match.end()
        return _unescape(match[1])

    def _action(self) -> _Path:
        self._space()
        number = _NUMBER.match(self.text, self.at)
        if number:
            self.at = number.end()
            return _Path([], literal=float(number[0]) if "." in number[0] else int(number[0]))
        return self._path()

    def _path(self) -> _Path:
        from_root = False
        steps: list[Step] = []
        if self._peek() in ("$", "@"):
            from_root = self._peek() == "$"
            self.at += 1
        elif self._peek() not in (".", "[", "*"):
            name = _NAME.match(self.text, self.at)
            if not name:
                raise JsonPathError(
                    f"unrecognized character in action: {self._peek()!r}" if self._peek() else "unclosed action"
                )
            raise JsonPathError(f"unrecognized identifier {name[0]}")
        while True:
            step = self._step()
            if step is None:
                return _Path(steps, from_root)
            steps.append(step)

    def _step(self) -> Step | None:
        c = self._peek()
        if c == "[":
            return self._bracket()
        if c == "*":
            self.at += 1
            return _wildcard
        if c != ".":
            return None
        self.at += 1
        if self._peek() == ".":
            return _descend  # its second dot begins the next step
        if self._peek() == "*":
            self.at += 1
            return _wildcard
        name = _NAME.match(self.text, self.at)
        if not name:
            return _identity
        self.at = name.end()
        return _field(re.sub(r"\\(.)", r"\1", name[0]))

    def _bracket(self) -> Step:
        self.at += 1
        self._space()
        if self.text.startswith("?(", self.at):
            self.at += 2
            step = _filter(*self._condition())
            self._space()
            self._expect(")")
            self._space()
            self._expect("]")
            return step
        choices: list[Step] = []
        while True:
            self._space()
            choices.append(self._choice())
            self._space()
            if self._peek() == ",":
                self.at += 1
                continue
            self._expect("]")
            return choices[0] if len(choices) == 1 else _union(choices)

    def _choice(self) -> Step:
        quoted = self._quoted()
        if quoted is not None:
            return _field(quoted)
        if self._peek() == "*":
            self.at += 1
            return _wildcard
        slice_match = _SLICE.match(self.text, self.at)
        if slice_match:
            self.at = slice_match.end()
            return _slice(*(int(part) if part else None for part in slice_match.groups()))
        index = _INDEX.match(self.text, self.at)
        if index:
            self.at = index.end()
            return _index(int(index[0]))
        if self._peek() in (".", "@", "$"):  # a path within brackets names a field of each
            path = self._path()
            return lambda values, context: [x for value in values for x in path.values(value, value, context)]
        raise JsonPathError("invalid array index " + self.text[self.at :].partition("]")[0])

    def _condition(self) -> tuple[_Path, str, _Path | None]:
        left = self._operand()
        self._space()
        operator = _COMPARISON.match(self.text, self.at)
        if not operator:
            return left, "exists", None
        self.at = operator.end()
        return left, operator[0], self._operand()

    def _operand(self) -> _Path:
        self._space()
        quoted = self._quoted()
        if quoted is not None:
            return _Path([], literal=quoted)
        for word, value in (("true", True), ("false", False)):
            if self._word(word):
                return _Path([], literal=value)
        return self._action()

    def _expect(self, c: str) -> None:
        if self._peek() != c:
            raise JsonPathError("unterminated " + ("filter" if c == ")" else "array"))
        self.at += 1


def _unescape(text: str) -> str:
    escapes = {"n": "\n", "t": "\t", "r": "\r"}
    return re.sub(r"\\(.)", lambda match: escapes.get(match[1], match[1]), text, flags=re.DOTALL)


# --- steps


def _identity(values: list[Any], context: JsonPath) -> list[Any]:
    return values


def _field(name: str) -> Step:
    def step(values: list[Any], context: JsonPath) -> list[Any]:
        found = [value[name] for value in values if isinstance(value, dict) and name in value]
        if not found and not context.allow_missing:
            raise JsonPathError(f"{name} is not found")
        return found

    return step


def _wildcard(values: list[Any], context: JsonPath) -> list[Any]:
    found: list[Any] = []
    for value in values:
        if isinstance(value, list):
            found += value
        elif isinstance(value, dict):
            found += value.values()
    return found


def _descend(values: list[Any], context: JsonPath) -> list[Any]:
    found, waiting = [], list(reversed(values))
    while waiting:
        value = waiting.pop()
        if isinstance(value, (dict, list)):
            found.append(value)
            waiting += reversed(list(value.values()) if isinstance(value, dict) else value)
    return found


def _index(index: int) -> Step:
    def step(values: list[Any], context: JsonPath) -> list[Any]:
        found = []
        for value in values:
            if not isinstance(value, list):
                if value is None and context.allow_missing:
                    continue
                raise JsonPathError(f"{_go_type(value)} is not array or slice")
            if not -len(value) <= index < len(value):
                if context.allow_missing and not value:
                    continue
                shown = index if index >= 0 else index + len(value)
                raise JsonPathError(f"array index out of bounds: index {shown}, length {len(value)}")
            found.append(value[index])
        return found

    return step


def _slice(start: int | None, end: int | None, step: int | None) -> Step:
    if step is not None and step <= 0:
        raise JsonPathError("step must be > 0")

    def take(values: list[Any], context: JsonPath) -> list[Any]:
        found: list[Any] = []
        for value in values:
            if isinstance(value, list):
                found += value[start:end:step]
        return found

    return take


def _union(choices: list[Step]) -> Step:
    return lambda values, context: [x for choice in choices for x in choice(values, context)]


def _filter(left: _Path, operator: str, right: _Path | None) -> Step:
    def step(values: list[Any], context: JsonPath) -> list[Any]:
        found = []
        for value in values:
            items = value if isinstance(value, list) else list(value.values()) if isinstance(value, dict) else []
            found += [item for item in items if _holds(left, operator, right, item, context)]
        return found

    return step


def _holds(left: _Path, operator: str, right: _Path | None, item: Any, context: JsonPath) -> bool:
    try:
        a = left.values(item, item, context)
    except JsonPathError:
        a = []
    if operator == "exists" or right is None:
        return bool(a)
    b = right.values(item, item, context)
    if not a or not b:
        return False
    if len(a) > 1 or len(b) > 1:
        raise JsonPathError("can only compare one element at a time")
    x, y = a[0], b[0]
    numbers = all(isinstance(v, (int, float)) and not isinstance(v, bool) for v in (x, y))
    if operator == "==":
        return type(x) is type(y) and x == y if not numbers else x == y
    if operator == "!=":
        return not (type(x) is type(y) and x == y) if not numbers else x != y
    if not numbers and not (isinstance(x, str) and isinstance(y, str)):
        return False
    return bool({"<": x < y, "<=": x <= y, ">": x > y, ">=": x >= y}[operator])


def _go_type(value: Any) -> str:
    return {dict: "map[string]interface {}", str: "string", bool: "bool", int: "int64", float: "float64"}.get(
        type(value), "interface {}"
    )
