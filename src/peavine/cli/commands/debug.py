# ruff: noqa: E501
"""Create debugging sessions for troubleshooting workloads and nodes.

A pod gets an ephemeral container, or is copied with other images or commands; a node gets a pod in its namespaces.
"""

from __future__ import annotations

import copy
import random
from typing import Any

from peavine.cli.debug_profiles import PROFILES, bare_copy, on_node, secure
from peavine.cli.failures import CliError
from peavine.cli.flags import Flag, Parsed, array, boolean, string, strings
from peavine.cli.resources import Target, file_targets, has_files, queries
from peavine.cli.session import Session
from peavine.cli.streaming import attach_pod

CONCURRENT = True
FLAGS = (
    Flag("filename", "f", "strings", (), "identifying the resource to debug"),
    boolean("arguments-only", help="If specified, everything after -- will be passed to the new container as Args instead of Command."),
    boolean("attach", help="If true, wait for the container to start running, and then attach to it."),
    string("container", "c", help="Container name to use for debug container."),
    string("copy-to", help="Create a copy of the target Pod with this name."),
    string("custom", help="Path to a JSON or YAML file containing a partial container spec to customize built-in debug profiles."),
    array("env", help="Environment variables to set in the container."),
    string("image", help="Container image to use for debug container."),
    string("image-pull-policy", help="The image pull policy for the container."),
    boolean("keep-annotations", help="If true, keep the original pod annotations. Only with --copy-to."),
    boolean("keep-init-containers", default=True, help="Run the init containers for the pod. Only with --copy-to."),
    boolean("keep-labels", help="If true, keep the original pod labels. Only with --copy-to."),
    boolean("keep-liveness", help="If true, keep the original pod liveness probes. Only with --copy-to."),
    boolean("keep-readiness", help="If true, keep the original pod readiness probes. Only with --copy-to."),
    boolean("keep-startup", help="If true, keep the original startup probes. Only with --copy-to."),
    string("profile", default="legacy", help='Options are "legacy", "general", "baseline", "netadmin", "restricted" or "sysadmin".'),
    boolean("quiet", "q", help="If true, suppress informational messages."),
    boolean("replace", help="When used with '--copy-to', delete the original Pod."),
    boolean("same-node", help="When used with '--copy-to', schedule the copy of target Pod on the same node."),
    strings("set-image", help="When used with '--copy-to', a list of name=image pairs for changing container images."),
    boolean("share-processes", default=True, help="When used with '--copy-to', enable process namespace sharing in the copy."),
    boolean("stdin", "i", help="Keep stdin open on the container(s) in the pod, even if nothing is attached."),
    string("target", help="When using an ephemeral container, target processes in this container name."),
    boolean("tty", "t", help="Allocate a TTY for the debugging container."),
)  # fmt: skip
Object = dict[str, Any]
_LETTERS = "bcdfghjklmnpqrstvwxz2456789"  # no vowels, no look-alikes
_POLL_SECONDS = 0.2
_TARGETING = "Targeting container \"{}\". If you don't see processes from this container it may be because the container runtime doesn't support this feature."


async def run(session: Session, flags: Parsed) -> int:
    command = flags.after_dashes or []
    _check(flags, command)
    if flags["profile"] == "legacy":
        session.warn(
            '--profile=legacy is deprecated and will be removed in the future. It is recommended to explicitly specify a profile, for example "--profile=general".'
        )
    for target in await _targets(session, flags):
        pod, container = await _debug(session, flags, target, command)
        attaching = flags["attach"] if "attach" in flags.given else flags["stdin"]
        if attaching and container:
            session.out.flush()
            code = await _attach(session, flags, pod, container)
            if code:
                return code
    return 0


def _check(flags: Parsed, command: list[str]) -> None:
    names = [*flags.arguments, *flags["filename"]]
    for flag in ("replace", "same-node", "set-image"):
        if flags[flag] and not flags["copy-to"] and (flag == "set-image" or flags["image"]):
            raise CliError(f"--{flag} may only be used with --copy-to.")
    if not flags["copy-to"] and not flags["image"]:
        raise CliError("you must specify --image when not using --copy-to.")
    if flags["copy-to"] and not (flags["image"] or flags["set-image"] or command):
        raise CliError("you must specify --image, --set-image or command arguments.")
    if flags["copy-to"] and flags["target"]:
        raise CliError("--target is incompatible with --copy-to. Use --share-processes instead.")
    if not names:
        raise CliError("NAME or filename is required for debug")
    if flags["image-pull-policy"] not in ("", "Always", "IfNotPresent", "Never"):
        raise CliError(f"invalid image pull policy: {flags['image-pull-policy']}")
    if flags["profile"] not in PROFILES:
        raise CliError(f"unknown profile: {flags['profile']}")
    for pair in flags["env"]:
        if "=" not in pair:
            raise CliError(
                f'invalid argument "{pair}" for "--env" flag: {pair} must be formatted as key=value\nSee \'kubectl debug --help\' for usage.'
            )
    if flags["tty"] and not flags["stdin"]:
        raise CliError("-i/--stdin is required for containers with -t/--tty=true")


