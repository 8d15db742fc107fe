"""Probes, logs, exec, and the kubelet's server, on a real containerd."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from peavine.machinery.errors import ApiError
from tests.kubelet.node import NODE, TestNode
from tests.kubelet.test_pods_on_containerd import FOREVER, condition, sh, state

pytestmark = pytest.mark.root


def test_readiness_follows_exec_http_and_tcp_probes(node: TestNode) -> None:
    serve = (
        "mkdir -p /w; echo up > /w/ok; httpd -p 8080 -h /w; touch /tmp/ok;"
        "trap 'exit 0' TERM; while true; do sleep 0.1; done"
    )
    probes = {
        "exec": {"exec": {"command": ["test", "-f", "/tmp/ok"]}},
        "http": {"httpGet": {"path": "/ok", "port": "web"}},
        "tcp": {"tcpSocket": {"port": 8080}},
    }
    for name, probe in probes.items():
        container = sh(
            serve, readinessProbe={**probe, "periodSeconds": 1}, ports=[{"name": "web", "containerPort": 8080}]
        )
        node.create(node.pod(f"ready-{name}", container))
    for name in probes:
        node.wait(f"ready-{name}", lambda p: condition(p, "Ready").get("status") == "True")
    node.exec(node.get("ready-exec"), "rm", "/tmp/ok")
    node.exec(node.get("ready-http"), "rm", "/w/ok")
    for name in ("exec", "http"):
        pod = node.wait(f"ready-{name}", lambda p: condition(p, "Ready").get("status") == "False")
        assert condition(pod, "Ready")["reason"] == "ContainersNotReady"
        assert condition(pod, "Ready")["message"] == "containers with unready status: [c]"
        assert state(pod)["restartCount"] == 0
    assert (
        node.wait_event("ready-http", "Unhealthy", "404")
        == "Readiness probe failed: HTTP probe failed with statuscode: 404"
    )
    counted = node.kubelet_get("/metrics/probes")
    assert 'pod="ready-exec"' in counted and 'result="failed"' in counted
    for name in probes:
        node.delete(f"ready-{name}", 0)


def test_a_failed_liveness_probe_restarts_the_container_with_the_probes_grace(node: TestNode) -> None:
    probe = {
        "exec": {"command": ["test", "-f", "/tmp/alive"]},
        "periodSeconds": 1,
        "failureThreshold": 1,
        "initialDelaySeconds": 1,
        "terminationGracePeriodSeconds": 1,
    }
    script = "trap '' TERM; while true; do sleep 0.1; done"
    node.create(node.pod("sick", sh(script, livenessProbe=probe), terminationGracePeriodSeconds=300))
    pod = node.wait("sick", lambda p: state(p)["restartCount"] >= 1)
    assert state(pod)["lastState"]["terminated"]["exitCode"] == 137
    assert node.wait_event("sick", "Killing", "liveness") == "Container c failed liveness probe, will be restarted"
    node.delete("sick", 0)


def test_other_probes_wait_for_the_startup_probe(node: TestNode) -> None:
    container = sh(
        "sleep 1; touch /tmp/started; sleep 1000",
        startupProbe={"exec": {"command": ["test", "-f", "/tmp/started"]}, "periodSeconds": 1, "failureThreshold": 30},
        livenessProbe={"exec": {"command": ["test", "-f", "/tmp/started"]}, "periodSeconds": 1, "failureThreshold": 1},
    )
    node.create(node.pod("slow", container))
    pod = node.wait("slow", lambda p: "running" in state(p)["state"])
    assert state(pod)["started"] is False and state(pod)["ready"] is False
    pod = node.wait("slow", lambda p: state(p).get("started"))
    node.wait("slow", lambda p: condition(p, "Ready").get("status") == "True")
    assert state(node.get("slow"))["restartCount"] == 0
    node.delete("slow", 0)


def test_logs_are_cut_as_asked(node: TestNode) -> None:
    node.finish_pod(node.pod("talker", sh("for i in 1 2 3 4 5; do echo line $i; done"), restartPolicy="Never"))
    assert node.logs("talker").count("\n") == 5
    assert node.logs("talker", tailLines=2) == "line 4\nline 5\n"
    assert node.logs("talker", tailLines=0) == ""
    assert node.logs("talker", limitBytes=4) == "line"
    stamped = node.logs("talker", timestamps="true").splitlines()[0]
    assert stamped.split(" ")[0].startswith("20") and stamped.split(" ", 1)[1] == "line 1"
    assert node.logs("talker", sinceTime="2100-01-01T00:00:00Z") == ""
    node.delete("talker", 0)


def test_a_followed_log_ends_with_its_container_and_survives_rotation(node: TestNode) -> None:
    node.create(node.pod("stream", sh("for i in 1 2 3 4 5 6; do echo $i; sleep 0.3; done"), restartPolicy="Never"))
    node.wait("stream", lambda p: "running" in state(p)["state"])
    text = node.logs("stream", follow="true")
    assert text.split() == ["1", "2", "3", "4", "5", "6"]
    node.delete("stream", 0)


def test_big_logs_are_rotated(node: TestNode) -> None:
    node.restart_kubelet("--container-log-max-size=100Ki", "--container-log-max-files=3")
    try:
        line = "x" * 100
        node.start_pod(
            node.pod("loud", sh(f"while true; do for i in $(seq 1000); do echo {line}; done; sleep 1; done"))
        )
        directory = next((node.directory / "kubelet" / "pods-logs").glob("default_loud_*/c"))
        node.until(lambda: os.listdir(directory), lambda names: len(names) >= 2, "a rotated log", 30)
        node.until(lambda: node.logs("loud", tailLines=1), lambda text: line in text, "the log")
        node.delete("loud", 0)
    finally:
        node.restart_kubelet()


@pytest.mark.needs("kubectl")
def test_kubectl_executes_attaches_and_forwards(node: TestNode) -> None:
    if not shutil.which("kubectl"):
        pytest.skip("needs kubectl")
    node.start_pod(
        node.pod("remote", sh("httpd -p 8080 -h /www; trap 'exit 0' TERM; while true; do echo tick; sleep 0.2; done"))
    )

    def kubectl(*args: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        command = ["kubectl", f"--kubeconfig={node.directory}/admin.kubeconfig", *args]
        return subprocess.run(command, input=stdin, capture_output=True, text=True, timeout=20)

    assert kubectl("exec", "remote", "--", "echo", "hello").stdout == "hello\n"
    assert kubectl("exec", "-i", "remote", "--", "cat", stdin="piped").stdout == "piped"
    failed = kubectl("exec", "remote", "--", "sh", "-c", "echo oops >&2; exit 9")
    assert failed.returncode == 9 and "oops" in failed.stderr
    command = ["kubectl", f"--kubeconfig={node.directory}/admin.kubeconfig", "port-forward", "pod/remote", ":8080"]
    forward = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert forward.stdout is not None
        port = int(forward.stdout.readline().split(":")[1].split(" ")[0])
        fetched = subprocess.run(
            ["busybox", "wget", "-qO-", f"http://127.0.0.1:{port}/"], capture_output=True, text=True, timeout=10
        )
        assert fetched.stdout == "Peavine works.\n"
    finally:
        forward.terminate()
        forward.wait()
    attach = ["kubectl", f"--kubeconfig={node.directory}/admin.kubeconfig", "attach", "remote"]
    attached = subprocess.Popen(attach, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    try:
        assert attached.stdout is not None and "tick" in attached.stdout.readline() + attached.stdout.readline()
    finally:
        attached.terminate()  # not SIGINT: that is ignored where the tests run in the background of a shell
        attached.wait(10)
    node.delete("remote", 0)


def test_exec_is_answered_over_websocket_too(node: TestNode) -> None:
    import base64
    import ssl

    node.start_pod(node.pod("socketed", FOREVER))
    pki = node.directory / "pki"
    context = ssl.create_default_context(cafile=str(pki / "ca.crt"))
    context.load_cert_chain(pki / "apiserver-kubelet-client.crt", pki / "apiserver-kubelet-client.key")
    target = "/exec/default/socketed/c?command=echo&command=hello&output=1&error=1"
    key = base64.b64encode(os.urandom(16)).decode()
    head = (
        f"GET {target} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\nSec-WebSocket-Protocol: v4.channel.k8s.io\r\n\r\n"
    )

    async def ask() -> tuple[str, dict[int, bytes]]:
        reader, writer = await asyncio.open_connection("127.0.0.1", node.kubelet_port, ssl=context)
        writer.write(head.encode())
        async with asyncio.timeout(30):
            answer = (await reader.readuntil(b"\r\n\r\n")).decode()
            channels: dict[int, bytes] = {}
            while 3 not in channels:
                kind, length = await reader.readexactly(2)
                if length == 126:
                    length = int.from_bytes(await reader.readexactly(2), "big")
                data = await reader.readexactly(length)
                if kind & 15 in (1, 2) and data:
                    channels[data[0]] = channels.get(data[0], b"") + data[1:]
        writer.close()
        return answer, channels

    answer, channels = node.run(ask())
    assert answer.startswith("HTTP/1.1 101") and "v4.channel.k8s.io" in answer
    # Channel 1 is the output, channel 3 says how it ended.
    assert channels[1] == b"hello\n" and b'"Success"' in channels[3]
    node.delete("socketed", 0)


def test_the_server_lists_pods_and_measures_them(node: TestNode) -> None:
    import json

    node.start_pod(
        node.pod("measured", sh("x=$(head -c 3000000 /dev/zero | tr '\\0' x); while true; do sleep 0.1; done"))
    )
    listed = json.loads(node.kubelet_get("/pods"))
    assert "measured" in [p["metadata"]["name"] for p in listed["items"]]
    assert node.kubelet_get("/healthz") == "ok"

    def summary() -> dict:
        return json.loads(node.kubelet_get("/stats/summary"))

    def of_pod(found: dict) -> dict:
        return next((p for p in found["pods"] if p["podRef"]["name"] == "measured"), {})

    found = node.until(summary, lambda s: of_pod(s).get("cpu", {}).get("usageNanoCores"), "CPU usage", 30)
    pod = of_pod(found)
    assert pod["memory"]["workingSetBytes"] > 2_000_000
    assert pod["containers"][0]["name"] == "c" and pod["containers"][0]["cpu"]["usageCoreNanoSeconds"] > 0
    assert pod["network"]["rxBytes"] >= 0
    assert found["node"]["nodeName"] == NODE and found["node"]["memory"]["workingSetBytes"] > 0
    assert found["node"]["fs"]["capacityBytes"] > 0
    text = node.kubelet_get("/metrics/resource")
    assert 'container_memory_working_set_bytes{container="c",namespace="default",pod="measured"}' in text
    assert "node_cpu_usage_seconds_total" in text
    text = node.kubelet_get("/metrics/cadvisor")
    assert 'container_cpu_usage_seconds_total{container="c",cpu="total",id="/peavine/' in text
    for name in (
        "container_cpu_cfs_throttled_periods_total",
        "container_memory_cache",
        "container_memory_failures_total",
        "container_network_receive_bytes_total",
        "container_fs_usage_bytes",
        "container_spec_memory_limit_bytes",
        "container_start_time_seconds",
        "container_last_seen",
        "machine_memory_bytes",
    ):
        assert f"\n{name}" in text, name
    system = {entry["name"]: entry for entry in found["node"]["systemContainers"]}
    assert system["pods"]["memory"]["usageBytes"] > 0 and system["kubelet"]["cpu"]["usageCoreNanoSeconds"] > 0
    assert found["node"]["runtime"]["imageFs"]["capacityBytes"] and found["node"]["rlimit"]["maxpid"]
    assert {"rootfs", "logs", "swap"} <= pod["containers"][0].keys() and pod["ephemeral-storage"]["usedBytes"] >= 0
    assert "kubelet_running_pods" in node.kubelet_get("/metrics")
    assert json.loads(node.kubelet_get("/configz"))["kubeletconfig"]["kind"] == "KubeletConfiguration"
    node.delete("measured", 0)


def test_logs_of_the_node_are_files_and_queries_where_allowed(node: TestNode) -> None:
    assert "<pre>" in node.kubelet_get("/logs/")
    with pytest.raises(ApiError) as refused:
        node.kubelet_get("/logs/", query="anything")
    assert refused.value.code == 405
    log = Path("/var/log") / f"{node.bridge}-service.log"
    log.write_text("first line\nsecond line\nthird word\n")
    settings = "apiVersion: kubelet.config.k8s.io/v1beta1\nkind: KubeletConfiguration\nenableSystemLogQuery: true\n"
    (node.directory / "logs.yaml").write_text(settings)
    node.restart_kubelet(f"--config={node.directory}/logs.yaml")
    try:
        service = log.name.removesuffix(".log")
        assert node.kubelet_get(f"/logs/{log.name}") == log.read_text()
        assert node.kubelet_get("/logs/", query=service, tailLines="1") == "third word\n"
        assert node.kubelet_get("/logs/", query=service, pattern="line", tailLines="1") == "second line\n"
        for wrong in ({"query": "../etc/passwd"}, {"query": "; reboot"}, {"query": service, "tailLines": "x"}):
            with pytest.raises(ApiError) as refused:
                node.kubelet_get("/logs/", **wrong)
            assert refused.value.code in (400, 404)
    finally:
        log.unlink()
        node.restart_kubelet("--enable-debugging-handlers=false")
    try:
        with pytest.raises(ApiError) as refused:
            node.kubelet_get("/logs/")
        assert refused.value.code == 405 and node.kubelet_get("/healthz") == "ok"
    finally:
        node.restart_kubelet()


def test_strangers_are_turned_away(node: TestNode) -> None:
    import ssl
    import urllib.error
    import urllib.request

    context = ssl.create_default_context(cafile=str(node.directory / "pki" / "ca.crt"))
    url = f"https://127.0.0.1:{node.kubelet_port}/pods"
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(url, context=context, timeout=10)
    assert refused.value.code == 401
    request = urllib.request.Request(url, headers={"Authorization": "Bearer nonsense"})
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(request, context=context, timeout=10)
    assert refused.value.code == 401


def test_the_node_reports_itself_and_keeps_its_lease(node: TestNode) -> None:
    found = node.run(node.client.resource("v1", "nodes").get(NODE))
    assert found["metadata"]["labels"]["kubernetes.io/hostname"] == NODE
    assert found["metadata"]["labels"]["kubernetes.io/os"] == "linux"
    status = found["status"]
    assert {"type": "InternalIP", "address": node.address} in status["addresses"]
    assert status["nodeInfo"]["kubeletVersion"].startswith("v1.37.0")
    assert status["nodeInfo"]["containerRuntimeVersion"].startswith("containerd://")
    types = {c["type"]: c["status"] for c in status["conditions"]}
    assert types == {"MemoryPressure": "False", "DiskPressure": "False", "PIDPressure": "False", "Ready": "True"}
    assert int(status["capacity"]["cpu"]) == os.cpu_count()
    assert any("peavine.local/busybox:1.36" in image["names"] for image in status["images"])
    leases = node.client.resource("coordination.k8s.io/v1", "leases")
    lease = node.run(leases.get(NODE, "kube-node-lease"))
    assert lease["spec"]["holderIdentity"] == NODE and lease["spec"]["leaseDurationSeconds"] == 40
