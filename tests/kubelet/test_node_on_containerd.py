"""What the node does of itself: resizing, static pods, eviction, configuration, images."""

from __future__ import annotations

import contextlib
import json
import os

import pytest

from peavine.linux import cgroups
from peavine.machinery.errors import ApiError
from tests.kubelet.node import IMAGE, NODE, TestNode
from tests.kubelet.test_pods_on_containerd import FOREVER, condition, sh, state

pytestmark = pytest.mark.root


def group_of(node: TestNode, pod: dict, name: str = "c") -> str:
    info = node.run(node.cri.container_info(node.container_id(pod, name)))
    return cgroups.of_process(json.loads(info["info"])["pid"])


def test_a_running_container_is_resized_in_place(node: TestNode) -> None:
    resources = {"requests": {"cpu": "100m", "memory": "32Mi"}, "limits": {"cpu": "200m", "memory": "64Mi"}}
    policy = [{"resourceName": "memory", "restartPolicy": "RestartContainer"}]
    pod = node.start_pod(
        node.pod(
            "resized", {**FOREVER, "resources": resources}, {**FOREVER, "resources": resources, "resizePolicy": policy}
        )
    )
    pods = node.client.resource("v1", "pods")
    bigger = {"requests": {"cpu": "150m", "memory": "48Mi"}, "limits": {"cpu": "300m", "memory": "96Mi"}}
    patch = {"spec": {"containers": [{"name": "c", "resources": bigger}, {"name": "c1", "resources": bigger}]}}
    node.run(pods.patch("resized", patch, "default", type="strategic", subresource="resize"))
    now = node.wait("resized", lambda p: state(p).get("resources") == bigger and state(p, "c1")["restartCount"] == 1)
    assert state(now)["restartCount"] == 0 and state(now)["allocatedResources"] == bigger["requests"]
    assert node.container_id(now) == node.container_id(pod)
    group = group_of(node, now)
    assert cgroups.usage(group).memory_limit_bytes == 96 << 20
    assert cgroups.usage(os.path.dirname(group)).memory_limit_bytes == 192 << 20
    huge = {"requests": {"cpu": "1000", "memory": "48Mi"}, "limits": {"cpu": "1000", "memory": "96Mi"}}
    patch = {"spec": {"containers": [{"name": "c", "resources": huge}]}}
    node.run(pods.patch("resized", patch, "default", type="strategic", subresource="resize"))
    now = node.wait("resized", lambda p: condition(p, "PodResizePending"))
    assert condition(now, "PodResizePending")["reason"] == "Infeasible"
    assert state(now)["resources"] == bigger
    patch = {"spec": {"containers": [{"name": "c", "resources": bigger}]}}
    node.run(pods.patch("resized", patch, "default", type="strategic", subresource="resize"))
    node.wait("resized", lambda p: not condition(p, "PodResizePending"))
    node.delete("resized", 0)


def test_files_become_static_pods_with_mirrors_in_the_api(node: TestNode) -> None:
    file = node.directory / "manifests" / "web.yaml"

    def write(text: str) -> None:
        spec = {"terminationGracePeriodSeconds": 1, "automountServiceAccountToken": False}
        spec |= {
            "containers": [{"name": "c", "image": IMAGE, **sh(f"echo {text}; trap 'exit 0' TERM; sleep 1000 & wait")}]
        }
        file.write_text(json.dumps({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "web"}, "spec": spec}))

    name = f"web-{NODE}"
    write("first")
    pod = node.wait(name, lambda p: condition(p, "Ready").get("status") == "True")
    assert pod["metadata"]["annotations"]["kubernetes.io/config.source"] == "file"
    assert pod["metadata"]["ownerReferences"][0]["kind"] == "Node"
    assert node.logs(name) == "first\n"
    identity = node.container_id(pod)
    # Deleting the mirror does not touch the pod: it is only shown again.
    with contextlib.suppress(ApiError):
        node.delete(name, 0, wait=False)
    again = node.wait(
        name,
        lambda p: p["metadata"]["uid"] != pod["metadata"]["uid"] and condition(p, "Ready").get("status") == "True",
    )
    assert node.container_id(again) == identity
    node.restart_kubelet()
    again = node.wait(name, lambda p: condition(p, "Ready").get("status") == "True")
    assert node.container_id(again) == identity
    write("second")
    node.wait(name, lambda p: condition(p, "Ready").get("status") == "True" and node.container_id(p) != identity)
    node.until(lambda: node.logs(name), lambda text: text == "second\n", "the new pod's log")
    file.unlink()
    node.gone(name)
    node.until(lambda: node.run(node.cri.list_sandboxes({"io.kubernetes.pod.name": name})), lambda s: not s, "its end")


