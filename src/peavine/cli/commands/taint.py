"""Update the taints on one or more nodes."""

from __future__ import annotations

import re
from typing import Any

from peavine.cli.changes import Changes
from peavine.cli.failures import CliError
from peavine.cli.flags import DRY_RUN, FIELD_MANAGER, PRINTING, SELECTOR, Flag, Parsed, boolean
from peavine.cli.resources import Target
from peavine.cli.session import Session

FLAGS = (
    *PRINTING, SELECTOR, DRY_RUN, FIELD_MANAGER,
    boolean("all", help="Select all nodes in the cluster"),
    boolean("overwrite", help="If true, allow taints to be overwritten."),
    Flag("validate", "", "string", "strict", "Must be one of: strict (or true), warn, ignore (or false).", "strict"),
)  # fmt: skip
_EFFECTS = ("NoSchedule", "PreferNoSchedule", "NoExecute")
_TAINT = re.compile(r"([^=:]+?)(?:=([^:]*))?(?::(\w+))?(-?)")
Taint = dict[str, Any]


async def run(session: Session, flags: Parsed) -> int:
    resource, *rest = flags.arguments or [""]
    if resource.partition("/")[0] not in ("node", "nodes", "no"):
        raise CliError(f"invalid resource type {resource}, only node types are supported")
    names = [resource.partition("/")[2]] if "/" in resource else []
    specs: list[str] = []
    for word in rest:
        (specs if re.search(r"[=:]|-$", word) else names).append(word)
    added, removed = _parse(specs)
    if not added and not removed:
        raise CliError("at least one taint update is required")
    mapping = await session.mapping("nodes")
    if flags["all"] or flags["selector"]:
        listed = await session.get("/api/v1/nodes", labelSelector=flags["selector"])
        targets = [Target(mapping, None, n["metadata"]["name"], n) for n in listed.get("items") or ()]
    else:
        targets = [Target(mapping, None, name) for name in names]
    changes = Changes(session, flags, "kubectl-taint")
    for target in targets:
        target.object = target.object or await session.get(target.path)
        before: list[Taint] = (target.object.get("spec") or {}).get("taints") or []
        after, outcome = _updated(target.name, before, added, removed, flags["overwrite"])
        if changes.dry_run != "client":
            await changes.patch(target, {"spec": {"taints": after or None}}, "merge")
        changes.report(target, outcome)
    return changes.code


def _parse(specs: list[str]) -> tuple[list[Taint], list[Taint]]:
    added, removed = [], []
    for spec in specs:
        match = _TAINT.fullmatch(spec)
        if not match:
            raise CliError(f"invalid taint spec: {spec}")
        key, value, effect, minus = match.groups()
        if effect and effect not in _EFFECTS:
            raise CliError(f"invalid taint effect: {effect}, unsupported taint effect")
        if minus:
            removed.append({"key": key, "effect": effect or ""})
        elif not effect:
            raise CliError(f"invalid taint spec: {spec}")
        else:
            added.append({"effect": effect, "key": key, **({"value": value} if value else {})})
    return added, removed


def _updated(
    node: str, before: list[Taint], added: list[Taint], removed: list[Taint], overwrite: bool
) -> tuple[list[Taint], str]:
    def same(a: Taint, b: Taint) -> bool:
        return a["key"] == b["key"] and (not b["effect"] or a["effect"] == b["effect"])

    clash = [t for t in before if any(same(t, new) for new in added)]
    if clash and not overwrite:
        shown = ", ".join(f"{t['key']}:{t['effect']}" for t in clash)
        raise CliError(
            f"node {node} already has {clash[0]['key']} taint(s) with same effect(s) and --overwrite is false"
        )
    missing = [r for r in removed if not any(same(t, r) for t in before)]
    if missing:
        shown = missing[0]["key"] + (f":{missing[0]['effect']}" if missing[0]["effect"] else "")
        raise CliError(f'taint "{shown}" not found')
    kept = [t for t in before if not any(same(t, r) for r in [*removed, *added])]
    outcome = "modified" if (clash and added) or (added and removed) else "tainted" if added else "untainted"
    return [*added, *kept], outcome
