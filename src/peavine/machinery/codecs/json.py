"""JSON: orjson with limits, Go's words for syntax errors, and the duplicate keys of a document."""

from __future__ import annotations

import json
import re
from typing import Any

import orjson

BODY_BYTES_MAX = 3 * 1024 * 1024
DEPTH_MAX = 300  # of nested lists and objects; Go allows 10,000, but nothing real comes near either

_OPTIONS = orjson.OPT_PASSTHROUGH_DATETIME | orjson.OPT_PASSTHROUGH_DATACLASS
_CONTAINERS = (dict, list)


class JsonError(ValueError):
    """The bytes are no JSON document, or go beyond a limit; the text is Go's."""


def decode(data: bytes | str) -> Any:
    """The value of a document. 64-bit integers and floats are kept exactly; of equal keys the last wins."""
    try:
        value = orjson.loads(data)
    except orjson.JSONDecodeError as error:
        if "depth" in str(error):
            raise JsonError("exceeded max depth") from None
        raise JsonError(syntax_error(data) or str(error)) from None
    opened = data.count("{") + data.count("[") if isinstance(data, str) else data.count(b"{") + data.count(b"[")
    if opened > DEPTH_MAX:
        check_depth(value)
    return value


def encode(value: Any, *, pretty: bool = False) -> bytes:
    """Compact JSON with a line end, as upstream's answers have; `pretty` indents by two spaces."""
    options = _OPTIONS | orjson.OPT_APPEND_NEWLINE
    return orjson.dumps(value, option=options | orjson.OPT_INDENT_2 if pretty else options)


def check_depth(value: Any, depth_max: int = DEPTH_MAX) -> None:
    """Raises JsonError for a value nested deeper than `depth_max`."""
    level, depth = [value] if value.__class__ in _CONTAINERS else [], 0
    while level:
        depth += 1
        if depth > depth_max:
            raise JsonError("exceeded max depth")
        level = [
            child
            for container in level
            for child in (container.values() if container.__class__ is dict else container)
            if child.__class__ in _CONTAINERS
        ]


# --- duplicate keys


_SPACED_COLON = re.compile(rb'"[ \t\r\n]+:')


def duplicate_keys(data: bytes, value: Any) -> list[str]:
    """Paths of the keys that stand more than once in their object (`spec.replicas`). `value` is the decoded document.

    Cheap when there are none: keys are counted in the text and in the value.
    """
    if b'\\\\"' not in data and not _SPACED_COLON.search(data):
        in_text = data.count(b'":') - data.count(b'\\":')
        if in_text == _count_keys(value):
            return []
    found: list[str] = []
    try:
        _walk(json.loads(data, object_pairs_hook=_Pairs), "", found)
    except ValueError:  # the two parsers disagree about a corner: the value is good, there is nothing to say
        return []
    return found


def _count_keys(value: Any) -> int:
    count, level = 0, [value] if value.__class__ in _CONTAINERS else []
    while level:
        count += sum([len(container) for container in level if container.__class__ is dict])
        level = [
            child
            for container in level
            for child in (container.values() if container.__class__ is dict else container)
            if child.__class__ in _CONTAINERS
        ]
    return count


class _Pairs(list[Any]):
    """The pairs of one JSON object."""


def _walk(value: Any, path: str, found: list[str]) -> None:
    if isinstance(value, _Pairs):
        seen: set[str] = set()
        for key, child in value:
            at = f"{path}.{key}" if path else key
            if key in seen:
                found.append(at)
            seen.add(key)
            _walk(child, at, found)
    elif isinstance(value, list):
        for index, child in enumerate(value):
            _walk(child, f"{path}[{index}]", found)


# --- syntax errors in Go's words


_SPACE = " \t\r\n"
_NUMBER = re.compile(r"-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?")


class _Fault(Exception):
    pass


def syntax_error(data: bytes | str) -> str:
    """What Go's parser says of a broken document; empty when it finds nothing wrong."""
    text = data if isinstance(data, str) else bytes(data).decode("utf-8", "surrogateescape")
    try:
        at = _skip(text, _scan(text, _skip(text, 0)))
        if at < len(text):
            raise _Fault(f"invalid character {_quoted(text[at])} after top-level value")
    except _Fault as fault:
        return str(fault)
    return ""


