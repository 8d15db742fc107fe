"""How fast the API server is, and what it costs: start-up, GET, LIST, create, patch, watch fan-out, resident memory.

    bench/apiserver.py [--objects 2000] [--watchers 200] [--seconds 2]

One server process on SQLite with TLS; this process is the client. Numbers are of this machine, client included.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import ssl
import tempfile
import time
from pathlib import Path

from tests.apiserver.serving import ServerProcess

MAPS = "/api/v1/namespaces/default/configmaps"
PODS = "/api/v1/namespaces/default/pods"


def pod(name: str) -> dict:
    containers = [{"name": "c", "image": "nginx:1", "resources": {"requests": {"cpu": "100m", "memory": "64Mi"}}}]
    labels = {"app": "bench", "name": name}
    return {"metadata": {"name": name, "labels": labels}, "spec": {"nodeName": "n1", "containers": containers}}


class Connection:
    """One kept connection; requests one after another."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    async def __call__(self, method: str, path: str, body: object = None, kind: str = "application/json") -> int:
        data = json.dumps(body).encode() if body is not None else b""
        head = f"{method} {path} HTTP/1.1\r\nHost: x\r\nContent-Type: {kind}\r\nContent-Length: {len(data)}\r\n\r\n"
        self.writer.write(head.encode() + data)
        answer = (await self.reader.readuntil(b"\r\n\r\n")).lower()
        if b"content-length: " in answer:
            length = int(answer.split(b"content-length: ")[1].split(b"\r\n")[0])
            await self.reader.readexactly(length)
            return length
        total = 0
        while size := int((await self.reader.readline()).strip(), 16):
            total += size
            await self.reader.readexactly(size + 2)
        await self.reader.readexactly(2)
        return total


async def connect(port: int, tls: ssl.SSLContext) -> Connection:
    return Connection(*await asyncio.open_connection("127.0.0.1", port, ssl=tls, limit=1 << 26))


async def rate(name: str, connections: list[Connection], request, seconds: float) -> None:
    """`request(connection, n)` on every connection, over and over, for that long."""
    times: list[float] = []
    until = time.perf_counter() + seconds
    counter = iter(range(1 << 40))

    async def work(connection: Connection) -> None:
        while (began := time.perf_counter()) < until:
            await request(connection, next(counter))
            times.append(time.perf_counter() - began)

    await asyncio.gather(*(work(c) for c in connections))
    times.sort()
    p50, p99 = times[len(times) // 2] * 1e3, times[int(len(times) * 0.99)] * 1e3
    print(f"{name:34} {len(times) / seconds:9.0f} /s   p50 {p50:6.2f} ms   p99 {p99:6.2f} ms")


async def fan_out(server: ServerProcess, tls: ssl.SSLContext, watchers: int, events: int) -> None:
    """Every watcher hears of every event: how many frames arrive in a second."""
    heard = 0
    done = asyncio.get_running_loop().create_future()

    async def watch() -> None:
        nonlocal heard
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port, ssl=tls, limit=1 << 26)
        writer.write(f"GET {MAPS}?watch=1&sendInitialEvents=false&resourceVersionMatch=NotOlderThan HTTP/1.1\r\n"
                     "Host: x\r\n\r\n".encode())  # fmt: skip
        await reader.readuntil(b"\r\n\r\n")
        ready.append(1)
        while not done.done():
            size = int((await reader.readline()).strip(), 16)
            await reader.readexactly(size + 2)
            heard += 1
            if heard == watchers * events:
                done.set_result(None)
        writer.close()

    ready: list[int] = []
    tasks = [asyncio.ensure_future(watch()) for _ in range(watchers)]
    while len(ready) < watchers:
        await asyncio.sleep(0.01)
    writer = await connect(server.port, tls)
    began = time.perf_counter()
    for i in range(events):
        await writer("POST", MAPS, {"metadata": {"name": f"fan-{time.time_ns()}-{i}"}, "data": {"a": "x" * 500}})
    await asyncio.wait_for(done, 60)
    seconds = time.perf_counter() - began
    print(f"{f'watch fan-out, {watchers} watchers':34} {heard / seconds:9.0f} events/s")
    for task in tasks:
        task.cancel()


def resident(server: ServerProcess) -> str:
    assert server.process is not None
    pages = int(Path(f"/proc/{server.process.pid}/statm").read_text().split()[1])
    return f"{pages * 4096 / (1 << 20):.0f} MiB"


async def run(server: ServerProcess, args: argparse.Namespace) -> None:
    tls = server.tls()
    connections = [await connect(server.port, tls) for _ in range(args.connections)]
    first = connections[0]
    await rate("create pods", connections, lambda c, n: c("POST", PODS, pod(f"p{n}")), args.seconds)
    print(f"{'resident memory with these pods':34} {resident(server):>9}")
    merge = "application/merge-patch+json"
    change = lambda c, n: c("PATCH", f"{PODS}/p{n % 50}", {"metadata": {"labels": {"n": str(n)}}}, merge)  # noqa: E731
    await rate("patch pods (50 of them)", connections, change, args.seconds)
    await rate("get a pod", connections, lambda c, n: c("GET", f"{PODS}/p1"), args.seconds)
    began = time.perf_counter()
    size = await first("GET", PODS)
    print(f"{'list all pods':34} {size / 1e6:9.1f} MB in {(time.perf_counter() - began) * 1e3:.0f} ms")
    await rate("list pods by label (one)", connections, lambda c, n: c("GET", f"{PODS}?labelSelector=name%3Dp1"), 1)
    await rate("list 50 of them", connections, lambda c, n: c("GET", f"{PODS}?limit=50"), 1)
    await fan_out(server, tls, args.watchers, 50)
    print(f"{'resident memory at the end':34} {resident(server):>9}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--watchers", type=int, default=200)
    parser.add_argument("--connections", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=2.0)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        flags = ["--disable-admission-plugins", "ServiceAccount", "-v", "0"]
        for name in ("start-up, empty directory", "start-up, again"):
            began = time.perf_counter()
            with ServerProcess(Path(directory), flags) as server:
                print(f"{name:34} {(time.perf_counter() - began) * 1e3:9.0f} ms")
                print(f"{'resident memory, idle':34} {resident(server):>9}")
                if "again" in name:
                    asyncio.run(run(server, args))


if __name__ == "__main__":
    main()
