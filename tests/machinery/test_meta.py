# ruff: noqa: E501
import re

import pytest

from peavine.machinery import meta
from peavine.machinery.meta import validate_metadata, validate_metadata_update


def messages(errors):
    return [str(error) for error in errors]


def test_a_plain_object_has_no_errors():
    assert validate_metadata({"name": "web", "namespace": "default", "labels": {"app": "web"}}, namespaced=True) == []


def test_a_name_is_required_and_checked_by_the_kinds_rule():
    assert messages(validate_metadata({}, namespaced=False)) == [
        "metadata.name: Required value: name or generateName is required"
    ]
    bad = {"name": "Bad_Value!"}
    assert messages(validate_metadata(bad, namespaced=False)) == [
        'metadata.name: Invalid value: "Bad_Value!": a lowercase RFC 1123 subdomain must consist of lower case '
        "alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. "
        r"'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')"
    ]
    assert validate_metadata(bad, namespaced=False, name_rule="path_segment") == []
    assert messages(validate_metadata({"name": "a/b%"}, namespaced=False, name_rule="path_segment")) == [
        "metadata.name: Invalid value: \"a/b%\": may not contain '/'",
        "metadata.name: Invalid value: \"a/b%\": may not contain '%'",
    ]


def test_namespaces_are_for_namespaced_kinds():
    assert messages(validate_metadata({"name": "x"}, namespaced=True)) == ["metadata.namespace: Required value"]
    assert messages(validate_metadata({"name": "x", "namespace": "y"}, namespaced=False)) == [
        "metadata.namespace: Forbidden: not allowed on this type"
    ]


def test_a_prefix_may_end_in_a_dash():
    assert validate_metadata({"name": "a-12345", "generateName": "a-"}, namespaced=False) == []


def test_owners_finalizers_and_managers_are_checked():
    found = messages(
        validate_metadata(
            {
                "name": "x",
                "finalizers": ["foregroundDeletion", "orphan", "/"],
                "ownerReferences": [
                    {"apiVersion": "v1", "kind": "Event", "name": "e", "uid": "u"},
                    {"apiVersion": "", "kind": "", "name": "", "uid": ""},
                    {"apiVersion": "apps/v1", "kind": "A", "name": "a", "uid": "u", "controller": True},
                    {"apiVersion": "apps/v1", "kind": "B", "name": "b", "uid": "u", "controller": True},
                ],
                "managedFields": [{"operation": "Steal", "manager": "x" * 129, "fieldsType": "V2"}],
            },
            namespaced=False,
        )
    )
    text = "\n".join(found)
    assert 'metadata.ownerReferences.apiVersion: Invalid value: "": version must not be empty' in text
    assert "/v1, Kind=Event is disallowed from being an owner" in text
    assert 'Only one reference can have Controller set to true. Found "true" in references for A/a and B/b' in text
    assert "finalizer orphan and foregroundDeletion cannot be both set" in text
    assert 'metadata.finalizers: Invalid value: "/": prefix part must be non-empty' in text
    assert 'metadata.managedFields[0].operation: Invalid value: "Steal": must be `Apply` or `Update`' in text
    assert "metadata.managedFields[0].manager: Too long: may not be more than 128 bytes" in text


def test_annotations_are_bounded_in_size():
    big = {"name": "x", "annotations": {"a": "é" * (128 * 1024)}}
    assert messages(validate_metadata(big, namespaced=False)) == [
        "metadata.annotations: Too long: may not be more than 262144 bytes"
    ]


def test_identity_cannot_change():
    old = {
        "name": "x",
        "uid": "1",
        "resourceVersion": "5",
        "generation": 3,
        "creationTimestamp": "2020-01-01T00:00:00Z",
    }
    assert validate_metadata_update({**old}, old) == []
    found = messages(validate_metadata_update({**old, "uid": "2", "generation": 2, "resourceVersion": ""}, old))
    assert found == [
        'metadata.resourceVersion: Invalid value: "": must be specified for an update',
        "metadata.generation: Invalid value: 2: must not be decremented",
        'metadata.uid: Invalid value: "2": field is immutable',
    ]


def test_what_an_update_leaves_out_is_put_back():
    old = {"uid": "1", "creationTimestamp": "t", "deletionTimestamp": "d", "deletionGracePeriodSeconds": 0}
    new = {"selfLink": "/x"}
    meta.keep_system_fields(new, old)
    assert new == old


def test_no_finalizer_joins_a_deletion():
    old = {"name": "x", "resourceVersion": "1", "deletionTimestamp": "t", "finalizers": ["a.b/c"]}
    assert messages(validate_metadata_update({**old, "finalizers": ["a.b/c", "d.e/f"]}, old)) == [
        "metadata.finalizers: Forbidden: no new finalizers can be added if the object is being deleted, found new "
        'finalizers []string{"d.e/f"}'
    ]
    assert validate_metadata_update({**old, "finalizers": []}, old) == []


def test_generated_names_fit_and_use_upstreams_alphabet():
    name = meta.generate_name("x" * 100)
    assert len(name) == 63 and re.fullmatch("x{58}[bcdfghjklmnpqrstvwxz2456789]{5}", name)


def test_times_read_back():
    assert meta.now(0) == "1970-01-01T00:00:00Z" and meta.now_micro(1.5) == "1970-01-01T00:00:01.500000Z"
    assert meta.parse_time("1970-01-01T01:00:00+01:00") == 0
    assert meta.parse_time(meta.now_micro(123456789.123456)) == pytest.approx(123456789.123456)
    with pytest.raises(ValueError):
        meta.parse_time("2020-01-01")


def test_deletion_marks_when_it_ends():
    obj = {"generation": 2}
    meta.mark_deleted(obj, 30, unix_seconds=0)
    assert obj == {"deletionTimestamp": "1970-01-01T00:00:30Z", "deletionGracePeriodSeconds": 30, "generation": 3}
