"""Modify certificate resources: approve or deny certificate signing requests."""

from __future__ import annotations

from types import ModuleType, SimpleNamespace
from typing import Any, cast

from peavine.cli.changes import Changes
from peavine.cli.failures import CliError
from peavine.cli.flags import FILES, PRINTING, SELECTOR, Parsed, boolean
from peavine.cli.resources import Target
from peavine.cli.session import Session
from peavine.machinery.meta import now

SUBCOMMANDS = {"approve": "Approve a certificate signing request", "deny": "Deny a certificate signing request"}
FLAGS: tuple[Any, ...] = ()
_FLAGS = (*PRINTING, *FILES, SELECTOR, boolean("force", help="Update the CSR even if it is already approved."))


def subcommand(rest: list[str]) -> tuple[ModuleType, str, list[str]] | None:
    at = next((i for i, word in enumerate(rest) if not word.startswith("-")), None)
    if at is None:
        print(__doc__)
        return None
    name = rest[at]
    if name not in ("approve", "deny"):
        raise CliError(f"unknown command \"{name}\"\nSee 'kubectl certificate -h' for help and examples")

    async def run(session: Session, flags: Parsed) -> int:
        return await _decide(session, flags, name)

    module = cast(
        ModuleType, SimpleNamespace(FLAGS=_FLAGS, run=run, __doc__=f"{name.capitalize()} certificate signing requests.")
    )
    return module, name, rest[:at] + rest[at + 1 :]


async def _decide(session: Session, flags: Parsed, name: str) -> int:
    if not flags.arguments:
        raise CliError("one or more CSRs must be specified as <name> or -f <filename>")
    changes = Changes(session, flags, "kubectl-certificate")
    mapping = await session.mapping("certificatesigningrequests")
    type, done = ("Approved", "approved") if name == "approve" else ("Denied", "denied")
    for argument in flags.arguments:
        target = Target(mapping, None, argument.rpartition("/")[2])
        live = await session.get(target.path)
        conditions = live.setdefault("status", {}).setdefault("conditions", [])
        if not any(condition["type"] == type for condition in conditions) or flags["force"]:
            reason = f"Kubectl{name.capitalize()}"
            text = f"This CSR was {done} by kubectl certificate {name}."
            conditions.append(
                {"type": type, "status": "True", "reason": reason, "message": text, "lastUpdateTime": now()}
            )
            live = await changes.send("PUT", target.path + "/approval", live, query={})
        changes.report(target, done, live)
    return changes.code
