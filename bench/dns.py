"""The DNS server under load: `python bench/dns.py [SECONDS]` (needs dnsperf). The server runs in this process, on
one core.
"""

from __future__ import annotations

import asyncio
import re
import shutil
import sys
import tempfile
from pathlib import Path

from peavine.base import lifetimes
from peavine.dns.forward import Forwarder
from peavine.dns.server import Server
from peavine.dns.zone import ServiceView, Zone

SERVICES = 1000


def questions() -> dict[str, list[str]]:
    names = [f"s{n}.default.svc.cluster.local" for n in range(SERVICES)]
    return {
        "A of Services": [f"{name} A" for name in names],
        "A, AAAA and SRV": [
            *(f"{name} A" for name in names),
            *(f"{name} AAAA" for name in names),
            *(f"_http._tcp.{name} SRV" for name in names),
        ],
        "names that do not exist": [f"www{n}.example.com.default.svc.cluster.local A" for n in range(500)],
    }


async def load(port: int, lines: list[str], seconds: int, *options: str) -> str:
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as f:
        f.write("\n".join(lines) + "\n")
        f.flush()
        command = [
            "dnsperf",
            "-s",
            "127.0.0.1",
            "-p",
            str(port),
            "-d",
            f.name,
            "-l",
            str(seconds),
            "-c",
            "8",
            "-q",
            "200",
        ]
        p = await asyncio.create_subprocess_exec(*command, *options, stdout=asyncio.subprocess.PIPE)
        out = (await p.communicate())[0].decode()
    rate = re.search(r"Queries per second:\s+([\d.]+)", out)
    lost = re.search(r"Queries lost:\s+(\d+)", out)
    latency = re.search(r"Average Latency \(s\):\s+([\d.]+)", out)
    if not (rate and lost and latency):
        return out
    return f"{float(rate[1]):9.0f} answers/s   {1000 * float(latency[1]):6.2f} ms   {lost[1]} lost"


def memory() -> float:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096 / 2**20


async def main() -> None:
    seconds = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    zone = Zone()
    zone.set_namespace("default", True)
    for n in range(SERVICES):
        view = ServiceView((f"192.168.{n >> 8}.{n & 255}", f"fd08::{n:x}"), (("http", "tcp", 80),), "")
        zone.set_service(("default", f"s{n}"), view)
    server = Server(zone, Forwarder([]))
    server.ready = True
    port = server.start("127.0.0.1", 0)
    async with lifetimes.scope() as tasks:
        tasks.start(server.run())
        for title, lines in questions().items():
            print(f"{title:26} {await load(port, lines, seconds)}", flush=True)
            print(f"{'  with EDNS':26} {await load(port, lines, seconds, '-e')}", flush=True)
    print(f"memory {memory():.0f} MB with {SERVICES} Services")


if __name__ == "__main__":
    if not shutil.which("dnsperf"):
        sys.exit("bench/dns.py needs dnsperf")
    lifetimes.run(main())
