"""Clients that others wrote, unmodified, against the server."""

from __future__ import annotations

import json
import shutil
import subprocess
import threading
from pathlib import Path

import pytest

from tests.apiserver.serving import ServerProcess

kubernetes = pytest.importorskip("kubernetes")

pytestmark = pytest.mark.slow

KUBECTLS = [
    path
    for name in ("kubectl.1.27", "kubectl.1.30", "kubectl.1.33", "kubectl")
    for path in [shutil.which(name) or f"/usr/lib/google-cloud-sdk/bin/{name}"]
    if Path(path).exists()
]
MANIFEST = """
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, labels: {app: web}}
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      containers: [{name: c, image: "nginx:1", ports: [{containerPort: 80}]}]
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {selector: {app: web}, ports: [{port: 80}]}
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with ServerProcess(tmp_path_factory.mktemp("server"), ["--disable-admission-plugins", "ServiceAccount"]) as server:
        yield server


@pytest.mark.parametrize("kubectl", KUBECTLS, ids=lambda path: Path(path).name)
def test_kubectl_applies_reads_changes_and_deletes(server, kubectl, tmp_path):
    namespace = Path(kubectl).name.replace(".", "-")

    def run(*args: str, stdin: str = "", check: bool = True) -> str:
        command = [kubectl, "--kubeconfig", str(server.kubeconfig), "--cache-dir", str(tmp_path / "cache"), *args]
        done = subprocess.run(command, input=stdin, capture_output=True, text=True, timeout=90)
        assert not check or done.returncode == 0, f"{args}: {done.stdout}{done.stderr}"
        return done.stdout + done.stderr

    run("create", "namespace", namespace)
    n = ("-n", namespace)
    assert "deployment.apps/web created" in run(*n, "apply", "-f", "-", stdin=MANIFEST)
    assert "unchanged" in run(*n, "apply", "-f", "-", stdin=MANIFEST)
    assert "configured" in run(*n, "apply", "-f", "-", stdin=MANIFEST.replace("nginx:1", "nginx:2"))
    assert "0/2" in run(*n, "get", "deploy", "-o", "wide") and "nginx:2" in run(*n, "get", "deploy", "-o", "wide")
    assert json.loads(run(*n, "get", "deploy", "web", "-o", "json"))["spec"]["replicas"] == 2
    assert run(*n, "get", "deploy", "web", "-o", "jsonpath={.spec.replicas}") == "2"
    assert "kind: Deployment" in run(*n, "get", "deploy", "web", "-o", "yaml")
    assert "serverside-applied" in run(*n, "apply", "--server-side", "--force-conflicts", "-f", "-", stdin=MANIFEST)
    run(*n, "scale", "deploy", "web", "--replicas=3")
    run(*n, "label", "deploy", "web", "tier=front")
    run(*n, "annotate", "deploy", "web", "note=x")
    run(*n, "set", "image", "deploy/web", "c=nginx:3")
    run(*n, "patch", "deploy", "web", "--type=json", "-p", '[{"op":"replace","path":"/spec/replicas","value":1}]')
    shown = run(*n, "describe", "deploy", "web")
    assert "nginx:3" in shown and "1 desired" in shown and "tier=front" in shown
    run(*n, "wait", "--for=jsonpath={.spec.replicas}=1", "deploy/web", "--timeout=30s")
    assert "web" in run(*n, "get", "all", "-l", "app=web")
    assert "NotFound" in run(*n, "get", "deploy", "none", check=False)
    assert 'field "spec.bogus"' in run(
        *n, "apply", "-f", "-", stdin=MANIFEST.replace("replicas: 2", "bogus: 2"), check=False
    )
    assert "Number of desired pods" in run("explain", "deployment.spec.replicas")
    assert "ephemeralContainers" in run("explain", "pod", "--recursive")
    resources = run("api-resources")
    assert "deployments" in resources and "po " in resources
    assert "Server Version: v1.37" in run("version") or '"minor": "37"' in run("version", "-o", "json")
    assert "apps/v1" in run("api-versions")
    assert "yes" in run("auth", "can-i", "create", "pods")
    run(*n, "delete", "-f", "-", stdin=MANIFEST)
    assert "No resources found" in run(*n, "get", "deploy,svc")


def test_the_python_client_lists_watches_patches_and_deletes(server):
    from kubernetes import client, config, watch

    api_client = config.new_client_from_config(str(server.kubeconfig))
    core, apps = client.CoreV1Api(api_client), client.AppsV1Api(api_client)
    made = core.create_namespaced_config_map("default", client.V1ConfigMap(metadata={"name": "py"}, data={"a": "1"}))
    assert made.metadata.uid
    seen: list[tuple[str, str]] = []
    started = threading.Event()

    def follow() -> None:
        stream = watch.Watch()
        started.set()
        for event in stream.stream(
            core.list_namespaced_config_map,
            "default",
            field_selector="metadata.name=py",
            resource_version=made.metadata.resource_version,
            timeout_seconds=30,
        ):
            seen.append((event["type"], (event["object"].data or {}).get("a", "")))
            if event["type"] == "DELETED":
                return

    follower = threading.Thread(target=follow)
    follower.start()
    started.wait()
    core.patch_namespaced_config_map("py", "default", {"data": {"a": "2"}})
    listed = core.list_config_map_for_all_namespaces(label_selector="", limit=500)
    assert "py" in {item.metadata.name for item in listed.items}
    core.delete_namespaced_config_map("py", "default")
    follower.join(40)
    assert seen == [("MODIFIED", "2"), ("DELETED", "2")]
    with pytest.raises(client.ApiException) as missing:
        core.read_namespaced_config_map("py", "default")
    assert missing.value.status == 404
    labels = {"app": "py"}
    spec = client.V1DeploymentSpec(
        selector=client.V1LabelSelector(match_labels=labels),
        template=client.V1PodTemplateSpec(
            metadata=client.V1ObjectMeta(labels=labels),
            spec=client.V1PodSpec(containers=[client.V1Container(name="c", image="i")]),
        ),
    )
    apps.create_namespaced_deployment("default", client.V1Deployment(metadata={"name": "py"}, spec=spec))
    scale = apps.read_namespaced_deployment_scale("py", "default")
    scale.spec.replicas = 4
    assert apps.replace_namespaced_deployment_scale("py", "default", scale).spec.replicas == 4
    assert apps.read_namespaced_deployment("py", "default").spec.replicas == 4
    apps.delete_namespaced_deployment("py", "default", propagation_policy="Background")
    assert client.VersionApi(api_client).get_code().minor == "37"
