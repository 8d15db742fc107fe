"""Fields of alpha features, which are off by default: upstream drops them from what is written, and so do we.

A feature that graduates loses its line here. Whole kinds that are alpha are simply not in the catalogue.
"""

from __future__ import annotations

from typing import Any

Object = dict[str, Any]

POD_SPEC = ("schedulingGroup", "evictionResponders")  # GenericWorkload, EvictionRequest
VOLUME_MOUNT = ("bindMountOptions",)  # VolumeBindMountOptions
VOLUME_SOURCE = ("defaultUser",)  # AtomicWriteVolumeUserFields
VOLUME_ITEM = ("user",)
JOB_SPEC = ("scheduling",)  # WorkloadWithJob
NODE_SPEC = ("podPreemptionPolicy",)  # InPlacePodVerticalScalingSchedulerPreemption
LEASE_SPEC = ("strategy", "preferredHolder")  # CoordinatedLeaderElection
DEVICE_REQUEST = ("derivedAttributes",)  # DRADerivedAttributes
DEVICE_ATTRIBUTE = ("ints", "strings", "bools", "versions")  # DRAListTypeAttributes


def drop(obj: Object | None, fields: tuple[str, ...]) -> None:
    for field in fields:
        if obj is not None and field in obj:
            del obj[field]


def drop_volume_users(volume: Object) -> None:
    """The owners of files in configuration volumes."""
    for kind in ("configMap", "secret", "downwardAPI", "projected"):
        source = volume.get(kind)
        if not isinstance(source, dict):
            continue
        drop(source, VOLUME_SOURCE)
        for item in source.get("items") or []:
            drop(item, VOLUME_ITEM)
        for projection in source.get("sources") or []:
            for part in projection.values():
                if isinstance(part, dict):
                    drop(part, VOLUME_ITEM)
                    for item in part.get("items") or []:
                        drop(item, VOLUME_ITEM)