def _quoted(character: str) -> str:
    if character == "'":
        return r"'\''"
    if character == '"':
        return "'\"'"
    code = ord(character)
    if 0xDC80 <= code <= 0xDCFF:  # a byte that is no UTF-8
        return f"'{chr(code & 0xFF)}'"
    return f"'{character}'" if character.isprintable() else "'" + json.dumps(character)[1:-1] + "'"


def _skip(text: str, at: int) -> int:
    while at < len(text) and text[at] in _SPACE:
        at += 1
    return at


def _at(text: str, at: int, why: str) -> str:
    if at >= len(text):
        raise _Fault("unexpected end of JSON input")
    return why


def _scan(text: str, at: int) -> int:
    """Check one value, without recursion; the position after it."""
    stack: list[str] = []
    while True:
        at = _skip(text, at)
        _at(text, at, "")
        c = text[at]
        if c in "{[":
            stack.append(c)
            if len(stack) > 10_000:
                raise _Fault("exceeded max depth")
            at = _skip(text, at + 1)
            _at(text, at, "")
            if text[at] == ("}" if c == "{" else "]"):
                at += 1
                stack.pop()
            else:
                if c == "{":
                    at = _key(text, at, "looking for beginning of object key string")
                continue
        elif c == '"':
            at = _string(text, at)
        else:
            at = _literal(text, at)
        while stack:
            at = _skip(text, at)
            _at(text, at, "")
            c = text[at]
            if stack[-1] == "{":
                if c == ",":
                    at = _key(text, _skip(text, at + 1), "looking for beginning of object key string")
                    break
                if c != "}":
                    raise _Fault(f"invalid character {_quoted(c)} after object key:value pair")
            elif c == ",":
                at += 1
                break
            elif c != "]":
                raise _Fault(f"invalid character {_quoted(c)} after array element")
            stack.pop()
            at += 1
        else:
            return at


def _key(text: str, at: int, where: str) -> int:
    _at(text, at, "")
    if text[at] != '"':
        raise _Fault(f"invalid character {_quoted(text[at])} {where}")
    at = _skip(text, _string(text, at))
    _at(text, at, "")
    if text[at] != ":":
        raise _Fault(f"invalid character {_quoted(text[at])} after object key")
    return at + 1


def _string(text: str, at: int) -> int:
    at += 1
    while True:
        _at(text, at, "")
        c = text[at]
        if c == '"':
            return at + 1
        if c == "\\":
            _at(text, at + 1, "")
            escape = text[at + 1]
            if escape == "u":
                for digit in range(at + 2, at + 6):
                    _at(text, digit, "")
                    if text[digit] not in "0123456789abcdefABCDEF":
                        raise _Fault(f"invalid character {_quoted(text[digit])} in \\u hexadecimal character escape")
                at += 6
                continue
            if escape not in '"\\/bfnrt':
                raise _Fault(f"invalid character {_quoted(escape)} in string escape code")
            at += 2
            continue
        if c < " ":
            raise _Fault(f"invalid character {_quoted(c)} in string literal")
        at += 1


def _literal(text: str, at: int) -> int:
    c = text[at]
    for word in ("true", "false", "null"):
        if c == word[0]:
            for offset, expected in enumerate(word):
                _at(text, at + offset, "")
                if text[at + offset] != expected:
                    raise _Fault(
                        f"invalid character {_quoted(text[at + offset])} in literal {word} (expecting '{expected}')"
                    )
            return at + len(word)
    match = _NUMBER.match(text, at)
    if match:
        end = match.end()
        if end < len(text) and text[end] in ".eE":
            at = end + 1
            if text[end] in "eE" and at < len(text) and text[at] in "+-":
                at += 1
            _at(text, at, "")
            where = "after decimal point in numeric literal" if text[end] == "." else "in exponent of numeric literal"
            raise _Fault(f"invalid character {_quoted(text[at])} {where}")
        return end
    if c == "-":
        _at(text, at + 1, "")
        raise _Fault(f"invalid character {_quoted(text[at + 1])} in numeric literal")
    raise _Fault(f"invalid character {_quoted(c)} looking for beginning of value")