def test_a_pod_that_outgrows_its_volume_is_evicted(node: TestNode) -> None:
    container = {
        **sh("dd if=/dev/zero of=/v/big bs=1M count=4 2>/dev/null; sleep 1000"),
        "volumeMounts": [{"name": "v", "mountPath": "/v"}],
    }
    pod = node.pod("greedy", container, volumes=[{"name": "v", "emptyDir": {"sizeLimit": "1Mi"}}])
    pod = node.finish_pod(pod, seconds=25)
    assert pod["status"]["reason"] == "Evicted"
    assert pod["status"]["message"] == 'Usage of EmptyDir volume "v" exceeds the limit "1Mi". '
    assert condition(pod, "DisruptionTarget")["reason"] == "TerminationByKubelet"
    node.delete("greedy", 0)


def test_a_node_short_of_memory_says_so_and_evicts(node: TestNode) -> None:
    node.start_pod(node.pod("victim", FOREVER))
    node.restart_kubelet("--eviction-hard=memory.available<100Ti", "--eviction-pressure-transition-period=1")
    try:
        pod = node.wait("victim", lambda p: p["status"].get("phase") == "Failed")
        assert pod["status"]["reason"] == "Evicted"
        assert pod["status"]["message"].startswith("The node was low on resource: memory. Threshold quantity: 100Ti,")
        nodes = node.client.resource("v1", "nodes")
        node.until(
            lambda: node.run(nodes.get(NODE)),
            lambda n: {c["type"]: c["status"] for c in n["status"]["conditions"]}["MemoryPressure"] == "True",
            "the condition",
        )
        refused = node.finish_pod(node.pod("late", FOREVER))
        assert refused["status"]["reason"] == "Evicted"
        assert refused["status"]["message"].startswith("Pod was rejected: The node had condition: [MemoryPressure]")
    finally:
        node.restart_kubelet()
    node.delete("victim", 0)
    node.delete("late", 0)
    node.until(
        lambda: node.run(nodes.get(NODE)),
        lambda n: {c["type"]: c["status"] for c in n["status"]["conditions"]}["MemoryPressure"] == "False",
        "no pressure any more",
    )


def test_a_pod_that_does_not_fit_is_refused(node: TestNode) -> None:
    pod = node.finish_pod(node.pod("too-big", {**FOREVER, "resources": {"requests": {"cpu": "1000"}}}))
    assert pod["status"]["reason"] == "OutOfcpu"
    assert "requested: 1000000" in pod["status"]["message"]
    wrong = node.finish_pod(node.pod("misplaced", FOREVER, nodeSelector={"nowhere": "true"}))
    assert wrong["status"]["reason"] == "NodeAffinity"
    node.delete("too-big", 0)
    node.delete("misplaced", 0)


def test_the_configuration_file_counts_unless_a_flag_says_otherwise(node: TestNode) -> None:
    file = node.directory / "kubelet.yaml"
    file.write_text(
        "apiVersion: kubelet.config.k8s.io/v1beta1\nkind: KubeletConfiguration\nmaxPods: 17\n"
        "clusterDomain: example.test\n"
        "syncFrequency: 2m0s\nauthentication: {anonymous: {enabled: false}}\n"
    )
    drop = node.directory / "kubelet.conf.d"
    drop.mkdir()
    (drop / "10-more.conf").write_text(
        "apiVersion: kubelet.config.k8s.io/v1beta1\nkind: KubeletConfiguration\npodPidsLimit: 99\n"
    )
    node.restart_kubelet(f"--config={file}", f"--config-dir={drop}")
    try:
        found = json.loads(node.until(lambda: node.kubelet_get_or_empty("/configz"), bool, "the server"))[
            "kubeletconfig"
        ]
        assert found["clusterDomain"] == "example.test" and found["syncFrequency"] == "2m0s"
        assert found["maxPods"] == 200 and found["podPidsLimit"] == 99
        pod = node.start_pod(node.pod("configured", FOREVER))
        assert "svc.example.test" in node.exec(pod, "cat", "/etc/resolv.conf")
        pids = cgroups.controllers()["pids"] / os.path.dirname(group_of(node, pod)).strip("/") / "pids.max"
        assert pids.read_text().strip() == "99"
        node.delete("configured", 0)
    finally:
        node.restart_kubelet()


