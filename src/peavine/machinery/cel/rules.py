"""The rules (`x-kubernetes-validations`) of a structural schema: compiled with its types, evaluated over objects."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from typing import Any

from peavine.machinery.cel.cost import (
    bound_of,
    estimate,
    exceeds,
    items_max,
    properties_max,
    rule_cost_max,
    schema_cost_max,
)
from peavine.machinery.cel.errors import CelError, CompileError, CostExceeded
from peavine.machinery.cel.names import escape
from peavine.machinery.cel.program import Environment, Program, call_cost_max
from peavine.machinery.cel.types import (
    BOOL,
    BYTES,
    DOUBLE,
    DURATION,
    DYN,
    INT,
    STRING,
    TIMESTAMP,
    Type,
    list_of,
    map_of,
    object_of,
    optional_of,
)
from peavine.machinery.cel.values import NONE, Optional, equal
from peavine.machinery.errors import FieldError
from peavine.machinery.structural import Structural

cost_budget = 10_000_000  # of all rules of one object
message_bytes_max = 5 * 1024
ABSENT: Any = object()

_REASONS = {
    "FieldValueInvalid": "Invalid",
    "FieldValueForbidden": "Forbidden",
    "FieldValueRequired": "Required",
    "FieldValueDuplicate": "Duplicate",
}
_STRING_FORMATS = {"byte": BYTES, "duration": DURATION, "date": TIMESTAMP, "date-time": TIMESTAMP}
_SCALARS = {"boolean": BOOL, "number": DOUBLE, "integer": INT}


def type_of(schema: Structural, *, root: bool = False) -> Type | None:
    """The type that values of a schema have in CEL; None for what expressions cannot see (unknown types)."""
    if schema.int_or_string:
        return DYN
    if schema.type == "string":
        return _STRING_FORMATS.get(schema.schema.get("format") or "", STRING)
    if schema.type in _SCALARS:
        return _SCALARS[schema.type]
    if schema.type == "array":
        item = type_of(schema.items) if schema.items else None
        if item is None:
            return None
        unique = {"set": "set", "map": schema.list_map_keys}.get(schema.list_type or "")
        return list_of(item, unique)
    if schema.type != "object":
        return None
    if schema.value_schema is not None:
        value = type_of(schema.value_schema)
        return map_of(STRING, value) if value is not None else None
    if schema.additional is True and not schema.properties:
        return map_of(STRING, DYN)
    fields = {}
    for name, child in schema.properties.items():
        identifier, found = escape(name), type_of(child)
        if identifier is not None and found is not None:
            fields[identifier] = found
    if root or schema.embedded:
        fields |= {"apiVersion": STRING, "kind": STRING, "metadata": _METADATA}
    return object_of(fields)


_METADATA = object_of({"name": STRING, "generateName": STRING})


@dataclass
class Rule:
    """One rule of one node."""

    source: dict[str, Any]
    program: Program
    message: Program | None
    needs_old: bool
    old_optional: bool
    path: str = ""  # below the node, where its errors point

    def shown(self) -> str:
        """What an error calls the rule."""
        return str(self.source.get("message") or "").strip() or str(self.source["rule"]).strip()

    def default_message(self) -> str:
        text = str(self.source.get("message") or "").strip()
        return text or f"failed rule: {str(self.source['rule']).strip()}"


@dataclass
class Rules:
    """The rules of a node and of everything below it; None stands where there are none."""

    type_name: str
    own: list[Rule] = field(default_factory=list)
    properties: dict[str, Rules] = field(default_factory=dict)
    values: Rules | None = None  # of a map
    items: Rules | None = None
    list_map_keys: tuple[str, ...] = ()
    problems: list[FieldError] = field(default_factory=list)


class GoValue(FieldError):
    """A field error whose value is shown as Go prints the struct it is."""

    def __init__(self, path: str, shown: str, detail: str) -> None:
        super().__init__("Invalid", path, shown, detail)

    def body(self) -> str:
        return f"Invalid value: {self.value}: {self.detail}"


def compile_rules(schema: Structural, path: str = "", *, root: bool = True) -> Rules | None:
    """The rules of a schema at `path`. `problems` of the result says what does not compile, in upstream's words."""
    if not schema.has_rules:
        return None
    problems: list[FieldError] = []
    costs: list[tuple[int, str]] = []
    rules = _compile(schema, path, root, True, problems, 1, costs)
    if rules is not None:
        rules.problems = problems + _too_costly(path, costs)
    return rules


