"""A second machine joins: with a token, a hash and an address; here a second data directory with its own processes."""

import contextlib
import json
import os
import re
import socket
import stat
import subprocess
import sys
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
        assert "signed by this token" in peavine(*forged, *own, "--timeout", "2", expect=1)
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
