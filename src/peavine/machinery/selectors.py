"""Label and field selectors: from text or from a `LabelSelector` object, and whether they match.

Follows apimachinery's `labels` and `fields` packages, the words of their errors included.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from typing import Any, NamedTuple

from peavine.machinery.validation import is_label_value, is_qualified_name

_OPERATORS = "in, notin, =, ==, !=, gt, lt"
_WORDS = {"In": "in", "NotIn": "notin", "Exists": "exists", "DoesNotExist": "!"}


class SelectorError(ValueError):
    """The selector cannot be read; the text is upstream's."""


class Requirement(NamedTuple):
    """One condition on one label. `operator` is in, notin, =, ==, !=, exists, !, gt or lt."""

    key: str
    operator: str
    values: tuple[str, ...] = ()

    def matches(self, labels: Mapping[str, str]) -> bool:
        value = labels.get(self.key)
        match self.operator:
            case "in" | "=" | "==":
                return value is not None and value in self.values
            case "notin" | "!=":
                return value is None or value not in self.values
            case "exists":
                return value is not None
            case "!":
                return value is None
        try:
            if value is None:
                return False
            return int(value) > int(self.values[0]) if self.operator == "gt" else int(value) < int(self.values[0])
        except ValueError:
            return False

    def __str__(self) -> str:
        match self.operator:
            case "exists":
                return self.key
            case "!":
                return "!" + self.key
            case "in" | "notin":
                return f"{self.key} {self.operator} ({','.join(sorted(self.values))})"
            case "gt":
                return f"{self.key}>{self.values[0]}"
            case "lt":
                return f"{self.key}<{self.values[0]}"
        return f"{self.key}{self.operator}{self.values[0]}"


class Selector:
    """All requirements must hold; none at all matches everything. `nothing` matches nothing. Immutable."""

    __slots__ = ("nothing", "requirements")

    def __init__(self, requirements: Iterable[Requirement] = (), nothing: bool = False) -> None:
        self.requirements = tuple(sorted(requirements, key=lambda r: r.key))
        self.nothing = nothing

    def matches(self, labels: Mapping[str, str] | None) -> bool:
        if self.nothing:
            return False
        labels = labels or {}
        return all(requirement.matches(labels) for requirement in self.requirements)

    @property
    def empty(self) -> bool:
        """Matches everything."""
        return not self.requirements and not self.nothing

    def exact(self) -> dict[str, str]:
        """The labels that every match must carry with one known value: what an index can be asked for."""
        return {r.key: r.values[0] for r in self.requirements if r.operator in ("=", "==", "in") and len(r.values) == 1}

    def __str__(self) -> str:
        return ",".join(map(str, self.requirements))

    def __repr__(self) -> str:
        return f"Selector({'nothing' if self.nothing else str(self)!r})"

    def __eq__(self, other: object) -> bool:
        same = isinstance(other, Selector)
        return same and (self.requirements, self.nothing) == (other.requirements, other.nothing)  # type: ignore

    def __hash__(self) -> int:
        return hash((self.requirements, self.nothing))


EVERYTHING = Selector()
NOTHING = Selector(nothing=True)


def requirement(key: str, operator: str, values: Iterable[str] = ()) -> Requirement:
    """A checked requirement. Raises SelectorError."""
    values = tuple(sorted(set(values)))
    messages = is_qualified_name(key)
    if messages:
        raise SelectorError(f'key: Invalid value: "{key}": {"; ".join(messages)}')
    if operator in ("in", "notin"):
        if not values:
            raise SelectorError("values: Invalid value: []: for 'in', 'notin' operators, values set can't be empty")
    elif operator in ("=", "==", "!="):
        if len(values) != 1:
            raise SelectorError(
                f"values: Invalid value: {_listed(values)}: exact-match compatibility requires one single value"
            )
    elif operator in ("exists", "!"):
        if values:
            raise SelectorError(
                f"values: Invalid value: {_listed(values)}: values set must be empty for exists and does not exist"
            )
    elif operator in ("gt", "lt"):
        if len(values) != 1:
            raise SelectorError(
                f"values: Invalid value: {_listed(values)}: for 'Gt', 'Lt' operators, exactly one value is required"
            )
        if not re.fullmatch(r"[+-]?\d{1,19}", values[0]):
            raise SelectorError(
                f"values[0]: Invalid value: \"{values[0]}\": for 'Gt', 'Lt' operators, the value must be an integer"
            )
    else:
        raise SelectorError(
            f'operator: Unsupported value: "{operator}": supported values: '
            '"in", "notin", "=", "==", "!=", "gt", "lt", "exists", "!"'
        )
    for index, value in enumerate(values):
        messages = is_label_value(value)
        if messages:
            raise SelectorError(f'values[{index}][{key}]: Invalid value: "{value}": {"; ".join(messages)}')
    return Requirement(key, operator, values)


