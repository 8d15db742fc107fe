"""Write down every revision of everything in a cluster, for `peavine replay`."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path


def parser() -> argparse.ArgumentParser:
    p = argparse.ArgumentParser(
        prog="peavine record",
        description="Watch all that a cluster has until interrupted, and keep each revision in one file: a failing "
        "cluster to send to somebody. Any Kubernetes will do.",
    )
    p.add_argument("--kubeconfig", default=os.environ.get("KUBECONFIG", ""), help="the cluster (default: $KUBECONFIG)")
    p.add_argument("--context", default="", help="context of the kubeconfig")
    p.add_argument("--output", metavar="FILE", required=True, help="the file to write (gzip of JSON lines)")
    p.add_argument("--with-secrets", action="store_true", help="keep the values of Secrets, which are left out else")
    p.add_argument("--seconds", type=float, default=0, help="stop by itself after that long")
    p.add_argument("-v", "--v", type=int, default=1, help="log verbosity")
    return p


def main(argv: list[str]) -> int:
    args = parser().parse_args(argv)
    from peavine.base import lifetimes, logs
    from peavine.client.config import ConfigError
    from peavine.machinery.errors import ApiError

    logs.setup(args.v)
    if not args.kubeconfig:
        print("peavine record: which cluster? give --kubeconfig", file=sys.stderr)
        return 2
    try:
        return lifetimes.run(_record(args))
    except* (ConfigError, ApiError, OSError) as group:
        problem: BaseException = group
        while isinstance(problem, BaseExceptionGroup):
            problem = problem.exceptions[0]
        print(f"peavine record: {problem}", file=sys.stderr)
    return 1


async def _record(args: argparse.Namespace) -> None:
    import asyncio

    from peavine.client import Client
    from peavine.testing.recorder import Recorder
    from peavine.testing.recording import Writer

    client = Client.from_kubeconfig(args.kubeconfig, context=args.context, user_agent="peavine-record")
    about = {"server": client.config.server, "version": await client.json("GET", "/version")}
    writer = Writer(Path(args.output), about)
    try:
        recorder = Recorder(client, writer, secrets=args.with_secrets)
        print(f"recording {client.config.server} to {args.output}; interrupt to stop", flush=True)
        async with asyncio.timeout(args.seconds or None):
            await recorder.run()
    except TimeoutError:
        return
    finally:
        writer.close()
        client.close()
        print(f"{writer.count} revisions in {args.output}", flush=True)
