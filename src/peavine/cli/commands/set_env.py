"""Update environment variables on a pod template, or list them."""

from __future__ import annotations

import base64
import copy
import re
import sys
from typing import Any

from peavine.cli.changes import Changes
from peavine.cli.commands.set import SHARED, containers_of, pod_spec, send_changed
from peavine.cli.failures import CliError
from peavine.cli.flags import Parsed, array, boolean, string, strings
from peavine.cli.resources import Target, queries, targets
from peavine.cli.session import Session
from peavine.machinery.errors import ApiError

FLAGS = (
    *SHARED,
    string("containers", "c", "*", "The names of containers in the selected pod templates to change."),
    array("env", "e", "Specify a key-value pair for an environment variable to set into each container."),
    boolean("list", help="If true, display the environment and any changes in the standard format."),
    boolean("resolve", help="If true, show secret or configmap references when listing variables"),
    string("from", help="The name of a resource from which to inject environment variables"),
    string("prefix", help="Prefix to append to variable names"),
    strings("keys", help="Comma-separated list of keys to import from specified resource"),
    boolean("overwrite", default=True, help="If true, allow environment to be overwritten."),
)
Object = dict[str, Any]


async def run(session: Session, flags: Parsed) -> int:
    words = flags.arguments
    cut = next((i for i, word in enumerate(words) if "=" in word or word.endswith("-")), len(words))
    settings = [*words[cut:], *flags["env"]]
    flags.arguments = words[:cut]
    if "-" in settings:
        settings = [word for word in settings if word != "-"] + [
            line.strip() for line in sys.stdin.read().splitlines() if line.strip() and not line.startswith("#")
        ]
    added = [_variable(word) for word in settings if "=" in word]
    removed = [word.removesuffix("-") for word in settings if "=" not in word]
    if flags["from"]:
        added += await _imported(session, flags)
    changes = Changes(session, flags, "kubectl-set")
    async for target in targets(session, flags, command="set env"):
        after = copy.deepcopy(target.object or {})
        for container in containers_of(pod_spec(after), flags["containers"]):
            _change(target, container, added, removed, flags["overwrite"])
        if flags["list"]:
            await _list(session, flags, target, after)
            continue
        if added or removed:
            await send_changed(changes, flags, target, after, "env updated")
    return changes.code


def _variable(word: str) -> Object:
    name, _, value = word.partition("=")
    return {"name": name, "value": value}


def _change(target: Target, container: Object, added: list[Object], removed: list[str], overwrite: bool) -> None:
    env = {entry["name"]: entry for entry in container.get("env") or ()}
    for entry in added:
        if entry["name"] in env and not overwrite:
            value = env[entry["name"]].get("value", "")
            raise CliError(
                f"{target.mapping.plural}/{target.name} '{entry['name']}' already has a value ({value}), and "
                "--overwrite is false"
            )
        env[entry["name"]] = entry
    for name in removed:
        env.pop(name, None)
    container["env"] = list(env.values())
    if not container["env"]:
        del container["env"]


async def _imported(session: Session, flags: Parsed) -> list[Object]:
    """One variable a key of a ConfigMap or Secret."""
    found: list[Object] = []
    for query in await queries(session, [flags["from"]]):
        source = await session.get(query.mapping.gvr.path(session.namespace, query.names[0]))
        reference = {"ConfigMap": "configMapKeyRef", "Secret": "secretKeyRef"}.get(query.mapping.kind)
        if reference is None:
            raise CliError(f"unsupported resource specified in --from: {query.mapping.kind}")
        for key in sorted(source.get("data") or {}):
            if flags["keys"] and key not in flags["keys"]:
                continue
            name = re.sub(r"[^A-Z0-9_]", "_", key.upper())
            if name != key:
                session.warn(f"Warning: key {key} transferred to {name}")
            where = {reference: {"key": key, "name": query.names[0]}}
            found.append({"name": flags["prefix"] + name, "valueFrom": where})
    return found


async def _list(session: Session, flags: Parsed, target: Target, obj: Object) -> None:
    for container in containers_of(pod_spec(obj), flags["containers"]):
        session.print(f"# {target.mapping.kind} {target.name}, container {container['name']}")
        for entry in container.get("env") or ():
            source = entry.get("valueFrom")
            if not source:
                session.print(f"{entry['name']}={entry.get('value', '')}")
            elif flags["resolve"]:
                session.print(f"{entry['name']}={await _resolved(session, target, obj, container, source)}")
            else:
                session.print(f"# {entry['name']} from {_named(source)}")


def _named(source: Object) -> str:
    if "fieldRef" in source:
        return f"field path {source['fieldRef']['fieldPath']}"
    if "resourceFieldRef" in source:
        part = source["resourceFieldRef"]
        return f"resource field {part['resource']}" + (
            f" container {part['containerName']}" if part.get("containerName") else ""
        )
    kind, key = ("secret", "secretKeyRef") if "secretKeyRef" in source else ("configmap", "configMapKeyRef")
    reference = source.get(key) or {}
    return f"{kind} {reference.get('name')}, key {reference.get('key')}"


async def _resolved(session: Session, target: Target, obj: Object, container: Object, source: Object) -> str:
    for key, plural in (("secretKeyRef", "secrets"), ("configMapKeyRef", "configmaps")):
        if key not in source:
            continue
        reference = source[key]
        path = f"/api/v1/namespaces/{target.namespace or session.namespace}/{plural}/{reference['name']}"
        try:
            data = (await session.get(path)).get("data") or {}
        except ApiError as error:
            raise CliError(error.message) from None
        if reference["key"] not in data:
            raise CliError(f"key {reference['key']} not found in {plural.removesuffix('s')} {reference['name']}")
        value = data[reference["key"]]
        return base64.b64decode(value).decode("utf-8", "replace") if plural == "secrets" else value
    if "fieldRef" in source:
        from peavine.machinery.jsonpath import JsonPath, relaxed

        found = JsonPath(relaxed(source["fieldRef"]["fieldPath"])).find(obj)
        return str(found[0]) if found else ""
    part = source["resourceFieldRef"]
    section, _, name = part["resource"].partition(".")
    return str(((container.get("resources") or {}).get(section) or {}).get(name, ""))