def _listed(values: tuple[str, ...]) -> str:
    return "[" + ",".join(f'"{value}"' for value in values) + "]"


def selector_of(selector: Mapping[str, Any] | None) -> Selector:
    """The selector of a `LabelSelector` object: none matches nothing, an empty one everything. Raises SelectorError."""
    if selector is None:
        return NOTHING
    requirements = [requirement(key, "=", (value,)) for key, value in (selector.get("matchLabels") or {}).items()]
    for expression in selector.get("matchExpressions") or ():
        operator = _WORDS.get(expression.get("operator", ""))
        if operator is None:
            raise SelectorError(f'"{expression.get("operator", "")}" is not a valid label selector operator')
        requirements.append(requirement(expression.get("key", ""), operator, expression.get("values") or ()))
    return Selector(requirements) if requirements else EVERYTHING


def selector_of_labels(labels: Mapping[str, str] | None) -> Selector:
    """The selector of a plain map (`Service.spec.selector`), not validated; none and empty match everything."""
    return Selector(Requirement(key, "=", (value,)) for key, value in (labels or {}).items())


# --- text


@lru_cache(maxsize=1024)
def parse_label_selector(text: str) -> Selector:
    """`app=web,tier in (a, b),!canary,weight>3`. Raises SelectorError."""
    return Selector(_Parser(text).parse())


class _Token(NamedTuple):
    kind: str  # the symbol itself, "identifier", "end" or "error"
    text: str


_SPECIAL = "=!(),><"
_SYMBOLS = {")": ")", ",": ",", "!": "!", "==": "==", "=": "=", ">": ">", "<": "<", "!=": "!=", "(": "("}


def _tokens(text: str) -> list[_Token]:
    found, at = [], 0
    while at < len(text):
        c = text[at]
        if c in " \t\r\n":
            at += 1
        elif c in _SPECIAL:
            end = at + 1
            while end < len(text) and text[end] in _SPECIAL and text[at : end + 1] in _SYMBOLS:
                end += 1
            found.append(_Token(text[at:end], text[at:end]))
            at = end
        else:
            end = at
            while end < len(text) and text[end] not in _SPECIAL and text[end] not in " \t\r\n":
                end += 1
            found.append(_Token("identifier", text[at:end]))
            at = end
    return found


