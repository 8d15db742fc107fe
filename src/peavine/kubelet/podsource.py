"""The pods of the API (and those that only the runtime still knows) become workers."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from peavine.kubelet.pods.packing import unpacked
from peavine.kubelet.pods.records import POD_NAME, POD_NAMESPACE
from peavine.kubelet.pods.worker import PodWorker
from peavine.kubelet.static import HASH, MIRROR

if TYPE_CHECKING:
    from peavine.kubelet.kubelet import Kubelet

log = logging.getLogger(__name__)
Object = dict[str, Any]

ORPHAN_SECONDS = 2.0


class PodSource:
    """Handlers of the pod informer. `mirrors`: (namespace, name) -> the mirror pod of a static pod."""

    def __init__(self, kubelet: Kubelet) -> None:
        self._kubelet = kubelet
        self.mirrors: dict[tuple[str, str], Object] = {}

    def added(self, told: Any) -> None:
        kubelet, pod = self._kubelet, unpacked(told)
        if (pod.get("spec") or {}).get("nodeName") not in kubelet.nodes:
            return
        if _is_mirror(pod):
            self._mirror_seen(pod)
            return
        uid = pod["metadata"]["uid"]
        worker = kubelet.workers.get(uid)
        if worker is not None:
            worker.gone_from_api = False
            worker.update(pod)
            return
        worker = PodWorker(kubelet, pod)
        kubelet.take_in(worker)
        if pod["metadata"].get("deletionTimestamp"):
            worker.update(pod)
        else:
            worker.wake()

    def updated(self, old: Any, new: Any) -> None:
        pod = unpacked(new)
        worker = self._kubelet.workers.get(pod["metadata"]["uid"])
        if worker is None:
            self.added(pod)
        else:
            worker.update(pod)

    def deleted(self, told: Any) -> None:
        pod = unpacked(told)
        if _is_mirror(pod):
            self._mirror_seen(pod, gone=True)
            return
        worker = self._kubelet.workers.get(pod["metadata"]["uid"])
        if worker is not None:
            worker.rouse()
            worker.pod = pod
            worker.delete()

    def _mirror_seen(self, mirror: Object, *, gone: bool = False) -> None:
        kubelet, meta = self._kubelet, mirror["metadata"]
        key = (meta["namespace"], meta["name"])
        if gone:
            self.mirrors.pop(key, None)
        else:
            self.mirrors[key] = mirror
            source = meta["annotations"].get(MIRROR)
            for worker in kubelet.workers.values():
                if worker.static_source and worker.pod["metadata"]["annotations"].get(HASH) == source:
                    worker.reporter.mirror(mirror)
        if kubelet.static is not None and (gone or meta.get("deletionTimestamp")):
            kubelet.static.nudge()

    def adopt_orphan(self, labels: dict[str, str], uid: str) -> None:
        """Containers of a pod that the API does not have: take them down as if it had been deleted."""
        kubelet = self._kubelet
        if not kubelet.pods.synced.is_set():
            return
        log.info("pod %s/%s is not known to the API: taking it down", labels.get(POD_NAMESPACE), labels.get(POD_NAME))
        meta = {"name": labels.get(POD_NAME, uid), "namespace": labels.get(POD_NAMESPACE, "default"), "uid": uid}
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": {"nodeName": kubelet.options.node_name}}
        worker = PodWorker(kubelet, pod)
        kubelet.take_in(worker)
        worker.gone_from_api = True
        worker.end(ORPHAN_SECONDS)


def _is_mirror(pod: Object) -> bool:
    return MIRROR in (pod["metadata"].get("annotations") or {})
