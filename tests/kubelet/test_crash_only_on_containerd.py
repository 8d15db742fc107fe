"""Killed at any instant and started again, the kubelet repeats nothing and leaks nothing."""

from __future__ import annotations

import contextlib
import os
import random
import subprocess
from collections.abc import Callable
from typing import Any

import pytest

from peavine.cmd.kubelet import cgroup_root
from peavine.linux import cgroups, mounts, processes
from peavine.machinery.errors import ApiError
from tests.kubelet.node import IMAGE, TestNode
from tests.kubelet.test_pods_on_containerd import FOREVER, sh

pytestmark = [pytest.mark.root, pytest.mark.slow]
KILLS = 50
Object = dict[str, Any]


def churning(node: TestNode, name: str) -> Object:
    """A pod with something of everything that could leak: mounts of several kinds, a network, logs, a hook."""
    names = {"c": "config", "s": "secret", "m": "memory"}
    volumes = [
        {"name": "c", "configMap": {"name": "churned"}},
        {"name": "s", "secret": {"secretName": "churned"}},
        {"name": "m", "emptyDir": {"medium": "Memory"}},
    ]
    mounted = [{"name": volume, "mountPath": f"/{path}"} for volume, path in names.items()]
    mounted.append({"name": "m", "mountPath": "/part", "subPath": "part"})
    container = {
        **FOREVER,
        "volumeMounts": mounted,
        "lifecycle": {"preStop": {"exec": {"command": ["true"]}}},
        "readinessProbe": {"exec": {"command": ["true"]}, "periodSeconds": 1},
    }
    return node.pod(name, container, initContainers=[sh("echo ready")], volumes=volumes)


def test_a_container_whose_start_was_cut_off_can_be_removed(node: TestNode) -> None:
    pod = node.start_pod(node.pod("host-of-half", FOREVER))
    uid = pod["metadata"]["uid"]
    (sandbox,) = node.run(node.cri.list_sandboxes({"io.kubernetes.pod.uid": uid}))
    meta = {"name": "host-of-half", "namespace": "default", "uid": uid, "attempt": 0}
    config = {"metadata": {"name": "half"}, "image": {"image": IMAGE}, "command": ["sleep", "1000"]}
    made = node.run(node.cri.create_container(sandbox["id"], config, {"metadata": meta}))
    # As a kubelet that was killed leaves it: containerd's own service runs it, CRI knows nothing of that.
    address = str(node.directory / "containerd" / "containerd.sock")
    command = ["ctr", "--address", address, "--namespace", "k8s.io", "tasks", "start", "--detach", "--null-io", made]
    subprocess.run(command, check=True, capture_output=True, timeout=30)
    node.run(node.cri.remove_container(made))
    assert made not in [container["id"] for container in node.run(node.cri.list_containers())]
    node.delete("host-of-half", 0)


def netns(node: TestNode) -> list[str]:
    found = node.directory / "containerd" / "state"
    return sorted(str(path) for path in found.glob("**/netns/*"))


def shims(node: TestNode) -> list[int]:
    address = str(node.directory / "containerd" / "containerd.sock")
    return [pid for pid, words in processes.commands() if "shim" in words[0] and address in words]


def groups(node: TestNode) -> list[str]:
    root = f"{cgroup_root(str(node.directory))}/kubepods"
    every = [root + middle for middle in ("", "/burstable", "/besteffort")]
    return [name for group in every for name in cgroups.children(group) if name.startswith("pod")]


def leases_of_addresses(node: TestNode) -> list[str]:
    directory = node.directory / "cni" / "ipam"
    return [path.name for path in directory.glob("*/10.*")]


@pytest.mark.timeout(1200)
def test_fifty_kills_during_churn_leave_nothing_behind(node: TestNode) -> None:
    node.create({"kind": "ConfigMap", "metadata": {"name": "churned"}, "data": {"key": "value"}})
    node.create({"kind": "Secret", "metadata": {"name": "churned"}, "stringData": {"key": "value"}})
    before = {"netns": netns(node), "addresses": leases_of_addresses(node), "shims": shims(node)}
    pods = node.client.resource("v1", "pods")
    choose = random.Random(7)

    def phase(name: str) -> str:
        with contextlib.suppress(ApiError):
            return str(node.get(name)["status"].get("phase"))
        return "gone"

    def has(listing: Callable[..., Any], uid: str) -> bool:
        return bool(node.run(listing({"io.kubernetes.pod.uid": uid})))

    alive: list[str] = []
    old = ""
    for number in range(KILLS):
        name = f"churn-{number}"
        uid = node.create(churning(node, name))["metadata"]["uid"]
        alive.append(name)
        if len(alive) > 3:
            old = alive.pop(choose.randrange(3))
            node.delete(old, wait=False)
        # Something is under way at every one of these instants.
        instants: list[Callable[[], object]] = [
            lambda: True,
            lambda uid=uid: (node.pods_dir / uid).exists(),
            lambda uid=uid: has(node.cri.list_sandboxes, uid),
            lambda uid=uid: has(node.cri.list_containers, uid),
            lambda name=name: phase(name) == "Running",
            lambda old=old: not old or phase(old) in ("gone", "Failed", "Succeeded"),
        ]
        node.until(instants[number % len(instants)], bool, f"instant {number % len(instants)} of {name}", 60)
        node.kill_kubelet()
        node.start_kubelet(wait=False)
    for pod in node.run(pods.list("default"))["items"]:
        with contextlib.suppress(ApiError):
            node.delete(pod["metadata"]["name"], wait=False)
    node.until(lambda: node.run(pods.list("default"))["items"], lambda items: not items, "the API has no pod", 60)
    for what, look in (
        ("sandbox", lambda: node.run(node.cri.list_sandboxes())),
        ("container", lambda: node.run(node.cri.list_containers())),
        ("pod directory", lambda: os.listdir(node.pods_dir)),
        ("log", lambda: os.listdir(node.directory / "kubelet" / "pods-logs")),
        ("mount", lambda: mounts.below(node.directory / "kubelet")),
        ("control group", lambda: groups(node)),
        ("network namespace", lambda: [path for path in netns(node) if path not in before["netns"]]),
        ("address", lambda: [a for a in leases_of_addresses(node) if a not in before["addresses"]]),
        ("shim", lambda: [pid for pid in shims(node) if pid not in before["shims"]]),
    ):
        node.until(look, lambda left: not left, f"no {what} is left", 60)
