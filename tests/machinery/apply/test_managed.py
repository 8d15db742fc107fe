import copy
import json

import pytest

from peavine.machinery.apply import Tracking, apply, keep_times, manager_name, track_update
from peavine.machinery.errors import ApiError
from peavine.machinery.names import GVK
from peavine.machinery.schema import Schema

SCHEMA = Schema.load("1.37")
DEPLOYMENT = GVK("apps", "v1", "Deployment")
TRACKING = Tracking(DEPLOYMENT, SCHEMA.for_kind(DEPLOYMENT), reset_fields=(("status",),))
STATUS = Tracking(DEPLOYMENT, SCHEMA.for_kind(DEPLOYMENT), "status", reset_fields=(("spec",),))
T1, T2, T3 = (f"2026-01-01T00:00:0{n}Z" for n in (1, 2, 3))


def deployment(**spec):
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "web", "namespace": "default"},
        "spec": spec,
    }


def containers(*items):
    return {"template": {"spec": {"containers": list(items)}}}


def created(obj, manager="kubectl-create"):
    stored = track_update(TRACKING, None, obj, manager, T1)
    stored["metadata"]["uid"] = "u"
    return stored


def entries(obj):
    return {
        (e["manager"], e["operation"], e.get("subresource", "")): e for e in obj["metadata"].get("managedFields", [])
    }


def applied(live, config, manager="one", force=False, now=T2, tracking=TRACKING):
    before = copy.deepcopy((live, config))
    result = apply(tracking, live, config, manager, force, now)
    assert (live, config) == before
    return result


def test_a_create_is_tracked_without_what_the_server_sets():
    obj = created(deployment(replicas=3))
    (entry,) = obj["metadata"]["managedFields"]
    assert entry == {
        "manager": "kubectl-create",
        "operation": "Update",
        "apiVersion": "apps/v1",
        "time": T1,
        "fieldsType": "FieldsV1",
        "fieldsV1": {"f:spec": {"f:replicas": {}}},
    }


def test_an_update_takes_what_it_changes_and_leaves_the_rest():
    live = created(deployment(replicas=3, paused=True))
    new = copy.deepcopy(live)
    new["spec"]["replicas"] = 5
    after = entries(track_update(TRACKING, live, new, "hpa", T2))
    assert after["hpa", "Update", ""]["fieldsV1"] == {"f:spec": {"f:replicas": {}}}
    assert after["kubectl-create", "Update", ""]["fieldsV1"] == {"f:spec": {"f:paused": {}}}
    assert after["kubectl-create", "Update", ""]["time"] == T1


def test_an_update_that_changes_nothing_keeps_entries_and_times():
    live = created(deployment(replicas=3))
    assert track_update(TRACKING, live, copy.deepcopy(live), "someone", T2) == live


def test_removed_fields_belong_to_nobody():
    live = created(deployment(replicas=3, paused=True))
    new = copy.deepcopy(live)
    del new["spec"]["paused"]
    after = entries(track_update(TRACKING, live, new, "other", T2))
    assert list(after) == [("kubectl-create", "Update", "")]
    assert after["kubectl-create", "Update", ""]["fieldsV1"] == {"f:spec": {"f:replicas": {}}}


def test_status_through_the_status_endpoint_has_its_own_entry_and_spec_none_of_it():
    live = created({**deployment(replicas=3), "status": {}})
    new = {**copy.deepcopy(live), "status": {"replicas": 3}}
    new["spec"]["replicas"] = 9
    after = entries(track_update(STATUS, live, new, "controller", T2))
    assert after["controller", "Update", "status"]["fieldsV1"] == {"f:status": {"f:replicas": {}}}
    assert after["kubectl-create", "Update", ""]["fieldsV1"] == {"f:spec": {"f:replicas": {}}}
    ignored = entries(track_update(TRACKING, live, {**live, "status": {"replicas": 1}}, "x", T2))
    assert ("x", "Update", "") not in ignored


@pytest.mark.parametrize("reset", [[], [{}]])
def test_clearing_managed_fields_opts_out_until_the_next_apply(reset):
    live = created(deployment(replicas=3))
    new = copy.deepcopy(live)
    new["metadata"]["managedFields"] = reset
    forgotten = track_update(TRACKING, live, new, "x", T2)
    assert "managedFields" not in forgotten["metadata"]
    changed = copy.deepcopy(forgotten)
    changed["spec"]["replicas"] = 4
    assert "managedFields" not in track_update(TRACKING, forgotten, changed, "x", T2)["metadata"]
    again = applied(changed, deployment(paused=True))
    assert set(entries(again)) == {("one", "Apply", ""), ("before-first-apply", "Update", "")}


