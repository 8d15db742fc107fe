"""What an update may change, what it keeps, and what it counts."""

import copy

import pytest

from peavine.api import strict_ip
from peavine.api.catalogue import CATALOGUE
from peavine.api.kind import Kind
from peavine.machinery.decode import decode
from peavine.machinery.schema import Schema

META = {"name": "x", "namespace": "ns", "uid": "u", "resourceVersion": "5", "creationTimestamp": "2026-01-01T00:00:00Z"}
CONTAINER = {"name": "c", "image": "busybox:1"}
TEMPLATE = {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [CONTAINER]}}
SELECTOR = {"matchLabels": {"app": "web"}}


def kind(api_version: str, plural: str) -> Kind:
    group, _, version = api_version.rpartition("/")
    found = CATALOGUE.resource(group, version, plural)
    assert found is not None
    return found


def stored(kind_: Kind, body: dict) -> dict:
    raw = {"apiVersion": kind_.api_version, "kind": kind_.kind, "metadata": dict(META), **copy.deepcopy(body)}
    obj, _ = decode(raw, Schema.load().definition(kind_.definition), validation="Ignore")
    kind_.default(obj)
    obj = kind_.to_storage(obj)
    kind_.hub.prepare_create(obj)
    obj["metadata"]["uid"] = "u"
    assert [str(e) for e in kind_.hub.validate_create(obj)] == []
    kind_.hub.canonicalize(obj)
    return obj


def updated(kind_: Kind, old: dict, change, subresource: str = "") -> tuple[dict, list[str]]:
    new = copy.deepcopy(old)
    change(new)
    kind_.default(new)
    kind_.hub.prepare_update(new, old, subresource)
    return new, [str(e) for e in kind_.hub.validate_update(new, old, subresource)]


PODS = kind("v1", "pods")


def test_a_pods_image_may_change_and_its_command_may_not() -> None:
    pod = stored(PODS, {"spec": {"containers": [CONTAINER]}})
    new, errors = updated(PODS, pod, lambda p: p["spec"]["containers"][0].update(image="busybox:2"))
    assert errors == [] and new["metadata"]["generation"] == 2
    _, errors = updated(PODS, pod, lambda p: p["spec"]["containers"][0].update(command=["sh"]))
    assert len(errors) == 1 and errors[0].startswith("spec: Forbidden: pod updates may not change fields other than")
    _, errors = updated(PODS, pod, lambda p: p["spec"]["containers"].append({**CONTAINER, "name": "d"}))
    assert errors == ["spec.containers: Forbidden: pod updates may not add or remove containers"]


def test_a_status_update_changes_nothing_of_the_spec() -> None:
    pod = stored(PODS, {"spec": {"containers": [CONTAINER]}})

    def change(p: dict) -> None:
        p["spec"]["containers"][0]["image"] = "other"
        p["status"]["phase"] = "Running"

    new, errors = updated(PODS, pod, change, "status")
    assert errors == [] and new["spec"] == pod["spec"] and new["status"]["phase"] == "Running"
    assert new["metadata"]["generation"] == 1


def test_an_update_of_the_spec_changes_nothing_of_the_status() -> None:
    pod = stored(PODS, {"spec": {"containers": [CONTAINER]}})
    new, _ = updated(PODS, pod, lambda p: p["status"].update(phase="Failed"))
    assert new["status"] == pod["status"]


def test_resizing_changes_resources_counts_the_generation_and_keeps_the_quality_of_service() -> None:
    resources = {"requests": {"cpu": "100m"}, "limits": {"cpu": "200m"}}
    pod = stored(PODS, {"spec": {"containers": [{**CONTAINER, "resources": resources}]}})
    wanted = {"requests": {"cpu": "150m"}, "limits": {"cpu": "200m"}}
    new, errors = updated(PODS, pod, lambda p: p["spec"]["containers"][0].update(resources=wanted), "resize")
    assert errors == [] and new["metadata"]["generation"] == 2
    bare = stored(PODS, {"spec": {"containers": [CONTAINER]}})
    _, errors = updated(PODS, bare, lambda p: p["spec"]["containers"][0].update(resources=wanted), "resize")
    assert any("Pod QOS Class may not change as a result of resizing" in e for e in errors)


