import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from peavine.machinery.apply import fieldset as fs

_elements = st.sampled_from(["f:a", "f:b", 'k:{"name":"x"}', 'v:"y"', "i:0"])


def _normal(node, root):
    """Generated trees in the one form that sets have: a lone `.` is written as an empty node."""
    children = {e: _normal(n, False) for e, n in node.items() if e != "."}
    if root or not children:
        return children
    return {".": {}, **children} if "." in node else children


sets = st.recursive(
    st.just({}), lambda inner: st.dictionaries(st.one_of(_elements, st.just(".")), inner, max_size=4), max_leaves=12
).map(lambda tree: _normal(tree, True))


def members(fields, prefix=()):
    found = set()
    for element, node in fields.items():
        if element != ".":
            if fs.is_member(node):
                found.add((*prefix, element))
            found |= members(node, (*prefix, element))
    return found


@settings(deadline=None, derandomize=True, database=None)
@given(sets, sets)
def test_operations_are_those_of_sets_of_paths(a, b):
    assert members(fs.union(a, b)) == members(a) | members(b)
    assert members(fs.difference(a, b)) == members(a) - members(b)
    assert members(fs.intersection(a, b)) == members(a) & members(b)
    beyond = {p for p in members(a) if not any(p[: len(q)] == q for q in members(b))}
    assert members(fs.recursive_difference(a, b)) == beyond


@settings(deadline=None, derandomize=True, database=None)
@given(sets, sets)
def test_results_have_one_form_so_that_equal_sets_are_equal(a, b):
    for result in (fs.union(a, b), fs.difference(a, b), fs.intersection(a, b), fs.decode(a)):
        assert result == _normal(result, True)
    assert fs.difference(a, a) == {}
    assert fs.sorted_set(a) == a


def test_paths_are_shown_as_messages_show_them():
    fields = {"f:spec": {"f:ports": {'k:{"port":80,"protocol":"TCP"}': {".": {}, "f:name": {}}}, "f:replicas": {}}}
    assert list(fs.paths(fields)) == [
        ".spec.replicas",
        '.spec.ports[port=80,protocol="TCP"]',
        '.spec.ports[port=80,protocol="TCP"].name',
    ]
    assert list(fs.paths({"f:finalizers": {'v:"a/b"': {}, "i:3": {}}})) == ['.finalizers[="a/b"]', ".finalizers[3]"]


def test_decoding_puts_elements_into_their_one_form():
    assert fs.decode({'k:{"b": 1, "a":"x"}': {}}) == {'k:{"a":"x","b":1}': {}}


@pytest.mark.parametrize("wrong", [[], {"x:y": {}}, {"f:a": 1}, {"k:[]": {}}, {'i:"x"': {}}, {"k:{": {}}])
def test_what_is_no_set_is_refused(wrong):
    with pytest.raises(ValueError):
        fs.decode(wrong)
