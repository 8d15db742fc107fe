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
from peavine.cli.flags import OUTPUT, PRINTING, Parsed, array, boolean, string
from peavine.cli.kubeconfig_files import default_file, modify, whole
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
    document = kubeconfig.load(flags, missing_ok=True)
    if flags["minify"]:
        document = _minified(document, flags)
    if not (flags["raw"] or flags["flatten"]):
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
        entries = sorted(document.get(section) or (), key=lambda entry: entry["name"])
        part = section[:-1]
        document[section] = [{**e, part: _relative(whole(section, e.get(part) or {}), flags)} for e in entries] or None
    if flags["output"] in ("", "yaml"):
        session.out.write(to_yaml(document))
    elif flags["output"] == "json":
        session.out.write(_ordered_json(document))
    else:
        printer = printer_for(flags)
        if printer:
            printer(document, session.out)
    return 0


def _relative(part: Object, flags: Parsed) -> Object:
    """File names as the kubeconfig has them; with `--flatten`, what is in the files."""
    found = dict(part)
    for key in ("certificate-authority", "client-certificate", "client-key"):
        if not found.get(key):
            continue
        if flags["flatten"]:
            found[key + "-data"] = base64.b64encode(Path(found.pop(key)).read_bytes()).decode()
        else:
            below = os.path.relpath(found[key], os.path.dirname(os.path.abspath(default_file(flags))))
            found[key] = found[key] if below.startswith("..") else below
    return found


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
                "proxy-url",
            ),
        ),
        ("users", ("client-certificate", "client-certificate-data", "client-key", "client-key-data", "token")),
        ("contexts", ("cluster", "user", "namespace")),
    ):
        entries = []
        for entry in document.get(section) or ():
            part = entry[section[:-1]]
            keys = [key for key in order if key in part] + [key for key in part if key not in order]
            shown = {key: part[key] for key in keys}
            if isinstance(shown.get("exec"), dict):
                order_of_exec = (
                    "command",
                    "args",
                    "env",
                    "apiVersion",
                    "installHint",
                    "provideClusterInfo",
                    "interactiveMode",
                )
                shown["exec"] = {key: part["exec"][key] for key in order_of_exec if key in part["exec"]}
            if isinstance(shown.get("auth-provider"), dict):
                shown["auth-provider"] = dict(sorted(part["auth-provider"].items(), reverse=True))
            entries.append({"name": entry["name"], section[:-1]: shown})
        ordered[section] = entries or None
    ordered["current-context"] = document.get("current-context", "")
    return json.dumps(ordered, indent=4, ensure_ascii=False) + "\n"


def _minified(document: Object, flags: Parsed) -> Object:
    name = kubeconfig.current_context(document, flags)
    context = kubeconfig.entry(document, "contexts", name)
    if context is None:
        raise CliError("current-context must exist in order to minify")
    for part, section in (("cluster", "clusters"), ("user", "users")):
        if context.get(part) and kubeconfig.entry(document, section, context[part]) is None:
            raise CliError(f"cannot locate {part} {context[part]}")
    kept = {"contexts": name, "clusters": context.get("cluster"), "users": context.get("user")}
    trimmed = {section: [e for e in document[section] if e["name"] == wanted] for section, wanted in kept.items()}
    return {**document, **trimmed, "current-context": name}


async def _current(session: Session, flags: Parsed) -> int:
    name = kubeconfig.load(flags, missing_ok=True).get("current-context")
    if not name:
        raise CliError("current-context is not set")
    session.print(name)
    return 0


async def _contexts(session: Session, flags: Parsed) -> int:
    document = kubeconfig.load(flags, missing_ok=True)
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
        for entry in sorted(kubeconfig.load(flags, missing_ok=True)[section], key=lambda e: e["name"]):
            session.print(entry["name"])
        return 0

    return run


