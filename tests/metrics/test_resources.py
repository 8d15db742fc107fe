import json
from types import SimpleNamespace

from peavine.metrics.resources import ROOT, ResourceMetrics, usage_of

STAMP = "2026-01-01T00:00:00Z"
USED = {"cpu": {"time": STAMP, "usageNanoCores": 5_000_000}, "memory": {"workingSetBytes": 10 << 20}}


def api(labels=None):
    node = {"metadata": {"name": "n1", "labels": {"zone": "a"}}}
    pod = {"podRef": {"namespace": "default", "name": "web"}, "containers": [{"name": "main", **USED}]}
    summary = {"node": USED, "pods": [pod]}
    collector = SimpleNamespace(nodes=SimpleNamespace(list=lambda: [node]), summaries={"n1": summary})
    return ResourceMetrics(collector, lambda namespace, name: {"app": "web"} if labels is None else labels)


def get(path, **query):
    page = api().answer(ROOT + path, {k: [v] for k, v in query.items()})
    return page.code, json.loads(page.body)


def test_usage_is_told_as_quantities():
    assert usage_of(USED) == {"cpu": "5000000n", "memory": "10240Ki"}
    assert usage_of({"cpu": {"usageCoreNanoSeconds": 1}, "memory": {"workingSetBytes": 1}}) is None


def test_nodes_and_pods_are_listed_and_found():
    code, nodes = get("/nodes")
    assert code == 200 and nodes["kind"] == "NodeMetricsList" and nodes["items"][0]["metadata"]["name"] == "n1"
    code, pod = get("/namespaces/default/pods/web")
    assert pod["containers"] == [{"name": "main", "usage": {"cpu": "5000000n", "memory": "10240Ki"}}]
    assert get("/namespaces/other/pods")[1]["items"] == []


def test_label_selectors_choose_and_broken_ones_are_refused():
    assert len(get("/pods", labelSelector="app=web")[1]["items"]) == 1
    assert get("/pods", labelSelector="app=db")[1]["items"] == []
    assert get("/pods", labelSelector="=(")[0] == 400


def test_what_is_not_there_is_a_status():
    assert get("/nodes/n2") == (
        404,
        {
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": 'nodes.metrics.k8s.io "n2" not found',
            "reason": "NotFound",
            "details": {"name": "n2", "group": "metrics.k8s.io", "kind": "nodes"},
            "code": 404,
        },
    )
    assert get("/teapots")[0] == 404
