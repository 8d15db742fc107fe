"""Mark node as unschedulable."""

from __future__ import annotations

from peavine.cli.changes import Changes
from peavine.cli.failures import CliError
from peavine.cli.flags import DRY_RUN, SELECTOR, Parsed
from peavine.cli.resources import Target
from peavine.cli.session import Session

FLAGS = (SELECTOR, DRY_RUN)


async def run(session: Session, flags: Parsed) -> int:
    return await cordon(session, flags, True)


async def nodes(session: Session, flags: Parsed, command: str = "drain") -> list[Target]:
    """The nodes that arguments or a selector name."""
    mapping = await session.mapping("nodes")
    if flags["selector"]:
        if flags.arguments:
            raise CliError("error: cannot specify both a node name and a --selector option", bare=True)
        listed = await session.get("/api/v1/nodes", labelSelector=flags["selector"])
        items = listed.get("items") or []
        for item in items:
            item.update(apiVersion="v1", kind="Node")
        return [Target(mapping, None, item["metadata"]["name"], item) for item in items]
    if not flags.arguments:
        raise CliError(f"USAGE: {command} NODE [flags]\nSee 'kubectl {command} -h' for help and examples")
    found = []
    for argument in flags.arguments:
        target = Target(mapping, None, argument.removeprefix("node/").removeprefix("nodes/"))
        target.object = await session.get(target.path)
        found.append(target)
    return found


async def cordon(session: Session, flags: Parsed, unschedulable: bool) -> int:
    changes = Changes(session, flags, "kubectl-cordon")
    done = "cordoned" if unschedulable else "uncordoned"
    for target in await nodes(session, flags, "cordon" if unschedulable else "uncordon"):
        if bool((target.object or {}).get("spec", {}).get("unschedulable")) == unschedulable:
            changes.report(target, f"already {done}")
            continue
        if changes.dry_run != "client":
            await changes.patch(target, {"spec": {"unschedulable": unschedulable or None}}, "strategic")
        changes.report(target, done)
    return changes.code
