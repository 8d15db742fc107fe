"""Every component may be killed at any instant; a machine may be stopped and started."""

import json
import os
import signal
import time

import pytest

from tests.e2e.conftest import PORT, peavine, until, web

pytestmark = [pytest.mark.root, pytest.mark.slow]
ROUNDS = 10


def state(cluster):
    return json.loads(peavine("status", f"--data-dir={cluster}", "-o", "json", check=False).stdout)["processes"]


def container_ids(kubectl, namespace):
    pods = kubectl.json("-n", namespace, "get", "pods")["items"]
    return sorted(
        (p["metadata"]["name"], s["containerID"], s["restartCount"], s["ready"])
        for p in pods
        for s in p["status"].get("containerStatuses", ())
    )


def test_killed_components_come_back_and_containers_never_stop(cluster, kubectl, namespace):
    kubectl("-n", namespace, "apply", "-f", "-", stdin=web(replicas=3))
    kubectl("-n", namespace, "rollout", "status", "deployment/web", "--timeout=60s")
    before = container_ids(kubectl, namespace)
    for _ in range(ROUNDS):
        old = {p["name"]: p for p in state(cluster) if p["name"] != "supervisor"}
        for process in old.values():
            os.kill(process["pid"], signal.SIGKILL)
            # In turn: each dies while the one before it is on its way back.
            time.sleep(0.3)

        def back(old=old):
            now = {p["name"]: p for p in state(cluster)}
            return all(now[n]["alive"] and now[n]["pid"] != p["pid"] for n, p in old.items())

        until(back, 60, "a killed component did not come back")
        until(lambda: kubectl.run("get", "--raw", "/readyz").stdout == "ok", 30)
    until(lambda: container_ids(kubectl, namespace) == before, 60, "containers changed")
    # And it works: a change still goes all the way.
    kubectl("-n", namespace, "scale", "deployment/web", "--replicas=4")
    kubectl("-n", namespace, "rollout", "status", "deployment/web", "--timeout=90s")


def test_down_and_up_find_all_objects_and_workloads_again(cluster, kubectl, namespace):
    kubectl("-n", namespace, "apply", "-f", "-", stdin=web(replicas=2))
    kubectl("-n", namespace, "rollout", "status", "deployment/web", "--timeout=60s")
    uid = kubectl.json("-n", namespace, "get", "deployment", "web")["metadata"]["uid"]
    peavine("down", f"--data-dir={cluster}")
    assert kubectl.run("get", "nodes").returncode == 1
    peavine("up", f"--data-dir={cluster}", f"--secure-port={PORT}")
    assert kubectl.json("-n", namespace, "get", "deployment", "web")["metadata"]["uid"] == uid

    def serving():
        pods = kubectl.json("-n", namespace, "get", "pods")["items"]
        ready = [
            p for p in pods for s in p["status"].get("containerStatuses", ()) if s["ready"] and "running" in s["state"]
        ]
        return len(ready) == 2

    until(serving, 60, "pods did not come back")
