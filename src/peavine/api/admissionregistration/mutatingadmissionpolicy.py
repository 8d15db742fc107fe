"""MutatingAdmissionPolicy: changes in CEL that are made to what is written."""

from __future__ import annotations

from typing import Any

from peavine.api.admissionregistration import policies
from peavine.api.printing import AGE, NAME, Column, name, object_age
from peavine.machinery.errors import FieldError, not_supported, required

Object = dict[str, Any]

COLUMNS = (
    NAME,
    Column("Mutations", "integer", "Mutation indicates the number of mutations rules defined in this configuration"),
    Column("ParamKind", description="ParamKind specifies the kind of resources used to parameterize this policy"),
    AGE,
)


def row(obj: Object) -> list[Any]:
    spec = obj.get("spec") or {}
    return [name(obj), len(spec.get("mutations") or []), policies.param_text(spec.get("paramKind")), object_age(obj)]


def default(obj: Object) -> None:
    spec = obj.setdefault("spec", {})
    if spec.get("failurePolicy") is None:
        spec["failurePolicy"] = "Fail"
    policies.default_match(spec.get("matchConstraints"))


def validate_create(obj: Object) -> list[FieldError]:
    spec = obj.get("spec") or {}
    errors = policies.validate_policy(spec)
    policy = spec.get("reinvocationPolicy")
    if not policy:
        errors.append(required("spec.reinvocationPolicy"))
    elif policy not in ("IfNeeded", "Never"):
        errors.append(not_supported("spec.reinvocationPolicy", policy, ["IfNeeded", "Never"]))
    mutations = spec.get("mutations") or []
    if not mutations:
        errors.append(required("spec.mutations", "mutations must contain at least one item"))
    for i, mutation in enumerate(mutations):
        errors += _mutation(mutation, f"spec.mutations[{i}]")
    return errors


def _mutation(mutation: Object, field: str) -> list[FieldError]:
    kinds = {"ApplyConfiguration": "applyConfiguration", "JSONPatch": "jsonPatch"}
    type = mutation.get("patchType") or ""
    if not type:
        return [required(f"{field}.patchType")]
    if type not in kinds:
        return [not_supported(f"{field}.patchType", type, sorted(kinds))]
    errors: list[FieldError] = []
    for kind, part in kinds.items():
        own = mutation.get(part)
        if kind != type:
            if own is not None:
                from peavine.machinery.errors import forbidden_field

                errors.append(forbidden_field(f"{field}.{part}", f"{part} is forbidden when patchType is not {kind}"))
            continue
        if own is None:
            errors.append(required(f"{field}.{part}", f"{part} is required when patchType is {kind}"))
        elif not (own.get("expression") or "").strip():
            errors.append(required(f"{field}.{part}.expression", "expression is not specified"))
        else:
            errors += policies.validate_expression(own["expression"], f"{field}.{part}.expression")
    return errors
