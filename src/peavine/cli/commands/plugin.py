# ruff: noqa: E501
"""Provides utilities for interacting with plugins: programs on the PATH whose names begin with `kubectl-`."""

from __future__ import annotations

import os
from types import ModuleType, SimpleNamespace
from typing import cast

from peavine.cli.failures import CliError
from peavine.cli.flags import Parsed, boolean
from peavine.cli.session import Session

SUBCOMMANDS = {"list": "List all visible plugin executables on a user's PATH"}
FLAGS = (boolean("name-only", help="If true, display only the binary name of each plugin, rather than its full path"),)


def subcommand(rest: list[str]) -> tuple[ModuleType, str, list[str]] | None:
    words = [word for word in rest if not word.startswith("-")]
    if not words:
        print(__doc__)
        return None
    if words[0] != "list":
        raise CliError(f"unknown command \"{words[0]}\"\nSee 'kubectl plugin -h' for help and examples")
    module = cast(ModuleType, SimpleNamespace(FLAGS=FLAGS, run=run, __doc__="List all visible plugin executables."))
    return module, "list", [word for word in rest if word != "list"]


async def run(session: Session, flags: Parsed) -> int:
    from peavine.cli.main import COMMANDS

    found: list[str] = []
    warnings: list[list[str]] = []
    seen: dict[str, str] = {}
    for name, path in _programs():
        found.append(name if flags["name-only"] else path)
        warnings.append(_complaints(path, name, seen, COMMANDS))
        seen.setdefault(name, path)
    if not found:
        raise CliError("unable to find any kubectl plugins in your PATH")
    session.print("The following compatible plugins are available:\n")
    for plugin, said in zip(found, warnings, strict=True):
        session.print(plugin)
        session.out.flush()
        for text in said:
            session.warn(f"  - warning: {text}")
    count = sum(map(len, warnings))
    if count:
        raise CliError(f"{'one plugin warning was' if count == 1 else f'{count} plugin warnings were'} found")
    return 0


def _programs() -> list[tuple[str, str]]:
    """Name and path of all plugins, in the order of the PATH."""
    found = []
    for directory in dict.fromkeys(os.environ.get("PATH", "").split(os.pathsep)):
        try:
            names = sorted(os.listdir(directory)) if directory.strip() else []
        except OSError:
            continue  # a PATH may name what is not there
        paths = [(name, os.path.join(directory, name)) for name in names if name.startswith("kubectl-")]
        found += [(name, path) for name, path in paths if not os.path.isdir(path)]
    return found


def _complaints(path: str, name: str, seen: dict[str, str], commands: dict[str, str]) -> list[str]:
    said = []
    if not os.access(path, os.X_OK):
        said.append(f"{path} identified as a kubectl plugin, but it is not executable")
    elif name in seen:
        said.append(f"{path} is overshadowed by a similarly named plugin: {seen[name]}")
    command = name.removeprefix("kubectl-").replace("_", "-")
    if command in commands:
        said.append(f'{name} overwrites existing command: "kubectl {command}"')
    return said


def plugin_for(words: list[str]) -> tuple[str, list[str]] | None:
    """The program for `kubectl a b c`: the longest of kubectl-a-b-c, kubectl-a-b, kubectl-a; and what is left for it."""
    import shutil

    names = []
    for word in words:
        if word.startswith("-"):
            break
        names.append(word.replace("-", "_"))
    for count in range(len(names), 0, -1):
        path = shutil.which("kubectl-" + "-".join(names[:count]))
        if path:
            return path, words[count:]
    return None
