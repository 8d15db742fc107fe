"""A volume that is deleted while a claim is bound to it stays until it is not. Upstream: volume/pvprotection."""

from __future__ import annotations

from peavine.controllers.controller import Context, Controller, Key

FINALIZER = "kubernetes.io/pv-protection"


class PVProtectionController(Controller):
    name = "persistentvolume-protection-controller"
    account = "pv-protection-controller"

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self.volumes = self.watch("v1", "persistentvolumes")

    async def reconcile(self, key: Key) -> float | None:
        volume = self.volumes.get(*key)
        if volume is None:
            return None
        finalizers = volume["metadata"].get("finalizers") or []
        deleting = bool(volume["metadata"].get("deletionTimestamp"))
        if not deleting and FINALIZER not in finalizers:
            wanted = [*finalizers, FINALIZER]
        elif deleting and FINALIZER in finalizers and (volume.get("status") or {}).get("phase") != "Bound":
            wanted = [f for f in finalizers if f != FINALIZER]
        else:
            return None
        changed = {**volume, "apiVersion": "v1", "kind": "PersistentVolume"}
        changed["metadata"] = {**volume["metadata"], "finalizers": wanted}
        await self.client.resource("v1", "persistentvolumes").update(changed)
        return None
