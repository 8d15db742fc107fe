"""Apply and tracking on random objects: laws that hold whatever the object."""

import copy

from hypothesis import given, settings
from hypothesis import strategies as st

from peavine.machinery.apply import Tracking, apply, track_update
from peavine.machinery.apply.fieldset import difference, intersection, union
from peavine.machinery.apply.managed import _managed_part
from peavine.machinery.apply.typed import compare, field_set
from peavine.machinery.errors import ApiError
from peavine.machinery.names import GVK
from peavine.machinery.schema import Field, Type

TEXT, NUMBER = Type("string"), Type("integer")
ITEM = Type("object", fields={n: Field(n, t) for n, t in {"name": TEXT, "a": NUMBER, "b": TEXT}.items()})
SPEC = Type(
    "object",
    fields={
        name: Field(name, type)
        for name, type in {
            "number": NUMBER,
            "labels": Type("map", items=TEXT),
            "atoms": Type("list", items=NUMBER),
            "set": Type("list", items=TEXT, list_type="set"),
            "items": Type("list", items=ITEM, list_type="map", list_map_keys=("name",)),
            "whole": Type("map", items=TEXT, map_type="atomic"),
            "any": Type("any"),
        }.items()
    },
)
META = Type("object", fields={n: Field(n, TEXT) for n in ("name", "uid")})
ROOT = Type("object", fields={"apiVersion": Field("apiVersion", TEXT), "kind": Field("kind", TEXT),
                              "metadata": Field("metadata", META), "spec": Field("spec", SPEC)})  # fmt: skip
TRACKING = Tracking(GVK("x.io", "v1", "X"), ROOT)
object.__setattr__(TRACKING, "_empty", {})

# The same examples every time: a failure is a bug, never chance.
LAWS = settings(max_examples=60, deadline=None, derandomize=True, database=None)
words, numbers = st.sampled_from("abcd"), st.integers(0, 3)
json_values = st.recursive(
    st.one_of(words, numbers),
    lambda inner: st.one_of(st.lists(inner, max_size=2), st.dictionaries(words, inner, max_size=2)),
    max_leaves=4,
)
specs = st.fixed_dictionaries(
    {},
    optional={
        "number": numbers,
        "labels": st.dictionaries(words, words, min_size=1, max_size=3),
        "atoms": st.lists(numbers, min_size=1, max_size=3),
        "set": st.lists(words, min_size=1, max_size=3, unique=True),
        "items": st.lists(
            st.fixed_dictionaries({"name": words}, optional={"a": numbers, "b": words}),
            min_size=1,
            max_size=3,
            unique_by=lambda item: item["name"],
        ),
        "whole": st.dictionaries(words, words, min_size=1, max_size=2),
        "any": st.dictionaries(words, json_values, min_size=1, max_size=2),
    },
)


def thing(spec):
    return {"apiVersion": "x.io/v1", "kind": "X", "metadata": {"name": "n"}, "spec": spec}


def stored(obj):
    obj["metadata"]["uid"] = "u"
    return obj


def owned(obj, manager):
    for entry in obj["metadata"].get("managedFields") or []:
        if entry["manager"] == manager:
            return entry["fieldsV1"]
    return {}


@LAWS
@given(specs, specs)
def test_applying_one_configuration_and_then_another_leaves_only_the_other(first, second):
    live = stored(apply(TRACKING, None, thing(first), "me", False, "T"))
    after = apply(TRACKING, live, thing(second), "me", False, "U")
    assert canonical(after.get("spec") or {}) == canonical(second)
    assert owned(after, "me") == _managed_part(field_set(thing(second), ROOT))


def canonical(spec):
    """Lists that are sets or maps in one order."""
    ordered = copy.deepcopy(spec)
    for name in ("set", "items"):
        if name in ordered:
            ordered[name].sort(key=lambda item: item["name"] if isinstance(item, dict) else item)
    return ordered


@LAWS
@given(specs)
def test_applying_the_same_twice_changes_nothing(spec):
    live = stored(apply(TRACKING, None, thing(spec), "me", False, "T"))
    assert apply(TRACKING, live, thing(spec), "me", False, "U") == live


@LAWS
@given(specs, specs, st.booleans())
def test_nobody_elses_fields_change_without_force(first, second, force):
    live = stored(apply(TRACKING, None, thing(first), "one", False, "T"))
    before = copy.deepcopy(live)
    try:
        after = apply(TRACKING, live, thing(second), "two", force, "U")
    except ApiError as conflict:
        assert conflict.code == 409 and not force and conflict.details["causes"]
        return
    finally:
        assert live == before
    changed, removed = compare(live["spec"], after["spec"], SPEC)
    mine = owned(live, "one").get("f:spec", {})
    if not force:
        assert intersection(changed, mine) == {} and intersection(removed, mine) == {}
    both = intersection(owned(after, "one"), owned(after, "two"))
    assert difference(both, owned(live, "one")) == {}  # what both own, both had the same wish for


@LAWS
@given(specs, specs)
def test_an_update_owns_what_it_changed_and_takes_nothing_else(first, second):
    live = stored(track_update(TRACKING, None, thing(first), "one", "T"))
    new = {**thing(second), "metadata": dict(live["metadata"])}
    after = track_update(TRACKING, live, new, "two", "U")
    changed, removed = compare(first, second, SPEC)
    assert owned(after, "two") == ({"f:spec": changed} if changed else {})
    kept = difference(difference(owned(live, "one").get("f:spec", {}), changed), removed)
    assert {e: n for e, n in owned(after, "one").get("f:spec", {}).items() if e != "."} == {
        e: n for e, n in kept.items() if e != "."
    }


@LAWS
@given(specs, specs)
def test_comparing_finds_nothing_in_equal_objects_and_is_symmetric(first, second):
    assert compare(first, copy.deepcopy(first), SPEC) == ({}, {})
    changed, removed = compare(first, second, SPEC)
    back_changed, back_removed = compare(second, first, SPEC)
    assert union(changed, removed) == union(back_changed, back_removed)
