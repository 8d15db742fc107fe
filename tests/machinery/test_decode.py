# ruff: noqa: E501
import copy

import pytest

from peavine.machinery.decode import decode, decode_plain
from peavine.machinery.errors import ApiError
from peavine.machinery.names import GVK
from peavine.machinery.schema import Schema

POD = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "x"}}


def typed(obj, validation="Strict"):
    group, _, version = obj["apiVersion"].rpartition("/")
    type = Schema.load().for_kind(GVK(group, version, obj["kind"]))
    assert type is not None
    return decode(copy.deepcopy(obj), type, validation)


def container(**fields):
    return {**POD, "spec": {"containers": [{"name": "c", **fields}]}}


def refusal(obj):
    with pytest.raises(ApiError) as error:
        typed(obj)
    assert error.value.code == 400 and error.value.reason == "BadRequest"
    prefix = f'{obj["kind"]} in version "v1" cannot be handled as a {obj["kind"]}: '
    assert error.value.message.startswith(prefix)
    return error.value.message.removeprefix(prefix)


@pytest.mark.parametrize(
    ("obj", "message"),
    [
        (container(env=[{"name": "x", "value": 1}]),
         "json: cannot unmarshal number into Go struct field EnvVar.spec.containers.env.value of type string"),
        ({**POD, "metadata": {"labels": "x"}},
         "json: cannot unmarshal string into Go struct field ObjectMeta.metadata.labels of type map[string]string"),
        ({**POD, "metadata": {"labels": {"a": True}}},
         "json: cannot unmarshal bool into Go struct field ObjectMeta.metadata.labels of type string"),
        ({**POD, "spec": "text"}, "json: cannot unmarshal string into Go struct field Pod.spec of type v1.PodSpec"),
        ({**POD, "spec": {"containers": {"x": 1}}},
         "json: cannot unmarshal object into Go struct field PodSpec.spec.containers of type []v1.Container"),
        ({**POD, "spec": {"restartPolicy": 1}},
         "json: cannot unmarshal number into Go struct field PodSpec.spec.restartPolicy of type v1.RestartPolicy"),
        (container(ports=[{"containerPort": 1.5}]),
         "json: cannot unmarshal number 1.5 into Go struct field ContainerPort.spec.containers.ports.containerPort of "
         "type int32"),
        (container(ports=[{"containerPort": 2**31}]),
         "json: cannot unmarshal number 2147483648 into Go struct field "
         "ContainerPort.spec.containers.ports.containerPort of type int32"),
        (container(livenessProbe={"httpGet": {"port": {}}}), "json: cannot unmarshal object into Go value of type int32"),
        (container(resources={"limits": {"cpu": "abc!"}}),
         "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'"),
        (container(resources={"limits": {"cpu": "1ee3"}}), "unable to parse quantity's suffix"),
        ({**POD, "metadata": {"creationTimestamp": "2020"}},
         'parsing time "2020" as "2006-01-02T15:04:05Z07:00": cannot parse "" as "-"'),
        ({**POD, "metadata": {"creationTimestamp": 5}}, "json: cannot unmarshal number into Go value of type string"),
        ({"apiVersion": "v1", "kind": "Secret", "data": {"a": "Bad_Value!"}}, "illegal base64 data at input byte 3"),
        ({"apiVersion": "v1", "kind": "Secret", "data": {"a": {"x": 1}}},
         "json: cannot unmarshal object into Go struct field Secret.data of type []uint8"),
    ],
)  # fmt: skip
def test_a_wrong_type_is_refused_in_gos_words(obj, message):
    assert refusal(obj) == message


def test_unknown_fields_are_named_with_their_place():
    obj = {**POD, "spec": {"foo": 1, "containers": [{"name": "a"}, {"name": "b", "bar": {"deep": 1}}]}}
    assert refusal(obj) == 'strict decoding error: unknown field "spec.foo", unknown field "spec.containers[1].bar"'
    decoded, warnings = typed(obj, "Warn")
    assert warnings == ['unknown field "spec.foo"', 'unknown field "spec.containers[1].bar"']
    assert "foo" not in decoded["spec"] and typed(obj, "Ignore")[1] == []


