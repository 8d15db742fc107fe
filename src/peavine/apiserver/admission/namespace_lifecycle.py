"""NamespaceLifecycle: nothing is made in a namespace that is missing or going; the system's namespaces stay."""

from __future__ import annotations

from peavine.apiserver.admission.chain import PluginContext
from peavine.apiserver.admission.refusals import forbidden
from peavine.apiserver.admission.request import CREATE, DELETE, UPDATE, AdmissionRequest, Plugin
from peavine.machinery import errors

IMMORTAL = frozenset(("default", "kube-system", "kube-public"))
_REVIEWS = frozenset((("authorization.k8s.io", "localsubjectaccessreviews"),))


class NamespaceLifecycle(Plugin):
    name = "NamespaceLifecycle"
    operations = frozenset((CREATE, UPDATE, DELETE))

    def __init__(self, context: PluginContext) -> None:
        self.lister = context.lister

    async def admit(self, req: AdmissionRequest) -> None:
        if req.gvr.resource == "namespaces" and not req.gvr.group:
            if req.operation == DELETE and req.name in IMMORTAL:
                raise forbidden(req, "this namespace may not be deleted")
            return
        if not req.namespace or req.operation == DELETE or (req.gvr.group, req.gvr.resource) in _REVIEWS:
            return
        namespace = self.lister.get("", "namespaces", None, req.namespace)
        if namespace is None:
            raise errors.not_found("namespaces", req.namespace)
        if req.operation != CREATE or (namespace.get("status") or {}).get("phase") != "Terminating":
            return
        why = f"unable to create new content in namespace {req.namespace} because it is being terminated"
        error = forbidden(req, why)
        cause = {
            "reason": "NamespaceTerminating",
            "message": f"namespace {req.namespace} is being terminated",
            "field": "metadata.namespace",
        }
        error.details["causes"] = [cause]
        raise error
