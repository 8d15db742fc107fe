"""A script on kr8s: make a Deployment, scale it, wait until its pods are there."""

import kr8s
from kr8s.objects import Deployment, Pod


def scale_and_wait(api, namespace, name, replicas):
    """The script under test."""
    deployment = Deployment.get(name, namespace=namespace, api=api)
    deployment.scale(replicas)
    deployment.wait(f"jsonpath='{{.status.availableReplicas}}'={replicas}", timeout=30)
    return [pod.name for pod in Pod.list(namespace=namespace, label_selector={"app": name}, api=api)]


def test_scaling_waits_for_the_pods(kubeconfig, namespace):
    api = kr8s.api(kubeconfig=str(kubeconfig))
    labels = {"app": "web"}
    deployment = Deployment(
        {
            "metadata": {"name": "web", "namespace": namespace},
            "spec": {
                "replicas": 1,
                "selector": {"matchLabels": labels},
                "template": {
                    "metadata": {"labels": labels},
                    "spec": {"containers": [{"name": "main", "image": "example.com/web:1"}]},
                },
            },
        },
        api=api,
    )
    deployment.create()
    deployment.wait("condition=Available", timeout=30)
    assert len(scale_and_wait(api, namespace, "web", 3)) == 3