def test_unreadable_managed_fields_in_an_update_mean_those_of_live():
    live = created(deployment(replicas=3))
    new = copy.deepcopy(live)
    new["metadata"]["managedFields"] = [{"operation": "Dance"}]
    assert track_update(TRACKING, live, new, "x", T2)["metadata"]["managedFields"] == live["metadata"]["managedFields"]


def test_an_apply_creates():
    obj = applied(None, deployment(replicas=2, **containers({"name": "c", "image": "i"})))
    assert obj["spec"]["replicas"] == 2
    assert entries(obj)["one", "Apply", ""]["fieldsV1"] == {
        "f:spec": {
            "f:replicas": {},
            "f:template": {
                "f:spec": {"f:containers": {'k:{"name":"c"}': {".": {}, "f:image": {}, "f:name": {}}}},
            },
        }
    }


def test_a_conflict_is_told_in_upstreams_words():
    live = created(deployment(replicas=3), "kubectl-client-side-apply")
    with pytest.raises(ApiError) as caught:
        applied(live, deployment(replicas=5))
    error = caught.value
    assert (error.code, error.reason) == (409, "Conflict")
    assert error.message == (
        'Apply failed with 1 conflict: conflict with "kubectl-client-side-apply" using apps/v1: .spec.replicas'
    )
    assert error.details["causes"] == [
        {
            "reason": "FieldManagerConflict",
            "message": 'conflict with "kubectl-client-side-apply" using apps/v1',
            "field": ".spec.replicas",
        }
    ]


def test_several_conflicts_are_listed_by_manager():
    live = applied(created(deployment(replicas=3), "a"), deployment(paused=True), "b")
    with pytest.raises(ApiError) as caught:
        applied(live, deployment(replicas=5, paused=False), "c")
    assert caught.value.message == (
        'Apply failed with 2 conflicts: conflicts with "a" using apps/v1:\n- .spec.replicas\n'
        'conflicts with "b":\n- .spec.paused'
    )


def test_force_takes_the_fields_over():
    live = created(deployment(replicas=3, paused=True), "a")
    after = entries(applied(live, deployment(replicas=5), force=True))
    assert after["one", "Apply", ""]["fieldsV1"] == {"f:spec": {"f:replicas": {}}}
    assert after["a", "Update", ""]["fieldsV1"] == {"f:spec": {"f:paused": {}}}


def test_equal_values_are_shared_without_conflict():
    live = created(deployment(replicas=3), "a")
    after = entries(applied(live, deployment(replicas=3)))
    assert after["one", "Apply", ""]["fieldsV1"] == after["a", "Update", ""]["fieldsV1"]


def test_a_field_no_longer_applied_goes_unless_someone_shares_it():
    live = applied(None, deployment(replicas=3, paused=True, minReadySeconds=1))
    live["metadata"]["uid"] = "u"
    live = applied(live, deployment(minReadySeconds=1), "two")
    after = applied(live, deployment(replicas=3))
    assert "paused" not in after["spec"]
    assert after["spec"]["minReadySeconds"] == 1
    assert entries(after)["one", "Apply", ""]["fieldsV1"] == {"f:spec": {"f:replicas": {}}}


def test_removing_an_item_of_a_keyed_list_removes_it_but_not_the_items_of_others():
    live = applied(None, deployment(**containers({"name": "a", "image": "1"}, {"name": "b", "image": "1"})))
    live["metadata"]["uid"] = "u"
    live = applied(live, deployment(**containers({"name": "s", "image": "1"})), "sidecar")
    after = applied(live, deployment(**containers({"name": "b", "image": "2"})))
    found = after["spec"]["template"]["spec"]["containers"]
    assert found == [{"name": "b", "image": "2"}, {"name": "s", "image": "1"}]


def test_fields_that_others_set_inside_an_item_keep_the_item():
    live = applied(None, deployment(**containers({"name": "a", "image": "1"})))
    live["metadata"]["uid"] = "u"
    new = copy.deepcopy(live)
    new["spec"]["template"]["spec"]["containers"][0]["tty"] = True
    live = track_update(TRACKING, live, new, "edit", T2)
    after = applied(live, deployment(**containers({"name": "z", "image": "1"})))
    names = [c["name"] for c in after["spec"]["template"]["spec"]["containers"] if "name" in c]
    assert "z" in names


def test_a_keys_default_makes_items_the_same():
    gvk = GVK("", "v1", "Service")
    tracking = Tracking(gvk, SCHEMA.for_kind(gvk), reset_fields=(("status",),))
    head = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "s", "uid": "u"}}
    port = {"port": 80, "protocol": "TCP", "targetPort": 80}
    live = track_update(tracking, None, {**head, "spec": {"ports": [port]}}, "a", T1)
    config = {**head, "metadata": {"name": "s"}, "spec": {"ports": [{"port": 80, "name": "http"}]}}
    after = apply(tracking, live, config, "one", False, T2)
    assert after["spec"]["ports"] == [{**port, "name": "http"}]
    ports = entries(after)["one", "Apply", ""]["fieldsV1"]["f:spec"]["f:ports"]
    assert ports == {'k:{"port":80,"protocol":"TCP"}': {".": {}, "f:name": {}, "f:port": {}}}


