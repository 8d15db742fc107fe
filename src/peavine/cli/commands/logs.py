# ruff: noqa: E501
"""Print the logs for a container in a pod or specified resource."""

from __future__ import annotations

import asyncio
import re
import sys
from typing import Any

from peavine.base.lifetimes import scope
from peavine.cli.failures import CliError
from peavine.cli.flags import SELECTOR, Parsed, boolean, duration, integer, string
from peavine.cli.resources import Target
from peavine.cli.session import Session
from peavine.cli.streaming import default_container, pod_of
from peavine.machinery.errors import ApiError

CONCURRENT = True
FLAGS = (
    SELECTOR,
    boolean("all-containers", help="Get all containers' logs in the pod(s)."),
    boolean("all-pods", help="Get logs from all pod(s). Sets prefix to true."),
    string("container", "c", help="Print the logs of this container"),
    boolean("follow", "f", help="Specify if the logs should be streamed."),
    boolean("ignore-errors", help="If watching / following pod logs, allow for any errors that occur to be non-fatal"),
    boolean("insecure-skip-tls-verify-backend", help="Skip verifying the identity of the kubelet."),
    integer("limit-bytes", help="Maximum bytes of logs to return."),
    integer("max-log-requests", default=5, help="Maximum number of concurrent logs to follow when using a selector."),
    duration("pod-running-timeout", default=20.0, help="The length of time to wait until at least one pod is running."),
    boolean("prefix", help="Prefix each log line with the log source (pod name and container name)"),
    boolean("previous", "p", help="If true, print the logs for the previous instance of the container."),
    duration("since", help="Only return logs newer than a relative duration like 5s, 2m, or 3h."),
    string("since-time", help="Only return logs after a specific date (RFC3339)."),
    integer("tail", default=-1, help="Lines of recent log file to display."),
    boolean("timestamps", help="Include timestamps on each line in the log output"),
)


async def run(session: Session, flags: Parsed) -> int:
    if not flags.arguments and not flags["selector"]:
        raise CliError(
            "expected 'logs [-f] [-p] (POD | TYPE/NAME) [-c CONTAINER]'.\nPOD or TYPE/NAME is a required argument for the logs command\nSee 'kubectl logs -h' for help and examples"
        )
    if len(flags.arguments) > 1:
        flags.values["container"] = flags.arguments[1]
    try:
        sources = await _sources(session, flags)
    except ApiError as error:
        where = f' in namespace "{session.namespace}"' if error.code == 404 else ""
        raise CliError(f"error from server ({error.reason}): {error.message}{where}") from None
    if flags["follow"] and len(sources) > flags["max-log-requests"]:
        raise CliError(
            f"you are attempting to follow {len(sources)} log streams, but maximum allowed concurrency is {flags['max-log-requests']}, use --max-log-requests to increase the limit"
        )
    if flags["follow"] and len(sources) > 1:
        async with scope() as tasks:
            waiting = [tasks.start(_stream(session, flags, *source), name=source[1]) for source in sources]
            await asyncio.wait(waiting)
        return 0
    for source in sources:
        await _stream(session, flags, *source)
    return 0


async def _sources(session: Session, flags: Parsed) -> list[tuple[Target, str]]:
    pods: list[Target] = []
    if flags["selector"]:
        mapping = await session.mapping("pods")
        listed = await session.get(mapping.gvr.path(session.namespace), labelSelector=flags["selector"])
        for item in listed.get("items") or ():
            pods.append(Target(mapping, session.namespace, item["metadata"]["name"], item))
        if not pods:
            session.warn(f"No resources found in {session.namespace} namespace.")
    else:
        pods.append(await pod_of(session, flags, flags.arguments[0]))
    found: list[tuple[Target, str]] = []
    for pod in pods:
        live = pod.object or await session.get(pod.path)
        pod.object = live
        if flags["all-containers"]:
            spec = live["spec"]
            every = [*(spec.get("initContainers") or ()), *spec["containers"], *(spec.get("ephemeralContainers") or ())]
            found += [(pod, container["name"]) for container in every]
        else:
            found.append((pod, _container(live, flags["container"], session)))
    return found


def _container(pod: dict[str, Any], chosen: str, session: Session) -> str:
    parts = ("containers", "initContainers", "ephemeralContainers")
    if chosen and chosen not in [c["name"] for part in parts for c in pod["spec"].get(part) or ()]:
        raise CliError(f"container {chosen} is not valid for pod {pod['metadata']['name']}")
    return default_container(pod, chosen, session)


async def _stream(session: Session, flags: Parsed, pod: Target, container: str) -> None:
    query: dict[str, str] = {"container": container}
    for flag, name in (("follow", "follow"), ("previous", "previous"), ("timestamps", "timestamps")):
        if flags[flag]:
            query[name] = "true"
    tail = flags["tail"]
    if flags["selector"] and "tail" not in flags.given:
        tail = 10
    if tail >= 0:
        query["tailLines"] = str(tail)
    if flags["limit-bytes"]:
        query["limitBytes"] = str(flags["limit-bytes"])
    if flags["since"]:
        query["sinceSeconds"] = str(max(1, round(flags["since"])))
    if flags["since-time"]:
        query["sinceTime"] = flags["since-time"]
    answer = await session.client.raw("GET", pod.path + "/log", query=query, headers={"Accept": "*/*"})
    prefix = f"[pod/{pod.name}/{container}] ".encode() if flags["prefix"] else b""
    rest = b""
    session.out.flush()
    async for piece in answer.chunks():
        if not prefix:
            sys.stdout.buffer.write(piece)
        else:
            *lines, rest = re.split(rb"(?<=\n)", rest + piece)
            sys.stdout.buffer.write(b"".join(prefix + line for line in lines))
        sys.stdout.buffer.flush()
    if rest:
        sys.stdout.buffer.write(prefix + rest)
        sys.stdout.buffer.flush()
