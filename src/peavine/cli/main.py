"""The program: finds the command, reads its flags, runs it, and words its failures."""

from __future__ import annotations

import importlib
import sys

from peavine.cli.failures import CliError, shown_api_error
from peavine.cli.flags import GLOBAL, first_word, parse

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import ModuleType

    from peavine.cli.session import Session

# Command -> module below peavine.cli.commands. Imported only when named.
COMMANDS = {
    "describe": "describe", "port-forward": "port_forward", "certificate": "certificate", "cp": "cp",
    "explain": "explain", "events": "events", "edit": "edit", "diff": "diff", "get": "get", "apply": "apply",
    "create": "create", "delete": "delete", "logs": "logs", "exec": "exec", "scale": "scale", "rollout": "rollout",
    "label": "label", "annotate": "annotate", "wait": "wait", "api-resources": "api_resources",
    "api-versions": "api_versions", "config": "config", "version": "version", "patch": "patch", "replace": "replace",
    "set": "set", "expose": "expose", "run": "run", "autoscale": "autoscale", "cordon": "cordon",
    "uncordon": "uncordon", "drain": "drain", "taint": "taint", "auth": "auth", "cluster-info": "cluster_info",
    "attach": "attach", "options": "options", "kustomize": "kustomize", "top": "top", "debug": "debug",
    "proxy": "proxy",
    "plugin": "plugin", "completion": "completion",
}  # fmt: skip
ALIASES = {"log": "logs"}
HIDDEN = {"__complete": "complete", "__completeNoDesc": "complete"}


def main(argv: list[str]) -> int:
    """Run one command line; the exit code."""
    words = list(argv)
    at = first_word(words, GLOBAL)
    flags_before = words[:at]
    if at is None:
        if "--version" in words:
            words.append("version")
        print(usage(), end="")
        return 0
    name = words[at]
    rest = flags_before + words[at + 1 :]
    module_name = COMMANDS.get(ALIASES.get(name, name)) or HIDDEN.get(name)
    if name == "help":
        rest, name = ["--help"], (rest or [""])[0]
        module_name = COMMANDS.get(name)
        if not name:
            print(usage(), end="")
            return 0
    if module_name is None:
        return _plugin(words, at) or _unknown(name)
    module = importlib.import_module(f"peavine.cli.commands.{module_name}")
    try:
        return _run(module, name, rest)
    except CliError as error:
        print(error.shown(), file=sys.stderr)
        return error.code
    except BrokenPipeError:
        sys.stderr.close()
        return 1
    except OSError as error:
        if error.filename is None:
            raise
        print(f"error: open {error.filename}: {(error.strerror or '').lower()}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


def _run(module: ModuleType, name: str, rest: list[str]) -> int:
    from peavine.cli.session import Session
    from peavine.client.response import Unreachable
    from peavine.machinery.errors import ApiError

    concurrent = getattr(module, "CONCURRENT", False)
    find = getattr(module, "subcommand", None)
    command = name
    if find is not None:
        at = first_word(rest, (*GLOBAL, *module.FLAGS))
        if at:  # flags may stand between a command and its subcommand
            rest = [rest[at], *rest[:at], *rest[at + 1 :]]
        found = find(rest)
        if found is None:
            print(_subcommands(name, getattr(module, "SUBCOMMANDS", {})), end="")
            return 0 if "--help" in rest or "-h" in rest or not rest else 1
        module, command, rest = found
        command = f"{name} {command}".strip()
    flags = parse((*GLOBAL, *module.FLAGS), rest if not hasattr(module, "TAKES_ALL") else ["--", *rest], command)
    if flags["help"]:
        print(help_text(module, command), end="")
        return 0
    profiled = not any(flag.name == "profile" for flag in module.FLAGS)  # `debug` means something else by it
    if profiled and flags["profile"] == "cpu":
        _profile(flags["profile-output"])
    elif profiled and flags["profile"] != "none":
        raise CliError(f"unknown profile '{flags['profile']}'")
    session = Session(flags, blocking=not (concurrent or getattr(module, "CONCURRENT", False)))
    try:
        if session.blocking:
            from peavine.client.blocking import drive

            return drive(_awaited(module, session))
        import asyncio
        import gc

        gc.enable()  # this one may last
        return asyncio.run(_awaited(module, session))
    except ApiError as error:
        print(shown_api_error(error), file=sys.stderr)
        return 1
    except Unreachable as error:
        from peavine.cli.unreachable import shown_unreachable

        print(shown_unreachable(session, error), file=sys.stderr)
        return 1


def _profile(path: str) -> None:
    """Write where the time went, in the form of Python's pstats, when the program ends."""
    import atexit
    import cProfile

    profile = cProfile.Profile()
    profile.enable()

    def save() -> None:
        profile.disable()
        profile.dump_stats(path)

    atexit.register(save)


async def _awaited(module: ModuleType, session: Session) -> int:
    try:
        result: int | None = await module.run(session, session.flags)
        return result or 0
    finally:
        session.out.flush()
        if session._client is not None:
            session._client.close()


def _subcommands(name: str, known: dict[str, str]) -> str:
    lines = [f"  {sub:18}{text.rstrip('.')}" for sub, text in sorted(known.items())]
    rest = f'\nUse "kubectl {name} <command> --help" for more information about a given command.\n'
    return "\nAvailable Commands:\n" + "\n".join(lines) + "\n" + rest if lines else ""


def _plugin(words: list[str], at: int) -> int:
    """Become the plugin that the words name; return if there is none."""
    import os

    from peavine.cli.commands.plugin import plugin_for

    found = plugin_for(words[at:]) if at == 0 else None
    if found is not None:
        path, arguments = found
        os.execv(path, [path, *arguments])
    return 0


def summary(name: str) -> str:
    """A command in one line."""
    doc = importlib.import_module(f"peavine.cli.commands.{COMMANDS[name]}").__doc__ or ""
    return doc.splitlines()[0].rstrip(".")


def _unknown(name: str) -> int:
    import difflib

    text = f'error: unknown command "{name}" for "kubectl"'
    close = difflib.get_close_matches(name, COMMANDS, n=3, cutoff=0.6)
    if close:
        text += "\n\nDid you mean this?\n" + "".join(f"\t{word}\n" for word in close)
    print(text, file=sys.stderr)
    return 1


def usage() -> str:
    lines = ["peavine kubectl controls a Kubernetes cluster.", "", "Commands:"]
    for name in COMMANDS:
        lines.append(f"  {name:15} {summary(name)}")
    lines += ["", 'Use "kubectl COMMAND --help" for a command, "kubectl options" for the flags of all.', ""]
    return "\n".join(lines)


def help_text(module: ModuleType, command: str) -> str:
    lines = [(module.__doc__ or "").strip(), "", "Options:"]
    for flag in sorted(module.FLAGS, key=lambda flag: flag.name):
        short = f"-{flag.short}, " if flag.short else "    "
        default = {"bool": "false", "int": "0"}.get(flag.kind, "''" if flag.kind == "string" else "[]")
        if flag.default not in (None, (), "", False):
            default = str(flag.default).lower() if flag.kind == "bool" else str(flag.default)
        lines.append(f"    {short}--{flag.name}={default}:\n\t{flag.help}")
    lines += [
        "",
        f"Usage:\n  kubectl {command} [options]",
        "",
        'Use "kubectl options" for the flags of all commands.',
        "",
    ]
    return "\n".join(lines)
