"""Look through a recording of a cluster: print its changes, or serve its state at a moment."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any


def parser() -> argparse.ArgumentParser:
    p = argparse.ArgumentParser(
        prog="peavine replay",
        description="Print what changed in a recording of `peavine record`, or serve the state at any moment of it as "
        "an API server: with kubectl one looks around in the cluster as it was.",
    )
    p.add_argument("file", help="the recording")
    p.add_argument(
        "--until", default="", metavar="REVISION|TIME", help="only up to there; a time as 2026-01-31T12:00:00Z"
    )
    what = p.add_mutually_exclusive_group(required=True)
    what.add_argument("--list", action="store_true", help="print each change with the fields that became different")
    what.add_argument("--kubeconfig", metavar="FILE", help="serve the state, and write the way to it into FILE")
    p.add_argument("--only", default="", metavar="TEXT", help="with --list: only resources and names that contain TEXT")
    p.add_argument("--writable", action="store_true", help="with --kubeconfig: let clients change what is served")
    p.add_argument(
        "--secure-port", type=int, default=0, help="with --kubeconfig: port to serve at (default: a free one)"
    )
    p.add_argument("-v", "--v", type=int, default=1, help="log verbosity")
    return p


def main(argv: list[str]) -> int:
    args = parser().parse_args(argv)
    from peavine.base import lifetimes, logs
    from peavine.machinery.meta import parse_time
    from peavine.testing import recording

    logs.setup(args.v)
    try:
        about, changes = recording.read(Path(args.file))
        if args.until.isdigit():
            changes = recording.until(changes, revision=int(args.until))
        elif args.until:
            changes = recording.until(changes, moment=parse_time(args.until))
    except (OSError, ValueError) as error:
        print(f"peavine replay: {error}", file=sys.stderr)
        return 1
    if args.list:
        for line in recording.describe(c for c in changes if args.only in f"{c.resource} {c.name}"):
            print(line)
        return 0
    return lifetimes.run(_serve(args, about, changes))


async def _serve(args: argparse.Namespace, about: dict[str, Any], changes: list[Any]) -> None:
    from peavine.base import lifetimes
    from peavine.cmd.pki import write_private
    from peavine.testing.replaying import replayed

    async with replayed(about, changes, writable=args.writable, secure_port=args.secure_port) as cluster:
        write_private(Path(args.kubeconfig), cluster.kubeconfig.read_text())
        what = "" if args.writable else ", read-only"
        last = changes[-1].revision if changes else 0
        print(f"serving revision {last} at {cluster.url}{what}; kubectl --kubeconfig {args.kubeconfig} ...", flush=True)
        await lifetimes.until_signal()