def test_ephemeral_containers_are_added_and_never_changed() -> None:
    pod = stored(PODS, {"spec": {"containers": [CONTAINER]}})
    debugger = {**CONTAINER, "name": "debug"}

    def add(p: dict) -> None:
        p["spec"]["ephemeralContainers"] = [debugger]

    new, errors = updated(PODS, pod, add, "ephemeralcontainers")
    assert errors == [] and new["spec"]["ephemeralContainers"][0]["name"] == "debug"
    _, errors = updated(PODS, new, lambda p: p["spec"].pop("ephemeralContainers"), "ephemeralcontainers")
    assert errors and "may not be removed" in errors[0]


def test_gates_are_only_removed_and_hold_a_pod_back() -> None:
    gates = [{"name": "example.com/a"}]
    pod = stored(PODS, {"spec": {"containers": [CONTAINER], "schedulingGates": gates}})
    assert pod["status"]["conditions"][0]["reason"] == "SchedulingGated"
    _, errors = updated(PODS, pod, lambda p: p["spec"].update(schedulingGates=[]))
    assert errors == []
    _, errors = updated(PODS, pod, lambda p: p["spec"]["schedulingGates"].append({"name": "example.com/b"}))
    assert "only deletion is allowed" in errors[0]


def test_a_deployment_counts_changes_of_spec_and_annotations_but_not_of_labels() -> None:
    deployments = kind("apps/v1", "deployments")
    old = stored(deployments, {"spec": {"selector": SELECTOR, "template": TEMPLATE}})
    for change, generation in (
        (lambda d: d["metadata"].update(labels={"a": "b"}), 1),
        (lambda d: d["metadata"].update(annotations={"a": "b"}), 2),
        (lambda d: d["spec"].update(replicas=3), 2),
        (lambda d: d["metadata"].update(generation=99), 1),
    ):
        new, errors = updated(deployments, old, change)
        assert errors == [] and new["metadata"]["generation"] == generation
    _, errors = updated(deployments, old, lambda d: d["spec"]["selector"]["matchLabels"].update(x="y"))
    assert any(e.endswith("field is immutable") for e in errors)


def test_a_service_keeps_what_was_allocated_and_drops_it_with_its_type() -> None:
    services = kind("v1", "services")
    body = {"spec": {"type": "NodePort", "ports": [{"port": 80, "nodePort": 30080}], "clusterIP": "10.0.0.5"}}
    old = stored(services, body)

    def bare(s: dict) -> None:
        s["spec"] = {"type": "NodePort", "ports": [{"port": 80}]}

    new, errors = updated(services, old, bare)
    assert errors == [] and new["spec"]["clusterIP"] == "10.0.0.5" and new["spec"]["ports"][0]["nodePort"] == 30080
    new, errors = updated(services, old, lambda s: s["spec"].update(type="ClusterIP"))
    assert errors == [] and "nodePort" not in new["spec"]["ports"][0]
    assert "externalTrafficPolicy" not in new["spec"]
    _, errors = updated(services, old, lambda s: s["spec"].update(clusterIP="10.0.0.6"))
    assert errors and "may not change once set" in errors[0]


def test_sealed_configuration_cannot_be_changed_or_unsealed() -> None:
    maps = kind("v1", "configmaps")
    old = stored(maps, {"data": {"a": "b"}, "immutable": True})
    _, errors = updated(maps, old, lambda m: m["data"].update(a="c"))
    assert errors == ["data: Forbidden: field is immutable when `immutable` is set"]
    _, errors = updated(maps, old, lambda m: m.update(immutable=False))
    assert errors == ["immutable: Forbidden: field is immutable when `immutable` is set"]


