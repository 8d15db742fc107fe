# ruff: noqa: E501
"""Show details of a specific resource or group of resources."""

from __future__ import annotations

from peavine.cli.describe.events import describe_events, events_of
from peavine.cli.failures import CliError, shown_api_error
from peavine.cli.flags import ALL_NAMESPACES, FILES, SELECTOR, Parsed, boolean, integer
from peavine.cli.resources import Target, file_targets, has_files, namespace_of, queries
from peavine.cli.session import Session
from peavine.machinery.errors import ApiError

FLAGS = (
    *FILES, SELECTOR, ALL_NAMESPACES,
    boolean("show-events", default=True, help="If true, display events related to the described object."),
    integer("chunk-size", default=500, help="Return large lists in chunks rather than all at once."),
)  # fmt: skip

_PREFIX = "name prefix"  # where a target came from that was only named by its beginning


async def run(session: Session, flags: Parsed) -> int:
    found, errors = await _targets(session, flags)
    first = True
    for target in found:
        said = await describe(session, target, flags["show-events"])
        if target.source == _PREFIX:
            session.out.write(said + "\n")
            continue
        session.out.write(said if first else "\n\n" + said)
        first = False
    for error in errors:
        session.warn(shown_api_error(error))
    if not found and not errors:
        everywhere = flags["all-namespaces"]
        session.warn("No resources found" + ("" if everywhere else f" in {session.namespace} namespace."))
    return 1 if errors else 0


async def _targets(session: Session, flags: Parsed) -> tuple[list[Target], list[ApiError]]:
    found: list[Target] = []
    errors: list[ApiError] = []
    if has_files(flags):
        found = [target async for target in file_targets(session, flags)]
        for target in found:
            target.object = await session.get(target.path)
        return found, errors
    asked = await queries(session, flags.arguments, command="describe")
    if not asked:
        raise CliError(
            'You must specify the type of resource to describe. Use "kubectl api-resources" for a complete list of supported resources.\n',
        )
    for query in asked:
        namespace = namespace_of(session, query.mapping, flags)
        gvr = query.mapping.gvr
        if not query.names:
            listed = await session.get(gvr.path(namespace), labelSelector=flags["selector"])
            items = listed.get("items") or []
        else:
            items = []
            for name in query.names:
                try:
                    items.append(await session.get(gvr.path(namespace, name)))
                except ApiError as error:
                    if error.code != 404:
                        raise
                    every = (await session.get(gvr.path(namespace))).get("items") or []
                    close = [item for item in every if item["metadata"]["name"].startswith(name)]
                    for item in close:
                        item.update(apiVersion=query.mapping.api_version, kind=query.mapping.kind)
                        found.append(Target(query.mapping, namespace, item["metadata"]["name"], item, _PREFIX))
                    if not close:
                        errors.append(error)
        for item in items:
            item.update(apiVersion=query.mapping.api_version, kind=query.mapping.kind)
            found.append(Target(query.mapping, item["metadata"].get("namespace"), item["metadata"]["name"], item))
    return found, errors


async def describe(session: Session, target: Target, show_events: bool = True) -> str:
    """All that there is to say of one object."""
    from peavine.cli.describe.generic import describe_any
    from peavine.cli.describe.kinds import KINDS, WITHOUT_EVENTS
    from peavine.cli.describe.pods import describe_pod

    obj = target.object or {}
    identity = (target.mapping.group, target.mapping.kind)
    if identity == ("", "Pod"):
        text = describe_pod(obj)
    elif identity in KINDS:
        text = await KINDS[identity](session, obj)
    else:
        text = describe_any(obj)
    if show_events and identity not in WITHOUT_EVENTS:
        describe_events(text, await events_of(session, obj))
    return str(text)
