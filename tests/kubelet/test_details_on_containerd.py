"""The finer points of a pod's life on containerd: stop signals, order of sidecars, resources of the whole pod, resizes
that wait, runtime classes, gRPC probes, pressure."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from concurrent import futures
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from peavine.linux import cgroups
from tests.kubelet.node import NODE, TestNode, free_port
from tests.kubelet.test_node_on_containerd import group_of
from tests.kubelet.test_pods_on_containerd import FOREVER, condition, sh, state

pytestmark = pytest.mark.root
Object = dict[str, Any]


def on_host(node: TestNode, name: str) -> tuple[Path, Object, list[Object]]:
    """A directory of the host, its mount at /v, and the pod's volumes."""
    path = node.directory / name
    path.mkdir()
    return path, {"volumeMounts": [{"name": "v", "mountPath": "/v"}]}, [{"name": "v", "hostPath": {"path": str(path)}}]


def test_a_containers_own_stop_signal_ends_it(node: TestNode) -> None:
    path, mount, volumes = on_host(node, "signals")
    script = (
        'for s in TERM USR1; do trap "echo $s >> /v/o; exit 0" $s; done; touch /v/up; while true; do sleep 0.1; done'
    )
    container = {**sh(script), **mount, "lifecycle": {"stopSignal": "SIGUSR1"}}
    pod = node.start_pod(
        node.pod("signalled", container, volumes=volumes, os={"name": "linux"}, terminationGracePeriodSeconds=30)
    )
    assert state(pod)["stopSignal"] == "SIGUSR1"
    node.until((path / "up").exists, bool, "its traps are set")
    node.delete("signalled")
    assert (path / "o").read_text() == "USR1\n"


def test_sidecars_start_in_order_and_end_in_reverse(node: TestNode) -> None:
    path, mount, volumes = on_host(node, "order")

    def container(name: str) -> Object:
        script = f"trap 'echo -{name} >> /v/o; exit 0' TERM; echo {name} >> /v/o; touch /v/{name};"
        script += " while true; do sleep 0.1; done"
        return {"name": name, **sh(script), **mount}

    def sidecar(name: str) -> Object:
        probe = {"exec": {"command": ["test", "-f", f"/v/{name}"]}, "periodSeconds": 1}
        return {**container(name), "restartPolicy": "Always", "startupProbe": probe}

    node.start_pod(
        node.pod(
            "ordered",
            container("main"),
            initContainers=[sidecar("one"), {"name": "init", **sh("echo init >> /v/o"), **mount}, sidecar("two")],
            volumes=volumes,
            terminationGracePeriodSeconds=20,
        )
    )
    node.until(lambda: "main" in (path / "o").read_text(), bool, "main runs")
    node.delete("ordered")
    assert (path / "o").read_text().split() == ["one", "init", "two", "main", "-main", "-two", "-one"]


def test_a_pods_own_resources_bound_its_containers_together(node: TestNode) -> None:
    amounts = {"requests": {"cpu": "100m", "memory": "32Mi"}, "limits": {"cpu": "300m", "memory": "96Mi"}}
    pod = node.start_pod(node.pod("together", FOREVER, FOREVER, resources=amounts))
    assert pod["status"]["qosClass"] == "Burstable"
    inner = group_of(node, pod)
    outer = os.path.dirname(inner)
    assert cgroups.usage(outer).memory_limit_bytes == 96 << 20
    details = cgroups.details(outer)
    assert details.cpu_quota == 30_000 and details.cpu_shares in (102, 103, 104)
    assert cgroups.usage(inner).memory_limit_bytes > 1 << 40 or cgroups.usage(inner).memory_limit_bytes == 0
    assert pod["status"]["resources"] == amounts and pod["status"]["allocatedResources"] == amounts["requests"]
    bigger = {"requests": {"cpu": "150m", "memory": "48Mi"}, "limits": {"cpu": "400m", "memory": "128Mi"}}
    pods = node.client.resource("v1", "pods")
    node.run(pods.patch("together", {"spec": {"resources": bigger}}, "default", subresource="resize"))
    now = node.wait("together", lambda p: p["status"].get("resources") == bigger)
    node.wait("together", lambda p: not condition(p, "PodResizeInProgress"))
    assert cgroups.usage(outer).memory_limit_bytes == 128 << 20 and cgroups.details(outer).cpu_quota == 40_000
    assert [s["restartCount"] for s in now["status"]["containerStatuses"]] == [0, 0]
    node.delete("together", 0)


