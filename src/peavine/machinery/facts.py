"""Facts of Go types that the published schema lacks: protobuf numbers, pointers, `omitempty`, list-key defaults.

`facts.txt` has one line a type: its name without the `io.k8s.` prefix, a colon, and its fields in protobuf's order as
`name=number` followed by marks: `*` a Go pointer, `!` written even when empty, `~` inlined bytes on the wire that JSON
lacks, `="value"` the default that a list key takes. A field without a protobuf number has the number 0.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple


class FieldFact(NamedTuple):
    number: int = 0
    pointer: bool = False
    omitempty: bool = True
    default: Any = None

    def compact(self) -> list[Any]:
        fact = [self.number, int(self.pointer), int(self.omitempty)]
        return fact if self.default is None else [*fact, self.default]


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


def _fact(word: str) -> tuple[str, FieldFact]:
    name, _, rest = word.partition("=")
    marks, _, default = rest.partition("=")
    number = marks.rstrip("*!")
    return name, FieldFact(int(number), "*" in marks, "!" not in marks, json.loads(default) if default else None)
