"""Type checking of policies, tokens in Secrets, and other things that are written for somebody."""

import base64

import pytest

from peavine.client import Client
from tests.controllers.conftest import on_cluster

pytestmark = pytest.mark.slow


def policy(name, expression, **rule):
    rules = [{"apiGroups": ["apps"], "apiVersions": ["v1"], "resources": ["deployments"], "operations": ["*"], **rule}]
    spec = {"matchConstraints": {"resourceRules": rules}, "validations": [{"expression": expression}]}
    return {"metadata": {"name": name}, "spec": spec}


@on_cluster
async def test_a_policy_is_told_what_its_expressions_cannot_mean_and_forgets_it_when_it_is_mended(c):
    policies = c.client.resource("admissionregistration.k8s.io/v1", "validatingadmissionpolicies")
    await policies.create(policy(c.namespace, "object.spec.replics < 5"))

    async def checked(generation):
        status = (await policies.get(c.namespace)).get("status") or {}
        return status if status.get("observedGeneration") == generation else None

    status = await c.until(lambda: checked(1))
    (warning,) = status["typeChecking"]["expressionWarnings"]
    assert warning["fieldRef"] == "spec.validations[0].expression" and "undefined field 'replics'" in warning["warning"]
    await policies.patch(c.namespace, {"spec": {"validations": [{"expression": "object.spec.replicas < 5"}]}})
    assert not (await c.until(lambda: checked(2))).get("typeChecking")
    await policies.delete(c.namespace)


@on_cluster
async def test_custom_kinds_are_checked_against_their_definitions(c):
    group = f"{c.namespace}.example.com"
    size = {"type": "object", "properties": {"size": {"type": "integer"}}}
    schema = {"openAPIV3Schema": {"type": "object", "properties": {"spec": size}}}
    names = {"plural": "boxes", "singular": "box", "kind": "Box", "listKind": "BoxList"}
    version = {"name": "v1", "served": True, "storage": True, "schema": schema}
    crd = {"metadata": {"name": f"boxes.{group}"}}
    crd["spec"] = {"group": group, "scope": "Namespaced", "names": names, "versions": [version]}
    definitions = c.client.resource("apiextensions.k8s.io/v1", "customresourcedefinitions")
    await definitions.create(crd)

    async def established():
        conditions = ((await definitions.get(crd["metadata"]["name"])).get("status") or {}).get("conditions") or ()
        return any(x["type"] == "Established" and x["status"] == "True" for x in conditions)

    await c.until(established)
    policies = c.client.resource("admissionregistration.k8s.io/v1", "validatingadmissionpolicies")
    await policies.create(policy(c.namespace, "object.spec.wide > 1", apiGroups=[group], resources=["boxes"]))

    async def warned():
        status = (await policies.get(c.namespace)).get("status") or {}
        return (status.get("typeChecking") or {}).get("expressionWarnings")

    assert "undefined field 'wide'" in (await c.until(warned))[0]["warning"]
    await policies.delete(c.namespace)
    await definitions.delete(crd["metadata"]["name"])


@on_cluster
async def test_a_token_secret_is_filled_works_and_goes_with_its_account(c):
    accounts, secrets = c.resource("ServiceAccount"), c.resource("Secret")
    await accounts.create({"metadata": {"name": "robot"}}, c.namespace)
    meta = {"name": "robot-token", "annotations": {"kubernetes.io/service-account.name": "robot"}}
    await secrets.create({"metadata": meta, "type": "kubernetes.io/service-account-token"}, c.namespace)

    async def filled():
        secret = await c.get("Secret", "robot-token")
        return secret if (secret.get("data") or {}).get("token") else None

    secret = await c.until(filled)
    data = {k: base64.b64decode(v).decode() for k, v in secret["data"].items()}
    assert data["namespace"] == c.namespace and "BEGIN CERTIFICATE" in data["ca.crt"]
    client = Client(c.client.config.replaced(certificate="", key="", origin=None, token=data["token"]))
    review = {"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"}
    answer = await client.json("POST", "/apis/authentication.k8s.io/v1/selfsubjectreviews", review)
    assert answer["status"]["userInfo"]["username"] == f"system:serviceaccount:{c.namespace}:robot"
    client.close()
    await c.delete("ServiceAccount", "robot")

    async def gone():
        return "robot-token" not in {s["metadata"]["name"] for s in await c.list("Secret")}

    await c.until(gone)


@on_cluster
async def test_a_token_secret_of_nobody_is_removed(c):
    meta = {"name": "lost", "annotations": {"kubernetes.io/service-account.name": "nobody"}}
    await c.resource("Secret").create({"metadata": meta, "type": "kubernetes.io/service-account-token"}, c.namespace)

    async def gone():
        return "lost" not in {s["metadata"]["name"] for s in await c.list("Secret")}

    await c.until(gone)
