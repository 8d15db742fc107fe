"""A second machine joins: with a token, a hash and an address; here a second data directory with its own processes."""

import contextlib
import json
import os
import re
import shutil
import socket
import stat
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from peavine.cmd.cluster import Cluster
from peavine.cmd.down import main as down
from tests.apiserver.serving import ServerProcess

pytestmark = pytest.mark.slow
SECONDS_MAX = 60.0


def peavine(*args, expect=0):
    command = [sys.executable, "-m", "peavine.cmd.main", *map(str, args)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == expect, done.stdout + done.stderr
    return done.stdout + done.stderr


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextlib.contextmanager
def running(*directories):
    """Whatever was started in these directories ends."""
    try:
        yield
    finally:
        for directory in directories:
            if Cluster.load(directory) is not None:
                down(["--data-dir", str(directory)])


def eventually(check):
    deadline = time.monotonic() + SECONDS_MAX
    while True:
        try:
            return check()
        except (AssertionError, OSError):
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)


class Api:
    def __init__(self, directory):
        self.directory = directory
        self.server = ServerProcess(directory)
        self.server.port = int(Cluster.load(directory).secure_port)

    def get(self, path):
        return json.loads(self.server.get(path))

    def anonymous(self, path):
        """The status of a request without credentials."""
        import ssl
        import urllib.error
        import urllib.request

        context = ssl.create_default_context(cafile=self.directory / "pki" / "ca.crt")
        try:
            url = f"https://127.0.0.1:{self.server.port}{path}"
            with urllib.request.urlopen(url, context=context, timeout=10) as answer:
                return answer.status
        except urllib.error.HTTPError as error:
            return error.code


def test_a_machine_joins_with_a_token_and_gets_its_certificates_by_request(tmp_path):
    first, second = tmp_path / "first", tmp_path / "second"
    simulated = ("--runtime", "simulated")
    public = "/api/v1/namespaces/kube-public/configmaps/cluster-info"
    with running(second, first):
        peavine("up", "--data-dir", first, *simulated, "--secure-port", free_port(), "--node-ip", "127.0.0.1",
                "--node-name", "one")  # fmt: skip
        api = Api(first)
        assert api.anonymous(public) == 401
        printed = peavine("token", "--data-dir", first, "create", "--print-join-command").split()
        assert printed[:2] == ["peavine", "join"]
        token = printed[printed.index("--token") + 1]
        assert token in peavine("token", "--data-dir", first, "list")
        own = ("--data-dir", second, *simulated, "--node-ip", "127.0.0.2", "--node-name", "two")

        wrong = [*printed[1:-1], "sha256:" + "0" * 64]
        assert "somebody is in between" in peavine(*wrong, *own, expect=1)
        assert "is wanted" in peavine(*printed[1:-2], *own, expect=1)
        forged = [part.replace(token, token[:-1] + ("a" if token[-1] != "a" else "b")) for part in printed[1:]]

        def opened():
            assert api.anonymous(public) == 200

        eventually(opened)
        assert "signed by this token" in peavine(*forged, *own, "--timeout", "3", expect=1)
        assert not (second / "cluster.json").exists()

        assert "Node two ready" in peavine(*printed[1:], *own)
        nodes = {n["metadata"]["name"] for n in api.get("/api/v1/nodes")["items"]}
        assert nodes == {"one", "two"}

        def issued():
            found = api.get("/apis/certificates.k8s.io/v1/certificatesigningrequests")["items"]
            return {r["spec"]["signerName"]: r["spec"]["username"] for r in found if r["status"].get("certificate")}

        def both():
            assert issued() == {
                "kubernetes.io/kube-apiserver-client-kubelet": f"system:bootstrap:{token[:6]}",
                "kubernetes.io/kubelet-serving": "system:node:two",
            }

        eventually(both)
        # The API server believes the serving certificate: what it proxies comes back.
        config = eventually(lambda: api.get("/api/v1/nodes/two/proxy/configz"))["kubeletconfig"]
        assert config["authentication"]["anonymous"]["enabled"] is False
        assert config["rotateCertificates"] is True and config["serverTLSBootstrap"] is True
        # No CA, no administrator and, any more, no token on the machine.
        assert not (second / "pki" / "ca.key").exists() and not (second / "admin.kubeconfig").exists()
        for folder, _, files in os.walk(second):
            for name in files:
                path = os.path.join(folder, name)
                assert token.encode() not in Path(path).read_bytes(), path
                if re.search(r"\.(key|pem|kubeconfig)$", name):
                    assert stat.S_IMODE(os.stat(path).st_mode) == 0o600, path
        listed = peavine("certs", "list", "--data-dir", second)
        assert "CN=system:node:two" in listed and "kubelet-server-current" in listed

        # The token is gone, and with it what a stranger may read.
        assert api.anonymous(public) == 200
        peavine("token", "--data-dir", first, "delete", token)

        def closed():
            assert api.anonymous(public) == 401

        eventually(closed)
        # And the node comes back without it.
        down(["--data-dir", str(second)])
        assert "Node two ready" in peavine("join", "--data-dir", second)
        assert "peavine join" in peavine("up", "--data-dir", second, expect=1)


