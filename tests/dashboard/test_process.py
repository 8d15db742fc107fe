"""`peavine dashboard` as a process: what it takes from its flags, what it refuses, how it ends."""

from __future__ import annotations

import http.client
import signal
import subprocess
import sys

import pytest
import yaml

from peavine.client import load_kubeconfig
from peavine.client.config import ConfigError
from peavine.cmd import dashboard
from peavine.cmd.pki import ensure_kubeconfigs, ensure_pki


def test_it_serves_https_and_ends_on_sigterm(tmp_path):
    pki = ensure_pki(tmp_path, advertise_addresses=["127.0.0.1"])
    kubeconfig = ensure_kubeconfigs(pki, "https://127.0.0.1:9")["admin"]
    flags = ["--kubeconfig", str(kubeconfig), "--port", "0"]
    flags += ["--tls-cert-file", str(pki.cert("apiserver")), "--tls-private-key-file", str(pki.key("apiserver"))]
    command = [sys.executable, "-m", "peavine.cmd.main", "dashboard", *flags]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            port = int(process.stdout.readline().strip().rstrip("/").rpartition(":")[2])
            trusting = load_kubeconfig(kubeconfig).ssl_context()
            connection = http.client.HTTPSConnection("127.0.0.1", port, context=trusting, timeout=20)
            connection.request("GET", "/")
            answer = connection.getresponse()
            assert answer.status == 200
            assert b"<script" in answer.read()
            connection.close()
        finally:
            process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0


def test_of_a_kubeconfig_only_server_and_ca_are_taken(tmp_path):
    doc = {
        "current-context": "c",
        "contexts": [{"name": "c", "context": {"cluster": "k", "user": "u"}}],
        "clusters": [{"name": "k", "cluster": {"server": "https://192.0.2.1:6443"}}],
        "users": [{"name": "u", "user": {"token": "an administrator's"}}],
    }
    file = tmp_path / "kubeconfig"
    file.write_text(yaml.safe_dump(doc))
    config = dashboard.cluster(dashboard.parser().parse_args(["--kubeconfig", str(file)]))
    assert (config.server, config.token, config.certificate) == ("https://192.0.2.1:6443", "", "")
    with pytest.raises(ConfigError, match="name the API server"):
        dashboard.cluster(dashboard.parser().parse_args([]))


def test_credentials_do_not_cross_a_network_in_plain_text(capsys):
    with pytest.raises(SystemExit):
        dashboard.main(["--server", "https://192.0.2.1", "--bind-address", "0.0.0.0"])
    assert "--tls-cert-file" in capsys.readouterr().err
