"""Admission webhooks through the whole server, asked over real TLS."""

import contextlib

import pytest

from tests.apiserver.inside import MAPS, config_map, serving
from tests.apiserver.webhooks.listener import allowed, listening, refused

CONFIGURATIONS = "/apis/admissionregistration.k8s.io/v1/{}webhookconfigurations"
RULE = {"operations": ["*"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["configmaps"]}


def configuration(kind, listener, name="hooks", **more):
    webhook = {
        "name": "a.example.com",
        "clientConfig": listener.client_config,
        "rules": [RULE],
        "sideEffects": "None",
        "admissionReviewVersions": ["v1"],
        **more,
    }
    return {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": f"{kind.capitalize()}WebhookConfiguration",
        "metadata": {"name": name},
        "webhooks": [webhook],
    }


@contextlib.asynccontextmanager
async def hooked(tmp_path, kind, answer, **more):
    async with listening(answer) as listener, serving(tmp_path) as client:
        made = await client("POST", CONFIGURATIONS.format(kind), configuration(kind, listener, **more))
        assert made.status == 201, made.json
        yield client, listener


async def test_a_validating_webhook_is_asked_with_all_there_is_to_know(tmp_path):
    async with hooked(tmp_path, "validating", allowed) as (client, listener):
        assert (await client("POST", MAPS + "?dryRun=All", config_map("a"))).status == 201
        (review,) = listener.reviews
    request = review["request"]
    assert (review["kind"], review["apiVersion"]) == ("AdmissionReview", "admission.k8s.io/v1")
    assert (request["operation"], request["name"], request["namespace"]) == ("CREATE", "a", "default")
    assert request["kind"] == request["requestKind"] == {"group": "", "version": "v1", "kind": "ConfigMap"}
    assert request["resource"] == {"group": "", "version": "v1", "resource": "configmaps"}
    assert request["userInfo"]["username"] == "admin" and "system:masters" in request["userInfo"]["groups"]
    assert request["object"]["data"] == {"a": "b"} and request["oldObject"] is None
    assert request["dryRun"] is True and request["options"]["kind"] == "CreateOptions"


@pytest.mark.parametrize(
    ("status", "code", "words"),
    [
        ({"message": "no maps today", "code": 403}, 403, "denied the request: no maps today"),
        ({"reason": "Forbidden"}, 400, "denied the request: Forbidden"),
        ({}, 400, "denied the request without explanation"),
    ],
)  # fmt: skip
async def test_a_refusal_reaches_the_client(tmp_path, status, code, words):
    async with hooked(tmp_path, "validating", lambda body: refused(body, **status)) as (client, _):
        answer = await client("POST", MAPS, config_map("a"))
        assert (answer.status, answer.json["message"]) == (code, f'admission webhook "a.example.com" {words}')
        assert (await client("GET", f"{MAPS}/a")).status == 404


async def test_a_mutating_webhook_changes_the_object_and_its_fields_are_the_writers(tmp_path):
    patch = [
        {"op": "add", "path": "/data/added", "value": "yes"},
        {"op": "add", "path": "/metadata/labels", "value": {"x": "y"}},
    ]

    async with hooked(tmp_path, "mutating", lambda body: allowed(body, patch=patch)) as (client, _):
        made = (await client("POST", MAPS, config_map("a"))).json
        assert made["data"] == {"a": "b", "added": "yes"} and made["metadata"]["labels"] == {"x": "y"}


async def test_warnings_and_audit_annotations_are_passed_on(tmp_path):
    answer = lambda body: allowed(body, warnings=["old thing"], auditAnnotations={"k": "v"})  # noqa: E731
    async with hooked(tmp_path, "validating", answer) as (client, _):
        made = await client("POST", MAPS, config_map("a"))
        assert "old thing" in made.headers["warning"]


@pytest.mark.parametrize(
    "selection",
    [
        {"rules": [{**RULE, "operations": ["DELETE"]}]},
        {"rules": [{**RULE, "resources": ["secrets"]}]},
        {"rules": [{**RULE, "scope": "Cluster"}]},
        {"rules": [{**RULE, "apiVersions": ["v2"]}]},
        {"objectSelector": {"matchLabels": {"ask": "me"}}},
        {"namespaceSelector": {"matchExpressions": [{"key": "nope", "operator": "Exists"}]}},
        {"matchConditions": [{"name": "c", "expression": "request.userInfo.username == 'somebody else'"}]},
        {"matchConditions": [{"name": "c", "expression": "has(object.data.skip)"}]},
    ],
)
async def test_writes_that_a_webhook_does_not_mean_pass_it_by(tmp_path, selection):
    async with hooked(tmp_path, "validating", refused, **selection) as (client, listener):
        assert (await client("POST", MAPS, config_map("a"))).status == 201
        assert listener.reviews == []


@pytest.mark.parametrize(
    "selection",
    [
        {"rules": [{"operations": ["CREATE"], "apiGroups": ["*"], "apiVersions": ["*"], "resources": ["*"]}]},
        {"objectSelector": {"matchLabels": {"ask": "me"}}},
        {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "default"}}},
        {"matchConditions": [{"name": "c", "expression": "object.metadata.labels['ask'] == 'me'"}]},
        {"matchConditions": [{"name": "c", "expression": "authorizer.requestResource.check('create').allowed()"}]},
    ],
)
async def test_writes_that_a_webhook_means_reach_it(tmp_path, selection):
    body = config_map("a")
    body["metadata"]["labels"] = {"ask": "me"}
    async with hooked(tmp_path, "validating", refused, **selection) as (client, listener):
        assert (await client("POST", MAPS, body)).status == 400
        assert len(listener.reviews) == 1


