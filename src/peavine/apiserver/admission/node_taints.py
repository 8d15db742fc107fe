"""TaintNodesByCondition: a new node takes no pods until the node lifecycle controller has seen it ready."""

from __future__ import annotations

from peavine.apiserver.admission.chain import PluginContext
from peavine.apiserver.admission.request import CREATE, AdmissionRequest, Plugin

NOT_READY = {"key": "node.kubernetes.io/not-ready", "effect": "NoSchedule"}


class TaintNodesByCondition(Plugin):
    name = "TaintNodesByCondition"
    operations = frozenset((CREATE,))
    resources = frozenset((("", "nodes"),))

    def __init__(self, context: PluginContext) -> None:
        del context

    async def admit(self, req: AdmissionRequest) -> None:
        if req.subresource or req.obj is None:
            return
        spec = req.obj.setdefault("spec", {})
        taints = spec.get("taints") or []
        if not any(t.get("key") == NOT_READY["key"] and t.get("effect") == NOT_READY["effect"] for t in taints):
            spec["taints"] = [*taints, dict(NOT_READY)]
