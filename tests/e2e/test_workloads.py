"""What a cluster promises while things change and break."""

import asyncio
import json
import socket
import struct
import time

import pytest

from tests.e2e.conftest import IMAGE, until, web

pytestmark = [pytest.mark.root, pytest.mark.slow]


def service_ip(kubectl, namespace, name="web"):
    return kubectl("-n", namespace, "get", "svc", name, "-o", "jsonpath={.spec.clusterIP}")


async def fetch(address, port=80):
    """The body of one GET on a connection of its own. Raises OSError, TimeoutError."""
    async with asyncio.timeout(5):
        reader, writer = await asyncio.open_connection(address, port)
        try:
            writer.write(b"GET / HTTP/1.0\r\n\r\n")
            answer = await reader.read()
        finally:
            writer.close()
    head, _, body = answer.partition(b"\r\n\r\n")
    if b" 200 " not in head.split(b"\r\n")[0]:
        raise OSError(f"answer was {answer[:80]!r}")
    return body.strip().decode()


class Load:
    """Constant requests from four clients until `stop`; counts answers and keeps the errors."""

    def __init__(self, address):
        self.address, self.answers, self.errors, self.stop = address, {}, [], asyncio.Event()

    async def _client(self):
        while not self.stop.is_set():
            try:
                body = await fetch(self.address)
                self.answers[body] = self.answers.get(body, 0) + 1
            except (OSError, TimeoutError) as error:
                self.errors.append(repr(error))
            await asyncio.sleep(0.005)

    async def during(self, work):
        clients = [asyncio.ensure_future(self._client()) for _ in range(4)]
        try:
            await asyncio.sleep(0.3)
            await asyncio.to_thread(work)
            await asyncio.sleep(0.3)
        finally:
            self.stop.set()
            await asyncio.gather(*clients)


def test_a_rolling_update_under_load_loses_no_request(kubectl, namespace):
    kubectl("-n", namespace, "apply", "-f", "-", stdin=web(replicas=3))
    kubectl("-n", namespace, "rollout", "status", "deployment/web", "--timeout=60s")
    address = service_ip(kubectl, namespace)
    until(lambda: asyncio.run(_answers(address)), 10)

    def update():
        kubectl("-n", namespace, "apply", "-f", "-", stdin=web(replicas=3, version="two"))
        kubectl("-n", namespace, "rollout", "status", "deployment/web", "--timeout=90s")
        time.sleep(3)

    load = Load(address)
    asyncio.run(load.during(update))
    assert load.errors == []
    assert load.answers.get("one") and load.answers.get("two")


async def _answers(address):
    try:
        return await fetch(address)
    except (OSError, TimeoutError):
        return None


def test_a_service_answers_by_name_inside_a_pod_and_to_the_host(kubectl, namespace):
    kubectl("-n", namespace, "apply", "-f", "-", stdin=web())
    kubectl("-n", namespace, "rollout", "status", "deployment/web", "--timeout=60s")
    pod = kubectl("-n", namespace, "get", "pods", "-o", "name").split()[0]
    for name in ("web", f"web.{namespace}", f"web.{namespace}.svc.cluster.local"):
        assert kubectl("-n", namespace, "exec", pod, "--", "wget", "-qO-", f"http://{name}/") == "one\n"
    address = service_ip(kubectl, namespace)
    assert until(lambda: asyncio.run(_answers(address)), 10) == "one"


def test_a_node_port_answers_on_the_node_address(kubectl, namespace):
    items = json.loads(web())
    items["items"][1]["spec"]["type"] = "NodePort"
    kubectl("-n", namespace, "apply", "-f", "-", stdin=json.dumps(items))
    kubectl("-n", namespace, "rollout", "status", "deployment/web", "--timeout=60s")
    port = int(kubectl("-n", namespace, "get", "svc", "web", "-o", "jsonpath={.spec.ports[0].nodePort}"))
    node = kubectl("get", "nodes", "-o", "jsonpath={.items[0].status.addresses[0].address}")
    assert 30000 <= port <= 32767
    assert until(lambda: asyncio.run(_answers_at(node, port)), 10) == "one"


async def _answers_at(address, port):
    try:
        return await fetch(address, port)
    except (OSError, TimeoutError):
        return None


def test_a_container_that_dies_is_started_again(kubectl, namespace):
    command = ["sh", "-c", "sleep 1000 & echo $! > /tmp/pid; wait"]
    kubectl("-n", namespace, "run", "mortal", f"--image={IMAGE}", "--command", "--", *command)
    kubectl("-n", namespace, "wait", "--for=condition=Ready", "pod/mortal", "--timeout=60s")
    kubectl("-n", namespace, "exec", "mortal", "--", "sh", "-c", "kill -9 $(cat /tmp/pid)")

    def restarted():
        status = kubectl.json("-n", namespace, "get", "pod", "mortal")["status"]["containerStatuses"][0]
        return status["restartCount"] == 1 and status["ready"] and status["lastState"].get("terminated")

    until(restarted)


