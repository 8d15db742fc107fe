"""Managed fields of several versions of one kind."""

import pytest

from peavine.machinery.apply import Tracking, apply, track_update
from peavine.machinery.errors import ApiError
from peavine.machinery.names import GVK
from peavine.machinery.schema import Field, Type

NUMBER, TEXT = Type("integer"), Type("string")


def kind(field):
    spec = Type("object", fields={field: Field(field, NUMBER), "note": Field("note", TEXT)})
    names = ("apiVersion", "kind")
    meta = Type("object", fields={n: Field(n, TEXT) for n in ("name", "uid")})
    return Type("object", fields={**{n: Field(n, TEXT) for n in names}, "metadata": Field("metadata", meta),
                                  "spec": Field("spec", spec)})  # fmt: skip


TYPES = {"x.io/v1": kind("count"), "x.io/v2": kind("replicas")}
FIELD = {"x.io/v1": "count", "x.io/v2": "replicas"}


def convert(obj, version):
    if version not in TYPES:
        return None
    source = obj["apiVersion"]
    spec = {FIELD[version] if name == FIELD[source] else name: value for name, value in obj["spec"].items()}
    return {**obj, "apiVersion": version, "spec": spec}


def tracking(version):
    return Tracking(GVK("x.io", version, "X"), TYPES[f"x.io/{version}"], convert=convert, type_at=TYPES.get)


def thing(version, **spec):
    return {"apiVersion": f"x.io/{version}", "kind": "X", "metadata": {"name": "n", "uid": "u"}, "spec": spec}


def test_an_entry_of_another_version_conflicts_under_its_own_field():
    live = track_update(tracking("v1"), None, thing("v1", count=1), "one", "T")
    with pytest.raises(ApiError) as caught:
        apply(tracking("v2"), convert(live, "x.io/v2"), thing("v2", replicas=2), "two", False, "U")
    assert caught.value.message == 'Apply failed with 1 conflict: conflict with "one" using x.io/v1: .spec.count'
    after = apply(tracking("v2"), convert(live, "x.io/v2"), thing("v2", replicas=2), "two", True, "U")
    assert [e["manager"] for e in after["metadata"]["managedFields"]] == ["two"]


def test_what_was_applied_in_another_version_is_removed_in_this_one():
    live = apply(tracking("v1"), None, thing("v1", count=1, note="x"), "me", False, "T")
    after = apply(tracking("v2"), convert(live, "x.io/v2"), thing("v2", note="x"), "me", False, "U")
    assert after["spec"] == {"note": "x"}
    (entry,) = after["metadata"]["managedFields"]
    assert (entry["apiVersion"], entry["fieldsV1"]) == ("x.io/v2", {"f:spec": {"f:note": {}}})


def test_entries_of_a_version_that_is_gone_are_dropped():
    live = track_update(tracking("v2"), None, thing("v2", replicas=1), "one", "T")
    live["metadata"]["managedFields"][0]["apiVersion"] = "x.io/v0"
    new = {**live, "spec": {"replicas": 2}}
    after = track_update(tracking("v2"), live, new, "two", "U")
    assert [e["manager"] for e in after["metadata"]["managedFields"]] == ["two"]
