"""Start-up times and memory of a one-node cluster: `python bench/startup.py` (as root, on containerd).

Prints a table, beside the figures of the previous run (kept in .bench/startup.json). Memory is told twice: resident
(RSS, counts what processes share once for each) and proportional (PSS, counts it once).
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

PEAVINE = [sys.executable, "-m", "peavine.cmd.main"]
PREVIOUS = Path(".bench/startup.json")
PORT = 26444
IDLE_SECONDS = 10


def peavine(*args: str) -> str:
    return subprocess.run([*PEAVINE, *args], capture_output=True, text=True, check=True).stdout


def memory(pid: int) -> tuple[float, float]:
    """(RSS, PSS) in MB."""
    fields = {}
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]:
        name, _, value = line.partition(":")
        fields[name] = int(value.split()[0]) / 1024
    return fields["Rss"], fields["Pss"]


def measure(directory: str) -> dict[str, float]:
    from peavine.client.config import load_kubeconfig  # noqa: F401 - warms the page cache of the interpreter

    started = time.monotonic()
    out = peavine("up", f"--data-dir={directory}", f"--secure-port={PORT}")
    figures = {"up returns (s)": time.monotonic() - started}
    for line in out.splitlines():
        if "ready after" in line:
            what = "API ready (s)" if line.startswith("API") else "node ready (s)"
            figures[what] = float(line.split("ready after ")[1].split()[0])
    peavine("example", f"--data-dir={directory}")
    figures["example answers (s)"] = time.monotonic() - started
    figures["first pod running (s)"] = first_pod(directory)
    time.sleep(IDLE_SECONDS)
    status = json.loads(peavine("status", f"--data-dir={directory}", "-o", "json"))
    total = [0.0, 0.0]
    for process in status["processes"]:
        rss, pss = memory(process["pid"])
        figures[f"{process['name']} RSS (MB)"], figures[f"{process['name']} PSS (MB)"] = rss, pss
        if process["name"] != "containerd":
            total = [total[0] + rss, total[1] + pss]
    figures["all without containerd RSS (MB)"], figures["all without containerd PSS (MB)"] = total
    started = time.monotonic()
    peavine("up", f"--data-dir={directory}")
    figures["second up (s)"] = time.monotonic() - started
    return figures


def first_pod(directory: str) -> float:
    """Seconds from the first process' start to the first container's, by the cluster's own records."""
    import asyncio

    from peavine.client import Client
    from peavine.machinery.meta import parse_time

    async def look() -> float:
        client = Client.from_kubeconfig(f"{directory}/admin.kubeconfig")
        pods = (await client.resource("v1", "pods").list("default"))["items"]
        return min(
            parse_time(s["state"]["running"]["startedAt"]) for p in pods for s in p["status"]["containerStatuses"]
        )

    state = json.loads(Path(directory, "run", "state.json").read_text())
    return asyncio.run(look()) - min(p["started"] for p in state["processes"].values())


def main() -> None:
    with tempfile.TemporaryDirectory() as home:
        directory = f"{home}/cluster"
        try:
            figures = measure(directory)
        finally:
            peavine("down", f"--data-dir={directory}", "--purge")
    before = json.loads(PREVIOUS.read_text()) if PREVIOUS.exists() else {}
    print(f"{'figure':36} {'now':>9} {'before':>9}")
    for name, value in figures.items():
        print(f"{name:36} {value:9.2f} {before[name]:9.2f}" if name in before else f"{name:36} {value:9.2f} {'':>9}")
    PREVIOUS.parent.mkdir(exist_ok=True)
    PREVIOUS.write_text(json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()
