"""The plain YAML that kubeconfig files are written in, without a YAML parser.

Block maps, block lists, plain and quoted scalars on one line: what `kubectl config` and every cloud's tool write. A
file with more in it raises NotPlain and is for the real parser, whose import takes longer than the whole request.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


class NotPlain(Exception):
    """The text needs a real YAML parser."""


_SPECIAL = "&*!|>%@`{[,]}?#"
_WORDS = {"true": True, "false": False, "null": None, "~": None, "": None}


def parse(text: str) -> Any:
    """The value of a document. Raises NotPlain for what is not of the subset."""
    lines: list[tuple[int, str]] = []
    for line in text.split("\n"):
        body = line.strip(" \r")
        if not body or body[0] == "#" or (body == "---" and not lines):
            continue
        if "\t" in line or body in ("---", "...") or " #" in body:
            raise NotPlain
        lines.append((len(line) - len(line.lstrip(" ")), body))
    if not lines:
        return None
    value, at = _block(lines, 0, lines[0][0])
    if at != len(lines):
        raise NotPlain
    return value


def _block(lines: list[tuple[int, str]], at: int, indent: int) -> tuple[Any, int]:
    return _list(lines, at, indent) if lines[at][1][:2] in ("- ", "-") else _map(lines, at, indent)


def _list(lines: list[tuple[int, str]], at: int, indent: int) -> tuple[list[Any], int]:
    items: list[Any] = []
    while at < len(lines) and lines[at][0] == indent and lines[at][1][:2] in ("- ", "-"):
        body = lines[at][1][1:].lstrip(" ")
        if not body:
            raise NotPlain
        if ": " in body or body[-1] == ":":
            inner = indent + len(lines[at][1]) - len(body)
            lines[at] = (inner, body)  # `- a: 1` is a map that begins after the dash
            item, at = _map(lines, at, inner)
        else:
            item, at = _scalar(body), at + 1
        items.append(item)
    return items, at


def _map(lines: list[tuple[int, str]], at: int, indent: int) -> tuple[dict[str, Any], int]:
    found: dict[str, Any] = {}
    while at < len(lines) and lines[at][0] == indent:
        key, colon, rest = lines[at][1].partition(":")
        if not colon or key[:1] in "\"'-" or key[:1] in _SPECIAL or key in found or (rest and rest[0] != " "):
            raise NotPlain
        rest, at = rest.strip(" "), at + 1
        deeper = at < len(lines) and (lines[at][0] > indent or (lines[at][0] == indent and lines[at][1][:2] == "- "))
        if rest and deeper and lines[at][0] > indent:
            raise NotPlain  # a scalar that goes on
        if rest or not deeper:
            found[key] = _scalar(rest)
        else:
            found[key], at = _block(lines, at, lines[at][0])
    if at < len(lines) and lines[at][0] > indent:
        raise NotPlain
    return found, at


def _scalar(text: str) -> Any:
    if text in _WORDS:
        return _WORDS[text]
    if text == "{}":
        return {}
    if text == "[]":
        return []
    if text[0] in "\"'":
        body = text[1:-1]
        if len(text) < 2 or text[-1] != text[0] or text[0] in body or "\\" in body:
            raise NotPlain
        return body
    lowered = text.lower()
    if text[0] in _SPECIAL or lowered in ("true", "false", "null", "yes", "no", "on", "off", "y", "n") or ": " in text:
        raise NotPlain
    if text[0] in "0123456789.+-":
        if text.isdecimal() and (text[0] != "0" or text == "0"):
            return int(text)
        if any(character.isalpha() or character in "/_=" for character in text) and not _numeric(text):
            return text
        raise NotPlain
    return text


def _numeric(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return text.startswith(("0x", "0o", "0b")) or ":" in text
    return True
