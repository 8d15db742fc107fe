"""Clusters for tests: start, reset and memory of many in one process: `python bench/testing.py`.

Prints a table, beside the figures of the previous run (kept in .bench/testing.json).
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import subprocess
import sys
import time
from pathlib import Path

PREVIOUS = Path(".bench/testing.json")
CLUSTERS = 50
OBJECTS = 300
API_ONLY = {"controllers": False, "scheduler": False, "nodes": 0}
WANTED = {
    "API ready, later clusters (s)": 0.3,
    f"reset of {OBJECTS} objects (s)": 0.02,
    f"{CLUSTERS} clusters, resident (MB)": 600,
}


def resident() -> float:
    """MB of this process."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096 / 2**20


def cold() -> float:
    """Seconds from the start of an interpreter to a ready API."""
    script = (
        "import asyncio\nfrom peavine.testing import AsyncCluster\n"
        "async def main():\n"
        "    async with AsyncCluster(controllers=False, scheduler=False, nodes=0): pass\n"
        "asyncio.run(main())"
    )
    began = time.monotonic()
    subprocess.run([sys.executable, "-c", script], check=True)
    return time.monotonic() - began


async def measure() -> dict[str, float]:
    from peavine.testing import AsyncCluster

    figures = {"process started, API up and down (s)": cold()}
    for name, options in (
        ("API ready, first cluster (s)", API_ONLY),
        ("API ready, later clusters (s)", API_ONLY),
        ("all started, first cluster (s)", {}),
        ("all started, later clusters (s)", {}),
    ):
        began = time.monotonic()
        async with AsyncCluster(**options):  # type: ignore[arg-type]
            figures[name] = time.monotonic() - began
    figures |= await resets()
    figures |= await hour()
    figures |= await many()
    return figures


async def resets() -> dict[str, float]:
    from peavine.testing import AsyncCluster

    async with AsyncCluster(**API_ONLY) as cluster:  # type: ignore[arg-type]
        maps = cluster.client.resource("v1", "configmaps")
        before = await cluster.snapshot()
        for i in range(OBJECTS):
            await maps.create({"metadata": {"name": f"m{i}"}, "data": {"a": "b" * 200}}, "default")
        began = time.monotonic()
        await cluster.reset(before)
        left = len((await maps.list("default"))["items"])
        assert left <= 1, left
        return {f"reset of {OBJECTS} objects (s)": time.monotonic() - began}


async def hour() -> dict[str, float]:
    from peavine.testing import AsyncCluster

    async with AsyncCluster() as cluster:
        await cluster.create_namespace("one")
        began = time.monotonic()
        await cluster.advance(3600)
        return {"an hour of an idle cluster (s)": time.monotonic() - began}


async def many() -> dict[str, float]:
    from peavine.testing import AsyncCluster

    async with contextlib.AsyncExitStack() as stack:
        began = time.monotonic()
        clusters = [await stack.enter_async_context(AsyncCluster(**API_ONLY)) for _ in range(CLUSTERS)]  # type: ignore[arg-type]
        took = time.monotonic() - began
        for cluster in clusters:
            await cluster.client.resource("v1", "configmaps").create({"metadata": {"name": "a"}}, "default")
        return {f"{CLUSTERS} clusters, started (s)": took, f"{CLUSTERS} clusters, resident (MB)": resident()}


def main() -> None:
    figures = asyncio.run(measure())
    before = json.loads(PREVIOUS.read_text()) if PREVIOUS.exists() else {}
    print(f"{'figure':40} {'now':>9} {'before':>9} {'goal':>9}")
    for name, value in figures.items():
        columns = [f"{table[name]:9.3f}" if name in table else " " * 9 for table in (before, WANTED)]
        print(f"{name:40} {value:9.3f} {' '.join(columns)}")
    PREVIOUS.parent.mkdir(exist_ok=True)
    PREVIOUS.write_text(json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()
