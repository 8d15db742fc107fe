"""Text to syntax: the grammar of the CEL specification, with its macros and the optional syntax."""

from __future__ import annotations

import re
from typing import Any

from peavine.machinery.cel.errors import CompileError
from peavine.machinery.cel.syntax import Call, Const, Ident, ListOf, Macro, MapOf, Node, Select, Struct
from peavine.machinery.cel.values import INT_MAX, UINT_MAX, UInt

depth_max = 100
source_bytes_max = 100_000

_TOKEN = re.compile(
    r"""(?P<space>(?:\s+|//[^\n]*)+)
    |(?P<string>[rRbB]{0,2}(?:\"\"\"(?:[^\\]|\\.)*?\"\"\"|'''(?:[^\\]|\\.)*?'''|"(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*'))
    |(?P<float>\d+\.\d+(?:[eE][+-]?\d+)?|\d+[eE][+-]?\d+|\.\d+(?:[eE][+-]?\d+)?)
    |(?P<int>0x[0-9a-fA-F]+[uU]?|\d+[uU]?)
    |(?P<ident>[A-Za-z_][A-Za-z0-9_]*)
    |(?P<quoted>`[A-Za-z0-9_.\-/ ]+`)
    |(?P<op>&&|\|\||==|!=|<=|>=|[-+*/%!<>?:.,()\[\]{}])""",
    re.VERBOSE | re.DOTALL,
)
# Raw strings keep their backslashes, so they are matched without escapes first.
_RAW = re.compile(r"(?:[rR][bB]?|[bB][rR])(?:\"\"\".*?\"\"\"|'''.*?'''|\"[^\"\n]*\"|'[^'\n]*')", re.DOTALL)
_WORDS = "as break const continue else for function if import let loop package namespace return var void while"
_RESERVED = frozenset(_WORDS.split())
_LITERALS = {"true": True, "false": False, "null": None}
_BINARY = [
    {"||": "_||_"},
    {"&&": "_&&_"},
    {"==": "_==_", "!=": "_!=_", "<": "_<_", "<=": "_<=_", ">": "_>_", ">=": "_>=_", "in": "@in"},
    {"+": "_+_", "-": "_-_"},
    {"*": "_*_", "/": "_/_", "%": "_%_"},
]
_OPERATORS = {text: (level, name) for level, names in enumerate(_BINARY) for text, name in names.items()}
# Macros over a list or map: name -> numbers of arguments, with how many variables.
_MACROS = {
    ("all", 2): 1,
    ("exists", 2): 1,
    ("exists_one", 2): 1,
    ("existsOne", 2): 1,
    ("map", 2): 1,
    ("map", 3): 1,
    ("filter", 2): 1,
    ("sortBy", 2): 1,
    ("all", 3): 2,
    ("exists", 3): 2,
    ("existsOne", 3): 2,
    ("exists_one", 3): 2,
    ("transformList", 3): 2,
    ("transformList", 4): 2,
    ("transformMap", 3): 2,
    ("transformMap", 4): 2,
    ("transformMapEntry", 3): 2,
    ("transformMapEntry", 4): 2,
    ("optMap", 2): 1,
    ("optFlatMap", 2): 1,
}


def parse(source: str) -> Node:
    """Raises CompileError with every place that is wrong; in practice the first one."""
    if len(source) > source_bytes_max:
        raise CompileError(source, [(0, f"expression code point size exceeds limit: size: {len(source)}")])
    try:
        return _Parser(source).expression_and_end()
    except RecursionError:
        raise too_deep(source) from None


def too_deep(source: str) -> CompileError:
    return CompileError(source, [(0, f"expression recursion limit exceeded: {depth_max}")])


