"""Update the annotations on a resource."""

from __future__ import annotations

from peavine.cli.commands.label import FLAGS, change
from peavine.cli.flags import Parsed
from peavine.cli.session import Session

__all__ = ["FLAGS", "run"]


async def run(session: Session, flags: Parsed) -> int:
    return await change(session, flags, "annotate", "annotations", "annotated", "annotated")