async def _use(session: Session, flags: Parsed) -> int:
    name = _one(flags, "use-context")
    if kubeconfig.entry(kubeconfig.load(flags, missing_ok=True), "contexts", name) is None:
        raise CliError(f'no context exists with the name: "{name}"')
    modify(flags, lambda document: document.update({"current-context": name}))
    session.print(f'Switched to context "{name}".')
    return 0


def _one(flags: Parsed, command: str) -> str:
    if len(flags.arguments) != 1:
        raise CliError(f"Unexpected args: {flags.arguments}\nSee 'kubectl config {command} -h' for help and examples")
    return flags.arguments[0]


def _setter(
    section: str, word: str, fields: Callable[[Parsed, Object], Object]
) -> Callable[[Session, Parsed], Awaitable[int]]:
    part = section.removesuffix("s")

    async def run(session: Session, flags: Parsed) -> int:
        name = flags.arguments[0] if flags.arguments else ""
        if section == "contexts" and flags.get("current"):
            name = kubeconfig.load(flags, missing_ok=True).get("current-context", "")
        if not name:
            raise CliError(f"you must specify a non-empty {word} name" if flags.arguments else "unexpected args: []")
        created = kubeconfig.entry(kubeconfig.load(flags, missing_ok=True), section, name) is None

        def change(document: Object) -> None:
            for entry in document[section]:
                if entry["name"] == name:
                    known = entry.get(part) or {}
                    entry[part] = {k: v for k, v in {**known, **fields(flags, known)}.items() if v != ""}
                    return
            given = {k: v for k, v in fields(flags, {}).items() if v != ""}
            document[section].append({part: given, "name": name})

        modify(flags, change)
        shown = {"clusters": "Cluster", "contexts": "Context", "users": "User"}[section]
        if section == "contexts":
            session.print(f'{shown} "{name}" {"created" if created else "modified"}.')
        else:
            session.print(f'{shown} "{name}" set.')
        return 0

    return run


def _given(flags: Parsed, *names: str) -> Object:
    return {name: flags[name] for name in names if name in flags.given}


def _files(flags: Parsed, found: Object, *names: str) -> Object:
    """Certificates and keys: embedded where that is asked for, else by a path from the kubeconfig's directory."""
    for key in names:
        if not found.get(key):
            continue
        if flags["embed-certs"]:
            found[key + "-data"] = base64.b64encode(Path(found.pop(key)).read_bytes()).decode()
            found[key] = ""
        else:
            folder = os.path.dirname(os.path.abspath(default_file(flags)))
            full = os.path.abspath(found[key])
            below = os.path.relpath(full, folder)
            found[key] = full if below.startswith("..") else below
            found[key + "-data"] = ""
    return found


def _cluster_fields(flags: Parsed, known: Object) -> Object:
    found = _given(flags, "server", "certificate-authority", "insecure-skip-tls-verify", "tls-server-name", "proxy-url")
    found = _files(flags, found, "certificate-authority")
    if found.get("insecure-skip-tls-verify"):
        found.update({"certificate-authority": "", "certificate-authority-data": ""})
    elif found.get("certificate-authority") or found.get("certificate-authority-data"):
        found["insecure-skip-tls-verify"] = ""
    return {k: v for k, v in found.items() if v is not False}


def _user_fields(flags: Parsed, known: Object) -> Object:
    found = _files(
        flags, _given(flags, "client-certificate", "client-key", "token", "username", "password"),
        "client-certificate", "client-key",
    )  # fmt: skip
    if found.get("token"):
        found.update(username="", password="")
    elif found.get("username") or found.get("password"):
        found["token"] = ""
    if flags["token"] and (flags["username"] or flags["password"]):
        raise CliError(
            "you cannot specify more than one authentication method at the same time: --token, --username/--password"
        )
    if flags["auth-provider"] or flags["auth-provider-arg"]:
        provider = known.get("auth-provider") or {}
        settings = dict(provider.get("config") or {})
        _pairs(settings, flags["auth-provider-arg"])
        found["auth-provider"] = {"config": settings, "name": flags["auth-provider"] or provider.get("name", "")}
    if any(name.startswith("exec-") for name in flags.given):
        found["exec"] = _exec_fields(flags, dict(known.get("exec") or {}))
    return found