async def _targets(session: Session, flags: Parsed) -> list[Target]:
    found: list[Target] = []
    if has_files(flags):
        async for target in file_targets(session, flags):
            target.object = await session.get(target.path)
            found.append(target)
    for argument in flags.arguments:
        text = argument if "/" in argument else f"pods/{argument}"
        for query in await queries(session, [text]):
            namespace = session.namespace if query.mapping.namespaced else None
            target = Target(query.mapping, namespace, query.names[0])
            target.object = await session.get(target.path)
            found.append(target)
    return found


async def _debug(session: Session, flags: Parsed, target: Target, command: list[str]) -> tuple[Target, str]:
    """Make the container. Returns the pod that it is in, and its name (empty if there is nothing to attach to)."""
    kind = target.mapping.kind
    if kind == "Node" and not target.mapping.group:
        return await _on_node(session, flags, target, command)
    if kind != "Pod" or target.mapping.group:
        mapping = target.mapping
        shown = mapping.api_version if mapping.group else f"/{mapping.version}"
        raise CliError(f'"{shown}, Kind={kind}" not supported by debug')
    if flags["copy-to"]:
        return await _copied(session, flags, target, command)
    return await _ephemeral(session, flags, target, command)


def _container(flags: Parsed, name: str, command: list[str]) -> Object:
    container: Object = {"name": name, "image": flags["image"], "terminationMessagePolicy": "File"}
    if flags["image-pull-policy"]:
        container["imagePullPolicy"] = flags["image-pull-policy"]
    if command:
        container["args" if flags["arguments-only"] else "command"] = command
    if flags["env"]:
        container["env"] = [dict(zip(("name", "value"), pair.split("=", 1), strict=True)) for pair in flags["env"]]
    for flag in ("stdin", "tty"):
        if flags[flag]:
            container[flag] = True
    return container


def _customised(container: Object, flags: Parsed) -> Object:
    """The container with what `--custom` adds to it."""
    if not flags["custom"]:
        return container
    from peavine.machinery.codecs import yaml
    from peavine.machinery.names import GVK
    from peavine.machinery.patches.strategic import apply_strategic_patch
    from peavine.machinery.schema import Schema

    path = flags["custom"]
    try:
        with open(path) as file:
            custom = yaml.decode(file.read())
    except OSError as error:
        raise CliError(
            f"must pass a container spec json file for custom profile: open {path}: {(error.strerror or '').lower()}"
        ) from None
    except yaml.YamlError as error:
        raise CliError(f"{path} does not contain a valid container spec: {error}") from None
    if not isinstance(custom, dict):
        raise CliError(f"{path} does not contain a valid container spec")
    for field in ("name", "image", "command", "args", "lifecycle", "volumeDevices"):
        if custom.get(field):
            raise CliError("name, command, image, lifecycle and volume devices are not modifiable via custom profile")
    pod = Schema.load().for_kind(GVK("", "v1", "Pod"))
    type = pod.fields["spec"].type.fields["containers"].type.items if pod else None
    return apply_strategic_patch(container, custom, type)


def _random() -> str:
    return "".join(random.choices(_LETTERS, k=5))


def _new_name(session: Session, flags: Parsed, pod: Object) -> str:
    if flags["container"]:
        return str(flags["container"])
    spec, status = pod["spec"], pod.get("status") or {}
    taken = {
        c["name"] for part in ("containers", "initContainers", "ephemeralContainers") for c in spec.get(part) or ()
    }
    taken |= {s["name"] for s in status.get("ephemeralContainerStatuses") or ()}
    name = f"debugger-{_random()}"
    while name in taken:
        name = f"debugger-{_random()}"
    if not flags["quiet"]:
        session.print(f"Defaulting debug container name to {name}.")
    return name


async def _ephemeral(session: Session, flags: Parsed, target: Target, command: list[str]) -> tuple[Target, str]:
    pod = target.object or {}
    if flags["target"] and not flags["quiet"]:
        session.print(_TARGETING.format(flags["target"]))
    name = _new_name(session, flags, pod)
    container = _container(flags, name, command)
    secure(container, flags["profile"])
    if flags["target"]:
        container["targetContainerName"] = flags["target"]
    container = _customised(container, flags)
    before = [{"name": known["name"]} for known in pod["spec"].get("ephemeralContainers") or ()]
    order = {"$setElementOrder/ephemeralContainers": [*before, {"name": name}]}
    body = {"spec": {"ephemeralContainers": [container], **order}}
    headers = {"Content-Type": "application/strategic-merge-patch+json"}
    await session.client.json("PATCH", target.path + "/ephemeralcontainers", body, headers=headers)
    return target, name


