"""Admission policies through the whole server."""

import contextlib

import pytest

from tests.apiserver.inside import MAPS, config_map, serving

ADMISSION = "/apis/admissionregistration.k8s.io/v1"
RULE = {"operations": ["CREATE", "UPDATE"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["configmaps"]}


def policy(kind="Validating", **spec):
    return {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": f"{kind}AdmissionPolicy",
        "metadata": {"name": "p.example.com"},
        "spec": {"matchConstraints": {"resourceRules": [RULE]}, **spec},
    }


def binding(kind="Validating", **spec):
    actions = {"validationActions": ["Deny"]} if kind == "Validating" else {}
    return {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": f"{kind}AdmissionPolicyBinding",
        "metadata": {"name": "b.example.com"},
        "spec": {"policyName": "p.example.com", **actions, **spec},
    }


@contextlib.asynccontextmanager
async def guarded(tmp_path, policy_object, binding_object, *before):
    async with serving(tmp_path) as client:
        for path, body in before:
            made = await client("POST", path, body)
            assert made.status == 201, made.json
        kind = "validating" if policy_object["kind"].startswith("Validating") else "mutating"
        for name, body in (("policies", policy_object), ("policybindings", binding_object)):
            made = await client("POST", f"{ADMISSION}/{kind}admission{name}", body)
            assert made.status == 201, made.json
        yield client


async def test_a_false_expression_refuses_the_write_with_its_message(tmp_path):
    rules = [
        {"expression": "object.data.size() <= 2", "message": "too many keys"},
        {
            "expression": "!has(object.data.bad)",
            "messageExpression": "'bad is ' + object.data.bad",
            "reason": "Forbidden",
        },
    ]
    async with guarded(tmp_path, policy(validations=rules), binding()) as client:
        assert (await client("POST", MAPS, config_map("ok", a="1"))).status == 201
        refused = await client("POST", MAPS, config_map("a", a="1", b="2", c="3"))
        words = (
            "configmaps \"a\" is forbidden: ValidatingAdmissionPolicy 'p.example.com' with binding 'b.example.com' "
            "denied request: too many keys"
        )
        assert (refused.status, refused.json["reason"], refused.json["message"]) == (422, "Invalid", words)
        forbidden = await client("POST", MAPS, config_map("a", bad="news"))
        assert (forbidden.status, forbidden.json["reason"]) == (403, "Forbidden")
        assert forbidden.json["message"].endswith("denied request: bad is news")


async def test_variables_old_objects_requests_and_the_authorizer_are_at_hand(tmp_path):
    rules = [
        {"expression": "variables.keys.all(k, k != 'x') || request.operation == 'CREATE'"},
        {"expression": "oldObject == null || oldObject.data == object.data || request.userInfo.username == 'admin'"},
        {"expression": "namespaceObject.metadata.name == 'default'"},
        {"expression": "authorizer.group('').resource('pods').namespace('default').check('get').allowed()"},
    ]
    variables = [{"name": "keys", "expression": "object.data.map(k, k)"}]
    async with guarded(tmp_path, policy(validations=rules, variables=variables), binding()) as client:
        made = await client("POST", MAPS, config_map("a", x="1"))
        assert made.status == 201, made.json
        refused = await client("PUT", f"{MAPS}/a", {**made.json, "data": {"x": "2"}})
        assert refused.status == 422 and "failed expression: variables.keys.all" in refused.json["message"]


async def test_parameters_come_from_the_object_that_the_binding_names(tmp_path):
    kind = {"apiVersion": "v1", "kind": "ConfigMap"}
    rules = [{"expression": "object.data.size() <= int(params.data.most)"}]
    reference = {"name": "limits", "parameterNotFoundAction": "Deny"}
    first = (MAPS, config_map("limits", most="1"))
    async with guarded(
        tmp_path, policy(validations=rules, paramKind=kind), binding(paramRef=reference), first
    ) as client:
        assert (await client("POST", MAPS, config_map("a", a="1"))).status == 201
        assert (await client("POST", MAPS, config_map("b", a="1", b="2"))).status == 422
        await client("DELETE", f"{MAPS}/limits")
        missing = await client("POST", MAPS, config_map("c", a="1"))
        assert missing.status == 422 and "no params found for policy binding" in missing.json["message"]


@pytest.mark.parametrize("actions", [["Warn"], ["Audit"]])
async def test_a_binding_may_only_warn_or_note(tmp_path, actions):
    async with guarded(
        tmp_path, policy(validations=[{"expression": "false", "message": "hm"}]), binding(validationActions=actions)
    ) as client:
        made = await client("POST", MAPS, config_map("a"))
        assert made.status == 201
        assert ("Validation failed for ValidatingAdmissionPolicy" in made.headers.get("warning", "")) == (
            actions == ["Warn"]
        )


@pytest.mark.parametrize(("failure", "status"), [("Fail", 422), ("Ignore", 201)])
async def test_an_expression_without_a_value_fails_as_the_policy_says(tmp_path, failure, status):
    rules = [{"expression": "object.data.nope == 'x'"}]
    async with guarded(tmp_path, policy(validations=rules, failurePolicy=failure), binding()) as client:
        answer = await client("POST", MAPS, config_map("a"))
        assert answer.status == status
        if status == 422:
            assert "resulted in error: no such key: nope" in answer.json["message"]


async def test_bindings_and_conditions_narrow_what_a_policy_means(tmp_path):
    narrowed = binding(matchResources={"objectSelector": {"matchLabels": {"strict": "yes"}}})
    conditions = [{"name": "named", "expression": "object.metadata.name.startsWith('x')"}]
    strict = policy(validations=[{"expression": "false"}], matchConditions=conditions)
    async with guarded(tmp_path, strict, narrowed) as client:
        labelled = config_map("x1")
        labelled["metadata"]["labels"] = {"strict": "yes"}
        assert (await client("POST", MAPS, labelled)).status == 422
        assert (await client("POST", MAPS, config_map("x2"))).status == 201
        labelled["metadata"]["name"] = "y"
        assert (await client("POST", MAPS, labelled)).status == 201


async def test_an_expression_that_does_not_compile_is_refused_with_the_policy(tmp_path):
    async with serving(tmp_path) as client:
        body = policy(validations=[{"expression": "object.x ="}])
        answer = await client("POST", f"{ADMISSION}/validatingadmissionpolicies", body)
        assert answer.status == 422
        assert "spec.validations[0].expression: Invalid value" in answer.json["message"]
        assert "compilation failed: ERROR: <input>:1:" in answer.json["message"]


@pytest.mark.parametrize(
    "mutation",
    [
        {
            "patchType": "ApplyConfiguration",
            "applyConfiguration": {
                "expression": "Object{metadata: Object.metadata{labels: {'added': object.metadata.name}},"
                " data: {'n': '1'}}"
            },
        },
        {
            "patchType": "JSONPatch",
            "jsonPatch": {
                "expression": "[JSONPatch{op: 'add', path: '/metadata/labels', value: {'added': object.metadata.name}},"
                " JSONPatch{op: 'add', path: '/data/' + jsonpatch.escapeKey('n'), value: '1'}]"
            },
        },
    ],
)
async def test_a_mutating_policy_changes_what_is_written(tmp_path, mutation):
    mutating = policy("Mutating", mutations=[mutation], reinvocationPolicy="Never", failurePolicy="Fail")
    async with guarded(tmp_path, mutating, binding("Mutating")) as client:
        made = await client("POST", MAPS, config_map("a"))
        assert made.status == 201, made.json
        assert made.json["metadata"]["labels"] == {"added": "a"}
        assert made.json["data"] == {"a": "b", "n": "1"}


async def test_a_mutating_policy_may_not_change_who_an_object_is(tmp_path):
    expression = "Object{metadata: Object.metadata{name: 'other'}}"
    mutation = {"patchType": "ApplyConfiguration", "applyConfiguration": {"expression": expression}}
    mutating = policy("Mutating", mutations=[mutation], reinvocationPolicy="Never", failurePolicy="Fail")
    async with guarded(tmp_path, mutating, binding("Mutating")) as client:
        refused = await client("POST", MAPS, config_map("a"))
        assert refused.status == 403 and "may not modify" in refused.json["message"]
