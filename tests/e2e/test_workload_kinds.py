"""Every kind of workload with real containers: made, changed, seen to do what its kind promises, removed."""

import json

import pytest

from tests.e2e.conftest import IMAGE, until

pytestmark = [pytest.mark.root, pytest.mark.slow]

SLEEP = ["sh", "-c", "trap 'exit 0' TERM; while true; do sleep 1; done"]


def workload(kind, name, command=SLEEP, api_version="apps/v1", restart="Always", env=(), **spec):
    labels = {"app": name}
    container = {"name": "main", "image": IMAGE, "command": command, "env": list(env)}
    pod = {"containers": [container], "restartPolicy": restart, "terminationGracePeriodSeconds": 2}
    template = {"metadata": {"labels": labels}, "spec": pod}
    if kind == "ReplicationController":
        spec["selector"] = labels
    elif kind != "Job":
        spec["selector"] = {"matchLabels": labels}
    meta = {"name": name, "labels": labels}
    return {"apiVersion": api_version, "kind": kind, "metadata": meta, "spec": {**spec, "template": template}}


def apply(kubectl, namespace, *objects):
    kubectl(
        "apply", "-n", namespace, "-f", "-", stdin=json.dumps({"apiVersion": "v1", "kind": "List", "items": objects})
    )


def status(kubectl, namespace, what):
    return kubectl.json("get", "-n", namespace, what).get("status") or {}


def logs(kubectl, namespace, *args):
    return kubectl("logs", "-n", namespace, *args)


def condition(kubectl, namespace, what, type_):
    found = status(kubectl, namespace, what).get("conditions") or ()
    return any(c["type"] == type_ and c["status"] == "True" for c in found)


@pytest.fixture(scope="module")
def busy(kubectl):
    """A namespace whose one pod uses all the CPU that it may, and an autoscaler; measuring it takes half a minute."""
    name = "e2e-busy"
    kubectl("create", "namespace", name)
    deployment = workload("Deployment", "busy", ["sh", "-c", "while true; do :; done"], replicas=1)
    resources = {"requests": {"cpu": "50m"}, "limits": {"cpu": "100m"}}
    deployment["spec"]["template"]["spec"]["containers"][0]["resources"] = resources
    apply(kubectl, name, deployment)
    kubectl("autoscale", "-n", name, "deployment/busy", "--cpu-percent=50", "--max=2")
    yield name
    kubectl("delete", "namespace", name, "--wait=false")


@pytest.mark.usefixtures("busy")
def test_long_running_kinds_keep_their_pods(kubectl, namespace):
    claim = {"metadata": {"name": "data"}, "spec": {"accessModes": ["ReadWriteOnce"]}}
    claim["spec"]["resources"] = {"requests": {"storage": "1Mi"}}
    stateful = workload("StatefulSet", "stateful", replicas=2, serviceName="stateful", volumeClaimTemplates=[claim])
    container = stateful["spec"]["template"]["spec"]["containers"][0]
    container["command"] = ["sh", "-c", "hostname >> /data/starts; cat /data/starts; exec sleep 10000"]
    container["volumeMounts"] = [{"name": "data", "mountPath": "/data"}]
    apply(
        kubectl,
        namespace,
        workload("ReplicationController", "controller", api_version="v1", replicas=1),
        workload("ReplicaSet", "set", replicas=2),
        workload("Deployment", "deployed", replicas=2),
        workload("DaemonSet", "daemon"),
        stateful,
    )
    until(lambda: status(kubectl, namespace, "rc/controller").get("availableReplicas") == 1, 60)
    until(lambda: status(kubectl, namespace, "rs/set").get("availableReplicas") == 2, 60)
    kubectl("rollout", "status", "-n", namespace, "deployment/deployed", "--timeout=60s")
    kubectl("rollout", "status", "-n", namespace, "daemonset/daemon", "--timeout=60s")
    kubectl("rollout", "status", "-n", namespace, "statefulset/stateful", "--timeout=60s")
    assert logs(kubectl, namespace, "stateful-1") == "stateful-1\n"

    # A pod that dies is replaced; a StatefulSet's comes back to its volume, under its name.
    victims = kubectl("get", "pods", "-n", namespace, "-l", "app in (controller, set)", "-o", "name").split()
    kubectl("delete", "-n", namespace, "--wait=false", "--grace-period=0", "--force", *victims[:2], "pod/stateful-1")
    until(lambda: status(kubectl, namespace, "rs/set").get("availableReplicas") == 2, 60)
    until(lambda: _log(kubectl, namespace, "stateful-1") == "stateful-1\n" * 2, 60)

    # A change goes through all pods, and back.
    for kind in ("deployment/deployed", "daemonset/daemon", "statefulset/stateful"):
        kubectl("set", "env", "-n", namespace, kind, "VERSION=2")
    for kind in ("deployment/deployed", "daemonset/daemon", "statefulset/stateful"):
        kubectl("rollout", "status", "-n", namespace, kind, "--timeout=60s")
    assert logs(kubectl, namespace, "stateful-1") == "stateful-1\n" * 3
    kubectl("rollout", "undo", "-n", namespace, "deployment/deployed")
    kubectl("rollout", "status", "-n", namespace, "deployment/deployed", "--timeout=60s")
    owned = kubectl.json("get", "rs", "-n", namespace, "-l", "app=deployed")["items"]
    revisions = {
        s["metadata"]["annotations"]["deployment.kubernetes.io/revision"]: s["spec"]["replicas"] for s in owned
    }
    assert revisions == {"2": 0, "3": 2}
    kubectl("scale", "-n", namespace, "rc/controller", "rs/set", "--replicas=0")
    until(lambda: not status(kubectl, namespace, "rs/set").get("replicas"), 60)