async def _copied(session: Session, flags: Parsed, target: Target, command: list[str]) -> tuple[Target, str]:
    before = target.object or {}
    only_images = not (flags["image"] or flags["container"] or command)
    profile = "legacy" if only_images else flags["profile"]
    keep = {name: flags[name] for name in flags.values if name.startswith("keep-")}
    if only_images:  # nothing to debug with is added: the pod stays as it is
        keep |= {"keep-labels": True, "keep-annotations": True}
    made = bare_copy(copy.deepcopy(before), profile, keep)
    made["metadata"].update(name=flags["copy-to"], namespace=target.namespace)
    spec = made["spec"]
    if flags["same-node"]:
        spec["nodeName"] = before["spec"].get("nodeName", "")
    if profile != "legacy" or "share-processes" in flags.given:
        spec["shareProcessNamespace"] = flags["share-processes"]
    images = dict(pair.partition("=")[::2] for pair in flags["set-image"])
    for container in spec["containers"]:
        image = images.get(container["name"]) or images.get("*")
        if image:
            container["image"] = image
    name = flags["container"]
    existing = next((c for c in spec["containers"] if c["name"] == name), None)
    if existing is None and not name and not flags["image"] and command:
        raise CliError("you must specify an existing container or a new image when specifying args.")
    if existing is None and (flags["image"] or name):
        if not flags["image"]:
            raise CliError("you must specify image when creating new container")
        name = _new_name(session, flags, before)
        container = _container(flags, name, command)
        secure(container, flags["profile"])
        spec["containers"].append(_customised(container, flags))
    elif existing is not None:
        _overlay(existing, flags, command)
        secure(existing, flags["profile"])
        existing.update(_customised(existing, flags))
    if flags["replace"]:
        await session.client.json("DELETE", target.path, {"apiVersion": "v1", "kind": "DeleteOptions"})
    await session.client.json("POST", target.mapping.gvr.path(target.namespace), made)
    return Target(target.mapping, target.namespace, flags["copy-to"]), name


def _overlay(container: Object, flags: Parsed, command: list[str]) -> None:
    """What is asked of a container that the pod has already."""
    if command:
        if flags["arguments-only"]:
            container["args"] = command
        else:
            container["command"] = command
            container.pop("args", None)
    if flags["image"]:
        container["image"] = flags["image"]
    for flag in ("stdin", "tty"):
        container[flag] = flags[flag]


async def _on_node(session: Session, flags: Parsed, target: Target, command: list[str]) -> tuple[Target, str]:
    if flags["target"] and not flags["quiet"]:
        session.print(_TARGETING.format(flags["target"]))
    container = _container(flags, flags["container"] or "debugger", command)
    name = f"node-debugger-{target.name}-{_random()}"
    pod: Object = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name},
        "spec": {
            "containers": [container],
            "nodeName": target.name,
            "restartPolicy": "Never",
            "tolerations": [{"operator": "Exists"}],
        },
    }
    on_node(pod, flags["profile"])
    pod["spec"]["containers"][0] = _customised(container, flags)
    if not flags["quiet"]:
        session.print(f"Creating debugging pod {name} with container {container['name']} on node {target.name}.")
    mapping = await session.mapping("pods")
    await session.client.json("POST", mapping.gvr.path(session.namespace), pod)
    return Target(mapping, session.namespace, name), container["name"]


async def _attach(session: Session, flags: Parsed, pod: Target, container: str) -> int:
    """Wait until the container runs, and join it; one that has ended is shown by its log."""
    while True:
        status = (await session.get(pod.path)).get("status") or {}
        parts = ("containerStatuses", "ephemeralContainerStatuses", "initContainerStatuses")
        found = [s for part in parts for s in status.get(part) or () if s["name"] == container]
        state = (found[0].get("state") or {}) if found else {}
        if "running" in state:
            if not flags["quiet"]:
                session.warn("If you don't see a command prompt, try pressing enter.")
            return await attach_pod(session, pod, container, stdin=flags["stdin"], tty=flags["tty"])
        if "terminated" in state:
            answer = await session.client.raw("GET", pod.path + "/log", query={"container": container})
            session.out.write((await answer.read()).decode("utf-8", "replace"))
            return 0
        await session.client.clock.sleep(_POLL_SECONDS)
