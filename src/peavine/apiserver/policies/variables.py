"""What expressions of policies and match conditions see: object, oldObject, request, params, authorizer, ..."""

from __future__ import annotations

from functools import cache
from typing import Any

from peavine.apiserver.admission.chain import PluginContext
from peavine.apiserver.admission.request import AdmissionRequest
from peavine.apiserver.policies.authorizer import LIBRARY, ResourceCheck, Root
from peavine.apiserver.webhooks.matching import Match
from peavine.apiserver.webhooks.review import request_of
from peavine.machinery.cel import CompileError, Environment
from peavine.machinery.cel.types import DYN, opaque

Object = dict[str, Any]


@cache
def environment(*, params: bool = False, variables: bool = False) -> Environment:
    """The environment of an expression: `params` where the policy has a parameter kind, `variables` in policies."""
    known = {
        "object": DYN,
        "oldObject": DYN,
        "request": DYN,
        "authorizer": opaque(Root.cel_type),
        "authorizer.requestResource": opaque(ResourceCheck.cel_type),
    }
    if params or variables:
        known["namespaceObject"] = DYN
    if params:
        known["params"] = DYN
    if variables:
        known["variables"] = DYN
    return Environment(known, [LIBRARY])


def variables_of(context: PluginContext, req: AdmissionRequest, found: Match) -> dict[str, Any]:
    """The variables of a write; parameters are added by whoever has them."""
    request = request_of(req, found, "")
    for name in ("object", "oldObject", "uid"):
        request.pop(name, None)
    return {
        "object": found.obj,
        "oldObject": found.old,
        "request": request,
        "authorizer": Root(context.authorizer, req),
        "namespaceObject": namespace_of(context, req),
    }


# What of a Namespace expressions may see.
_META = ("name", "generateName", "uid", "labels", "annotations", "creationTimestamp", "deletionTimestamp", "generation")


def namespace_of(context: PluginContext, req: AdmissionRequest) -> Object | None:
    if not req.namespace or (req.gvr.resource == "namespaces" and not req.gvr.group):
        return None
    found = context.lister.get("", "namespaces", None, req.namespace)
    if found is None:
        return None
    meta = {name: found["metadata"][name] for name in _META if name in found["metadata"]}
    return {"metadata": meta, "spec": found.get("spec") or {}, "status": found.get("status") or {}}


def problem_of(text: str) -> str | None:
    """What keeps an expression of a policy or match condition from compiling, as its field error says it."""
    try:
        environment(params=True, variables=True).compile(text)
    except CompileError as error:
        return f"compilation failed: {error}"
    return None


__all__ = ["environment", "problem_of", "variables_of"]
