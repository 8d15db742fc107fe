"""Print the supported API versions on the server, in the form of "group/version"."""

from __future__ import annotations

from peavine.cli.failures import CliError
from peavine.cli.flags import Parsed
from peavine.cli.session import Session

FLAGS = ()


async def run(session: Session, flags: Parsed) -> int:
    if flags.arguments:
        raise CliError(
            f"unexpected arguments: [{' '.join(flags.arguments)}]\nSee 'kubectl api-versions -h' for help and examples"
        )
    groups = await session.get("/apis")
    found = [version["groupVersion"] for group in groups.get("groups") or () for version in group["versions"]]
    found += (await session.get("/api")).get("versions") or []
    for version in sorted(set(found)):
        session.print(version)
    return 0
