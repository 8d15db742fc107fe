"""A VolumeAttributesClass that is deleted while claims or volumes name it stays until none does."""

from __future__ import annotations

from peavine.client.informer import key_of
from peavine.controllers.controller import Context, Key, Object
from peavine.controllers.protection import ProtectionController


class VolumeAttributesClassProtectionController(ProtectionController):
    name = "volumeattributesclass-protection-controller"
    account = "volumeattributesclass-protection-controller"
    api_version, plural, finalizer = "storage.k8s.io/v1", "volumeattributesclasses", "kubernetes.io/vac-protection"

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self.claims = self.watch("v1", "persistentvolumeclaims", keys=_named)
        self.volumes = self.watch("v1", "persistentvolumes", keys=_named)

    async def in_use(self, obj: Object) -> bool:
        return any(key_of(obj) in _named(user) for user in [*self.claims.list(), *self.volumes.list()])


def _named(obj: Object) -> list[Key]:
    """The classes that a claim or volume has, had until now, or is changing to."""
    spec, status = obj.get("spec") or {}, obj.get("status") or {}
    names = {
        spec.get("volumeAttributesClassName"),
        status.get("currentVolumeAttributesClassName"),
        (status.get("modifyVolumeStatus") or {}).get("targetVolumeAttributesClassName"),
    }
    return [("", name) for name in sorted(n for n in names if n)]
