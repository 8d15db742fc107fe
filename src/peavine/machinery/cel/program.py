"""Environments that compile expressions, and the programs they compile to."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cache
from typing import Any

from peavine.machinery.cel.checker import Checker
from peavine.machinery.cel.compiler import Context, compile_node
from peavine.machinery.cel.errors import CelError, CompileError, CostExceeded
from peavine.machinery.cel.functions import Library, Overload
from peavine.machinery.cel.parser import parse, too_deep
from peavine.machinery.cel.types import Type

call_cost_max = 1_000_000  # of one evaluation; upstream reckons a tenth of a second for it


class Environment:
    """Variables with their types, and the functions at hand: the standard library and Kubernetes' own, and `more`."""

    def __init__(self, variables: Mapping[str, Type], more: Iterable[Library] = ()) -> None:
        self.variables = variables
        self.functions: Mapping[str, list[Overload]] = _standard()
        for library in more:
            merged = dict(self.functions)
            for name, overloads in library.functions.items():
                merged[name] = merged.get(name, []) + overloads
            self.functions = merged

    def compile(self, source: str, result: str = "") -> Program:
        """Raises CompileError for what does not parse or type-check, or whose type is not `result` (such as "bool")."""
        tree = parse(source)
        checker = Checker(self.variables, self.functions)
        try:
            found = checker.check(tree, {})
        except RecursionError:
            raise too_deep(source) from None
        if checker.problems:
            raise CompileError(source, checker.problems)
        if result and found.kind not in (result, "dyn"):
            raise WrongResult(f"must evaluate to {'a ' if result == 'bool' else ''}{result}")
        try:
            return Program(source, tree, found, frozenset(_names(tree)))
        except RecursionError:
            raise too_deep(source) from None


class WrongResult(CompileError):
    """The expression is sound but gives another type than is asked for."""

    def __init__(self, message: str) -> None:
        Exception.__init__(self, message)
        self.problems = [(0, message)]


class Program:
    """A compiled expression; evaluate it as often as you like, from one thread."""

    __slots__ = ("_run", "_tree", "names", "result", "source")

    def __init__(self, source: str, tree: Any, result: Type, names: frozenset[str]) -> None:
        self.source, self.result, self.names = source, result, names
        self._tree = tree
        self._run = compile_node(tree)

    def evaluate(self, variables: Mapping[str, Any], cost_max: int = call_cost_max) -> tuple[Any, int]:
        """The value and what it cost. Raises CelError when there is no value, CostExceeded over `cost_max`.

        `variables` is not copied and not changed for the caller; values in it are JSON or values of this package.
        """
        context = Context(dict(variables), cost_max)
        try:
            return self._run(context), context.cost
        except RecursionError:
            raise CelError("expression recursion limit exceeded") from None

    def uses(self, variable: str) -> bool:
        return variable in self.names

    @property
    def tree(self) -> Any:
        """The checked syntax, for cost estimates."""
        return self._tree


@cache
def _standard() -> Mapping[str, list[Overload]]:
    from peavine.machinery.cel import extensions, kubernetes, standard

    merged: dict[str, list[Overload]] = {}
    for library in (standard.build(), extensions.build(), kubernetes.build()):
        for name, overloads in library.functions.items():
            merged[name] = merged.get(name, []) + overloads
    return merged


def _names(node: Any) -> Iterable[str]:
    """Every identifier that stands in the expression."""
    from peavine.machinery.cel.syntax import Ident, Node

    if isinstance(node, Ident):
        yield node.name
    for slot in getattr(type(node), "__slots__", ()):
        value = getattr(node, slot)
        children = value if isinstance(value, (list, tuple)) else [value]
        for child in children:
            for part in child if isinstance(child, tuple) else (child,):
                if isinstance(part, Node):
                    yield from _names(part)


__all__ = ["CelError", "CompileError", "CostExceeded", "Environment", "Program"]
