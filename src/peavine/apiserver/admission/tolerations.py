"""DefaultTolerationSeconds: a pod stays five minutes on a node that is not ready or cannot be reached."""

from __future__ import annotations

from peavine.apiserver.admission.chain import PluginContext
from peavine.apiserver.admission.request import CREATE, UPDATE, AdmissionRequest, Plugin

NOT_READY, UNREACHABLE = "node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"
DEFAULT_SECONDS = 300


class DefaultTolerationSeconds(Plugin):
    name = "DefaultTolerationSeconds"
    operations = frozenset((CREATE, UPDATE))
    resources = frozenset((("", "pods"),))

    def __init__(self, context: PluginContext) -> None:
        config = context.config.get(self.name) or {}
        self.seconds = {
            NOT_READY: config.get("notReadyTolerationSeconds", DEFAULT_SECONDS),
            UNREACHABLE: config.get("unreachableTolerationSeconds", DEFAULT_SECONDS),
        }

    async def admit(self, req: AdmissionRequest) -> None:
        if req.subresource or req.obj is None:
            return
        spec = req.obj["spec"]
        tolerations = spec.get("tolerations") or []
        for key, seconds in self.seconds.items():
            if any(t.get("key", "") in ("", key) and t.get("effect", "") in ("", "NoExecute") for t in tolerations):
                continue
            added = {"key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": seconds}
            spec["tolerations"] = [*(spec.get("tolerations") or []), added]
