# ruff: noqa: E501
import copy

import pytest
from hypothesis import given
from hypothesis import strategies as st

from peavine.machinery.decode import decode_plain
from peavine.machinery.structural import (
    Structural,
    apply_defaults,
    check_schema,
    prune,
    prune_nulls,
    type_of,
    validate,
    validate_lists,
)  # fmt: skip

STRING = {"type": "string"}


def obj(**properties):
    return {"type": "object", "properties": properties}


def messages(errors):
    return [str(error) for error in errors]


def whole(**spec):
    return {"apiVersion": "g/v1", "kind": "W", "metadata": {"name": "x"}, "spec": spec}


# --- the check of schemas


@pytest.mark.parametrize(
    ("schema", "expected"),
    [
        (obj(spec=obj(a=STRING)), []),
        ({}, ["S.type: Required value: must not be empty at the root"]),
        ({"type": "string"}, ['S.type: Invalid value: "string": must be object at the root']),
        (obj(a={}), ["S.properties[a].type: Required value: must not be empty for specified object fields"]),
        (obj(a={"type": "array", "items": {}}),
         ["S.properties[a].items.type: Required value: must not be empty for specified array items"]),
        (obj(a={"type": "text"}),
         ['S.properties[a].type: Unsupported value: "text": supported values: "array", "boolean", "integer", "number", "object", "string"']),
        (obj(a={"x-kubernetes-int-or-string": True, "anyOf": [{"type": "integer"}, {"type": "string"}]}), []),
        (obj(a={**STRING, "anyOf": [{"type": "string"}]}),
         ["S.properties[a].anyOf[0].type: Forbidden: must be empty to be structural"]),
        ({**obj(a=STRING), "anyOf": [{"required": ["a"]}]}, []),
        ({**obj(a=STRING), "oneOf": [{"properties": {"b": {"minLength": 1}}}]},
         ["S.properties[b]: Required value: because it is defined in S.oneOf[0].properties[b]"]),
        (obj(a={"type": "object", "additionalProperties": False}),
         ["S.properties[a].additionalProperties: Forbidden: additionalProperties cannot be set to false"]),
        ({"type": "object", "additionalProperties": STRING},
         ["S.additionalProperties: Forbidden: must not be used at the root"]),
        (obj(a={**obj(b=STRING), "additionalProperties": STRING}),
         ["S.properties[a].additionalProperties: Forbidden: additionalProperties and properties are mutual exclusive"]),
        (obj(a={"$ref": "#/x", **STRING}), ["S.properties[a].$ref: Forbidden: $ref is not supported"]),
        (obj(a={"type": "object", "x-kubernetes-embedded-resource": True}),
         ["S.properties[a].properties: Required value: must not be empty if x-kubernetes-embedded-resource is true without x-kubernetes-preserve-unknown-fields"]),
        (obj(metadata=obj(labels={"type": "object"})),
         ["S.properties[metadata]: Forbidden: must not specify anything other than name and generateName, but metadata is implicitly specified"]),
        (obj(metadata=obj(name={**STRING, "maxLength": 5})), []),
        (obj(l={"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["k"], "items": obj(k=STRING)}),
         ["S.properties[l].items.properties[k].default: Required value: this property is in x-kubernetes-list-map-keys, so it must have a default or be a required property"]),
        (obj(l={"type": "array", "x-kubernetes-list-type": "bag", "items": STRING}),
         ['S.properties[l].x-kubernetes-list-type: Unsupported value: "bag": supported values: "atomic", "set", "map"']),
        (obj(a={**STRING, "default": 5}),
         ['S.properties[a].default: Invalid value: "integer": S.properties[a].default in body must be of type string: "integer"']),
        (obj(a={**obj(b=STRING), "default": {"c": 1}}),
         ['S.properties[a].default: Invalid value: "{\\"c\\":1}": must not have unknown fields']),
        (obj(a={**obj(b={**STRING, "default": "x"}), "default": {}}), []),
        (obj(a={**STRING, "enum": ["a", "b"], "default": "c"}),
         ['S.properties[a].default: Unsupported value: "c": supported values: "a", "b"']),
    ],
)  # fmt: skip
def test_what_keeps_a_schema_from_being_structural(schema, expected):
    assert messages(check_schema(schema, "S")) == expected


def test_a_bad_pattern_is_named():
    (error,) = check_schema(obj(a={**STRING, "pattern": "(a"}), "S")
    assert str(error).startswith('S.properties[a].pattern: Invalid value: "(a": must be a valid regular expression')


# --- values


SCHEMA = Structural(obj(
    spec={
        **obj(
            a={**STRING, "maxLength": 3, "minLength": 1, "pattern": "^x"}, n={"type": "integer", "minimum": 1, "maximum": 5, "default": 2},
            e={**STRING, "enum": ["a", "b"]}, f={"type": "number", "exclusiveMinimum": True, "minimum": 0, "multipleOf": 0.5},
            l={"type": "array", "maxItems": 2, "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["k"],
               "items": {**obj(k=STRING, v={"type": "integer", "maximum": 5}), "required": ["k"]}},
            s={"type": "array", "x-kubernetes-list-type": "set", "items": STRING}, m={"type": "object", "additionalProperties": {"type": "integer"}},
            i={"x-kubernetes-int-or-string": True}, p={"type": "object", "x-kubernetes-preserve-unknown-fields": True, "properties": {"q": obj(r=STRING)}},
            emb={"type": "object", "x-kubernetes-embedded-resource": True, "x-kubernetes-preserve-unknown-fields": True},
            o={**obj(x=STRING, y=STRING), "oneOf": [{"required": ["x"]}, {"required": ["y"]}]}, nul={**STRING, "nullable": True},
            d={**STRING, "format": "date-time"}, nested=obj(deep={**STRING, "default": "z"}),
        ),
        "required": ["a"],
    },
))  # fmt: skip


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ({"a": "xyz"}, []),
        ({}, ["spec.a: Required value"]),
        ({"a": "xyzz"}, ["spec.a: Too long: may not be more than 3 bytes"]),
        ({"a": "b"}, ["spec.a: Invalid value: \"b\": spec.a in body should match '^x'"]),
        ({"a": ""}, ['spec.a: Invalid value: "": spec.a in body should be at least 1 chars long']),
        ({"a": "x", "n": "1"}, ['spec.n: Invalid value: "string": spec.n in body must be of type integer: "string"']),
        ({"a": "x", "n": 6}, ["spec.n: Invalid value: 6: spec.n in body should be less than or equal to 5"]),
        ({"a": "x", "n": 0}, ["spec.n: Invalid value: 0: spec.n in body should be greater than or equal to 1"]),
        ({"a": "x", "n": 2.0}, []), ({"a": "x", "n": True}, ['spec.n: Invalid value: "boolean": spec.n in body must be of type integer: "boolean"']),
        ({"a": "x", "f": 0}, ["spec.f: Invalid value: 0: spec.f in body should be greater than 0"]),
        ({"a": "x", "f": 0.7}, ["spec.f: Invalid value: 0.7: spec.f in body should be a multiple of 0.5"]),
        ({"a": "x", "e": "c"}, ['spec.e: Unsupported value: "c": supported values: "a", "b"']),
        ({"a": "x", "m": {"k": None}}, ['spec.m.k: Invalid value: "null": spec.m.k in body must be of type integer: "null"']),
        ({"a": "x", "nul": None}, []), ({"a": "x", "i": "5%"}, []), ({"a": "x", "i": 5}, []),
        ({"a": "x", "i": []}, ['spec.i: Invalid value: "array": spec.i in body must be of type integer,string: "array"']),
        ({"a": "x", "l": [{"k": "a"}, {"k": "b"}, {"k": "c"}]}, ["spec.l: Too many: 3: must have at most 2 items"]),
        ({"a": "x", "l": [{}]}, ["spec.l[0].k: Required value"]),
        ({"a": "x", "o": {"x": "", "y": ""}}, ['<nil>: Invalid value: "": "spec.o" must validate one and only one schema (oneOf). Found 2 valid alternatives']),
        ({"a": "x", "o": {}}, ['<nil>: Invalid value: "": "spec.o" must validate one and only one schema (oneOf). Found none valid', "spec.o.x: Required value"]),
        ({"a": "x", "d": "yesterday"}, ['spec.d: Invalid value: "yesterday": spec.d in body must be of type date-time: "yesterday"']),
        ("text", ['spec: Invalid value: "string": spec in body must be of type object: "string"']),
    ],
)  # fmt: skip
def test_values_are_checked_by_the_schema(spec, expected):
    assert messages(validate({"spec": spec}, SCHEMA)) == expected


