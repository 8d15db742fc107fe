"""Go templates, the common subset: fields, variables, pipelines, if/else, range, with, and the usual functions."""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from peavine.cli.failures import CliError
from peavine.machinery.jsonpath import show

_ACTION = re.compile(r"\{\{(-\s)?\s*(.*?)\s*(\s-)?\}\}", re.DOTALL)
_TOKEN = re.compile(r"""\s*("(?:\\.|[^"\\])*"|`[^`]*`|\(|\)|\||:=|=|,|[^\s()|,"`:=]+)""")


class Template:
    """`functions` are known besides the usual ones. Raises CliError for what is not of the subset."""

    def __init__(self, text: str, functions: Mapping[str, Callable[..., Any]] | None = None) -> None:
        self.text = text
        self._functions = {**_FUNCTIONS, **(functions or {})}
        self.parts = self._split(text)
        self.at = 0
        self.nodes = self._block(())

    def render(self, data: Any) -> str:
        out: list[str] = []
        self._run(self.nodes, data, {"$": data}, out)
        return "".join(out)

    def _split(self, text: str) -> list[tuple[str, str]]:
        parts: list[tuple[str, str]] = []
        at, trim = 0, False
        for match in _ACTION.finditer(text):
            plain = text[at : match.start()]
            plain = plain.lstrip() if trim else plain
            parts.append(("text", plain.rstrip() if match[1] else plain))
            parts.append(("action", match[2]))
            at, trim = match.end(), bool(match[3])
        rest = text[at:]
        if "{{" in rest:
            raise self._error("unclosed action")
        parts.append(("text", rest.lstrip() if trim else rest))
        return parts

    def _error(self, why: str) -> CliError:
        return CliError(f"error parsing template {self.text}, template: output:1: {why}")

    def _block(self, ends: tuple[str, ...]) -> list[Any]:
        nodes: list[Any] = []
        while self.at < len(self.parts):
            kind, text = self.parts[self.at]
            self.at += 1
            if kind == "text":
                nodes.append(text)
                continue
            word = text.partition(" ")[0]
            if word in ends:
                self.closing = text
                return nodes
            if word in ("end", "else"):
                raise self._error(f"unexpected {{{{{word}}}}}")
            if word in ("if", "range", "with"):
                nodes.append(self._control(word, text[len(word) :].strip()))
            elif not text.startswith("/*"):
                nodes.append(("print", text))
        if ends:
            raise self._error("unexpected EOF")
        return nodes

    def _control(self, word: str, condition: str) -> Any:
        body = self._block(("end", "else"))
        other: list[Any] = []
        if self.closing.startswith("else"):
            rest = self.closing[4:].strip()
            if rest:
                inner, _, condition_inner = rest.partition(" ")
                other = [self._control(inner, condition_inner.strip())]
            else:
                other = self._block(("end",))
        return (word, condition, body, other)

    def _run(self, nodes: list[Any], dot: Any, names: dict[str, Any], out: list[str]) -> None:
        for node in nodes:
            if isinstance(node, str):
                out.append(node)
            elif node[0] == "print":
                value, assigned = self._assign(node[1], dot, names)
                if not assigned:
                    out.append("<no value>" if value is None else _text(value))
            elif node[0] == "range":
                self._range(node, dot, names, out)
            else:
                word, condition, body, other = node
                inner = dict(names)
                value, _ = self._assign(condition, dot, inner)
                chosen = body if _true(value) else other
                self._run(chosen, value if word == "with" and chosen is body else dot, inner, out)

    def _range(self, node: Any, dot: Any, names: dict[str, Any], out: list[str]) -> None:
        _, condition, body, other = node
        match = re.match(r"(?:(\$\w*)\s*,\s*)?(\$\w+)\s*:=\s*(.*)", condition, re.DOTALL)
        values = self._evaluate(match[3] if match else condition, dot, names)
        items = sorted(values.items()) if isinstance(values, dict) else list(enumerate(values or ()))
        for key, value in items:
            inner = dict(names)
            if match:
                inner[match[2]] = value
                if match[1]:
                    inner[match[1]] = key
            self._run(body, value, inner, out)
        if not items:
            self._run(other, dot, names, out)

    def _assign(self, text: str, dot: Any, names: dict[str, Any]) -> tuple[Any, bool]:
        match = re.match(r"(\$\w+)\s*:?=\s*(.*)", text, re.DOTALL)
        if match:
            names[match[1]] = self._evaluate(match[2], dot, names)
            return names[match[1]], True
        return self._evaluate(text, dot, names), False

    def _evaluate(self, text: str, dot: Any, names: dict[str, Any]) -> Any:
        tokens = [match[1] for match in _TOKEN.finditer(text)]
        if not tokens:
            raise self._error("missing value for command")
        return self._pipeline(iter([*tokens, ""]), dot, names)

    def _pipeline(self, tokens: Iterator[str], dot: Any, names: dict[str, Any]) -> Any:
        words: list[Any] = []
        piped: list[Any] = []
        value: Any = None
        for token in tokens:
            if token in ("|", ")", ""):
                value = self._call([*words, *piped])
                words, piped = [], [value]
                if token != "|":
                    return value
            elif token == "(":
                words.append(self._pipeline(tokens, dot, names))
            else:
                words.append(self._operand(token, dot, names))
        return value

    def _operand(self, token: str, dot: Any, names: dict[str, Any]) -> Any:
        if token[0] == '"':
            return re.sub(r"\\(.)", lambda m: {"n": "\n", "t": "\t"}.get(m[1], m[1]), token[1:-1])
        if token[0] == "`":
            return token[1:-1]
        if re.fullmatch(r"-?\d+(\.\d+)?", token):
            return float(token) if "." in token else int(token)
        if token in ("true", "false", "nil"):
            return {"true": True, "false": False, "nil": None}[token]
        if token[0] == "$":
            name, _, rest = token.partition(".")
            if name not in names:
                raise self._error(f'undefined variable "{name}"')
            return _walk(names[name], rest)
        if token[0] == ".":
            return _walk(dot, token[1:])
        if token not in self._functions:
            raise self._error(f'function "{token}" not defined')
        return _Function(token)

    def _call(self, words: list[Any]) -> Any:
        if words and isinstance(words[0], _Function):
            try:
                arguments = [self._functions[w.name]() if isinstance(w, _Function) else w for w in words[1:]]
                return self._functions[words[0].name](*arguments)
            except (TypeError, KeyError, IndexError, ValueError) as error:
                raise CliError(f"error executing template: error calling {words[0].name}: {error}") from None
        return words[0] if words else None


