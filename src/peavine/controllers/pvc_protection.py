"""A claim that is deleted while pods use it stays until they are gone. Upstream: volume/pvcprotection."""

from __future__ import annotations

from peavine.client.informer import key_of
from peavine.controllers.controller import Context, Key, Object
from peavine.controllers.protection import ProtectionController


class PVCProtectionController(ProtectionController):
    name = "persistentvolumeclaim-protection-controller"
    account = "pvc-protection-controller"
    api_version, plural, finalizer = "v1", "persistentvolumeclaims", "kubernetes.io/pvc-protection"

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self.pods = self.watch("v1", "pods", keys=claims_of)

    async def in_use(self, obj: Object) -> bool:
        key = key_of(obj)
        if any(_uses(pod, key) for pod in self.pods.list(key[0])):
            return True
        # The cache may be old: ask the server before letting go.
        fresh = await self.client.resource("v1", "pods").list(key[0])
        return any(_uses(pod, key) for pod in fresh["items"])


def claims_of(pod: Object) -> list[Key]:
    """The claims that a pod's volumes name, those of its ephemeral volumes too."""
    namespace, name = key_of(pod)
    found = []
    for volume in (pod.get("spec") or {}).get("volumes") or ():
        if (claim := volume.get("persistentVolumeClaim")) is not None:
            found.append((namespace, claim["claimName"]))
        elif volume.get("ephemeral") is not None:
            found.append((namespace, f"{name}-{volume['name']}"))
    return found


def _uses(pod: Object, key: Key) -> bool:
    """Only a pod that has a node uses a claim: the kubelet starts no pod with a claim that is going."""
    return bool(pod["spec"].get("nodeName")) and key in claims_of(pod)
