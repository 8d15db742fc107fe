# ruff: noqa: E501
"""Set specific features on objects: image, env, resources, serviceaccount, selector."""

from __future__ import annotations

import copy
from collections.abc import Callable
from types import ModuleType, SimpleNamespace
from typing import Any, cast

from peavine.cli.changes import Changes
from peavine.cli.failures import CliError
from peavine.cli.flags import DRY_RUN, FIELD_MANAGER, FILES, PRINTING, SELECTOR, Parsed, array, boolean, string
from peavine.cli.resources import Target, targets
from peavine.cli.session import Session
from peavine.cli.threeway import three_way
from peavine.machinery.errors import ApiError

Object = dict[str, Any]
Change = Callable[[Object, Parsed, list[str]], None]
_SHARED = (
    *PRINTING, *FILES, SELECTOR, DRY_RUN, FIELD_MANAGER,
    boolean("all", help="Select all resources, in the namespace of the specified resource types"),
    boolean("local", help="If true, set will NOT contact api-server but run locally."),
)  # fmt: skip
FLAGS: tuple[Any, ...] = ()


def subcommand(rest: list[str]) -> tuple[ModuleType, str, list[str]] | None:
    at = next((i for i, word in enumerate(rest) if not word.startswith("-")), None)
    if at is None:
        print(__doc__)
        return None
    name = {"sa": "serviceaccount"}.get(rest[at], rest[at])
    if name not in _COMMANDS:
        raise CliError(f"unknown command \"{rest[at]}\"\nSee 'kubectl set -h' for help and examples")
    change, done, flags, doc = _COMMANDS[name]

    async def run(session: Session, parsed: Parsed) -> int:
        return await _run(session, parsed, name, change, done)

    module = cast(ModuleType, SimpleNamespace(FLAGS=(*_SHARED, *flags), run=run, __doc__=doc))
    return module, name, rest[:at] + rest[at + 1 :]


async def _run(session: Session, flags: Parsed, name: str, change: Change, done: str) -> int:
    words = flags.arguments
    cut = next((i for i, word in enumerate(words) if "=" in word or word.endswith("-")), len(words))
    if name in ("serviceaccount", "selector"):
        cut = len(words) - 1
    resources, settings = words[:cut], words[cut:]
    flags.arguments = resources
    changes = Changes(session, flags, "kubectl-set")
    async for target in targets(session, flags, command=f"set {name}"):
        before = target.object or {}
        after = copy.deepcopy(before)
        if name == "env" and flags["list"]:
            _list_env(session, target, after)
            continue
        if name == "selector":
            pairs = settings[0].split(",")
            after.setdefault("spec", {})["selector"] = dict(part.split("=", 1) for part in pairs)
        else:
            change(pod_spec(after), flags, settings)
        if after == before:
            if name != "image":
                changes.report(target, done)
            continue
        try:
            from peavine.cli.commands.apply import _patch_type

            type = _patch_type(target)
            patch = three_way(before, after, before, type)
            answer = after
            if changes.dry_run != "client" and not flags["local"]:
                answer = await changes.patch(target, patch, "strategic" if type else "merge")
            changes.report(target, done, answer)
        except ApiError as error:
            changes.fail(error)
    return changes.code


def pod_spec(obj: Object) -> Object:
    """The pod specification in an object: its own, its template's, or its job template's."""
    if obj.get("kind") == "Pod":
        return obj["spec"]
    spec = obj.get("spec") or {}
    if "jobTemplate" in spec:
        spec = spec["jobTemplate"]["spec"]
    if "template" not in spec:
        raise CliError(f"the object is not a pod or does not have a pod template: {obj.get('kind')}")
    return spec["template"]["spec"]


def _containers(spec: Object, chosen: str = "*") -> list[Object]:
    import fnmatch

    found = [*(spec.get("containers") or ()), *(spec.get("initContainers") or ())]
    return [container for container in found if fnmatch.fnmatch(container["name"], chosen)]


def _image(spec: Object, flags: Parsed, settings: list[str]) -> None:
    if not settings:
        raise CliError("at least one image update is required")
    for setting in settings:
        name, _, image = setting.partition("=")
        found = _containers(spec, name)
        if not found:
            raise CliError(f'unable to find container named "{name}"')
        for container in found:
            container["image"] = image


def _env(spec: Object, flags: Parsed, settings: list[str]) -> None:
    found = _containers(spec, flags["containers"])
    for container in found:
        env = {entry["name"]: entry for entry in container.get("env") or ()}
        for setting in [*settings, *flags["env"]]:
            name, equals, value = setting.partition("=")
            if equals:
                env[name] = {"name": name, "value": value}
            else:
                env.pop(setting.removesuffix("-"), None)
        container["env"] = list(env.values())
        if not container["env"]:
            del container["env"]


def _list_env(session: Session, target: Target, obj: Object) -> None:
    for container in _containers(pod_spec(obj)):
        session.print(f"# {target.mapping.kind} {target.name}, container {container['name']}")
        for entry in container.get("env") or ():
            source = entry.get("valueFrom")
            if not source:
                session.print(f"{entry['name']}={entry.get('value', '')}")
            elif "fieldRef" in source:
                session.print(f"# {entry['name']} from field path {source['fieldRef']['fieldPath']}")
            elif "resourceFieldRef" in source:
                session.print(f"# {entry['name']} from resource field {source['resourceFieldRef']['resource']}")
            else:
                kind, ref = (
                    ("secret", source.get("secretKeyRef"))
                    if "secretKeyRef" in source
                    else ("configmap", source.get("configMapKeyRef"))
                )
                session.print(f"# {entry['name']} from {kind} {(ref or {}).get('name')}, key {(ref or {}).get('key')}")


def _resources(spec: Object, flags: Parsed, settings: list[str]) -> None:
    if not flags["limits"] and not flags["requests"]:
        raise CliError("you must specify an update to requests or limits (in the form of --requests/--limits)")
    for container in _containers(spec, flags["containers"]):
        resources = container.setdefault("resources", {})
        for part in ("limits", "requests"):
            for setting in filter(None, flags[part].split(",")):
                name, _, value = setting.partition("=")
                resources.setdefault(part, {})[name] = value


def _service_account(spec: Object, flags: Parsed, settings: list[str]) -> None:
    spec["serviceAccountName"] = settings[0]
    spec["serviceAccount"] = settings[0]


_CONTAINERS = string("containers", "c", "*", "The names of containers in the selected pod templates to change.")
_COMMANDS: dict[str, Any] = {
    "image": (_image, "image updated", (), "Update the image of a pod template."),
    "env": (_env, "env updated", (_CONTAINERS, array("env", "e", "Specify a key-value pair for an environment variable."), boolean("list", help="If true, display the environment.")), "Update environment variables on a pod template."),
    "resources": (_resources, "resource requirements updated", (_CONTAINERS, string("limits", help="The resource requirement limits."), string("requests", help="The resource requirement requests.")), "Update resource requests/limits on objects with pod templates."),
    "serviceaccount": (_service_account, "serviceaccount updated", (), "Update the service account of a resource."),
    "selector": (_service_account, "selector updated", (), "Set the selector on a resource."),
}  # fmt: skip
