"""YAML as `sigs.k8s.io/yaml` reads and writes it: YAML 1.1 scalars, string keys, one document, no alias bombs."""

from __future__ import annotations

import base64
import re
from functools import cache
from typing import Any

from peavine.machinery.codecs.json import DEPTH_MAX

_EXPANDED_NODES_MAX = 400_000  # values, with every alias counted as often as it is used
_TAG = "tag:yaml.org,2002:"
_PLAIN = "?plain"  # our mark for an untagged plain scalar, so that an explicit !!str can be told from it

_INT = re.compile(r"[-+]?(?:0b[01_]+|0o?[0-7_]+|0x[0-9a-fA-F_]+|[0-9][0-9_]*)")
_FLOAT = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?")
_NULL = {"", "~", "null", "Null", "NULL"}
_BOOL = {
    **dict.fromkeys(("y", "Y", "yes", "Yes", "YES", "true", "True", "TRUE", "on", "On", "ON"), True),
    **dict.fromkeys(("n", "N", "no", "No", "NO", "false", "False", "FALSE", "off", "Off", "OFF"), False),
}
_BOOL_FEW = {text: value for text, value in _BOOL.items() if text.lower() in ("true", "false")}
_SPECIAL_FLOAT = re.compile(r"[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)")


class YamlError(ValueError):
    """The text is no YAML document that has a JSON form, or goes beyond a limit."""


def decode(data: bytes | str, *, few_words: bool = False) -> Any:
    """The JSON value of a YAML document. Raises YamlError.

    With `few_words`, only true and false are booleans, as in YAML 1.2: `yes`, `on` and `n` are texts.
    """
    return decode_with_duplicates(data, few_words=few_words)[0]


