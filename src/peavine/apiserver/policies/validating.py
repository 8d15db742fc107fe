"""The plugin ValidatingAdmissionPolicy: each binding's actions on what its policy's expressions refuse."""

from __future__ import annotations

import json
from typing import Any

from peavine.api.admissionregistration import webhooks
from peavine.apiserver.admission.chain import PluginContext
from peavine.apiserver.admission.request import CONNECT, CREATE, DELETE, UPDATE, AdmissionRequest, Plugin
from peavine.apiserver.policies.bindings import ERRORS, Evaluation, Policies, Policy, PolicyError
from peavine.apiserver.policies.variables import problem_of
from peavine.machinery.cel import CelError, CostExceeded
from peavine.machinery.errors import ApiError

Object = dict[str, Any]
annotation_bytes_max = 10 * 1024

_CODES = {"Unauthorized": 401, "Forbidden": 403, "Invalid": 422, "RequestEntityTooLarge": 413}


class _Refusal:
    """One expression that was false, or failed, for one binding."""

    def __init__(self, message: str, reason: str, place: int) -> None:
        self.message, self.reason, self.place = message, reason, place


class ValidatingAdmissionPolicy(Plugin):
    name = "ValidatingAdmissionPolicy"
    operations = frozenset((CREATE, UPDATE, DELETE, CONNECT))

    def __init__(self, context: PluginContext) -> None:
        self._policies = Policies(context, "validatingadmissionpolicies", "validatingadmissionpolicybindings")
        self._context = context
        # From here on, expressions are compiled when they are written, and not only when they are used.
        webhooks.compile_expression = problem_of

    async def validate(self, req: AdmissionRequest) -> None:
        denials: list[tuple[Policy, Object, _Refusal]] = []
        audited: list[Object] = []
        async for policy, binding, found in self._policies.concerning(req):
            variables = self._policies.variables(req, found)
            refusals = self._refusals(policy, binding, req, variables)
            actions = (binding.get("spec") or {}).get("validationActions") or []
            for refusal in refusals:
                if "Deny" in actions:
                    denials.append((policy, binding, refusal))
                if "Warn" in actions:
                    text = (
                        f"Validation failed for ValidatingAdmissionPolicy '{policy.name}' with binding "
                        f"'{binding['metadata']['name']}': {refusal.message}"
                    )
                    if text not in req.warnings:
                        req.warnings.append(text)
                if "Audit" in actions:
                    audited.append(
                        {
                            "message": refusal.message,
                            "policy": policy.name,
                            "binding": binding["metadata"]["name"],
                            "expressionIndex": refusal.place,
                            "validationActions": actions,
                        }
                    )
        if audited:
            req.annotations["validation.policy.admission.k8s.io/validation_failure"] = json.dumps(audited)
        if denials:
            raise _denied(req, *denials[0])

    def _refusals(self, policy: Policy, binding: Object, req: AdmissionRequest, variables: Object) -> list[_Refusal]:
        try:
            if not self._conditions_hold(policy, variables):
                return []
            params = self._policies.params(policy, binding, req)
        except PolicyError as error:
            return [] if policy.fails_open else [_Refusal(f"failed to configure policy: {error}", "Invalid", -1)]
        refusals: list[_Refusal] = []
        for param in params:
            evaluation = Evaluation(policy, variables, param)
            for place, validation in enumerate(policy.spec.get("validations") or []):
                refusal = _checked(policy, evaluation, validation, place)
                if refusal is not None:
                    refusals.append(refusal)
            self._annotate(policy, evaluation, req)
        return refusals

    def _conditions_hold(self, policy: Policy, variables: Object) -> bool:
        listed = policy.spec.get("matchConditions")
        if not listed:
            return True
        from peavine.apiserver.webhooks.conditions import Conditions

        failed, matched = Conditions(self._context).decide(policy, listed, variables)
        if matched is None:
            raise PolicyError(failed)
        return matched

    def _annotate(self, policy: Policy, evaluation: Evaluation, req: AdmissionRequest) -> None:
        for annotation in policy.spec.get("auditAnnotations") or []:
            try:
                value = evaluation.evaluate(annotation["valueExpression"])
            except ERRORS:
                continue  # an annotation that has no value is left out; the validations decide about the write
            if isinstance(value, str) and value.strip():
                key = f"{policy.name}/{annotation['key']}"
                req.annotations[key] = value.strip().encode()[:annotation_bytes_max].decode("utf-8", "ignore")


def _checked(policy: Policy, evaluation: Evaluation, validation: Object, place: int) -> _Refusal | None:
    text = validation.get("expression") or ""
    try:
        value = evaluation.evaluate(text, "bool")
    except PolicyError as error:
        return None if policy.fails_open else _Refusal(str(error), "Invalid", place)
    except (CelError, CostExceeded) as error:
        return None if policy.fails_open else _Refusal(_failed(text, error), "Invalid", place)
    if value is True:
        return None
    reason = validation.get("reason") or "Invalid"
    return _Refusal(_message(evaluation, validation), reason, place)


def _failed(text: str, error: Exception) -> str:
    if isinstance(error, CostExceeded):
        return "validation failed due to running out of cost budget, no further validation rules will be run"
    return f"expression '{text}' resulted in error: {error}"


def _message(evaluation: Evaluation, validation: Object) -> str:
    if validation.get("messageExpression"):
        try:
            text = evaluation.evaluate(validation["messageExpression"], "string")
        except ERRORS:
            text = ""
        if isinstance(text, str) and text.strip() and "\n" not in text.strip():
            return text.strip()
    message = (validation.get("message") or "").strip()
    return message or f"failed expression: {(validation.get('expression') or '').strip()}"


def _denied(req: AdmissionRequest, policy: Policy, binding: Object, refusal: _Refusal) -> ApiError:
    gvr = req.gvr
    qualified = f"{gvr.resource}.{gvr.group}" if gvr.group else gvr.resource
    why = (
        f"ValidatingAdmissionPolicy '{policy.name}' with binding '{binding['metadata']['name']}' denied request: "
        f"{refusal.message}"
    )
    message = f'{qualified} "{req.object_name}" is forbidden: {why}'
    details: Object = {"name": req.object_name, "group": gvr.group, "kind": gvr.resource, "causes": [{"message": why}]}
    details = {name: value for name, value in details.items() if value}
    return ApiError(_CODES.get(refusal.reason, 422), refusal.reason, message, details=details)
