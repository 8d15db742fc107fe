"""`peavine up` on the simulated runtime: no root, no containers, several side by side."""

import json
import socket
import subprocess
import sys

import pytest

pytestmark = pytest.mark.slow


def peavine(*args, check=True):
    command = [sys.executable, "-m", "peavine.cmd.main", *args]
    return subprocess.run(command, capture_output=True, text=True, check=check, timeout=100)


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def test_a_simulated_cluster_comes_up_runs_the_example_and_goes(tmp_path):
    flags = [f"--data-dir={tmp_path / 'c'}", f"--secure-port={free_port()}", "--runtime=simulated", "--nodes=3"]
    try:
        out = peavine("up", *flags).stdout
        assert "API server ready after" in out and "-0 ready after" in out
        assert "running already" in peavine("up", *flags).stdout
        assert "Deployment default/hello is available." in peavine("example", *flags).stdout
        status = json.loads(peavine("status", flags[0], "-o", "json").stdout)
        assert {p["name"] for p in status["processes"] if p["alive"]} == {
            "supervisor", "apiserver", "controller-manager", "scheduler", "kubelet",
        }  # fmt: skip
    finally:
        peavine("down", flags[0], "--purge")
    assert not (tmp_path / "c").exists()
    assert peavine("status", flags[0], check=False).returncode == 1


def test_what_cannot_be_is_said_in_one_line(tmp_path):
    refused = peavine("up", f"--data-dir={tmp_path}", "--runtime=containerd", "--nodes=300", check=False)
    assert refused.returncode == 1
    assert len(refused.stderr.splitlines()) == 1
    assert not (tmp_path / "cluster.json").exists()
