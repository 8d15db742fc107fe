"""kubectl: look at and change what a cluster holds."""

from __future__ import annotations

import atexit
import gc
import os
import sys


def main(argv: list[str] | None = None) -> int:
    """One command line. Ends the process: taking the interpreter apart would cost more than some requests."""
    gc.disable()  # most runs are over before there is anything to collect
    from peavine.cli.main import main as run

    code = run(sys.argv[1:] if argv is None else argv)
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except (BrokenPipeError, ValueError):
        code = code or 1  # nobody reads any more
    atexit._run_exitfuncs()  # a profile is written then
    os._exit(code)
