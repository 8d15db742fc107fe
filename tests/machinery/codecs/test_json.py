# ruff: noqa: E501
import pytest
from hypothesis import given
from hypothesis import strategies as st

from peavine.machinery.codecs import json

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)  # fmt: skip


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "unexpected end of JSON input"), (b"{", "unexpected end of JSON input"),
        (b"[1,]", "invalid character ']' looking for beginning of value"),
        (b'{"a":1,}', "invalid character '}' looking for beginning of object key string"),
        (b'{"a" 1}', "invalid character '1' after object key"),
        (b'{"a":1 "b"}', "invalid character '\"' after object key:value pair"),
        (b"[1 2]", "invalid character '2' after array element"), (b"{} x", "invalid character 'x' after top-level value"),
        (b"nulx", "invalid character 'x' in literal null (expecting 'l')"),
        (b'"\\x"', "invalid character 'x' in string escape code"), (b"'a'", r"invalid character '\'' looking for beginning of value"),
    ],
)  # fmt: skip
def test_broken_documents_are_refused_in_gos_words(data, message):
    with pytest.raises(json.JsonError) as error:
        json.decode(data)
    assert str(error.value) == message


@pytest.mark.parametrize("depth", [301, 1500, 200_000])
def test_deep_nesting_is_refused(depth):
    with pytest.raises(json.JsonError, match="exceeded max depth"):
        json.decode(b"[" * depth + b"]" * depth)
    assert json.decode(b"[" * 300 + b"]" * 300)


@given(VALUES)
def test_values_read_back_exactly(value):
    assert json.decode(json.encode(value)) == value
    assert json.decode(json.encode(value, pretty=True)) == value


@given(st.binary(max_size=40))
def test_any_bytes_are_read_or_refused(data):
    try:
        json.decode(data)
    except json.JsonError:
        pass


def test_duplicate_keys_are_found_with_their_place():
    data = b'{"a":1,"b":{"c":1, "c" :2},"a":[{"x":1,"x":1}],"s":"\\":","t":"a:\\"b\\":"}'
    assert json.duplicate_keys(data, json.decode(data)) == ["b.c", "a", "a[0].x"]


@given(VALUES)
def test_documents_without_duplicates_have_none(value):
    data = json.encode(value)
    assert json.duplicate_keys(data, json.decode(data)) == []


def test_embedded_json_in_strings_is_not_counted():
    data = json.encode({"annotations": {"last": '{"a":{"b":"c\\\\"},"a":1}'}})
    assert json.duplicate_keys(data, json.decode(data)) == []
