"""Edit a resource from the default editor."""

from __future__ import annotations

from typing import Any

import orjson

from peavine.cli.changes import Changes
from peavine.cli.editing import edit_until_saved
from peavine.cli.failures import CliError
from peavine.cli.flags import FIELD_MANAGER, FILES, PRINTING, Flag, Parsed, boolean, string
from peavine.cli.output.printers import without_managed
from peavine.cli.resources import Target, has_files, targets
from peavine.cli.session import Session
from peavine.cli.threeway import three_way

FLAGS = (
    *PRINTING, *FILES, FIELD_MANAGER,
    boolean("save-config", help="If true, the configuration of current object will be saved in its annotation."),
    boolean("output-patch", help="Output the patch if the resource is edited."),
    string("subresource", help="If specified, edit will operate on the subresource of the requested object."),
    boolean("windows-line-endings", help="Defaults to the line ending native to your platform."),
    Flag("validate", "", "string", "strict", "Must be one of: strict (or true), warn, ignore (or false).", "strict"),
)  # fmt: skip
NOTHING_GIVEN = (
    "You must provide one or more resources by argument or filename.\nExample resource specifications include:\n"
    "   '-f rsrc.yaml'\n   '--filename=rsrc.json'\n   '<resource> <name>'\n   '<resource>'"
)
HEADER = """# Please edit the object below. Lines beginning with a '#' will be ignored,
# and an empty file will abort the edit. If an error occurs while saving this file will be
# reopened with the relevant failures.
#
"""


async def run(session: Session, flags: Parsed) -> int:
    if not flags.arguments and not has_files(flags):
        raise CliError(NOTHING_GIVEN)
    changes = Changes(session, flags, "kubectl-edit")
    changes.printer = None
    async for target in targets(session, flags, command="edit", everything=True):
        if flags["subresource"]:
            target.object = await session.get(f"{target.path}/{flags['subresource']}")
        await _edit(session, flags, changes, target)
    return changes.code


async def _edit(session: Session, flags: Parsed, changes: Changes, target: Target) -> None:
    from peavine.cli.commands.apply import _patch_type, with_last_applied

    before = without_managed(target.object or {}, flags["show-managed-fields"])
    type = _patch_type(target)

    async def save(after: dict[str, Any]) -> None:
        if flags["save-config"]:
            after = with_last_applied(after)
        patch = three_way(before, after, before, type)
        how = "strategic" if type else "merge"
        if flags["output-patch"]:
            session.print(f"Patch: {orjson.dumps(patch).decode()}")
        subresource = flags["subresource"] or None
        answer = await changes.patch(target, patch, how, subresource=subresource, fieldValidation=changes.validation())
        changes.report(target, "edited", answer)

    await edit_until_saved(session, flags, target, before, HEADER, save)
