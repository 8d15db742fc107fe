"""RuntimeClass: what running a pod in its class costs, and on which nodes the class is."""

from __future__ import annotations

from peavine.apiserver.admission.chain import PluginContext
from peavine.apiserver.admission.refusals import forbidden
from peavine.apiserver.admission.request import CREATE, AdmissionRequest, Plugin
from peavine.machinery.quantity import parse_quantity


class RuntimeClass(Plugin):
    name = "RuntimeClass"
    operations = frozenset((CREATE,))
    resources = frozenset((("", "pods"),))

    def __init__(self, context: PluginContext) -> None:
        self.lister = context.lister

    async def admit(self, req: AdmissionRequest) -> None:
        if req.subresource or req.obj is None:
            return
        spec = req.obj["spec"]
        name = spec.get("runtimeClassName")
        if not name:
            return
        found = self.lister.get("node.k8s.io", "runtimeclasses", None, name)
        if found is None:
            raise forbidden(req, f'pod rejected: RuntimeClass "{name}" not found')
        overhead = (found.get("overhead") or {}).get("podFixed")
        if overhead:
            if spec.get("overhead") and not _equal(spec["overhead"], overhead):
                raise forbidden(req, "pod rejected: Pod's Overhead doesn't match RuntimeClass's defined Overhead")
            spec["overhead"] = dict(overhead)
        scheduling = found.get("scheduling") or {}
        own = spec.get("nodeSelector") or {}
        for key, value in (scheduling.get("nodeSelector") or {}).items():
            if own.get(key, value) != value:
                why = f"pod rejected: conflict: runtimeClass.scheduling.nodeSelector[{key}] = {value}; "
                raise forbidden(req, why + f"pod.spec.nodeSelector[{key}] = {own[key]}")
            own = {**own, key: value}
        if own:
            spec["nodeSelector"] = own
        tolerations = spec.get("tolerations") or []
        added = [t for t in scheduling.get("tolerations") or () if t not in tolerations]
        if added:
            spec["tolerations"] = [*tolerations, *added]

    async def validate(self, req: AdmissionRequest) -> None:
        if req.subresource or req.obj is None:
            return
        spec = req.obj["spec"]
        name = spec.get("runtimeClassName")
        found = self.lister.get("node.k8s.io", "runtimeclasses", None, name) if name else None
        if spec.get("overhead") and not (found or {}).get("overhead"):
            why = "pod rejected: Pod Overhead set without corresponding RuntimeClass defined Overhead"
            raise forbidden(req, why)


def _equal(one: dict[str, str], two: dict[str, str]) -> bool:
    return one.keys() == two.keys() and all(parse_quantity(one[key]) == parse_quantity(two[key]) for key in one)
