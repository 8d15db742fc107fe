"""The screen: tables of nodes, pods and events, drawn by textual. Imported only when it is asked for."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, ClassVar

from textual.app import App, ComposeResult
from textual.binding import Binding
from textual.widgets import DataTable, Footer, Static, TabbedContent, TabPane

from peavine.cli.failures import printable
from peavine.cli.topview.model import EVENT_COLUMNS, NODE_COLUMNS, POD_COLUMNS, View, ordered

_COLOURS = {"Running": "green", "Ready": "green", "Completed": "dim", "Succeeded": "dim", "Pending": "yellow",
            "ContainerCreating": "yellow", "Terminating": "yellow", "Normal": "", "Warning": "yellow"}  # fmt: skip


class Top(App[int]):
    """`look` is asked again every `seconds`; what it raises is shown on the summary's line, and it is asked again."""

    TITLE = "peavine top"
    CSS = "#summary { height: 1; background: $primary-background; padding: 0 1; } DataTable { height: 1fr; }"
    BINDINGS: ClassVar[list[Any]] = [
        Binding("q", "quit", "Quit"), Binding("n", "sort('name')", "By name"), Binding("c", "sort('cpu')", "By CPU"),
        Binding("m", "sort('memory')", "By memory"), Binding("r", "refresh_now", "Now"),
    ]  # fmt: skip

    def __init__(self, look: Callable[[], Awaitable[View]], seconds: float) -> None:
        super().__init__()
        self.look, self.seconds, self.by = look, seconds, "name"
        self.view: View | None = None

    def compose(self) -> ComposeResult:
        yield Static("looking ...", id="summary", markup=False)
        with TabbedContent():
            for name in ("pods", "nodes", "events"):
                with TabPane(name.capitalize(), id=f"tab-{name}"):
                    yield DataTable(id=name, cursor_type="row", zebra_stripes=True)
        yield Footer()

    async def on_mount(self) -> None:
        for name, columns in (("pods", POD_COLUMNS), ("nodes", NODE_COLUMNS), ("events", EVENT_COLUMNS)):
            self.query_one(f"#{name}", DataTable).add_columns(*columns)
        await self.action_refresh_now()
        self.set_interval(self.seconds, self.action_refresh_now)

    async def action_refresh_now(self) -> None:
        try:
            self.view = await self.look()
        except Exception as error:  # whatever it was: a screen that goes on is worth more than one that ends
            self.query_one("#summary", Static).update(f"cannot look: {printable(str(error))}")
            return
        self._draw()

    def action_sort(self, by: str) -> None:
        self.by = by
        self._draw()

    def _draw(self) -> None:
        if self.view is None:
            return
        self.query_one("#summary", Static).update(f"{self.view.summary}   sorted by {self.by}")
        rows = {
            "pods": [row.cells for row in ordered(self.view.pods, self.by)],
            "nodes": [row.cells for row in ordered(self.view.nodes, self.by)],
            "events": self.view.events,
        }
        for name, found in rows.items():
            table = self.query_one(f"#{name}", DataTable)
            at, scroll = table.cursor_row, table.scroll_y
            table.clear()
            for cells in found:
                table.add_row(*(_painted(cell) for cell in cells))
            if found:
                table.move_cursor(row=min(at, len(found) - 1), scroll=False)
                table.scroll_to(y=scroll, animate=False)


def _painted(cell: str) -> Any:
    from rich.text import Text

    return Text(printable(cell), style=_COLOURS.get(cell, ""))
