"""The events of an object, as the end of its description."""

from __future__ import annotations

from typing import Any

from peavine.cli.describe.text import Text, ago
from peavine.cli.session import Session

Object = dict[str, Any]


async def events_of(session: Session, obj: Object) -> list[Object]:
    """Events about an object, oldest first."""
    meta = obj["metadata"]
    fields = {
        "involvedObject.name": meta["name"],
        "involvedObject.namespace": meta.get("namespace", ""),
        "involvedObject.kind": obj.get("kind", ""),
        "involvedObject.uid": meta.get("uid", ""),
    }
    selector = ",".join(f"{key}={value}" for key, value in fields.items() if value)
    path = f"/api/v1/namespaces/{meta['namespace']}/events" if meta.get("namespace") else "/api/v1/events"
    listed = await session.get(path, fieldSelector=selector)
    return sorted(listed.get("items") or (), key=lambda e: e.get("lastTimestamp") or e.get("eventTime") or "")


def describe_events(text: Text, events: list[Object]) -> None:
    if not events:
        text.line(0, "Events:\t<none>")
        return
    text.line(0, "Events:")
    text.line(0, "  Type\tReason\tAge\tFrom\tMessage")
    text.line(0, "  ----\t------\t----\t----\t-------")
    for event in events:
        source = event.get("source") or {}
        component = source.get("component") or event.get("reportingComponent") or ""
        count = (event.get("series") or {}).get("count") or event.get("count") or 1
        last = (
            (event.get("series") or {}).get("lastObservedTime") or event.get("lastTimestamp") or event.get("eventTime")
        )
        first = event.get("firstTimestamp") or event.get("eventTime")
        age = f"{ago(last)} (x{count} over {ago(first)})" if count > 1 else ago(first or last)
        message = (event.get("message") or "").strip()
        text.line(0, f"  {event.get('type', '')}\t{event.get('reason', '')}\t{age}\t{component}\t{message}")
