"""An hour in a moment, a node that dies, and the same test against several versions of Kubernetes."""

import kubernetes
import pytest

JOB = {
    "metadata": {"name": "report"},
    "spec": {
        "activeDeadlineSeconds": 1800,
        "template": {
            "metadata": {"annotations": {"simulated.peavine.io/run-for": "100000"}},
            "spec": {"restartPolicy": "Never", "containers": [{"name": "main", "image": "report"}]},
        },
    },
}


def api(kubeconfig):
    return kubernetes.config.new_client_from_config(str(kubeconfig))


@pytest.mark.peavine(nodes=1)
def test_a_report_that_hangs_is_ended_after_half_an_hour(peavine_cluster, namespace, kubeconfig):
    batch = kubernetes.client.BatchV1Api(api(kubeconfig))
    batch.create_namespaced_job(namespace, JOB)
    peavine_cluster.advance(1700)
    assert not batch.read_namespaced_job("report", namespace).status.conditions
    peavine_cluster.advance(200)
    conditions = batch.read_namespaced_job("report", namespace).status.conditions
    assert conditions[-1].reason == "DeadlineExceeded"


@pytest.mark.peavine(nodes=2, controllers=["node-lifecycle-controller"])
def test_a_dead_node_is_noticed(peavine_cluster, kubeconfig):
    core = kubernetes.client.CoreV1Api(api(kubeconfig))
    peavine_cluster.advance(10)
    peavine_cluster.lose_node("node-1")
    peavine_cluster.advance(150)
    ready = {
        n.metadata.name: c.status for n in core.list_node().items for c in n.status.conditions if c.type == "Ready"
    }
    assert ready["node-1"] == "Unknown"


@pytest.mark.parametrize("version", ["1.25", "1.31", "1.37"])
def test_the_policy_kind_is_there_from_1_30_on(version):
    from peavine.testing import Cluster

    with Cluster(kubernetes_version=version, controllers=False, scheduler=False, nodes=0) as cluster:
        listed = kubernetes.client.AdmissionregistrationV1Api(api(cluster.kubeconfig)).get_api_resources().resources
        assert ("ValidatingAdmissionPolicy" in {r.kind for r in listed}) == (version != "1.25")
