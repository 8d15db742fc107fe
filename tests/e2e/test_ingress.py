"""Ingresses, Gateways and load balancers before real pods, on three hosts; clients are on the hosts' network."""

import json
import os
import random
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from peavine.linux import links, namespaces
from tests.e2e.conftest import IMAGE, kubectl_versions, until
from tests.e2e.test_many_nodes import cluster
from tests.ingress.gateways import GROUP, gateway, listener, path, route, rule

pytestmark = [pytest.mark.root, pytest.mark.slow]

# Other clusters on this machine, and other runs of these tests, have theirs.
NUMBER = random.choice([n for n in range(60, 250) if not any(f"peavine-{n}-" in name for name in namespaces.names())])
NET, BRIDGE = f"10.4.{NUMBER}", f"peavine-{NUMBER}"
POOL = f"{NET}.200-{NET}.209"
# What pods run: HTTP that says who it is and who asked, WebSocket that echoes, and gRPC.
SERVER = """
import asyncio, os, signal
from concurrent import futures

name = os.environ["NAME"]

async def serve(reader, writer):
    peer = writer.get_extra_info("peername")[0]
    try:
        while True:
            head = (await reader.readuntil(b"\\r\\n\\r\\n")).decode()
            if "upgrade: websocket" in head.lower():
                writer.write(b"HTTP/1.1 101 Switching Protocols\\r\\nUpgrade: websocket\\r\\nConnection: Upgrade\\r\\n")
                writer.write(b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\\r\\n\\r\\n")
                while data := await reader.read(1000):
                    writer.write(b"echo:" + data)
                break
            body = f"{name} {head.split()[1]} {peer}\\n".encode()
            writer.write(b"HTTP/1.1 200 OK\\r\\nContent-Length: %d\\r\\n\\r\\n" % len(body) + body)
    except (asyncio.IncompleteReadError, ConnectionError):
        pass
    writer.close()

async def main():
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, os._exit, 0)
    server = await asyncio.start_server(serve, "0.0.0.0", 8080, backlog=512)
    async with server:
        await server.serve_forever()

if os.environ.get("GRPC"):
    import grpc

    class Echo(grpc.GenericRpcHandler):
        def service(self, details):
            return grpc.unary_unary_rpc_method_handler(lambda request, _: name.encode() + b":" + request)

    rpc = grpc.server(futures.ThreadPoolExecutor(2), handlers=[Echo()])
    rpc.add_insecure_port("0.0.0.0:9090")
    rpc.start()
asyncio.run(main())
"""
WEBSOCKET = """
import socket, sys
with socket.create_connection((sys.argv[1], 80), 30) as s:
    s.sendall(b"GET /ws HTTP/1.1\\r\\nHost: web.example\\r\\nUpgrade: websocket\\r\\nConnection: Upgrade\\r\\n"
              b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\\r\\nSec-WebSocket-Version: 13\\r\\n\\r\\n")
    f = s.makefile("rb")
    print(f.readline().decode().strip())
    while f.readline().strip():
        pass
    s.sendall(b"hello")
    print(f.read(10).decode())
"""
CLIENT = """
import sys, grpc
ca, target = sys.argv[1:]
credentials = grpc.ssl_channel_credentials(open(ca, "rb").read())
channel = grpc.secure_channel(target, credentials, [("grpc.ssl_target_name_override", "rpc.example")])
print(channel.unary_unary("/test.Echo/Say")(b"hello", timeout=30).decode())
"""


