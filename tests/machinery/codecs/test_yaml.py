# ruff: noqa: E501
import pytest
from hypothesis import given
from hypothesis import strategies as st

from peavine.machinery.codecs import yaml


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("yes", True), ("y", True), ("Off", False), ("0x1F", 31), ("010", 8), ("0o10", 8), ("0b11", 3), ("1_000", 1000),
        ("1e3", 1000), ("1.5", 1.5), (".5", 0.5), ("08", 8), ("1:20", "1:20"), ("2001-01-01", "2001-01-01"),
        ("~", None), ("null", None), ("!!str 1", "1"), ("'1'", "1"), ("!!binary aGk=", "hi"), ("-1", -1),
        ("18446744073709551616", 1.8446744073709552e19), ("a b", "a b"), ("1.2.3", "1.2.3"),
    ],
)  # fmt: skip
def test_scalars_are_those_of_yaml_1_1(text, value):
    found = yaml.decode(f"a: {text}")["a"]
    assert found == value and type(found) is type(value)


def test_keys_become_strings():
    assert yaml.decode("1: a\ntrue: b\n~: c") == {"1": "a", "true": "b", "null": "c"}
    with pytest.raises(yaml.YamlError, match="invalid map key"):
        yaml.decode("? [a]\n: b")


def test_merge_keys_and_aliases():
    assert yaml.decode("b: &b {x: 1, z: 2}\nd:\n  <<: *b\n  x: 3") == {"b": {"x": 1, "z": 2}, "d": {"x": 3, "z": 2}}


def test_duplicates_are_reported_and_the_last_wins():
    assert yaml.decode_with_duplicates("a: 1\nb: 2\na: 3") == (
        {"a": 3, "b": 2},
        ['line 3: key "a" already set in map'],
    )


@pytest.mark.parametrize(
    "text",
    ["a: b: c", "\t- x", "a: [", "a: &a {x: *a}", "a: .inf", "a: .nan", "---\na\n---\nb", "[" * 5000, "*x", "a: !!binary ?"],
)  # fmt: skip
def test_what_has_no_json_form_is_refused(text):
    with pytest.raises(yaml.YamlError):
        yaml.decode(text)


def test_alias_bombs_are_refused_quickly():
    lines = ["a: &a [x,x,x,x,x,x,x,x,x]"]
    lines += [f"{chr(98 + i)}: &{chr(98 + i)} [{','.join(['*' + chr(97 + i)] * 9)}]" for i in range(9)]
    with pytest.raises(yaml.YamlError, match="excessive aliasing"):
        yaml.decode("\n".join(lines))


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"]))
    | st.sampled_from(["y", "No", "1e3", "0x1", "1_0", "~", "", "- a", "a: b", "1:20", ".5", "null", "=", "<<", "08", "+1"]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(["a", "y", "1", "true", "x/y", "<<"]), inner, max_size=4),
    max_leaves=15,
)  # fmt: skip


@given(VALUES)
def test_values_read_back_exactly(value):
    assert yaml.decode(yaml.encode(value)) == value


def test_lists_stand_below_their_key():
    assert yaml.encode({"b": [{"x": "y"}], "a": {"m": "true"}}) == b"a:\n  m: 'true'\nb:\n- x: 'y'\n"
