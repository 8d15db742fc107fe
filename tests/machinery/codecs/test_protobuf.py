# ruff: noqa: E501
import copy
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from peavine.api.catalogue import CATALOGUE
from peavine.machinery.codecs import cbor, json, protobuf, yaml
from peavine.machinery.decode import decode_plain
from peavine.machinery.errors import ApiError
from peavine.machinery.features import Features
from peavine.machinery.names import GVK
from peavine.machinery.schema import Schema
from peavine.wire.protobuf import WireError, fields, read_varint, signed, varint
from tests.machinery.objects import random_object

SCHEMA = Schema.load()


def has_numbers(gvk):
    fields = SCHEMA.for_kind(gvk).fields
    return gvk.kind != "Table" and all(fields[name].number for name in ("metadata", "spec", "items") if name in fields)


KINDS = sorted(filter(has_numbers, SCHEMA.kinds()))


def test_only_kinds_newer_than_the_facts_lack_numbers():
    assert {gvk.group for gvk in SCHEMA.kinds() if not has_numbers(gvk)} <= {
        "certificates.k8s.io", "lifecycle.k8s.io", "resource.k8s.io", "scheduling.k8s.io",
    }  # fmt: skip
    assert len(KINDS) > 150


def test_the_bytes_are_those_that_upstream_writes():
    config_map = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}, "data": {"k": "v"}}
    type_meta = b"\x0a\x02v1\x12\x09ConfigMap"
    raw = b"\x0a\x03\x0a\x01a" + b"\x12\x06\x0a\x01k\x12\x01v"
    expected = (
        b"k8s\x00\x0a" + bytes([len(type_meta)]) + type_meta + b"\x12" + bytes([len(raw)]) + raw + b"\x1a\x00\x22\x00"
    )
    assert protobuf.encode(config_map, SCHEMA) == expected
    assert protobuf.decode(expected, SCHEMA) == config_map


@pytest.mark.parametrize("gvk", KINDS, ids=str)
def test_every_kind_goes_round_through_protobuf_json_and_yaml(gvk):
    type = SCHEMA.for_kind(gvk)
    for seed, density in ((1, 1.0), (2, 0.5), (3, 0.3)):
        obj = random_object(type, seed, density=density, numbered=True)
        obj = {"apiVersion": gvk.api_version, "kind": gvk.kind, **obj}
        through = decode_plain(protobuf.decode(protobuf.encode(obj, SCHEMA), SCHEMA), type)[0]
        assert through == obj
        assert decode_plain(json.decode(json.encode(obj)), type) == (obj, [])
        if seed == 3:
            assert yaml.decode(yaml.encode(obj)) == obj


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32), st.sampled_from(KINDS), st.floats(0.05, 1))
def test_random_objects_go_round(seed, gvk, density):
    type = SCHEMA.for_kind(gvk)
    obj = {"apiVersion": gvk.api_version, "kind": gvk.kind, **random_object(type, seed, density=density, numbered=True)}
    assert decode_plain(protobuf.decode(protobuf.encode(obj, SCHEMA), SCHEMA), type)[0] == obj
    assert (
        json.decode(json.encode(obj)) == yaml.decode(yaml.encode(obj)) == cbor.decode(cbor.encode(obj, SCHEMA)) == obj
    )
    assert list(json.decode(json.encode(obj))) == list(obj)


def test_embedded_structs_are_messages_of_their_own_on_the_wire():
    probe = SCHEMA.definition("io.k8s.api.core.v1.Probe")
    body = protobuf._encoder(probe)({"httpGet": {"port": 80}, "periodSeconds": 5})
    assert sorted(number for number, *_ in fields(body)) == [1, 4]
    assert protobuf._decoder(probe)(body, 0, len(body)) == {"httpGet": {"port": 80}, "periodSeconds": 5}


def test_zeros_that_go_writes_are_read_as_go_means_them():
    pod_spec = b"\x58\x00\x60\x00\x68\x00\x52\x00"  # hostNetwork, hostPID, hostIPC false; nodeName empty
    raw = b"\x12" + bytes([len(pod_spec)]) + pod_spec
    body = b"k8s\x00\x0a\x09\x0a\x02v1\x12\x03Pod\x12" + bytes([len(raw)]) + raw
    obj = protobuf.decode(body, SCHEMA)
    assert obj["spec"] == {"hostNetwork": False, "hostPID": False, "hostIPC": False, "nodeName": ""}
    assert decode_plain(obj, SCHEMA.for_kind(GVK("", "v1", "Pod")))[0]["spec"] == {}


def test_a_field_without_a_number_is_left_out():
    pod = {"apiVersion": "v1", "kind": "Pod", "spec": {"evictionResponders": [{"name": "x"}], "nodeName": "n"}}
    assert protobuf.decode(protobuf.encode(pod, SCHEMA), SCHEMA)["spec"] == {"nodeName": "n"}


@pytest.mark.parametrize(("version", "kind"), [("example.com/v1", "Widget"), ("meta.k8s.io/v1", "Table")])
def test_a_kind_without_a_message_has_no_protobuf_form(version, kind):
    with pytest.raises(ApiError) as error:
        protobuf.encode({"apiVersion": version, "kind": kind}, SCHEMA)
    assert error.value.code == 406


