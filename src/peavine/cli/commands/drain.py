# ruff: noqa: E501
"""Drain node in preparation for maintenance: cordon it and evict its pods."""

from __future__ import annotations

import asyncio
from typing import Any

from peavine.cli.changes import Changes
from peavine.cli.commands.cordon import cordon, nodes
from peavine.cli.failures import CliError
from peavine.cli.flags import DRY_RUN, SELECTOR, Parsed, boolean, duration, integer, string
from peavine.cli.session import Session
from peavine.machinery.errors import ApiError

CONCURRENT = True
FLAGS = (
    SELECTOR, DRY_RUN,
    boolean("force", help="Continue even if there are pods that do not declare a controller."),
    boolean("ignore-daemonsets", help="Ignore DaemonSet-managed pods."),
    boolean("delete-emptydir-data", help="Continue even if there are pods using emptyDir."),
    boolean("disable-eviction", help="Force drain to use delete, even if eviction is supported."),
    integer("grace-period", default=-1, help="Period of time in seconds given to each pod to terminate gracefully."),
    duration("timeout", help="The length of time to wait before giving up, zero means infinite"),
    string("pod-selector", help="Label selector to filter pods on the node"),
    integer("chunk-size", default=500, help="Return large lists in chunks rather than all at once."),
    integer("skip-wait-for-delete-timeout", help="Skip waiting for pods whose deletion is older than this."),
)  # fmt: skip
_RETRY_SECONDS = 5.0
_POLL_SECONDS = 0.5
Object = dict[str, Any]


async def run(session: Session, flags: Parsed) -> int:
    if not flags.arguments and not flags["selector"]:
        raise CliError("USAGE: drain NODE [flags]\nSee 'kubectl drain -h' for help and examples")
    code = await cordon(session, flags, True)
    pending: dict[str, list[str]] = {}
    for node in await nodes(session, flags):
        try:
            await _drain(session, flags, node.name)
        except _Failed as failed:
            session.out.flush()
            shown = failed.reasons[0] if len(failed.reasons) == 1 else f"[{', '.join(failed.reasons)}]"
            session.warn(f'error: unable to drain node "{node.name}" due to error: {shown}, continuing command...')
            pending[node.name] = failed.reasons
    if pending:
        listed = "\n".join(f" {name}" for name in pending)
        reasons = "\n".join(reason for found in pending.values() for reason in found)
        raise CliError(f"There are pending nodes to be drained:\n{listed}\n{reasons}", bare=True)
    return code


class _Failed(Exception):
    """A node that is not drained, and why."""

    def __init__(self, reasons: list[str]) -> None:
        super().__init__(reasons)
        self.reasons = reasons


async def _drain(session: Session, flags: Parsed, node: str) -> None:
    listed = await session.get(
        "/api/v1/pods", fieldSelector=f"spec.nodeName={node}", labelSelector=flags["pod-selector"]
    )
    leaving: list[Object] = []
    ignored: list[str] = []
    errors: dict[str, list[str]] = {}
    for pod in listed.get("items") or ():
        verdict, why = _verdict(pod, flags)
        meta = pod["metadata"]
        where = f"{meta['namespace']}/{meta['name']}"
        if verdict == "error":
            errors.setdefault(why, []).append(where)
        elif verdict == "leave":
            leaving.append(pod)
        if verdict == "skip" and why:
            ignored.append(where)
    if errors:
        raise _Failed([f"cannot delete {why}: {', '.join(sorted(pods))}" for why, pods in errors.items()])
    if ignored:
        session.warn(f"Warning: ignoring DaemonSet-managed Pods: {', '.join(sorted(ignored))}")
    changes = Changes(session, flags, "kubectl-drain")
    if changes.dry_run == "none":
        await _leave(session, flags, node, leaving)
    session.print(
        f"node/{node} drained" + ({"client": " (dry run)", "server": " (server dry run)"}.get(changes.dry_run, ""))
    )


