"""Display addresses of the control plane and services with label kubernetes.io/cluster-service=true."""

from __future__ import annotations

import sys
from types import ModuleType

from peavine.cli.failures import CliError
from peavine.cli.flags import Parsed
from peavine.cli.session import Session

SUBCOMMANDS = {"dump": "Dump relevant information for debugging and diagnosis"}
FLAGS = ()


def subcommand(rest: list[str]) -> tuple[ModuleType, str, list[str]]:
    from peavine.cli.commands import cluster_dump

    if rest and rest[0] == "dump":
        return cluster_dump, "dump", rest[1:]
    if rest and not rest[0].startswith("-"):
        raise CliError(f"unknown command \"{rest[0]}\"\nSee 'kubectl cluster-info -h' for help and examples")
    return sys.modules[__name__], "", rest


async def run(session: Session, flags: Parsed) -> int:
    def coloured(text: str, code: str) -> str:
        return f"\x1b[{code}m{text}\x1b[0m" if session.out.isatty() else text

    server = session.config.server
    session.print(f"{coloured('Kubernetes control plane', '0;32')} is running at {coloured(server, '0;33')}")
    selector = "kubernetes.io/cluster-service=true"
    listed = await session.get("/api/v1/namespaces/kube-system/services", labelSelector=selector)
    for service in listed.get("items") or ():
        meta = service["metadata"]
        name = (meta.get("labels") or {}).get("kubernetes.io/name") or meta["name"]
        link = f"{server}/api/v1/namespaces/{meta['namespace']}/services/{meta['name']}/proxy"
        session.print(f"{coloured(name, '0;32')} is running at {coloured(link, '0;33')}")
    session.print("\nTo further debug and diagnose cluster problems, use 'kubectl cluster-info dump'.")
    return 0