def test_sets_merge_by_value():
    gvk = GVK("", "v1", "ConfigMap")
    tracking = Tracking(gvk, SCHEMA.for_kind(gvk))
    head = {"apiVersion": "v1", "kind": "ConfigMap"}
    live = track_update(tracking, None, {**head, "metadata": {"name": "c", "finalizers": ["x/a"]}}, "a", T1)
    after = apply(tracking, live, {**head, "metadata": {"name": "c", "finalizers": ["x/b"]}}, "one", False, T2)
    assert sorted(after["metadata"]["finalizers"]) == ["x/a", "x/b"]
    gone = apply(tracking, after, {**head, "metadata": {"name": "c"}}, "one", False, T3)
    assert gone["metadata"]["finalizers"] == ["x/a"]


def test_applying_the_same_again_changes_nothing_not_even_a_time():
    live = applied(None, deployment(replicas=3))
    live["metadata"]["uid"] = "u"
    again = applied(live, deployment(replicas=3), now=T3)
    assert keep_times(live, again) == live
    assert entries(again) == entries(live)


def test_a_write_that_only_moves_times_is_no_write():
    live = created(deployment(replicas=3))
    new = copy.deepcopy(live)
    new["metadata"]["managedFields"][0]["time"] = T3
    assert keep_times(live, new) is live
    new["spec"]["replicas"] = 4
    assert keep_times(live, new) is new


def test_what_the_type_cannot_hold_is_refused_with_its_path():
    with pytest.raises(ApiError) as caught:
        applied(None, deployment(replica=3))
    assert caught.value.code == 400
    assert caught.value.message == (
        "failed to create typed patch object (default/web; apps/v1, Kind=Deployment): "
        ".spec.replica: field not declared in schema"
    )
    with pytest.raises(ApiError) as caught:
        applied(None, deployment(**containers({"name": "a"}, {"name": "a"})))
    assert caught.value.message.endswith('.spec.template.spec.containers: duplicate entries for key [name="a"]')
    with pytest.raises(ApiError) as caught:
        applied(None, deployment(replicas="3"))
    assert caught.value.message.endswith(".spec.replicas: expected numeric (int or float), got string")


def test_a_configuration_of_another_type_or_with_managed_fields_is_400():
    with pytest.raises(ApiError) as caught:
        applied(None, {**deployment(), "apiVersion": "v1"})
    assert (caught.value.code, caught.value.message) == (400, "invalid object type: /v1, Kind=Deployment")
    config = deployment()
    config["metadata"]["managedFields"] = []
    with pytest.raises(ApiError) as caught:
        applied(None, config)
    assert (caught.value.code, caught.value.message) == (400, "metadata.managedFields must be nil")


def test_the_oldest_updaters_become_ancient_changes():
    live = created({**deployment(), "metadata": {"name": "web", "labels": {"l0": ""}}}, "m0")
    for n in range(1, 14):
        new = copy.deepcopy(live)
        new["metadata"]["labels"][f"l{n}"] = ""
        live = track_update(TRACKING, live, new, f"m{n}", f"2026-01-01T00:00:{n + 10}Z")
    found = entries(live)
    assert len(found) == 10
    ancient = found["ancient-changes", "Update", ""]["fieldsV1"]["f:metadata"]["f:labels"]
    assert {"f:l0", "f:l1", "f:l4"} <= set(ancient)
    assert ("m13", "Update", "") in found


def test_kubectl_takes_over_what_it_applied_on_the_clients_side():
    config = deployment(replicas=3)
    text = json.dumps(config)
    live = created(
        {
            **config,
            "metadata": {
                **config["metadata"],
                "annotations": {"kubectl.kubernetes.io/last-applied-configuration": text},
            },
        },
        "kubectl-client-side-apply",
    )
    after = applied(live, deployment(replicas=5), "kubectl")
    assert after["spec"]["replicas"] == 5
    annotation = after["metadata"]["annotations"]["kubectl.kubernetes.io/last-applied-configuration"]
    assert json.loads(annotation)["spec"] == {"replicas": 5}
    with pytest.raises(ApiError):
        applied(live, deployment(replicas=5), "helm")


def test_the_manager_is_named_or_comes_from_the_user_agent():
    assert manager_name("me", "kubectl/v1.30") == "me"
    assert manager_name("", "kubectl/v1.30 (linux/amd64)") == "kubectl"
    assert len(manager_name("", "x" * 500)) == 128
