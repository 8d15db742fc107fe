# ruff: noqa: E501
"""Modify kubeconfig files: view, get-contexts, use-context, set-context, set-cluster, set-credentials, and so on."""

from __future__ import annotations

import base64
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any, cast

from peavine.cli import kubeconfig
from peavine.cli.failures import CliError
from peavine.cli.flags import OUTPUT, Parsed, boolean, string
from peavine.cli.output.documents import to_yaml
from peavine.cli.output.printers import printer_for
from peavine.cli.output.tables import TableWriter
from peavine.cli.session import Session

Object = dict[str, Any]
FLAGS: tuple[Any, ...] = ()


def subcommand(rest: list[str]) -> tuple[ModuleType, str, list[str]] | None:
    at = next((i for i, word in enumerate(rest) if not word.startswith("-")), None)
    if at is None:
        print(__doc__)
        return None
    if rest[at] not in _COMMANDS:
        raise CliError(f"unknown command \"{rest[at]}\"\nSee 'kubectl config -h' for help and examples")
    run, flags, doc = _COMMANDS[rest[at]]
    return cast(ModuleType, SimpleNamespace(FLAGS=flags, run=run, __doc__=doc)), rest[at], rest[:at] + rest[at + 1 :]


async def _view(session: Session, flags: Parsed) -> int:
    document = kubeconfig.load(flags)
    if flags["minify"]:
        document = _minified(document, flags)
    if not flags["raw"]:
        for user in document["users"]:
            for key, shown in (
                ("client-certificate-data", "DATA+OMITTED"),
                ("client-key-data", "DATA+OMITTED"),
                ("token", "REDACTED"),
                ("password", "REDACTED"),
            ):
                if user["user"].get(key):
                    user["user"][key] = shown
        for cluster in document["clusters"]:
            if cluster["cluster"].get("certificate-authority-data"):
                cluster["cluster"]["certificate-authority-data"] = "DATA+OMITTED"
    document = {"current-context": "", "preferences": {}, **document}
    for section in ("clusters", "contexts", "users"):
        document[section] = document.get(section) or None
    if flags["output"] in ("", "yaml"):
        session.out.write(to_yaml(document))
    elif flags["output"] == "json":
        session.out.write(_ordered_json(document))
    else:
        printer = printer_for(flags)
        if printer:
            printer(document, session.out)
    return 0


def _ordered_json(document: Object) -> str:
    """As Go writes the typed Config: fields in its order, names before what they name."""
    import json

    ordered: Object = {"kind": "Config", "apiVersion": "v1", "preferences": document.get("preferences") or {}}
    for section, order in (
        (
            "clusters",
            (
                "server",
                "tls-server-name",
                "insecure-skip-tls-verify",
                "certificate-authority",
                "certificate-authority-data",
            ),
        ),
        ("users", ("client-certificate", "client-certificate-data", "client-key", "client-key-data", "token")),
        ("contexts", ("cluster", "user", "namespace")),
    ):
        entries = []
        for entry in document.get(section) or ():
            part = entry[section[:-1]]
            keys = [key for key in order if key in part] + [key for key in part if key not in order]
            entries.append({"name": entry["name"], section[:-1]: {key: part[key] for key in keys}})
        ordered[section] = entries or None
    ordered["current-context"] = document.get("current-context", "")
    return json.dumps(ordered, indent=4, ensure_ascii=False) + "\n"


def _minified(document: Object, flags: Parsed) -> Object:
    name = kubeconfig.current_context(document, flags)
    context = kubeconfig.entry(document, "contexts", name)
    if context is None:
        raise CliError("current-context must exist in order to minify")
    kept = {"contexts": name, "clusters": context.get("cluster"), "users": context.get("user")}
    trimmed = {section: [e for e in document[section] if e["name"] == wanted] for section, wanted in kept.items()}
    return {**document, **trimmed, "current-context": name}


async def _current(session: Session, flags: Parsed) -> int:
    name = kubeconfig.load(flags).get("current-context")
    if not name:
        raise CliError("current-context is not set")
    session.print(name)
    return 0


async def _contexts(session: Session, flags: Parsed) -> int:
    document = kubeconfig.load(flags)
    current = document.get("current-context", "")
    wanted = flags.arguments
    known = {entry["name"] for entry in document["contexts"]}
    missing = next((name for name in wanted if name not in known), "")
    found = sorted((e for e in document["contexts"] if not wanted or e["name"] in wanted), key=lambda e: e["name"])
    if flags["output"] == "name":
        for entry in found:
            session.print(entry["name"])
        return 0
    writer = TableWriter(session.out)
    if missing:
        found = []
    if not flags["no-headers"]:
        writer.row(["CURRENT", "NAME", "CLUSTER", "AUTHINFO", "NAMESPACE"])
    for entry in found:
        context = entry["context"]
        mark = "*" if entry["name"] == current else ""
        writer.row(
            [mark, entry["name"], context.get("cluster", ""), context.get("user", ""), context.get("namespace", "")]
        )
    writer.flush()
    if missing:
        raise CliError(f"context {missing} not found")
    return 0