def test_a_resize_that_must_wait_happens_once_there_is_room(node: TestNode) -> None:
    nodes = node.client.resource("v1", "nodes")
    cores = int(node.run(nodes.get(NODE))["status"]["allocatable"]["cpu"])
    pod = node.start_pod(node.pod("waits", {**FOREVER, "resources": {"requests": {"cpu": "100m"}}}))
    most = {"requests": {"cpu": f"{cores * 1000 - 400}m"}}
    node.start_pod(node.pod("crowds", {**FOREVER, "resources": most}))
    bigger = {"spec": {"containers": [{"name": "c", "resources": {"requests": {"cpu": "900m"}}}]}}
    pods = node.client.resource("v1", "pods")
    node.run(pods.patch("waits", bigger, "default", type="strategic", subresource="resize"))
    found = node.wait("waits", lambda p: condition(p, "PodResizePending"))
    assert condition(found, "PodResizePending")["reason"] == "Deferred"
    assert state(found)["allocatedResources"] == {"cpu": "100m"}
    node.restart_kubelet()
    assert condition(node.get("waits"), "PodResizePending")["reason"] == "Deferred"
    node.delete("crowds", 0)
    found = node.wait("waits", lambda p: (state(p).get("allocatedResources") or {}).get("cpu") == "900m")
    node.wait("waits", lambda p: not condition(p, "PodResizePending") and not condition(p, "PodResizeInProgress"))
    assert node.container_id(found) == node.container_id(pod)
    assert cgroups.details(group_of(node, found)).cpu_shares in (921, 920, 922)
    # Burstable pods together weigh what they ask for, through restarts of the kubelet.
    burstable = os.path.dirname(os.path.dirname(group_of(node, found)))
    node.until(lambda: cgroups.details(burstable).cpu_shares, lambda shares: shares >= 900, "their weight")
    node.delete("waits", 0)


def test_a_runtime_class_chooses_the_handler_and_adds_its_overhead(node: TestNode) -> None:
    classes = node.client.resource("node.k8s.io/v1", "runtimeclasses")
    body = {"apiVersion": "node.k8s.io/v1", "kind": "RuntimeClass"}
    overhead = {"podFixed": {"cpu": "50m", "memory": "16Mi"}}
    node.run(classes.create({**body, "metadata": {"name": "other"}, "handler": "crun", "overhead": overhead}))
    node.run(classes.create({**body, "metadata": {"name": "nowhere"}, "handler": "absent"}))
    amounts = {"cpu": "100m", "memory": "32Mi"}
    resources = {"requests": amounts, "limits": amounts}
    pod = node.start_pod(node.pod("classed", {**FOREVER, "resources": resources}, runtimeClassName="other"))
    assert pod["spec"]["overhead"] == overhead["podFixed"]
    (sandbox,) = node.run(node.cri.list_sandboxes({"io.kubernetes.pod.uid": pod["metadata"]["uid"]}))
    assert sandbox["runtime_handler"] == "crun"
    outer = os.path.dirname(group_of(node, pod))
    assert cgroups.usage(outer).memory_limit_bytes == (32 + 16) << 20
    assert cgroups.details(outer).cpu_quota == 15_000
    node.create(node.pod("unclassed", FOREVER, runtimeClassName="nowhere"))
    assert "absent" in node.wait_event("unclassed", "FailedCreatePodSandBox")
    for name in ("classed", "unclassed"):
        node.delete(name, 0)
    for name in ("other", "nowhere"):
        node.run(classes.delete(name))


@contextmanager
def health_server(address: str, answers: dict[str, int]) -> Iterator[int]:
    """A gRPC server of grpcio with the health service; `answers`: service -> status. Yields its port."""
    import grpc

    def check(request: bytes, context: Any) -> bytes:
        # HealthCheckRequest: field 1 is the service; HealthCheckResponse: field 1 is the status.
        service = request[2:].decode() if request else ""
        if service not in answers:
            context.abort(grpc.StatusCode.NOT_FOUND, "unknown service")
        return b"\x08" + bytes([answers[service]])

    handler = grpc.method_handlers_generic_handler(
        "grpc.health.v1.Health", {"Check": grpc.unary_unary_rpc_method_handler(check)}
    )
    server = grpc.server(futures.ThreadPoolExecutor(2))
    server.add_generic_rpc_handlers((handler,))
    port = server.add_insecure_port(f"{address}:0")
    server.start()
    try:
        yield port
    finally:
        server.stop(None).wait()


