# ruff: noqa: E501
"""Manage the rollout of one or many resources: status, history, undo, pause, resume, restart."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from types import ModuleType, SimpleNamespace
from typing import Any, cast

from peavine.cli.changes import Changes
from peavine.cli.failures import CliError
from peavine.cli.flags import DRY_RUN, FIELD_MANAGER, FILES, PRINTING, SELECTOR, Parsed, boolean, duration, integer
from peavine.cli.resources import Target, targets
from peavine.cli.session import Session
from peavine.cli.terminal import Progress
from peavine.machinery.meta import now

Object = dict[str, Any]
REVISION = "deployment.kubernetes.io/revision"
CHANGE_CAUSE = "kubernetes.io/change-cause"
_POLL_SECONDS = 0.2
_SHARED = (*PRINTING, *FILES, SELECTOR)


def subcommand(rest: list[str]) -> tuple[ModuleType, str, list[str]] | None:
    at = next((i for i, word in enumerate(rest) if not word.startswith("-")), None)
    if at is None:
        print(__doc__)
        return None
    name = rest[at]
    if name not in _COMMANDS:
        raise CliError(f"unknown command \"{name}\"\nSee 'kubectl rollout -h' for help and examples")
    run, flags, doc = _COMMANDS[name]
    return cast(ModuleType, SimpleNamespace(FLAGS=flags, run=run, __doc__=doc)), name, rest[:at] + rest[at + 1 :]


# --- status


async def _status(session: Session, flags: Parsed) -> int:
    code = 0
    async for target in targets(session, flags, command="rollout status", everything=True):
        try:
            async with asyncio.timeout(flags["timeout"] or None):
                code |= await _follow(session, flags, target)
        except TimeoutError:
            raise CliError("timed out waiting for the condition") from None
    return code


async def _follow(session: Session, flags: Parsed, target: Target) -> int:
    last = ""
    shown = Progress(session.err)
    while True:
        text, done, failed = progress(target.mapping.kind, target.object or {}, flags["revision"])
        if text != last:
            shown.clear()
            session.out.write(text)
            session.out.flush()
            last = text
        if failed or done or not flags["watch"]:
            shown.clear()
            if failed:
                raise CliError(failed)
            return 0
        shown.tick(f"rollout of {target.shown}")
        await session.client.clock.sleep(_POLL_SECONDS)
        target.object = await session.get(target.path)


def progress(kind: str, obj: Object, revision: int = 0) -> tuple[str, bool, str]:
    """How far a rollout is: the text, whether it is done, and why it failed."""
    spec, status, meta = obj.get("spec") or {}, obj.get("status") or {}, obj["metadata"]
    name, replicas = meta["name"], spec.get("replicas", 1)
    if kind not in ("Deployment", "DaemonSet", "StatefulSet"):
        raise CliError(f"no status viewer has been implemented for {kind}")
    if revision and kind == "Deployment":
        found = (meta.get("annotations") or {}).get(REVISION)
        if found != str(revision):
            return "", False, f"desired revision ({revision}) is different from the running revision ({found})"
    if meta.get("generation", 0) > status.get("observedGeneration", 0):
        if kind == "StatefulSet":
            return "Waiting for statefulset spec update to be observed...\n", False, ""
        word = "deployment" if kind == "Deployment" else "daemon set"
        return f"Waiting for {word} spec update to be observed...\n", False, ""
    updated = status.get("updatedReplicas", 0)
    if kind == "Deployment":
        for condition in status.get("conditions") or ():
            if condition["type"] == "Progressing" and condition.get("reason") == "ProgressDeadlineExceeded":
                return "", False, f'deployment "{name}" exceeded its progress deadline'
        total, available = status.get("replicas", 0), status.get("availableReplicas", 0)
        waiting = f'Waiting for deployment "{name}" rollout to finish: '
        if updated < replicas:
            return f"{waiting}{updated} out of {replicas} new replicas have been updated...\n", False, ""
        if total > updated:
            return f"{waiting}{total - updated} old replicas are pending termination...\n", False, ""
        if available < updated:
            return f"{waiting}{available} of {updated} updated replicas are available...\n", False, ""
        return f'deployment "{name}" successfully rolled out\n', True, ""
    if kind == "DaemonSet":
        desired, scheduled = status.get("desiredNumberScheduled", 0), status.get("updatedNumberScheduled", 0)
        available = status.get("numberAvailable", 0)
        waiting = f'Waiting for daemon set "{name}" rollout to finish: '
        if scheduled < desired:
            return f"{waiting}{scheduled} out of {desired} new pods have been updated...\n", False, ""
        if available < desired:
            return f"{waiting}{available} of {desired} updated pods are available...\n", False, ""
        return f'daemon set "{name}" successfully rolled out\n', True, ""
    ready = status.get("readyReplicas", 0)
    if ready < replicas:
        return f"Waiting for {replicas - ready} pods to be ready...\n", False, ""
    if status.get("updateRevision") != status.get("currentRevision"):
        return (
            f"waiting for statefulset rolling update to complete {updated} pods at revision {status.get('updateRevision')}...\n",
            False,
            "",
        )
    current = status.get("currentReplicas", 0)
    revision_name = status.get("currentRevision", "")
    return f"statefulset rolling update complete {current} pods at revision {revision_name}...\n", True, ""


# --- history and undo


async def _revisions(session: Session, target: Target) -> dict[int, Object]:
    """The pod templates of a workload by revision, with what holds them."""
    obj = target.object or {}
    selector = ",".join(f"{k}={v}" for k, v in ((obj["spec"].get("selector") or {}).get("matchLabels") or {}).items())
    owned = "replicasets" if target.mapping.kind == "Deployment" else "controllerrevisions"
    listed = await session.get(f"/apis/apps/v1/namespaces/{target.namespace}/{owned}", labelSelector=selector)
    found: dict[int, Object] = {}
    for item in listed.get("items") or ():
        owners = item["metadata"].get("ownerReferences") or ()
        if not any(owner.get("uid") == obj["metadata"].get("uid") for owner in owners):
            continue
        if owned == "replicasets":
            number = int((item["metadata"].get("annotations") or {}).get(REVISION, 0))
        else:
            number = item.get("revision", 0)
        found[number] = item
    return dict(sorted(found.items()))


def _template(item: Object) -> Object:
    if item.get("kind") == "ControllerRevision" or "data" in item:
        return (item.get("data") or {}).get("spec", {}).get("template", {})
    return item["spec"]["template"]


async def _history(session: Session, flags: Parsed) -> int:
    from peavine.cli.output.tables import TableWriter

    async for target in targets(session, flags, command="rollout history", everything=True):
        found = await _revisions(session, target)
        if flags["revision"]:
            if flags["revision"] not in found:
                raise CliError("unable to find the specified revision")
            from peavine.cli.describe.pods import describe_template

            session.out.write(f"{target.shown} with revision #{flags['revision']}\n")
            template = _template(found[flags["revision"]])
            session.out.write(describe_template(template) + "\n")
            continue
        session.out.write(f"{target.shown} \n")
        writer = TableWriter(session.out, 0, 2)
        writer.row(["REVISION", "CHANGE-CAUSE"])
        for number, item in found.items():
            cause = (item["metadata"].get("annotations") or {}).get(CHANGE_CAUSE) or "<none>"
            writer.row([str(number), cause])
        writer.flush()
        session.print()
    return 0


async def _undo(session: Session, flags: Parsed) -> int:
    changes = Changes(session, flags, "kubectl-rollout")
    async for target in targets(session, flags, command="rollout undo", everything=True):
        if (target.object or {}).get("spec", {}).get("paused"):
            raise CliError(
                "you cannot rollback a paused deployment; resume it first with 'kubectl rollout resume' and try again"
            )
        found = await _revisions(session, target)
        wanted = flags["to-revision"]
        if not wanted:
            if len(found) < 2:
                raise CliError(f'no rollout history found for deployment "{target.name}"')
            wanted = list(found)[-2]
        if wanted not in found:
            raise CliError(f"unable to find specified revision {wanted} in history")
        template = dict(_template(found[wanted]))
        labels = dict((template.get("metadata") or {}).get("labels") or {})
        labels.pop("pod-template-hash", None)
        template["metadata"] = {**(template.get("metadata") or {}), "labels": labels}
        if template == (target.object or {})["spec"]["template"]:
            changes.report(target, f"skipped rollback (current template already matches revision {wanted})")
            continue
        if changes.dry_run == "client":
            from peavine.cli.describe.pods import describe_template

            changes.report(target, describe_template(_template(found[wanted])))
            continue
        body = [{"op": "replace", "path": "/spec/template", "value": template}]
        changes.report(target, "rolled back", await changes.patch(target, body, "json"))
    return changes.code


def _changing(
    done: str, body: Callable[[Object], Object | None], already: str = ""
) -> Callable[[Session, Parsed], Awaitable[int]]:
    async def run(session: Session, flags: Parsed) -> int:
        changes = Changes(session, flags, "kubectl-rollout")
        async for target in targets(session, flags, command="rollout", everything=True):
            patch = body(target.object or {})
            if patch is None:
                session.warn(
                    f'error: {target.mapping.plural}{"." + target.mapping.group if target.mapping.group else ""} "{target.name}" {already}'
                )
                changes.failed = True
                continue
            answer = target.object if changes.dry_run == "client" else await changes.patch(target, patch, "strategic")
            changes.report(target, done, answer)
        return changes.code

    return run


def _restart_body(obj: Object) -> Object | None:
    if obj.get("spec", {}).get("paused"):
        return None
    annotations = {"kubectl.kubernetes.io/restartedAt": now()}
    return {"spec": {"template": {"metadata": {"annotations": annotations}}}}


def _pause_body(obj: Object) -> Object | None:
    return None if obj.get("spec", {}).get("paused") else {"spec": {"paused": True}}


def _resume_body(obj: Object) -> Object | None:
    return {"spec": {"paused": None}} if obj.get("spec", {}).get("paused") else None


_CHANGE_FLAGS = (*_SHARED, DRY_RUN, FIELD_MANAGER)
_COMMANDS: dict[str, Any] = {
    "status": (_status, (*_SHARED, boolean("watch", "w", True, "Watch the status of the rollout until it's done."), duration("timeout", help="The length of time to wait before ending watch."), integer("revision", help="Pin to a specific revision for showing its status.")), "Show the status of the rollout."),
    "history": (_history, (*_SHARED, integer("revision", help="See the details, including podTemplate of the revision specified")), "View previous rollout revisions and configurations."),
    "undo": (_undo, (*_CHANGE_FLAGS, integer("to-revision", help="The revision to rollback to. Default to 0 (last revision).")), "Roll back to a previous rollout."),
    "restart": (_changing("restarted", _restart_body, "can't restart paused deployment (run rollout resume first)"), (*_SHARED, FIELD_MANAGER), "Restart a resource."),
    "pause": (_changing("paused", _pause_body, "is already paused"), (*_SHARED, FIELD_MANAGER), "Mark the provided resource as paused."),
    "resume": (_changing("resumed", _resume_body, "is not paused"), (*_SHARED, FIELD_MANAGER), "Resume a paused resource."),
}  # fmt: skip


CONCURRENT = True
FLAGS: tuple[Any, ...] = ()
SUBCOMMANDS = {**{name: entry[-1] for name, entry in _COMMANDS.items()}}
