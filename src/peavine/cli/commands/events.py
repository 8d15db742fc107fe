"""List events."""

from __future__ import annotations

from peavine.cli.describe.text import ago
from peavine.cli.failures import CliError
from peavine.cli.flags import ALL_NAMESPACES, PRINTING, Parsed, boolean, integer, string, strings
from peavine.cli.output.printers import printer_for
from peavine.cli.output.tables import TableWriter
from peavine.cli.session import Session

FLAGS = (
    *PRINTING, ALL_NAMESPACES,
    string("for", help="Filter events to only those pertaining to the specified resource."),
    strings("types", help="Output only events of given types."),
    boolean("no-headers", help="When using the default output format, don't print headers."),
    boolean("watch", "w", help="After listing the requested events, watch for more events."),
    integer("chunk-size", default=500, help="Return large lists in chunks rather than all at once."),
)  # fmt: skip


async def run(session: Session, flags: Parsed) -> int:
    fields = []
    if any(word.lower() not in ("normal", "warning") for word in flags["types"]):
        raise CliError("valid --types are Normal or Warning")
    if flags["for"]:
        resource, _, name = flags["for"].partition("/")
        mapping = await session.mapping(resource)
        fields = [f"involvedObject.kind={mapping.kind}", f"involvedObject.name={name}"]
    everywhere = flags["all-namespaces"]
    path = "/api/v1/events" if everywhere else f"/api/v1/namespaces/{session.namespace}/events"
    events = (await session.get(path, fieldSelector=",".join(fields))).get("items") or []
    if flags["types"]:
        wanted = {word.lower() for word in flags["types"]}
        events = [event for event in events if event.get("type", "").lower() in wanted]
    events.sort(
        key=lambda e: (
            (e.get("series") or {}).get("lastObservedTime") or e.get("lastTimestamp") or e.get("eventTime") or ""
        )
    )
    printer = printer_for(flags)
    if printer is not None:
        for event in events:
            event.update(apiVersion="v1", kind="Event")
        printer({"apiVersion": "v1", "kind": "EventList", "metadata": {}, "items": events}, session.out)
        return 0
    if not events:
        session.warn("No events found." if everywhere else f"No events found in {session.namespace} namespace.")
        return 0
    writer = TableWriter(session.out)
    if not flags["no-headers"]:
        writer.row([*(["NAMESPACE"] if everywhere else []), "LAST SEEN", "TYPE", "REASON", "OBJECT", "MESSAGE"])
    for event in events:
        about = event["involvedObject"]
        count = (event.get("series") or {}).get("count") or event.get("count") or 1
        last = (
            (event.get("series") or {}).get("lastObservedTime") or event.get("lastTimestamp") or event.get("eventTime")
        )
        first = event.get("firstTimestamp") or event.get("eventTime")
        seen = f"{ago(last)} (x{count} over {ago(first)})" if count > 1 else ago(first or last)
        before = [event["metadata"]["namespace"]] if everywhere else []
        what = f"{about.get('kind')}/{about.get('name')}"
        writer.row(
            [*before, seen, event.get("type", ""), event.get("reason", ""), what, (event.get("message") or "").strip()]
        )
    writer.flush()
    return 0