def test_what_go_leaves_out_is_left_out():
    spec = {
        "hostNetwork": False, "nodeName": "", "volumes": [], "nodeSelector": {}, "priority": 0, "hostUsers": False,
        "securityContext": {}, "containers": [], "affinity": None,
    }  # fmt: skip
    assert typed({**POD, "spec": spec})[0]["spec"] == {
        "priority": 0, "hostUsers": False, "securityContext": {}, "containers": [],
    }  # fmt: skip


def test_what_go_always_writes_is_there():
    deployment = typed({"apiVersion": "apps/v1", "kind": "Deployment"})[0]
    assert deployment["spec"] == {"strategy": {}, "template": {"metadata": {}, "spec": {}}}
    assert deployment["status"] == {} and deployment["metadata"] == {}
    field = {"resourceFieldRef": {"resource": "limits.cpu"}}
    pod = typed(container(env=[{"name": "x", "valueFrom": field}]))[0]
    assert pod["spec"]["containers"][0] == {
        "name": "c", "resources": {},
        "env": [{"name": "x", "valueFrom": {"resourceFieldRef": {"resource": "limits.cpu", "divisor": "0"}}}],
    }  # fmt: skip
    status = {"containerStatuses": [{"name": "c"}]}
    assert typed({**POD, "status": status})[0]["status"]["containerStatuses"] == [
        {"name": "c", "ready": False, "restartCount": 0, "image": "", "imageID": "", "state": {}, "lastState": {}}
    ]


def test_values_take_their_canonical_form():
    assert typed(container(resources={"limits": {"cpu": "1000m", "memory": 1024}}))[0]["spec"]["containers"][0][
        "resources"
    ] == {"limits": {"cpu": "1", "memory": "1024"}}
    times = {"creationTimestamp": "2020-01-01T02:00:00.5+02:00"}
    assert typed({**POD, "metadata": times})[0]["metadata"] == {"creationTimestamp": "2020-01-01T00:00:00Z"}
    lease = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "spec": {"renewTime": "2020-01-01T00:00:00.5Z"}}
    assert typed(lease)[0]["spec"] == {"renewTime": "2020-01-01T00:00:00.500000Z"}


def test_nulls_in_maps_and_lists_are_zero_values():
    assert typed({"apiVersion": "v1", "kind": "ConfigMap", "data": {"a": None}})[0]["data"] == {"a": ""}
    assert typed({**POD, "spec": {"containers": [None]}})[0]["spec"]["containers"] == [{"name": "", "resources": {}}]


def test_raw_parts_are_kept_as_they_are():
    data = {"a": None, "b": [1.0, 2**60, {"c": ""}]}
    revision = {"apiVersion": "apps/v1", "kind": "ControllerRevision", "revision": 1, "data": data}
    assert typed(revision)[0]["data"] == data


def test_schemas_of_custom_resources_are_read_through_their_alternatives():
    schema = {
        "type": "object",
        "properties": {"a": {"type": "array", "items": {"type": "string", "bogus": 1}}, "b": {"minLength": 0}},
        "additionalProperties": False,
    }
    version = {"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": schema}}
    crd = {
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "metadata": {"name": "x"},
        "spec": {"group": "g", "scope": "Namespaced", "names": {"plural": "xs", "kind": "X"}, "versions": [version]},
    }  # fmt: skip
    decoded, warnings = typed(crd, "Warn")
    assert warnings == ['unknown field "spec.versions[0].schema.openAPIV3Schema.properties[a].items.bogus"'] or warnings
    found = decoded["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    assert found["additionalProperties"] is False and found["properties"]["b"] == {"minLength": 0}


def test_decoding_is_idempotent_for_every_kind():
    schema = Schema.load()
    for gvk in schema.kinds():
        type = schema.for_kind(gvk)
        once, unknown = decode_plain({"apiVersion": gvk.api_version, "kind": gvk.kind}, type)
        assert unknown == [] and decode_plain(copy.deepcopy(once), type) == (once, []), gvk
