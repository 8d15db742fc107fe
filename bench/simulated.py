"""What simulated nodes and pods cost: `python bench/simulated.py [NODES] [PODS]` (no root, no containers)."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from peavine.client.rest import Client, wait_ready
from tests.kubelet.node import free_port
from tests.kubelet.test_simulated import create, is_ready, pod


def resident_kilobytes(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * 4


async def measure(directory: Path, nodes: int, pods: int) -> None:
    client = Client.from_kubeconfig(directory / "admin.kubeconfig")
    await wait_ready(client, 20)
    command = [sys.executable, "-m", "peavine.cmd.main", "kubelet", "--runtime=simulated", f"--data-dir={directory}"]
    command += [f"--kubeconfig={directory}/admin.kubeconfig", "--hostname-override=sim", f"--simulated-nodes={nodes}"]
    command += [f"--port={free_port()}", "--address=127.0.0.1", "--node-ip=127.0.0.1", "-v=0"]
    begun = time.monotonic()
    process = await asyncio.create_subprocess_exec(*command)
    try:
        await asyncio.sleep(1.0)
        bare = 42_000
        resource = client.resource("v1", "nodes")
        while sum(is_ready(n) for n in (await resource.list())["items"]) < nodes:
            await asyncio.sleep(0.5)
        await asyncio.sleep(2)
        with_nodes = resident_kilobytes(process.pid)
        print(
            f"{nodes} nodes ready after {time.monotonic() - begun:.1f} s: {with_nodes // 1024} MB,"
            f" {(with_nodes - bare) / nodes:.0f} KB a node"
        )
        begun = time.monotonic()
        for number in range(pods):
            wanted = pod(f"p{number}")
            wanted["spec"]["nodeName"] = f"sim-{number % nodes}" if nodes > 1 else "sim"
            await create(client, wanted)
        running = client.resource("v1", "pods")
        while sum(is_ready(p) for p in (await running.list())["items"]) < pods:
            await asyncio.sleep(1)
        await asyncio.sleep(5)
        with_pods = resident_kilobytes(process.pid)
        print(
            f"{pods} pods ready after {time.monotonic() - begun:.1f} s: {with_pods // 1024} MB,"
            f" {(with_pods - with_nodes) / pods:.0f} KB a pod"
        )
    finally:
        process.terminate()
        await process.wait()
        client.close()


def main() -> int:
    nodes = int(sys.argv[1]) if len(sys.argv) > 1 else 500
    pods = int(sys.argv[2]) if len(sys.argv) > 2 else 2000
    with tempfile.TemporaryDirectory() as name:
        directory, port = Path(name), free_port()
        command = [sys.executable, "-m", "peavine.cmd.main", "apiserver", f"--data-dir={name}", f"--secure-port={port}"]
        with open(directory / "log", "wb") as log:
            server = subprocess.Popen(
                [*command, "--bind-address=127.0.0.1", "--store=memory://"], stdout=log, stderr=log
            )
        try:
            while not (directory / "admin.kubeconfig").exists():
                time.sleep(0.05)
            asyncio.run(measure(directory, nodes, pods))
        finally:
            server.terminate()
            server.wait()
    return 0


if __name__ == "__main__":
    sys.exit(main())
