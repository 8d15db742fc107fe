"""kubectl: look at and change what a cluster holds."""

from __future__ import annotations


def main(argv: list[str]) -> int:
    from peavine.cli.main import main as run

    return run(argv)
