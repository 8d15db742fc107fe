"""Look through a recording of a cluster: print its changes, or serve its state at a moment."""

from __future__ import annotations

import argparse
import asyncio
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
    p.add_argument(
        "--walk",
        action="store_true",
        help="with --kubeconfig: go where standard input says: n(ext), p(revious), a revision, a time, q(uit)",
    )
    p.add_argument("--writable", action="store_true", help="with --kubeconfig: let clients change what is served")
    p.add_argument(
        "--secure-port", type=int, default=0, help="with --kubeconfig: port to serve at (default: a free one)"
    )
    p.add_argument("-v", "--v", type=int, default=1, help="log verbosity")
    return p


def main(argv: list[str]) -> int:
    args = parser().parse_args(argv)
    from peavine.base import lifetimes, logs
    from peavine.testing import recording

    logs.setup(args.v)
    try:
        about, changes = recording.read(Path(args.file))
        if args.until:
            changes = recording.until(changes, **_moment(args.until))
    except (OSError, ValueError) as error:
        print(f"peavine replay: {error}", file=sys.stderr)
        return 1
    if args.list:
        for line in recording.describe(c for c in changes if args.only in f"{c.resource} {c.name}"):
            print(line)
        return 0
    return lifetimes.run(_serve(args, about, changes))


def _moment(text: str) -> dict[str, Any]:
    """The moment in the words of `recording.until`. Raises ValueError."""
    from peavine.machinery.meta import parse_time

    return {"revision": int(text)} if text.isdigit() else {"moment": parse_time(text)}


async def _serve(args: argparse.Namespace, about: dict[str, Any], changes: list[Any]) -> None:
    from peavine.base import lifetimes
    from peavine.cmd.pki import write_private
    from peavine.testing.replaying import Walk

    async with Walk(about, changes, writable=args.writable, port=args.secure_port) as walk:
        write_private(Path(args.kubeconfig), walk.cluster.kubeconfig.read_text())
        what = "" if args.writable else ", read-only"
        print(
            f"serving {_where(walk)} at {walk.cluster.url}{what}; kubectl --kubeconfig {args.kubeconfig} ...",
            flush=True,
        )
        if args.walk:
            await _walk(walk, changes)
        else:
            await lifetimes.until_signal()


async def _walk(walk: Any, changes: list[Any]) -> None:
    """Go where the lines of standard input (a terminal or a pipe) say, until they end."""
    from peavine.testing import recording

    lines = asyncio.StreamReader()
    protocol = asyncio.StreamReaderProtocol(lines)
    await asyncio.get_running_loop().connect_read_pipe(lambda: protocol, sys.stdin)
    while line := await lines.readline():
        word = line.decode(errors="replace").strip()
        if word in ("q", "quit"):
            return
        try:
            if word in ("", "n", "next", "p", "previous"):
                await walk.step(-1 if word.startswith("p") else 1)
            else:
                reached = recording.until(changes, **_moment(word))
                await walk.to(max((change.revision for change in reached), default=0))
        except ValueError:
            print(f"{word!r} is not n, p, q, a revision or a time such as 2026-01-31T12:00:00Z", flush=True)
            continue
        print(_where(walk), flush=True)
        for change in walk.here:
            print(f"  {change.type} {change.resource} {change.name}", flush=True)


def _where(walk: Any) -> str:
    return (
        f"revision {walk.revisions[walk.at]} ({walk.at + 1} of {len(walk.revisions)})" if walk.revisions else "nothing"
    )