def test_every_field_that_is_on_by_default_has_a_number_but_for_a_few():
    """Those are alpha, or newer than what is known of them here: a list that may only become shorter."""
    schema = SCHEMA.without(Features("1.37").disabled_fields())
    seen, missing = set(), set()

    def walk(type):
        if type is None or id(type) in seen:
            return
        seen.add(id(type))
        for name, field in type.fields.items():
            if field.disabled or (name in ("apiVersion", "kind") and type.gvks):
                continue
            if not field.number:
                missing.add(f"{type.short_name}.{name}")
            walk(field.type)
        walk(type.items)

    for kind in CATALOGUE.kinds():
        walk(schema.for_kind(kind.gvk))
    assert {name.partition(".")[0] for name in missing} <= {
        "CSIDriverSpec",
        "CSINode",
        "CSINodeStatus",
        "Device",
        "DeviceAttribute",
        "DeviceCounterConsumption",
        "DeviceRequestAllocationResult",
        "DeviceTaintRule",
        "DeviceTaintRuleStatus",
        "EvictionResponder",
        "GRPCAction",
        "HTTPGetAction",
        "NodeAllocatableMappedResources",
        "NodeAllocatableMapping",
        "NodeAllocatableOverhead",
        "NodeAllocatableOverheadResources",
        "NodeAllocatableResource",
        "NodeAllocatableResourceClaimStatus",
        "NodeSystemInfo",
        "PersistentVolumeClaimStatus",
        "PodSchedulingGroup",
        "PodSpec",
        "PodStatus",
        "PodVolumeHealth",
        "ResourceSliceSpec",
        "StorageHealth",
        "StorageHealthCondition",
        "VolumeHealthCondition",
        "VolumeHealthStatus",
    }


@pytest.mark.parametrize(
    "obj",
    [
        {"apiVersion": "v1", "kind": "Status", "metadata": {}, "status": "Failure", "code": 404, "details": {"name": "x"}},
        {"apiVersion": "v1", "kind": "DeleteOptions", "gracePeriodSeconds": 0, "preconditions": {"uid": "u"}},
        {"apiVersion": "policy/v1", "kind": "DeleteOptions", "propagationPolicy": "Foreground"},
        {"apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadata", "metadata": {"name": "x", "labels": {"a": "b"}}},
        {"apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadataList", "metadata": {"resourceVersion": "1"},
         "items": [{"metadata": {"name": "x"}}]},
        {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "spec": {}, "metadata": {},
         "status": {"user": {"extra": {"a": ["b", "c"], "d": []}}}},
    ],
    ids=lambda obj: obj["kind"],
)  # fmt: skip
def test_the_machinerys_own_kinds_go_round(obj):
    assert protobuf.decode(protobuf.encode(obj, SCHEMA), SCHEMA) == obj


def test_verbs_are_wrapped():
    resource = {"name": "pods", "singularName": "pod", "namespaced": True, "kind": "Pod", "verbs": ["get", "list"]}
    obj = {"apiVersion": "v1", "kind": "APIResourceList", "groupVersion": "v1", "resources": [resource]}
    data = protobuf.encode(obj, SCHEMA)
    assert b"\x22\x0b\x0a\x03get\x0a\x04list" in data and protobuf.decode(data, SCHEMA) == obj


def test_raw_parts_may_be_protobuf_themselves():
    inner = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}}
    raw = protobuf.encode(inner, SCHEMA)
    body = b"\x0a" + varint(len(raw)) + raw
    assert protobuf._decode_raw(body, 0, len(body)) == inner


def test_a_watch_frame_is_a_length_and_a_bare_event():
    obj = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}}
    data = protobuf.watch_frame("ADDED", obj, SCHEMA)
    assert struct.unpack(">I", data[:4])[0] == len(data) - 4
    found = {number: data[4:][start:stop] for number, _, start, stop in fields(data[4:])}
    assert found[1] == b"ADDED"
    ((_, _, start, stop),) = fields(found[2])
    assert protobuf.decode(found[2][start:stop], SCHEMA) == obj


def test_dates_out_of_range_and_broken_bytes_are_refused():
    for data in (
        b"", b"{}", b"k8s\x00\xff", b"k8s\x00\x0a\x05\x0a\x02v1", b"k8s\x00\x0a\x0a\x0a\x02v1\x12\x04Nope",
        b"k8s\x00\x0a\x09\x0a\x02v1\x12\x03Pod\x12\x02\x0a\x7f", b"k8s\x00\x0a\x09\x0a\x02v1\x12\x03Pod\x12\x02\x08\x01",
    ):  # fmt: skip
        with pytest.raises(protobuf.ProtobufError):
            protobuf.decode(data, SCHEMA)


@given(st.binary(max_size=60))
def test_any_bytes_are_read_or_refused(data):
    head = b"k8s\x00\x0a\x09\x0a\x02v1\x12\x03Pod\x12" + varint(len(data)) + data
    for body in (data, b"k8s\x00" + data, head):
        try:
            decode_plain(copy.deepcopy(protobuf.decode(body, SCHEMA)), SCHEMA.for_kind(GVK("", "v1", "Pod")))
        except ValueError:
            pass


@given(st.integers(-(2**63), 2**63 - 1))
def test_varints_read_back(number):
    data = varint(number)
    value, at = read_varint(data, 0)
    assert signed(value) == number and at == len(data)


def test_overlong_varints_are_refused():
    with pytest.raises(WireError, match="integer overflow"):
        read_varint(b"\xff" * 11, 0)
