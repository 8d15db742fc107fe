"""Display one or many resources.

Prints a table of the most important information about the specified resources. You can filter the list using a label
selector and the --selector flag.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from peavine.cli.failures import CliError, shown_api_error
from peavine.cli.flags import (
    ALL_NAMESPACES,
    FIELD_SELECTOR,
    FILES,
    PRINTING,
    SELECTOR,
    Parsed,
    boolean,
    integer,
    string,
    strings,
)
from peavine.cli.output.printers import Printer, printer_for, sort_key
from peavine.cli.output.tables import TablePrinter
from peavine.cli.resources import Query, documents, has_files, namespace_of, queries
from peavine.cli.session import Mapping, Session
from peavine.client.bodies import loads
from peavine.machinery.errors import ApiError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from peavine.cli.output.redrawn import Redrawn

FLAGS = (
    *PRINTING, *FILES, SELECTOR, FIELD_SELECTOR, ALL_NAMESPACES,
    boolean("watch", "w", help="After listing/getting the requested object, watch for changes."),
    boolean("watch-only", help="Watch for changes to the requested object(s), without listing/getting first."),
    boolean("redraw", help="With --watch on a terminal: draw the table anew in its place instead of adding lines."),
    boolean("output-watch-events", help="Output watch event objects when --watch or --watch-only is used."),
    boolean("ignore-not-found", help="If the requested object does not exist the command will return exit code 0."),
    boolean("no-headers", help="When using the default or custom-column output format, don't print headers."),
    boolean("show-kind", help="If present, list the resource type for the requested object(s)."),
    boolean("show-labels", help="When printing, show all labels as the last column."),
    strings("label-columns", "L", help="Labels that are going to be presented as columns."),
    string("sort-by", help="Sort list types using this field specification."),
    integer("chunk-size", default=500, help="Return large lists in chunks rather than all at once."),
    string("raw", help="Raw URI to request from the server."),
    boolean("server-print", default=True, help="Have the server return the appropriate table output."),
    string("subresource", help="Operate on the subresource of the requested object."),
)  # fmt: skip

TABLE = (
    "application/json;as=Table;v=v1;g=meta.k8s.io,application/json;as=Table;v=v1beta1;g=meta.k8s.io,application/json"
)
Object = dict[str, Any]
_ONE_ONLY = "watch is only supported on individual resources and resource collections - more than 1 resource was found"


async def run(session: Session, flags: Parsed) -> int:
    if flags["raw"]:
        answer = await session.client.raw("GET", flags["raw"])
        session.out.write((await answer.read()).decode())
        return 0
    printer = printer_for(flags)
    found = await _queries(session, flags)
    if not found:
        raise CliError(
            'You must specify the type of resource to get. Use "kubectl api-resources" for a complete list of '
            "supported resources.\n\nerror: Required resource not specified.\n"
            'Use "kubectl explain <resource>" for a detailed description of that resource (e.g. kubectl explain '
            "pods).\n"
            "See 'kubectl get -h' for help and examples",
            bare=True,
        )
    if any(query.names for query in found) and (flags["selector"] or flags["field-selector"]):
        raise CliError("name cannot be provided when a selector is specified")
    if flags["all-namespaces"] and any(query.names and query.mapping.namespaced for query in found):
        raise CliError("a resource cannot be retrieved by name across all namespaces")
    if flags["watch"] or flags["watch-only"]:
        return await _Watch(session, flags, found, printer).run()
    if printer is None:
        return await _tables(session, flags, found)
    return await _documents(session, flags, found, printer)


async def _queries(session: Session, flags: Parsed) -> list[Query]:
    if not has_files(flags):
        return await queries(session, flags.arguments)
    found = []
    for obj, source in documents(flags):
        mapping = await session.mapping_of(obj["apiVersion"], obj["kind"])
        if mapping is None:
            raise CliError(f'no matches for kind "{obj["kind"]}" in version "{obj["apiVersion"]}" in {source}')
        if mapping.namespaced and (obj.get("metadata") or {}).get("namespace"):
            session.flags.values["namespace"] = obj["metadata"]["namespace"]
        found.append(Query(mapping, [(obj.get("metadata") or {}).get("name", "")]))
    return found


class _Pages:
    """Requests for one query: one a name, or one a chunk of the list."""

    def __init__(self, session: Session, flags: Parsed, query: Query, accept: str) -> None:
        self.session, self.flags, self.query, self.accept = session, flags, query, accept
        self.namespace = namespace_of(session, query.mapping, flags)
        self.errors: list[ApiError] = []

    async def __aiter__(self) -> AsyncIterator[Object]:
        gvr, subresource = self.query.mapping.gvr, self.flags["subresource"] or None
        if self.query.names:
            for name in self.query.names:
                try:
                    yield await self._request(gvr.path(self.namespace, name, subresource), {})
                except ApiError as error:
                    if error.code == 404 and self.flags["ignore-not-found"]:
                        continue
                    self.errors.append(error)
            return
        query = {
            "labelSelector": self.flags["selector"],
            "fieldSelector": self.flags["field-selector"],
            "limit": self.flags["chunk-size"],
        }
        while True:
            try:
                page = await self._request(gvr.path(self.namespace), {k: v for k, v in query.items() if v})
            except ApiError as error:
                raise self._unable(error) from None
            yield page
            query["continue"] = (page.get("metadata") or {}).get("continue", "")
            if not query["continue"]:
                return

    def _unable(self, error: ApiError) -> ApiError:
        """A refused list, with what was asked for in its message."""
        if error.code in (400, 404):
            gvr = self.query.mapping.gvr
            what = f'"{gvr.group}/{gvr.version}, Resource={gvr.resource}"'
            labels, fields = self.flags["selector"], self.flags["field-selector"]
            selected = f' that match label selector "{labels}", field selector "{fields}"'
            asked = f"find {what}{selected}" if labels or fields else f"list {what}"
            error.message = f"Unable to {asked}: {error.message}"
        return error

    async def _request(self, path: str, query: Object) -> Object:
        if self.flags["sort-by"] and "Table" in self.accept:
            query = {**query, "includeObject": "Object"}
        answer = await self.session.client.raw("GET", path, query=query, headers={"Accept": self.accept})
        return loads(await answer.read())


def _table_printer(session: Session, flags: Parsed, mapping: Mapping, many: bool) -> TablePrinter:
    return TablePrinter(
        session.out,
        wide=flags["output"] == "wide",
        no_headers=flags["no-headers"],
        with_namespace=flags["all-namespaces"] and mapping.namespaced,
        with_kind=mapping.named if many or flags["show-kind"] else "",
        show_labels=flags["show-labels"],
        label_columns=flags["label-columns"],
    )


async def _tables(session: Session, flags: Parsed, found: list[Query]) -> int:
    many = len({query.mapping for query in found}) > 1
    printed, errors = 0, []
    previous: Mapping | None = None
    printer: TablePrinter | None = None
    for query in found:
        pages = _Pages(session, flags, query, TABLE)
        tables: list[Object] = []
        try:
            async for page in pages:
                if page.get("kind") != "Table":
                    raise CliError("the server does not print tables for this resource")
                if page.get("rows"):
                    tables.append(page)
        except ApiError as error:
            pages.errors.append(error)
        errors += pages.errors
        if not tables:
            continue
        table = _joined(tables, flags["sort-by"])
        if printer is None or previous != query.mapping:
            if printer is not None:
                session.print()
            printer, previous = _table_printer(session, flags, query.mapping, many), query.mapping
        printer.show(table)
        printed += len(table["rows"])
    for failure in errors:
        session.warn(shown_api_error(failure))
    if not printed and not errors and not flags["ignore-not-found"]:
        everywhere = flags["all-namespaces"] or not any(query.mapping.namespaced for query in found)
        session.warn("No resources found" if everywhere else f"No resources found in {session.namespace} namespace.")
    return 1 if errors else 0


def _joined(tables: list[Object], sort_by: str) -> Object:
    rows = [row for table in tables for row in table["rows"]]
    if sort_by:
        key = sort_key(sort_by)
        rows.sort(key=lambda row: key(row.get("object") or {}))
    return {**tables[0], "rows": rows}


async def _documents(session: Session, flags: Parsed, found: list[Query], printer: Printer) -> int:
    objects: list[Object] = []
    errors: list[ApiError] = []
    single = all(query.names for query in found) and sum(len(query.names) for query in found) == 1
    for query in found:
        pages = _Pages(session, flags, query, "application/json")
        async for page in pages:
            if query.names:
                objects.append(page)
                continue
            for item in page.get("items") or ():
                named = {"apiVersion": query.mapping.api_version, "kind": query.mapping.kind}
                objects.append({**named, **item})
        errors += pages.errors
    if flags["sort-by"]:
        objects.sort(key=sort_key(flags["sort-by"]))
    if single:
        if objects:
            printer(objects[0], session.out)
    elif objects or not errors:
        name_only = flags["output"] == "name"
        if not name_only or objects:
            printer(
                {"apiVersion": "v1", "items": objects, "kind": "List", "metadata": {"resourceVersion": ""}}, session.out
            )
    for failure in errors:
        session.warn(shown_api_error(failure))
    return 1 if errors else 0


class _Watch:
    """`--watch`: what there is, then every change, until interrupted."""

    def __init__(self, session: Session, flags: Parsed, found: list[Query], printer: Printer | None) -> None:
        if len(found) > 1:
            raise CliError(_ONE_ONLY)
        self.session, self.flags, self.query, self.printer = session, flags, found[0], printer
        self.namespace = namespace_of(session, self.query.mapping, flags)
        self.tables = _table_printer(session, flags, self.query.mapping, False)
        self.accept = TABLE if printer is None else "application/json"
        self.redrawn: Redrawn | None = None
        if flags["redraw"]:
            if not session.out.isatty():
                raise CliError("--redraw needs a terminal")
            from peavine.cli.output.redrawn import Redrawn

            self.redrawn = Redrawn(session.out, lambda: _table_printer(session, flags, self.query.mapping, False))

    async def run(self) -> int:
        import gc

        gc.enable()  # a watch may last for days
        gvr, names = self.query.mapping.gvr, self.query.names
        if len(names) > 1:
            raise CliError(_ONE_ONLY)
        fields = self.flags["field-selector"]
        if names:
            fields = f"metadata.name={names[0]}"
            await self.session.get(gvr.path(self.namespace, names[0]))
        query = {"labelSelector": self.flags["selector"], "fieldSelector": fields}
        query = {key: value for key, value in query.items() if value}
        headers = {"Accept": self.accept}
        answer = await self.session.client.raw("GET", gvr.path(self.namespace), query=query, headers=headers)
        listed = loads(await answer.read())
        if not self.flags["watch-only"]:
            self._list(listed)
        version = (listed.get("metadata") or {}).get("resourceVersion", "")
        query.update(watch="true", resourceVersion=version)
        if self.flags["request-timeout"] not in ("0", ""):
            from peavine.machinery.duration import parse_duration

            query["timeoutSeconds"] = str(int(parse_duration(self.flags["request-timeout"])))
        await self._follow(gvr.path(self.namespace), query, headers)
        return 0

    def _list(self, listed: Object) -> None:
        event = "ADDED" if self.flags["output-watch-events"] else ""
        if self.printer is None:
            if self.redrawn is not None:
                self.redrawn.take("ADDED", listed)
            elif listed.get("rows"):
                self.tables.show(listed, event=event)
        else:
            for item in listed.get("items") or ():
                named = {"apiVersion": self.query.mapping.api_version, "kind": self.query.mapping.kind, **item}
                self.printer({"type": event, "object": named} if event else named, self.session.out)
        self.session.out.flush()

    async def _follow(self, path: str, query: Object, headers: Object) -> None:
        self.session.client.unlimited()
        answer = await self.session.client.raw("GET", path, query=query, headers=headers)
        rest = b""
        try:
            async for piece in answer.chunks():
                *lines, rest = (rest + piece).split(b"\n")
                for line in lines:
                    self._event(loads(line))
        finally:
            answer.close()

    def _event(self, event: Object) -> None:
        if event["type"] == "ERROR":
            raise ApiError.from_status(event["object"])
        if event["type"] == "BOOKMARK":
            return
        shown = event["type"] if self.flags["output-watch-events"] else ""
        if self.printer is None and self.redrawn is not None:
            self.redrawn.take(event["type"], event["object"])
        elif self.printer is None:
            self.tables.show(event["object"], event=shown)
        else:
            self.printer(event if shown else event["object"], self.session.out)
        self.session.out.flush()