class _Parser:
    def __init__(self, text: str) -> None:
        self.tokens, self.at = _tokens(text), 0

    def parse(self) -> list[Requirement]:
        requirements: list[Requirement] = []
        while True:
            token = self._look()
            if token.kind == "end" and not requirements:
                return requirements
            if token.kind not in ("identifier", "!"):
                raise SelectorError(f"found '{token.text}', expected: !, identifier, or 'end of string'")
            try:
                requirements.append(self._requirement())
            except SelectorError as error:
                raise SelectorError(f"unable to parse requirement: {error}") from None
            token = self._take()
            if token.kind == "end":
                return requirements
            if token.kind != ",":
                raise SelectorError(f"found '{token.text}', expected: ',' or 'end of string'")
            token = self._look()
            if token.kind not in ("identifier", "!"):
                raise SelectorError(f"found '{token.text}', expected: identifier after ','")

    def _look(self) -> _Token:
        return self.tokens[self.at] if self.at < len(self.tokens) else _Token("end", "")

    def _take(self) -> _Token:
        token = self._look()
        self.at += 1
        return token

    def _requirement(self) -> Requirement:
        token = self._take()
        absent = token.kind == "!"
        if absent:
            token = self._take()
        if token.kind != "identifier":
            raise SelectorError(f"found '{token.text}', expected: identifier")
        key = token.text
        messages = is_qualified_name(key)
        if messages:
            raise SelectorError(f'<nil>: Invalid value: "{key}": {"; ".join(messages)}')
        if absent:
            return requirement(key, "!")
        if self._look().kind in ("end", ","):
            return requirement(key, "exists")
        token = self._take()
        operator = {">": "gt", "<": "lt"}.get(token.text, token.text)
        if operator in ("in", "notin"):
            return requirement(key, operator, self._values())
        if token.kind in ("=", "==", "!=", ">", "<"):
            return requirement(key, operator, self._exact_value())
        raise SelectorError(f"found '{token.text}', expected: {_OPERATORS}")

    def _values(self) -> set[str]:
        token = self._take()
        if token.kind != "(":
            raise SelectorError(f"found '{token.text}' expected: '('")
        token = self._look()
        if token.kind == ")":
            self._take()
            return {""}
        if token.kind not in ("identifier", ","):
            raise SelectorError(f"found '{token.text}', expected: ',', ')' or identifier")
        values = self._list()
        token = self._take()
        if token.kind != ")":
            raise SelectorError(f"found '{token.text}', expected: ')'")
        return values

    def _list(self) -> set[str]:
        values: set[str] = set()
        while True:
            token = self._take()
            following = self._look()
            if token.kind == "identifier":
                values.add(token.text)
                if following.kind == ",":
                    continue
                if following.kind == ")":
                    return values
                raise SelectorError(f"found '{following.text}', expected: ',' or ')'")
            if token.kind != ",":
                raise SelectorError(f"found '{token.text}', expected: ',', or identifier")
            if not values:
                values.add("")  # a list that begins with a comma
            if following.kind == ")":
                values.add("")
                return values
            if following.kind == ",":
                self._take()
                values.add("")

    def _exact_value(self) -> set[str]:
        if self._look().kind in ("end", ","):
            return {""}
        token = self._take()
        if token.kind != "identifier":
            raise SelectorError(f"found '{token.text}', expected: identifier")
        return {token.text}


# --- fields


class FieldRequirement(NamedTuple):
    field: str
    operator: str  # "=" or "!="
    value: str


class FieldSelector:
    """Conditions on a few fields of an object, all of which must hold."""

    __slots__ = ("requirements",)

    def __init__(self, requirements: Iterable[FieldRequirement] = ()) -> None:
        self.requirements = tuple(requirements)

    def matches(self, value_of: Callable[[str], str]) -> bool:
        """`value_of` gives a field's value as text, empty where absent."""
        return all((value_of(r.field) == r.value) == (r.operator == "=") for r in self.requirements)

    def required_value(self, field: str) -> str | None:
        """The one value that the field must have, if the selector names it."""
        for r in self.requirements:
            if r.field == field and r.operator == "=":
                return r.value
        return None

    @property
    def empty(self) -> bool:
        return not self.requirements

    def __str__(self) -> str:
        return ",".join(f"{r.field}{r.operator}{_escape(r.value)}" for r in self.requirements)


def _escape(value: str) -> str:
    return value.replace("\\", "\\\\").replace(",", "\\,").replace("=", "\\=")


_ESCAPE = re.compile(r"\\(.?)", re.DOTALL)


@lru_cache(maxsize=1024)
def parse_field_selector(text: str) -> FieldSelector:
    """`metadata.name=x,status.phase!=Running`, with backslash escapes in values. Raises SelectorError."""
    requirements = []
    for part in re.findall(r"(?:[^,\\]|\\.|\\\Z)+", text, re.DOTALL):
        match = re.match(r"((?:[^=!\\]|\\.|!(?!=))*)(!=|==|=)(.*)", part, re.DOTALL)
        if not match:
            raise SelectorError(f"invalid selector: '{text}'; can't understand '{part}'")
        value = match[3]
        for escape in _ESCAPE.findall(value):
            if escape not in ("\\", ",", "=") or not escape:
                shown = "\\" + escape
                raise SelectorError(f"invalid field selector: invalid escape sequence: {shown}")
        if re.search(r"(?<!\\)(?:\\\\)*=", value):
            raise SelectorError(f"invalid field selector: unescaped character in field selector: '=': {value}")
        operator = "!=" if match[2] == "!=" else "="
        requirements.append(FieldRequirement(match[1], operator, _ESCAPE.sub(r"\1", value)))
    return FieldSelector(requirements)
