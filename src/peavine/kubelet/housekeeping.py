"""What is done now and then: dead containers and sandboxes, directories of pods that are gone, rotation of logs."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from peavine.kubelet.cri.runtime import RpcError
from peavine.kubelet.logs import rotation
from peavine.kubelet.pods.records import Container
from peavine.kubelet.volumes.manager import VolumeManager
from peavine.kubelet.volumes.source import VolumeError

if TYPE_CHECKING:
    from peavine.kubelet.kubelet import Kubelet
    from peavine.kubelet.pods.worker import PodWorker

log = logging.getLogger(__name__)

# Of each container, besides the present one, so many dead ones stay for `logs --previous`.
DEAD_PER_CONTAINER = 1
CONTAINER_GC_SECONDS = 60.0


class Housekeeping:
    def __init__(self, kubelet: Kubelet) -> None:
        self._kubelet = kubelet

    async def run(self) -> None:
        """Ends by cancellation."""
        kubelet, collect_at, rotate_at = self._kubelet, 0.0, 0.0
        while True:
            try:
                if kubelet.clock.monotonic() >= collect_at:
                    collect_at = kubelet.clock.monotonic() + CONTAINER_GC_SECONDS
                    await self.collect_containers()
                await self.remove_orphans()
                if kubelet.options.cgroups:
                    if kubelet.clock.monotonic() >= rotate_at:
                        rotate_at = kubelet.clock.monotonic() + min(
                            kubelet.options.log_monitor_seconds, kubelet.options.housekeeping_seconds
                        )
                        await rotation.rotate_all(kubelet)
                    await self.grow_volumes()
                if kubelet.groups is not None:
                    kubelet.groups.share_out()
            except (RpcError, OSError) as error:
                log.info("housekeeping: %s", error)
            await kubelet.clock.sleep(kubelet.options.housekeeping_seconds)

    async def grow_volumes(self) -> None:
        """Volumes that were expanded while pods use them: the node's part is done here."""
        volumes = self._kubelet.volumes
        assert isinstance(volumes, VolumeManager)
        for worker in list(self._kubelet.workers.values()):
            if worker.volumes is not None and worker.grace is None:
                try:
                    await volumes.grow(worker.pod)
                except VolumeError as error:
                    log.info("pod %s: %s", worker.key, error)

    async def collect_containers(self) -> None:
        """Remove dead containers beyond what is kept, and dead sandboxes that nothing belongs to."""
        for worker in list(self._kubelet.workers.values()):
            # A resting pod has nothing to collect: it was looked through before it went to rest.
            if not worker.resting:
                await self.collect_pod(worker)

    async def collect_pod(self, worker: PodWorker) -> None:
        runtime, record = self._kubelet.runtime, worker.record
        by_name: dict[str, list[Container]] = {}
        for container in record.containers:
            by_name.setdefault(container.name, []).append(container)
        removed: set[str] = set()
        for same in by_name.values():
            dead = [c for c in same if c.state == "exited"]
            keep = DEAD_PER_CONTAINER + (1 if dead and dead[0] is same[0] else 0)
            for container in dead[keep:]:
                await runtime.remove_container(container.id)
                self._kubelet.probes.forget_container(container.id)
                removed.add(container.id)
                if container.log_path:
                    _remove_logs(Path(container.log_path))
        if removed:
            record.containers = [c for c in record.containers if c.id not in removed]
        used = {c.sandbox_id for c in record.containers}
        for sandbox in record.sandboxes[1:]:
            if not sandbox.ready and sandbox.id not in used:
                await runtime.remove_sandbox(sandbox.id)
        record.sandboxes = [s for s in record.sandboxes if s is record.sandboxes[0] or s.ready or s.id in used]

    async def remove_orphans(self) -> None:
        """Directories, logs and control groups of pods that are neither in the API nor in the runtime."""
        kubelet = self._kubelet
        if not kubelet.pods.synced.is_set() or not kubelet.options.cgroups:
            return
        for directory in list(kubelet.paths.pods.iterdir()):
            if directory.name not in kubelet.workers:
                await kubelet.volumes.tear_down(directory.name)
        for directory in list(kubelet.paths.pod_logs.iterdir()):
            uid = directory.name.rpartition("_")[2]
            if uid not in kubelet.workers:
                shutil.rmtree(directory, ignore_errors=True)
        await self._remove_groups()
        if kubelet.managers is not None and kubelet.dynamic is not None:
            kubelet.managers.keep_only(set(kubelet.workers))
            await kubelet.dynamic.keep_only(set(kubelet.workers))

    async def _remove_groups(self) -> None:
        from peavine.linux import cgroups

        kubelet = self._kubelet
        root = f"{kubelet.options.cgroup_root.rstrip('/')}/kubepods"
        for middle in ("", "/burstable", "/besteffort"):
            for name in cgroups.children(root + middle):
                # Looked up anew each time: while one group was removed, a pod may have come.
                if name.startswith("pod") and name.removeprefix("pod") not in kubelet.workers:
                    await cgroups.remove_tree(f"{root}{middle}/{name}")


def _remove_logs(path: Path) -> None:
    """The container's log with its rotated parts."""
    for file in path.parent.glob(path.name + "*"):
        file.unlink(missing_ok=True)
