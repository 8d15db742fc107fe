"""VolumeAttachments for CSI volumes that must be attached to a node before its kubelet can mount them.

Upstream: pkg/controller/volume/attachdetach. The driver's attacher does the work; this asks for it while a pod on the
node needs the volume, and takes the wish back when none does.
"""

from __future__ import annotations

import hashlib
from typing import Any

from peavine.api.core.podstate import is_terminal
from peavine.client.informer import key_of
from peavine.controllers.controller import Context, Controller, Object
from peavine.controllers.pvc_protection import claims_of
from peavine.machinery.errors import ApiError

API = "storage.k8s.io/v1"
RECHECK_SECONDS = 10.0


class AttachDetachController(Controller):
    name = "persistentvolume-attach-detach-controller"
    account = "attachdetach-controller"
    workers = 1

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self.pods = self.watch("v1", "pods", keys=_node_of)
        self.claims = self.watch("v1", "persistentvolumeclaims", keys=self._nodes_of_claim)
        self.volumes = self.watch("v1", "persistentvolumes", keys=self._nodes_of_volume)
        self.drivers = self.read(API, "csidrivers")
        self.attachments = self.watch(API, "volumeattachments", keys=lambda a: [a["spec"]["nodeName"]])
        self.nodes = self.watch("v1", "nodes", keys=lambda n: [n["metadata"]["name"]])
        self.resource = self.client.resource(API, "volumeattachments")

    def _nodes_of_claim(self, claim: Object) -> list[Any]:
        """The nodes where pods use the claim: what it is bound to may be known only now."""
        key = key_of(claim)
        return sorted(
            {
                pod["spec"]["nodeName"]
                for pod in self.pods.list(key[0])
                if pod["spec"].get("nodeName") and key in claims_of(pod)
            }
        )

    def _nodes_of_volume(self, volume: Object) -> list[Any]:
        name = volume["metadata"]["name"]
        claims = [c for c in self.claims.list() if c["spec"].get("volumeName") == name]
        return sorted({node for claim in claims for node in self._nodes_of_claim(claim)})

    async def reconcile(self, key: Any) -> float | None:
        wanted = self._wanted(key)
        present = {a["metadata"]["name"]: a for a in self.attachments.list() if a["spec"]["nodeName"] == key}
        for name, body in wanted.items():
            if name not in present:
                await self.resource.create(body)
        node = self.nodes.get("", key)
        in_use = set(((node or {}).get("status") or {}).get("volumesInUse") or ())
        waiting = False
        for name, attachment in present.items():
            if name in wanted or attachment["metadata"].get("deletionTimestamp"):
                continue
            if self._unique_name(attachment) in in_use:
                waiting = True  # the kubelet has not unmounted it yet
                continue
            try:
                await self.resource.delete(name, uid=attachment["metadata"]["uid"])
            except ApiError as error:
                if error.code not in (404, 409):
                    raise
        return RECHECK_SECONDS if waiting else None

    def _wanted(self, node: str) -> dict[str, Object]:
        found: dict[str, Object] = {}
        for pod in self.pods.list():
            if pod["spec"].get("nodeName") != node or is_terminal(pod):
                continue
            for key in claims_of(pod):
                volume = self._volume(key)
                csi = ((volume or {}).get("spec") or {}).get("csi")
                if volume is None or csi is None or not self._attached(csi["driver"]):
                    continue
                name = attachment_name(csi["volumeHandle"], csi["driver"], node)
                spec = {
                    "attacher": csi["driver"],
                    "nodeName": node,
                    "source": {"persistentVolumeName": volume["metadata"]["name"]},
                }
                meta = {"name": name}
                found[name] = {"apiVersion": API, "kind": "VolumeAttachment", "metadata": meta, "spec": spec}
        return found

    def _volume(self, key: tuple[str, str]) -> Object | None:
        claim = self.claims.get(*key)
        name = ((claim or {}).get("spec") or {}).get("volumeName")
        return self.volumes.get("", name) if name else None

    def _attached(self, driver: str) -> bool:
        """Whether volumes of this driver need attaching; they do unless it says no."""
        found = self.drivers.get("", driver)
        return found is None or found["spec"].get("attachRequired") is not False

    def _unique_name(self, attachment: Object) -> str:
        volume = self.volumes.get("", attachment["spec"]["source"].get("persistentVolumeName") or "")
        csi = ((volume or {}).get("spec") or {}).get("csi") or {}
        return f"kubernetes.io/csi/{csi.get('driver')}^{csi.get('volumeHandle')}"


def attachment_name(handle: str, driver: str, node: str) -> str:
    """The one name that kubelets look for too."""
    return "csi-" + hashlib.sha256(f"{handle}{driver}{node}".encode()).hexdigest()


def _node_of(pod: Object) -> list[Any]:
    node = pod["spec"].get("nodeName")
    has_claims = any(v.get("persistentVolumeClaim") or v.get("ephemeral") for v in pod["spec"].get("volumes") or ())
    return [node] if node and has_claims else []