def test_grpc_probes_ask_the_health_service(node: TestNode) -> None:
    answers = {"": 1, "ready": 2}
    # The node's address is its bridge's, which the first pod brings.
    node.start_pod(node.pod("bridge", FOREVER))
    node.delete("bridge", 0)
    with health_server(node.address, answers) as port:
        container = {
            **FOREVER,
            "startupProbe": {"grpc": {"port": port}, "periodSeconds": 1},
            "readinessProbe": {"grpc": {"port": port, "service": "ready"}, "periodSeconds": 1},
        }
        # On the node's network the pod's address is the node's: the server answers there.
        node.create(node.pod("health", container, hostNetwork=True))
        unhealthy = node.wait_event("health", "Unhealthy", "Readiness probe failed")
        assert 'service unhealthy (responded with "NOT_SERVING")' in unhealthy
        assert state(node.get("health"))["started"] is True
        answers["ready"] = 1
        node.wait("health", lambda p: state(p)["ready"], "the service serves")
        del answers["ready"]
        node.wait("health", lambda p: not state(p)["ready"], "nobody knows the service any more", 30)
        node.delete("health", 0)


def conditions(node: TestNode) -> dict[str, str]:
    found = node.run(node.client.resource("v1", "nodes").get(NODE))
    return {c["type"]: c["status"] for c in found["status"]["conditions"]}


def test_short_disks_inodes_and_processes_are_conditions_and_evict(node: TestNode) -> None:
    # It keeps the image in use, which a node short of disk would remove.
    node.start_pod(node.pod("keeper", FOREVER, priorityClassName="system-node-critical"))
    node.start_pod(node.pod("victim1", FOREVER))
    flags = "nodefs.available<100%,nodefs.inodesFree<100%,pid.available<100%"
    node.restart_kubelet(f"--eviction-hard={flags}", "--eviction-pressure-transition-period=1")
    try:
        pod = node.wait("victim1", lambda p: p["status"].get("phase") == "Failed", seconds=30)
        assert pod["status"]["reason"] == "Evicted"
        assert pod["status"]["message"].startswith("The node was low on resource: ")
        assert condition(pod, "DisruptionTarget")["reason"] == "TerminationByKubelet"
        node.until(
            lambda: conditions(node),
            lambda c: (c["DiskPressure"], c["PIDPressure"], c["MemoryPressure"]) == ("True", "True", "False"),
            "both conditions",
        )
        assert node.get("keeper")["status"]["phase"] == "Running"
    finally:
        node.restart_kubelet()
    node.until(lambda: conditions(node), lambda c: c["DiskPressure"] == c["PIDPressure"] == "False", "they pass")
    for name in ("victim1", "keeper"):
        node.delete(name, 0)


def test_a_soft_threshold_waits_and_leaves_time_to_end(node: TestNode) -> None:
    path, mount, volumes = on_host(node, "softly")
    script = "trap 'echo ended well > /v/o; exit 0' TERM; touch /v/up; while true; do sleep 0.1; done"
    container = {**sh(script), **mount}
    node.start_pod(node.pod("softly", container, volumes=volumes, terminationGracePeriodSeconds=60))
    node.until((path / "up").exists, bool, "its trap is set")
    node.restart_kubelet(
        "--eviction-hard=",
        "--eviction-soft=memory.available<100Ti",
        "--eviction-soft-grace-period=memory.available=2s",
        "--eviction-max-pod-grace-period=20",
        "--eviction-pressure-transition-period=1",
    )
    try:
        node.until(lambda: conditions(node), lambda c: c["MemoryPressure"] == "True", "the condition comes first")
        pod = node.wait("softly", lambda p: p["status"].get("phase") == "Failed", seconds=40)
        assert pod["status"]["reason"] == "Evicted" and (path / "o").read_text() == "ended well\n"
    finally:
        node.restart_kubelet()
    node.delete("softly", 0)


