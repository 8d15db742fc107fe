"""`peavine COMPONENT ...`: finds the component's module and hands it the rest of the command line."""

from __future__ import annotations

import importlib
import sys

# Command -> module below peavine.cmd. Imported only when named: each process loads only what it runs.
COMMANDS = {
    "up": "up",
    "join": "join",
    "token": "token",
    "down": "down",
    "status": "status",
    "example": "example",
    "supervise": "supervise",
    "apiserver": "apiserver",
    "controller-manager": "controller_manager",
    "scheduler": "scheduler",
    "kubelet": "kubelet",
    "proxy": "proxy",
    "network": "network",
    "dns": "dns",
    "ingress": "ingress",
    "snapshot": "snapshot",
    "restore": "restore",
    "images": "images",
    "certs": "certs",
    "kubectl": "kubectl",
    "top": "top",
    "envtest": "envtest",
    "record": "record",
    "replay": "replay",
    "dashboard": "dashboard",
}


def usage() -> str:
    return "usage: peavine COMMAND ...\n\ncommands:\n" + "".join(
        f"  {name:20} {importlib.import_module(f'peavine.cmd.{module}').__doc__.splitlines()[0]}\n"  # type: ignore[union-attr]
        for name, module in COMMANDS.items()
    )


def main(argv: list[str] | None = None) -> int:
    args = sys.argv[1:] if argv is None else argv
    if not args or args[0] in ("-h", "--help", "help"):
        print(usage(), end="")
        return 0 if args else 2
    if args[0] == "--version":
        from peavine import __version__

        print(f"peavine {__version__} (Kubernetes v1.37.0)")
        return 0
    if args[0] not in COMMANDS:
        print(f"peavine: unknown command {args[0]!r}; `peavine --help` lists them", file=sys.stderr)
        return 2
    return importlib.import_module(f"peavine.cmd.{COMMANDS[args[0]]}").main(args[1:])


if __name__ == "__main__":
    sys.exit(main())
