"""The ingress at size: `python bench/ingress.py [SECONDS]` (needs haproxy and wrk).

Prints throughput through our configuration and through a hand-written one for the same backends in the same run (turn
by turn; medians), the processor time of a request in both (which a busy machine disturbs less), what clients notice of
1,000 endpoint and 50 Ingress changes, and the time from nothing to 2,000 Ingresses. HAProxy's own words are left out.
"""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import signal
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from peavine.ingress.haproxy import program
from peavine.testing import AsyncCluster
from tests.ingress.cluster import Cluster, cluster, free_port

INGRESSES = 2000
ROUNDS = 25


def cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


async def wrk(port: int, seconds: int, pid: int) -> tuple[float, float]:
    """(requests a second, microseconds of HAProxy's processor time a request)"""
    before = cpu_seconds(pid)
    command = ["wrk", "-t", "2", "-c", "32", "-d", f"{seconds}s", "-H", "Host: x.example", f"http://127.0.0.1:{port}/"]
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    out = (await process.communicate())[0].decode()
    found = re.search(r"Requests/sec:\s+([\d.]+)", out)
    assert found and "Non-2xx" not in out, out
    count = re.search(r"(\d+) requests in", out)
    assert count
    return float(found[1]), 1e6 * (cpu_seconds(pid) - before) / int(count[1])


def by_hand(folder: Path, port: int, servers: list[int]) -> Path:
    lines = ["defaults", " mode http", " timeout connect 5s", " timeout client 60s", " timeout server 60s"]
    lines += ["frontend f", f" bind 127.0.0.1:{port}", " option forwardfor"]
    lines += [
        " http-request set-header X-Forwarded-Proto http",
        " use_backend b if { hdr(host) -i x.example }",
        "backend b",
    ]
    lines += [f" server s{n} 127.0.0.1:{p}" for n, p in enumerate(servers)]
    path = folder / "hand.cfg"
    path.write_text("\n".join(lines) + "\n")
    return path


async def server(folder: Path) -> tuple[asyncio.subprocess.Process, int]:
    """A backend that is faster than any proxy: HAProxy itself, with a fixed answer."""
    port = free_port()
    path = folder / f"backend-{port}.cfg"
    answer = ' http-request return status 200 content-type text/plain string "hello"'
    path.write_text(f"defaults\n mode http\n timeout client 60s\nfrontend f\n bind 127.0.0.1:{port}\n{answer}\n")
    process = await asyncio.create_subprocess_exec(str(program()), "-q", "-f", str(path))
    return process, port


async def throughput(c: Cluster, folder: Path, seconds: int) -> None:
    backends = [await server(folder) for _ in range(2)]
    await c.service("web")
    for number, (_, port) in enumerate(backends):
        c.informers.put(
            "endpointslices",
            {
                "metadata": {"name": f"fast-{number}", "labels": {"kubernetes.io/service-name": "web"}},
                "addressType": "IPv4",
                "endpoints": [{"addresses": ["127.0.0.1"], "conditions": {"ready": True}}],
                "ports": [{"name": "http", "port": port}],
            },
        )
    c.ingress("web", ("x.example", "/", "Prefix", "web"))
    await c.settled()
    port = free_port()
    config = by_hand(folder, port, [p for _, p in backends])
    # In a session of its own, as ours is: the kernel shares processors among sessions.
    command = [str(program()), "-q", "-db", "-f", str(config)]
    other = await asyncio.create_subprocess_exec(*command, start_new_session=True)
    await asyncio.sleep(0.5)
    ours: list[tuple[float, float]] = []
    theirs: list[tuple[float, float]] = []
    worker = int((await c.haproxy.ask("show info")).split("Pid: ")[1].split()[0])
    for turn in range(ROUNDS):
        # Who comes first changes: a machine gets slower and faster in the course of things.
        for mine in (True, False) if turn % 2 else (False, True):
            if mine:
                ours.append(await wrk(c.http, seconds, worker))
            else:
                theirs.append(await wrk(port, seconds, other.pid))
    for title, number in (("requests/s", 0), ("us of processor a request", 1)):
        own, hand = (statistics.median(r[number] for r in runs) for runs in (ours, theirs))
        ratios = [a[number] / b[number] for a, b in zip(ours, theirs)]
        ratio = own / hand if number == 0 else hand / own
        paired = statistics.median(ratios if number == 0 else [1 / r for r in ratios])
        print(
            f"{title:26} ours {own:8.1f}   by hand {hand:8.1f}   ratio {ratio:.3f}   "
            f"median of the {ROUNDS} rounds' ratios {paired:.3f} ({min(ratios):.2f} to {max(ratios):.2f})",
            flush=True,
        )
    for process in (other, *(p for p, _ in backends)):
        process.terminate()
        await process.wait()


