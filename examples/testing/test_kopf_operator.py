"""An operator written with kopf, tested against a real API server: a Greeting becomes a ConfigMap."""

import threading
import time

import kopf
import kubernetes
import pytest

CRD = {
    "apiVersion": "apiextensions.k8s.io/v1",
    "kind": "CustomResourceDefinition",
    "metadata": {"name": "greetings.example.com"},
    "spec": {
        "group": "example.com",
        "scope": "Namespaced",
        "names": {"plural": "greetings", "singular": "greeting", "kind": "Greeting"},
        "versions": [
            {
                "name": "v1",
                "served": True,
                "storage": True,
                "subresources": {"status": {}},
                "schema": {
                    "openAPIV3Schema": {
                        "type": "object",
                        "properties": {
                            "spec": {"type": "object", "properties": {"who": {"type": "string"}}},
                            "status": {"type": "object", "x-kubernetes-preserve-unknown-fields": True},
                        },
                    }
                },
            }
        ],
    },
}


@kopf.on.login()
def login(**kwargs):
    return kopf.login_with_kubeconfig(**kwargs)


@kopf.on.create("example.com", "v1", "greetings")
def greet(spec, name, namespace, **_):
    body = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": name},
        "data": {"text": f"Hello {spec['who']}"},
    }
    kopf.adopt(body)
    kubernetes.client.CoreV1Api().create_namespaced_config_map(namespace, body)
    return {"greeted": spec["who"]}


@pytest.fixture
def operator(kubeconfig, namespace, monkeypatch):
    """The operator, running in a thread for the time of the test."""
    monkeypatch.setenv("KUBECONFIG", str(kubeconfig))
    kubernetes.config.load_kube_config(str(kubeconfig))
    extensions = kubernetes.client.ApiextensionsV1Api()
    extensions.create_custom_resource_definition(CRD)
    stop, ready = threading.Event(), threading.Event()
    options = {"namespaces": [namespace], "stop_flag": stop, "ready_flag": ready}
    thread = threading.Thread(target=kopf.run, kwargs=options)
    thread.start()
    assert ready.wait(30)
    yield
    stop.set()
    thread.join(30)
    extensions.delete_custom_resource_definition("greetings.example.com")


def test_a_greeting_becomes_a_config_map(operator, namespace):
    greeting = {
        "apiVersion": "example.com/v1",
        "kind": "Greeting",
        "metadata": {"name": "hi"},
        "spec": {"who": "world"},
    }
    custom = kubernetes.client.CustomObjectsApi()
    custom.create_namespaced_custom_object("example.com", "v1", namespace, "greetings", greeting)
    for _ in range(100):
        seen = custom.get_namespaced_custom_object("example.com", "v1", namespace, "greetings", "hi")
        if seen.get("status"):
            break
        time.sleep(0.1)
    assert seen["status"]["greet"] == {"greeted": "world"}
    made = kubernetes.client.CoreV1Api().read_namespaced_config_map("hi", namespace)
    assert made.data == {"text": "Hello world"}
    assert made.metadata.owner_references[0].kind == "Greeting"
