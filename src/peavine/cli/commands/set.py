# ruff: noqa: E501
"""Set specific features on objects: image, env, resources, serviceaccount, selector, subject."""

from __future__ import annotations

import copy
from collections.abc import Callable
from types import ModuleType, SimpleNamespace
from typing import Any, cast

from peavine.cli.changes import Changes
from peavine.cli.failures import CliError
from peavine.cli.flags import DRY_RUN, FIELD_MANAGER, FILES, PRINTING, SELECTOR, Parsed, boolean, string
from peavine.cli.resources import Target, targets
from peavine.cli.session import Session
from peavine.cli.threeway import three_way
from peavine.machinery.errors import ApiError

Object = dict[str, Any]
Change = Callable[[Object, Parsed, list[str]], None]
SHARED = (
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
    if name not in ("env", "subject", *_COMMANDS):
        raise CliError(f"unknown command \"{rest[at]}\"\nSee 'kubectl set -h' for help and examples")
    if name in ("subject", "env"):
        from peavine.cli.commands import set_env, set_subject

        return set_env if name == "env" else set_subject, name, rest[:at] + rest[at + 1 :]
    change, done, flags, doc = _COMMANDS[name]

    async def run(session: Session, parsed: Parsed) -> int:
        return await _run(session, parsed, name, change, done)

    module = cast(ModuleType, SimpleNamespace(FLAGS=(*SHARED, *flags), run=run, __doc__=doc))
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
        if name == "selector":
            pairs = settings[0].split(",")
            after.setdefault("spec", {})["selector"] = dict(part.split("=", 1) for part in pairs)
            if flags["resource-version"]:
                after["metadata"]["resourceVersion"] = flags["resource-version"]
        else:
            change(pod_spec(after), flags, settings)
        if after == before:
            if name != "image":
                changes.report(target, done)
            continue
        await send_changed(changes, flags, target, after, done)
    return changes.code


async def send_changed(changes: Changes, flags: Parsed, target: Target, after: Object, done: str) -> None:
    """Patch a live object to what it should be, and say so; failures are told and the command goes on."""
    from peavine.cli.commands.apply import _patch_type

    before, answer = target.object or {}, after
    try:
        if after != before and changes.dry_run != "client" and not flags["local"]:
            type = _patch_type(target)
            patch = three_way(before, after, before, type)
            answer = await changes.patch(target, patch, "strategic" if type else "merge")
        changes.report(target, done, answer)
    except ApiError as error:
        changes.fail(error)


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


def containers_of(spec: Object, chosen: str = "*") -> list[Object]:
    import fnmatch

    found = [*(spec.get("containers") or ()), *(spec.get("initContainers") or ())]
    return [container for container in found if fnmatch.fnmatch(container["name"], chosen)]


def _image(spec: Object, flags: Parsed, settings: list[str]) -> None:
    if not settings:
        raise CliError("at least one image update is required")
    for setting in settings:
        name, _, image = setting.partition("=")
        found = containers_of(spec, name)
        if not found:
            raise CliError(f'unable to find container named "{name}"')
        for container in found:
            container["image"] = image


def _resources(spec: Object, flags: Parsed, settings: list[str]) -> None:
    if not flags["limits"] and not flags["requests"]:
        raise CliError("you must specify an update to requests or limits (in the form of --requests/--limits)")
    for container in containers_of(spec, flags["containers"]):
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
    "resources": (_resources, "resource requirements updated", (_CONTAINERS, string("limits", help="The resource requirement limits."), string("requests", help="The resource requirement requests.")), "Update resource requests/limits on objects with pod templates."),
    "serviceaccount": (_service_account, "serviceaccount updated", (), "Update the service account of a resource."),
    "selector": (_service_account, "selector updated", (string("resource-version", help="If non-empty, the change only succeeds if this is the current resource-version."),), "Set the selector on a resource."),
}  # fmt: skip
SUBCOMMANDS = {
    **{name: entry[-1] for name, entry in _COMMANDS.items()},
    "env": "Update environment variables on a pod template.",
    "subject": "Update the user, group, or service account in a role binding or cluster role binding.",
}