_ADVICE = (
    " (try simplifying the rule, or adding maxItems, maxProperties, and maxLength where arrays, maps, and strings are "
    "declared)"
)


def _too_costly(path: str, costs: list[tuple[int, str]]) -> list[FieldError]:
    """Rules that could cost too much, and a schema whose rules together could."""
    problems = []
    for cost, at in costs:
        words = exceeds("estimated rule cost", cost, rule_cost_max)
        if words:
            problems.append(FieldError("Forbidden", f"{at}.rule", "", words + _ADVICE))
    whole = "x-kubernetes-validations estimated rule cost total for entire OpenAPIv3 schema"
    words = exceeds(whole, sum(cost for cost, _ in costs), schema_cost_max)
    if words:
        problems.append(FieldError("Forbidden", path, "", words + _ADVICE))
    return problems


def _compile(
    schema: Structural,
    path: str,
    root: bool,
    correlatable: bool,
    problems: list[FieldError],
    times: int,
    costs: list[tuple[int, str]],
) -> Rules | None:
    """`times` is how often values of this schema can stand in one object; `costs` gathers what each rule can cost."""
    if not schema.has_rules:
        return None
    result = Rules(schema.type, list_map_keys=schema.list_map_keys if schema.list_type == "map" else ())
    own = type_of(schema, root=root)
    for place, source in enumerate(schema.rules):
        at = f"{path}.x-kubernetes-validations[{place}]"
        rule = _compile_rule(schema, source, own, at, path, correlatable, problems)
        if rule is not None:
            result.own.append(rule)
            bound = bound_of(schema)
            costs.append((times * estimate(rule.program.tree, {"self": bound, "oldSelf": bound}), at))
    for name, child in schema.properties.items():
        below = _compile(child, f"{path}.properties[{name}]", False, correlatable, problems, times, costs)
        if below is not None:
            result.properties[name] = below
    if schema.value_schema is not None:
        inside = times * properties_max(schema)
        at = f"{path}.additionalProperties"
        result.values = _compile(schema.value_schema, at, False, correlatable, problems, inside, costs)
    if schema.items is not None:
        inner = correlatable and schema.list_type == "map"
        inside = times * items_max(schema)
        result.items = _compile(schema.items, f"{path}.items", False, inner, problems, inside, costs)
    return result


def _compile_rule(
    schema: Structural,
    source: dict[str, Any],
    own: Type | None,
    at: str,
    path: str,
    correlatable: bool,
    problems: list[FieldError],
) -> Rule | None:
    text = str(source.get("rule") or "")
    if not text.strip():
        problems.append(FieldError("Required", f"{at}.rule", "", "rule is not specified"))
        return None
    if own is None:
        problems.append(FieldError("Forbidden", at, "", "schema has no type that a rule could look at"))
        return None
    problems += _message_problems(source, at)
    optional = bool(source.get("optionalOldSelf"))
    environment = Environment({"self": own, "oldSelf": optional_of(own) if optional else own})
    try:
        program = environment.compile(text, "bool")
    except CompileError as error:
        problems.append(_failed(source, f"{at}.rule", "compilation failed: ", error))
        return None
    needs_old = program.uses("oldSelf")
    if needs_old and not correlatable:
        detail = f"oldSelf cannot be used on the uncorrelatable portion of the schema within {path}"
        problems.append(FieldError("Invalid", f"{at}.rule", text, detail))
        return None
    if source.get("optionalOldSelf") is not None and not needs_old:
        detail = "may not be set if oldSelf is not used in rule"
        problems.append(FieldError("Invalid", f"{at}.optionalOldSelf", source["optionalOldSelf"], detail))
        return None
    message = None
    if source.get("messageExpression"):
        try:
            message = environment.compile(str(source["messageExpression"]), "string")
        except CompileError as error:
            problems.append(_failed(source, f"{at}.messageExpression", "messageExpression compilation failed: ", error))
            return None
    below = ""
    if source.get("fieldPath"):
        found = _field_path(str(source["fieldPath"]), schema)
        if found is None:
            detail = f"fieldPath must be a valid path: does not refer to a valid field: {source['fieldPath']}"
            problems.append(FieldError("Invalid", f"{at}.fieldPath", source["fieldPath"], detail))
            return None
        below = found
    return Rule(source, program, message, needs_old, optional, below)


