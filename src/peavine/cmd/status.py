"""Show what runs on this machine: processes with memory and restarts, nodes, addresses."""

from __future__ import annotations

import argparse
import json
import os
import time
from pathlib import Path
from typing import Any

from peavine.cmd.cluster import Cluster, default_data_dir
from peavine.cmd.supervise import lock


def flags() -> argparse.ArgumentParser:
    options = argparse.ArgumentParser(prog="peavine status", description=__doc__)
    options.add_argument("--data-dir", default=default_data_dir(), help="data directory (default: %(default)s)")
    options.add_argument("-o", "--output", choices=("table", "json"), default="table", help="form of the answer")
    return options


def main(argv: list[str]) -> int:
    args = flags().parse_args(argv)
    cluster = Cluster.load(args.data_dir)
    if cluster is None:
        print(f"There is no cluster in {args.data_dir}; `peavine up` makes one.")
        return 1
    status = look(cluster)
    if args.output == "json":
        print(json.dumps(status, indent=2))
    else:
        _print(cluster, status)
    return 0 if status["running"] and all(p["alive"] for p in status["processes"]) else 1


def look(cluster: Cluster) -> dict[str, Any]:
    """What runs: `processes` with name, pid, alive, restarts, uptime (seconds) and memory (bytes, resident)."""
    held = lock(cluster.directory)
    if held is not None:
        os.close(held)
        return {"running": False, "processes": []}
    try:
        state = json.loads((cluster.run_dir / "state.json").read_text())
    except FileNotFoundError:
        return {"running": True, "processes": []}
    rows = [{"name": "supervisor", "pid": state["supervisor"], "restarts": 0, "started": None}]
    rows += [{"name": name, **entry} for name, entry in state["processes"].items()]
    now = time.time()
    return {
        "running": True,
        "processes": [
            {
                "name": row["name"],
                "pid": row["pid"],
                "alive": resident_bytes(row["pid"]) > 0,
                "restarts": row["restarts"],
                "uptime": round(now - row["started"], 1) if row["started"] else None,
                "memory": resident_bytes(row["pid"]),
            }
            for row in rows
        ],
    }


def resident_bytes(pid: int) -> int:
    """Resident memory of a process; 0 for one that is gone (or where there is no /proc)."""
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    except (OSError, IndexError):
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE")


def _print(cluster: Cluster, status: dict[str, Any]) -> None:
    print(f"cluster   {cluster.data_dir} ({cluster.runtime} runtime)")
    print(f"API       {cluster.server}")
    for host in cluster.hosts:
        print(f"node      {host.node} {host.address}")
    print(f"networks  pods {cluster.pod_range}, services {cluster.service_range}")
    if not status["running"]:
        print("\nNothing runs; `peavine up` starts it.")
        return
    print(f"\n{'PROCESS':28} {'PID':>8} {'STATE':8} {'RESTARTS':>8} {'UPTIME':>10} {'MEMORY':>10}")
    for row in status["processes"]:
        uptime = f"{row['uptime']:.0f}s" if row["uptime"] is not None else ""
        state, memory = "running" if row["alive"] else "down", f"{row['memory'] / 1e6:.0f} MB"
        print(f"{row['name']:28} {row['pid']:>8} {state:8} {row['restarts']:>8} {uptime:>10} {memory:>10}")
    own = sum(row["memory"] for row in status["processes"] if not row["name"].startswith("containerd"))
    print(f"\n{own / 1e6:.0f} MB resident without containerd")
