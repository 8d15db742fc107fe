"""The pytest plugin, run by pytest in a process of its own."""

import subprocess
import sys

import pytest

TESTS = """
import pytest

def test_a_namespace_of_its_own(peavine_cluster, namespace, kubeconfig):
    assert kubeconfig.exists()
    assert peavine_cluster.get(f"/api/v1/namespaces/{namespace}")["status"]["phase"] == "Active"

@pytest.mark.peavine(nodes=0, scheduler=False, controllers=False)
def test_a_cluster_of_its_own(peavine_cluster):
    assert peavine_cluster.get("/api/v1/nodes")["items"] == []

@pytest.mark.peavine(nodes=0, scheduler=False, controllers=False, feature_gates={"EnvFiles": False})
def test_feature_gates(peavine_cluster):
    from kubernetes import client, config
    api = client.CoreV1Api(config.new_client_from_config(str(peavine_cluster.kubeconfig)))
    source = {"fileKeyRef": {"volumeName": "v", "path": "p", "key": "k"}}
    container = {"name": "c", "image": "i", "env": [{"name": "A", "valueFrom": source}]}
    template = {"metadata": {"name": "t"}, "template": {"metadata": {}, "spec": {"containers": [container]}}}
    with pytest.raises(client.ApiException, match="must specify one of"):
        api.create_namespaced_pod_template("default", template)

def test_that_fails(peavine_cluster, namespace):
    assert False, "on purpose"
"""


@pytest.mark.slow
def test_fixtures_markers_and_failure_reports(tmp_path):
    (tmp_path / "test_it.py").write_text(TESTS)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, cwd=tmp_path)
    assert "3 passed" in done.stdout and "1 failed" in done.stdout, done.stdout + done.stderr
    assert "namespace test-" in done.stdout and "events:" in done.stdout
    assert "ServiceAccount/default" in done.stdout
