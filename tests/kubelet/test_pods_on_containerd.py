"""Pods on a real containerd: lifecycle, containers, restarts, ends."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest

from tests.kubelet.node import IMAGE, NODE, TestNode

pytestmark = pytest.mark.root


def sh(script: str, **more: object) -> dict[str, object]:
    return {"command": ["sh", "-c", script], **more}


FOREVER = sh("trap 'exit 0' TERM; while true; do sleep 0.2; done")


def state(pod: dict, name: str = "c") -> dict:
    every = [*(pod["status"].get("containerStatuses") or []), *(pod["status"].get("initContainerStatuses") or [])]
    nothing = {"state": {}, "lastState": {}, "restartCount": 0, "ready": False}
    return next((s for s in every if s["name"] == name), nothing)


def condition(pod: dict, type_: str) -> dict:
    return next((c for c in pod["status"].get("conditions") or [] if c["type"] == type_), {})


def test_a_pod_starts_reports_its_addresses_and_goes_without_a_trace(node: TestNode) -> None:
    pod = node.start_pod(node.pod("simple", FOREVER))
    status = pod["status"]
    assert status["phase"] == "Running" and status["qosClass"] == "BestEffort"
    assert status["podIP"].startswith(f"10.{node.number}.") and status["hostIP"] == node.address
    for type_ in ("PodReadyToStartContainers", "Initialized", "Ready", "ContainersReady"):
        assert condition(pod, type_)["status"] == "True"
    one = state(pod)
    assert one["started"] and one["ready"] and one["restartCount"] == 0 and "running" in one["state"]
    assert one["image"] == IMAGE
    uid = pod["metadata"]["uid"]
    assert (node.pods_dir / uid).is_dir()
    node.delete("simple")
    assert not (node.pods_dir / uid).exists()
    assert uid not in Path("/proc/self/mountinfo").read_text()
    assert not [n for n in os.listdir(node.directory / "kubelet" / "pods-logs") if uid in n]
    found = node.run(node.cri.list_sandboxes({"io.kubernetes.pod.uid": uid}))
    assert found == []
    reasons = [reason for reason, _ in node.events("simple")]
    assert {"Pulled", "Created", "Started", "Killing"} <= set(reasons)


def test_init_containers_run_in_order_before_the_others(node: TestNode) -> None:
    volume = [{"name": "v", "emptyDir": {}}]
    mount = {"volumeMounts": [{"name": "v", "mountPath": "/v"}]}
    pod = node.start_pod(
        node.pod(
            "inits",
            sh("cat /v/order; sleep 100", **mount),
            initContainers=[sh("echo one >> /v/order", **mount), sh("echo two >> /v/order", **mount)],
            volumes=volume,
        )
    )
    assert node.logs("inits") == "one\ntwo\n"
    for name in ("i0", "i1"):
        assert state(pod, name)["state"]["terminated"]["reason"] == "Completed"
        assert state(pod, name)["ready"] is True
    node.delete("inits", 0)


def test_a_failing_init_container_of_a_pod_that_never_restarts_fails_the_pod(node: TestNode) -> None:
    pod = node.finish_pod(node.pod("bad-init", FOREVER, initContainers=[sh("exit 3")], restartPolicy="Never"))
    assert pod["status"]["phase"] == "Failed"
    assert state(pod, "i0")["state"]["terminated"]["exitCode"] == 3
    assert state(pod)["state"]["waiting"]["reason"] == "PodInitializing"
    assert condition(pod, "Initialized")["reason"] == "ContainersNotInitialized"
    node.delete("bad-init", 0)


def test_a_sidecar_starts_before_and_ends_after_the_main_container(node: TestNode) -> None:
    side = sh(
        "trap 'echo side-term >> /v/o; exit 0' TERM; echo side >> /v/o; while true; do sleep 0.1; done",
        restartPolicy="Always",
        volumeMounts=[{"name": "v", "mountPath": "/v"}],
        startupProbe={"exec": {"command": ["test", "-f", "/v/o"]}, "periodSeconds": 1},
    )
    main = sh("echo main >> /v/o; sleep 0.5; echo done >> /v/o", volumeMounts=[{"name": "v", "mountPath": "/v"}])
    path = node.directory / "sidecar"
    path.mkdir()
    pod = node.finish_pod(
        node.pod(
            "sidecar",
            main,
            initContainers=[side],
            restartPolicy="Never",
            volumes=[{"name": "v", "hostPath": {"path": str(path)}}],
        )
    )
    assert pod["status"]["phase"] == "Succeeded"
    assert (path / "o").read_text().split() == ["side", "main", "done", "side-term"]
    assert condition(pod, "Ready")["reason"] == "PodCompleted"
    node.delete("sidecar", 0)


def test_exit_codes_decide_between_succeeded_and_failed(node: TestNode) -> None:
    node.create(node.pod("good", sh("echo out; exit 0"), restartPolicy="Never"))
    node.create(node.pod("bad", sh("exit 7"), sh("exit 0"), restartPolicy="Never"))
    good = node.wait("good", lambda p: p["status"].get("phase") == "Succeeded")
    bad = node.wait("bad", lambda p: p["status"].get("phase") == "Failed")
    assert state(good)["state"]["terminated"]["reason"] == "Completed"
    assert state(bad)["state"]["terminated"] | {"startedAt": 0, "finishedAt": 0, "containerID": ""} == {
        "exitCode": 7,
        "reason": "Error",
        "startedAt": 0,
        "finishedAt": 0,
        "containerID": "",
    }
    assert node.logs("good") == "out\n"
    node.delete("good", 0)
    node.delete("bad", 0)


def test_a_crashing_container_backs_off(node: TestNode) -> None:
    node.create(node.pod("crash", sh("exit 1")))
    pod = node.wait(
        "crash", lambda p: (state(p)["state"].get("waiting") or {}).get("reason") == "CrashLoopBackOff", seconds=15
    )
    one = state(pod)
    uid = pod["metadata"]["uid"]
    assert one["state"]["waiting"]["message"] == (
        f"back-off 10s restarting failed container=c pod=crash_default({uid})"
    )
    assert one["lastState"]["terminated"]["exitCode"] == 1
    assert one["restartCount"] == 1 and pod["status"]["phase"] == "Running"
    assert node.wait_event("crash", "BackOff") == f"Back-off restarting failed container c in pod crash_default({uid})"
    node.delete("crash", 0)


def test_a_killed_container_comes_back_and_its_last_log_can_be_read(node: TestNode) -> None:
    script = "echo life $$; trap 'exit 0' TERM; while true; do sleep 0.1; done"
    pod = node.start_pod(node.pod("phoenix", sh(script)))
    first = node.container_id(pod)
    info = node.run(node.cri.container_info(first))

    os.kill(json.loads(info["info"])["pid"], 9)
    back = node.wait("phoenix", lambda p: state(p)["restartCount"] == 1 and "running" in state(p)["state"])
    assert node.container_id(back) != first
    assert state(back)["lastState"]["terminated"]["exitCode"] == 137
    assert node.logs("phoenix", previous="true").startswith("life")
    node.delete("phoenix", 0)


def test_environment_comes_from_everywhere_and_expands(node: TestNode) -> None:
    node.create({"kind": "ConfigMap", "metadata": {"name": "settings"}, "data": {"one": "1", "two": "2"}})
    node.create({"kind": "Secret", "metadata": {"name": "hidden"}, "stringData": {"password": "s3cret"}})
    ports = [{"name": "web", "port": 80}]
    service = {"kind": "Service", "metadata": {"name": "my-db"}, "spec": {"ports": ports, "selector": {"a": "b"}}}
    address = node.create(service)["spec"]["clusterIP"]
    container = {
        "command": ["sh", "-c", "env; echo arg $0", "$(GREETING)"],
        "envFrom": [{"prefix": "CM_", "configMapRef": {"name": "settings"}}, {"secretRef": {"name": "hidden"}}],
        "env": [
            {"name": "GREETING", "value": "hello $(CM_one) $$(CM_one) $(NOWHERE) $(password)"},
            {"name": "NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
            {"name": "LABEL", "valueFrom": {"fieldRef": {"fieldPath": "metadata.labels['role']"}}},
            {"name": "NODE", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}},
            {"name": "IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
            {"name": "CPU", "valueFrom": {"resourceFieldRef": {"resource": "requests.cpu", "divisor": "1m"}}},
            {"name": "MISSING", "valueFrom": {"configMapKeyRef": {"name": "nope", "key": "x", "optional": True}}},
        ],
        "resources": {"requests": {"cpu": "30m"}},
    }
    node.until(lambda: True, bool, "")
    time.sleep(0.3)
    pod = node.finish_pod(node.pod("env", container, restartPolicy="Never", metadata={"labels": {"role": "tester"}}))
    lines = set(node.logs("env").splitlines())
    assert {
        "CM_one=1",
        "CM_two=2",
        "password=s3cret",
        "GREETING=hello 1 $(CM_one) $(NOWHERE) s3cret",
        "arg hello 1 $(CM_one) $(NOWHERE) s3cret",
        "NAME=env",
        "LABEL=tester",
        f"NODE={NODE}",
        f"IP={pod['status']['podIP']}",
        "CPU=30",
        f"MY_DB_SERVICE_HOST={address}",
        f"MY_DB_PORT_80_TCP=tcp://{address}:80",
        "KUBERNETES_SERVICE_PORT_HTTPS=443",
    } <= lines
    assert not any(line.startswith("MISSING=") for line in lines)
    node.delete("env", 0)


def test_a_missing_config_map_holds_the_container_back_until_it_is_there(node: TestNode) -> None:
    source = [{"configMapRef": {"name": "later"}}]
    node.create(node.pod("patient", sh("echo $key; sleep 100", envFrom=source)))
    pod = node.wait("patient", lambda p: "waiting" in state(p)["state"] and state(p)["state"]["waiting"].get("message"))
    waiting = state(pod)["state"]["waiting"]
    assert waiting == {"reason": "CreateContainerConfigError", "message": 'configmap "later" not found'}
    node.create({"kind": "ConfigMap", "metadata": {"name": "later"}, "data": {"key": "value"}})
    node.wait("patient", lambda p: "running" in state(p)["state"], seconds=5)
    assert node.logs("patient") == "value\n"
    node.delete("patient", 0)


def test_resources_become_limits_of_control_groups(node: TestNode) -> None:
    from peavine.linux import cgroups

    resources = {"requests": {"cpu": "100m", "memory": "32Mi"}, "limits": {"cpu": "500m", "memory": "64Mi"}}
    pod = node.start_pod(node.pod("limited", {**FOREVER, "resources": resources}))
    assert pod["status"]["qosClass"] == "Burstable"
    assert state(pod)["resources"] == resources

    pid = json.loads(node.run(node.cri.container_info(node.container_id(pod)))["info"])["pid"]
    group = cgroups.of_process(pid)
    assert f"/kubepods/burstable/pod{pod['metadata']['uid']}/" in group
    assert cgroups.usage(group).memory_limit_bytes == 64 << 20
    assert cgroups.usage(os.path.dirname(group)).memory_limit_bytes == 64 << 20
    if not cgroups.is_unified():
        cpu = cgroups.controllers()["cpu"] / group.strip("/")
        assert (cpu / "cpu.shares").read_text().strip() == "102"
        assert (cpu / "cpu.cfs_quota_us").read_text().strip() == "50000"
    assert 2 < int(Path(f"/proc/{pid}/oom_score_adj").read_text()) < 1000
    node.delete("limited", 0)
    node.until(lambda: cgroups.exists(os.path.dirname(group)), lambda there: not there, "the pod's group is removed")


def test_the_last_words_of_a_container_are_its_termination_message(node: TestNode) -> None:
    pod = node.finish_pod(
        node.pod(
            "words",
            sh("echo goodbye > /dev/termination-log; exit 2"),
            sh("echo from the log; exit 3", terminationMessagePolicy="FallbackToLogsOnError"),
            restartPolicy="Never",
        )
    )
    assert state(pod)["state"]["terminated"]["message"] == "goodbye\n"
    assert state(pod, "c1")["state"]["terminated"]["message"] == "from the log\n"
    node.delete("words", 0)


def test_a_pod_has_its_grace_period_and_a_second_delete_shortens_it(node: TestNode) -> None:
    stubborn = sh("trap '' TERM; while true; do sleep 0.1; done")
    node.start_pod(node.pod("stubborn", stubborn, terminationGracePeriodSeconds=600))
    node.delete("stubborn", wait=False)
    deleting = node.wait("stubborn", lambda p: p["metadata"].get("deletionTimestamp"))
    assert deleting["metadata"]["deletionGracePeriodSeconds"] == 600
    time.sleep(0.5)
    assert "running" in state(node.get("stubborn"))["state"]
    begun = time.monotonic()
    node.delete("stubborn", 1)
    assert time.monotonic() - begun < 8


def test_an_active_deadline_ends_the_pod(node: TestNode) -> None:
    pod = node.finish_pod(node.pod("deadline", FOREVER, activeDeadlineSeconds=1))
    assert pod["status"]["phase"] == "Failed" and pod["status"]["reason"] == "DeadlineExceeded"
    assert pod["status"]["message"] == "Pod was active on the node longer than the specified deadline"
    node.delete("deadline", 0)


def test_hooks_run_after_the_start_and_before_the_end(node: TestNode) -> None:
    path = node.directory / "hooks"
    path.mkdir()
    lifecycle = {
        "postStart": {"exec": {"command": ["sh", "-c", "echo post >> /v/o"]}},
        "preStop": {"exec": {"command": ["sh", "-c", "echo pre >> /v/o; sleep 0.3"]}},
    }
    script = "trap 'echo term >> /v/o; exit 0' TERM; while true; do sleep 0.1; done"
    container = sh(script, lifecycle=lifecycle, volumeMounts=[{"name": "v", "mountPath": "/v"}])
    volumes = [{"name": "v", "hostPath": {"path": str(path)}}]
    node.start_pod(node.pod("hooks", container, volumes=volumes, terminationGracePeriodSeconds=5))
    node.delete("hooks")
    assert (path / "o").read_text().split() == ["post", "pre", "term"]


def test_a_failing_post_start_hook_kills_the_container(node: TestNode) -> None:
    lifecycle = {"postStart": {"exec": {"command": ["sh", "-c", "exit 1"]}}}
    node.create(node.pod("bad-hook", {**FOREVER, "lifecycle": lifecycle}))
    node.wait_event("bad-hook", "FailedPostStartHook")
    node.wait("bad-hook", lambda p: state(p)["lastState"].get("terminated") or state(p)["state"].get("terminated"))
    node.delete("bad-hook", 0)


def test_images_that_are_not_there_are_waited_for_with_upstreams_reasons(node: TestNode) -> None:
    node.create(node.pod("never", {"image": "peavine.local/absent:1", "imagePullPolicy": "Never"}))
    node.create(node.pod("absent", {"image": "127.0.0.1:1/absent:1"}))
    node.create(node.pod("invalid", {"image": "NOT/valid::x"}))
    pod = node.wait("never", lambda p: (state(p)["state"].get("waiting") or {}).get("reason") == "ErrImageNeverPull")
    assert "is not present with pull policy of Never" in state(pod)["state"]["waiting"]["message"]
    node.wait(
        "absent",
        lambda p: (state(p)["state"].get("waiting") or {}).get("reason") in ("ErrImagePull", "ImagePullBackOff"),
    )
    node.wait("invalid", lambda p: (state(p)["state"].get("waiting") or {}).get("reason") == "InvalidImageName")
    node.wait_event("absent", "Failed", "Failed to pull image")
    for name in ("never", "absent", "invalid"):
        node.delete(name, 0)


def test_ephemeral_containers_join_a_running_pod(node: TestNode) -> None:
    node.start_pod(node.pod("debugged", FOREVER))
    ephemeral = {"name": "debug", "image": IMAGE, "command": ["sh", "-c", "ps; sleep 100"], "targetContainerName": "c"}
    pods = node.client.resource("v1", "pods")
    pod = node.get("debugged")
    pod["spec"]["ephemeralContainers"] = [ephemeral]
    node.run(pods.update(pod, "ephemeralcontainers"))
    pod = node.wait(
        "debugged",
        lambda p: [s for s in p["status"].get("ephemeralContainerStatuses") or [] if "running" in s["state"]],
    )
    assert "while true" in node.until(lambda: node.logs("debugged", "debug"), bool, "the output of ps")
    node.delete("debugged", 0)


def test_a_killed_kubelet_finds_everything_again(node: TestNode) -> None:
    pod = node.start_pod(node.pod("survivor", FOREVER))
    node.start_pod(node.pod("deleted-meanwhile", FOREVER))
    node.kill_kubelet()
    node.delete("deleted-meanwhile", wait=False)
    node.start_kubelet()
    node.gone("deleted-meanwhile")
    again = node.get("survivor")
    assert node.container_id(again) == node.container_id(pod) and state(again)["restartCount"] == 0
    assert condition(again, "Ready") == condition(pod, "Ready")
    node.delete("survivor", 0)


def test_a_pod_that_vanished_from_the_api_is_taken_down(node: TestNode) -> None:
    pod = node.start_pod(node.pod("forced", FOREVER))
    node.delete("forced", 0)
    uid = {"io.kubernetes.pod.uid": pod["metadata"]["uid"]}
    node.until(lambda: node.run(node.cri.list_sandboxes(uid)), lambda found: not found, "its sandbox is removed")
    node.until(lambda: (node.pods_dir / pod["metadata"]["uid"]).exists(), lambda e: not e, "its directory is removed")


def test_a_lost_sandbox_is_made_anew(node: TestNode) -> None:
    pod = node.start_pod(node.pod("resurrected", FOREVER))
    uid = {"io.kubernetes.pod.uid": pod["metadata"]["uid"]}
    (sandbox,) = node.run(node.cri.list_sandboxes(uid))
    node.run(node.cri.stop_sandbox(sandbox["id"]))
    back = node.wait("resurrected", lambda p: state(p)["restartCount"] == 1 and state(p)["ready"], seconds=40)
    assert back["status"]["podIP"] != pod["status"]["podIP"]
    node.delete("resurrected", 0)


def test_containers_survive_a_killed_containerd(node: TestNode) -> None:
    from peavine.kubelet import containerd
    from peavine.linux import processes

    pod = node.start_pod(node.pod("outlives", FOREVER))
    config = str(containerd.Layout(node.directory).config)
    (pid,) = [p for p, words in processes.commands() if config in words and "containerd" in words[0]]
    os.kill(pid, 9)
    node.until(lambda: processes.is_running(pid), lambda alive: not alive, "containerd is dead")
    assert node.run(containerd.start(node.directory)) is not None
    again = node.start_pod(node.pod("comes-after", FOREVER), seconds=30)
    now = node.get("outlives")
    assert node.container_id(now) == node.container_id(pod) and state(now)["restartCount"] == 0
    assert node.exec(now, "echo", "alive") == "alive\n" and node.exec(again, "echo", "too") == "too\n"
    info = json.loads(node.run(node.cri.container_info(node.container_id(now)))["info"])
    os.kill(info["pid"], 9)
    node.wait("outlives", lambda p: state(p)["restartCount"] == 1 and state(p)["ready"])
    node.delete("outlives", 0)
    node.delete("comes-after", 0)