def test_a_deleted_pod_is_replaced(kubectl, namespace):
    kubectl("-n", namespace, "apply", "-f", "-", stdin=web(replicas=2))
    kubectl("-n", namespace, "rollout", "status", "deployment/web", "--timeout=60s")
    before = set(kubectl("-n", namespace, "get", "pods", "-o", "name").split())
    kubectl("-n", namespace, "delete", before.copy().pop(), "--wait=true")
    kubectl("-n", namespace, "rollout", "status", "deployment/web", "--timeout=60s")
    after = set(kubectl("-n", namespace, "get", "pods", "-o", "name").split())
    assert len(after) == 2 and len(after & before) == 1


def test_a_deleted_namespace_empties_and_goes(kubectl):
    kubectl("create", "namespace", "doomed")
    kubectl("-n", "doomed", "apply", "-f", "-", stdin=web())
    kubectl("-n", "doomed", "rollout", "status", "deployment/web", "--timeout=60s")
    kubectl("delete", "namespace", "doomed", "--timeout=60s")
    assert kubectl.run("get", "namespace", "doomed").returncode == 1
    assert kubectl.json("get", "pods", "-A", "--field-selector=metadata.namespace=doomed")["items"] == []


def test_volumes_environment_and_downward_api_reach_the_container(kubectl, namespace):
    kubectl("-n", namespace, "create", "configmap", "settings", "--from-literal=color=green")
    kubectl("-n", namespace, "create", "secret", "generic", "password", "--from-literal=word=sesame")
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "reader", "labels": {"who": "me"}},
        "spec": {
            "restartPolicy": "Never",
            "volumes": [
                {"name": "config", "configMap": {"name": "settings"}},
                {"name": "secret", "secret": {"secretName": "password", "defaultMode": 0o400}},
                {
                    "name": "info",
                    "downwardAPI": {"items": [{"path": "l", "fieldRef": {"fieldPath": "metadata.labels"}}]},
                },
                {"name": "scratch", "emptyDir": {}},
            ],
            "initContainers": [
                {
                    "name": "first",
                    "image": IMAGE,
                    "command": ["sh", "-c", "echo from-init > /scratch/file"],
                    "volumeMounts": [{"name": "scratch", "mountPath": "/scratch"}],
                }
            ],
            "containers": [
                {
                    "name": "main",
                    "image": IMAGE,
                    "command": ["sh", "-c", "cat /c/color /s/word /i/l /scratch/file; echo $(NAME) $COLOR $MY_IP"],
                    "env": [
                        {"name": "NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
                        {"name": "COLOR", "valueFrom": {"configMapKeyRef": {"name": "settings", "key": "color"}}},
                        {"name": "MY_IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
                    ],
                    "volumeMounts": [
                        {"name": "config", "mountPath": "/c"},
                        {"name": "secret", "mountPath": "/s"},
                        {"name": "info", "mountPath": "/i"},
                        {"name": "scratch", "mountPath": "/scratch"},
                    ],
                }
            ],
        },
    }
    kubectl("-n", namespace, "apply", "-f", "-", stdin=json.dumps(pod))
    kubectl("-n", namespace, "wait", "--for=jsonpath={.status.phase}=Succeeded", "pod/reader", "--timeout=60s")
    logs = kubectl("-n", namespace, "logs", "reader")
    ip = kubectl("-n", namespace, "get", "pod", "reader", "-o", "jsonpath={.status.podIP}")
    assert logs == f'greensesamewho="me"from-init\nreader green {ip}\n'


def test_the_cluster_dns_answers_the_host(kubectl):
    question = struct.pack(">HHHHHH", 7, 0x100, 1, 0, 0, 0)
    question += b"".join(bytes([len(p)]) + p for p in b"kubernetes.default.svc.cluster.local".split(b".")) + b"\0"
    question += struct.pack(">HH", 1, 1)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.settimeout(5)
        client.sendto(question, ("192.168.0.2", 53))
        answer = client.recv(512)
    assert socket.inet_aton("192.168.0.1") in answer


def test_kubectl_top_shows_what_nodes_and_pods_use(kubectl, namespace):
    kubectl("-n", namespace, "apply", "-f", "-", stdin=web(replicas=1))
    kubectl("-n", namespace, "rollout", "status", "deployment/web", "--timeout=60s")
    until(lambda: "web-" in kubectl.run("-n", namespace, "top", "pods").stdout, 40)
    assert "%" in kubectl("top", "nodes")
