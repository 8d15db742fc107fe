import copy

import pytest

from peavine.machinery.errors import ApiError
from peavine.machinery.names import GVK
from peavine.machinery.patches import apply_strategic_patch
from peavine.machinery.schema import Schema

POD = Schema.load("1.37").for_kind(GVK("", "v1", "Pod"))
DEPLOYMENT = Schema.load("1.37").for_kind(GVK("apps", "v1", "Deployment"))


def pod(*containers, **spec):
    return {"spec": {"containers": list(containers), **spec}}


def patched(doc, patch, type=POD):
    before, given = copy.deepcopy(doc), copy.deepcopy(patch)
    result = apply_strategic_patch(doc, patch, type)
    assert (doc, patch) == (before, given)
    return result


A, B, C = ({"name": n, "image": n + ":1"} for n in "abc")


def test_lists_with_a_merge_key_merge_by_it():
    result = patched(pod(A, B), pod({"name": "b", "image": "b:2"}, {"name": "c"}))
    assert result == pod(A, {"name": "b", "image": "b:2"}, {"name": "c"})


def test_lists_without_a_strategy_replace():
    assert patched(pod(A, B, tolerations=[{"key": "x"}]), {"spec": {"tolerations": [{"key": "y"}]}}) == pod(
        A, B, tolerations=[{"key": "y"}]
    )


def test_null_deletes_a_field_and_is_dropped_from_new_values():
    doc = {"metadata": {"labels": {"a": "1", "b": "2"}}}
    assert patched(doc, {"metadata": {"labels": {"a": None}, "annotations": {"x": None, "y": "z"}}}) == {
        "metadata": {"labels": {"b": "2"}, "annotations": {"y": "z"}}
    }


def test_patch_delete_removes_an_element():
    assert patched(pod(A, B), pod({"name": "a", "$patch": "delete"})) == pod(B)


def test_patch_replace_in_a_list_replaces_the_list():
    assert patched(pod(A, B), pod({"$patch": "replace"}, C)) == pod(C)


def test_patch_replace_and_delete_in_an_object():
    doc = {"metadata": {"labels": {"a": "1"}, "name": "x"}}
    assert patched(doc, {"metadata": {"labels": {"$patch": "replace", "b": "2"}}})["metadata"]["labels"] == {"b": "2"}
    assert patched(doc, {"metadata": {"labels": {"$patch": "delete"}}})["metadata"]["labels"] == {}


def test_set_element_order_orders_what_it_names_and_weaves_in_the_rest():
    order = {"$setElementOrder/containers": [{"name": "c"}, {"name": "a"}]}
    assert patched(pod(A, B, C), {"spec": order}) == pod(B, C, A)


def test_set_element_order_with_changes_as_kubectl_apply_sends_it():
    patch = {"spec": {"$setElementOrder/containers": [{"name": "a"}, {"name": "d"}], "containers": [{"name": "d"}]}}
    assert patched(pod(A, B), patch) == pod(A, {"name": "d"}, B)


def test_set_element_order_must_agree_with_the_changes():
    patch = {"spec": {"$setElementOrder/containers": [{"name": "a"}], "containers": [{"name": "b"}]}}
    with pytest.raises(ApiError) as caught:
        patched(pod(A, B), patch)
    assert caught.value.code == 400
    assert caught.value.message.startswith("The order in patch list:\n[map[name:b]]\n doesn't match $setElementOrder")


def test_lists_of_primitives_with_merge_are_sets_and_shrink_by_directive():
    doc = {"metadata": {"finalizers": ["a", "b"]}}
    assert patched(doc, {"metadata": {"finalizers": ["b", "c"]}})["metadata"]["finalizers"] == ["a", "b", "c"]
    gone = {"metadata": {"$deleteFromPrimitiveList/finalizers": ["a", "x"]}}
    assert patched(doc, gone)["metadata"]["finalizers"] == ["b"]
    both = {
        "metadata": {
            "$deleteFromPrimitiveList/finalizers": ["a"],
            "$setElementOrder/finalizers": ["c", "b"],
            "finalizers": ["c"],
        }
    }
    assert patched(doc, both)["metadata"]["finalizers"] == ["c", "b"]


def test_retain_keys_clears_what_it_does_not_name():
    doc = {"spec": {"strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1}}}}
    patch = {"spec": {"strategy": {"$retainKeys": ["type"], "type": "Recreate"}}}
    assert patched(doc, patch, DEPLOYMENT) == {"spec": {"strategy": {"type": "Recreate"}}}
    with pytest.raises(ApiError) as caught:
        patched(doc, {"spec": {"strategy": {"$retainKeys": ["x"], "type": "Recreate"}}}, DEPLOYMENT)
    assert (caught.value.code, caught.value.message) == (400, "invalid patch format of retainKeys")


def test_an_element_without_its_merge_key_is_refused_in_upstreams_words():
    with pytest.raises(ApiError) as caught:
        patched(pod(A), pod({"image": "x"}))
    assert caught.value.message == "map: map[image:x] does not contain declared merge key: name"


def test_an_unknown_directive_is_refused():
    with pytest.raises(ApiError) as caught:
        patched(pod(A), {"spec": {"$patch": "explode"}})
    assert caught.value.message == "unknown patch type: explode in map: map[$patch:explode]"


def test_service_ports_merge_by_port_number():
    service = Schema.load("1.37").for_kind(GVK("", "v1", "Service"))
    doc = {"spec": {"ports": [{"port": 80, "name": "a"}, {"port": 443}]}}
    result = patched(doc, {"spec": {"ports": [{"port": 80, "nodePort": 30000}]}}, service)
    assert result == {"spec": {"ports": [{"port": 80, "name": "a", "nodePort": 30000}, {"port": 443}]}}
