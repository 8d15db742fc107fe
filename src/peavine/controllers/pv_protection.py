"""A volume that is deleted while a claim is bound to it stays until it is not. Upstream: volume/pvprotection."""

from __future__ import annotations

from peavine.controllers.controller import Object
from peavine.controllers.protection import ProtectionController


class PVProtectionController(ProtectionController):
    name = "persistentvolume-protection-controller"
    account = "pv-protection-controller"
    api_version, plural, finalizer = "v1", "persistentvolumes", "kubernetes.io/pv-protection"

    async def in_use(self, obj: Object) -> bool:
        return (obj.get("status") or {}).get("phase") == "Bound"
