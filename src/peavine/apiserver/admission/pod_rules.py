"""Small rules about what pods and Services may name: images always pulled, no external addresses, topology labels."""

from __future__ import annotations

from typing import Any

from peavine.api.catalogue import CATALOGUE
from peavine.apiserver.admission.chain import PluginContext
from peavine.apiserver.admission.podsecurity_checks import containers_of
from peavine.apiserver.admission.refusals import forbidden
from peavine.apiserver.admission.request import CREATE, UPDATE, AdmissionRequest, Plugin
from peavine.apiserver.authorization.attributes import Attributes, decide, refusal
from peavine.machinery import errors
from peavine.machinery.names import GVK, split_group_version

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
        if not target.get("name"):
            return
        of_node = self.lister.labels("", "nodes", None, target["name"])
        labels = {key: of_node[key] for key in _TOPOLOGY if key in of_node}
        if labels:
            metadata = req.obj.setdefault("metadata", {})
            metadata["labels"] = {**(metadata.get("labels") or {}), **labels}


class OwnerReferencesPermissionEnforcement(Plugin):
    """Who changes an object's owners must be able to delete it; who has an owner wait, to change that owner."""

    name = "OwnerReferencesPermissionEnforcement"
    operations = frozenset((CREATE, UPDATE))

    def __init__(self, context: PluginContext) -> None:
        self.authorizer, self.registry = context.authorizer, context.registry

    async def validate(self, req: AdmissionRequest) -> None:
        if req.obj is None or self.authorizer is None or (req.gvr.resource == "pods" and req.subresource == "status"):
            return
        await self._may_block(req)
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

    async def _may_block(self, req: AdmissionRequest) -> None:
        """Only who may set an owner's finalizers may make its deletion wait for this object."""
        assert req.obj is not None and self.authorizer is not None
        old = {
            ref.get("uid")
            for ref in ((req.old or {}).get("metadata") or {}).get("ownerReferences") or ()
            if ref.get("blockOwnerDeletion")
        }
        for ref in (req.obj.get("metadata") or {}).get("ownerReferences") or ():
            if not ref.get("blockOwnerDeletion") or ref.get("uid") in old:
                continue
            group, version = split_group_version(ref.get("apiVersion") or "")
            kind = self._kind(GVK(group, version, ref.get("kind") or ""))
            if kind is None:
                why = (
                    f"cannot set blockOwnerDeletion in this case because cannot find RESTMapping for {ref.get('kind')}"
                )
                raise forbidden(req, why)
            namespace = req.namespace if kind.namespaced else ""
            name = ref.get("name") or ""
            asked = Attributes(req.user, "update", namespace, group, version, kind.plural, "finalizers", name)
            if not (await decide(self.authorizer, asked)).allowed:
                what = "if an ownerReference refers to a resource you can't set finalizers on"
                raise forbidden(req, f"cannot set blockOwnerDeletion {what}: {refusal(asked)}, <nil>")

    def _kind(self, gvk: GVK) -> Any:
        found = CATALOGUE.kind(gvk)
        if found is None and self.registry is not None:
            kinds = (kind for kind in self.registry.kinds() if kind.gvk == gvk)
            found = next(kinds, None)
        return found