def test_what_the_node_reserves_no_pod_gets(node: TestNode) -> None:
    status = node.run(node.client.resource("v1", "nodes").get(NODE))["status"]
    from peavine.machinery.quantity import parse_quantity

    node.restart_kubelet("--system-reserved=cpu=500m,memory=1Gi", "--kube-reserved=memory=512Mi", "--eviction-hard=")
    try:
        cpu, memory = (parse_quantity(status["capacity"][name]) for name in ("cpu", "memory"))

        def amounts() -> tuple[int, int]:
            found = node.run(node.client.resource("v1", "nodes").get(NODE))["status"]["allocatable"]
            return parse_quantity(found["cpu"]).milli(), parse_quantity(found["memory"]).value()

        wanted = (cpu.milli() - 500, memory.value() - (1536 << 20))
        node.until(amounts, lambda found: found == wanted, "allocatable is less")
        from peavine.cmd.kubelet import cgroup_root

        group = f"{cgroup_root(str(node.directory))}/kubepods"
        assert abs(cgroups.usage(group).memory_limit_bytes - wanted[1]) < 1 << 20
    finally:
        node.restart_kubelet()


def test_pods_that_the_schedulers_predicates_refuse_fail_at_once(node: TestNode) -> None:
    ports = [{"containerPort": 80, "hostPort": free_port()}]
    node.start_pod(node.pod("first", {**FOREVER, "ports": ports}))
    refused = node.finish_pod(node.pod("second", {**FOREVER, "ports": ports}))
    assert refused["status"]["reason"] == "NodePorts"
    assert refused["status"]["message"].startswith("Pod was rejected: Predicate NodePorts failed")
    if not Path("/sys/module/apparmor/parameters/enabled").exists():
        confined = {**FOREVER, "securityContext": {"appArmorProfile": {"type": "RuntimeDefault"}}}
        refused = node.finish_pod(node.pod("confined", confined))
        assert refused["status"]["reason"] == "AppArmor"
        assert "AppArmor is not enabled on the host" in refused["status"]["message"]
        node.delete("confined", 0)
    for name in ("first", "second"):
        node.delete(name, 0)


def test_apparmor_profiles_are_applied(node: TestNode) -> None:
    if not Path("/sys/module/apparmor/parameters/enabled").exists():
        pytest.skip("this kernel has no AppArmor")
    confined = {**FOREVER, "securityContext": {"appArmorProfile": {"type": "RuntimeDefault"}}}
    pod = node.start_pod(node.pod("profiled", confined))
    assert "enforce" in node.exec(pod, "cat", "/proc/1/attr/current")
    node.delete("profiled", 0)


def test_selinux_labels_are_applied(node: TestNode) -> None:
    if not Path("/sys/fs/selinux/enforce").exists():
        pytest.skip("this kernel has no SELinux")
    context = {"seLinuxOptions": {"level": "s0:c123,c456"}}
    pod = node.start_pod(node.pod("labelled", {**FOREVER, "securityContext": context}))
    assert "s0:c123,c456" in node.exec(pod, "cat", "/proc/1/attr/current")
    node.delete("labelled", 0)


def test_swap_is_refused_or_limited_as_the_machine_allows(node: TestNode) -> None:
    if cgroups.is_unified():
        pytest.skip("this machine has control groups of version 2: nothing to refuse")
    node.kill_kubelet()
    node.start_kubelet("--swap-behavior=LimitedSwap", wait=False)
    assert node.kubelet is not None and node.kubelet.wait(30) == 1
    assert "LimitedSwap needs control groups of version 2" in node.log_tail()
    node.kubelet = None
    node.start_kubelet()


def test_memory_and_topology_managers_bind_a_container_to_its_node(node: TestNode) -> None:
    node.restart_kubelet(
        "--cpu-manager-policy=static",
        "--reserved-cpus=0",
        "--memory-manager-policy=Static",
        "--system-reserved=memory=1Gi",
        "--reserved-memory=0:memory=1124Mi",
        "--topology-manager-policy=single-numa-node",
        "--topology-manager-scope=pod",
    )
    try:
        amounts = {"cpu": "1", "memory": "64Mi"}
        pod = node.start_pod(node.pod("bound", {**FOREVER, "resources": {"requests": amounts, "limits": amounts}}))
        status = node.exec(pod, "cat", "/proc/1/status")
        fields = dict(line.split(":", 1) for line in status.splitlines() if ":" in line)
        assert fields["Mems_allowed_list"].strip() == "0"
        assert len(fields["Cpus_allowed_list"].strip()) == 1 and fields["Cpus_allowed_list"].strip() != "0"
        state_ = json.loads((node.directory / "kubelet" / "memory_manager_state").read_text())
        assert state_["entries"][pod["metadata"]["uid"]]["c"]["amounts"] == {"memory": 64 << 20}
        node.delete("bound", 0)
    finally:
        node.restart_kubelet()