async def churn(c: Cluster) -> None:
    """1,000 endpoint changes and 50 Ingress changes under load: what clients notice."""
    sets = [("w1", "w2", "w3"), ("w2", "w4"), ("w1", "w3", "w4")]
    await c.service("web", *sets[0])
    c.ingress("web", ("x.example", "/", "Prefix", "web"))
    await c.settled()
    command = ["wrk", "-t", "1", "-c", "16", "-d", "60s", "-H", "Host: x.example", f"http://127.0.0.1:{c.http}/"]
    load = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    start = time.perf_counter()
    before = c.controller.counts.runtime_changes, c.controller.counts.reloads
    for turn in range(1000):
        await c.endpoints("web", *sets[turn % 3])
        if turn % 20 == 0:
            c.ingress(f"extra{turn}", (f"h{turn}.example", "/", "Prefix", "web"))
        await asyncio.sleep(0.02)
    await c.settled()
    took = time.perf_counter() - start
    load.send_signal(signal.SIGINT)
    out = (await load.communicate())[0].decode()
    count = re.search(r"(\d+) requests in", out)
    errors = [line.strip() for line in out.splitlines() if "errors" in line or "Non-2xx" in line]
    done = c.controller.counts.runtime_changes - before[0], c.controller.counts.reloads - before[1]
    print(
        f"1,000 endpoint and 50 Ingress changes in {took:.0f} s ({done[0]} runtime changes, {done[1]} reloads), "
        f"{count[1] if count else 0} requests meanwhile: {'; '.join(errors) or 'none lost'}",
        flush=True,
    )


async def cold(c: Cluster) -> None:
    await c.settled()
    for number in range(INGRESSES):
        c.informers.put(
            "services", {"metadata": {"name": f"s{number}"}, "spec": {"ports": [{"name": "http", "port": 80}]}}
        )
        c.ingress(f"i{number}", (f"h{number}.example", "/", "Prefix", f"s{number}"))
    start = time.perf_counter()
    await c.settled()
    print(f"{INGRESSES} Ingresses served after {time.perf_counter() - start:.2f} s", flush=True)
    start = time.perf_counter()
    await c.service("s1", "w")
    await c.settled()
    print(f"one more change among them: {time.perf_counter() - start:.2f} s", flush=True)


async def from_nothing(folder: Path) -> None:
    """The process itself, started before an API server that has 2,000 Ingresses."""
    async with AsyncCluster(controllers=False, scheduler=False, nodes=0) as api:
        services = api.client.resource("v1", "services")
        ingresses = api.client.resource("networking.k8s.io/v1", "ingresses")
        meta = {"name": "web"}
        spec: dict[str, Any] = {"ports": [{"name": "http", "port": 80}]}
        await services.create({"apiVersion": "v1", "kind": "Service", "metadata": meta, "spec": spec}, "default")
        for number in range(INGRESSES):
            path = {"path": "/", "pathType": "Prefix", "backend": {"service": {"name": "web", "port": {"number": 80}}}}
            spec = {"ingressClassName": "peavine", "rules": [{"host": f"h{number}.example", "http": {"paths": [path]}}]}
            kind = {"apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "metadata": {"name": f"i{number}"}}
            await ingresses.create({**kind, "spec": spec}, "default")
        port = free_port()
        command = [sys.executable, "-m", "peavine.cmd.main", "ingress", f"--kubeconfig={api.kubeconfig}"]
        command += ["--listen=127.0.0.1", f"--http-port={port}", "--https-port=0", f"--run-dir={folder}"]
        command += ["--healthz-bind-address=", "--publish-address=10.4.7.11"]
        start = time.perf_counter()
        process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.DEVNULL, stderr=2)
        try:
            while await _answer(port, f"h{INGRESSES - 1}.example") != "503":
                await asyncio.sleep(0.02)
            served = time.perf_counter() - start
            while any(not _published(i) for i in (await ingresses.list("default"))["items"]):
                await asyncio.sleep(0.1)
            written = time.perf_counter() - start
        finally:
            process.terminate()
            await process.wait()
        print(
            f"{INGRESSES} Ingresses served {served:.1f} s after the process' start, statuses {written:.1f} s",
            flush=True,
        )


def _published(ingress: dict[str, Any]) -> bool:
    return bool(((ingress.get("status") or {}).get("loadBalancer") or {}).get("ingress"))


async def _answer(port: int, host: str) -> str:
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return ""
    writer.write(f"GET / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
    words = (await reader.readline()).decode().split()
    writer.close()
    return words[1] if len(words) > 1 else ""


async def main() -> None:
    seconds = int(sys.argv[1]) if len(sys.argv) > 1 else 1
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "run").mkdir()
        async with cluster(folder / "run") as c:
            await throughput(c, folder, seconds)
        (folder / "churn").mkdir()
        async with cluster(folder / "churn") as c:
            await churn(c)
        (folder / "many").mkdir()
        async with cluster(folder / "many") as c:
            await cold(c)
        (folder / "process").mkdir()
        await from_nothing(folder / "process")


if __name__ == "__main__":
    for tool in ("haproxy", "wrk"):
        if not (program() if tool == "haproxy" else shutil.which(tool)):
            sys.exit(f"bench/ingress.py needs {tool}")
    # HAProxy writes its notices to standard error, and so do its children.
    quiet = os.open(os.devnull, os.O_WRONLY)
    words = os.dup(2)
    os.dup2(quiet, 2)
    sys.stderr = os.fdopen(words, "w")
    asyncio.run(main())
