# ruff: noqa: E501
"""Diff configurations specified by file name or stdin between the current online configuration, and as it would be if applied."""

from __future__ import annotations

import difflib

from peavine.cli.changes import Changes
from peavine.cli.failures import CliError
from peavine.cli.flags import FIELD_MANAGER, FILES, SELECTOR, Parsed, boolean
from peavine.cli.output.documents import to_yaml
from peavine.cli.output.printers import without_managed
from peavine.cli.resources import Target, file_targets, has_files
from peavine.cli.session import Session
from peavine.cli.threeway import three_way
from peavine.machinery.errors import ApiError

FLAGS = (
    *FILES, SELECTOR, FIELD_MANAGER,
    boolean("server-side", help="If true, apply runs in the server instead of the client."),
    boolean("force-conflicts", help="If true, server-side apply will force the changes against conflicts."),
    boolean("show-managed-fields", help="If true, include managed fields in the diff."),
    boolean("prune", help="Include resources that would be deleted by pruning."),
)  # fmt: skip


async def run(session: Session, flags: Parsed) -> int:
    """0 without differences, 1 with, above 1 for errors."""
    if not has_files(flags):
        raise CliError("must specify one of -f and -k", code=2)
    differs = False
    async for target in file_targets(session, flags):
        live, merged = await _both(session, flags, target)
        keep = flags["show-managed-fields"]
        old = to_yaml(without_managed(live, keep)) if live else ""
        new = to_yaml(without_managed(merged, keep))
        if old == new:
            continue
        differs = True
        m = target.mapping
        name = f"{m.group + '.' if m.group else ''}{m.version}.{m.kind}.{target.namespace or ''}.{target.name}"
        lines = difflib.unified_diff(old.splitlines(), new.splitlines(), f"LIVE/{name}", f"MERGED/{name}", lineterm="")
        session.print(f"diff -u -N LIVE/{name} MERGED/{name}")
        session.out.write("".join(line + "\n" for line in lines))
    return 1 if differs else 0


async def _both(session: Session, flags: Parsed, target: Target):  # type: ignore[no-untyped-def]
    flags.values["dry-run"] = "server"
    changes = Changes(session, flags, "kubectl-client-side-apply")
    try:
        live = await session.get(target.path)
    except ApiError as error:
        if error.code != 404:
            raise
        return None, await changes.create(target)
    if flags["server-side"]:
        import orjson

        force = "true" if flags["force-conflicts"] else "false"
        return live, await changes.patch(target, orjson.dumps(target.object), "apply", force=force)
    import orjson

    from peavine.cli.commands.apply import LAST_APPLIED, _patch_type

    original = orjson.loads((live["metadata"].get("annotations") or {}).get(LAST_APPLIED) or "{}")
    type = _patch_type(target)
    modified = target.object or {}
    modified["metadata"].setdefault("annotations", {})
    patch = three_way(original, modified, live, type)
    merged = await changes.patch(target, patch, "strategic" if type else "merge") if patch else live
    return live, merged
