"""Display resource (CPU/memory) usage of nodes or pods, as the metrics API tells it."""

from __future__ import annotations

import math
from types import ModuleType, SimpleNamespace
from typing import Any, cast

from peavine.cli.failures import CliError
from peavine.cli.flags import ALL_NAMESPACES, FIELD_SELECTOR, SELECTOR, Parsed, boolean, string
from peavine.cli.output.tables import align
from peavine.cli.session import Session
from peavine.machinery.errors import ApiError

SUBCOMMANDS = {
    "node": "Display resource (CPU/memory) usage of nodes",
    "pod": "Display resource (CPU/memory) usage of pods",
}
FLAGS: tuple[Any, ...] = ()
_SHARED = (
    SELECTOR,
    boolean("no-headers", help="If present, print output without headers."),
    string("sort-by", help="If non-empty, sort the list using specified field: cpu or memory."),
    boolean("use-protocol-buffers", default=True, help="Unused: JSON is what is asked for."),
)
_POD_FLAGS = (
    *_SHARED, ALL_NAMESPACES, FIELD_SELECTOR,
    boolean("containers", help="If present, print usage of containers within a pod."),
    boolean("sum", help="Print the sum of the resource usage"),
)  # fmt: skip
_NODE_FLAGS = (
    *_SHARED,
    boolean("show-capacity", help="Print node resources based on Capacity instead of Allocatable."),
)
_BASE = "/apis/metrics.k8s.io/v1beta1"
_MIB = 1 << 20
Object = dict[str, Any]
Usage = dict[str, Any]


def subcommand(rest: list[str]) -> tuple[ModuleType, str, list[str]] | None:
    at = next((i for i, word in enumerate(rest) if not word.startswith("-")), None)
    if at is None:
        print(__doc__)
        return None
    for names, flags, run, doc in (
        (("node", "nodes", "no"), _NODE_FLAGS, _nodes, "Display resource (CPU/memory) usage of nodes."),
        (("pod", "pods", "po"), _POD_FLAGS, _pods, "Display resource (CPU/memory) usage of pods."),
    ):
        if rest[at] in names:
            module = cast(ModuleType, SimpleNamespace(FLAGS=flags, run=run, __doc__=doc))
            return module, names[0], rest[:at] + rest[at + 1 :]
    raise CliError(f"unknown command \"{rest[at]}\"\nSee 'kubectl top -h' for help and examples")


def _checked(flags: Parsed, kind: str) -> str:
    """The name that was given, or nothing."""
    if len(flags.arguments) > 1:
        raise CliError(f"{kind} [NAME | -l label]\nSee 'kubectl top {kind} -h' for help and examples")
    if flags["sort-by"] not in ("", "cpu", "memory"):
        raise CliError("--sort-by accepts only cpu or memory")
    name = flags.arguments[0] if flags.arguments else ""
    if name and (flags["selector"] or flags.get("field-selector")):
        raise CliError("only one of NAME or selector can be provided")
    return name


async def _metrics(session: Session, path: str, name: str, flags: Parsed) -> list[Object]:
    groups = {m.group for m in await session.mappings()}
    if "metrics.k8s.io" not in groups:
        groups = {m.group for m in await session.mappings(refresh=True)}
    if "metrics.k8s.io" not in groups:
        raise CliError("Metrics API not available")
    try:
        if name:
            return [await session.get(f"{path}/{name}")]
        fields = flags.get("field-selector") or ""
        listed = await session.get(path, labelSelector=flags["selector"], fieldSelector=fields)
    except ApiError as error:
        if error.code == 503:
            raise CliError("Metrics API not available") from None
        raise
    return listed.get("items") or []


