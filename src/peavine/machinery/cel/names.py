"""Property names that are no identifiers of CEL, escaped as Kubernetes escapes them (`a-b` is `a__dash__b`)."""

from __future__ import annotations

import re

_WORDS = (
    "true false null in as break const continue else for function if import let loop package namespace return"
    " void while var"
)
_KEYWORDS = frozenset(_WORDS.split())
_ESCAPES = (("__", "__underscores__"), (".", "__dot__"), ("-", "__dash__"), ("/", "__slash__"))
_ESCAPED = re.compile(r"__(underscores|dot|dash|slash)__")
_MEANINGS = {"underscores": "__", "dot": ".", "dash": "-", "slash": "/"}
_IDENTIFIER = re.compile(r"^[A-Za-z_][A-Za-z0-9_]*$")


def escape(name: str) -> str | None:
    """The identifier for a property; None for one that has none (a digit first, a space)."""
    if name in _KEYWORDS:
        return f"__{name}__"
    escaped = ""
    place = 0
    while place < len(name):
        for plain, text in _ESCAPES:
            if name.startswith(plain, place):
                escaped += text
                place += len(plain)
                break
        else:
            escaped += name[place]
            place += 1
    return escaped if _IDENTIFIER.match(escaped) else None


def unescape(identifier: str) -> str:
    if identifier[:2] == "__" and identifier[-2:] == "__" and identifier[2:-2] in _KEYWORDS:
        return identifier[2:-2]
    return _ESCAPED.sub(lambda match: _MEANINGS[match[1]], identifier)
