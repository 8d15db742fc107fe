"""The server as a process: how it starts, ends, comes back, and what it costs."""

from __future__ import annotations

import http.client
import json
import shutil
import socket
import ssl
import subprocess
import sys
import time
from pathlib import Path

import pytest

from peavine.cmd import pki
from tests.apiserver.serving import ServerProcess

MAPS = "/api/v1/namespaces/default/configmaps"


def request(server: ServerProcess, method: str, path: str, body=None, tls=None, content_type="application/json"):
    """One request on a connection of its own: (status, document)."""
    connection = http.client.HTTPSConnection("127.0.0.1", server.port, context=tls or server.tls(), timeout=30)
    try:
        data = json.dumps(body) if body is not None else None
        connection.request(method, path, data, {"Content-Type": content_type})
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())
    finally:
        connection.close()


def resident_mib(server: ServerProcess) -> float:
    assert server.process is not None
    fields = Path(f"/proc/{server.process.pid}/statm").read_text().split()
    return int(fields[1]) * 4096 / (1 << 20)


@pytest.mark.slow
def test_memory_stays_flat_over_writes_that_change_nothing_and_connections_that_come_and_go(tmp_path):
    with ServerProcess(tmp_path, ["--disable-admission-plugins", "ServiceAccount"]) as server:
        tls = server.tls()
        pods = "/api/v1/namespaces/default/pods"
        body = {"metadata": {"name": "p"}, "spec": {"nodeName": "n", "containers": [{"name": "c", "image": "i"}]}}
        assert request(server, "POST", pods, body, tls)[0] == 201
        status = {"status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}}

        def patches(count: int) -> None:
            for _ in range(count):
                kind = "application/strategic-merge-patch+json"
                assert request(server, "PATCH", f"{pods}/p/status", status, tls, kind)[0] == 200

        patches(100)
        before = resident_mib(server)
        patches(600)
        assert resident_mib(server) - before < 5


@pytest.mark.slow
def test_an_acknowledged_write_is_there_after_a_kill(tmp_path):
    with ServerProcess(tmp_path) as server:
        for i in range(20):
            assert request(server, "POST", MAPS, {"metadata": {"name": f"m{i}"}})[0] == 201
        assert server.process is not None
        server.process.kill()
        server.process.wait()
    with ServerProcess(tmp_path) as server:
        listed = request(server, "GET", MAPS)[1]
        assert {f"m{i}" for i in range(20)} <= {item["metadata"]["name"] for item in listed["items"]}
        assert resident_mib(server) < 90


@pytest.mark.slow
@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3], ids=["TLS 1.2", "TLS 1.3"])
def test_a_certificate_of_another_authority_is_told_401(tmp_path, version):
    other = pki.ensure_pki(tmp_path / "other")
    with ServerProcess(tmp_path) as server:
        stranger = ssl.create_default_context(cafile=server.client_files()[0])
        stranger.maximum_version = version
        stranger.load_cert_chain(other.cert("apiserver-kubelet-client"), other.key("apiserver-kubelet-client"))
        for path in ("/api", "/livez"):  # not even what anybody may see
            code, status = request(server, "GET", path, tls=stranger)
            assert (code, status["reason"], status["message"]) == (401, "Unauthorized", "Unauthorized")
        assert request(server, "GET", "/api")[0] == 200


@pytest.mark.slow
def test_two_servers_on_one_etcd_see_each_others_writes_at_once(tmp_path):
    if shutil.which("etcd") is None:
        pytest.skip("needs etcd")
    ports = []
    for _ in range(2):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            ports.append(probe.getsockname()[1])
    client, peer = (f"http://127.0.0.1:{port}" for port in ports)
    command = ["etcd", "--data-dir", str(tmp_path / "etcd"), "--log-level", "error"]
    command += ["--listen-client-urls", client, "--advertise-client-urls", client, "--listen-peer-urls", peer]
    command += ["--initial-advertise-peer-urls", peer, "--initial-cluster", f"default={peer}"]
    etcd = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            try:
                socket.create_connection(("127.0.0.1", ports[0]), 1).close()
                break
            except OSError:
                time.sleep(0.05)
        (tmp_path / "a").mkdir()
        (tmp_path / "b").mkdir()
        flags = ["--store", f"etcd://127.0.0.1:{ports[0]}"]
        with ServerProcess(tmp_path / "a", flags) as one, ServerProcess(tmp_path / "b", flags) as two:
            tls = {one: one.tls(), two: two.tls()}
            for i in range(20):
                writer, reader = (one, two) if i % 2 else (two, one)
                made = request(writer, "POST", MAPS, {"metadata": {"name": f"m{i}"}}, tls[writer])
                assert made[0] == 201
                seen = request(reader, "GET", f"{MAPS}/m{i}", None, tls[reader])
                assert seen == (200, {**made[1]})
                changed = {**made[1], "data": {"a": str(i)}}
                assert request(reader, "PUT", f"{MAPS}/m{i}", changed, tls[reader])[0] == 200
                assert request(writer, "PUT", f"{MAPS}/m{i}", changed, tls[writer])[0] == 409
            names = [item["metadata"]["name"] for item in request(two, "GET", MAPS, None, tls[two])[1]["items"]]
            assert {f"m{i}" for i in range(20)} <= set(names)
    finally:
        etcd.terminate()
        etcd.wait(10)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--encryption-provider-config", "/none"], "/none"),
        (["--enable-admission-plugins", "Nonsense"], "Nonsense"),
        (["--authorization-mode", "Nonsense"], "Nonsense"),
        (["--event-ttl", "soon"], "soon"),
    ],
)
def test_a_configuration_that_cannot_be_used_is_one_sentence_and_an_exit_code(tmp_path, flags, words):
    command = [sys.executable, "-m", "peavine.cmd.main", "apiserver", "--data-dir", str(tmp_path), "--secure-port", "0"]
    done = subprocess.run([*command, *flags], capture_output=True, text=True, timeout=60)
    assert done.returncode != 0 and words in done.stderr and "Traceback" not in done.stderr
