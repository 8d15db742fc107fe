"""Mark node as schedulable."""

from __future__ import annotations

from peavine.cli.commands.cordon import FLAGS, cordon
from peavine.cli.flags import Parsed
from peavine.cli.session import Session

__all__ = ["FLAGS", "run"]


async def run(session: Session, flags: Parsed) -> int:
    return await cordon(session, flags, False)
