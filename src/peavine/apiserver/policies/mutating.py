"""The plugin MutatingAdmissionPolicy: changes written in CEL, as applied configurations or as JSON patches."""

from __future__ import annotations

import logging
from functools import partial
from typing import Any

import orjson

from peavine.apiserver.admission.chain import PluginContext
from peavine.apiserver.admission.request import CREATE, UPDATE, AdmissionRequest, Plugin
from peavine.apiserver.policies.bindings import ERRORS, Evaluation, Policies, Policy, PolicyError
from peavine.apiserver.registry.conversions import settled
from peavine.apiserver.webhooks.mutating import MutatingAdmissionWebhook
from peavine.machinery.apply.merge import merge, shape_errors
from peavine.machinery.errors import ApiError, forbidden
from peavine.machinery.patches import apply_json_patch

log = logging.getLogger(__name__)

Object = dict[str, Any]
_FAILURES: tuple[type[Exception], ...] = (*ERRORS, ApiError, ValueError)


class MutatingAdmissionPolicy(Plugin):
    name = "MutatingAdmissionPolicy"
    operations = frozenset((CREATE, UPDATE))

    def __init__(self, context: PluginContext) -> None:
        self._context = context
        self._policies = Policies(context, "mutatingadmissionpolicies", "mutatingadmissionpolicybindings")
        self._finisher = MutatingAdmissionWebhook.whole(context.registry)

    async def admit(self, req: AdmissionRequest) -> None:
        again = bool(req.notes.get("reinvoking"))
        async for policy, binding, found in self._policies.concerning(req):
            if again and policy.spec.get("reinvocationPolicy") != "IfNeeded":
                continue
            if req.obj is None:
                return
            try:
                changed = await self._mutated(policy, binding, req, found)
            except _FAILURES as error:
                if policy.fails_open:
                    log.warning("MutatingAdmissionPolicy %s failed, failing open: %s", policy.name, error)
                    continue
                why = (
                    f"policy '{policy.name}' with binding '{binding['metadata']['name']}' denied request: "
                    f"{error.message if isinstance(error, ApiError) else error}"
                )
                raise forbidden(req.gvr.resource, req.object_name, why, req.gvr.group) from error
            if changed is not None and changed != req.obj:
                req.obj = changed
                if not again:
                    req.notes["reinvoke"] = True

    async def _mutated(self, policy: Policy, binding: Object, req: AdmissionRequest, found: Any) -> Object | None:
        """The object after the policy; None when it has nothing to say."""
        if not self._conditions_hold(policy, self._policies.variables(req, found)):
            return None
        whole = req.obj
        for param in self._policies.params(policy, binding, req):
            for mutation in policy.spec.get("mutations") or []:
                found.obj = whole if found.gvk == req.gvk else found.obj
                evaluation = Evaluation(policy, self._policies.variables(req, found), param)
                new = self._one(evaluation, mutation, req, found)
                whole = await settled(partial(self._finisher, req, found, new))
        return whole

    def _conditions_hold(self, policy: Policy, variables: Object) -> bool:
        listed = policy.spec.get("matchConditions")
        if not listed:
            return True
        from peavine.apiserver.webhooks.conditions import Conditions

        failed, matched = Conditions(self._context).decide(policy, listed, variables)
        if matched is None:
            raise PolicyError(failed)
        return matched

    def _one(self, evaluation: Evaluation, mutation: Object, req: AdmissionRequest, found: Any) -> Object:
        if mutation.get("patchType") == "JSONPatch":
            operations = evaluation.evaluate((mutation.get("jsonPatch") or {}).get("expression") or "")
            if not isinstance(operations, list):
                raise PolicyError("the expression of a JSONPatch must give a list")
            return apply_json_patch(found.obj, _plain(operations))
        config = evaluation.evaluate((mutation.get("applyConfiguration") or {}).get("expression") or "")
        if not isinstance(config, dict):
            raise PolicyError("the expression of an ApplyConfiguration must give an Object")
        return self._applied(_plain(config), found)

    def _applied(self, config: Object, found: Any) -> Object:
        """Merged as server-side apply merges, without ownership."""
        meta = config.get("metadata") or {}
        if any(name in config for name in ("apiVersion", "kind")) or any(
            name in meta for name in ("name", "namespace", "uid", "resourceVersion", "managedFields")
        ):
            raise PolicyError("ApplyConfiguration may not modify apiVersion, kind or the identity of the object")
        registry = self._context.registry
        kind = registry.kind(found.gvr.group, found.gvr.version, found.gvr.resource) if registry is not None else None
        type = registry.type_of(kind) if kind is not None else None
        problems = shape_errors(config, type)
        if problems:
            raise PolicyError(f"invalid ApplyConfiguration: {problems[0]}")
        return merge(found.obj, config, type)


def _plain(value: Any) -> Any:
    """A value of CEL as JSON. Raises ValueError for what has no such form."""
    try:
        return orjson.loads(orjson.dumps(value, default=_unknown))
    except TypeError as error:
        raise ValueError(str(error)) from error


def _unknown(value: Any) -> Any:
    if isinstance(value, (int, str)):
        return int(value) if isinstance(value, int) else str(value)
    return str(value)