async def _leave(session: Session, flags: Parsed, node: str, pods: list[Object]) -> None:
    """Evict the pods side by side and wait until they are gone. Raises _Failed for those that are still there."""
    gone: set[str] = set()

    async def one(pod: Object) -> None:
        await _evict(session, flags, pod)
        gone.add(pod["metadata"]["uid"])

    limit = flags["timeout"]
    try:
        async with asyncio.timeout(limit or None):
            await asyncio.gather(*(one(pod) for pod in pods))
    except (TimeoutError, ApiError) as error:
        left = [pod["metadata"] for pod in pods if pod["metadata"]["uid"] not in gone]
        what = "deleting" if flags["disable-eviction"] else "evicting"
        why = error.message if isinstance(error, ApiError) else f"global timeout reached: {_go_duration(limit)}"
        reasons = [f'error when {what} pods/"{meta["name"]}" -n "{meta["namespace"]}": {why}' for meta in left]
        session.out.flush()
        shown = reasons[0] if len(reasons) == 1 else f"[{', '.join(reasons)}]"
        session.warn(f'There are pending pods in node "{node}" when an error occurred: {shown}')
        for meta in left:
            session.warn(f"pod/{meta['name']}")
        raise _Failed(reasons) from None


def _go_duration(seconds: float) -> str:
    """`1m30s`, as Go prints a duration of whole seconds."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return (f"{hours}h" if hours else "") + (f"{minutes}m" if hours or minutes else "") + f"{rest}s"


def _verdict(pod: Object, flags: Parsed) -> tuple[str, str]:
    meta, spec = pod["metadata"], pod["spec"]
    if "kubernetes.io/config.mirror" in (meta.get("annotations") or {}):
        return "skip", ""
    owner = next((o for o in meta.get("ownerReferences") or () if o.get("controller")), None)
    finished = (pod.get("status") or {}).get("phase") in ("Succeeded", "Failed")
    if owner and owner["kind"] == "DaemonSet" and not finished:
        if flags["ignore-daemonsets"]:
            return "skip", "daemonset"
        return "error", "DaemonSet-managed Pods (use --ignore-daemonsets to ignore)"
    local = any("emptyDir" in volume for volume in spec.get("volumes") or ())
    if local and not finished and not flags["delete-emptydir-data"]:
        return "error", "Pods with local storage (use --delete-emptydir-data to override)"
    if owner is None and not finished and not flags["force"]:
        return "error", "Pods that declare no controller (use --force to override)"
    return "leave", ""


async def _evict(session: Session, flags: Parsed, pod: Object) -> None:
    meta = pod["metadata"]
    path = f"/api/v1/namespaces/{meta['namespace']}/pods/{meta['name']}"
    options: Object = {"gracePeriodSeconds": flags["grace-period"]} if flags["grace-period"] >= 0 else {}
    eviction = {
        "apiVersion": "policy/v1",
        "kind": "Eviction",
        "metadata": {"name": meta["name"], "namespace": meta["namespace"]},
        "deleteOptions": options,
    }
    while True:
        session.print(f"evicting pod {meta['namespace']}/{meta['name']}")
        session.out.flush()
        try:
            if flags["disable-eviction"]:
                await session.client.json("DELETE", path, {"apiVersion": "v1", "kind": "DeleteOptions", **options})
            else:
                await session.client.json("POST", path + "/eviction", eviction)
            break
        except ApiError as error:
            if error.code == 404:
                return
            if error.code != 429:
                raise
            session.warn(
                f'error when evicting pods/"{meta["name"]}" -n "{meta["namespace"]}" (will retry after 5s): {error.message}'
            )
            await session.client.clock.sleep(_RETRY_SECONDS)
    while True:
        try:
            live = await session.get(path)
        except ApiError as error:
            if error.code != 404:
                raise
            break
        if live["metadata"]["uid"] != meta["uid"]:
            break
        await session.client.clock.sleep(_POLL_SECONDS)
    session.print(f"pod/{meta['name']} evicted")