def decode_with_duplicates(data: bytes | str, *, few_words: bool = False) -> tuple[Any, list[str]]:
    """As `decode`, and the complaints about keys that stand twice in a mapping (of which the last wins)."""
    import yaml

    try:
        root = yaml.compose(data, Loader=_loader())
    except yaml.composer.ComposerError as error:
        if "single document" in str(error):
            raise YamlError("yaml: expected a single document") from None
        raise YamlError(f"yaml: {_words(error)}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise YamlError(f"yaml: {_words(error)}") from None
    except RecursionError:
        raise YamlError("yaml: exceeded max depth of 10000") from None
    if root is None:
        return None, []
    reader = _Reader(_BOOL_FEW if few_words else _BOOL)
    value = reader.value(root, 0)
    complaints = [f'line {line}: key "{key}" already set in map' for line, key in reader.duplicates]
    return value, complaints


def encode(value: Any) -> bytes:
    """Block style, keys sorted, lists not indented below their key."""
    import yaml

    text = yaml.dump(
        value, Dumper=_dumper(), default_flow_style=False, sort_keys=True, allow_unicode=True, width=2**31 - 1
    )
    return text.encode()


_SEXAGESIMAL = re.compile(r"[-+]?[0-9][0-9_]*(?::[0-5]?[0-9])+(?:\.[0-9_]*)?")
_TIMESTAMP = re.compile(r"\d{4}-\d{1,2}-\d{1,2}(?:(?:[Tt]|[ \t]+)\d{1,2}:\d{2}:\d{2}.*)?")


def is_plain_string(text: str) -> bool:
    """Whether a plain scalar of that text would be read as a string, by Go's reader and older ones."""
    if text in _NULL or text in _BOOL or text in ("<<", "="):
        return False
    if text[0] in "-+.0123456789":
        if _INT.fullmatch(text) or _FLOAT.fullmatch(text) or _SPECIAL_FLOAT.fullmatch(text):
            return False
        if _SEXAGESIMAL.fullmatch(text) or _TIMESTAMP.fullmatch(text):
            return False
    return True


def _words(error: Exception) -> str:
    problem, mark = getattr(error, "problem", None), getattr(error, "problem_mark", None)
    if not problem:
        return str(error).split("\n", 1)[0]
    line = mark.line + 1 if mark else 0
    return f"line {line}: {problem}" if line > 1 else str(problem)


@cache
def _loader() -> Any:
    import yaml

    base: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

    class Loader(base):
        """Resolves nothing: plain scalars keep our mark, and `_Reader` decides."""

        yaml_implicit_resolvers = {None: [(_PLAIN, re.compile(""))]}

    return Loader


@cache
def _dumper() -> Any:
    import yaml

    base: Any = getattr(yaml, "CSafeDumper", yaml.SafeDumper)

    class Dumper(base):
        """Quotes every string that another YAML 1.1 reader would take for something else."""

        yaml_implicit_resolvers = {key: list(rules) for key, rules in base.yaml_implicit_resolvers.items()}

        def ignore_aliases(self, data: Any) -> bool:
            return True

    words = re.compile("^(?:" + "|".join(sorted(_BOOL)) + ")$")
    Dumper.add_implicit_resolver(_TAG + "bool", words, list("yYnNtTfFoO"))
    Dumper.add_implicit_resolver(_TAG + "int", re.compile(f"^(?:{_INT.pattern})$"), list("-+0123456789"))
    Dumper.add_implicit_resolver(_TAG + "float", re.compile(f"^(?:{_FLOAT.pattern})$"), list("-+.0123456789"))
    return Dumper


class _Reader:
    """Turns a graph of nodes into values, with a bound on what aliases may expand to."""

    def __init__(self, booleans: dict[str, bool]) -> None:
        self.booleans = booleans
        self.count = 0
        self.duplicates: list[tuple[int, str]] = []
        self.open: set[int] = set()

    def value(self, node: Any, depth: int) -> Any:
        self.count += 1
        if self.count > _EXPANDED_NODES_MAX:
            raise YamlError("yaml: document contains excessive aliasing")
        if depth > DEPTH_MAX:
            raise YamlError("yaml: exceeded max depth of 10000")
        if node.id == "scalar":
            return _scalar(node, self.booleans)
        if id(node) in self.open:
            raise YamlError("yaml: anchor contains itself")
        self.open.add(id(node))
        try:
            if node.id == "sequence":
                return [self.value(child, depth + 1) for child in node.value]
            return self._mapping(node, depth)
        finally:
            self.open.discard(id(node))

    def _mapping(self, node: Any, depth: int) -> dict[str, Any]:
        mapping: dict[str, Any] = {}
        merged: list[dict[str, Any]] = []
        for key_node, value_node in node.value:
            if key_node.id == "scalar" and key_node.value == "<<" and key_node.tag in (_PLAIN, _TAG + "merge"):
                sources = value_node.value if value_node.id == "sequence" else [value_node]
                for source in sources:
                    if source.id != "mapping":
                        raise YamlError("yaml: map merge requires map or sequence of maps as the value")
                    merged.append(self.value(source, depth + 1))
                continue
            key = _key(key_node, self.booleans)
            if key in mapping:
                self.duplicates.append((key_node.start_mark.line + 1, key))
            mapping[key] = self.value(value_node, depth + 1)
        for source in merged:
            for key, value in source.items():
                mapping.setdefault(key, value)
        return mapping


def _key(node: Any, booleans: dict[str, bool]) -> str:
    if node.id != "scalar":
        raise YamlError(f"yaml: invalid map key: {node.id}")
    value = _scalar(node, booleans)
    if value is True or value is False:
        return "true" if value else "false"
    return "null" if value is None else str(value)


def _scalar(node: Any, booleans: dict[str, bool]) -> Any:
    text: str = node.value
    if node.tag == _PLAIN:
        return _plain(text, booleans)
    match node.tag.removeprefix(_TAG):
        case "int" | "float" | "bool" | "null":
            return _plain(text, booleans)
        case "binary":
            try:
                return base64.b64decode(text).decode("utf-8", "replace")
            except ValueError:
                raise YamlError("yaml: !!binary value contains invalid base64 data") from None
    return text


def _plain(text: str, booleans: dict[str, bool] = _BOOL) -> Any:
    if text in _NULL:
        return None
    if text in booleans:
        return booleans[text]
    if text[0] in "-+.0123456789":
        if _INT.fullmatch(text):
            return _integer(text)
        if _FLOAT.fullmatch(text):
            value = float(text)
            if value in (float("inf"), float("-inf")):
                raise YamlError(f"json: unsupported value: {text}")
            return int(value) if value.is_integer() and abs(value) < 1e21 else value  # as Go writes it into JSON
        if _SPECIAL_FLOAT.fullmatch(text):
            raise YamlError(f"json: unsupported value: {text}")
    return text


def _integer(text: str) -> Any:
    digits = text.replace("_", "").lower()
    sign, body = (-1, digits[1:]) if digits[0] == "-" else (1, digits.lstrip("+"))
    if len(body) > 400:
        return text
    try:
        if body[:2] in ("0x", "0b", "0o"):
            number = sign * int(body, 0)
        elif len(body) > 1 and body[0] == "0":
            number = sign * int(body, 8)
        else:
            number = sign * int(body)
    except ValueError:
        return _plain(str(float(digits))) if _FLOAT.fullmatch(digits) else text  # such as 08
    return number if -(2**63) <= number < 2**64 else float(number)
