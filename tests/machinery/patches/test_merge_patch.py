import copy

import pytest

from peavine.machinery.errors import ApiError
from peavine.machinery.patches import apply_merge_patch


@pytest.mark.parametrize(
    ("doc", "patch", "expected"),
    [
        ({"a": "b"}, {"a": "c"}, {"a": "c"}),
        ({"a": "b"}, {"b": "c"}, {"a": "b", "b": "c"}),
        ({"a": "b", "b": "c"}, {"a": None}, {"b": "c"}),
        ({"a": ["b"]}, {"a": "c"}, {"a": "c"}),
        ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}),
        ({"a": [{"b": "c"}]}, {"a": [1]}, {"a": [1]}),
        ({}, {"a": {"bb": {"ccc": None}}}, {"a": {"bb": {}}}),
        ({}, {"a": [{"b": None, "c": 1}]}, {"a": [{"c": 1}]}),
    ],
)
def test_the_examples_of_the_rfc_hold(doc, patch, expected):
    before, given = copy.deepcopy(doc), copy.deepcopy(patch)
    assert apply_merge_patch(doc, patch) == expected
    assert (doc, patch) == (before, given)


@pytest.mark.parametrize("patch", [[1], "x", 1, None])
def test_a_patch_that_is_no_object_is_400(patch):
    with pytest.raises(ApiError) as caught:
        apply_merge_patch({}, patch)
    assert caught.value.code == 400