def _message_problems(source: dict[str, Any], at: str) -> list[FieldError]:
    problems: list[FieldError] = []
    message, text = str(source.get("message") or ""), str(source.get("rule") or "")
    if "message" in source and message and not message.strip():
        problems.append(FieldError("Invalid", f"{at}.message", message, "message must be non-empty if specified"))
    elif "\n" in message.strip():
        problems.append(FieldError("Invalid", f"{at}.message", message, "message must not contain line breaks"))
    elif "\n" in text.strip() and not message.strip() and not source.get("messageExpression"):
        detail = "message must be specified if rule contains line breaks"
        problems.append(FieldError("Required", f"{at}.message", "", detail))
    if "messageExpression" in source and not str(source["messageExpression"] or "x").strip():
        problems.append(FieldError("Required", f"{at}.messageExpression", "", "must be non-empty if specified"))
    reason = source.get("reason")
    if reason and reason not in _REASONS:
        listed = ", ".join(json.dumps(known) for known in sorted(_REASONS))
        problems.append(FieldError("NotSupported", f"{at}.reason", reason, f"supported values: {listed}"))
    return problems


def _failed(source: dict[str, Any], at: str, words: str, error: CompileError) -> FieldError:
    text = str(error)
    if not text.startswith("ERROR:"):
        return GoValue(at, _go_rule(source), text)
    return GoValue(at, _go_rule(source), words + text)


def _go_rule(source: dict[str, Any]) -> str:
    def quoted(name: str) -> str:
        return json.dumps(str(source.get(name) or ""), ensure_ascii=False)

    reason = "(*apiextensions.FieldValueErrorReason)(nil)"
    if source.get("reason"):
        reason = f"(*apiextensions.FieldValueErrorReason)({json.dumps(source['reason'])})"
    optional = "(*bool)(nil)" if source.get("optionalOldSelf") is None else "(*bool)(0xc000000000)"
    return (
        f"apiextensions.ValidationRule{{Rule:{quoted('rule')}, Message:{quoted('message')}, "
        f"MessageExpression:{quoted('messageExpression')}, Reason:{reason}, FieldPath:{quoted('fieldPath')}, "
        f"OptionalOldSelf:{optional}}}"
    )


_STEP = re.compile(r"\.([A-Za-z_][A-Za-z0-9_-]*)|\['((?:[^'\\]|\\.)*)'\]|\[\"((?:[^\"\\]|\\.)*)\"\]")


def _field_path(text: str, schema: Structural) -> str | None:
    """A rule's fieldPath, checked against the schema, as errors write it."""
    shown, place = "", 0
    at: Structural | None = schema
    while place < len(text):
        match = _STEP.match(text, place)
        if not match or at is None:
            return None
        name = match[1] or match[2] or match[3] or ""
        if name in at.properties:
            at, shown = at.properties[name], f"{shown}.{name}"
        elif at.value_schema is not None:
            at, shown = at.value_schema, f"{shown}[{name}]"
        else:
            return None
        place = match.end()
    return shown


# ---- evaluation


class _Budget:
    """What the rules of one object may cost together."""

    __slots__ = ("left",)

    def __init__(self, cost: int) -> None:
        self.left = cost


class _Exhausted(Exception):
    def __init__(self, error: FieldError) -> None:
        self.error = error


