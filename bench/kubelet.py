"""How fast pods start on this machine, and what the kubelet costs: `python bench/kubelet.py [PODS]` (needs root)."""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from tests.kubelet.node import TestNode, usable


def resident_megabytes(pid: int) -> float:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * 4 / 1024


def cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / 100


def main() -> int:
    why = usable()
    if why:
        print(f"not run: {why}")
        return 0
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 110
    node = TestNode(Path(tempfile.mkdtemp(prefix="pvb-", dir="/tmp")), 219)
    try:
        node.start()
        assert node.kubelet is not None
        pid = node.kubelet.pid
        forever = {"command": ["sleep", "100000"]}
        took = []
        for number in range(10):
            begun = time.monotonic()
            node.create(node.pod(f"one-{number}", forever))
            name = f"one-{number}"
            node.wait(name, lambda p: p["status"].get("phase") == "Running")
            took.append(time.monotonic() - begun)
        print(f"pod start, one at a time: p50 {statistics.median(took):.2f} s, worst {max(took):.2f} s")
        for number in range(10):
            node.delete(f"one-{number}", 1)
        begun = time.monotonic()
        for number in range(count):
            node.create(node.pod(f"many-{number}", forever))
        pods = node.client.resource("v1", "pods")

        def running() -> int:
            items = node.run(pods.list("default"))["items"]
            return sum(p["status"].get("phase") == "Running" for p in items)

        node.until(running, lambda n: n == count, f"{count} pods run", 180)
        print(f"{count} pods at once: all Running after {time.monotonic() - begun:.1f} s")
        time.sleep(3)
        before, at = cpu_seconds(pid), time.monotonic()
        time.sleep(15)
        share = (cpu_seconds(pid) - before) / (time.monotonic() - at)
        print(f"idle with {count} pods: {100 * share:.1f}% of a core, {resident_megabytes(pid):.0f} MB resident")
        begun = time.monotonic()
        node.run(pods.delete_collection("default"))
        node.until(lambda: len(node.run(pods.list("default"))["items"]), lambda n: n == 0, "all are gone", 180)
        print(f"{count} pods deleted after {time.monotonic() - begun:.1f} s")
    finally:
        node.stop()
    return 0


if __name__ == "__main__":
    sys.exit(main())
