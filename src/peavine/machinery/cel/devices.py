"""The environment of device selectors: one device, as dynamic resource allocation shows it to expressions."""

from __future__ import annotations

from functools import cache

from peavine.machinery.cel.errors import CompileError
from peavine.machinery.cel.kubernetes import QUANTITY
from peavine.machinery.cel.program import Environment, WrongResult
from peavine.machinery.cel.types import BOOL, DYN, STRING, map_of, object_of


@cache
def environment() -> Environment:
    """`device.attributes["DOMAIN"].NAME` is a value of any type, `device.capacity["DOMAIN"].NAME` a quantity."""
    fields = {
        "driver": STRING,
        "attributes": map_of(STRING, map_of(STRING, DYN)),
        "capacity": map_of(STRING, map_of(STRING, QUANTITY)),
        "allowMultipleAllocations": BOOL,
    }
    return Environment({"device": object_of(fields)})


def problem_of(text: str) -> str | None:
    """What keeps an expression from being a selector, as its field error says it."""
    try:
        environment().compile(text, "bool")
    except WrongResult:
        return "must evaluate to bool or the unknown type"
    except CompileError as error:
        return f"compilation failed: {error}"
    return None
