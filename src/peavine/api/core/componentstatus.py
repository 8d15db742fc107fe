"""ComponentStatus: the health of the control plane, as asked for; never stored."""

from __future__ import annotations

from typing import Any

from peavine.api.printing import NAME, Column, name

Object = dict[str, Any]

DEPRECATION = "v1 ComponentStatus is deprecated in v1.19+"

COLUMNS = (
    NAME,
    Column("Status", description="Status of the component conditions"),
    Column("Message", description="Message of the component conditions"),
    Column("Error", description="Error of the component conditions"),
)


def row(obj: Object) -> list[Any]:
    for entry in obj.get("conditions") or []:
        if entry.get("type") == "Healthy":
            word = {"True": "Healthy", "False": "Unhealthy"}.get(entry.get("status", ""), "Unknown")
            return [name(obj), word, entry.get("message") or "", entry.get("error") or ""]
    return [name(obj), "Unknown", "", ""]
