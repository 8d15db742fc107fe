"""Tables: columns aligned as upstream's tab writer aligns them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from peavine.cli.failures import printable

if TYPE_CHECKING:
    from typing import TextIO

_WIDTH_MIN, _PADDING = 6, 3


class TableWriter:
    """Rows as they come; `flush` aligns what has gathered. Widths are remembered, so that watched rows line up."""

    coloured: bool | None

    def __init__(self, out: TextIO, width_min: int = _WIDTH_MIN, padding: int = _PADDING) -> None:
        self.out, self.width_min, self.padding = out, width_min, padding
        self.rows: list[list[str]] = []
        self.widths: list[int] = []
        self.headed = False
        self.coloured = None if out.isatty() else False

    def row(self, cells: Sequence[str]) -> None:
        self.rows.append([cell_text(cell) for cell in cells])

    def flush(self) -> None:
        for row in self.rows:
            for at, cell in enumerate(row[:-1]):
                width = max(self.width_min, len(cell) + self.padding)
                if at < len(self.widths):
                    self.widths[at] = max(self.widths[at], width)
                else:
                    self.widths.append(width)
        for row in self.rows:
            padded = [cell.ljust(width) for cell, width in zip(row[:-1], self.widths, strict=False)] + row[-1:]
            self.out.write("".join(self.painted(padded)) + "\n")
        self.rows.clear()

    def painted(self, cells: list[str]) -> list[str]:
        """The padded cells in colour, where a person reads them; the first row is the heading."""
        if self.coloured is None:
            from peavine.cli.terminal import has_colour

            self.coloured = has_colour(self.out)
        if not self.coloured:
            return cells
        from peavine.cli.terminal import by_status, heading

        first, self.headed = not self.headed, True
        return [heading(cell) if first and cell.isupper() else by_status(cell) for cell in cells]


def cell_text(value: Any) -> str:
    """A cell as text: the first line only, control characters made visible."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    text = str(value)
    for breaker in "\f\n\r":
        if breaker in text:
            return printable(text.splitlines()[0] if text.splitlines() else "") + "..."
    return printable(text)


def align(rows: list[list[str]], padding: int = 2, width_min: int = 0) -> str:
    """Go's tabwriter: a column is a run of lines that all have the cell; the last cell of a line is in no column."""
    widths: list[list[int]] = [[0] * max(0, len(row) - 1) for row in rows]
    depth = max((len(row) for row in rows), default=0)
    for column in range(depth):
        at = 0
        while at < len(rows):
            if len(rows[at]) - 1 <= column:
                at += 1
                continue
            end = at
            while end < len(rows) and len(rows[end]) - 1 > column:
                end += 1
            longest = max(len(rows[i][column]) for i in range(at, end))
            width = max(width_min, longest + padding)
            for i in range(at, end):
                widths[i][column] = width
            at = end
    lines = []
    for row, sizes in zip(rows, widths, strict=True):
        lines.append("".join(cell.ljust(size) for cell, size in zip(row, sizes, strict=False)) + row[-1])
    return "".join(printable(line) + "\n" for line in lines)


class TablePrinter:
    """Server-made tables, with the columns and additions that flags ask for."""

    def __init__(
        self,
        out: TextIO,
        *,
        wide: bool = False,
        no_headers: bool = False,
        with_namespace: bool = False,
        with_kind: str = "",
        show_kind: bool = False,
        show_labels: bool = False,
        label_columns: Sequence[str] = (),
    ) -> None:
        self.writer = TableWriter(out)
        self.wide, self.headers, self.with_namespace = wide, not no_headers, with_namespace
        self.with_kind, self.show_labels, self.label_columns = with_kind, show_labels, label_columns
        self.columns: list[dict[str, Any]] = []

    def show(self, table: dict[str, Any], *, event: str = "") -> None:
        """Print the rows of a Table; columns of an earlier one serve a Table that brings none (in a watch)."""
        first = not self.columns
        if table.get("columnDefinitions"):
            self.columns = table["columnDefinitions"]
        if first and self.headers:
            names = [c["name"].upper() for c in self._shown()]
            names += [label.rpartition("/")[2].upper() for label in self.label_columns]
            names += ["LABELS"] if self.show_labels else []
            before = (["EVENT"] if event else []) + (["NAMESPACE"] if self.with_namespace else [])
            self.writer.row([*before, *names])
        for row in table.get("rows") or ():
            self.writer.row(self._cells(row, event))
        self.writer.flush()

    def _shown(self) -> list[dict[str, Any]]:
        return [c for c in self.columns if self.wide or not c.get("priority")]

    def _cells(self, row: dict[str, Any], event: str) -> list[str]:
        meta = (row.get("object") or {}).get("metadata") or {}
        values = list(zip(self.columns, row.get("cells") or (), strict=False))
        cells = [cell_text(value) for column, value in values if self.wide or not column.get("priority")]
        if self.with_kind and cells:
            cells[0] = f"{self.with_kind}/{cells[0]}"
        labels = meta.get("labels") or {}
        cells += [labels.get(label, "<none>") if label in labels else "" for label in self.label_columns]
        if self.show_labels:
            cells.append(",".join(f"{k}={v}" for k, v in sorted(labels.items())) or "<none>")
        before = ([event] if event else []) + ([meta.get("namespace", "")] if self.with_namespace else [])
        return [*before, *cells]
