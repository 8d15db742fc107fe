"""Volumes of pods without containers: always ready, and nothing on the disk."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from peavine.kubelet.volumes.manager import Volumes
from peavine.kubelet.volumes.source import Ready

Object = dict[str, Any]
NOWHERE = Ready(Path("/nonexistent"))


class SimulatedVolumes:
    """Stands in for `VolumeManager`."""

    async def set_up(self, pod: Object, *, only_live: bool = False) -> Volumes:
        return Volumes({volume["name"]: NOWHERE for volume in (pod.get("spec") or {}).get("volumes") or []})

    async def tear_down(self, uid: str) -> bool:
        return True

    async def tear_down_volumes(self, uid: str) -> None:
        return None

    def container_mounts(
        self, pod: Object, container: Object, volumes: Volumes, environment: dict[str, str]
    ) -> tuple[list[Object], list[Object]]:
        return [], []
