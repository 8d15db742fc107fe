"""The claims of pods' generic ephemeral volumes: made with the pod, gone with it. Upstream: volume/ephemeral."""

from __future__ import annotations

from peavine.api.core.podstate import is_deleting
from peavine.controllers.controller import Context, Controller, Key, Object
from peavine.controllers.ownership import controlled_by, owner_reference


class EphemeralVolumeController(Controller):
    name = "ephemeral-volume-controller"
    account = "ephemeral-volume-controller"

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self.pods = self.watch("v1", "pods", keys=_with_ephemeral_volumes)
        self.claims = self.read("v1", "persistentvolumeclaims")

    async def reconcile(self, key: Key) -> float | None:
        pod = self.pods.get(*key)
        if pod is None or is_deleting(pod):
            return None
        for volume in pod["spec"].get("volumes") or ():
            template = (volume.get("ephemeral") or {}).get("volumeClaimTemplate")
            if template is not None:
                await self._ensure(pod, f"{key[1]}-{volume['name']}", template)
        return None

    async def _ensure(self, pod: Object, name: str, template: Object) -> None:
        namespace = pod["metadata"]["namespace"]
        claim = self.claims.get(namespace, name)
        if claim is not None:
            if not controlled_by(claim, pod):
                message = f"PVC {namespace}/{name} was not created for pod {namespace}/{pod['metadata']['name']} "
                raise ValueError(message + "(pod is not the owner)")
            return
        of_template = template.get("metadata") or {}
        owner = {**pod, "apiVersion": "v1", "kind": "Pod"}
        meta = {"name": name, "namespace": namespace, "ownerReferences": [owner_reference(owner)]}
        meta |= {part: of_template[part] for part in ("labels", "annotations") if of_template.get(part)}
        await self.client.resource("v1", "persistentvolumeclaims").create(
            {
                "apiVersion": "v1",
                "kind": "PersistentVolumeClaim",
                "metadata": meta,
                "spec": template.get("spec") or {},
            }
        )


def _with_ephemeral_volumes(pod: Object) -> list[Key]:
    if any(volume.get("ephemeral") for volume in (pod.get("spec") or {}).get("volumes") or ()):
        return [(pod["metadata"]["namespace"], pod["metadata"]["name"])]
    return []
