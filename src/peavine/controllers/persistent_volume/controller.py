"""Claims and volumes find each other. Upstream: pkg/controller/volume/persistentvolume.

One controller with two sorts of keys: ("claim", namespace, name) and ("volume", name). A bond is written from both
sides, the volume's first; every step can be repeated, so a crash between two leaves nothing that the next does not
finish.
"""

from __future__ import annotations

from typing import Any

from peavine.api.core.persistentvolumeclaim import storage_class
from peavine.client.informer import key_of
from peavine.controllers.controller import Context, Controller, Object
from peavine.controllers.persistent_volume.matching import SELECTED_NODE, best_match, is_bound_to, suits
from peavine.controllers.persistent_volume.provision import (
    DEFAULT_ROOT,
    HELPER_IMAGE,
    HELPER_NAMESPACE,
    HELPER_SECONDS_MAX,
    PROVISIONED_BY,
    PROVISIONER,
    claim_reference,
    node_of,
    removing_pod,
    volume_for,
)
from peavine.machinery.errors import ApiError
from peavine.machinery.meta import parse_time

BOUND_BY_CONTROLLER = "pv.kubernetes.io/bound-by-controller"
BIND_COMPLETED = "pv.kubernetes.io/bind-completed"
STORAGE_PROVISIONER = "volume.kubernetes.io/storage-provisioner"
OLD_STORAGE_PROVISIONER = "volume.beta.kubernetes.io/storage-provisioner"
NO_PROVISIONER = "kubernetes.io/no-provisioner"
RESYNC_SECONDS = 15.0
HELPER_POLL_SECONDS = 1.0