@pytest.mark.parametrize("field", ["serviceName", "podManagementPolicy", "selector"])
def test_a_stateful_set_changes_only_what_it_may(field: str) -> None:
    sets = kind("apps/v1", "statefulsets")
    old = stored(sets, {"spec": {"selector": SELECTOR, "template": TEMPLATE, "serviceName": "s"}})
    values = {
        "serviceName": "t",
        "podManagementPolicy": "Parallel",
        "selector": {"matchLabels": {"app": "web", "b": "c"}},
    }

    def change(s: dict) -> None:
        s["spec"][field] = values[field]
        s["spec"]["template"]["metadata"]["labels"]["b"] = "c"

    _, errors = updated(sets, old, change)
    assert errors and errors[0].startswith("spec: Forbidden: updates to statefulset spec for fields other than")
    assert updated(sets, old, lambda s: s["spec"].update(replicas=5))[1] == []


def test_an_autoscaler_survives_the_way_through_version_1() -> None:
    first, second = (
        kind("autoscaling/v1", "horizontalpodautoscalers"),
        kind("autoscaling/v2", "horizontalpodautoscalers"),
    )
    target = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"}
    pods = {"metric": {"name": "rps"}, "target": {"type": "AverageValue", "averageValue": "10"}}
    behavior = {"scaleDown": {"policies": [{"type": "Pods", "value": 1, "periodSeconds": 60}]}}
    metrics = [
        {"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 70}}},
        {"type": "Pods", "pods": pods},
    ]
    spec = {"scaleTargetRef": target, "maxReplicas": 4, "metrics": metrics, "behavior": behavior}
    obj = stored(second, {"spec": spec})
    shown = first.from_storage(copy.deepcopy(obj))
    assert shown["spec"]["targetCPUUtilizationPercentage"] == 70 and "metrics" not in shown["spec"]
    back = first.to_storage(copy.deepcopy(shown))
    assert back["spec"] == obj["spec"]
    simple = stored(first, {"spec": {"scaleTargetRef": target, "maxReplicas": 4, "targetCPUUtilizationPercentage": 55}})
    assert simple["spec"]["metrics"][0]["resource"]["target"]["averageUtilization"] == 55


def test_an_event_has_two_faces() -> None:
    events = kind("events.k8s.io/v1", "events")
    body = {"note": "n", "reason": "R", "regarding": {"kind": "Pod", "name": "p", "namespace": "ns"}, "type": "Normal"}
    obj = {**copy.deepcopy(body), "metadata": dict(META)}
    core = events.to_storage(obj)
    assert core["message"] == "n" and core["involvedObject"]["name"] == "p" and core["apiVersion"] == "v1"
    back = events.from_storage(core)
    assert back["note"] == "n" and back["regarding"]["kind"] == "Pod" and back["apiVersion"] == "events.k8s.io/v1"


def test_who_approves_a_certificate_changes_conditions_and_nothing_else() -> None:
    requests = kind("certificates.k8s.io/v1", "certificatesigningrequests")
    spec = {"signerName": "example.com/s", "usages": ["client auth"], "request": "eA==", "username": "eve"}
    raw = {"apiVersion": requests.api_version, "kind": requests.kind, "metadata": {"name": "r"}, "spec": spec}
    requests.prepare_create(raw)
    assert "username" not in raw["spec"]
    raw["metadata"] = dict(META)

    def approve(r: dict) -> None:
        r["spec"]["signerName"] = "other.com/s"
        condition = {"type": "Approved", "status": "True", "reason": "R"}
        r["status"] = {"conditions": [condition], "certificate": "eA=="}

    new, errors = updated(requests, raw, approve, "approval")
    assert new["spec"] == raw["spec"] and "certificate" not in new["status"]
    assert new["status"]["conditions"][0]["lastTransitionTime"] and errors == []


def test_fields_of_alpha_features_are_dropped() -> None:
    jobs = kind("batch/v1", "jobs")
    template = copy.deepcopy(TEMPLATE)
    template["spec"] |= {"restartPolicy": "Never", "schedulingGroup": {"podGroupName": "g"}}
    job = stored(jobs, {"spec": {"template": template, "scheduling": {}}})
    assert "scheduling" not in job["spec"] and "schedulingGroup" not in job["spec"]["template"]["spec"]


def test_names_of_services_may_begin_with_a_digit_and_autoscalers_may_go_down_to_zero() -> None:
    services = kind("v1", "services")
    service = stored(services, {"spec": {"ports": [{"port": 80}]}})
    service["metadata"]["name"] = "1st"
    assert services.validate_create(service) == []
    autoscalers = kind("autoscaling/v2", "horizontalpodautoscalers")
    target = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"}
    queue = {"metric": {"name": "queue"}, "target": {"type": "Value", "value": "5"}}
    metrics = [{"type": "External", "external": queue}]
    spec = {"scaleTargetRef": target, "maxReplicas": 4, "minReplicas": 0, "metrics": metrics}
    scaler = stored(autoscalers, {"spec": spec})
    assert scaler["metadata"]["generation"] == 1
    scaler["spec"]["metrics"] = [
        {"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 70}}}
    ]
    assert [e.field for e in autoscalers.validate_create(scaler)] == ["spec.metrics"]


def test_new_addresses_are_written_in_the_one_way_that_nobody_misreads() -> None:
    """Upstream's StrictIPCIDRValidation: but what an object holds already may stay."""
    services = kind("v1", "services")
    old = stored(services, {"spec": {"ports": [{"port": 80}]}})
    old["spec"] |= {"externalTrafficPolicy": "Cluster", "externalIPs": ["010.1.2.3"]}  # from before there was the rule
    refused = [str(e) for e in services.validate_create(old)]
    assert refused == ['spec.externalIPs[0]: Invalid value: "010.1.2.3": must not have leading 0s']
    _, errors = updated(services, old, lambda s: s["spec"]["externalIPs"].append("::ffff:10.1.2.4"))
    assert errors == ['spec.externalIPs[1]: Invalid value: "::ffff:10.1.2.4": must not be an IPv4-mapped IPv6 address']


def test_new_networks_are_written_in_the_one_way_that_nobody_misreads() -> None:
    said = {
        "10.0.0.0/8": [],
        "2001:db8::/64": [],
        "10.0.0.5/8": ["must not have bits set beyond the prefix length"],
        "2001:db8::1/64": ["must not have bits set beyond the prefix length"],
        "10.0.0.0/08": ["must not have leading 0s in IP or prefix length"],
        "010.0.0.0/8": ["must not have leading 0s in IP or prefix length"],
        "::ffff:1.1.1.0/120": ["must not have an IPv4-mapped IPv6 address"],
        "10.0.0.0": ["must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)"],
    }
    assert {text: strict_ip.is_cidr(text) for text in said} == said


def test_a_device_selector_must_be_an_expression_about_a_device() -> None:
    classes = kind("resource.k8s.io/v1", "deviceclasses")

    def problems(text: str) -> list[str]:
        spec = {"selectors": [{"cel": {"expression": text}}]}
        return [f"{e.field}: {e.detail}" for e in classes.validate_create({"metadata": {"name": "c"}, "spec": spec})]

    sound = 'device.driver == "d" && device.attributes["d"].cores > 2'
    assert problems(f'{sound} && device.capacity["d"].memory.compareTo(quantity("1Gi")) >= 0') == []
    field = "spec.selectors[0].cel.expression"
    assert problems("device.driver") == [f"{field}: must evaluate to bool or the unknown type"]
    (broken,) = problems("object.name == 'x'")
    assert broken.startswith(f"{field}: compilation failed: ERROR: <input>:1:1: undeclared reference to 'object'")


def test_ipv6_addresses_in_unusual_forms_are_warned_of() -> None:
    services = kind("v1", "services")
    body = {"spec": {"ports": [{"port": 80}], "externalIPs": ["2001:DB8::1", "2001:db8::2"]}}
    assert services.warnings(stored(services, body)) == [
        'spec.externalIPs[0]: IPv6 address "2001:DB8::1" should be in RFC 5952 canonical format ("2001:db8::1")',
        "spec.externalIPs is deprecated and may no longer be implemented in some clusters",
    ]
