"""A claim that is deleted while pods use it stays until they are gone. Upstream: volume/pvcprotection."""

from __future__ import annotations

from peavine.client.informer import key_of
from peavine.controllers.controller import Context, Controller, Key, Object

FINALIZER = "kubernetes.io/pvc-protection"


class PVCProtectionController(Controller):
    name = "persistentvolumeclaim-protection-controller"
    account = "pvc-protection-controller"

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self.claims = self.watch("v1", "persistentvolumeclaims")
        self.pods = self.watch("v1", "pods", keys=claims_of)
        self.resource = self.client.resource("v1", "persistentvolumeclaims")

    async def reconcile(self, key: Key) -> float | None:
        claim = self.claims.get(*key)
        if claim is None:
            return None
        finalizers = claim["metadata"].get("finalizers") or []
        if not claim["metadata"].get("deletionTimestamp"):
            if FINALIZER not in finalizers:
                await self._write(claim, [*finalizers, FINALIZER])
        elif FINALIZER in finalizers and not await self._used(key):
            await self._write(claim, [f for f in finalizers if f != FINALIZER])
        return None

    async def _used(self, key: Key) -> bool:
        if any(_uses(pod, key) for pod in self.pods.list(key[0])):
            return True
        # The cache may be old: ask the server before letting go.
        fresh = await self.client.resource("v1", "pods").list(key[0])
        return any(_uses(pod, key) for pod in fresh["items"])

    async def _write(self, claim: Object, finalizers: list[str]) -> None:
        wanted = {**claim, "apiVersion": "v1", "kind": "PersistentVolumeClaim"}
        await self.resource.update({**wanted, "metadata": {**claim["metadata"], "finalizers": finalizers}})


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