def _pairs(into: Object, words: tuple[str, ...]) -> None:
    for word in words:
        key, equals, value = word.partition("=")
        if equals:
            into[key] = value
        else:
            into.pop(word.removesuffix("-"), None)


def _exec_fields(flags: Parsed, plugin: Object) -> Object:
    for flag, key in (("exec-command", "command"), ("exec-api-version", "apiVersion"),
                      ("exec-interactive-mode", "interactiveMode")):  # fmt: skip
        if flag in flags.given:
            plugin[key] = flags[flag]
    if flags["exec-arg"]:
        plugin["args"] = list(flags["exec-arg"])
    if "exec-provide-cluster-info" in flags.given:
        plugin["provideClusterInfo"] = flags["exec-provide-cluster-info"]
    if flags["exec-env"]:
        env = {pair["name"]: pair["value"] for pair in plugin.get("env") or ()}
        _pairs(env, flags["exec-env"])
        plugin["env"] = [{"name": name, "value": value} for name, value in env.items()]
    return plugin


def _context_fields(flags: Parsed, known: Object) -> Object:
    return _given(flags, "cluster", "user", "namespace")


def _deleter(section: str, word: str) -> Callable[[Session, Parsed], Awaitable[int]]:
    async def run(session: Session, flags: Parsed) -> int:
        name = _one(flags, f"delete-{word}")
        path = default_file(flags)
        if kubeconfig.entry(kubeconfig.load(flags, missing_ok=True), section, name) is None:
            raise CliError(f"cannot delete {word} {name}, not in {path}")
        modify(flags, lambda document: document.update({section: [e for e in document[section] if e["name"] != name]}))
        session.print(f"deleted {word} {name} from {path}")
        return 0

    return run


async def _rename(session: Session, flags: Parsed) -> int:
    if len(flags.arguments) != 2:
        raise CliError(
            f"Unexpected args: {flags.arguments}\nSee 'kubectl config rename-context -h' for help and examples"
        )
    old, new = flags.arguments
    document = kubeconfig.load(flags, missing_ok=True)
    if kubeconfig.entry(document, "contexts", old) is None:
        raise CliError(f'cannot rename the context "{old}", it\'s not in {default_file(flags)}')
    if kubeconfig.entry(document, "contexts", new) is not None:
        raise CliError(
            f'cannot rename the context "{old}", the context "{new}" already exists in {default_file(flags)}'
        )

    def change(doc: Object) -> None:
        for entry in doc["contexts"]:
            if entry["name"] == old:
                entry["name"] = new
        if doc.get("current-context") == old:
            doc["current-context"] = new

    modify(flags, change)
    session.print(f'Context "{old}" renamed to "{new}".')
    return 0


def _walk(document: Object, path: str, *, create: bool) -> tuple[Object, str]:
    parts = path.split(".")
    if parts[0] not in ("clusters", "contexts", "users", "current-context", "preferences", "extensions"):
        raise CliError(f"unable to parse {path} after [] at api.Config")
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


_BYTES = ("certificate-authority-data", "client-certificate-data", "client-key-data")
_BOOLEANS = ("insecure-skip-tls-verify", "colors", "provideClusterInfo")


def _typed(key: str, value: str, raw: bool) -> Any:
    if key in _BYTES:
        if raw:
            return base64.b64encode(value.encode()).decode()
        try:
            base64.b64decode(value, validate=True)
        except ValueError:
            raise CliError("error decoding input value: illegal base64 data at input byte 0") from None
    if key in _BOOLEANS:
        if value.lower() not in ("true", "false"):
            raise CliError(f'strconv.ParseBool: parsing "{value}": invalid syntax')
        return value.lower() == "true"
    return value


