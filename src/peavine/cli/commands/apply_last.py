"""`apply view-last-applied`, `set-last-applied` and `edit-last-applied`."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType, SimpleNamespace
from typing import Any, cast

import orjson

from peavine.cli.changes import Changes
from peavine.cli.commands.edit import NOTHING_GIVEN
from peavine.cli.editing import edit_until_saved
from peavine.cli.failures import CliError
from peavine.cli.flags import DRY_RUN, FIELD_MANAGER, FILES, OUTPUT, PRINTING, SELECTOR, Flag, Parsed, boolean
from peavine.cli.output.documents import to_json, to_yaml
from peavine.cli.resources import Target, file_targets, has_files, targets
from peavine.cli.session import Session

Object = dict[str, Any]
_VALIDATE = Flag(
    "validate", "", "string", "strict", "Must be one of: strict (or true), warn, ignore (or false).", "strict"
)
_EDIT_HEADER = """# Please edit the 'last-applied-configuration' annotations below.
# Lines beginning with a '#' will be ignored, and an empty file will abort the edit.
#
"""
_HINT = "See 'kubectl apply view-last-applied -h' for help and examples"
_NONE_FOUND = (
    "no last-applied-configuration annotation found on resources, to create the annotation, use command `kubectl apply "
    "set-last-applied --create-annotation`"
)


def command(name: str) -> ModuleType:
    run, flags, doc = _COMMANDS[name]
    return cast(ModuleType, SimpleNamespace(FLAGS=flags, run=run, __doc__=doc))


def _last_of(obj: Object | None) -> Object | None:
    from peavine.cli.commands.apply import LAST_APPLIED

    text = ((obj or {}).get("metadata", {}).get("annotations") or {}).get(LAST_APPLIED)
    return orjson.loads(text) if text else None


def _checked(flags: Parsed) -> None:
    if not flags.arguments and not has_files(flags):
        raise CliError(NOTHING_GIVEN)


async def _view(session: Session, flags: Parsed) -> int:
    if flags["output"] not in ("", "json", "yaml"):
        raise CliError(
            f"Unexpected -o output mode: {flags['output']}, the flag 'output' must be one of yaml|json\n{_HINT}"
        )
    _checked(flags)
    async for target in targets(session, flags, command="apply view-last-applied"):
        value = _last_of(target.object)
        if value is None:
            raise CliError(f"no last-applied-configuration annotation found on resource: {target.name}")
        session.out.write(to_json(value) if flags["output"] == "json" else to_yaml(value))
    return 0


async def _set(session: Session, flags: Parsed) -> int:
    from peavine.cli.commands.apply import LAST_APPLIED, last_applied

    changes = Changes(session, flags, "kubectl-last-applied")
    async for target in file_targets(session, flags):
        live = await session.get(target.path)
        if LAST_APPLIED not in (live["metadata"].get("annotations") or {}) and not flags["create-annotation"]:
            raise CliError(
                f"no last-applied-configuration annotation found on resource: {target.name}, to create the annotation, "
                "run the command with --create-annotation"
            )
        body = {"metadata": {"annotations": {LAST_APPLIED: last_applied(target.object or {}).decode()}}}
        answer = live if changes.dry_run == "client" else await changes.patch(target, body, "merge")
        changes.report(target, "configured", answer)
    return changes.code


async def _edit(session: Session, flags: Parsed) -> int:
    _checked(flags)
    changes = Changes(session, flags, "kubectl-client-side-apply")
    changes.printer = None
    found: list[tuple[Target, Object]] = []
    async for target in targets(session, flags, command="apply edit-last-applied"):
        last = _last_of(target.object)
        if last is not None:
            found.append((target, last))
    if not found:
        raise CliError(_NONE_FOUND)
    for target, last in found:
        await edit_until_saved(session, flags, target, last, _EDIT_HEADER, _saver(changes, target))
    return changes.code


def _saver(changes: Changes, target: Target) -> Callable[[Object], Any]:
    from peavine.cli.commands.apply import LAST_APPLIED, last_applied

    async def save(after: Object) -> None:
        if not isinstance(after.get("metadata"), dict):
            after["metadata"] = {}
        body = {"metadata": {"annotations": {LAST_APPLIED: last_applied(after).decode()}}}
        changes.report(target, "edited", await changes.patch(target, body, "merge"))

    return save


_COMMANDS: dict[str, tuple[Any, tuple[Flag, ...], str]] = {
    "view-last-applied": (
        _view,
        (*FILES, SELECTOR, OUTPUT, boolean("all", help="Select all resources.")),
        "View the latest last-applied-configuration annotations.",
    ),
    "set-last-applied": (
        _set,
        (*FILES, *PRINTING, DRY_RUN, boolean("create-annotation", help="Create the annotation if it is missing.")),
        "Set the latest last-applied-configuration annotations.",
    ),
    "edit-last-applied": (
        _edit,
        (
            *FILES, *PRINTING, FIELD_MANAGER, _VALIDATE,
            boolean("windows-line-endings", help="Defaults to the line ending native to your platform."),
        ),
        "Edit the latest last-applied-configuration annotations of resources from the default editor.",
    ),
}  # fmt: skip