def test_lists_that_are_sets_or_maps_hold_nothing_twice():
    value = whole(s=["a", "b", "a", "a"], l=[{"k": "a"}, {"k": "b"}, {"k": "a", "v": 1}], emb={"kind": "a b"})
    assert messages(validate_lists(value, SCHEMA))[:4] == [
        'spec.s[2]: Duplicate value: "a"',
        'spec.l[2]: Duplicate value: {"k":"a"}',
        "spec.emb.apiVersion: Required value: must not be empty",
        "spec.emb.kind: Invalid value: \"a b\": a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', regex used for validation is '[a-z]([-a-z0-9]*[a-z0-9])?')",
    ]


def test_what_has_not_changed_is_not_complained_about():
    old = {"spec": {"a": "too long", "n": 2, "l": [{"k": "a", "v": 9}, {"k": "b", "v": 1}]}}
    new = {"spec": {"a": "too long", "n": 3, "l": [{"k": "b", "v": 7}, {"k": "a", "v": 9}]}}
    assert messages(validate(new, SCHEMA, "", old)) == [
        "spec.l[0].v: Invalid value: 7: spec.l[0].v in body should be less than or equal to 5"
    ]
    assert validate(old, SCHEMA, "", copy.deepcopy(old)) == []


def test_unknown_fields_are_dropped_and_named():
    value = whole(a="x", foo=1, l=[{"k": "a", "z": 1}], p={"any": {"thing": 1}, "q": {"r": "", "bad": 1}}, m={"k": 1},
                  emb={"metadata": {"name": "x", "bad": 1, "labels": {"a": 5}}, "z": 1})  # fmt: skip
    value["top"] = 1
    assert prune(value, SCHEMA) == [
        "spec.foo", "spec.l[0].z", "spec.p.q.bad", "spec.emb.metadata.bad", "spec.emb.metadata.labels", "top",
    ]  # fmt: skip
    assert value == whole(
        a="x",
        l=[{"k": "a"}],
        p={"any": {"thing": 1}, "q": {"r": ""}},
        m={"k": 1},
        emb={"metadata": {"name": "x"}, "z": 1},
    )


