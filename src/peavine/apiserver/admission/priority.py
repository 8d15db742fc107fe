"""Priority: the number behind a pod's priority class."""

from __future__ import annotations

from typing import Any

from peavine.apiserver.admission.chain import PluginContext
from peavine.apiserver.admission.refusals import forbidden
from peavine.apiserver.admission.request import CREATE, UPDATE, AdmissionRequest, Plugin

GROUP = "scheduling.k8s.io"
PREEMPT = "PreemptLowerPriority"


class Priority(Plugin):
    name = "Priority"
    operations = frozenset((CREATE, UPDATE))
    resources = frozenset((("", "pods"), (GROUP, "priorityclasses")))

    def __init__(self, context: PluginContext) -> None:
        self.lister = context.lister

    async def admit(self, req: AdmissionRequest) -> None:
        if req.gvr.resource != "pods" or req.subresource:
            return
        assert req.obj is not None
        spec = req.obj["spec"]
        if req.operation == UPDATE:
            old = (req.old or {}).get("spec") or {}
            for field in ("priority", "preemptionPolicy"):
                if spec.get(field) is None and old.get(field) is not None:
                    spec[field] = old[field]
            return
        value, policy = self._computed(req, spec)
        if spec.get("priority") is not None and spec["priority"] != value:
            why = (
                f"the integer value of priority ({spec['priority']}) must not be provided in pod spec; priority "
                f"admission controller computed {value} from the given PriorityClass name"
            )
            raise forbidden(req, why)
        spec["priority"] = value
        given = spec.get("preemptionPolicy")
        if given is not None and given != policy:
            why = (
                f"the string value of PreemptionPolicy ({given}) must not be provided in pod spec; priority admission "
                f"controller computed {policy} from the given PriorityClass name"
            )
            raise forbidden(req, why)
        spec["preemptionPolicy"] = policy

    async def validate(self, req: AdmissionRequest) -> None:
        if req.gvr.resource != "priorityclasses" or not (req.obj or {}).get("globalDefault"):
            return
        default = self._default()
        if default is not None and default["metadata"]["name"] != req.object_name:
            name = default["metadata"]["name"]
            raise forbidden(req, f"PriorityClass {name} is already marked as default. Only one default can exist")

    def _computed(self, req: AdmissionRequest, spec: dict[str, Any]) -> tuple[int, str]:
        name = spec.get("priorityClassName")
        if name:
            found = self.lister.get(GROUP, "priorityclasses", None, name)
            if found is None:
                raise forbidden(req, f"no PriorityClass with name {name} was found")
        else:
            found = self._default()
            if found is None:
                return 0, PREEMPT
            spec["priorityClassName"] = found["metadata"]["name"]
        return found.get("value", 0), found.get("preemptionPolicy") or PREEMPT

    def _default(self) -> dict[str, Any] | None:
        """The default class; where two servers made two, the one of the lower value."""
        defaults = [c for c in self.lister.list(GROUP, "priorityclasses") if c.get("globalDefault")]
        return min(defaults, key=lambda c: c.get("value", 0), default=None)
