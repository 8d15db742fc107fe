import copy

import pytest

from peavine.cli.threeway import three_way
from peavine.machinery.names import GVK
from peavine.machinery.patches.merge import apply_merge_patch
from peavine.machinery.patches.strategic import apply_strategic_patch
from peavine.machinery.schema import Schema

DEPLOYMENT = Schema.load().for_kind(GVK("apps", "v1", "Deployment"))


def deployment(containers, **spec):
    return {"spec": {"template": {"spec": {"containers": containers}}, **spec}}


def test_nothing_to_do_is_no_patch():
    wished = deployment([{"name": "a", "image": "x"}], replicas=2)
    live = deployment([{"name": "a", "image": "x", "resources": {}}], replicas=2, paused=False)
    assert three_way(wished, wished, live, DEPLOYMENT) == {}


def test_lists_of_objects_merge_by_key_and_others_fields_stay():
    before = deployment([{"name": "a", "image": "1", "tty": True}, {"name": "old"}])
    wished = deployment([{"name": "a", "image": "2"}, {"name": "new"}])
    live = deployment([{"name": "injected"}, {"name": "a", "image": "1", "tty": True, "stdin": True}, {"name": "old"}])
    patch = three_way(before, wished, live, DEPLOYMENT)
    result = apply_strategic_patch(copy.deepcopy(live), patch, DEPLOYMENT)
    found = {c["name"]: c for c in result["spec"]["template"]["spec"]["containers"]}
    assert found.keys() == {"injected", "a", "new"} and found["a"] == {"name": "a", "image": "2", "stdin": True}


def test_what_was_applied_and_is_gone_is_deleted():
    before, wished = {"data": {"a": "1", "b": "2"}}, {"data": {"a": "1"}}
    assert three_way(before, wished, {"data": {"a": "1", "b": "2", "c": "3"}}, None) == {"data": {"b": None}}


@pytest.mark.parametrize(
    "strategy", [{"type": "Recreate"}, {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 3}}]
)
def test_a_strategy_keeps_only_the_keys_it_names(strategy):
    live = deployment([], strategy={"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 1}})
    patch = three_way({}, deployment([], strategy=strategy), live, DEPLOYMENT)
    result = apply_strategic_patch(copy.deepcopy(live), patch, DEPLOYMENT)["spec"]["strategy"]
    assert set(result) == set(strategy)


def test_custom_resources_take_merge_patches():
    before, wished = {"spec": {"l": [1], "m": {"a": 1, "b": 2}}}, {"spec": {"l": [1, 2], "m": {"a": 1}}}
    live = {"spec": {"l": [1], "m": {"a": 1, "b": 2, "c": 3}}}
    patch = three_way(before, wished, live, None)
    assert apply_merge_patch(live, patch) == {"spec": {"l": [1, 2], "m": {"a": 1, "c": 3}}}
