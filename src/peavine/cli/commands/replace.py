"""Replace a resource by file name or stdin."""

from __future__ import annotations

import sys

from peavine.cli.changes import Changes
from peavine.cli.failures import CliError
from peavine.cli.flags import DRY_RUN, FIELD_MANAGER, FILES, PRINTING, Flag, Parsed, boolean, duration, integer, string
from peavine.cli.resources import file_targets, has_files
from peavine.cli.session import Session
from peavine.machinery.errors import ApiError

CONCURRENT = True
FLAGS = (
    *PRINTING, *FILES, DRY_RUN, FIELD_MANAGER,
    Flag("validate", "", "string", "strict", "Must be one of: strict (or true), warn, ignore (or false).", "strict"),
    boolean("force", help="If true, delete the resource first and create it again."),
    boolean("save-config", help="If true, the configuration of current object will be saved in its annotation."),
    Flag("cascade", "", "string", "background", 'Must be "background", "orphan", or "foreground".', "background"),
    integer("grace-period", default=-1, help="Seconds given to the resource to terminate gracefully."),
    duration("timeout", help="The length of time to wait before giving up on a delete."),
    boolean("wait", help="If true, wait for resources to be gone before returning."),
    string("raw", help="Raw URI to PUT to the server."),
    string("subresource", help="If specified, replace will operate on the subresource of the requested object."),
)  # fmt: skip


async def run(session: Session, flags: Parsed) -> int:
    if flags["raw"]:
        data = sys.stdin.buffer.read() if flags["filename"] in ((), ("-",)) else _read(flags["filename"][0])
        answer = await session.client.raw("PUT", flags["raw"], body=data)
        session.out.write((await answer.read()).decode())
        return 0
    if not has_files(flags):
        raise CliError("must specify one of -f and -k")
    changes = Changes(session, flags, "kubectl-replace")
    async for target in file_targets(session, flags):
        try:
            if flags["force"]:
                await _again(session, changes, target)
                continue
            if flags["save-config"]:
                from peavine.cli.commands.apply import with_last_applied

                target.object = with_last_applied(target.object or {})
            if changes.dry_run == "client":
                changes.report(target, "replaced")
                continue
            path = target.mapping.gvr.path(target.namespace, target.name, flags["subresource"] or None)
            query = changes.query(fieldValidation=changes.validation())
            changes.report(target, "replaced", await changes.send("PUT", path, target.object, query=query))
        except ApiError as error:
            changes.fail(error, f'error when replacing "{target.source}"')
    return changes.code


def _read(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read()


async def _again(session: Session, changes: Changes, target) -> None:  # type: ignore[no-untyped-def]
    from peavine.cli.commands.delete import _gone

    options = {"kind": "DeleteOptions", "apiVersion": "v1", "propagationPolicy": "Background", "gracePeriodSeconds": 0}
    wished = target.object
    try:
        target.object = await changes.send("DELETE", target.path, options, query={})
        session.print(f'{target.mapping.named} "{target.name}" deleted')
        await _gone(session, target)
    except ApiError as error:
        if error.code != 404:
            raise
    target.object = wished
    wished["metadata"].pop("resourceVersion", None)
    changes.report(target, "replaced", await changes.create(target, validate=True))