class PersistentVolumeBinder(Controller):
    name = "persistentvolume-binder-controller"
    account = "persistent-volume-binder"
    workers = 1  # two claims served at once might be given the same volume

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self.claims = self.watch("v1", "persistentvolumeclaims", keys=self._of_claim)
        self.volumes = self.watch("v1", "persistentvolumes", keys=self._of_volume)
        self.classes = self.read("storage.k8s.io/v1", "storageclasses")
        self.nodes = self.read("v1", "nodes")
        self.claim_resource = self.client.resource("v1", "persistentvolumeclaims")
        self.volume_resource = self.client.resource("v1", "persistentvolumes")
        self.root = str(context.options.get("local_path_root") or DEFAULT_ROOT)
        self.helper_image = str(context.options.get("local_path_helper_image") or HELPER_IMAGE)

    def _of_claim(self, claim: Object) -> list[Any]:
        keys: list[Any] = [("claim", *key_of(claim))]
        if claim["spec"].get("volumeName"):
            keys.append(("volume", claim["spec"]["volumeName"]))
        return keys

    def _of_volume(self, volume: Object) -> list[Any]:
        keys: list[Any] = [("volume", volume["metadata"]["name"])]
        reference = volume["spec"].get("claimRef")
        if reference is not None:
            keys.append(("claim", reference.get("namespace", ""), reference.get("name", "")))
        else:
            keys += [("claim", *key_of(c)) for c in self._waiting() if storage_class(c) == storage_class(volume)]
        return keys

    def _waiting(self) -> list[Object]:
        return [c for c in self.claims.list() if not c["spec"].get("volumeName")] if self._informers else []

    async def reconcile(self, key: Any) -> float | None:
        if key[0] == "volume":
            volume = self.volumes.get("", key[1])
            return await self._volume(volume) if volume is not None else None
        claim = self.claims.get(key[1], key[2])
        return await self._claim(claim) if claim is not None else None

    # Claims

    async def _claim(self, claim: Object) -> float | None:
        name = claim["spec"].get("volumeName")
        completed = BIND_COMPLETED in (claim["metadata"].get("annotations") or {})
        if name:
            volume = self.volumes.get("", name)
            if completed:
                return await self._bound_claim(claim, volume)
            if volume is None:
                await self._phase(claim, "Pending")
                return RESYNC_SECONDS
            if volume["spec"].get("claimRef") is None and not suits(volume, claim):
                self._tell(
                    claim, "Warning", "VolumeMismatch", f'Cannot bind to requested volume "{name}": it does not fit'
                )
                await self._phase(claim, "Pending")
                return RESYNC_SECONDS
            if volume["spec"].get("claimRef") is None or is_bound_to(volume, claim):
                await self._bind(claim, volume)
            else:
                message = f'volume "{name}" already bound to a different claim.'
                self._tell(claim, "Warning", "FailedBinding", message)
                await self._phase(claim, "Pending")
            return None
        if claim["metadata"].get("deletionTimestamp"):
            return None
        return await self._unbound_claim(claim)

    async def _unbound_claim(self, claim: Object) -> float | None:
        node = self._selected_node(claim)
        class_ = self.classes.get("", storage_class(claim)) if storage_class(claim) else None
        late = class_ is not None and class_.get("volumeBindingMode") == "WaitForFirstConsumer"
        volume = best_match(claim, self.volumes.list(), node)
        if volume is not None and (not late or node is not None or is_bound_to(volume, claim)):
            await self._bind(claim, volume)
            return None
        await self._phase(claim, "Pending")
        if late and node is None:
            message = "waiting for first consumer to be created before binding"
            self._tell(claim, "Normal", "WaitForFirstConsumer", message)
            return None
        if not storage_class(claim):
            message = "no persistent volumes available for this claim and no storage class is set"
            self._tell(claim, "Normal", "FailedBinding", message)
            return None
        if class_ is None:
            message = f'storageclass.storage.k8s.io "{storage_class(claim)}" not found'
            self._tell(claim, "Warning", "ProvisioningFailed", message)
            return RESYNC_SECONDS
        return await self._provision(claim, class_, node)

    async def _provision(self, claim: Object, class_: Object, node: Object | None) -> float | None:
        provisioner = class_["provisioner"]
        if provisioner == NO_PROVISIONER:
            self._tell(claim, "Normal", "FailedBinding", "no persistent volumes available for this claim")
            return None
        annotations = claim["metadata"].get("annotations") or {}
        if annotations.get(STORAGE_PROVISIONER) != provisioner:
            marks = {STORAGE_PROVISIONER: provisioner, OLD_STORAGE_PROVISIONER: provisioner}
            await self._update_claim(claim, annotations={**annotations, **marks})
            return None  # the change of the claim brings it back
        if provisioner != PROVISIONER:
            message = (
                f"Waiting for a volume to be created either by the external provisioner '{provisioner}' or manually by "
                "the system administrator. If volume creation is delayed, please verify that the provisioner is "
                "running and correctly registered."
            )
            self._tell(claim, "Normal", "ExternalProvisioning", message)
            return None
        if claim["spec"].get("volumeMode") == "Block":
            self._tell(claim, "Warning", "ProvisioningFailed", f"{PROVISIONER} has no block volumes")
            return None
        node = node or next(iter(sorted(self.nodes.list(), key=lambda n: n["metadata"]["name"])), None)
        if node is None:
            return RESYNC_SECONDS
        wanted = volume_for(claim, class_, node, self.root)
        try:
            await self.volume_resource.create(wanted)
        except ApiError as error:
            if error.code != 409:
                self._tell(claim, "Warning", "ProvisioningFailed", error.message)
                raise
        name = wanted["metadata"]["name"]
        message = f"Successfully provisioned volume {name} using {PROVISIONER}"
        self._tell(claim, "Normal", "ProvisioningSucceeded", message)
        return None

    async def _bound_claim(self, claim: Object, volume: Object | None) -> float | None:
        if volume is None:
            if (claim.get("status") or {}).get("phase") != "Lost":
                self._tell(
                    claim,
                    "Warning",
                    "ClaimLost",
                    "Bound claim has lost its PersistentVolume. Data on the volume is lost!",
                )
                await self._phase(claim, "Lost")
            return None
        if not is_bound_to(volume, claim):
            if volume["spec"].get("claimRef") is None:
                await self._bind(claim, volume)
            else:
                message = "Bound claim has lost reference to PersistentVolume. Data on the volume is lost!"
                self._tell(claim, "Warning", "ClaimMisbound", message)
                await self._phase(claim, "Lost")
            return None
        await self._phase(claim, "Bound", volume)
        return None

    def _selected_node(self, claim: Object) -> Object | None:
        name = (claim["metadata"].get("annotations") or {}).get(SELECTED_NODE)
        return self.nodes.get("", name) if name else None

    # The bond, volume first

    async def _bind(self, claim: Object, volume: Object) -> None:
        meta = claim["metadata"]
        if not is_bound_to(volume, claim) or not volume["spec"]["claimRef"].get("uid"):
            by_us = volume["spec"].get("claimRef") is None
            annotations = dict(volume["metadata"].get("annotations") or {})
            if by_us:
                annotations[BOUND_BY_CONTROLLER] = "yes"
            spec = {**volume["spec"], "claimRef": claim_reference(claim)}
            changed = {**_typed(volume, "PersistentVolume"), "spec": spec}
            changed["metadata"] = {**volume["metadata"], "annotations": annotations}
            volume = await self.volume_resource.update(changed)
        volume = await self._volume_phase(volume, "Bound")
        name = volume["metadata"]["name"]
        annotations = dict(meta.get("annotations") or {})
        if claim["spec"].get("volumeName") != name:
            annotations[BOUND_BY_CONTROLLER] = "yes"
        if claim["spec"].get("volumeName") != name or BIND_COMPLETED not in annotations:
            annotations[BIND_COMPLETED] = "yes"
            claim = await self._update_claim(claim, annotations=annotations, volumeName=name)
        await self._phase(claim, "Bound", volume)

    async def _update_claim(self, claim: Object, *, annotations: Object, **spec: Any) -> Object:
        changed = {**_typed(claim, "PersistentVolumeClaim"), "spec": {**claim["spec"], **spec}}
        changed["metadata"] = {**claim["metadata"], "annotations": annotations}
        return await self.claim_resource.update(changed)

    async def _phase(self, claim: Object, phase: str, volume: Object | None = None) -> None:
        before = claim.get("status") or {}
        status = {**before, "phase": phase}
        if volume is not None:
            status["accessModes"] = volume["spec"].get("accessModes") or []
            if before.get("phase") != "Bound" or "capacity" not in before:
                status["capacity"] = volume["spec"].get("capacity") or {}
            attributes = volume["spec"].get("volumeAttributesClassName")
            if attributes and not before.get("currentVolumeAttributesClassName"):
                status["currentVolumeAttributesClassName"] = attributes
        elif phase == "Pending":
            for field in ("accessModes", "capacity"):
                status.pop(field, None)
        if status != before:
            changed = {**_typed(claim, "PersistentVolumeClaim"), "status": status}
            await self.claim_resource.update(changed, subresource="status")

    # Volumes

    async def _volume(self, volume: Object) -> float | None:
        reference = volume["spec"].get("claimRef")
        if reference is None or not reference.get("uid"):
            await self._volume_phase(volume, "Available")
            return None
        claim = self.claims.get(reference.get("namespace", ""), reference.get("name", ""))
        if claim is not None and claim["metadata"]["uid"] != reference["uid"]:
            claim = None
        if claim is None:
            claim = await self._fresh_claim(reference)
        if claim is None:
            return await self._released(volume)
        if claim["spec"].get("volumeName") in (None, "", volume["metadata"]["name"]):
            if not claim["spec"].get("volumeName") or BIND_COMPLETED not in (
                claim["metadata"].get("annotations") or {}
            ):
                self.queue.add(("claim", *key_of(claim)))
            else:
                await self._volume_phase(volume, "Bound")
            return None
        # The claim went to another volume: this one is free again, or goes if it was made for the claim.
        if (volume["metadata"].get("annotations") or {}).get(PROVISIONED_BY):
            return await self._released(volume)
        return await self._unbind(volume)

    async def _fresh_claim(self, reference: Object) -> Object | None:
        """The cache may lag behind a bond that is just being made: the server decides."""
        try:
            claim = await self.claim_resource.get(reference["name"], reference["namespace"])
        except ApiError as error:
            if error.code != 404:
                raise
            return None
        return claim if claim["metadata"]["uid"] == reference["uid"] else None

    async def _unbind(self, volume: Object) -> float | None:
        annotations = dict(volume["metadata"].get("annotations") or {})
        spec = dict(volume["spec"])
        if annotations.pop(BOUND_BY_CONTROLLER, None):
            spec.pop("claimRef", None)
        else:
            spec["claimRef"] = {k: v for k, v in spec["claimRef"].items() if k not in ("uid", "resourceVersion")}
        changed = {**_typed(volume, "PersistentVolume"), "spec": spec}
        changed["metadata"] = {**volume["metadata"], "annotations": annotations}
        await self._volume_phase(await self.volume_resource.update(changed), "Available")
        return None

    async def _released(self, volume: Object) -> float | None:
        if (volume.get("status") or {}).get("phase") != "Failed":
            volume = await self._volume_phase(volume, "Released")
        policy = volume["spec"].get("persistentVolumeReclaimPolicy")
        if policy != "Delete" or volume["metadata"].get("deletionTimestamp"):
            return None
        by = (volume["metadata"].get("annotations") or {}).get(PROVISIONED_BY)
        if by not in (PROVISIONER, None) or (by is None and volume["spec"].get("hostPath") is None):
            return None  # its own provisioner deletes it
        if by is None:
            message = "error getting deleter volume plugin for volume: no deletable volume plugin matched"
            await self._volume_phase(volume, "Failed", message)
            self._tell(volume, "Warning", "VolumeFailedDelete", message)
            return None
        return await self._remove_directory(volume)

    async def _remove_directory(self, volume: Object) -> float | None:
        """A pod on the node removes it; then the volume goes. A node that is gone took the directory along."""
        if (volume.get("status") or {}).get("phase") == "Failed":
            return None
        node = node_of(volume, self.nodes.list())
        if node is None:  # the cache may be behind: only the server knows that a node is gone
            node = node_of(volume, (await self.client.resource("v1", "nodes").list())["items"])
        if node is None or _simulated(node):
            await self.volume_resource.delete(volume["metadata"]["name"], uid=volume["metadata"]["uid"])
            return None
        pods = self.client.resource("v1", "pods")
        wanted = removing_pod(volume, node, self.helper_image)
        name = wanted["metadata"]["name"]
        try:
            pod = await pods.get(name, HELPER_NAMESPACE)
        except ApiError as error:
            if error.code != 404:
                raise
            await pods.create(wanted)
            return HELPER_POLL_SECONDS
        phase = (pod.get("status") or {}).get("phase")
        born = parse_time(pod["metadata"]["creationTimestamp"])
        late = self.clock.time() > born + HELPER_SECONDS_MAX
        if phase not in ("Succeeded", "Failed") and not late:
            return HELPER_POLL_SECONDS
        if phase == "Succeeded":
            await self.volume_resource.delete(volume["metadata"]["name"], uid=volume["metadata"]["uid"])
        else:
            message = f"the directory of the volume could not be removed: pod {HELPER_NAMESPACE}/{name} did not succeed"
            self._tell(volume, "Warning", "VolumeFailedDelete", message)
            await self._volume_phase(volume, "Failed", message)
        await pods.delete(name, HELPER_NAMESPACE, grace_period_seconds=0)
        return None

    async def _volume_phase(self, volume: Object, phase: str, message: str = "") -> Object:
        before = volume.get("status") or {}
        if before.get("phase") == phase and (before.get("message") or "") == message:
            return volume
        status = {**before, "phase": phase}
        status.pop("lastPhaseTransitionTime", None)
        if message:
            status["message"] = message
        else:
            status.pop("message", None)
        changed = {**_typed(volume, "PersistentVolume"), "status": status}
        return await self.volume_resource.update(changed, subresource="status")

    def _tell(self, obj: Object, type: str, reason: str, message: str) -> None:
        kind = "PersistentVolumeClaim" if obj["metadata"].get("namespace") else "PersistentVolume"
        self.recorder.event(_typed(obj, kind), type, reason, message)


def _simulated(node: Object) -> bool:
    """Nodes of the simulated runtime have no directories."""
    runtime = ((node.get("status") or {}).get("nodeInfo") or {}).get("containerRuntimeVersion") or ""
    return not runtime or runtime.startswith("simulated")


def _typed(obj: Object, kind: str) -> Object:
    return {**obj, "apiVersion": "v1", "kind": kind}