def _log(kubectl, namespace, pod):
    return kubectl.run("logs", "-n", namespace, pod).stdout


def test_jobs_end_and_cron_jobs_begin_them(kubectl, namespace):
    indexed = workload("Job", "indexed", ["sh", "-c", "echo item $JOB_COMPLETION_INDEX"], "batch/v1", "Never")
    indexed["spec"] |= {"completions": 2, "parallelism": 2, "completionMode": "Indexed"}
    failing = workload("Job", "failing", ["sh", "-c", "exit 3"], "batch/v1", "Never", backoffLimit=0)
    retried = workload(
        "Job", "retried", ["sh", "-c", "test -e /work/again || { touch /work/again; exit 1; }"], "batch/v1", "OnFailure"
    )
    pod = retried["spec"]["template"]["spec"]
    pod["volumes"] = [{"name": "work", "emptyDir": {}}]
    pod["containers"][0]["volumeMounts"] = [{"name": "work", "mountPath": "/work"}]
    policy = [{"action": "FailJob", "onExitCodes": {"operator": "In", "values": [42]}}]
    fatal = workload("Job", "fatal", ["sh", "-c", "exit 42"], "batch/v1", "Never", podFailurePolicy={"rules": policy})
    job = workload("Job", "", ["sh", "-c", "echo tick"], "batch/v1", "Never")["spec"]
    del job["template"]["metadata"]
    cron = {"apiVersion": "batch/v1", "kind": "CronJob", "metadata": {"name": "cron"}}
    cron["spec"] = {"schedule": "@every 1s", "jobTemplate": {"spec": job}, "successfulJobsHistoryLimit": 1}
    apply(kubectl, namespace, indexed, failing, retried, fatal, cron)
    until(lambda: condition(kubectl, namespace, "job/indexed", "Complete"), 60)
    assert status(kubectl, namespace, "job/indexed")["completedIndexes"] == "0,1"
    told = logs(kubectl, namespace, "-l", "job-name=indexed", "--tail=-1")
    assert sorted(told.split("\n")) == ["", "item 0", "item 1"]
    until(lambda: condition(kubectl, namespace, "job/retried", "Complete"), 60)
    until(lambda: condition(kubectl, namespace, "job/failing", "Failed"), 60)
    until(lambda: condition(kubectl, namespace, "job/fatal", "Failed"), 60)
    reasons = {c["reason"] for c in status(kubectl, namespace, "job/fatal")["conditions"]}
    assert reasons == {"PodFailurePolicy"}
    until(lambda: status(kubectl, namespace, "cronjob/cron").get("lastSuccessfulTime"), 60)
    kubectl("delete", "-n", namespace, "cronjob/cron")
    until(lambda: not kubectl.json("get", "jobs", "-n", namespace, "-l", "!app")["items"], 60)


def test_an_autoscaler_follows_what_kubelets_measure(kubectl, busy):
    until(lambda: kubectl.json("get", "-n", busy, "deployment/busy")["spec"]["replicas"] == 2, 120)
    found = kubectl.json("get", "-n", busy, "hpa/busy")["status"]["currentMetrics"]
    assert found[0]["resource"]["current"]["averageUtilization"] > 50