class _Function:
    def __init__(self, name: str) -> None:
        self.name = name


def _walk(value: Any, path: str) -> Any:
    for name in path.split(".") if path else ():
        value = value.get(name) if isinstance(value, dict) else None
    return value


def _true(value: Any) -> bool:
    return bool(value)


def _text(value: Any) -> str:
    if isinstance(value, dict):
        return "map[" + " ".join(f"{k}:{_text(value[k])}" for k in sorted(value)) + "]"
    if isinstance(value, list):
        return "[" + " ".join(map(_text, value)) + "]"
    return "<nil>" if value is None else show(value)


def _index(value: Any, *keys: Any) -> Any:
    for key in keys:
        value = value.get(key) if isinstance(value, dict) else value[key]
    return value


def _printf(form: str, *values: Any) -> str:
    rest = list(values)

    def one(match: re.Match[str]) -> str:
        if match[0] == "%%":
            return "%"
        value = rest.pop(0) if rest else ""
        verb = match[0][-1]
        if verb in "sv":
            return (match[0][:-1] + "s") % _text(value)
        if verb == "q":
            import json

            return json.dumps(str(value), ensure_ascii=False)
        return match[0] % value

    return re.sub(r"%[-+# 0-9.]*[a-zA-Z%]", one, form)


_FUNCTIONS: dict[str, Any] = {
    "and": lambda *v: next((x for x in v if not x), v[-1]),
    "or": lambda *v: next((x for x in v if x), v[-1]),
    "not": lambda v: not _true(v),
    "eq": lambda a, *b: any(a == x for x in b),
    "ne": lambda a, b: a != b,
    "lt": lambda a, b: a < b,
    "le": lambda a, b: a <= b,
    "gt": lambda a, b: a > b,
    "ge": lambda a, b: a >= b,
    "len": len,
    "index": _index,
    "print": lambda *v: " ".join(map(_text, v)),
    "println": lambda *v: " ".join(map(_text, v)) + "\n",
    "printf": _printf,
    "exists": lambda value, *keys: _exists(value, *keys),
    "base64decode": lambda text: base64.b64decode(text).decode("utf-8", "replace"),
    "html": lambda text: text,
    "urlquery": lambda text: text,
}


def _exists(value: Any, *keys: Any) -> bool:
    for key in keys:
        if not isinstance(value, dict) or key not in value:
            return False
        value = value[key]
    return True