class Client:
    """A machine of its own on the hosts' network: it sees the hosts only by their packets."""

    def __init__(self, machine, address=f"{NET}.150"):
        self.name, self.machine, self.address = f"{machine.name}-c", machine, address

    def __enter__(self):
        namespaces.create(self.name)
        with namespaces.inside(self.machine.name):
            links.batch(["link add client0 type veth peer name outside0"])
            links.batch([f"link set client0 master {BRIDGE}", "link set client0 up"])
            subprocess.run(["ip", "link", "set", "outside0", "netns", self.name], check=True)
        with namespaces.inside(self.name):
            links.batch(["link set lo up", f"address add {self.address}/24 dev outside0", "link set outside0 up"])
        return self

    def __exit__(self, *_):
        namespaces.remove(self.name)

    def run(self, *command, **more):
        with namespaces.inside(self.name):
            return subprocess.run(command, capture_output=True, text=True, timeout=120, **more)

    def get(self, url, *more, seconds=2):
        """The page, or nothing."""
        return self.run("curl", "-s", "-m", str(seconds), *more, url).stdout


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """(machine, kubectl, client)"""
    if os.geteuid() != 0:
        pytest.skip("needs root")
    tools = ("containerd", "runc", "nft", "busybox", "catatonit", "haproxy", "curl")
    if missing := [name for name in tools if not shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin")]:
        pytest.skip(f"needs {', '.join(missing)}")
    if not kubectl_versions():
        pytest.skip("needs the real kubectl")
    flags = ["--nodes=3", f"--node-cidr={NET}.0/24", "--gateway-api", f"--load-balancer-pool={POOL}"]
    with cluster(tmp_path_factory.mktemp("ingress"), *flags) as (machine, kubectl), Client(machine) as client:
        kubectl("create", "configmap", "server", f"--from-literal=server.py={SERVER}")
        apply(kubectl, *servers("one", 1, grpc=True), *servers("two", 2), *servers("all", 0))
        for what in ("deployment/one", "deployment/two", "daemonset/all"):
            kubectl("rollout", "status", what, "--timeout=90s")
        yield machine, kubectl, client


def apply(kubectl, *items):
    kubectl("apply", "-f", "-", stdin=json.dumps({"apiVersion": "v1", "kind": "List", "items": list(items)}))


def servers(name, replicas, grpc=False):
    """A Deployment (without replicas: a DaemonSet) and its Service. The image has no Python: pods use the machine's."""
    folders = {"/usr", "/lib", "/lib64", "/etc/ssl", sys.base_prefix, sys.prefix}
    folders = sorted(f for f in folders if Path(f).exists())
    mounts = [{"name": f"host{n}", "mountPath": f, "readOnly": True} for n, f in enumerate(folders)]
    volumes = [{"name": f"host{n}", "hostPath": {"path": os.path.realpath(f)}} for n, f in enumerate(folders)]
    container = {
        "name": "main",
        "image": IMAGE,
        "command": [sys.executable, "/server/server.py"],
        "env": [{"name": "NAME", "value": name}, {"name": "GRPC", "value": "yes" if grpc else ""}],
        "readinessProbe": {"tcpSocket": {"port": 8080}, "periodSeconds": 1},
        "lifecycle": {"preStop": {"exec": {"command": ["/bin/busybox", "sleep", "2"]}}},
        "volumeMounts": [*mounts, {"name": "server", "mountPath": "/server"}],
    }
    labels = {"app": name}
    volumes.append({"name": "server", "configMap": {"name": "server"}})
    pod = {"containers": [container], "volumes": volumes, "terminationGracePeriodSeconds": 3}
    spec = {"selector": {"matchLabels": labels}, "template": {"metadata": {"labels": labels}, "spec": pod}}
    ports = [{"name": "http", "port": 80, "targetPort": 8080}]
    if grpc:
        ports.append({"name": "grpc", "port": 90, "targetPort": 9090, "appProtocol": "kubernetes.io/h2c"})
    kind, more = ("Deployment", {"replicas": replicas}) if replicas else ("DaemonSet", {})
    meta = {"name": name}
    return [
        {"apiVersion": "apps/v1", "kind": kind, "metadata": meta, "spec": {**spec, **more}},
        {"apiVersion": "v1", "kind": "Service", "metadata": meta, "spec": {"selector": labels, "ports": ports}},
    ]


def ingress(name, host, *paths, tls=""):
    """Paths are (path, Service, port)."""
    rules = [
        {"path": p, "pathType": "Prefix", "backend": {"service": {"name": s, "port": {"name": port}}}}
        for p, s, port in paths
    ]
    spec = {"rules": [{"host": host, "http": {"paths": rules}}]}
    if tls:
        spec["tls"] = [{"hosts": [host], "secretName": tls}]
    return {"apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "metadata": {"name": name}, "spec": spec}


def balanced(name, app, **spec):
    ports = [{"port": 80, "targetPort": 8080}]
    spec = {"type": "LoadBalancer", "selector": {"app": app}, "ports": ports, **spec}
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": spec}


def test_hosts_paths_tls_websockets_and_grpc_reach_pods(world, tmp_path):
    _, kubectl, client = world
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    command += ["-subj", "/CN=rpc.example", "-addext", "subjectAltName=DNS:rpc.example,DNS:tls.example"]
    subprocess.run([*command, "-keyout", "key", "-out", "crt"], cwd=tmp_path, check=True, capture_output=True)
    kubectl("create", "secret", "tls", "pair", f"--cert={tmp_path / 'crt'}", f"--key={tmp_path / 'key'}")
    apply(
        kubectl,
        ingress("web", "web.example", ("/", "one", "http"), ("/two", "two", "http")),
        ingress("tls", "tls.example", ("/", "one", "http"), tls="pair"),
        ingress("rpc", "rpc.example", ("/", "one", "grpc"), tls="pair"),
    )
    to = ["--resolve", f"tls.example:443:{NET}.1", "--cacert", str(tmp_path / "crt")]

    def page(host, where="/"):
        return client.get(f"http://{NET}.1{where}", "-H", f"Host: {host}").split()[:2]

    until(lambda: page("web.example") == ["one", "/"], 30)
    assert page("web.example", "/two/x") == ["two", "/two/x"] and page("no.example")[0] == "default"
    until(lambda: client.get("https://tls.example/", *to).startswith("one / "), 30)
    said = client.get("https://tls.example/x", *to, "--http2", "-w", "%{http_version}")
    assert said.startswith("one /x ") and said.endswith("\n2")
    said = client.run(sys.executable, "-c", WEBSOCKET, f"{NET}.1")
    assert said.stdout.splitlines() == ["HTTP/1.1 101 Switching Protocols", "echo:hello"], said
    asked = client.run(sys.executable, "-c", CLIENT, str(tmp_path / "crt"), f"{NET}.1:443")
    assert asked.stdout == "one:hello\n", asked.stderr
    # The Gateway API leads to the same pods, and an Ingress of another controller's class does not.
    api = {"apiVersion": f"{GROUP}/v1"}
    made = gateway("gw", listener("http", 80), listener("own", 8000))
    routed = route("gw", rule("two", matches=[path("/gw")]), rule("one"), hosts=("gw.example",))
    foreign = ingress("foreign", "foreign.example", ("/", "one", "http"))
    foreign["spec"]["ingressClassName"] = "traefik"
    apply(kubectl, {**api, "kind": "Gateway", **made}, {**api, "kind": "HTTPRoute", **routed}, foreign)
    kubectl("wait", "gateway/gw", "--for=condition=Programmed", "--timeout=60s")
    until(lambda: page("gw.example", "/gw") == ["two", "/gw"], 30)
    assert client.get(f"http://{NET}.1:8000/x", "-H", "Host: gw.example").startswith("one /x ")
    assert page("foreign.example")[0] == "default"


@pytest.mark.skipif(shutil.which("wrk") is None, reason="wrk is not installed")
def test_no_request_is_lost_while_pods_and_ingresses_come_and_go(world):
    machine, kubectl, _ = world
    apply(kubectl, ingress("load", "load.example", ("/", "two", "http")))
    load = ["wrk", "-t", "1", "-c", "8", "-d", "60s", "-H", "Host: load.example", f"http://{NET}.1/"]
    until(lambda: "two" in machine.run("curl", "-s", "-H", "Host: load.example", f"http://{NET}.1/"), 30)
    with namespaces.inside(machine.name):
        running = subprocess.Popen(load, stdout=subprocess.PIPE, text=True)
    for turn, replicas in enumerate((4, 3)):
        kubectl("scale", "deployment/two", f"--replicas={replicas}")
        apply(kubectl, *(ingress(f"more{n}", f"h{turn}-{n}.example", ("/", "one", "http")) for n in range(5)))
        kubectl("rollout", "status", "deployment/two", "--timeout=60s")
    kubectl("rollout", "restart", "deployment/two")
    kubectl("rollout", "status", "deployment/two", "--timeout=60s")
    running.send_signal(2)
    said = running.communicate(timeout=60)[0]
    count = re.search(r"(\d+) requests in", said)
    assert count and int(count[1]) > 100, said
    assert "Socket errors" not in said and "Non-2xx" not in said, said


def holder(address, lost=0):
    """The hosts (their numbers) that have the address; `lost` is not asked."""
    found = []
    for number in (11, 21, 22):
        if f"{BRIDGE}-{number}" in namespaces.names() and number != lost:
            with namespaces.inside(f"{BRIDGE}-{number}"):
                found += [number for _, have, _ in links.addresses("peavine-lb") if have == address]
    return found


def test_a_load_balancers_address_is_announced_moves_when_its_host_is_lost_and_is_given_back(world):
    _, kubectl, client = world
    local = balanced("local", "all", externalTrafficPolicy="Local", loadBalancerIP=f"{NET}.202")
    apply(kubectl, balanced("wide", "all", loadBalancerIP=f"{NET}.201"), local)
    until(lambda: client.get(f"http://{NET}.201/").startswith("all / "), 30)
    # Whose traffic stays on the host is asked by its own address.
    until(lambda: client.get(f"http://{NET}.202/x").split() == ["all", "/x", client.address], 30)
    until(lambda: len(holder(f"{NET}.202")) == 1, 30)
    (old,) = until(lambda: len(found := holder(f"{NET}.201")) == 1 and found, 30)
    # Somebody pulls the cable (bench/load_balancer.py cuts the power), and puts it back in the end.
    host = f"{BRIDGE}-{old}"
    with namespaces.inside(host):
        links.batch(["link set eth0 down"])
    try:
        _follow(kubectl, client, local, old)
    finally:
        with namespaces.inside(host):
            links.batch(["link set eth0 up", f"route replace default via {NET}.1"])


def _follow(kubectl, client, local, old):
    until(lambda: client.get(f"http://{NET}.201/", seconds=1).startswith("all / "), 30, "the address does not move")
    until(lambda: len(holder(f"{NET}.201", lost=old)) == 1, 30)
    until(lambda: client.get(f"http://{NET}.202/x", seconds=1).split() == ["all", "/x", client.address], 30)
    service = kubectl.json("get", "service", "local")
    assert service["status"]["loadBalancer"]["ingress"] == [{"ip": f"{NET}.202", "ipMode": "VIP"}]
    kubectl("delete", "service", "local")
    until(lambda: holder(f"{NET}.202", lost=old) == [], 30)
    apply(kubectl, {**local, "metadata": {"name": "next"}})
    until(lambda: client.get(f"http://{NET}.202/x", seconds=1).split() == ["all", "/x", client.address], 30)
    reasons = {e["reason"] for e in kubectl.json("get", "events")["items"] if e["involvedObject"]["name"] == "local"}
    wanted = {"EnsuringLoadBalancer", "IPAllocated", "EnsuredLoadBalancer", "DeletingLoadBalancer"}
    assert wanted | {"DeletedLoadBalancer"} <= reasons
