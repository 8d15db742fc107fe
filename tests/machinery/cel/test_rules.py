import pytest

from peavine.machinery.cel.rules import compile_rules, evaluate_rules
from peavine.machinery.structural import Structural


def schema(spec, *rules, **more):
    return Structural(
        {
            "type": "object",
            "properties": {"spec": {"type": "object", "properties": spec, "x-kubernetes-validations": list(rules)}},
            **more,
        }
    )


NUMBERS = {"min": {"type": "integer"}, "max": {"type": "integer"}}


def errors(node, new, old=None):
    rules = compile_rules(node, "spec.schema")
    assert not rules.problems, rules.problems
    found = evaluate_rules(rules, new, *([old] if old is not None else []))
    return [str(error) for error in found]


def problems(node):
    return [str(problem) for problem in compile_rules(node, "spec.schema").problems]


def test_a_broken_rule_is_told_with_its_path_and_its_message():
    node = schema(NUMBERS, {"rule": "self.min <= self.max"}, {"rule": "self.min > 0", "message": "must be positive"})
    assert errors(node, {"spec": {"min": 1, "max": 2}}) == []
    assert errors(node, {"spec": {"min": -1, "max": -2}}) == [
        'spec: Invalid value: "object": failed rule: self.min <= self.max',
        'spec: Invalid value: "object": must be positive',
    ]


def test_a_rule_that_comes_to_no_value_fails():
    node = schema(NUMBERS, {"rule": "self.min <= self.max"})
    assert errors(node, {"spec": {"min": 1}}) == [
        'spec: Invalid value: "object": no such key: max evaluating rule: self.min <= self.max'
    ]


def test_reason_field_path_and_message_expression_shape_the_error():
    node = schema(
        NUMBERS,
        {
            "rule": "self.min < 10",
            "reason": "FieldValueForbidden",
            "fieldPath": ".min",
            "messageExpression": "'%d is too much'.format([self.min])",
        },
    )
    rules = compile_rules(node)
    (error,) = evaluate_rules(rules, {"spec": {"min": 11}})
    assert str(error) == "spec.min: Forbidden: 11 is too much"
    assert error.cause()["reason"] == "FieldValueForbidden"


def test_transition_rules_see_the_old_value_and_rest_on_create():
    node = schema(NUMBERS, {"rule": "self.min >= oldSelf.min", "message": "must not shrink"})
    assert errors(node, {"spec": {"min": 1}}) == []
    assert errors(node, {"spec": {"min": 1}}, {"spec": {"min": 2}}) == [
        'spec: Invalid value: "object": must not shrink'
    ]


def test_optional_old_self_makes_a_transition_rule_apply_on_create():
    rule = {"rule": "!oldSelf.hasValue() || self.min == oldSelf.value().min", "optionalOldSelf": True}
    node = schema(NUMBERS, rule)
    assert errors(node, {"spec": {"min": 1}}) == []
    assert len(errors(node, {"spec": {"min": 1}}, {"spec": {"min": 2}})) == 1


def test_what_has_not_changed_is_not_complained_about():
    node = schema({**NUMBERS, "other": {"type": "string"}}, {"rule": "self.min > 5"})
    broken = {"spec": {"min": 1}}
    assert errors(node, broken, broken) == []
    assert len(errors(node, {"spec": {"min": 1, "other": "x"}}, broken)) == 1


def test_items_of_map_lists_meet_their_former_selves():
    ports = {
        "type": "array",
        "x-kubernetes-list-type": "map",
        "x-kubernetes-list-map-keys": ["name"],
        "items": {
            "type": "object",
            "properties": {"name": {"type": "string"}, "port": {"type": "integer"}},
            "x-kubernetes-validations": [{"rule": "self.port == oldSelf.port"}],
        },
    }
    node = schema({"ports": ports})
    a, b = {"name": "a", "port": 1}, {"name": "b", "port": 2}
    assert errors(node, {"spec": {"ports": [b, a]}}, {"spec": {"ports": [a, b]}}) == []
    changed = errors(node, {"spec": {"ports": [a, {"name": "b", "port": 3}]}}, {"spec": {"ports": [a, b]}})
    assert changed == ['spec.ports[1]: Invalid value: "object": failed rule: self.port == oldSelf.port']