@contextmanager
def listener(address: str) -> Iterator[tuple[int, list[tuple[str, str, str]]]]:
    """An HTTPS server that fails until it is asked with the right header; (port, [(path, host, header)])."""
    import http.server
    import threading

    seen: list[tuple[str, str, str]] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            seen.append((self.path, self.headers.get("Host", ""), self.headers.get("X-Probe", "")))
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *args: object) -> None:
            return None

    server = http.server.ThreadingHTTPServer((address, 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield server.server_port, seen
    finally:
        server.shutdown()
        server.server_close()


def test_hooks_speak_http_and_tcp_and_sleep(node: TestNode) -> None:
    with listener("127.0.0.1") as (port, seen):
        headers = [{"name": "X-Probe", "value": "hook"}, {"name": "Host", "value": "named.example"}]
        get = {"host": "127.0.0.1", "port": port, "path": "/started", "httpHeaders": headers}
        containers = [
            {**FOREVER, "lifecycle": {"postStart": {"httpGet": get}, "preStop": {"sleep": {"seconds": 1}}}},
            {**FOREVER, "lifecycle": {"postStart": {"tcpSocket": {"host": "127.0.0.1", "port": port}}}},
            {**FOREVER, "lifecycle": {"preStop": {"httpGet": {**get, "path": "/stopping"}}}},
        ]
        pod = node.start_pod(node.pod("hooked", *containers, terminationGracePeriodSeconds=20))
        node.delete("hooked")
        assert [entry for entry in seen if entry[0] == "/started"] == [("/started", "named.example", "hook")]
        assert ("/stopping", "named.example", "hook") in seen
        assert pod["status"]["phase"] == "Running"
    bad = {**FOREVER, "lifecycle": {"postStart": {"tcpSocket": {"host": "127.0.0.1", "port": port}}}}
    node.create(node.pod("unhooked", bad))
    node.wait_event("unhooked", "FailedPostStartHook")
    node.delete("unhooked", 0)


def test_http_probes_send_their_headers_to_their_host(node: TestNode) -> None:
    with listener("127.0.0.1") as (port, seen):
        get = {
            "host": "127.0.0.1",
            "port": port,
            "path": "/ready",
            "httpHeaders": [{"name": "X-Probe", "value": "yes"}],
        }
        node.start_pod(node.pod("asked", {**FOREVER, "readinessProbe": {"httpGet": get, "periodSeconds": 1}}))
        assert ("/ready", f"127.0.0.1:{port}", "yes") in seen
        https = {**get, "scheme": "HTTPS"}
        node.create(node.pod("secured", {**FOREVER, "readinessProbe": {"httpGet": https, "periodSeconds": 1}}))
        # What answers there speaks no TLS.
        node.wait_event("secured", "Unhealthy", 'Readiness probe failed: Get "https://')
        for name in ("asked", "secured"):
            node.delete(name, 0)


def test_a_container_that_writes_more_than_it_may_is_evicted(node: TestNode) -> None:
    amounts = {"limits": {"ephemeral-storage": "2Mi"}, "requests": {"ephemeral-storage": "1Mi"}}
    # What it writes to its log counts as well as what it writes to its files.
    script = "head -c 5000000 /dev/zero | tr '\\0' x | fold; sleep 1000"
    pod = node.finish_pod(node.pod("writer", {**sh(script), "resources": amounts}), seconds=60)
    assert pod["status"]["reason"] == "Evicted"
    assert "ephemeral" in pod["status"]["message"]
    node.delete("writer", 0)


def test_localhost_seccomp_profiles_are_enforced(node: TestNode) -> None:
    directory = node.directory / "kubelet" / "seccomp"
    directory.mkdir(exist_ok=True)
    rules = [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO"}]
    (directory / "no-mkdir.json").write_text(json.dumps({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": rules}))
    profile = {"seccompProfile": {"type": "Localhost", "localhostProfile": "no-mkdir.json"}}
    script = "mkdir /tmp/x && echo made; grep Seccomp: /proc/self/status"
    node.finish_pod(node.pod("seccomp", {**sh(script), "securityContext": profile}, restartPolicy="Never"))
    text = node.logs("seccomp")
    assert "made\n" not in text and "Seccomp:\t2" in text
    node.delete("seccomp", 0)


def test_a_volume_whose_root_is_right_keeps_its_owners(node: TestNode) -> None:
    from tests.kubelet.test_disks_on_containerd import affinity, persistent

    for policy, group in (("OnRootMismatch", 0), ("Always", 4321)):
        path = node.directory / f"owned-{policy}"
        path.mkdir()
        (path / "old").touch()
        os.chown(path, 0, 4321)
        path.chmod(0o2775)
        source = {"local": {"path": str(path)}, "nodeAffinity": affinity()}
        volumes = persistent(node, f"owned-{policy.lower()}", source)
        mount = {"volumeMounts": [{"name": "v", "mountPath": "/v"}]}
        context = {"fsGroup": 4321, "fsGroupChangePolicy": policy}
        name = f"owner-{policy.lower()}"
        node.start_pod(node.pod(name, {**FOREVER, **mount}, volumes=volumes, securityContext=context))
        assert (path / "old").stat().st_gid == group
        node.delete(name, 0)


def test_objects_that_never_change_are_not_watched(node: TestNode) -> None:
    def watches() -> int:
        text = node.raw("/metrics")
        lines = [line for line in text.splitlines() if line.startswith("apiserver_longrunning_requests{")]
        return sum(int(float(line.split()[-1])) for line in lines if 'resource="configmaps"' in line)

    data = {"data": {"key": "value"}}
    node.create({"kind": "ConfigMap", "metadata": {"name": "fixed"}, "immutable": True, **data})
    mount = {"volumeMounts": [{"name": "v", "mountPath": "/v"}]}
    volumes = [{"name": "v", "configMap": {"name": "fixed"}}]
    before = watches()
    pod = node.start_pod(node.pod("unwatched", {**FOREVER, **mount}, volumes=volumes))
    assert node.exec(pod, "cat", "/v/key") == "value"
    node.until(watches, lambda count: count <= before, "no watch is open")
    node.delete("unwatched", 0)


def test_a_node_registers_with_its_labels_and_taints_and_tells_how_it_is(node: TestNode) -> None:
    nodes = node.client.resource("v1", "nodes")
    node.kill_kubelet()
    node.run(nodes.delete(NODE))
    node.start_kubelet("--node-labels=zone=here,disk=fast", "--register-with-taints=only=tests:NoSchedule")
    try:
        found = node.until(
            lambda: node.run(nodes.get(NODE)), lambda n: n["status"].get("conditions"), "the node is back"
        )
        assert found["metadata"]["labels"]["zone"] == "here" and found["metadata"]["labels"]["disk"] == "fast"
        assert found["metadata"]["labels"]["kubernetes.io/hostname"] == NODE
        assert {"key": "only", "value": "tests", "effect": "NoSchedule"} in found["spec"]["taints"]
        info = node.until(
            lambda: node.run(nodes.get(NODE))["status"]["nodeInfo"],
            lambda info: info["containerRuntimeVersion"].startswith("containerd://"),
            "the version of its runtime",
        )
        assert info["kernelVersion"] and info["bootID"] and info["osImage"]
        told = node.until(
            lambda: {reason for reason, _ in node.events(NODE)},
            lambda reasons: "NodeReady" in reasons,
            "its events",
        )
        assert {"Starting", "NodeAllocatableEnforced", "NodeHasSufficientMemory", "NodeHasNoDiskPressure"} <= told
    finally:
        node.restart_kubelet()
        node.until(lambda: conditions(node), lambda c: c.get("Ready") == "True", "the node is Ready")
        node.run(nodes.patch(NODE, {"spec": {"taints": None}}))


def test_resources_that_an_administrator_advertises_can_be_had(node: TestNode) -> None:
    nodes = node.client.resource("v1", "nodes")
    name = "example.com/dongle"
    node.run(nodes.patch(NODE, {"status": {"capacity": {name: "4"}}}, subresource="status"))

    def amounts() -> tuple[str | None, str | None]:
        status = node.run(nodes.get(NODE))["status"]
        return status["capacity"].get(name), status["allocatable"].get(name)

    node.until(amounts, lambda found: found == ("4", "4"), "it is allocatable")
    wanted = {"limits": {name: "1"}, "requests": {name: "1"}}
    node.start_pod(node.pod("donglier", {**FOREVER, "resources": wanted}))
    node.restart_kubelet()
    node.until(amounts, lambda found: found == ("4", "4"), "it stays")
    node.delete("donglier", 0)
    node.run(nodes.patch(NODE, {"status": {"capacity": {name: None}}}, subresource="status"))
    node.until(amounts, lambda found: found == (None, None), "it is gone")
