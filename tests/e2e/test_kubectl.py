"""What people type every day, with three versions of the real kubectl."""

import json
import os
import pty
import subprocess
import time
import urllib.request

import pytest

from tests.e2e.conftest import IMAGE, Kubectl, kubectl_versions, until, web

pytestmark = [pytest.mark.root, pytest.mark.slow]


@pytest.fixture(params=kubectl_versions(), ids=lambda path: path.rpartition("/")[2])
def kubectl(request, cluster):
    return Kubectl(cluster / "admin.kubeconfig", request.param)


def test_a_deployment_from_apply_to_delete(kubectl, namespace):
    n = ("-n", namespace)
    out = kubectl(*n, "apply", "-f", "-", stdin=web())
    assert "deployment.apps/web created" in out and "service/web created" in out
    kubectl(*n, "rollout", "status", "deployment/web", "--timeout=60s")
    kubectl(*n, "wait", "--for=condition=Available", "deployment/web", "--timeout=30s")
    table = kubectl(*n, "get", "pods", "-o", "wide")
    assert table.split()[:6] == ["NAME", "READY", "STATUS", "RESTARTS", "AGE", "IP"]
    assert table.count("1/1") == 2 and table.count("Running") == 2
    assert "replicas: 2" in kubectl(*n, "get", "deployment", "web", "-o", "yaml")
    assert kubectl(*n, "get", "svc", "web", "-o", "jsonpath={.spec.ports[0].targetPort}") == "http"
    described = kubectl(*n, "describe", "deployment", "web")
    assert "2 desired | 2 updated | 2 total | 2 available | 0 unavailable" in described
    assert "ScalingReplicaSet" in described

    kubectl(*n, "scale", "deployment/web", "--replicas=3")
    kubectl(*n, "rollout", "status", "deployment/web", "--timeout=60s")
    kubectl(*n, "label", "deployment", "web", "tier=front")
    kubectl(*n, "annotate", "deployment", "web", "note=hello")
    meta = kubectl.json(*n, "get", "deployment", "web")["metadata"]
    assert meta["labels"]["tier"] == "front" and meta["annotations"]["note"] == "hello"

    kubectl(*n, "set", "env", "deployment/web", "STEP=2")
    kubectl(*n, "rollout", "status", "deployment/web", "--timeout=90s")
    history = kubectl(*n, "rollout", "history", "deployment/web")
    assert "1 " in history and "2 " in history
    kubectl(*n, "rollout", "undo", "deployment/web")
    kubectl(*n, "rollout", "status", "deployment/web", "--timeout=90s")
    container = kubectl.json(*n, "get", "deployment", "web")["spec"]["template"]["spec"]["containers"][0]
    assert "env" not in container

    kubectl(*n, "set", "image", "deployment/web", "web=peavine.local/nowhere:1")

    def refused():
        pods = kubectl.json(*n, "get", "pods")["items"]
        waiting = [s["state"].get("waiting", {}) for p in pods for s in p["status"].get("containerStatuses", ())]
        return any(w.get("reason") in ("ErrImagePull", "ImagePullBackOff") for w in waiting)

    until(refused, 30, "nobody complains about an image that does not exist")
    assert kubectl.json(*n, "get", "deployment", "web")["status"]["availableReplicas"] >= 2
    kubectl(*n, "rollout", "undo", "deployment/web")
    kubectl(*n, "rollout", "status", "deployment/web", "--timeout=90s")

    env = {**kubectl.env, "KUBE_EDITOR": "sed -i s/tier:.front/tier:\\ back/"}
    edited = subprocess.run([kubectl.binary, *n, "edit", "deployment", "web"], env=env, capture_output=True, text=True)
    assert edited.returncode == 0, edited.stderr
    assert kubectl.json(*n, "get", "deployment", "web")["metadata"]["labels"]["tier"] == "back"

    kubectl(*n, "delete", "deployment", "web", "--cascade=foreground", "--timeout=60s")
    assert kubectl.json(*n, "get", "replicasets,pods")["items"] == []


