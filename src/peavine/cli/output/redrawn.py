"""A watched table that stays where it is: rows change and go, the screen shows what there is now."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from typing import Any, TextIO

from peavine.cli.output.tables import TablePrinter

_HOME_AND_CLEAR = "\x1b[H\x1b[2J"
Object = dict[str, Any]


class Redrawn:
    """`printer` makes the printer of one drawing. Rows are known by their object's UID, and stay in order."""

    def __init__(self, out: TextIO, printer: Callable[[], TablePrinter]) -> None:
        self.out, self.printer = out, printer
        self.columns: list[Object] = []
        self.rows: dict[str, Object] = {}

    def take(self, event: str, table: Object) -> None:
        """Draw the table after an event; rows beyond the height of the screen are counted, not drawn."""
        self.columns = table.get("columnDefinitions") or self.columns
        for row in table.get("rows") or ():
            meta = (row.get("object") or {}).get("metadata") or {}
            key = meta.get("uid") or f"{meta.get('namespace')}/{meta.get('name')}"
            if event == "DELETED":
                self.rows.pop(key, None)
            else:
                self.rows[key] = row
        room = max(1, shutil.get_terminal_size().lines - 3)
        shown = list(self.rows.values())[:room]
        self.out.write(_HOME_AND_CLEAR)
        self.printer().show({"columnDefinitions": self.columns, "rows": shown})
        if len(self.rows) > room:
            self.out.write(f"... and {len(self.rows) - room} more\n")
        self.out.flush()
