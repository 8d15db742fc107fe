"""Dump relevant information for debugging and diagnosis: nodes, workloads, events and logs."""

from __future__ import annotations

import os
from typing import Any, TextIO

from peavine.cli.flags import ALL_NAMESPACES, PRINTING, Parsed, duration, string, strings
from peavine.cli.output.printers import printer_for
from peavine.cli.session import Session
from peavine.machinery.errors import ApiError

FLAGS = (
    *(string("output", "o", "json", "Output format.") if flag.name == "output" else flag for flag in PRINTING),
    ALL_NAMESPACES,
    strings("namespaces", help="A comma separated list of namespaces to dump."),
    string("output-directory", help="Where to output the files; stdout if it is empty or '-'."),
    duration("pod-running-timeout", default=20.0, help="Unused: pods are dumped as they are."),
)
# Resource -> the file that it goes into, in the order of the dump.
_NAMESPACED = (
    ("/api/v1", "events", "EventList", "events"),
    ("/api/v1", "replicationcontrollers", "ReplicationControllerList", "replication-controllers"),
    ("/api/v1", "services", "ServiceList", "services"),
    ("/apis/apps/v1", "daemonsets", "DaemonSetList", "daemonsets"),
    ("/apis/apps/v1", "deployments", "DeploymentList", "deployments"),
    ("/apis/apps/v1", "replicasets", "ReplicaSetList", "replicasets"),
    ("/api/v1", "pods", "PodList", "pods"),
)


async def run(session: Session, flags: Parsed) -> int:
    dump = _Dump(session, flags)
    await dump.list("/api/v1/nodes", "NodeList", "nodes")
    for namespace in await _namespaces(session, flags):
        for base, resource, kind, file in _NAMESPACED:
            listed = await dump.list(f"{base}/namespaces/{namespace}/{resource}", kind, f"{namespace}/{file}")
        for pod in listed.get("items") or ():
            await dump.logs(namespace, pod)
    if dump.directory:
        session.print(f"Cluster info dumped to {dump.directory}")
    return 0


async def _namespaces(session: Session, flags: Parsed) -> list[str]:
    if flags["all-namespaces"]:
        return [item["metadata"]["name"] for item in (await session.get("/api/v1/namespaces")).get("items") or ()]
    return list(flags["namespaces"]) or ["kube-system", session.namespace]


class _Dump:
    def __init__(self, session: Session, flags: Parsed) -> None:
        self.session = session
        self.printer = printer_for(flags)
        self.form = flags["output"].partition("=")[0]
        self.directory = "" if flags["output-directory"] == "-" else flags["output-directory"]

    def _open(self, name: str) -> TextIO:
        if not self.directory:
            return self.session.out
        path = os.path.join(self.directory, name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        return open(path, "w")

    def _close(self, out: TextIO) -> None:
        if out is not self.session.out:
            out.close()

    async def list(self, path: str, kind: str, name: str) -> dict[str, Any]:
        listed = await self.session.get(path)
        shown = {"kind": kind, "apiVersion": listed.get("apiVersion", "v1"), "metadata": listed.get("metadata") or {}}
        shown["items"] = listed.get("items") or None
        out = self._open(f"{name}.{self.form if self.form in ('json', 'yaml') else 'txt'}")
        try:
            if self.form == "json":
                from peavine.cli.output.printers import print_typed_json

                print_typed_json(shown, out)
            elif self.printer is not None:
                self.printer(shown, out)
        finally:
            self._close(out)
        return listed

    async def logs(self, namespace: str, pod: dict[str, Any]) -> None:
        name = pod["metadata"]["name"]
        out = self._open(f"{namespace}/{name}/logs.txt")
        try:
            for container in (*(pod["spec"].get("initContainers") or ()), *pod["spec"]["containers"]):
                title = f"logs for container {container['name']} of pod {namespace}/{name} ===="
                out.write(f"==== START {title}\n")
                try:
                    path = f"/api/v1/namespaces/{namespace}/pods/{name}/log"
                    answer = await self.session.client.raw("GET", path, query={"container": container["name"]})
                    out.write((await answer.read()).decode("utf-8", "replace"))
                except ApiError as error:
                    out.write(f"Request log error: {error.message}\n")
                out.write(f"==== END {title}\n")
        finally:
            self._close(out)