class _Parser:
    def __init__(self, source: str) -> None:
        self.source = source
        self.tokens = self._tokens()
        self.next = 0
        self.depth = 0

    def _tokens(self) -> list[tuple[str, str, int]]:
        found = []
        place = 0
        while place < len(self.source):
            match = _RAW.match(self.source, place)
            kind = "string"
            if not match:
                match = _TOKEN.match(self.source, place)
                if not match:
                    raise self._error(place, f"Syntax error: token recognition error at: '{self.source[place]}'")
                kind = match.lastgroup or ""
            if kind != "space":
                found.append((kind, match[0], place))
            place = match.end()
        found.append(("end", "<EOF>", len(self.source)))
        return found

    def _error(self, place: int, message: str) -> CompileError:
        return CompileError(self.source, [(place, message)])

    def expression_and_end(self) -> Node:
        node = self.expression()
        kind, text, place = self.tokens[self.next]
        if kind != "end":
            raise self._error(place, f"Syntax error: extraneous input '{text}' expecting <EOF>")
        return node

    def expression(self) -> Node:
        self.depth += 1
        if self.depth > depth_max:
            raise self._error(self.tokens[self.next][2], f"expression recursion limit exceeded: {depth_max}")
        node = self._binary(0)
        if self._at("?"):
            place = self._take()[2]
            chosen = self._binary(0)
            self._expect(":")
            node = Call(place, "_?_:_", [node, chosen, self.expression()])
        self.depth -= 1
        return node

    def _binary(self, tightness: int) -> Node:
        """Operators that bind at least so tightly; equals associate to the left."""
        node = self._unary()
        while True:
            kind, text, place = self.tokens[self.next]
            found = _OPERATORS.get(text) if kind in ("op", "ident") else None
            if found is None or found[0] < tightness:
                return node
            level, function = found
            if level < 2:
                node = self._chain(node, text, level, function)
            else:
                self.next += 1
                node = Call(place, function, [node, self._binary(level + 1)])

    def _chain(self, first: Node, text: str, level: int, function: str) -> Node:
        """`a && b && c ...` as a balanced tree: generated rules have hundreds of terms."""
        terms, places = [first], []
        while self._at(text):
            places.append(self._take()[2])
            terms.append(self._binary(level + 1))

        def balanced(low: int, high: int) -> Node:
            if low == high:
                return terms[low]
            middle = (low + high) // 2
            return Call(places[middle], function, [balanced(low, middle), balanced(middle + 1, high)])

        return balanced(0, len(terms) - 1)

    def _unary(self) -> Node:
        kind, text, place = self.tokens[self.next]
        if kind == "op" and text in "!-":
            count = 0
            while self._at(text):
                self.next += 1
                count += 1
            following = self.tokens[self.next]
            if text == "-" and count == 1 and following[0] in ("int", "float"):
                self.next += 1
                return self._member(self._number(following, negative=True, place=place))
            self.depth += 1
            if self.depth > depth_max:
                raise self._error(place, f"expression recursion limit exceeded: {depth_max}")
            node = self._member(self._primary())
            self.depth -= 1
            if count % 2:
                node = Call(place, "!_" if text == "!" else "-_", [node])
            return node
        return self._member(self._primary())

    def _member(self, node: Node) -> Node:
        while True:
            if self._at("."):
                place = self._take()[2]
                optional = self._accept("?")
                kind, name, at = self._take()
                if kind == "quoted":
                    name = name[1:-1]
                elif kind != "ident":
                    raise self._unexpected(kind, name, at)
                if self._at("(") and not optional and kind == "ident":
                    node = self._call(self._take()[2], name, node)
                else:
                    node = Select(place, node, name, optional)
            elif self._at("["):
                place = self._take()[2]
                optional = self._accept("?")
                index = self.expression()
                self._expect("]")
                node = Call(place, "_[?_]" if optional else "_[_]", [node, index])
            elif self._at("{") and isinstance(node, (Ident, Select)) and _is_type_name(node):
                node = self._struct(node)
            else:
                return node

    def _primary(self) -> Node:
        kind, text, place = self._take()
        if kind in ("int", "float"):
            return self._number((kind, text, place))
        if kind == "string":
            return Const(place, self._string(text, place))
        if kind == "op" and text == ".":
            kind, text, place = self._take()
            if kind != "ident":
                raise self._unexpected(kind, text, place)
            return self._call(self._take()[2], text, None) if self._at("(") else Ident(place, text)
        if kind == "ident":
            if text in _LITERALS:
                return Const(place, _LITERALS[text])
            if text == "in":
                raise self._unexpected(kind, text, place)
            if self._at("("):
                return self._call(self._take()[2], text, None)
            if text in _RESERVED:
                raise self._error(place, f"reserved identifier: {text}")
            return Ident(place, text)
        if text == "(":
            node = self.expression()
            self._expect(")")
            return node
        if text == "[":
            return self._list(place)
        if text == "{":
            return self._map(place)
        raise self._unexpected(kind, text, place)

    def _call(self, place: int, name: str, target: Node | None) -> Node:
        args = []
        while not self._at(")"):
            args.append(self.expression())
            if not self._accept(","):
                break
        self._expect(")")
        return self._macro(place, name, target, args) or Call(place, name, args, target)

    def _macro(self, place: int, name: str, target: Node | None, args: list[Node]) -> Node | None:
        if target is None:
            if name == "has" and len(args) == 1:
                if not isinstance(args[0], Select) or args[0].optional:
                    raise self._error(args[0].place, "invalid argument to has() macro")
                return Select(place, args[0].operand, args[0].field, test=True)
            return None
        if name == "bind" and isinstance(target, Ident) and target.name == "cel" and len(args) == 3:
            return Macro(place, "bind", args[1], [self._variable(args[0], name)], [args[2]])
        count = _MACROS.get((name, len(args)))
        if count is None:
            return None
        variables = [self._variable(arg, name) for arg in args[:count]]
        if len(set(variables)) < count:
            raise self._error(args[1].place, "duplicate variable name")
        return Macro(place, name, target, variables, args[count:])

    def _variable(self, node: Node, macro: str) -> str:
        if not isinstance(node, Ident):
            raise self._error(
                node.place, "argument must be a simple name" if macro != "bind" else "invalid variable name"
            )
        return node.name

    def _list(self, place: int) -> Node:
        items: list[Node] = []
        optional: set[int] = set()
        while not self._at("]"):
            if self._accept("?"):
                optional.add(len(items))
            items.append(self.expression())
            if not self._accept(","):
                break
        self._expect("]")
        return ListOf(place, items, optional)

    def _map(self, place: int) -> Node:
        entries = []
        while not self._at("}"):
            optional = self._accept("?")
            key = self.expression()
            self._expect(":")
            entries.append((key, self.expression(), optional))
            if not self._accept(","):
                break
        self._expect("}")
        return MapOf(place, entries)

    def _struct(self, name: Node) -> Node:
        place = self._take()[2]
        entries = []
        while not self._at("}"):
            optional = self._accept("?")
            kind, field, at = self._take()
            if kind == "quoted":
                field = field[1:-1]
            elif kind != "ident":
                raise self._unexpected(kind, field, at)
            self._expect(":")
            entries.append((field, self.expression(), optional))
            if not self._accept(","):
                break
        self._expect("}")
        return Struct(place, dotted(name) or "", entries)

    def _number(self, token: tuple[str, str, int], negative: bool = False, place: int = -1) -> Const:
        kind, text, at = token
        place = at if place < 0 else place
        if kind == "float":
            return Const(place, -float(text) if negative else float(text))
        unsigned = text[-1] in "uU"
        value = int(text.rstrip("uU"), 0 if text.startswith("0x") else 10)
        if unsigned:
            if value > UINT_MAX or negative:
                raise self._error(place, "invalid uint literal")
            return Const(place, UInt(value))
        if value > INT_MAX + negative:
            raise self._error(place, "invalid int literal")
        return Const(place, -value if negative else value)

    def _string(self, text: str, place: int) -> Any:
        prefix = re.match(r"[rRbB]*", text)[0].lower()  # type: ignore[index]
        body = text[len(prefix) :]
        body = body[3:-3] if body[:3] in ('"""', "'''") else body[1:-1]
        if "r" not in prefix and "\\" in body:
            try:
                body = _unescape(body, "b" in prefix)
            except ValueError as error:
                raise self._error(place, f"Syntax error: {error}") from error
        if "b" in prefix:
            return body if isinstance(body, bytes) else body.encode()
        return body

    def _at(self, text: str) -> bool:
        kind, found, _ = self.tokens[self.next]
        return kind == "op" and found == text

    def _take(self) -> tuple[str, str, int]:
        token = self.tokens[self.next]
        if token[0] != "end":
            self.next += 1
        return token

    def _accept(self, text: str) -> bool:
        if self._at(text):
            self.next += 1
            return True
        return False

    def _expect(self, text: str) -> None:
        kind, found, place = self._take()
        if kind != "op" or found != text:
            raise self._error(place, f"Syntax error: mismatched input '{found}' expecting '{text}'")

    def _unexpected(self, kind: str, text: str, place: int) -> CompileError:
        return self._error(
            place,
            f"Syntax error: mismatched input '{text}' expecting {{'[', '{{', '(', '.', '-', '!', 'true', 'false',"
            " 'null', NUM_FLOAT, NUM_INT, NUM_UINT, STRING, BYTES, IDENTIFIER}",
        )


