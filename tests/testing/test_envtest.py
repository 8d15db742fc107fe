"""The programs for Go's envtest, started as controller-runtime starts them."""

import asyncio
import re
import socket
import ssl
import subprocess
import time
import urllib.request

import pytest

from peavine.client import Client
from peavine.client.config import ClientConfig
from peavine.cmd import envtest
from peavine.cmd.pki import Wanted, ensure_pki, issue
from peavine.testing.envtest import _joined


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def start(path, arguments, health):
    """As envtest's process.State.Start: run it, ask its health URL every 100 ms for 20 s."""
    process = subprocess.Popen([path, *(f"--{flag}={value}" for flag, value in arguments.items())])
    insecure = ssl.create_default_context()
    insecure.check_hostname, insecure.verify_mode = False, ssl.CERT_NONE
    end = time.monotonic() + 40
    while True:
        try:
            with urllib.request.urlopen(health, context=insecure, timeout=2) as answer:
                assert answer.status == 200
                return process
        except OSError:
            assert process.poll() is None, f"{path} ended"
            assert time.monotonic() < end, f"{path} is not healthy in time"
            time.sleep(0.1)


def stop(process):
    process.terminate()
    process.wait(20)


async def work(client: Client) -> None:
    await client.resource("v1", "namespaces").create({"metadata": {"name": "suite"}})
    await client.resource("v1", "serviceaccounts").create({"metadata": {"name": "robot"}}, "suite")
    service = {"metadata": {"name": "web"}, "spec": {"ports": [{"port": 80}]}}
    made = await client.resource("v1", "services").create(service, "suite")
    assert made["spec"]["clusterIP"].startswith("10.0.0.")
    pod = {"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c", "image": "i"}]}}
    await client.resource("v1", "pods").create(pod, "suite")
    request = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}}
    path = "/api/v1/namespaces/suite/serviceaccounts/robot/token"
    token = (await client.json("POST", path, body=request))["status"]["token"]
    config = ClientConfig(server=client.config.server, ca=client.config.ca, token=token)
    review = {"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"}
    answer = await Client(config).json("POST", "/apis/authentication.k8s.io/v1/selfsubjectreviews", body=review)
    assert answer["status"]["userInfo"]["username"] == "system:serviceaccount:suite:robot"


@pytest.mark.slow
def test_the_programs_serve_an_envtest_suite_and_keep_its_state(tmp_path, capsys):
    assets = tmp_path / "assets"
    assert envtest.main([f"--assets={assets}", "--kubernetes-version=1.31"]) == 0
    assert f"KUBEBUILDER_ASSETS={assets}" in capsys.readouterr().out
    for program, flag, there in (("kube-apiserver", "insecure-port", False), ("etcd", "unsafe-no-fsync", True)):
        helped = subprocess.run([assets / program, "--help"], capture_output=True, text=True, check=True).stdout
        assert bool(re.search(rf"(?m)^\s*--{flag}\b", helped)) == there
    # What envtest makes: a CA for the serving certificate, one for clients, one whose key signs tokens.
    serving, clients, signer = (ensure_pki(tmp_path / name) for name in ("serving", "clients", "signer"))
    certificates = tmp_path / "certs"
    certificates.mkdir()
    (certificates / "apiserver.crt").write_text(serving.cert("apiserver").read_text())
    (certificates / "apiserver.key").write_text(serving.key("apiserver").read_text())
    (certificates / "client-cert-auth-ca.crt").write_text(clients.ca_pem())
    (certificates / "sa-signer.crt").write_text(signer.ca_pem())
    (certificates / "sa-signer.key").write_text(signer.key("ca").read_text())
    url = f"http://127.0.0.1:{free_port()}"
    flags = {"listen-peer-urls": "http://127.0.0.1:0", "data-dir": tmp_path / "etcd", "unsafe-no-fsync": "true"}
    etcd = start(assets / "etcd", {**flags, "advertise-client-urls": url, "listen-client-urls": url}, f"{url}/health")
    port = free_port()
    arguments = {
        "advertise-address": "127.0.0.1",
        "allow-privileged": "true",
        "authorization-mode": "RBAC",
        "bind-address": "127.0.0.1",
        "cert-dir": certificates,
        "client-ca-file": certificates / "client-cert-auth-ca.crt",
        "disable-admission-plugins": "ServiceAccount",
        "etcd-servers": url,
        "secure-port": port,
        "service-account-issuer": f"https://127.0.0.1:{port}/",
        "service-account-key-file": certificates / "sa-signer.crt",
        "service-account-signing-key-file": certificates / "sa-signer.key",
        "service-cluster-ip-range": "10.0.0.0/24",
    }
    certificate, key = issue(clients, Wanted("admin", "ca", "default", ("system:masters",)))
    server = f"https://127.0.0.1:{port}"
    config = ClientConfig(server=server, ca=serving.ca_pem(), certificate=certificate, key=key)
    processes = [etcd]
    try:
        processes.append(start(assets / "kube-apiserver", arguments, f"{server}/healthz"))
        asyncio.run(work(Client(config)))
        stop(processes.pop())
        processes.append(start(assets / "kube-apiserver", arguments, f"{server}/healthz"))

        async def look():
            client = Client(config)
            assert (await client.json("GET", "/version"))["minor"] == "31"
            return await client.resource("v1", "pods").get("p", "suite")

        assert asyncio.run(look())["metadata"]["name"] == "p"
    finally:
        for process in reversed(processes):
            stop(process)


def test_flags_given_several_times_are_joined():
    assert _joined(["--authorization-mode=RBAC", "--v=1", "--authorization-mode=Node"]) == [
        "--authorization-mode=RBAC,Node",
        "--v=1",
    ]
