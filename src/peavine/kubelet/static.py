"""Static pods: files on the node that become pods here, and show in the API as mirror pods.

Upstream's rules: the name gets the node's name appended, the UID comes from the content, NoExecute taints are
tolerated; a mirror pod carries the hash of its source and is made again when somebody deletes it.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

from peavine.base.lifetimes import scope
from peavine.client.transport import Unreachable
from peavine.kubelet.pods.status import stamp
from peavine.kubelet.pods.worker import PodWorker
from peavine.linux import inotify
from peavine.machinery.errors import ApiError

if TYPE_CHECKING:
    from peavine.kubelet.kubelet import Kubelet

log = logging.getLogger(__name__)
Object = dict[str, Any]

MIRROR = "kubernetes.io/config.mirror"
HASH, SOURCE, SEEN = "kubernetes.io/config.hash", "kubernetes.io/config.source", "kubernetes.io/config.seen"
# Files are looked at again at least this often, and mirror pods are made good.
CHECK_SECONDS = 20.0


def read_file(path: Path) -> list[Object]:
    """The pods of one manifest, YAML or JSON. Raises ValueError for what is no pod."""
    import yaml

    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        documents = [d for d in yaml.load_all(path.read_text(), Loader=loader) if d]
    except yaml.YAMLError as error:
        raise ValueError(f"{path}: {error}") from error
    for document in documents:
        if not isinstance(document, dict) or document.get("kind") != "Pod" or document.get("apiVersion") != "v1":
            raise ValueError(f"{path}: not a v1 Pod")
        if not (document.get("spec") or {}).get("containers") or not (document.get("metadata") or {}).get("name"):
            raise ValueError(f"{path}: a pod needs a name and containers")
    return documents


def static_pod(document: Object, path: Path, node_name: str, now: float) -> Object:
    """The pod as this node runs it, with the defaults that the API would have filled in."""
    digest = hashlib.md5(
        json.dumps([document, str(path), node_name], sort_keys=True).encode(), usedforsecurity=False
    ).hexdigest()
    meta, spec = document["metadata"], document["spec"]
    tolerations = [*(spec.get("tolerations") or []), {"operator": "Exists", "effect": "NoExecute"}]
    containers = [_defaulted(c) for c in spec["containers"]]
    filled = {
        "restartPolicy": "Always",
        "terminationGracePeriodSeconds": 30,
        "dnsPolicy": "ClusterFirst",
        "enableServiceLinks": True,
        **spec,
        "nodeName": node_name,
        "containers": containers,
        "tolerations": tolerations,
    }
    if spec.get("initContainers"):
        filled["initContainers"] = [_defaulted(c) for c in spec["initContainers"]]
    annotations = {**(meta.get("annotations") or {}), HASH: digest, SOURCE: "file", SEEN: stamp(now)}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            **{k: meta[k] for k in ("labels",) if k in meta},
            "name": f"{meta['name']}-{node_name.lower()}",
            "namespace": meta.get("namespace") or "default",
            "uid": meta.get("uid") or digest,
            "annotations": annotations,
        },
        "spec": filled,
    }


def _defaulted(container: Object) -> Object:
    from peavine.kubelet.images.puller import default_policy

    return {
        "imagePullPolicy": default_policy(container.get("image", "")),
        "terminationMessagePath": "/dev/termination-log",
        "terminationMessagePolicy": "File",
        **container,
    }


class StaticPods:
    """Keeps workers for the files, and mirror pods for the workers."""

    def __init__(self, kubelet: Kubelet, path: str) -> None:
        self._kubelet, self._path = kubelet, Path(path)
        # uid -> pod
        self._pods: dict[str, Object] = {}
        self._nudge = asyncio.Event()

    def nudge(self) -> None:
        """A mirror pod has changed: look."""
        self._nudge.set()

    async def run(self) -> None:
        if self._path.suffix == "" and not self._path.exists():
            self._path.mkdir(parents=True)
        async with scope() as tasks:
            tasks.start(self._watch_files(), name="static pod files")
            while True:
                self._read()
                await self._mirror_all()
                self._nudge.clear()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(CHECK_SECONDS):
                        await self._nudge.wait()

    async def _watch_files(self) -> None:
        directory = self._path if self._path.is_dir() else self._path.parent
        async for _ in inotify.changes(directory):
            self._nudge.set()

    def _read(self) -> None:
        kubelet = self._kubelet
        files = sorted(p for p in self._path.iterdir() if p.is_file()) if self._path.is_dir() else [self._path]
        found: dict[str, Object] = {}
        for file in files:
            if file.name.startswith("."):
                continue
            try:
                for document in read_file(file):
                    pod = static_pod(document, file, kubelet.options.node_name, kubelet.clock.time())
                    found[pod["metadata"]["uid"]] = pod
            except (ValueError, OSError) as error:
                log.warning("static pod: %s", error)
        for uid in self._pods.keys() - found.keys():
            worker = kubelet.workers.get(uid)
            if worker is not None:
                worker.delete()
        for uid, pod in found.items():
            if uid not in self._pods and uid not in kubelet.workers:
                if any(w.key == _key(pod) and not w.removed for w in kubelet.workers.values()):
                    # The old version of this pod is still going down.
                    asyncio.get_running_loop().call_later(0.5, self._nudge.set)
                    continue
                worker = PodWorker(kubelet, pod)
                kubelet.take_in(worker)
                worker.static_source = "file"
                worker.wake()
            self._pods[uid] = pod
        self._pods = {uid: pod for uid, pod in self._pods.items() if uid in found}

    async def _mirror_all(self) -> None:
        kubelet = self._kubelet
        wanted = {_key(pod): pod for pod in self._pods.values()}
        for key, pod in wanted.items():
            mirror = kubelet.source.mirrors.get(key)
            try:
                if (
                    mirror is not None
                    and mirror["metadata"]["annotations"][MIRROR] != pod["metadata"]["annotations"][HASH]
                ):
                    await self._remove(mirror)
                    mirror = None
                if mirror is None:
                    made = await kubelet.pods_api.create(self._mirror_of(pod))
                    kubelet.source.mirrors[key] = made
                    worker = kubelet.workers.get(pod["metadata"]["uid"])
                    if worker is not None:
                        worker.reporter.mirror(made)
            except (ApiError, Unreachable) as error:
                if not (isinstance(error, ApiError) and error.code == 409):
                    log.info("mirror pod %s: %s", "/".join(key), error)
                    asyncio.get_running_loop().call_later(2.0, self._nudge.set)
        for key, mirror in list(kubelet.source.mirrors.items()):
            if key not in wanted:
                with contextlib.suppress(ApiError, Unreachable):
                    await self._remove(mirror)
                    kubelet.source.mirrors.pop(key, None)

    async def _remove(self, mirror: Object) -> None:
        meta = mirror["metadata"]
        try:
            await self._kubelet.pods_api.delete(
                meta["name"], meta["namespace"], grace_period_seconds=0, uid=meta.get("uid")
            )
        except ApiError as error:
            if error.code not in (404, 409):
                raise

    def _mirror_of(self, pod: Object) -> Object:
        node = self._kubelet.node_objects.get(None, self._kubelet.options.node_name)
        meta = pod["metadata"]
        annotations = {**meta["annotations"], MIRROR: meta["annotations"][HASH]}
        owners = []
        if node is not None:
            owner = {"apiVersion": "v1", "kind": "Node", "name": node["metadata"]["name"], "controller": True}
            owners = [{**owner, "uid": node["metadata"]["uid"]}]
        kept = {k: v for k, v in meta.items() if k != "uid"}
        return {**pod, "metadata": {**kept, "annotations": annotations, "ownerReferences": owners}}


def _key(pod: Object) -> tuple[str, str]:
    return pod["metadata"]["namespace"], pod["metadata"]["name"]
