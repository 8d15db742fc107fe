"""JSON and YAML exactly as kubectl prints them: four spaces and escaped angle brackets; keys in natural order."""

from __future__ import annotations

import json
import re
from functools import cache, cmp_to_key
from typing import Any


def to_json(value: Any) -> str:
    text = json.dumps(value, indent=4, sort_keys=True, ensure_ascii=False, separators=(",", ": "))
    for character in "<>&\u2028\u2029":
        if character in text:
            text = text.replace(character, f"\\u{ord(character):04x}")
    return text + "\n"


def to_typed_json(value: Any, type: Any) -> str:
    """As `to_json`, with the fields in the order of the Go type: how kubectl prints objects that it made itself."""
    text = json.dumps(_in_go_order(value, type), indent=4, ensure_ascii=False, separators=(",", ": "))
    for character in "<>&":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text + "\n"


def _in_go_order(value: Any, type: Any) -> Any:
    if isinstance(value, dict):
        if type is None or type.kind != "object":
            inner = type.items if type is not None else None
            return {key: _in_go_order(value[key], inner) for key in sorted(value)}
        ordered = [key for key in type.fields if key in value] + sorted(key for key in value if key not in type.fields)
        return {key: _in_go_order(value[key], type.fields[key].type if key in type.fields else None) for key in ordered}
    if isinstance(value, list):
        return [_in_go_order(item, type.items if type is not None else None) for item in value]
    return value


def to_yaml(value: Any) -> str:
    """Block style, long plain text folded at 80 columns, text of several lines as a literal block."""
    import yaml

    return yaml.dump(value, Dumper=_dumper(), default_flow_style=False, sort_keys=False, allow_unicode=True, width=80)


@cache
def _dumper() -> Any:
    import yaml

    from peavine.machinery.codecs.yaml import is_plain_string

    base: Any = getattr(yaml, "CSafeDumper", yaml.SafeDumper)

    class Dumper(base):
        def ignore_aliases(self, data: Any) -> bool:
            return True

    def represent_string(dumper: Any, text: str) -> Any:
        style = "|" if "\n" in text else None if is_plain_string(text) else '"'
        return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)

    def represent_map(dumper: Any, mapping: dict[str, Any]) -> Any:
        ordered = sorted(mapping.items(), key=lambda item: natural(item[0]))
        return dumper.represent_mapping("tag:yaml.org,2002:map", ordered, flow_style=not mapping or None)

    def represent_list(dumper: Any, items: list[Any]) -> Any:
        return dumper.represent_sequence("tag:yaml.org,2002:seq", items, flow_style=not items or None)

    def represent_float(dumper: Any, number: float) -> Any:
        text = str(int(number)) if number.is_integer() and abs(number) < 1e21 else repr(number)
        return dumper.represent_scalar("tag:yaml.org,2002:float", text)

    Dumper.yaml_implicit_resolvers = {}  # what is plain was decided above
    Dumper.add_implicit_resolver("tag:yaml.org,2002:null", re.compile("^null$"), ["n"])
    Dumper.add_implicit_resolver("tag:yaml.org,2002:bool", re.compile("^(?:true|false)$"), ["t", "f"])
    Dumper.add_implicit_resolver("tag:yaml.org,2002:int", re.compile(r"^-?\d+$"), list("-0123456789"))
    Dumper.add_implicit_resolver(
        "tag:yaml.org,2002:float", re.compile(r"^-?\d+(?:\.\d*)?(?:e[-+]?\d+)?$"), list("-0123456789")
    )
    Dumper.add_representer(str, represent_string)
    Dumper.add_representer(dict, represent_map)
    Dumper.add_representer(list, represent_list)
    Dumper.add_representer(float, represent_float)
    return Dumper


def _compare(a: str, b: str) -> int:
    digits = False
    for at in range(min(len(a), len(b))):
        x, y = a[at], b[at]
        if x == y:
            digits = x.isdigit()
            continue
        letters = x.isalpha(), y.isalpha()
        if all(letters):
            return -1 if x < y else 1
        if any(letters):
            first = letters[0] if digits else letters[1]
            return -1 if first else 1
        m, n = _number(a, at), _number(b, at)
        if m != n:
            return -1 if m < n else 1
        return -1 if x < y else 1
    return len(a) - len(b)


def _number(text: str, at: int) -> int:
    match = re.compile(r"\d+").match(text, at)
    return int(match[0]) if match else 0


natural = cmp_to_key(_compare)
