"""Expressions of policies against the types of kinds."""

import pytest

from peavine.machinery.cel.typechecking import cel_type, check_policy
from peavine.machinery.names import GVK
from peavine.machinery.schema import Schema


def kind(group, version, name):
    gvk = GVK(group, version, name)
    return gvk, cel_type(Schema.load().for_kind(gvk))


def warnings(expression, *kinds, **more):
    spec = {"validations": [{"expression": expression, **more}]}
    return check_policy(spec, kinds or [kind("apps", "v1", "Deployment")], namespace=kind("", "v1", "Namespace")[1])


@pytest.mark.parametrize(
    "expression",
    [
        "object.spec.replicas <= 5",
        "object.spec.template.spec.containers.all(c, c.image.startsWith('registry.example.com/'))",
        "has(object.metadata.labels) && object.metadata.labels['app'] == 'web'",
        "object.metadata.creationTimestamp < timestamp('2024-01-01T00:00:00Z')",
        "object.spec.strategy.rollingUpdate.maxSurge == 1",
        "request.userInfo.username == 'x' && 'system:masters' in request.userInfo.groups",
        "authorizer.group('apps').resource('deployments').check('update').allowed()",
        "namespaceObject.metadata.name != 'kube-system'",
    ],
)
def test_what_fits_the_kind_is_no_warning(expression):
    assert warnings(expression) == []


def test_a_field_that_a_kind_lacks_is_told_with_its_place():
    (warning,) = warnings("object.spec.replics <= 5")
    assert warning["fieldRef"] == "spec.validations[0].expression"
    shown = "ERROR: <input>:1:12: undefined field 'replics'\n | object.spec.replics <= 5\n | ...........^"
    assert warning["warning"] == f"apps/v1, Kind=Deployment: {shown}\n"


def test_types_that_do_not_go_together_are_told_and_results_of_the_wrong_type():
    assert "found no matching overload for '_<=_'" in warnings("object.spec.replicas <= '5'")[0]["warning"]
    assert "must evaluate to a bool" in warnings("object.metadata.name")[0]["warning"]
    (warning,) = warnings("true", messageExpression="object.spec.nmae")
    assert warning["fieldRef"] == "spec.validations[0].messageExpression"


def test_each_kind_is_checked_for_itself():
    both = (kind("apps", "v1", "Deployment"), kind("apps", "v1", "DaemonSet"))
    (warning,) = warnings("object.spec.replicas > 1", *both)
    assert warning["warning"].startswith("apps/v1, Kind=DaemonSet: ") and "Deployment" not in warning["warning"]


def test_variables_have_the_types_of_their_expressions_and_parameters_theirs():
    deployment = [kind("apps", "v1", "Deployment")]
    spec = {"variables": [{"name": "count", "expression": "object.spec.replicas"}]}
    spec["validations"] = [{"expression": "variables.count > 1 && variables.cuont > 1"}]
    assert "undefined field 'cuont'" in check_policy(spec, deployment)[0]["warning"]
    spec["validations"] = [{"expression": "variables.count == int(params.data['most'])"}]
    assert "undeclared reference to 'params'" in check_policy(spec, deployment)[0]["warning"]
    assert check_policy(spec, deployment, kind("", "v1", "ConfigMap")[1]) == []
