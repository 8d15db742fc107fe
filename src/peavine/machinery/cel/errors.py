"""What goes wrong with an expression: when it is compiled, and when it is evaluated."""

from __future__ import annotations


class CelError(Exception):
    """Evaluation came to no value: a missing key, a bad index, overflow, no overload for the values at hand."""


class CostExceeded(Exception):
    """Evaluation was stopped: it did more than its budget allows. No operator absorbs this."""


class CompileError(Exception):
    """The expression is not one, or its types do not fit. The text shows each place, as cel-go shows it."""

    def __init__(self, source: str, problems: list[tuple[int, str]]) -> None:
        self.problems = problems
        super().__init__("\n".join(_shown(source, place, message) for place, message in sorted(problems)))


def _shown(source: str, place: int, message: str) -> str:
    before = source[:place]
    line = before.count("\n") + 1
    column = place - (before.rfind("\n") + 1)
    lines = source.split("\n")
    text = lines[line - 1] if line <= len(lines) else ""
    return f"ERROR: <input>:{line}:{column + 1}: {message}\n | {text}\n | {'.' * column}^"
