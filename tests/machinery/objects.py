"""Random objects of any type of the schema, for round-trip tests."""

from __future__ import annotations

import random
import string
from typing import Any

from peavine.machinery.decode import decode_plain
from peavine.machinery.schema import Type

_VALUES_MAX = 600  # after which objects stay empty: types may be cyclic


def random_object(type: Type, seed: int, *, density: float = 0.4, numbered: bool = False) -> dict[str, Any]:
    """An object as typed decoding leaves it. `numbered`: only of fields that have a protobuf number."""
    return decode_plain(_Maker(seed, density, numbered).value(type), type)[0]


class _Maker:
    def __init__(self, seed: int, density: float, numbered: bool) -> None:
        self.random, self.density, self.numbered = random.Random(seed), density, numbered
        self.left = _VALUES_MAX

    def value(self, type: Type) -> Any:
        self.left -= 1
        choice = self.random.choice
        match type.kind:
            case "object":
                return {
                    name: self.value(field.type)
                    for name, field in type.fields.items()
                    if (field.number or not self.numbered) and self.left > 0 and self.random.random() <= self.density
                }
            case "list":
                return [self.value(type.items) for _ in range(self.random.randint(1, 2))]
            case "map":
                return {self.word(): self.value(type.items) for _ in range(self.random.randint(1, 2))}
            case "string":
                return choice([self.word(), "", "é\n\"'", "true", "1e3", "y"])
            case "bytes":
                return choice(["", "aGVsbG8=", "AP8="])
            case "integer":
                return choice([0, 1, -1, 2 ** (type.bits - 1) - 1, -(2 ** (type.bits - 1))])
            case "number":
                return choice([0.0, 1.5, -2.25, 1e300])
            case "boolean":
                return choice([True, False])
            case "quantity":
                return choice(["0", "100m", "1Gi", "5e9", "1500"])
            case "time":
                return choice(["2020-01-02T03:04:05Z", "1969-12-31T23:59:59Z", "0001-01-02T00:00:00Z"])
            case "micro-time":
                return choice(["2020-01-02T03:04:05.000001Z", "2020-01-02T03:04:05.000000Z"])
            case "int-or-string":
                return choice([0, 80, -5, "25%", ""])
        return {"a": [1, 2.5, None, {"b": "c"}], self.word(): True}

    def word(self) -> str:
        return "".join(self.random.choices(string.ascii_lowercase + "./-", k=self.random.randint(1, 8)))