async def test_updates_and_deletes_carry_the_old_object(tmp_path):
    async with hooked(tmp_path, "validating", allowed) as (client, listener):
        live = (await client("POST", MAPS, config_map("a"))).json
        live["data"] = {"new": "1"}
        await client("PUT", f"{MAPS}/a", live)
        await client("DELETE", f"{MAPS}/a")
    update, delete = listener.reviews[1]["request"], listener.reviews[2]["request"]
    assert (update["object"]["data"], update["oldObject"]["data"]) == ({"new": "1"}, {"a": "b"})
    assert (delete["operation"], delete["object"], delete["oldObject"]["data"]) == ("DELETE", None, {"new": "1"})


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (lambda body: b"not json", "couldn't get version/kind; json parse error"),
        (lambda body: {**allowed(body), "kind": "Other"}, "expected webhook response of admission.k8s.io/v1"),
        (lambda body: allowed(body, uid="other"), 'expected response.uid="'),
        (lambda body: {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview"}, "webhook response was absent"),
    ],
)  # fmt: skip
async def test_an_answer_that_makes_no_sense_fails_the_write_or_not_as_the_policy_says(tmp_path, answer, words):
    async with hooked(tmp_path, "validating", answer) as (client, _):
        failed = await client("POST", MAPS, config_map("a"))
        assert failed.status == 500 and failed.json["reason"] == "InternalError"
        assert failed.json["message"].startswith('Internal error occurred: failed calling webhook "a.example.com": ')
        assert words in failed.json["message"]
    async with hooked(tmp_path, "validating", answer, failurePolicy="Ignore") as (client, _):
        assert (await client("POST", MAPS, config_map("a"))).status == 201


async def test_a_webhook_that_says_nothing_times_out(tmp_path):
    async with hooked(tmp_path, "validating", lambda body: None, timeoutSeconds=1) as (client, _):
        failed = await client("POST", MAPS, config_map("a"))
        assert failed.status == 500 and "context deadline exceeded" in failed.json["message"]


async def test_a_webhook_with_side_effects_is_not_asked_in_a_dry_run(tmp_path):
    more = {"sideEffects": "NoneOnDryRun"}
    async with hooked(tmp_path, "validating", allowed, **more) as (client, _):
        assert (await client("POST", MAPS + "?dryRun=All", config_map("a"))).status == 201


async def test_a_change_by_a_later_webhook_is_shown_again_to_those_before_it(tmp_path):
    def label(body):
        if "second" in (body["request"]["object"]["data"] or {}):
            return allowed(body, patch=[{"op": "add", "path": "/data/seen", "value": "yes"}])
        return allowed(body)

    def second(body):
        return allowed(body, patch=[{"op": "add", "path": "/data/second", "value": "1"}])

    async with listening(label) as first, listening(second) as other, serving(tmp_path) as client:
        for name, listener, policy in (("1", first, "IfNeeded"), ("2", other, "Never")):
            body = configuration("mutating", listener, name, reinvocationPolicy=policy)
            assert (await client("POST", CONFIGURATIONS.format("mutating"), body)).status == 201
        made = (await client("POST", MAPS, config_map("a"))).json
        assert made["data"] == {"a": "b", "second": "1", "seen": "yes"}
        assert (len(first.reviews), len(other.reviews)) == (2, 1)


async def test_configurations_themselves_are_beyond_webhooks(tmp_path):
    everything = {"rules": [{"operations": ["*"], "apiGroups": ["*"], "apiVersions": ["*"], "resources": ["*/*"]}]}
    async with hooked(tmp_path, "validating", refused, **everything) as (client, _):
        assert (await client("DELETE", CONFIGURATIONS.format("validating") + "/hooks")).status == 200
        assert (await client("POST", MAPS, config_map("a"))).status == 201


async def test_an_equivalent_version_matches_and_is_what_the_webhook_sees(tmp_path):
    scalers = "horizontalpodautoscalers"
    rule = {"operations": ["*"], "apiGroups": ["autoscaling"], "apiVersions": ["v2"], "resources": [scalers]}
    scaler = {
        "apiVersion": "autoscaling/v1",
        "kind": "HorizontalPodAutoscaler",
        "metadata": {"name": "h"},
        "spec": {"scaleTargetRef": {"kind": "Deployment", "name": "d", "apiVersion": "apps/v1"}, "maxReplicas": 3},
    }
    path = f"/apis/autoscaling/v1/namespaces/default/{scalers}"
    async with hooked(tmp_path, "validating", allowed, rules=[rule]) as (client, listener):
        made = await client("POST", path, scaler)
        assert made.status == 201, made.json
        (review,) = listener.reviews
        assert review["request"]["kind"]["version"] == "v2" and review["request"]["requestKind"]["version"] == "v1"
        assert review["request"]["object"]["apiVersion"] == "autoscaling/v2"
    async with hooked(tmp_path, "validating", refused, rules=[rule], matchPolicy="Exact") as (client, listener):
        assert (await client("POST", path, scaler)).status == 201


@pytest.mark.parametrize(("keeps", "connections"), [(True, 1), (False, 5)])
async def test_a_connection_is_used_again_if_the_webhook_keeps_it(tmp_path, keeps, connections):
    async with hooked(tmp_path, "validating", allowed) as (client, listener):
        listener.keeps = keeps
        for number in range(5):
            assert (await client("POST", MAPS, config_map(f"m{number}"))).status == 201
        assert (len(listener.reviews), listener.connections) == (5, connections)
