"""200 objects applied as a chart would: all at once, twice, then one changed."""

import kubernetes
import pytest
from kubernetes import dynamic


def manifest(namespace, index):
    kind = ("ConfigMap", "Secret", "Service", "ServiceAccount")[index % 4]
    body = {"apiVersion": "v1", "kind": kind, "metadata": {"name": f"object-{index}", "namespace": namespace}}
    if kind == "ConfigMap":
        body["data"] = {"index": str(index)}
    if kind == "Secret":
        body["stringData"] = {"word": "sesame"}
    if kind == "Service":
        body["spec"] = {"ports": [{"port": 80}], "selector": {"app": "x"}}
    return body


@pytest.fixture
def client(kubeconfig):
    return dynamic.DynamicClient(kubernetes.config.new_client_from_config(str(kubeconfig)))


def apply(client, body):
    resource = client.resources.get(api_version=body["apiVersion"], kind=body["kind"])
    return client.server_side_apply(resource, body=body, field_manager="chart", force_conflicts=True)


def test_a_second_apply_changes_nothing_and_a_change_changes_one(client, namespace, peavine_cluster):
    bodies = [manifest(namespace, i) for i in range(200)]
    first = {b.metadata.name: b.metadata.resourceVersion for b in (apply(client, body) for body in bodies)}
    second = {b.metadata.name: b.metadata.resourceVersion for b in (apply(client, body) for body in bodies)}
    assert first == second
    bodies[0]["data"] = {"index": "changed"}
    assert apply(client, bodies[0]).metadata.resourceVersion != first["object-0"]
    services = peavine_cluster.get(f"/api/v1/namespaces/{namespace}/services")["items"]
    assert len({s["spec"]["clusterIP"] for s in services}) == 50
