"""Writes of roles and bindings are held to what the writer may grant. Always on; upstream does it in the registry."""

from __future__ import annotations

from peavine.apiserver.admission.chain import PluginContext
from peavine.apiserver.admission.request import CREATE, UPDATE, AdmissionRequest, Plugin
from peavine.apiserver.authorization.escalation import EscalationCheck
from peavine.apiserver.authorization.rbac import GROUP

_ROLES, _BINDINGS = ("roles", "clusterroles"), ("rolebindings", "clusterrolebindings")


class EscalationGuard(Plugin):
    name = "peavine.RBACEscalation"
    operations = frozenset((CREATE, UPDATE))
    resources = frozenset((GROUP, resource) for resource in (*_ROLES, *_BINDINGS))

    def __init__(self, context: PluginContext) -> None:
        rbac = getattr(context.authorizer, "rbac", None)
        self.check = EscalationCheck(rbac, context.authorizer) if rbac and context.authorizer else None

    async def validate(self, req: AdmissionRequest) -> None:
        if self.check is None or req.obj is None:
            return
        check = self.check.role if req.gvr.resource in _ROLES else self.check.binding
        await check(req.user, req.obj, req.old)
