"""Print the list of flags inherited by all commands."""

from __future__ import annotations

from peavine.cli.flags import GLOBAL, Parsed
from peavine.cli.session import Session

FLAGS = ()


async def run(session: Session, flags: Parsed) -> int:
    session.print("The following options can be passed to any command:\n")
    for flag in sorted(GLOBAL, key=lambda flag: flag.name):
        short = f"-{flag.short}, " if flag.short else "    "
        session.print(f"    {short}--{flag.name}:\n\t{flag.help}\n")
    return 0