def test_rules_on_map_values_and_at_the_root():
    node = Structural(
        {
            "type": "object",
            "properties": {
                "map": {
                    "type": "object",
                    "additionalProperties": {"type": "string", "x-kubernetes-validations": [{"rule": "self != 'bad'"}]},
                }
            },
            "x-kubernetes-validations": [{"rule": "self.metadata.name.startsWith('a')"}],
        }
    )
    assert errors(node, {"metadata": {"name": "b"}, "map": {"k": "bad"}}) == [
        "<nil>: Invalid value: \"object\": failed rule: self.metadata.name.startsWith('a')",
        "map[k]: Invalid value: \"string\": failed rule: self != 'bad'",
    ]


@pytest.mark.parametrize(
    ("rule", "says"),
    [
        ({"rule": ""}, "x-kubernetes-validations[0].rule: Required value: rule is not specified"),
        ({"rule": "self.nope == 1"}, "compilation failed: ERROR: <input>:1:5: undefined field 'nope'"),
        ({"rule": "self.min"}, "must evaluate to a bool"),
        ({"rule": "true", "messageExpression": "1"}, "must evaluate to string"),
        ({"rule": "true", "reason": "Because"}, "Unsupported value"),
        ({"rule": "true", "fieldPath": ".nope"}, "fieldPath must be a valid path"),
        ({"rule": "self.min ==\n1"}, "message must be specified if rule contains line breaks"),
        ({"rule": "true", "optionalOldSelf": True}, "may not be set if oldSelf is not used in rule"),
    ],
)
def test_a_rule_that_cannot_be_is_refused(rule, says):
    (problem,) = problems(schema(NUMBERS, rule))
    assert problem.startswith("spec.schema.properties[spec].x-kubernetes-validations[0]")
    assert says in problem


def test_a_rule_cannot_look_back_where_items_have_no_identity():
    items = {"type": "integer", "x-kubernetes-validations": [{"rule": "self > oldSelf"}]}
    (problem,) = problems(schema({"list": {"type": "array", "items": items}}))
    assert "oldSelf cannot be used on the uncorrelatable portion of the schema" in problem


def test_rules_that_cost_too_much_end_the_evaluation():
    node = schema(
        {"list": {"type": "array", "items": {"type": "integer"}}},
        {"rule": "self.list.all(x, self.list.all(y, self.list.all(z, x + y + z >= 0)))"},
    )
    found = evaluate_rules(compile_rules(node), {"spec": {"list": list(range(200))}})
    (error,) = [str(problem) for problem in found]
    assert "no further validation rules will be run due to call cost exceeds limit for rule" in error


def test_names_that_are_no_identifiers_are_escaped():
    node = schema(
        {"a-b": {"type": "string"}, "x/y": {"type": "string"}}, {"rule": "self.a__dash__b == self.x__slash__y"}
    )
    assert errors(node, {"spec": {"a-b": "1", "x/y": "1"}}) == []


STRINGS = {"type": "array", "items": {"type": "string"}}
LOOK = {"rule": "self.list.all(x, x.contains('a'))"}


def test_a_rule_that_could_cost_too_much_is_refused_until_the_schema_sets_limits():
    rule, total = problems(schema({"list": STRINGS}, LOOK))
    assert rule == (
        "spec.schema.properties[spec].x-kubernetes-validations[0].rule: Forbidden: estimated rule cost exceeds budget "
        "by factor of more than 100x (try simplifying the rule, or adding maxItems, maxProperties, and maxLength where "
        "arrays, maps, and strings are declared)"
    )
    assert total.startswith("spec.schema: Forbidden: x-kubernetes-validations estimated rule cost total for entire")
    bounded = {**STRINGS, "maxItems": 100, "items": {"type": "string", "maxLength": 100}}
    assert problems(schema({"list": bounded}, LOOK)) == []


@pytest.mark.parametrize(
    "rule",
    [
        "self.list.size() > 0",
        "self.number > 0 && self.number < 10",
        "self.text == 'a' || self.text.startsWith('b')",
        "self.list.exists(x, x == 'a')",
        "has(self.text) && self.text.matches('^a+$')",
    ],
)
def test_everyday_rules_need_no_limits(rule):
    node = schema({"list": STRINGS, "number": {"type": "integer"}, "text": {"type": "string"}}, {"rule": rule})
    assert problems(node) == []


def test_a_rule_counts_once_for_every_place_it_can_stand():
    item = {"type": "string", "x-kubernetes-validations": [{"rule": "self.matches('^[a-z]+$')"}]}
    assert problems(schema({"list": {"type": "array", "items": item}}))
    assert not problems(schema({"list": {"type": "array", "maxItems": 10, "items": {**item, "maxLength": 63}}}))