def _names(section: str, heading: str) -> Callable[[Session, Parsed], Awaitable[int]]:
    async def run(session: Session, flags: Parsed) -> int:
        session.print(heading)
        for entry in sorted(kubeconfig.load(flags)[section], key=lambda e: e["name"]):
            session.print(entry["name"])
        return 0

    return run


def _change(flags: Parsed, change: Callable[[Object], None]) -> str:
    path = kubeconfig.paths(flags)[0]
    document = (
        kubeconfig.read(path) if os.path.exists(path) else {"apiVersion": "v1", "kind": "Config", "preferences": {}}
    )
    for section in ("clusters", "contexts", "users"):
        document[section] = document.get(section) or []
    change(document)
    kubeconfig.write(path, document)
    return path


async def _use(session: Session, flags: Parsed) -> int:
    name = _one(flags, "use-context")
    if kubeconfig.entry(kubeconfig.load(flags), "contexts", name) is None:
        raise CliError(f'no context exists with the name: "{name}"')
    _change(flags, lambda document: document.update({"current-context": name}))
    session.print(f'Switched to context "{name}".')
    return 0


def _one(flags: Parsed, command: str) -> str:
    if len(flags.arguments) != 1:
        raise CliError(f"Unexpected args: {flags.arguments}\nSee 'kubectl config {command} -h' for help and examples")
    return flags.arguments[0]


def _setter(section: str, word: str, fields: Callable[[Parsed], Object]) -> Callable[[Session, Parsed], Awaitable[int]]:
    part = section.removesuffix("s")

    async def run(session: Session, flags: Parsed) -> int:
        name = flags.arguments[0] if flags.arguments else ""
        if section == "contexts" and flags.get("current"):
            name = kubeconfig.load(flags).get("current-context", "")
        if not name:
            raise CliError(
                f"you must specify a non-empty {word} name"
                if flags.arguments
                else f"Unexpected args: []\nSee 'kubectl config set-{word} -h' for help and examples"
            )
        created = kubeconfig.entry(kubeconfig.load(flags), section, name) is None

        def change(document: Object) -> None:
            for entry in document[section]:
                if entry["name"] == name:
                    entry[part] = {k: v for k, v in {**(entry.get(part) or {}), **fields(flags)}.items() if v != ""}
                    return
            document[section].append({part: {k: v for k, v in fields(flags).items() if v != ""}, "name": name})

        _change(flags, change)
        shown = {"clusters": "Cluster", "contexts": "Context", "users": "User"}[section]
        if section == "contexts":
            session.print(f'{shown} "{name}" {"created" if created else "modified"}.')
        else:
            session.print(f'{shown} "{name}" set.')
        return 0

    return run


def _given(flags: Parsed, *names: str) -> Object:
    return {name: flags[name] for name in names if name in flags.given}


def _cluster_fields(flags: Parsed) -> Object:
    found = _given(flags, "server", "certificate-authority", "insecure-skip-tls-verify", "tls-server-name", "proxy-url")
    if flags["embed-certs"] and found.get("certificate-authority"):
        data = Path(found.pop("certificate-authority")).read_bytes()
        found["certificate-authority-data"] = base64.b64encode(data).decode()
    return found


def _user_fields(flags: Parsed) -> Object:
    found = _given(flags, "client-certificate", "client-key", "token", "username", "password")
    if flags["embed-certs"]:
        for key in ("client-certificate", "client-key"):
            if found.get(key):
                found[key + "-data"] = base64.b64encode(Path(found.pop(key)).read_bytes()).decode()
    return found


def _context_fields(flags: Parsed) -> Object:
    return _given(flags, "cluster", "user", "namespace")


def _deleter(section: str, word: str) -> Callable[[Session, Parsed], Awaitable[int]]:
    async def run(session: Session, flags: Parsed) -> int:
        name = _one(flags, f"delete-{word}")
        path = kubeconfig.paths(flags)[0]
        if kubeconfig.entry(kubeconfig.load(flags), section, name) is None:
            raise CliError(f"cannot delete {word} {name}, not in {path}")
        _change(flags, lambda document: document.update({section: [e for e in document[section] if e["name"] != name]}))
        session.print(f"deleted {word} {name} from {path}")
        return 0

    return run


