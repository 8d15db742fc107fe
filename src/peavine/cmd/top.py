"""the cluster on a full screen: nodes, pods and events, kept fresh (needs `pip install peavine[top]`)"""

from __future__ import annotations

import argparse
import asyncio
import sys


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="peavine top", description=__doc__)
    parser.add_argument("--kubeconfig", default="", help="kubeconfig file (default: as kubectl)")
    parser.add_argument("--context", default="", help="context of the kubeconfig")
    parser.add_argument("--namespace", "-n", default="", help="only the pods and events of this namespace")
    parser.add_argument("--interval", type=float, default=2.0, help="seconds between two looks")
    options = parser.parse_args(argv)
    try:
        from peavine.cli.topview.app import Top
    except ImportError:
        print("peavine top: textual is not installed: pip install 'peavine[top]'", file=sys.stderr)
        return 1
    from peavine.cli.failures import CliError
    from peavine.cli.flags import GLOBAL, parse
    from peavine.cli.session import Session
    from peavine.cli.topview.model import View, look

    line = [f"--{name}={getattr(options, name)}" for name in ("kubeconfig", "context") if getattr(options, name)]
    session = Session(parse(GLOBAL, line, "top"))

    async def once() -> View:
        return await look(session, options.namespace)

    async def run() -> int:
        try:
            return await Top(once, max(0.5, options.interval)).run_async() or 0
        finally:
            if session._client is not None:
                session._client.close()

    try:
        return asyncio.run(run())
    except CliError as error:
        print(error.shown(), file=sys.stderr)
        return 1
