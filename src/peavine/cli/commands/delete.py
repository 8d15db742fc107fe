"""Delete resources by file names, stdin, resources and names, or by resources and label selector."""

from __future__ import annotations

import asyncio
from typing import Any

from peavine.cli.changes import Changes
from peavine.cli.failures import CliError
from peavine.cli.flags import (
    ALL_NAMESPACES,
    DRY_RUN,
    FIELD_SELECTOR,
    FILES,
    OUTPUT,
    SELECTOR,
    Flag,
    Parsed,
    boolean,
    duration,
    integer,
    string,
)
from peavine.cli.resources import Target, file_targets, has_files, namespace_of, queries
from peavine.cli.session import Session
from peavine.machinery.errors import ApiError

CONCURRENT = True
FLAGS = (
    *FILES, SELECTOR, FIELD_SELECTOR, ALL_NAMESPACES, OUTPUT, DRY_RUN,
    boolean("all", help="Delete all resources, in the namespace of the specified resource types."),
    Flag("cascade", "", "string", "background", 'Must be "background", "orphan", or "foreground".', "background"),
    boolean("force", help="If true, immediately remove resources from API and bypass graceful deletion."),
    integer("grace-period", default=-1, help="Seconds given to the resource to terminate gracefully."),
    boolean("ignore-not-found", help='Treat "resource not found" as a successful delete.'),
    boolean("now", help="If true, resources are signaled for immediate shutdown (same as --grace-period=1)."),
    duration("timeout", help="The length of time to wait before giving up on a delete."),
    boolean("wait", default=True, help="If true, wait for resources to be gone before returning."),
    boolean("interactive", "i", help="If true, delete resource only when user confirms."),
    string("raw", help="Raw URI to DELETE to the server."),
)  # fmt: skip
_POLL_SECONDS = 0.5


async def run(session: Session, flags: Parsed) -> int:
    if flags["raw"]:
        answer = await session.client.raw("DELETE", flags["raw"])
        session.out.write((await answer.read()).decode())
        return 0
    changes = Changes(session, flags, "")
    options = _options(session, flags)
    targets = await _targets(session, flags, changes)
    if flags["interactive"] and targets and not _confirmed(session, targets):
        return 0
    gone = []
    for target in targets:
        if await _delete(session, flags, changes, target, options):
            gone.append(target)
    if flags["wait"] and changes.dry_run == "none":
        await _wait(session, gone, flags["timeout"])
    if not targets and not changes.failed:
        session.out.write("No resources found\n")
    return changes.code


def _options(session: Session, flags: Parsed) -> dict[str, Any]:
    grace = flags["grace-period"]
    if flags["now"]:
        if grace != -1:
            raise CliError("--now and --grace-period cannot be specified together")
        grace = 1
    if grace == 0 and not flags["force"]:
        grace = 1
    if flags["force"]:
        if grace > 0:
            raise CliError("--force and --grace-period greater than 0 cannot be specified together")
        grace = 0
        session.warn(
            "Warning: Immediate deletion does not wait for confirmation that the running resource has been terminated. "
            "The resource may continue to run on the cluster indefinitely."
        )
    policy = {"background": "Background", "orphan": "Orphan", "foreground": "Foreground", "true": "Background",
              "false": "Orphan"}.get(flags["cascade"])  # fmt: skip
    if policy is None:
        raise CliError(f'invalid cascade value ({flags["cascade"]}). Must be "background", "foreground", or "orphan"')
    options: dict[str, Any] = {"kind": "DeleteOptions", "apiVersion": "v1", "propagationPolicy": policy}
    if grace >= 0:
        options["gracePeriodSeconds"] = grace
    return options


async def _targets(session: Session, flags: Parsed, changes: Changes) -> list[Target]:
    if has_files(flags):
        return [target async for target in file_targets(session, flags)]
    if not flags.arguments:
        raise CliError("You must provide one or more resources by argument or filename.\nExample resource "
                       "specifications include:\n   '-f rsrc.yaml'\n   '--filename=rsrc.json'\n   '<resource> <name>'\n"
                       "   '<resource>'", code=1)  # fmt: skip
    found: list[Target] = []
    for query in await queries(session, flags.arguments):
        namespace = namespace_of(session, query.mapping, flags)
        if query.names:
            if flags["selector"]:
                raise CliError("name cannot be provided when a selector is specified")
            found += [Target(query.mapping, namespace, name) for name in query.names]
            continue
        selector, fields = flags["selector"], flags["field-selector"]
        if not (selector or fields or flags["all"]):
            raise CliError("resource(s) were provided, but no name was specified")
        listed = await session.get(query.mapping.gvr.path(namespace), labelSelector=selector, fieldSelector=fields)
        for item in listed.get("items") or ():
            found.append(Target(query.mapping, item["metadata"].get("namespace"), item["metadata"]["name"], item))
    return found


def _confirmed(session: Session, targets: list[Target]) -> bool:
    session.print("You are about to delete the following " + f"{len(targets)} resource(s):")
    for target in targets:
        session.print(target.shown)
    session.out.write("Do you want to continue? (y/N): ")
    session.out.flush()
    import sys

    if sys.stdin.readline().strip().lower() in ("y", "yes"):
        return True
    session.print("deletion is cancelled")
    return False


async def _delete(session: Session, flags: Parsed, changes: Changes, target: Target, options: dict[str, Any]) -> bool:
    query = {"dryRun": "All"} if changes.dry_run == "server" else {}
    try:
        if changes.dry_run == "client":
            await session.get(target.path)
        else:
            answer = await changes.send("DELETE", target.path, options, query=query)
            target.object = answer
    except ApiError as error:
        if error.code == 404 and flags["ignore-not-found"]:
            return False
        changes.fail(error, f'error when deleting "{target.source}"' if target.source else "")
        return False
    if flags["output"] == "name":
        session.print(target.shown)
        return True
    done = "force deleted" if options.get("gracePeriodSeconds") == 0 else "deleted"
    suffix = {"client": " (dry run)", "server": " (server dry run)"}.get(changes.dry_run, "")
    session.print(f'{target.mapping.named} "{target.name}" {done}{suffix}')
    session.out.flush()
    return True


async def _wait(session: Session, targets: list[Target], timeout_seconds: float) -> None:
    """Return once every object is gone, or another of the same name has taken its place."""
    try:
        async with asyncio.timeout(timeout_seconds or None):
            for target in targets:
                await _gone(session, target)
    except TimeoutError:
        raise CliError("timed out waiting for the condition") from None


async def _gone(session: Session, target: Target) -> None:
    answer = target.object or {}
    uid = (answer.get("metadata") or {}).get("uid") or ((answer.get("details") or {}).get("uid"))
    while True:
        try:
            live = await session.get(target.path)
        except ApiError as error:
            if error.code in (404, 405):
                return
            raise
        if uid and live["metadata"].get("uid") != uid:
            return
        await session.client.clock.sleep(_POLL_SECONDS)
