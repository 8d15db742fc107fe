"""A VolumeAttributesClass that is deleted while claims or volumes name it stays until none does."""

from __future__ import annotations

from peavine.controllers.controller import Context, Controller, Key, Object

FINALIZER = "kubernetes.io/vac-protection"
API = "storage.k8s.io/v1"


class VolumeAttributesClassProtectionController(Controller):
    name = "volumeattributesclass-protection-controller"
    account = "volumeattributesclass-protection-controller"

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self.classes = self.watch(API, "volumeattributesclasses")
        self.claims = self.watch("v1", "persistentvolumeclaims", keys=_named)
        self.volumes = self.watch("v1", "persistentvolumes", keys=_named)

    async def reconcile(self, key: Key) -> float | None:
        found = self.classes.get(*key)
        if found is None:
            return None
        finalizers = found["metadata"].get("finalizers") or []
        deleting = bool(found["metadata"].get("deletionTimestamp"))
        if not deleting and FINALIZER not in finalizers:
            wanted = [*finalizers, FINALIZER]
        elif deleting and FINALIZER in finalizers and not self._used(key):
            wanted = [f for f in finalizers if f != FINALIZER]
        else:
            return None
        body = {**found, "apiVersion": API, "kind": "VolumeAttributesClass"}
        body["metadata"] = {**found["metadata"], "finalizers": wanted}
        await self.client.resource(API, "volumeattributesclasses").update(body)
        return None

    def _used(self, key: Key) -> bool:
        return any(key in _named(obj) for obj in [*self.claims.list(), *self.volumes.list()])


def _named(obj: Object) -> list[Key]:
    """The classes that a claim or volume has, had until now, or is changing to."""
    spec, status = obj.get("spec") or {}, obj.get("status") or {}
    names = {
        spec.get("volumeAttributesClassName"),
        status.get("currentVolumeAttributesClassName"),
        (status.get("modifyVolumeStatus") or {}).get("targetVolumeAttributesClassName"),
    }
    return [("", name) for name in sorted(n for n in names if n)]