async def _set(session: Session, flags: Parsed) -> int:
    if len(flags.arguments) != 2:
        raise CliError(f"Unexpected args: [{' '.join(flags.arguments)}]")
    path, value = flags.arguments

    def change(document: Object) -> None:
        at, key = _walk(document, path, create=True)
        at[key] = _typed(key, value, flags["set-raw-bytes"])

    modify(flags, change)
    session.print(f'Property "{path}" set.')
    return 0


async def _unset(session: Session, flags: Parsed) -> int:
    path = _one(flags, "unset")

    def change(document: Object) -> None:
        section, _, name = path.partition(".")
        if section in ("clusters", "contexts", "users") and any(e["name"] == name for e in document[section]):
            document[section] = [e for e in document[section] if e["name"] != name]
            return
        at, key = _walk(document, path, create=False)
        if "." not in path and key in ("clusters", "contexts", "users"):
            document[key] = []
        else:
            at.pop(key, None)
            if path == "current-context":
                document["current-context"] = ""

    modify(flags, change)
    session.print(f'Property "{path}" unset.')
    return 0


_EXEC = (
    string("auth-provider", help="Auth provider for the user entry in kubeconfig"),
    array("auth-provider-arg", help="'key=value' arguments for the auth provider"),
    string("exec-command", help="Command for the exec credential plugin for the user entry in kubeconfig"),
    string("exec-api-version", help="API version of the exec credential plugin for the user entry in kubeconfig"),
    array("exec-arg", help="New arguments for the exec credential plugin command for the user entry in kubeconfig"),
    array("exec-env", help="'key=value' environment values for the exec credential plugin"),
    string("exec-interactive-mode", help="InteractiveMode of the exec credentials plugin: Never, IfAvailable, Always"),
    boolean("exec-provide-cluster-info", help="ProvideClusterInfo of the exec credentials plugin"),
)
_EMBED = boolean("embed-certs", help="Embed the contents of the files.")
_COMMANDS: dict[str, Any] = {
    "view": (_view, (*PRINTING, boolean("raw", help="Display raw byte data and sensitive data"), boolean("minify", help="Remove all information not used by current-context."), boolean("flatten", help="Flatten the resulting kubeconfig file."), boolean("merge", default=True, help="Merge the full hierarchy of kubeconfig files")), "Display merged kubeconfig settings or a specified kubeconfig file."),
    "current-context": (_current, (), "Display the current-context."),
    "get-contexts": (_contexts, (OUTPUT, boolean("no-headers", help="Don't print headers.")), "Display one or many contexts from the kubeconfig file."),
    "get-clusters": (_names("clusters", "NAME"), (), "Display clusters defined in the kubeconfig."),
    "get-users": (_names("users", "NAME"), (), "Display users defined in the kubeconfig."),
    "use-context": (_use, (), "Set the current-context in a kubeconfig file."),
    "use": (_use, (), "Set the current-context in a kubeconfig file."),
    "set-cluster": (_setter("clusters", "cluster", _cluster_fields), (_EMBED, string("proxy-url", help="Proxy.")), "Set a cluster entry in kubeconfig."),
    "set-context": (_setter("contexts", "context", _context_fields), (boolean("current", help="Modify the current context"),), "Set a context entry in kubeconfig."),
    "set-credentials": (_setter("users", "credentials", _user_fields), (_EMBED, *_EXEC), "Set a user entry in kubeconfig."),
    "delete-cluster": (_deleter("clusters", "cluster"), (), "Delete the specified cluster from the kubeconfig."),
    "delete-context": (_deleter("contexts", "context"), (), "Delete the specified context from the kubeconfig."),
    "delete-user": (_deleter("users", "user"), (), "Delete the specified user from the kubeconfig."),
    "rename-context": (_rename, (), "Rename a context from the kubeconfig file."),
    "set": (_set, (boolean("set-raw-bytes", help="When writing a []byte PROPERTY_VALUE, write the given string directly without base64 decoding."),), "Set an individual value in a kubeconfig file."),
    "unset": (_unset, (), "Unset an individual value in a kubeconfig file."),
}  # fmt: skip
SUBCOMMANDS = {**{name: entry[-1] for name, entry in _COMMANDS.items()}}