def dotted(node: Node) -> str | None:
    """`a.b.c` as a name, for functions and types that have such names; None for anything else."""
    if isinstance(node, Ident):
        return node.name
    if isinstance(node, Select) and not node.optional and not node.test:
        before = dotted(node.operand)
        return f"{before}.{node.field}" if before else None
    return None


def _is_type_name(node: Node) -> bool:
    name = dotted(node)
    return name is not None and name.split(".")[0][:1].isupper()


_ESCAPES = {"a": 7, "b": 8, "f": 12, "n": 10, "r": 13, "t": 9, "v": 11, "\\": 92, "?": 63, '"': 34, "'": 39, "`": 96}
_ESCAPE = re.compile(
    r"\\(?:x([0-9a-fA-F]{2})|X([0-9a-fA-F]{2})|u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})|([0-3][0-7]{2})|(.))", re.S
)


def _unescape(body: str, is_bytes: bool) -> Any:
    parts: list[bytes] = []
    place = 0
    for match in _ESCAPE.finditer(body):
        parts.append(body[place : match.start()].encode())
        place = match.end()
        hexed = match[1] or match[2] or match[3] or match[4]
        if match[6] is not None:
            if match[6] not in _ESCAPES:
                raise ValueError(f"invalid escape \\{match[6]}")
            code = _ESCAPES[match[6]]
        else:
            code = int(hexed, 16) if hexed else int(match[5], 8)
        byte_escape = is_bytes and (match[1] or match[2] or match[5])
        if byte_escape:
            parts.append(bytes([code & 0xFF]))
        elif code > 0x10FFFF or 0xD800 <= code < 0xE000:
            raise ValueError("invalid unicode escape")
        else:
            parts.append(chr(code).encode())
    parts.append(body[place:].encode())
    joined = b"".join(parts)
    return joined if is_bytes else joined.decode()
