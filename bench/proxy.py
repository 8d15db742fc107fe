"""The proxy at size: `python bench/proxy.py [MODE...] [--services N] [--endpoints N]` (root; in a network namespace
of its own).

Prints for each mode: time of the first full sync, time from an EndpointSlice to the kernel, memory, and the latency
of a connection's first packets through a Service, with 10 Services and with many.
"""

from __future__ import annotations

import argparse
import os
import resource
import socket
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from peavine.proxy import modes
from peavine.proxy.backend import BackendUnavailable, Settings
from peavine.proxy.model import Model, Node, view_service, view_slice
from tests.linux import world as worlds


def service(number: int) -> dict[str, Any]:
    ip = f"192.168.{number >> 8}.{number & 255}"
    return {
        "metadata": {"name": f"s{number}", "namespace": "default"},
        "spec": {"clusterIPs": [ip], "ports": [{"name": "http", "port": 80, "protocol": "TCP"}]},
    }


def slice_of(number: int, endpoints: list[str]) -> dict[str, Any]:
    return {
        "metadata": {
            "name": f"s{number}-x",
            "namespace": "default",
            "labels": {"kubernetes.io/service-name": f"s{number}"},
        },
        "addressType": "IPv4",
        "endpoints": [{"addresses": [ip], "nodeName": "b", "conditions": {"ready": True}} for ip in endpoints],
        "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}],
    }


def addresses(number: int, count: int, generation: int = 0) -> list[str]:
    # Service 1 is the one that is really called; the others' endpoints are nowhere.
    if number == 1:
        return [worlds.PODS["b1"][1]]
    return [f"172.7.{100 + (number * count + i + generation) % 100}.{(number + i) % 250 + 1}" for i in range(count)]


def percentile(values: list[float], share: float) -> float:
    return sorted(values)[min(len(values) - 1, int(len(values) * share))]


def first_packets(world: worlds.World, times: int = 300) -> float:
    """Median milliseconds of a TCP connect from a pod through Service 1."""
    took = []
    with world.inside("a2"):
        for _ in range(times):
            with socket.socket() as s:
                start = time.perf_counter()
                s.connect(("192.168.0.1", 80))
                took.append(time.perf_counter() - start)
    return statistics.median(took) * 1000


def measure(mode: str, services: int, endpoints: int) -> None:
    with worlds.make() as world:
        world.serve("b1", 8080)
        with world.inside("a"):
            try:
                backend = modes.make(mode, Settings(cluster_cidrs=worlds.POD_CIDRS))
            except BackendUnavailable as error:
                print(f"{mode:10} skipped: {error}")
                return
            model = Model(Node("a"))

            def load(first: int, last: int) -> None:
                for number in range(first, last):
                    model.set_service(("default", f"s{number}"), view_service(service(number)))
                    piece = slice_of(number, addresses(number, endpoints))
                    model.set_slice(("default", f"s{number}-x"), view_slice(piece))

            load(1, 11)
            backend.start([p for change in model.take() for p in change.new])
        few = first_packets(world)
        with world.inside("a"):
            load(11, services + 1)
            start = time.perf_counter()
            model.take()
            backend.start([p for ports in model.ports.values() for p in ports])
            full = time.perf_counter() - start
            changes = []
            for turn in range(200 if mode == "nftables" else 20):
                number = 20 + turn % (services - 20)
                piece = slice_of(number, addresses(number, endpoints - turn % 2, generation=turn + 1))
                start = time.perf_counter()
                model.set_slice(("default", f"s{number}-x"), view_slice(piece))
                backend.apply(model.take())
                changes.append((time.perf_counter() - start) * 1000)
        many = first_packets(world)
        memory = int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / 2**20
        print(
            f"{mode:10} {services} services x {endpoints} endpoints: full sync {full:6.2f} s   "
            f"slice to kernel p50 {percentile(changes, 0.5):7.2f} ms  p99 {percentile(changes, 0.99):7.2f} ms   "
            f"connect {few:5.3f} ms with 10, {many:5.3f} ms with all   process {memory:4.0f} MB",
            flush=True,
        )
        backend.close()


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("modes", nargs="*", default=["nftables", "iptables"])
    p.add_argument("--services", type=int, default=10_000)
    p.add_argument("--endpoints", type=int, default=5)
    p.add_argument("--here", action="store_true", help=argparse.SUPPRESS)
    options = p.parse_args()
    if os.geteuid() != 0:
        sys.exit("bench/proxy.py needs root: it makes network namespaces")
    for mode in options.modes:
        if options.here:
            measure(mode, options.services, options.endpoints)
        else:
            # A process each, so that memory is the mode's own.
            size = ["--services", str(options.services), "--endpoints", str(options.endpoints)]
            subprocess.run([sys.executable, __file__, mode, "--here", *size], check=True)


if __name__ == "__main__":
    main()
