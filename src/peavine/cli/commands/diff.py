# ruff: noqa: E501
"""Diff configurations specified by file name or stdin between the current online configuration, and as it would be if applied."""

from __future__ import annotations

import difflib
import os
import shlex
import subprocess
import tempfile
from typing import Any

from peavine.cli.changes import Changes
from peavine.cli.commands.apply import selected
from peavine.cli.failures import CliError
from peavine.cli.flags import FIELD_MANAGER, FILES, SELECTOR, Parsed, array, boolean, integer
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
    integer("concurrency", default=1, help="Number of objects to process in parallel; they are asked for one by one."),
    array("prune-allowlist", help="Overwrite the default allowlist with <group/version/kind> for --prune"),
    boolean("prune", help="Include resources that would be deleted by pruning."),
)  # fmt: skip


async def run(session: Session, flags: Parsed) -> int:
    """0 without differences, 1 with, above 1 for errors."""
    if not has_files(flags):
        raise CliError("must specify one of -f and -k", code=1)
    with tempfile.TemporaryDirectory(prefix="LIVE-") as live, tempfile.TemporaryDirectory(prefix="MERGED-") as merged:
        seen: list[Target] = []
        async for target in file_targets(session, flags):
            if flags["selector"] and not selected(target, flags["selector"]):
                continue
            seen.append(target)
            before, after = _masked(*await _both(session, flags, target))
            _write(live, target, before, flags)
            _write(merged, target, after, flags)
        if flags["prune"]:
            from peavine.cli.prune import prunable

            for target in await prunable(session, flags, seen):
                _write(live, target, target.object, flags)
        session.out.flush()
        return _compared(session, live, merged)


def _write(folder: str, target: Target, obj: Any, flags: Parsed) -> None:
    """The file of one object; `null` for one that is not there."""
    m = target.mapping
    name = f"{m.group + '.' if m.group else ''}{m.version}.{m.kind}.{target.namespace or ''}.{target.name}"
    with open(os.path.join(folder, name.replace("/", "-")), "w") as file:
        file.write(to_yaml(without_managed(obj, flags["show-managed-fields"])) if obj else "null\n")


def _masked(before: Any, after: Any) -> tuple[Any, Any]:
    """Both forms of a Secret with their values hidden: what changes is told, not from what to what."""
    if not any((obj or {}).get("kind") == "Secret" for obj in (before, after)):
        return before, after
    old, new = dict((before or {}).get("data") or {}), dict((after or {}).get("data") or {})
    shown: tuple[dict[str, str], dict[str, str]] = ({}, {})
    for key in {*old, *new}:
        if key in old and key in new and old[key] != new[key]:
            shown[0][key], shown[1][key] = "*** (before)", "*** (after)"
            continue
        for data, into in ((old, shown[0]), (new, shown[1])):
            if key in data:
                into[key] = "***"
    found = []
    for obj, data in ((before, shown[0]), (after, shown[1])):
        found.append({**obj, "data": data} if obj and obj.get("data") else obj)
    return found[0], found[1]


def _compared(session: Session, live: str, merged: str) -> int:
    """The answer of the user's program for differences (KUBECTL_EXTERNAL_DIFF), of diff, or our own."""
    command = shlex.split(os.environ.get("KUBECTL_EXTERNAL_DIFF") or "diff -u -N")
    try:
        done = subprocess.run([*command, live, merged], stdout=subprocess.PIPE, check=False)
    except OSError:
        return _our_own(session, live, merged)
    session.out.write(done.stdout.decode("utf-8", "replace"))
    if done.returncode > 1:
        raise CliError(f"exit status {done.returncode}", code=done.returncode)
    return done.returncode


def _our_own(session: Session, live: str, merged: str) -> int:
    differs = 0
    for name in sorted({*os.listdir(live), *os.listdir(merged)}):
        old, new = (_lines(os.path.join(folder, name)) for folder in (live, merged))
        if old != new:
            differs = 1
            paths = os.path.join(live, name), os.path.join(merged, name)
            session.print(f"diff -u -N {paths[0]} {paths[1]}")
            session.out.write("".join(difflib.unified_diff(old, new, *paths)))
    return differs


def _lines(path: str) -> list[str]:
    if not os.path.exists(path):
        return []
    with open(path) as file:
        return file.readlines()


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
