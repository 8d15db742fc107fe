"""What the screen shows, from what the API server says: no drawing here."""

from __future__ import annotations

from typing import Any, NamedTuple

from peavine.cli.describe.text import ago
from peavine.cli.session import Session
from peavine.machinery.errors import ApiError
from peavine.machinery.quantity import parse_quantity

Object = dict[str, Any]
_METRICS = "/apis/metrics.k8s.io/v1beta1"
_MIB = 1 << 20


class Row(NamedTuple):
    """One line: its cells, and what it is sorted by."""

    cells: tuple[str, ...]
    cpu: float
    memory: float


class View(NamedTuple):
    summary: str
    nodes: list[Row]
    pods: list[Row]
    events: list[tuple[str, ...]]


NODE_COLUMNS = ("NODE", "STATUS", "PODS", "CPU", "MEMORY", "AGE")
POD_COLUMNS = ("NAMESPACE", "POD", "READY", "STATUS", "RESTARTS", "CPU", "MEMORY", "NODE", "AGE")
EVENT_COLUMNS = ("AGE", "TYPE", "REASON", "OBJECT", "MESSAGE")
EVENTS_MAX = 50


async def look(session: Session, namespace: str = "") -> View:
    """One look at the cluster. `namespace` limits pods and events. Raises ApiError, Unreachable."""
    nodes = (await session.get("/api/v1/nodes")).get("items") or []
    below = f"/namespaces/{namespace}" if namespace else ""
    pods = (await session.get(f"/api/v1{below}/pods")).get("items") or []
    events = (await session.get(f"/api/v1{below}/events")).get("items") or []
    return make_view(nodes, pods, events, await _usage(session, "nodes"), await _usage(session, "pods"))


async def _usage(session: Session, what: str) -> list[Object]:
    try:
        return (await session.get(f"{_METRICS}/{what}")).get("items") or []
    except ApiError:
        return []  # no metrics in this cluster: the columns stay empty


def make_view(
    nodes: list[Object], pods: list[Object], events: list[Object], node_usage: list[Object], pod_usage: list[Object]
) -> View:
    used = {item["metadata"]["name"]: _amounts([item.get("usage") or {}]) for item in node_usage}
    by_pod = {
        (item["metadata"].get("namespace"), item["metadata"]["name"]): _amounts(
            [container.get("usage") or {} for container in item.get("containers") or ()]
        )
        for item in pod_usage
    }
    node_rows = [_node(node, pods, used.get(node["metadata"]["name"])) for node in nodes]
    pod_rows = [_pod(pod, by_pod.get((pod["metadata"].get("namespace"), pod["metadata"]["name"]))) for pod in pods]
    ready = sum("NotReady" not in row.cells[1] for row in node_rows)
    phases = [row.cells[3] for row in pod_rows]
    running, all_pods = phases.count("Running"), len(phases)
    odd = sum(phase not in ("Running", "Completed", "Succeeded") for phase in phases)
    summary = f"nodes {ready}/{len(nodes)} ready   pods {running}/{all_pods} running, {odd} want attention"
    return View(summary, node_rows, pod_rows, _events(events))


def _amounts(usages: list[Object]) -> tuple[float, float]:
    """Cores and bytes."""
    cpu = sum(parse_quantity(str(usage.get("cpu", "0"))).nanos for usage in usages) / 1e9
    memory = sum(parse_quantity(str(usage.get("memory", "0"))).nanos for usage in usages) / 1e9
    return cpu, memory


def _node(node: Object, pods: list[Object], used: tuple[float, float] | None) -> Row:
    meta, status = node["metadata"], node.get("status") or {}
    ready = any(c["type"] == "Ready" and c["status"] == "True" for c in status.get("conditions") or ())
    shown = "Ready" if ready else "NotReady"
    if (node.get("spec") or {}).get("unschedulable"):
        shown += ",SchedulingDisabled"
    here = sum((pod.get("spec") or {}).get("nodeName") == meta["name"] for pod in pods)
    room = _amounts([status.get("allocatable") or {}])
    cpu, memory = used or (0.0, 0.0)
    cells = (
        meta["name"], shown, f"{here}/{(status.get('allocatable') or {}).get('pods', '?')}",
        _share(cpu, room[0], f"{cpu:.2f}") if used else "-",
        _share(memory, room[1], f"{memory / _MIB:.0f}Mi") if used else "-",
        ago(meta.get("creationTimestamp")),
    )  # fmt: skip
    return Row(cells, cpu, memory)


def _share(used: float, room: float, shown: str) -> str:
    return f"{shown} ({used * 100 / room:.0f}%)" if room else shown


def pod_status(pod: Object) -> str:
    """The word that `get pods` shows, in short: a container's reason before the phase."""
    status, meta = pod.get("status") or {}, pod["metadata"]
    if meta.get("deletionTimestamp"):
        return "Terminating"
    for part in ("initContainerStatuses", "containerStatuses"):
        for container in status.get(part) or ():
            state = container.get("state") or {}
            reason = (state.get("waiting") or state.get("terminated") or {}).get("reason")
            if reason and not (part.startswith("init") and reason == "Completed"):
                return str(reason)
    return str(status.get("reason") or status.get("phase") or "Unknown")


def _pod(pod: Object, used: tuple[float, float] | None) -> Row:
    meta, spec, status = pod["metadata"], pod.get("spec") or {}, pod.get("status") or {}
    containers = status.get("containerStatuses") or []
    ready = sum(bool(container.get("ready")) for container in containers)
    cpu, memory = used or (0.0, 0.0)
    cells = (
        meta.get("namespace", ""), meta["name"], f"{ready}/{len(spec.get('containers') or ())}", pod_status(pod),
        str(sum(container.get("restartCount", 0) for container in containers)),
        f"{cpu * 1000:.0f}m" if used else "-", f"{memory / _MIB:.0f}Mi" if used else "-",
        spec.get("nodeName", ""), ago(meta.get("creationTimestamp")),
    )  # fmt: skip
    return Row(cells, cpu, memory)


def _events(events: list[Object]) -> list[tuple[str, ...]]:
    def last(event: Object) -> str:
        return event.get("lastTimestamp") or event.get("eventTime") or event["metadata"].get("creationTimestamp") or ""

    found: list[tuple[str, ...]] = []
    for event in sorted(events, key=last, reverse=True)[:EVENTS_MAX]:
        about = event.get("involvedObject") or {}
        named = f"{about.get('kind', '').lower()}/{about.get('name', '')}"
        words = (event.get("type", ""), event.get("reason", ""), named, " ".join((event.get("message") or "").split()))
        found.append((ago(last(event)), *words))
    return found


def ordered(rows: list[Row], by: str) -> list[Row]:
    """By `name`, or by use of `cpu` or `memory`, most first."""
    if by == "name":
        return sorted(rows, key=lambda row: row.cells[:2])
    return sorted(rows, key=lambda row: (-(row.cpu if by == "cpu" else row.memory), row.cells[:2]))