def evaluate_rules(
    rules: Rules | None, value: Any, old: Any = ABSENT, path: str = "", budget: int = cost_budget
) -> list[FieldError]:
    """What the rules have against a value. With `old`, transition rules apply, and of what has not changed only they.

    Values must have passed the schema's own validation.
    """
    if rules is None:
        return []
    errors: list[FieldError] = []
    try:
        _evaluate(rules, value, old, path, _Budget(budget), errors)
    except _Exhausted as out:
        errors.append(out.error)
    return errors


def _evaluate(rules: Rules, value: Any, old: Any, path: str, budget: _Budget, errors: list[FieldError]) -> None:
    if value is None:
        return
    unchanged = old is not ABSENT and old is not None and equal(value, old)
    for rule in rules.own:
        if unchanged and not rule.needs_old:
            continue
        if rule.needs_old and (old is ABSENT or old is None) and not rule.old_optional:
            continue
        _evaluate_rule(rules, rule, value, old, path, budget, errors)
    if isinstance(value, dict):
        before = old if isinstance(old, dict) else {}
        for name, below in rules.properties.items():
            if name in value:
                at = f"{path}.{name}" if path else name
                _evaluate(below, value[name], before.get(name, ABSENT), at, budget, errors)
        if rules.values is not None:
            for name, member in value.items():
                _evaluate(rules.values, member, before.get(name, ABSENT), f"{path}[{name}]", budget, errors)
    elif isinstance(value, list) and rules.items is not None:
        former = _by_key(old, rules.list_map_keys) if rules.list_map_keys and isinstance(old, list) else {}
        for place, item in enumerate(value):
            _evaluate(rules.items, item, former.get(_key(item, rules.list_map_keys), ABSENT), f"{path}[{place}]",
                      budget, errors)  # fmt: skip


def _key(item: Any, keys: tuple[str, ...]) -> str:
    return json.dumps([item.get(key) for key in keys]) if keys and isinstance(item, dict) else ""


def _by_key(items: list[Any], keys: tuple[str, ...]) -> dict[str, Any]:
    return {_key(item, keys): item for item in items}


def _evaluate_rule(
    rules: Rules, rule: Rule, value: Any, old: Any, path: str, budget: _Budget, errors: list[FieldError]
) -> None:
    variables = {"self": value}
    if rule.old_optional:
        variables["oldSelf"] = NONE if old is ABSENT or old is None else Optional(old)
    elif rule.needs_old:
        variables["oldSelf"] = old
    at = path or "<nil>"
    allowed = min(budget.left, call_cost_max)
    try:
        found, cost = rule.program.evaluate(variables, allowed)
    except CostExceeded as error:
        if allowed < call_cost_max:
            words = "validation failed due to running out of cost budget, no further validation rules will be run"
        else:
            words = f"'{error}': no further validation rules will be run due to call cost exceeds limit for rule: "
            words += rule.shown()
        raise _Exhausted(FieldError("Invalid", at, rules.type_name, words)) from None
    except CelError as error:
        if str(error).startswith("no such overload"):
            words = f"'{error}': call arguments did not match a supported operator, function or macro signature for "
            words += f"rule: {rule.shown()}"
        else:
            words = f"{error} evaluating rule: {rule.shown()}"
        errors.append(FieldError("Invalid", at, rules.type_name, words))
        return
    budget.left -= cost
    if found is True:
        return
    kind = _REASONS.get(rule.source.get("reason") or "", "Invalid")
    where = (path + rule.path).removeprefix(".") if rule.path else at
    errors.append(FieldError(kind, where, rules.type_name, _message(rule, variables, budget)))


def _message(rule: Rule, variables: dict[str, Any], budget: _Budget) -> str:
    if rule.message is not None:
        try:
            text, cost = rule.message.evaluate(variables, min(budget.left, call_cost_max))
        except (CelError, CostExceeded):
            return rule.default_message()
        budget.left -= cost
        text = text.strip() if isinstance(text, str) else ""
        if text and "\n" not in text and len(text.encode()) <= message_bytes_max:
            return str(text)
    return rule.default_message()