async def _rename(session: Session, flags: Parsed) -> int:
    if len(flags.arguments) != 2:
        raise CliError(
            f"Unexpected args: {flags.arguments}\nSee 'kubectl config rename-context -h' for help and examples"
        )
    old, new = flags.arguments
    document = kubeconfig.load(flags)
    if kubeconfig.entry(document, "contexts", old) is None:
        raise CliError(f'cannot rename the context "{old}", it\'s not in {kubeconfig.paths(flags)[0]}')
    if kubeconfig.entry(document, "contexts", new) is not None:
        raise CliError(
            f'cannot rename the context "{old}", the context "{new}" already exists in {kubeconfig.paths(flags)[0]}'
        )

    def change(doc: Object) -> None:
        for entry in doc["contexts"]:
            if entry["name"] == old:
                entry["name"] = new
        if doc.get("current-context") == old:
            doc["current-context"] = new

    _change(flags, change)
    session.print(f'Context "{old}" renamed to "{new}".')
    return 0


def _walk(document: Object, path: str, *, create: bool) -> tuple[Object, str]:
    parts = path.split(".")
    at = document
    while len(parts) > 1:
        section = parts.pop(0)
        if section in ("clusters", "contexts", "users") and at is document:
            for size in range(len(parts) - 1, 0, -1):  # names may hold dots
                name = ".".join(parts[:size])
                found = next((e for e in document.get(section) or () if e["name"] == name), None)
                if found is not None or (create and size == 1):
                    if found is None:
                        found = {"name": name, section[:-1]: {}}
                        document.setdefault(section, []).append(found)
                    at, parts = found.setdefault(section[:-1], {}), parts[size:]
                    break
            else:
                raise CliError(f"current map key `{'.'.join(parts)}` is invalid")
        else:
            at = at.setdefault(section, {})
    return at, parts[0]


async def _set(session: Session, flags: Parsed) -> int:
    if len(flags.arguments) != 2:
        raise CliError(f"Unexpected args: {flags.arguments}\nSee 'kubectl config set -h' for help and examples")
    path, value = flags.arguments

    def change(document: Object) -> None:
        at, key = _walk(document, path, create=True)
        at[key] = {"true": True, "false": False}.get(value, value)

    _change(flags, change)
    session.print(f'Property "{path}" set.')
    return 0


async def _unset(session: Session, flags: Parsed) -> int:
    path = _one(flags, "unset")

    def change(document: Object) -> None:
        at, key = _walk(document, path, create=False)
        if "." not in path and key in ("clusters", "contexts", "users"):
            document[key] = []
        else:
            at.pop(key, None)

    _change(flags, change)
    session.print(f'Property "{path}" unset.')
    return 0


_EMBED = boolean("embed-certs", help="Embed the contents of the files.")
_COMMANDS: dict[str, Any] = {
    "view": (_view, (OUTPUT, boolean("raw", help="Display raw byte data and sensitive data"), boolean("minify", help="Remove all information not used by current-context."), boolean("flatten", help="Flatten the resulting kubeconfig file."), boolean("merge", default=True, help="Merge the full hierarchy of kubeconfig files"), string("template", help="")), "Display merged kubeconfig settings or a specified kubeconfig file."),
    "current-context": (_current, (), "Display the current-context."),
    "get-contexts": (_contexts, (OUTPUT, boolean("no-headers", help="Don't print headers.")), "Display one or many contexts from the kubeconfig file."),
    "get-clusters": (_names("clusters", "NAME"), (), "Display clusters defined in the kubeconfig."),
    "get-users": (_names("users", "NAME"), (), "Display users defined in the kubeconfig."),
    "use-context": (_use, (), "Set the current-context in a kubeconfig file."),
    "use": (_use, (), "Set the current-context in a kubeconfig file."),
    "set-cluster": (_setter("clusters", "cluster", _cluster_fields), (_EMBED, string("proxy-url", help="Proxy.")), "Set a cluster entry in kubeconfig."),
    "set-context": (_setter("contexts", "context", _context_fields), (boolean("current", help="Modify the current context"),), "Set a context entry in kubeconfig."),
    "set-credentials": (_setter("users", "credentials", _user_fields), (_EMBED,), "Set a user entry in kubeconfig."),
    "delete-cluster": (_deleter("clusters", "cluster"), (), "Delete the specified cluster from the kubeconfig."),
    "delete-context": (_deleter("contexts", "context"), (), "Delete the specified context from the kubeconfig."),
    "delete-user": (_deleter("users", "user"), (), "Delete the specified user from the kubeconfig."),
    "rename-context": (_rename, (), "Rename a context from the kubeconfig file."),
    "set": (_set, (), "Set an individual value in a kubeconfig file."),
    "unset": (_unset, (), "Unset an individual value in a kubeconfig file."),
}  # fmt: skip
SUBCOMMANDS = {**{name: entry[-1] for name, entry in _COMMANDS.items()}}