@contextlib.contextmanager
def two_hosts():
    """Two network namespaces with a wire between them: (name, address) of each."""
    suffix = os.urandom(3).hex()
    hosts = [(f"join-{suffix}-{n}", f"10.99.7.{n}") for n in (1, 2)]

    def ip(*args):
        subprocess.run(["ip", *args], check=True, capture_output=True)

    try:
        for name, _ in hosts:
            ip("netns", "add", name)
        (one, _), (two, _) = hosts
        ip("-n", one, "link", "add", "eth0", "type", "veth", "peer", "name", "eth0", "netns", two)
        for name, address in hosts:
            ip("-n", name, "address", "add", f"{address}/24", "dev", "eth0")
            ip("-n", name, "link", "set", "eth0", "up")
            ip("-n", name, "link", "set", "lo", "up")
            ip("-n", name, "route", "add", "default", "via", hosts[0][1] if name == two else hosts[1][1])
        yield hosts
    finally:
        for name, _ in hosts:
            subprocess.run(["ip", "netns", "delete", name], capture_output=True, check=False)


@pytest.mark.root
@pytest.mark.skipif(not all(map(shutil.which, ("containerd", "runc", "nft", "nsenter"))), reason="no container runtime")
def test_a_second_host_joins_and_runs_pods_that_the_first_ones_reach():
    directories = [Path(tempfile.mkdtemp(prefix="pj")) / "d" for _ in range(2)]
    with two_hosts() as hosts:

        def on(number, *args):
            """The output of `peavine ...` on one of the hosts."""
            command = [
                "nsenter",
                f"--net=/run/netns/{hosts[number][0]}",
                "--",
                sys.executable,
                "-m",
                "peavine.cmd.main",
            ]
            done = subprocess.run([*command, *map(str, args)], capture_output=True, text=True, timeout=120)
            assert done.returncode == 0, done.stdout + done.stderr
            return done.stdout

        def kubectl(*args):
            return on(0, "kubectl", f"--kubeconfig={directories[0] / 'admin.kubeconfig'}", *args)

        try:
            real = [("--data-dir", d, "--runtime", "containerd", "--node-ip", h[1]) for d, h in zip(directories, hosts)]
            on(0, "up", *real[0], "--node-name", "one")
            printed = on(0, "token", "--data-dir", directories[0], "create", "--print-join-command").split()
            on(1, *printed[1:], *real[1], "--node-name", "two")
            for node in ("one", "two"):
                spec = {"nodeName": node, "terminationGracePeriodSeconds": 0, "containers": [{
                    "name": "c", "image": "peavine.local/busybox:1.36",
                    "command": ["sh", "-c", f"echo hello from {node}; exec httpd -f -p 8080 -h /etc"],
                }]}  # fmt: skip
                pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": node}, "spec": spec}
                file = directories[0] / f"{node}.json"
                file.write_text(json.dumps(pod))
                eventually(lambda file=file: kubectl("apply", "-f", file))
            kubectl("wait", "--for=condition=Ready", "pod/one", "pod/two", "--timeout=60s")
            # Logs and exec go through the serving certificate that the second host asked for.
            eventually(lambda: kubectl("logs", "two"))
            assert kubectl("logs", "two") == "hello from two\n"
            for here, there in (("one", "two"), ("two", "one")):
                address = kubectl("get", "pod", there, "-o", "jsonpath={.status.podIP}")
                page = kubectl("exec", here, "--", "wget", "-qO-", f"http://{address}:8080/hostname")
                assert page.strip() == there
            renewed = on(1, "certs", "renew", "--all", "--data-dir", directories[1])
            assert renewed.splitlines() == [f"renewed {name}.kubeconfig" for name in ("dns", "network", "proxy")]
        finally:
            for number in (1, 0):
                if (directories[number] / "cluster.json").exists():
                    on(number, "down", "--purge", "--data-dir", directories[number])
                shutil.rmtree(directories[number].parent)