async def _pods(session: Session, flags: Parsed) -> int:
    name = _checked(flags, "pod")
    everywhere = flags["all-namespaces"]
    where = f"{_BASE}/pods" if everywhere else f"{_BASE}/namespaces/{session.namespace}/pods"
    found = await _metrics(session, where, name, flags)
    if not found:
        session.warn("No resources found" + ("" if everywhere else f" in {session.namespace} namespace."))
        return 0
    usages = [(item, _sum([c.get("usage") or {} for c in item.get("containers") or ()])) for item in found]
    usages.sort(key=lambda pair: _order(pair[0], pair[1], flags["sort-by"]))
    before = ["NAMESPACE"] if everywhere else []
    rows = []
    if not flags["no-headers"]:
        names = ["POD", "NAME"] if flags["containers"] else ["NAME"]
        rows.append([*before, *names, "CPU(cores)", "MEMORY(bytes)", ""])
    for item, usage in usages:
        meta = item["metadata"]
        start = [meta.get("namespace", "")] if everywhere else []
        if not flags["containers"]:
            rows.append([*start, meta["name"], *_cells(usage), ""])
            continue
        for container in sorted(item.get("containers") or (), key=lambda c: c["name"]):
            rows.append([*start, meta["name"], container["name"], *_cells(_sum([container.get("usage") or {}])), ""])
    if flags["sum"]:
        blank = [""] * (len(before) + (2 if flags["containers"] else 1))
        rows.append([*blank, "________", "________", ""])
        rows.append([*blank, *_cells({k: sum(usage[k] for _, usage in usages) for k in ("cpu", "memory")}), ""])
    session.out.write(align(rows, padding=3, width_min=6))
    return 0


async def _nodes(session: Session, flags: Parsed) -> int:
    name = _checked(flags, "node")
    found = await _metrics(session, f"{_BASE}/nodes", name, flags)
    if not found:
        raise CliError("metrics not available yet")
    if name:
        nodes = [await session.get(f"/api/v1/nodes/{name}")]
    else:
        nodes = (await session.get("/api/v1/nodes", labelSelector=flags["selector"])).get("items") or []
    part = "capacity" if flags["show-capacity"] else "allocatable"
    room = {node["metadata"]["name"]: (node.get("status") or {}).get(part) or {} for node in nodes}
    rows = [] if flags["no-headers"] else [["NAME", "CPU(cores)", "CPU(%)", "MEMORY(bytes)", "MEMORY(%)", ""]]
    measured = [(item, _sum([item.get("usage") or {}])) for item in found]
    measured.sort(key=lambda pair: _order(pair[0], pair[1], flags["sort-by"]))
    for item, usage in measured:
        node = item["metadata"]["name"]
        cpu, memory = _cells(usage)
        all_cpu, all_memory = _sum([room.pop(node, {})]).values()
        rows.append([node, cpu, _share(usage["cpu"], all_cpu), memory, _share(usage["memory"], all_memory), ""])
    rows += [[node, *["<unknown>"] * 4, ""] for node in sorted(room)]
    session.out.write(align(rows, padding=3, width_min=6))
    return 0


def _sum(usages: list[Object]) -> Usage:
    """Milli-cores and bytes."""
    from peavine.machinery.quantity import parse_quantity

    found = {"cpu": 0, "memory": 0}
    cpu = sum(parse_quantity(str(usage["cpu"])).nanos for usage in usages if usage.get("cpu"))
    found["cpu"] = math.ceil(cpu / 1_000_000)
    memory = sum(parse_quantity(str(usage["memory"])).nanos for usage in usages if usage.get("memory"))
    found["memory"] = math.ceil(memory / 1_000_000_000)
    return found


def _order(item: Object, usage: Usage, by: str) -> tuple[Any, ...]:
    meta = item["metadata"]
    names = (meta.get("namespace", ""), meta["name"])
    return (-usage[by], *names) if by else names


def _cells(usage: Usage) -> list[str]:
    return [f"{usage['cpu']}m", f"{usage['memory'] // _MIB}Mi"]


def _share(used: int, room: int) -> str:
    return f"{used * 100 // room}%" if room else "<unknown>"
