# ruff: noqa: E501
"""Create and run a particular image in a pod."""

from __future__ import annotations

from typing import Any

from peavine.cli.changes import Changes
from peavine.cli.failures import CliError
from peavine.cli.flags import (
    DRY_RUN,
    FIELD_MANAGER,
    FILES,
    PRINTING,
    Flag,
    Parsed,
    array,
    boolean,
    duration,
    integer,
    string,
)
from peavine.cli.resources import Target
from peavine.cli.session import Session

CONCURRENT = True
FLAGS = (
    *PRINTING, DRY_RUN, FIELD_MANAGER,
    string("image", help="The image for the container to run."),
    array("env", help="Environment variables to set in the container."),
    string("port", help="The port that this container exposes."),
    string("labels", "l", help="Comma separated labels to apply to the pod."),
    string("restart", default="Always", help="The restart policy for this Pod."),
    string("overrides", help="An inline JSON override for the generated object."),
    string("override-type", default="merge", help="The method used to override the generated object: json, merge, or strategic."),
    boolean("leave-stdin-open", help="If set with stdin, stdin is left open after the first attach completes."),
    *FILES,
    Flag("cascade", "", "string", "background", 'Must be "background", "orphan", or "foreground".', "background"),
    boolean("force", help="With --rm: immediately remove the pod."),
    integer("grace-period", default=-1, help="With --rm: seconds given to the pod to terminate gracefully."),
    duration("timeout", help="With --rm: the length of time to wait before giving up on the delete."),
    boolean("wait", help="With --rm: wait for the pod to be gone before returning."),
    string("image-pull-policy", help="The image pull policy for the container."),
    array("annotations", help="Annotations to apply to the pod."),
    boolean("command", help="If true and extra arguments are present, use them as the 'command' field in the container."),
    boolean("stdin", "i", help="Keep stdin open on the container in the pod, even if nothing is attached."),
    boolean("tty", "t", help="Allocate a TTY for the container in the pod."),
    boolean("rm", help="If true, delete the pod after it exits."),
    boolean("attach", help="If true, wait for the Pod to start running, and then attach to the Pod."),
    boolean("quiet", "q", help="If true, suppress prompt messages."),
    boolean("expose", help="If true, create a ClusterIP service associated with the pod."),
    boolean("privileged", help="If true, run the container in privileged mode."),
    boolean("save-config", help="If true, the configuration of current object will be saved in its annotation."),
    duration("pod-running-timeout", default=60.0, help="The length of time to wait until at least one pod is running."),
)  # fmt: skip


async def run(session: Session, flags: Parsed) -> int:
    if not flags["image"]:
        raise CliError('required flag(s) "image" not set')
    if not flags.arguments:
        raise CliError("NAME is required for run\nSee 'kubectl run -h' for help and examples")
    if flags["restart"] not in ("Always", "OnFailure", "Never"):
        raise CliError(f"invalid restart policy: {flags['restart']}\nSee 'kubectl run -h' for help and examples")
    name, words = flags.arguments[0], flags.arguments[1:] + (flags.after_dashes or [])
    if flags["rm"] and not (flags["attach"] or flags["stdin"]):
        raise CliError("--rm should only be used for attached containers")
    pod = _pod(name, words, flags)
    changes = Changes(session, flags, "kubectl-run")
    changes.typed = True
    target = Target(await session.mapping("pods"), session.namespace, name, pod)
    if session.flags.get("namespace") or changes.dry_run != "client":
        pod["metadata"]["namespace"] = session.namespace
    if changes.dry_run != "client":
        target.object = await changes.create(target)
    attaching = (flags["attach"] or flags["stdin"]) and changes.dry_run == "none"
    if not attaching:
        changes.report(target, "created", target.object)
    if flags["expose"]:
        await _expose(session, changes, flags, name)
    return await _attached(session, flags, target) if attaching else changes.code


def _pod(name: str, words: list[str], flags: Parsed) -> dict[str, Any]:
    container: dict[str, Any] = {"image": flags["image"], "name": name, "resources": {}}
    if words:
        container["command" if flags["command"] else "args"] = words
    if flags["env"]:
        container["env"] = [dict(zip(("name", "value"), pair.split("=", 1), strict=True)) for pair in flags["env"]]
    if flags["port"]:
        container["ports"] = [{"containerPort": int(flags["port"])}]
    if flags["image-pull-policy"]:
        container["imagePullPolicy"] = flags["image-pull-policy"]
    if flags["privileged"]:
        container["securityContext"] = {"privileged": True}
    if flags["stdin"]:
        container["stdin"] = True
        if not flags["leave-stdin-open"]:
            container["stdinOnce"] = True
    if flags["tty"]:
        container["tty"] = True
    labels = dict(pair.split("=", 1) for pair in flags["labels"].split(",")) if flags["labels"] else {"run": name}
    metadata: dict[str, Any] = {"labels": labels, "name": name}
    if flags["annotations"]:
        metadata["annotations"] = dict(pair.split("=", 1) for pair in flags["annotations"])
    spec = {"containers": [container], "dnsPolicy": "ClusterFirst", "restartPolicy": flags["restart"]}
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec, "status": {}}
    return overridden(pod, flags) if flags["overrides"] else pod


def overridden(obj: dict[str, Any], flags: Parsed) -> dict[str, Any]:
    """An object that a command made, after `--overrides` of `--override-type`."""
    import orjson

    from peavine.machinery.errors import ApiError

    kind = flags["override-type"]
    try:
        patch = orjson.loads(flags["overrides"])
    except ValueError as error:
        raise CliError(f"invalid --overrides: {error}") from None
    try:
        if kind == "json":
            from peavine.machinery.patches.json import apply_json_patch

            return apply_json_patch(obj, patch)
        if kind == "merge":
            from peavine.machinery.patches.merge import apply_merge_patch

            return apply_merge_patch(obj, patch)
        if kind == "strategic":
            from peavine.machinery.names import GVK, split_group_version
            from peavine.machinery.patches.strategic import apply_strategic_patch
            from peavine.machinery.schema import Schema

            gvk = GVK(*split_group_version(obj["apiVersion"]), obj["kind"])
            return apply_strategic_patch(obj, patch, Schema.load().for_kind(gvk))
    except ApiError as error:
        raise CliError(error.message) from None
    raise CliError(f"invalid override type: {kind}")


async def _expose(session: Session, changes: Changes, flags: Parsed, name: str) -> None:
    port = int(flags["port"])
    body = {"ports": [{"port": port, "protocol": "TCP", "targetPort": port}], "selector": {"run": name}}
    service = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": body}
    target = Target(await session.mapping("services"), session.namespace, name, service)
    if changes.dry_run != "client":
        target.object = await changes.create(target)
    changes.report(target, "created", target.object)


async def _attached(session: Session, flags: Parsed, target: Target) -> int:
    from peavine.cli.streaming import attach_pod, wait_running

    try:
        pod = await wait_running(session, target, flags["pod-running-timeout"])
        if not flags["quiet"] and flags["stdin"]:
            session.warn("If you don't see a command prompt, try pressing enter.")
        await attach_pod(session, target, target.name, stdin=flags["stdin"], tty=flags["tty"])
        states = ((await session.get(target.path)).get("status") or {}).get("containerStatuses") or [{}]
        return int((states[0].get("state") or {}).get("terminated", {}).get("exitCode", 0)) if pod else 0
    finally:
        if flags["rm"]:
            await session.client.json("DELETE", target.path, {"apiVersion": "v1", "kind": "DeleteOptions"})
            session.print(f'pod "{target.name}" deleted')
