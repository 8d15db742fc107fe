"""Print the supported API resources on the server."""

from __future__ import annotations

from peavine.cli.failures import CliError
from peavine.cli.flags import Flag, Parsed, boolean, string, strings
from peavine.cli.output.tables import TableWriter
from peavine.cli.session import Mapping, Session

FLAGS = (
    string("api-group", help="Limit to resources in the specified API group."),
    boolean("cached", help="Use the cached list of resources if available."),
    strings("categories", help="Limit to resources that belong to the specified categories."),
    Flag("namespaced", "", "bool", None, "If false, non-namespaced resources will be returned."),
    boolean("no-headers", help="When using the default or custom-column output format, don't print headers."),
    string("output", "o", help="Output format. One of: (json, yaml, name, wide)."),
    string("sort-by", help="If non-empty, sort list of resources using specified field: (name, kind)."),
    strings("verbs", help="Limit to resources that support the specified verbs."),
)


async def run(session: Session, flags: Parsed) -> int:
    if flags.arguments:
        raise CliError(
            f"unexpected arguments: [{' '.join(flags.arguments)}]\nSee 'kubectl api-resources -h' for help and examples"
        )
    if flags["output"] not in ("", "wide", "name", "json", "yaml"):
        raise CliError(f"--output {flags['output']} is not available")
    if flags["sort-by"] not in ("", "name", "kind"):
        raise CliError("--sort-by accepts only name or kind")
    seen: set[tuple[str, str]] = set()
    found: list[Mapping] = []
    for mapping in await session.mappings(refresh=not flags["cached"]):
        if (mapping.group, mapping.plural) in seen or not mapping.verbs:
            continue
        seen.add((mapping.group, mapping.plural))
        if "api-group" in flags.given and mapping.group != flags["api-group"]:
            continue
        if "namespaced" in flags.given and mapping.namespaced != flags["namespaced"]:
            continue
        if not set(flags["verbs"]) <= set(mapping.verbs) or not set(flags["categories"]) <= set(mapping.categories):
            continue
        found.append(mapping)
    if flags["sort-by"]:
        found.sort(key=lambda m: m.kind if flags["sort-by"] == "kind" else m.plural)
    else:
        found.sort(key=lambda m: (m.group, m.plural))
    _print(session, flags, found)
    return 0


def _print(session: Session, flags: Parsed, found: list[Mapping]) -> None:
    if flags["output"] == "name":
        for mapping in found:
            session.print(f"{mapping.plural}.{mapping.group}" if mapping.group else mapping.plural)
        return
    if flags["output"] in ("json", "yaml"):
        from peavine.cli.output.documents import to_json, to_yaml

        rows = [{"name": m.plural, "kind": m.kind, "namespaced": m.namespaced, "verbs": list(m.verbs), "group": m.group,
                 "version": m.version, "shortNames": list(m.short_names)} for m in found]  # fmt: skip
        document = {"apiVersion": "v1", "groupVersion": "", "kind": "APIResourceList", "resources": rows}
        session.out.write((to_json if flags["output"] == "json" else to_yaml)(document))
        return
    writer = TableWriter(session.out)
    wide = flags["output"] == "wide"
    if not flags["no-headers"]:
        writer.row(
            ["NAME", "SHORTNAMES", "APIVERSION", "NAMESPACED", "KIND", *(["VERBS", "CATEGORIES"] if wide else [])]
        )
    for m in found:
        more = [",".join(m.verbs), ",".join(m.categories)] if wide else []
        writer.row(
            [m.plural, ",".join(m.short_names), m.api_version, "true" if m.namespaced else "false", m.kind, *more]
        )
    writer.flush()
