"""Small rules about what pods and Services may name: images always pulled, no external addresses, topology labels."""

from __future__ import annotations

from peavine.apiserver.admission.chain import PluginContext
from peavine.apiserver.admission.podsecurity_checks import containers_of
from peavine.apiserver.admission.refusals import forbidden
from peavine.apiserver.admission.request import CREATE, UPDATE, AdmissionRequest, Plugin
from peavine.apiserver.authorization.attributes import Attributes, decide
from peavine.machinery import errors

_TOPOLOGY = ("topology.kubernetes.io/zone", "topology.kubernetes.io/region")


class AlwaysPullImages(Plugin):
    """Who may not pull an image may not run it from another's cache either."""

    name = "AlwaysPullImages"
    operations = frozenset((CREATE, UPDATE))
    resources = frozenset((("", "pods"),))

    def __init__(self, context: PluginContext) -> None:
        del context

    async def admit(self, req: AdmissionRequest) -> None:
        if req.obj is None or req.subresource not in ("", "ephemeralcontainers") or self._same_images(req):
            return
        for container in containers_of(req.obj["spec"]):
            container["imagePullPolicy"] = "Always"
        for volume in req.obj["spec"].get("volumes") or ():
            if volume.get("image"):
                volume["image"]["pullPolicy"] = "Always"

    async def validate(self, req: AdmissionRequest) -> None:
        if req.obj is None or req.subresource not in ("", "ephemeralcontainers") or self._same_images(req):
            return
        for container in containers_of(req.obj["spec"]):
            if container.get("imagePullPolicy") != "Always":
                field, value = "imagePullPolicy", container.get("imagePullPolicy", "")
                raise forbidden(req, str(errors.not_supported(field, value, ["Always"])))

    @staticmethod
    def _same_images(req: AdmissionRequest) -> bool:
        if req.operation != UPDATE or req.old is None or req.obj is None:
            return False
        known = {container.get("image") for container in containers_of(req.old["spec"])}
        return all(container.get("image") in known for container in containers_of(req.obj["spec"]))


class DenyServiceExternalIPs(Plugin):
    """CVE-2020-8554: who may write a Service could otherwise take the traffic to any address."""

    name = "DenyServiceExternalIPs"
    operations = frozenset((CREATE, UPDATE))
    resources = frozenset((("", "services"),))

    def __init__(self, context: PluginContext) -> None:
        del context

    async def validate(self, req: AdmissionRequest) -> None:
        if req.subresource or req.obj is None:
            return
        old = set(((req.old or {}).get("spec") or {}).get("externalIPs") or ())
        if set((req.obj.get("spec") or {}).get("externalIPs") or ()) - old:
            raise forbidden(req, "Use of external IPs is denied by admission control")


class PodTopologyLabels(Plugin):
    """A binding carries its node's zone and region, so that the pod can read them."""

    name = "PodTopologyLabels"
    operations = frozenset((CREATE,))
    resources = frozenset((("", "pods"), ("", "bindings")))

    def __init__(self, context: PluginContext) -> None:
        self.lister = context.lister

    async def admit(self, req: AdmissionRequest) -> None:
        if req.obj is None or (req.gvr.resource == "pods" and req.subresource != "binding"):
            return
        target = req.obj.get("target") or {}
        node = self.lister.get("", "nodes", None, target.get("name", "")) if target.get("name") else None
        if node is None:
            return
        labels = {k: v for k, v in (node["metadata"].get("labels") or {}).items() if k in _TOPOLOGY}
        if labels:
            metadata = req.obj.setdefault("metadata", {})
            metadata["labels"] = {**(metadata.get("labels") or {}), **labels}


class OwnerReferencesPermissionEnforcement(Plugin):
    """Who changes an object's owners must be able to delete it; who has an owner wait, to change that owner."""

    name = "OwnerReferencesPermissionEnforcement"
    operations = frozenset((CREATE, UPDATE))

    def __init__(self, context: PluginContext) -> None:
        self.authorizer = context.authorizer

    async def validate(self, req: AdmissionRequest) -> None:
        if req.obj is None or self.authorizer is None or (req.gvr.resource == "pods" and req.subresource == "status"):
            return
        new = (req.obj.get("metadata") or {}).get("ownerReferences") or []
        old = ((req.old or {}).get("metadata") or {}).get("ownerReferences") or []
        if new == old or req.operation == CREATE:
            return
        gvr = req.gvr
        attributes = Attributes(req.user, "delete", req.namespace, gvr.group, gvr.version, gvr.resource, "", req.name)
        decision = await decide(self.authorizer, attributes)
        if not decision.allowed:
            why = f"cannot set an ownerRef on a resource you can't delete: {decision.reason}, <nil>"
            raise forbidden(req, why)
