"""`apply view-last-applied` and `apply set-last-applied`."""

from __future__ import annotations

from types import ModuleType, SimpleNamespace
from typing import Any, cast

import orjson

from peavine.cli.changes import Changes
from peavine.cli.failures import CliError
from peavine.cli.flags import DRY_RUN, FILES, OUTPUT, SELECTOR, Parsed, boolean
from peavine.cli.output.documents import to_json, to_yaml
from peavine.cli.resources import file_targets, targets
from peavine.cli.session import Session


def command(name: str) -> ModuleType:
    if name == "view-last-applied":
        flags: tuple[Any, ...] = (*FILES, SELECTOR, OUTPUT, boolean("all", help="Select all resources."))
        return cast(
            ModuleType,
            SimpleNamespace(FLAGS=flags, run=_view, __doc__="View the latest last-applied-configuration annotations."),
        )
    flags = (*FILES, OUTPUT, DRY_RUN, boolean("create-annotation", help="Create the annotation if it is missing."))
    return cast(
        ModuleType,
        SimpleNamespace(FLAGS=flags, run=_set, __doc__="Set the latest last-applied-configuration annotations."),
    )


async def _view(session: Session, flags: Parsed) -> int:
    from peavine.cli.commands.apply import LAST_APPLIED

    async for target in targets(session, flags, command="apply view-last-applied"):
        text = ((target.object or {}).get("metadata", {}).get("annotations") or {}).get(LAST_APPLIED)
        if not text:
            raise CliError(f"no last-applied-configuration annotation found on resource: {target.name}")
        value = orjson.loads(text)
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
