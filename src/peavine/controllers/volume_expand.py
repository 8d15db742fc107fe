"""Claims that ask for more than their volume has.

Upstream: pkg/controller/volume/expand. A volume of a CSI driver is expanded by the driver's resizer, and this
controller says that it is waited for. Local-path volumes are directories without a limit of their own: here the volume
and then the claim are given their new size.
"""

from __future__ import annotations

from peavine.api.core.persistentvolumeclaim import storage_class
from peavine.client.informer import key_of
from peavine.controllers.controller import Context, Controller, Key, Object
from peavine.controllers.persistent_volume.matching import is_bound_to, requested
from peavine.controllers.persistent_volume.provision import PROVISIONED_BY, PROVISIONER
from peavine.machinery.quantity import parse_quantity


class ExpandController(Controller):
    name = "persistentvolume-expander-controller"
    account = "expand-controller"

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self.claims = self.watch("v1", "persistentvolumeclaims")
        self.volumes = self.read("v1", "persistentvolumes")
        self.claim_resource = self.client.resource("v1", "persistentvolumeclaims")
        self.volume_resource = self.client.resource("v1", "persistentvolumes")

    async def reconcile(self, key: Key) -> float | None:
        claim = self.claims.get(*key)
        if claim is None or (claim.get("status") or {}).get("phase") != "Bound":
            return None
        volume = self.volumes.get("", claim["spec"].get("volumeName") or "")
        has = parse_quantity(((claim["status"].get("capacity") or {}).get("storage")) or "0")
        if volume is None or not is_bound_to(volume, claim) or requested(claim) <= has:
            return None
        about = {**claim, "apiVersion": "v1", "kind": "PersistentVolumeClaim"}
        if (volume["metadata"].get("annotations") or {}).get(PROVISIONED_BY) != PROVISIONER:
            # Said once for a size: the event's repetition is counted, and nothing is done here.
            message = "waiting for an external controller to expand this PVC"
            self.recorder.event(about, "Normal", "ExternalExpanding", message)
            return None
        self.log.debug("expanding %s/%s of class %s", *key_of(claim), storage_class(claim))
        await self._expand(claim, volume)
        self.recorder.event(about, "Normal", "VolumeResizeSuccessful", "Resize volume succeeded")
        return None

    async def _expand(self, claim: Object, volume: Object) -> None:
        size = {"storage": claim["spec"]["resources"]["requests"]["storage"]}
        if parse_quantity(volume["spec"]["capacity"]["storage"]) < requested(claim):
            capacity = {**volume["spec"]["capacity"], **size}
            await self.volume_resource.patch(volume["metadata"]["name"], {"spec": {"capacity": capacity}})
        status = {"capacity": {**(claim["status"].get("capacity") or {}), **size}, "allocatedResources": size}
        namespace, name = key_of(claim)
        await self.claim_resource.patch(name, {"status": status}, namespace, subresource="status")
