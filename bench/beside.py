"""The same requests, in the same run, to this API server and to upstream's kube-apiserver with etcd.

    bench/beside.py --kube-apiserver PATH [--seconds 3] [--objects 2000]

Each server has the machine to itself while it is measured. Both serve TLS; ours keeps its state in SQLite and writes
durably, kube-apiserver in the etcd of the machine, whose memory counts as its own. One Python client makes the
requests, so the fastest figures are the client's; GET and LIST are asked by wrk too, where it is installed.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import shutil
import socket
import ssl
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path

from bench.apiserver import MAPS, PODS, Connection, connect, pod

from peavine.cmd.pki import ensure_pki
from tests.apiserver.serving import ServerProcess

TOKEN = "bench-token"
FLAGS = ["--disable-admission-plugins=ServiceAccount"]
LOAD = ("wrk", "-t2", "-c16")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Upstream:
    """`with Upstream(directory, binary) as server`: kube-apiserver on a free port, and an etcd of its own."""

    def __init__(self, directory: Path, binary: str) -> None:
        self.directory, self.binary = directory, binary
        self.port, self.etcd_port = free_port(), free_port()
        self.processes: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> Upstream:
        pki = ensure_pki(self.directory, advertise_addresses=["127.0.0.1"])
        tokens = self.directory / "tokens.csv"
        tokens.write_text(f"{TOKEN},admin,admin,system:masters\n")
        etcd, peer = (f"http://127.0.0.1:{port}" for port in (self.etcd_port, free_port()))
        self._start(
            "etcd", f"--data-dir={self.directory}/etcd", f"--listen-client-urls={etcd}",
            f"--advertise-client-urls={etcd}", f"--listen-peer-urls={peer}", f"--initial-advertise-peer-urls={peer}",
            f"--initial-cluster=default={peer}",
        )  # fmt: skip
        self._start(
            self.binary, f"--etcd-servers={etcd}", f"--secure-port={self.port}", "--bind-address=127.0.0.1",
            f"--tls-cert-file={pki.cert('apiserver')}", f"--tls-private-key-file={pki.key('apiserver')}",
            f"--client-ca-file={pki.cert('ca')}", f"--token-auth-file={tokens}",
            "--service-account-issuer=https://bench",
            f"--service-account-signing-key-file={pki.service_account_key}", "--authorization-mode=Node,RBAC",
            f"--service-account-key-file={pki.service_account_public_key}", *FLAGS,
            "--service-cluster-ip-range=10.0.0.0/16",
        )  # fmt: skip
        wait_ready(self)
        return self

    def _start(self, *command: str) -> None:
        with open(self.directory / "log", "ab") as log:
            self.processes.append(subprocess.Popen(command, stdout=log, stderr=log))

    def __exit__(self, *_: object) -> None:
        for process in reversed(self.processes):
            process.terminate()
            process.wait(20)

    def tls(self) -> ssl.SSLContext:
        return tls(str(self.directory / "pki" / "ca.crt"))


def tls(ca: str) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=ca)


def wait_ready(server: Upstream) -> None:
    until = time.monotonic() + 60
    request = urllib.request.Request(f"https://127.0.0.1:{server.port}/readyz", headers=bearer(TOKEN))
    while time.monotonic() < until:
        try:
            if urllib.request.urlopen(request, context=server.tls(), timeout=2).status == 200:
                return
        except (OSError, urllib.error.HTTPError):
            time.sleep(0.02)
    raise SystemExit(f"kube-apiserver does not become ready: see {server.directory}/log")


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


class Ours(ServerProcess):
    """This project's server, with the same plugins off, and its processes under the same name."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory, [*FLAGS, "-v", "0"])

    @property
    def processes(self) -> list[subprocess.Popen[bytes]]:
        assert self.process is not None
        return [self.process]


def memory(server: Upstream | Ours) -> float:
    """MiB that its processes have in memory."""
    pages = [int(Path(f"/proc/{p.pid}/statm").read_text().split()[1]) for p in server.processes]
    return sum(pages) * 4096 / (1 << 20)


class Authorized(Connection):
    """A connection that shows a token with each request."""

    token = ""

    async def __call__(self, method: str, path: str, body: object = None, kind: str = "application/json") -> int:
        return await super().__call__(method, path, body, f"{kind}\r\nAuthorization: Bearer {self.token}")


