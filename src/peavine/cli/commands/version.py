"""Print the client and server version information for the current context."""

from __future__ import annotations

from peavine.cli.failures import CliError
from peavine.cli.flags import Parsed, boolean, string
from peavine.cli.output.documents import to_json, to_yaml
from peavine.cli.session import Session

FLAGS = (
    boolean("client", help="If true, shows client version only (no server required)."),
    string("output", "o", help="One of 'yaml' or 'json'."),
)
CLIENT = {"major": "1", "minor": "37", "gitVersion": "v1.37.0+peavine"}


async def run(session: Session, flags: Parsed) -> int:
    if flags["output"] not in ("", "json", "yaml"):
        raise CliError("--output must be 'yaml' or 'json'")
    document: dict[str, object] = {"clientVersion": CLIENT, "kustomizeVersion": "none"}
    server = None if flags["client"] else await session.get("/version")
    if server:
        document["serverVersion"] = server
    if flags["output"]:
        session.out.write((to_json if flags["output"] == "json" else to_yaml)(document))
        return 0
    session.print(f"Client Version: {CLIENT['gitVersion']}")
    session.print("Kustomize Version: none")
    if server:
        session.print(f"Server Version: {server['gitVersion']}")
    return 0
