import copy

import pytest

from peavine.machinery.errors import ApiError
from peavine.machinery.patches import apply_json_patch
from peavine.machinery.patches import json as json_patch


@pytest.mark.parametrize(
    ("doc", "ops", "expected"),
    [
        ({"a": 1}, [{"op": "add", "path": "/b", "value": 2}], {"a": 1, "b": 2}),
        ({"a": [1, 3]}, [{"op": "add", "path": "/a/1", "value": 2}], {"a": [1, 2, 3]}),
        ({"a": [1]}, [{"op": "add", "path": "/a/-", "value": 2}], {"a": [1, 2]}),
        ({"a": [1, 2]}, [{"op": "replace", "path": "/a/-1", "value": 9}], {"a": [1, 9]}),
        ({"a": {"x/y": {"m~n": 1}}}, [{"op": "remove", "path": "/a/x~1y/m~0n"}], {"a": {"x/y": {}}}),
        ({"a": {"b": 1}}, [{"op": "move", "from": "/a/b", "path": "/c"}], {"a": {}, "c": 1}),
        ({"a": {"b": [1]}}, [{"op": "copy", "from": "/a", "path": "/c"}], {"a": {"b": [1]}, "c": {"b": [1]}}),
        ({"a": 1}, [{"op": "test", "path": "/a", "value": 1}], {"a": 1}),
        ({"a": 1}, [{"op": "test", "path": "/missing", "value": None}], {"a": 1}),
        ({"a": 1}, [], {"a": 1}),
        ({}, [{"op": "add", "path": "/", "value": 1}], {"": 1}),
    ],
)
def test_an_operation_does_what_the_rfc_says(doc, ops, expected):
    before = copy.deepcopy(doc)
    assert apply_json_patch(doc, ops) == expected
    assert doc == before


@pytest.mark.parametrize(
    "ops",
    [
        [{"op": "test", "path": "/a/0", "value": True}],
        [{"op": "test", "path": "/a", "value": None}],
        [{"op": "remove", "path": "/b"}],
        [{"op": "remove", "path": "/a/1"}],
        [{"op": "replace", "path": "/b", "value": 1}],
        [{"op": "add", "path": "/b/c", "value": 1}],
        [{"op": "add", "path": "/a/2", "value": 1}],
        [{"op": "add", "path": "/a/0x", "value": 1}],
        [{"op": "add", "path": "", "value": 1}],
        [{"op": "add", "value": 1}],
        [{"op": "copy", "from": "/b", "path": "/c"}],
        [{"op": "dance", "path": "/a"}],
        [{}],
    ],
)
def test_what_does_not_apply_is_422_without_a_reason_why(ops):
    with pytest.raises(ApiError) as caught:
        apply_json_patch({"a": [1]}, ops)
    assert (caught.value.code, caught.value.reason) == (422, "Invalid")
    assert caught.value.message == "the server rejected our request due to an error in our request"


def test_later_operations_see_earlier_ones_and_copies_are_independent():
    ops = [
        {"op": "copy", "from": "/a", "path": "/b"},
        {"op": "add", "path": "/b/x/-", "value": 2},
        {"op": "add", "path": "/a/x/-", "value": 3},
    ]
    assert apply_json_patch({"a": {"x": [1]}}, ops) == {"a": {"x": [1, 3]}, "b": {"x": [1, 2]}}


def test_a_value_in_the_patch_is_not_written_to():
    value = {"x": []}
    ops = [{"op": "add", "path": "/a", "value": value}, {"op": "add", "path": "/a/x/-", "value": 1}]
    assert apply_json_patch({}, ops) == {"a": {"x": [1]}}
    assert value == {"x": []}


def test_too_many_operations_are_refused_before_any_is_tried():
    with pytest.raises(ApiError) as caught:
        apply_json_patch({}, [{"op": "bad"}] * (json_patch.operations_max + 1))
    assert caught.value.code == 413
    assert "The allowed maximum operations in a JSON patch is 10000, got 10001" in caught.value.message


def test_copies_cannot_grow_a_document_without_bound():
    ops = [{"op": "copy", "from": "/a", "path": "/a/" + str(i)} for i in range(40)]
    with pytest.raises(ApiError) as caught:
        apply_json_patch({"a": {"x": "y" * 1000}}, ops)
    assert caught.value.code == 422


def test_a_patch_that_is_no_list_is_400():
    with pytest.raises(ApiError) as caught:
        apply_json_patch({}, {"op": "add"})
    assert caught.value.code == 400
    assert "cannot unmarshal object into Go value of type []handlers.jsonPatchOp" in caught.value.message