def test_defaults_fill_what_is_absent_or_wrongly_null():
    value = whole(n=None, nested={}, nul=None, a=None, m={"k": None})
    prune_nulls(value, SCHEMA)
    apply_defaults(value, SCHEMA)
    assert value["spec"] == {"n": 2, "nested": {"deep": "z"}, "nul": None, "m": {}}
    empty = {"apiVersion": "g/v1", "kind": "W"}
    apply_defaults(empty, SCHEMA)
    assert "spec" not in empty


def test_patterns_cannot_hang():
    schema = Structural(obj(a={**STRING, "pattern": "^(a+)+$"}))
    assert validate({"a": "a" * 5000 + "b"}, schema) != []


@pytest.mark.parametrize(
    ("format", "good", "bad"),
    [
        ("ipv4", "1.2.3.4", "1.2.3"), ("ipv6", "::1", "1.2.3.4"), ("cidr", "10.0.0.0/8", "10.0.0.0"), ("date", "2020-02-29", "2021-02-29"),
        ("duration", "1h30m", "soon"), ("email", "a@b.c", "ab.c"), ("uuid", "6ba7b810-9dad-11d1-80b4-00c04fd430c8", "x"), ("uri", "http://a/b", "a b"),
        ("byte", "aGk=", "?"), ("hostname", "a.b", "-a"), ("mac", "00:11:22:33:44:55", "00:11"), ("isbn10", "0321751043", "0321751041"),
        ("creditcard", "4111 1111 1111 1111", "4111 1111 1111 1112"), ("hexcolor", "#fff", "#ff"), ("rgbcolor", "rgb(1, 2, 3)", "rgb(1)"),
    ],
)  # fmt: skip
def test_formats(format, good, bad):
    schema = Structural(obj(a={**STRING, "format": format}))
    assert validate({"a": good}, schema) == [] and validate({"a": bad}, schema) != []
    assert validate({"a": bad}, Structural(obj(a={**STRING, "format": "unheard-of"}))) == []


def test_a_schema_becomes_a_type_for_apply():
    type = type_of(SCHEMA)
    spec = type.fields["spec"].type
    assert type.fields["metadata"].type.name.endswith("ObjectMeta") and type.fields["kind"].type.kind == "string"
    assert (spec.fields["l"].type.list_type, spec.fields["l"].type.list_map_keys) == ("map", ("k",))
    assert spec.fields["s"].type.list_type == "set" and spec.fields["m"].type.kind == "map"
    assert spec.fields["i"].type.kind == "int-or-string" and spec.fields["p"].type.preserve_unknown
    assert "metadata" in spec.fields["emb"].type.fields
    assert type_of(None).preserve_unknown
    assert decode_plain({"metadata": {"name": "x"}, "spec": {"n": 1}}, type)[1] == []


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["a", "n", "l", "k", "s", "m", "i", "p", "q", "emb", "metadata", "o", "nested"]), inner, max_size=4),
    max_leaves=15,
)  # fmt: skip


@given(VALUES)
def test_any_value_is_pruned_defaulted_and_judged(spec):
    value = {"spec": spec}
    prune(value, SCHEMA)
    assert prune(copy.deepcopy(value), SCHEMA) == []
    prune_nulls(value, SCHEMA)
    apply_defaults(value, SCHEMA)
    validate(value, SCHEMA)
    validate_lists(value, SCHEMA)


def test_a_format_counts_in_alternatives_without_a_type_too():
    schema = {"type": "string", "oneOf": [{"format": "ipv4"}, {"format": "ipv6"}]}
    assert validate("10.0.0.1", Structural(schema), "a") == []
    assert any("oneOf" in str(error) for error in validate("foo", Structural(schema), "a"))
