"""Bindings: which bodies go the short way, and what becomes of the pod."""

import copy

import orjson
import pytest

from peavine.apiserver.registry.bindings import bound, plain_binding
from peavine.machinery.errors import ApiError

STAMP = "2026-01-31T12:00:00Z"
BINDING = {
    "apiVersion": "v1",
    "kind": "Binding",
    "metadata": {"name": "p", "namespace": "default", "uid": "u"},
    "target": {"kind": "Node", "name": "n"},
}


def _pod(**meta):
    return {
        "metadata": {"name": "p", "namespace": "default", "uid": "u", "resourceVersion": "7", "generation": 2, **meta},
        "spec": {"containers": []},
        "status": {"phase": "Pending"},
    }


def test_what_schedulers_send_is_read_without_the_schema():
    assert plain_binding(orjson.dumps(BINDING)) == BINDING
    assert plain_binding(orjson.dumps(BINDING, option=orjson.OPT_INDENT_2)) == BINDING


@pytest.mark.parametrize(
    "body",
    [
        b"{",
        b"[]",
        orjson.dumps({**BINDING, "apiVersion": "v2"}),
        orjson.dumps({**BINDING, "kind": "Pod"}),
        orjson.dumps({**BINDING, "wrong": "x"}),
        orjson.dumps({**BINDING, "metadata": {"name": "p", "labels": {"a": "b"}}}),
        orjson.dumps({**BINDING, "metadata": {"name": 1}}),
        orjson.dumps({**BINDING, "target": {"name": ""}}),
        orjson.dumps({**BINDING, "target": {"name": "n", "wrong": "x"}}),
        b'{"apiVersion":"v1","kind":"Binding","metadata":{"name":"a","name":"b"},"target":{"name":"n"}}',
        b'{"apiVersion":"v1","kind":"Binding","metadata":{"name":"a\\u0062"},"target":{"name":"n"}}',
    ],
)
def test_any_other_body_goes_the_general_way(body):
    assert plain_binding(body) is None


def test_the_pod_gets_its_node_and_says_since_when_and_who_gave_it_stays_as_it_was():
    pod = _pod(labels={"app": "web"})
    pod["status"]["conditions"] = [
        {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/1", "lastProbeTime": None}
    ]
    before = copy.deepcopy(pod)
    zone = {**BINDING, "metadata": {**BINDING["metadata"], "labels": {"zone": "a"}, "annotations": {"by": "me"}}}
    new = bound(pod, zone, "n", "p", STAMP)
    assert pod == before
    assert new["spec"]["nodeName"] == "n"
    assert new["metadata"]["labels"] == {"app": "web", "zone": "a"} and new["metadata"]["annotations"] == {"by": "me"}
    assert new["status"]["conditions"] == [
        {
            "type": "PodScheduled",
            "status": "True",
            "lastProbeTime": None,
            "lastTransitionTime": STAMP,
            "observedGeneration": 2,
        }
    ]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda pod: pod["metadata"].update(uid="other"), "Precondition failed: UID in precondition: u"),
        (lambda pod: pod["metadata"].update(deletionTimestamp=STAMP), "is being deleted, cannot be assigned to a host"),
        (lambda pod: pod["spec"].update(nodeName="x"), 'pod p is already assigned to node "x"'),
        (lambda pod: pod["spec"].update(schedulingGates=[{"name": "g"}]), "non-empty .spec.schedulingGates"),
    ],
)
def test_a_pod_that_cannot_be_bound_says_why(change, message):
    pod = _pod()
    change(pod)
    with pytest.raises(ApiError) as refused:
        bound(pod, BINDING, "n", "p", STAMP)
    assert refused.value.code == 409 and message in refused.value.message
