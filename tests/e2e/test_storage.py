"""Claims work out of the box: a StatefulSet keeps its data over the loss of its pod."""

import json

import pytest

from tests.e2e.conftest import IMAGE

pytestmark = [pytest.mark.root, pytest.mark.slow]


def test_a_stateful_set_finds_its_data_again(kubectl, namespace):
    labels = {"app": "db"}
    container = {
        "name": "main",
        "image": IMAGE,
        "command": ["sh", "-c", "echo started >> /data/log; exec sleep 1000"],
        "volumeMounts": [{"name": "data", "mountPath": "/data"}],
    }
    body = {
        "apiVersion": "apps/v1",
        "kind": "StatefulSet",
        "metadata": {"name": "db"},
        "spec": {
            "replicas": 1,
            "serviceName": "db",
            "selector": {"matchLabels": labels},
            "template": {
                "metadata": {"labels": labels},
                "spec": {"containers": [container], "terminationGracePeriodSeconds": 0},
            },
            "volumeClaimTemplates": [
                {
                    "metadata": {"name": "data"},
                    "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Mi"}}},
                }
            ],
        },
    }
    kubectl("-n", namespace, "apply", "-f", "-", stdin=json.dumps(body))
    kubectl("-n", namespace, "rollout", "status", "statefulset/db", "--timeout=60s")
    kubectl("-n", namespace, "delete", "pod", "db-0")
    kubectl("-n", namespace, "rollout", "status", "statefulset/db", "--timeout=60s")
    log = kubectl("-n", namespace, "exec", "db-0", "--", "cat", "/data/log")
    assert len(log.splitlines()) == 2
    assert kubectl("-n", namespace, "get", "pvc", "data-db-0", "-o", "jsonpath={.status.phase}") == "Bound"
