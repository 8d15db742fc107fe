"""DefaultIngressClass: an Ingress that names no class gets the default one."""

from __future__ import annotations

from peavine.apiserver.admission.chain import PluginContext
from peavine.apiserver.admission.request import CREATE, AdmissionRequest, Plugin
from peavine.apiserver.admission.storage import newest_default

GROUP = "networking.k8s.io"


class DefaultIngressClass(Plugin):
    name = "DefaultIngressClass"
    operations = frozenset((CREATE,))
    resources = frozenset(((GROUP, "ingresses"),))

    def __init__(self, context: PluginContext) -> None:
        self.lister = context.lister

    async def admit(self, req: AdmissionRequest) -> None:
        if req.subresource or req.obj is None or req.obj["spec"].get("ingressClassName") is not None:
            return
        if "kubernetes.io/ingress.class" in (req.obj["metadata"].get("annotations") or {}):
            return
        annotation = ("ingressclass.kubernetes.io/is-default-class",)
        found = newest_default(self.lister.list(GROUP, "ingressclasses"), annotation)
        if found is not None:
            req.obj["spec"]["ingressClassName"] = found["metadata"]["name"]
