"""From a PersistentVolumeClaim to the volume behind it, as a volume that a source can set up."""

from __future__ import annotations

from typing import Any

from peavine.kubelet.volumes.source import VolumeError, VolumeHost
from peavine.machinery.errors import ApiError
from peavine.machinery.quantity import parse_quantity

Object = dict[str, Any]

STORAGE = "storage"
SOURCES = ("hostPath", "local", "nfs", "iscsi", "csi")


async def resolve(host: VolumeHost, pod: Object, volume: Object) -> Object:
    """The volume's spec with the PersistentVolume's source in place of the claim. Raises VolumeError.

    `block` is set for a volume that goes into containers as a device, `persistent` names the PersistentVolume, and
    `growth` says what the node has still to do for a volume that has grown.
    """
    namespace = pod["metadata"]["namespace"]
    if "ephemeral" in volume:
        name, readonly = f"{pod['metadata']['name']}-{volume['name']}", False
    else:
        name = volume["persistentVolumeClaim"]["claimName"]
        readonly = bool(volume["persistentVolumeClaim"].get("readOnly"))
    assert host.get is not None
    try:
        claim = await host.get("v1", "persistentvolumeclaims", namespace, name)
        if "ephemeral" in volume and not any(
            owner.get("uid") == pod["metadata"]["uid"] for owner in claim["metadata"].get("ownerReferences") or []
        ):
            raise VolumeError(
                f'PVC "{namespace}/{name}" was not created for pod "{namespace}/{pod["metadata"]["name"]}"'
            )
        bound = (claim.get("spec") or {}).get("volumeName")
        if not bound or (claim.get("status") or {}).get("phase") != "Bound":
            raise VolumeError(f'PersistentVolumeClaim is not bound: "{name}"')
        if claim["metadata"].get("deletionTimestamp") and not pod["metadata"].get("deletionTimestamp"):
            # A claim that goes is not given to new pods; those that have it keep it (its finalizer sees to that).
            raise VolumeError(f'PVC "{namespace}/{name}" is being deleted')
        persistent = await host.get("v1", "persistentvolumes", None, bound)
    except ApiError as error:
        raise VolumeError(error.message) from error
    spec = persistent.get("spec") or {}
    source = next((field for field in SOURCES if field in spec), None)
    if source is None:
        kinds = sorted(set(spec) - {"capacity", "accessModes", "claimRef", "storageClassName", "volumeMode"})
        raise VolumeError(f"no volume plugin matched: {', '.join(kinds)}")
    resolved: Object = {
        "name": volume["name"],
        source: spec[source],
        "persistent": bound,
        "mountOptions": spec.get("mountOptions") or [],
        "accessModes": spec.get("accessModes") or [],
    }
    if readonly or bool((spec.get(source) or {}).get("readOnly")):
        resolved["readOnly"] = True
    resolved["growth"] = _growth(claim, spec)
    if spec.get("volumeMode") == "Block":
        resolved["block"] = True
    group = (persistent["metadata"].get("annotations") or {}).get("pv.beta.kubernetes.io/gid")
    if group and group.isdigit():
        resolved["group"] = int(group)
    return resolved


def _growth(claim: Object, volume: Object) -> Object | None:
    """{namespace, claim, size} if the volume is bigger than what the claim shows: its file system has to follow."""
    size = (volume.get("capacity") or {}).get(STORAGE)
    shown = ((claim.get("status") or {}).get("capacity") or {}).get(STORAGE)
    if not size or not shown or not parse_quantity(shown) < parse_quantity(size):
        return None
    return {"namespace": claim["metadata"]["namespace"], "claim": claim["metadata"]["name"], "size": size}


def grown_status(claim: Object, size: str) -> Object:
    """The merge patch of the claim's status once the node has done its part."""
    status = claim.get("status") or {}
    kept = [
        condition
        for condition in status.get("conditions") or []
        if condition.get("type") not in ("FileSystemResizePending", "Resizing", "NodeResizeError")
    ]
    return {
        "status": {
            "capacity": {**(status.get("capacity") or {}), STORAGE: size},
            "conditions": kept or None,
            "allocatedResourceStatuses": None,
        }
    }
