"""Create a resource from a file or from stdin, or one of the common kinds from flags."""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any

from peavine.cli.changes import Changes
from peavine.cli.failures import CliError
from peavine.cli.flags import (
    DRY_RUN,
    FIELD_MANAGER,
    FILES,
    GLOBAL,
    PRINTING,
    SELECTOR,
    Flag,
    Parsed,
    boolean,
    first_word,
    string,
)  # fmt: skip
from peavine.cli.resources import Target, file_targets, has_files
from peavine.cli.session import Session
from peavine.machinery.errors import ApiError

VALIDATE = Flag(
    "validate", "", "string", "strict", "Must be one of: strict (or true), warn, ignore (or false).", "strict"
)
SAVE_CONFIG = boolean("save-config", help="If true, the configuration of the object will be saved in its annotation.")
FLAGS = (
    *PRINTING, *FILES, SELECTOR, DRY_RUN, FIELD_MANAGER, VALIDATE, SAVE_CONFIG,
    boolean("edit", help="Edit the API resource before creating"),
    boolean("windows-line-endings", help="Only relevant if --edit=true."),
    string("raw", help="Raw URI to POST to the server."),
)  # fmt: skip


def subcommand(rest: list[str]) -> tuple[ModuleType, str, list[str]]:
    from peavine.cli.commands import generators

    named = first_word(rest, (*GLOBAL, *FLAGS)) is not None
    if named and not any(word.startswith(("-f", "--filename", "--raw", "-k")) for word in rest):
        return generators.find(rest)
    return sys.modules[__name__], "", rest


async def run(session: Session, flags: Parsed) -> int:
    if flags["raw"]:
        data = sys.stdin.buffer.read() if flags["filename"] in ((), ("-",)) else _read(flags["filename"][0])
        answer = await session.client.raw("POST", flags["raw"], body=data)
        session.out.write((await answer.read()).decode())
        return 0
    if not has_files(flags):
        raise CliError("must specify one of -f and -k")
    changes = Changes(session, flags, "kubectl-create")
    async for target in file_targets(session, flags):
        try:
            if flags["edit"]:
                await _edited(session, changes, flags, target)
            else:
                await create(changes, flags, target)
        except ApiError as error:
            changes.fail(error, f'error when creating "{target.source}"')
    return changes.code


async def _edited(session: Session, changes: Changes, flags: Parsed, target: Target) -> None:
    """Create what the user makes of the object in an editor; left as it is, nothing is created."""
    from peavine.cli.commands.edit import HEADER
    from peavine.cli.editing import edit_until_saved

    async def save(after: dict[str, Any]) -> None:
        target.object = after
        await create(changes, flags, target)

    await edit_until_saved(session, flags, target, target.object or {}, HEADER, save)


def _read(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read()


async def create(changes: Changes, flags: Parsed, target) -> None:  # type: ignore[no-untyped-def]
    """Create one object and say so."""
    if flags["save-config"]:
        from peavine.cli.commands.apply import with_last_applied

        target.object = with_last_applied(target.object)
    if changes.dry_run != "client":
        target.object = await changes.create(target, validate=True)
        target.name = target.object["metadata"]["name"]
    changes.report(target, "created", target.object)


def __getattr__(name: str) -> Any:
    if name != "SUBCOMMANDS":
        raise AttributeError(name)
    from peavine.cli.commands.generators import SUBCOMMANDS

    return SUBCOMMANDS