async def rate(connections: list[Connection], request, seconds: float) -> tuple[float, float]:
    """Requests a second, and the median of their times in ms."""
    times: list[float] = []
    until = time.perf_counter() + seconds
    counter = iter(range(1 << 40))

    async def work(connection: Connection) -> None:
        while (began := time.perf_counter()) < until:
            await request(connection, next(counter))
            times.append(time.perf_counter() - began)

    await asyncio.gather(*(work(c) for c in connections))
    times.sort()
    return len(times) / seconds, times[len(times) // 2] * 1e3


async def measure(server: Upstream | Ours, context: ssl.SSLContext, args: argparse.Namespace) -> dict[str, str]:
    found = {"memory, idle": f"{memory(server):.0f} MiB"}
    token = Authorized.token
    connections: list[Connection] = []
    for _ in range(8):
        connection = await connect(server.port, context)
        connections.append(Authorized(connection.reader, connection.writer))

    async def note(name: str, request, seconds: float = args.seconds, on: list[Connection] = connections) -> None:
        each, median = await rate(on, request, seconds)
        found[name] = f"{each:.0f}/s, p50 {median:.2f} ms"

    for n in range(args.objects):
        await connections[n % 8]("POST", PODS, pod(f"p{n}"))
    found[f"memory with {args.objects} pods"] = f"{memory(server):.0f} MiB"
    await note(
        "create a ConfigMap, one client",
        lambda c, n: c("POST", MAPS, {"metadata": {"name": f"a{n}"}}),
        on=connections[:1],
    )
    await note("create a ConfigMap, 8 clients", lambda c, n: c("POST", MAPS, {"metadata": {"name": f"b{n}"}}))
    merge = "application/merge-patch+json"
    await note(
        "patch a pod, 8 clients",
        lambda c, n: c("PATCH", f"{PODS}/p{n % 50}", {"metadata": {"labels": {"n": str(n)}}}, merge),
    )
    await note("get a pod, one client", lambda c, n: c("GET", f"{PODS}/p1"), on=connections[:1])
    await note(f"list {args.objects} pods, one client", lambda c, n: c("GET", PODS), on=connections[:1])
    await note("list the pods of a label (one)", lambda c, n: c("GET", f"{PODS}?labelSelector=name%3Dp1"))
    if shutil.which("wrk"):
        for name, path in (("get a pod, wrk", f"{PODS}/p1"), (f"list {args.objects} pods, wrk", PODS)):
            found[name] = await asyncio.to_thread(loaded, server.port, path, token, args.seconds)
    found["memory at the end"] = f"{memory(server):.0f} MiB"
    return found


def loaded(port: int, path: str, token: str, seconds: float) -> str:
    """What wrk says of 16 connections."""
    command = [*LOAD, f"-d{seconds:.0f}s", "--latency", "-H", f"Authorization: Bearer {token}"]
    done = subprocess.run([*command, f"https://127.0.0.1:{port}{path}"], capture_output=True, text=True, check=True)
    each = re.search(r"Requests/sec:\s+([\d.]+)", done.stdout)
    median = re.search(r"^\s+50%\s+(\S+)", done.stdout, re.MULTILINE)
    assert each and median, done.stdout
    wrong = re.search(r"Non-2xx.*", done.stdout)
    assert not wrong, wrong and wrong[0]
    return f"{float(each[1]):.0f}/s, p50 {median[1]}"


def our_token(server: Ours) -> str:
    """A token of a ServiceAccount that may do everything, made with the administrator's certificate."""
    context = server.tls()

    def post(path: str, body: object) -> dict:
        request = urllib.request.Request(
            f"https://127.0.0.1:{server.port}{path}", json.dumps(body).encode(), {"Content-Type": "application/json"}
        )
        return json.load(urllib.request.urlopen(request, context=context))

    post("/api/v1/namespaces/default/serviceaccounts", {"metadata": {"name": "bench"}})
    role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin"}
    subject = {"kind": "ServiceAccount", "name": "bench", "namespace": "default"}
    binding = {"metadata": {"name": "bench"}, "roleRef": role, "subjects": [subject]}
    post("/apis/rbac.authorization.k8s.io/v1/clusterrolebindings", binding)
    return post("/api/v1/namespaces/default/serviceaccounts/bench/token", {"spec": {}})["status"]["token"]


def run(kind: type[Upstream] | type[Ours], args: argparse.Namespace) -> dict[str, str]:
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        make = (lambda: Upstream(directory, args.kube_apiserver)) if kind is Upstream else (lambda: Ours(directory))
        found = {}
        for when in ("first start", "second start"):
            began = time.perf_counter()
            with make() as server:
                found[when] = f"{(time.perf_counter() - began) * 1e3:.0f} ms"
                if when == "second start":
                    ours = isinstance(server, Ours)
                    Authorized.token = our_token(server) if ours else TOKEN
                    context = tls(server.client_files()[0]) if ours else server.tls()
                    found |= asyncio.run(measure(server, context, args))
        return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kube-apiserver", required=True, metavar="PATH", help="upstream's binary")
    parser.add_argument("--seconds", type=float, default=3.0, help="of each figure")
    parser.add_argument("--objects", type=int, default=2000, help="pods in the store")
    args = parser.parse_args()
    said = subprocess.run([args.kube_apiserver, "--version"], capture_output=True, text=True, check=True).stdout
    theirs, ours = run(Upstream, args), run(Ours, args)
    print(f"{'':34} {'peavine':>26} {said.split()[-1] + ' + etcd':>30}")
    for name in ours:
        print(f"{name:34} {ours[name]:>26} {theirs[name]:>30}")


if __name__ == "__main__":
    main()