def test_the_static_cpu_manager_gives_whole_cpus_to_one_container(node: TestNode) -> None:
    if (os.cpu_count() or 1) < 3:
        pytest.skip("needs three CPUs")
    other = node.start_pod(node.pod("crowd", FOREVER))
    node.restart_kubelet("--cpu-manager-policy=static", "--reserved-cpus=0")
    try:
        node.until(lambda: node.kubelet_get_or_empty("/healthz"), bool, "the server")
        whole = {"cpu": "1", "memory": "32Mi"}
        pod = node.start_pod(node.pod("alone", {**FOREVER, "resources": {"requests": whole, "limits": whole}}))
        assert pod["status"]["qosClass"] == "Guaranteed"
        allowed = node.exec(pod, "grep", "Cpus_allowed_list", "/proc/self/status").split()[1]
        assert allowed == "1"

        def crowd() -> str:
            return node.exec(other, "grep", "Cpus_allowed_list", "/proc/self/status").split()[1]

        node.until(crowd, lambda text: "1" not in text.replace("-", ",").split(",")[:2], "the others make room")
        node.delete("alone", 0)
        node.until(crowd, lambda text: text.startswith("0-"), "the CPU is everybody's again")
        node.delete("crowd", 0)
    finally:
        node.restart_kubelet()


def test_a_container_rule_restarts_what_the_policy_would_not(node: TestNode) -> None:
    rules = [{"action": "Restart", "exitCodes": {"operator": "In", "values": [42]}}]
    script = "if [ -f /v/once ]; then exit 0; fi; touch /v/once; exit 42"
    container = {
        **sh(script, restartPolicy="Never", restartPolicyRules=rules),
        "volumeMounts": [{"name": "v", "mountPath": "/v"}],
    }
    pod = node.pod("ruled", container, restartPolicy="Never", volumes=[{"name": "v", "emptyDir": {}}])
    pod = node.finish_pod(pod)
    assert pod["status"]["phase"] == "Succeeded" and state(pod)["restartCount"] == 1
    node.delete("ruled", 0)


def test_a_kubelet_that_is_asked_to_end_does_so_at_once_and_leaves_its_pods(node: TestNode) -> None:
    import signal
    import time

    pod = node.start_pod(node.pod("left", FOREVER))
    assert node.kubelet is not None
    process, begun = node.kubelet, time.monotonic()
    size = (node.directory / "kubelet.log").stat().st_size
    node.kill_kubelet(signal.SIGTERM)
    assert process.returncode == 0 and time.monotonic() - begun < 5
    assert "Traceback" not in (node.directory / "kubelet.log").read_text()[size:]
    assert node.exec(pod, "echo", "still here") == "still here\n"
    node.start_kubelet()
    node.delete("left", 0)


def test_pods_end_in_order_when_the_machine_goes_down(node: TestNode) -> None:
    programs = node.directory / "programs"
    programs.mkdir()
    signal_ = '{"type":"signal","member":"PrepareForShutdown","payload":{"type":"b","data":[true]}}'
    (programs / "busctl").write_text(
        f"#!/bin/sh\nwhile [ ! -f {programs}/now ]; do sleep 0.1; done\necho '{signal_}'\nexec sleep 1000\n"
    )
    (programs / "systemd-inhibit").write_text(f"#!/bin/sh\necho $$ > {programs}/lock\nexec sleep 1000\n")
    for name in ("busctl", "systemd-inhibit"):
        (programs / name).chmod(0o755)
    node.start_pod(node.pod("evacuated", FOREVER))
    node.kill_kubelet()
    flags = ("--shutdown-grace-period=5", "--shutdown-grace-period-critical-pods=1")
    node.start_kubelet(*flags, path=str(programs))
    try:
        node.until((programs / "lock").exists, bool, "the lock is held")
        lock = int((programs / "lock").read_text())
        (programs / "now").touch()
        pod = node.wait("evacuated", lambda p: p["status"].get("phase") == "Failed")
        assert pod["status"]["reason"] == "Terminated"
        assert pod["status"]["message"] == "Pod was terminated in response to imminent node shutdown."
        nodes = node.client.resource("v1", "nodes")
        found = node.until(
            lambda: node.run(nodes.get(NODE)),
            lambda n: {c["type"]: c for c in n["status"]["conditions"]}["Ready"]["status"] == "False",
            "the node is not ready",
        )
        ready = next(c for c in found["status"]["conditions"] if c["type"] == "Ready")
        assert ready["message"] == "node is shutting down"
        late = node.finish_pod(node.pod("too-late", FOREVER))
        assert late["status"]["reason"] == "NodeShutdown"
        node.until(lambda: os.path.exists(f"/proc/{lock}/fd/0"), lambda there: not there, "the lock is given back")
    finally:
        node.restart_kubelet()
    for name in ("evacuated", "too-late"):
        node.delete(name, 0)