def test_server_side_apply_owns_its_fields(kubectl, namespace):
    config = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c"}, "data": {"a": "1", "b": "2"}}
    n = ("-n", namespace)
    kubectl(*n, "apply", "--server-side", "-f", "-", stdin=json.dumps(config))
    config["data"] = {"a": "3"}
    other = kubectl.run(*n, "apply", "--server-side", "--field-manager=other", "-f", "-", stdin=json.dumps(config))
    assert other.returncode == 1 and 'conflict with "kubectl"' in other.stderr
    kubectl(*n, "apply", "--server-side", "-f", "-", stdin=json.dumps(config))
    assert kubectl.json(*n, "get", "configmap", "c")["data"] == {"a": "3"}


def test_logs_exec_and_port_forward_reach_the_container(kubectl, namespace):
    n = ("-n", namespace)
    script = "echo started; while true; do echo tick; sleep 0.2; done"
    kubectl(*n, "run", "talker", f"--image={IMAGE}", "--command", "--", "sh", "-c", script)
    kubectl(*n, "wait", "--for=condition=Ready", "pod/talker", "--timeout=60s")
    assert kubectl(*n, "logs", "talker").startswith("started\n")
    follow = kubectl.start(*n, "logs", "-f", "--tail=1", "talker")
    try:
        assert [follow.stdout.readline() for _ in range(3)] == [b"tick\n"] * 3
    finally:
        follow.terminate()  # not SIGINT: that is ignored where the tests run in the background of a shell
        follow.communicate(timeout=10)
    assert kubectl(*n, "exec", "talker", "--", "hostname") == "talker\n"
    assert kubectl(*n, "exec", "-i", "talker", "--", "cat", stdin="through stdin") == "through stdin"
    failed = kubectl.run(*n, "exec", "talker", "--", "sh", "-c", "exit 7")
    assert failed.returncode == 7

    answer = _through_a_terminal([kubectl.binary, *n, "exec", "-it", "talker", "--", "sh"], kubectl.env)
    assert b"tty says /dev/pts" in answer

    kubectl(
        *n, "exec", "talker", "--", "sh", "-c", "mkdir /tmp/w; echo pong > /tmp/w/index.html; httpd -p 8080 -h /tmp/w"
    )
    forward = kubectl.start(*n, "port-forward", "pod/talker", ":8080")
    try:
        port = int(forward.stdout.readline().split(b":")[1].split(b" ")[0])
        assert urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=10).read() == b"pong\n"
    finally:
        forward.terminate()
        forward.communicate(timeout=10)


def _through_a_terminal(command, env):
    """Run `command` on a terminal, type into its shell, and return all that it shows."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.execvpe(command[0], command, env)
    os.write(terminal, b"echo tty says $(tty); exit\n")
    shown, deadline = b"", time.monotonic() + 20
    while time.monotonic() < deadline:
        try:
            piece = os.read(terminal, 4096)
        except OSError:
            break
        if not piece:
            break
        shown += piece
    os.waitpid(pid, 0)
    os.close(terminal)
    return shown


def test_discovery_and_explain_know_every_kind(kubectl):
    resources = kubectl("api-resources")
    for kind in ("Deployment", "EndpointSlice", "CustomResourceDefinition", "PodDisruptionBudget"):
        assert kind in resources
    explained = kubectl("explain", "deployment.spec.template.spec.containers")
    assert "imagePullPolicy" in explained and "FIELDS:" in explained


def test_a_mistake_in_a_manifest_is_named_and_changes_nothing(kubectl, namespace):
    wrong = json.loads(web())["items"][0]
    wrong["spec"]["template"]["spec"]["containers"][0]["imagge"] = "x"
    refused = kubectl.run("-n", namespace, "apply", "-f", "-", stdin=json.dumps(wrong))
    assert refused.returncode == 1 and "imagge" in refused.stderr
    assert kubectl.json("-n", namespace, "get", "deployments")["items"] == []
