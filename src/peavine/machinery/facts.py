"""Facts of Go types that the published schema lacks: protobuf numbers, pointers, `omitempty`, list-key defaults.

`facts.txt` has one line a type: its name without the `io.k8s.` prefix, a colon, and its fields in Go's order as
`name=number`, then marks: `*` a Go pointer, `!` written even when empty, `:v1.Protocol` the Go type where the schema
does not tell it, `="TCP"` the default that a list key takes. `1.3` is field 3 of the message embedded as field 1, which
JSON inlines. A field that is not listed has no number that we know.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, NamedTuple


class FieldFact(NamedTuple):
    """`number` is the path of protobuf field numbers, empty if unknown; `go_type` is set where the schema lacks it."""

    number: tuple[int, ...] = ()
    pointer: bool = False
    omitempty: bool = True
    go_type: str = ""
    default: Any = None

    def compact(self) -> list[Any]:
        return [self.number, int(self.pointer), int(self.omitempty), self.go_type, self.default]


def facts_path() -> Path:
    return Path(__file__).with_name("facts.txt")


def load_facts() -> dict[str, dict[str, FieldFact]]:
    """All facts, by the full name of the definition and the JSON name of the field."""
    types: dict[str, dict[str, FieldFact]] = {}
    for line in facts_path().read_text().splitlines():
        name, separator, fields = line.partition(":")
        if separator and not line.startswith("#"):
            types["io.k8s." + name] = dict(_fact(word) for word in fields.split())
    return types


_FACT = re.compile(r"([^=]+)=([0-9.]+)([*!]*)(?::([^=]+))?(?:=(.+))?")


def _fact(word: str) -> tuple[str, FieldFact]:
    match = _FACT.fullmatch(word)
    if not match:
        raise ValueError(f"facts.txt: cannot read {word!r}")
    name, number, marks, go_type, default = match.groups()
    path = tuple(map(int, number.split(".")))
    return name, FieldFact(
        path, "*" in marks, "!" not in marks, go_type or "", json.loads(default) if default else None
    )
