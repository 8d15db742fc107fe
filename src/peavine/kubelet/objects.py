"""ConfigMaps and Secrets that pods of this node name: watched one by one while a pod needs them.

A node may only read what its pods refer to, so there is a watch for each object (upstream's default, `Watch`), shared
by all pods that name it and closed when the last of them is gone.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from peavine.base.clock import REAL, Clock
from peavine.base.lifetimes import Scope
from peavine.client.informer import Informer
from peavine.client.rest import Client
from peavine.kubelet.pods.environment import ObjectMissing

Object = dict[str, Any]
Key = tuple[str, str, str]

PLURALS = {"ConfigMap": "configmaps", "Secret": "secrets"}
FIRST_LIST_SECONDS_MAX = 10.0


@dataclass
class _Watched:
    informer: Informer
    task: asyncio.Task[None]
    # uids of the pods that need the object
    users: set[str] = field(default_factory=set)


def referenced(pod: Object) -> set[tuple[str, str]]:
    """(kind, name) of every ConfigMap and Secret that the pod's spec names."""
    spec = pod.get("spec") or {}
    found: set[tuple[str, str]] = set()

    def add(kind: str, name: Any) -> None:
        if name:
            found.add((kind, name))

    for field_ in ("initContainers", "containers", "ephemeralContainers"):
        for container in spec.get(field_) or []:
            for source in container.get("envFrom") or []:
                add("ConfigMap", (source.get("configMapRef") or {}).get("name"))
                add("Secret", (source.get("secretRef") or {}).get("name"))
            for variable in container.get("env") or []:
                source = variable.get("valueFrom") or {}
                add("ConfigMap", (source.get("configMapKeyRef") or {}).get("name"))
                add("Secret", (source.get("secretKeyRef") or {}).get("name"))
    for secret in spec.get("imagePullSecrets") or []:
        add("Secret", secret.get("name"))
    for volume in spec.get("volumes") or []:
        add("ConfigMap", (volume.get("configMap") or {}).get("name"))
        add("Secret", (volume.get("secret") or {}).get("secretName"))
        for source in (volume.get("projected") or {}).get("sources") or []:
            add("ConfigMap", (source.get("configMap") or {}).get("name"))
            add("Secret", (source.get("secret") or {}).get("name"))
        add("Secret", ((volume.get("iscsi") or {}).get("secretRef") or {}).get("name"))
        csi = volume.get("csi") or {}
        add("Secret", (csi.get("nodePublishSecretRef") or {}).get("name"))
    return found


class ObjectCache:
    """`changed(uid)` is called for each pod that uses an object when it changes."""

    def __init__(self, client: Client, scope: Scope, *, changed: Callable[[str], None], clock: Clock = REAL) -> None:
        self._client, self._scope, self._changed, self._clock = client, scope, changed, clock
        self._watched: dict[Key, _Watched] = {}
        self._by_pod: dict[str, set[Key]] = {}

    def register(self, pod: Object) -> None:
        """The pod is here (or has a new spec): what it names is watched from now on."""
        uid, namespace = pod["metadata"]["uid"], pod["metadata"].get("namespace", "default")
        wanted = {(kind, namespace, name) for kind, name in referenced(pod)}
        old = self._by_pod.get(uid, set())
        for key in wanted - old:
            self._use(key, uid)
        for key in old - wanted:
            self._drop(key, uid)
        self._by_pod[uid] = wanted

    def unregister(self, uid: str) -> None:
        for key in self._by_pod.pop(uid, set()):
            self._drop(key, uid)

    def _use(self, key: Key, uid: str) -> _Watched:
        watched = self._watched.get(key)
        if watched is None:
            kind, namespace, name = key
            resource = self._client.resource("v1", PLURALS[kind])
            informer = Informer(resource, namespace, field_selector=f"metadata.name={name}", clock=self._clock)

            def on_change(*seen: Object) -> None:
                if seen[-1].get("immutable") and (held := self._watched.get(key)) is not None:
                    # It cannot change any more: what is known stays true without a watch.
                    held.task.cancel()
                # Readers of the first state wait for it themselves.
                if informer.synced.is_set():
                    for user in list(self._watched[key].users) if key in self._watched else []:
                        self._changed(user)

            informer.add_handler(added=on_change, updated=on_change, deleted=on_change)
            task = self._scope.start(informer.run(), name=f"watch {kind} {namespace}/{name}")
            watched = self._watched[key] = _Watched(informer, task)
        watched.users.add(uid)
        return watched

    def _drop(self, key: Key, uid: str) -> None:
        watched = self._watched.get(key)
        if watched is not None:
            watched.users.discard(uid)
            if not watched.users:
                watched.task.cancel()
                del self._watched[key]

    async def lookup(self, kind: str, namespace: str, name: str) -> Object:
        """The object's latest state. Raises ObjectMissing; ApiError or Unreachable if it is not watched and the
        server does not answer."""
        watched = self._watched.get((kind, namespace, name))
        if watched is not None:
            try:
                async with asyncio.timeout(FIRST_LIST_SECONDS_MAX):
                    await watched.informer.synced.wait()
            except TimeoutError:
                raise ObjectMissing(
                    f"failed to sync {kind.lower()} cache: timed out waiting for the condition"
                ) from None
            found = watched.informer.get(namespace, name)
        else:
            from peavine.machinery.errors import ApiError

            try:
                found = await self._client.resource("v1", PLURALS[kind]).get(name, namespace)
            except ApiError as error:
                if error.code != 404:
                    raise
                found = None
        if found is None:
            raise ObjectMissing(f'{kind.lower()} "{name}" not found')
        return found if found.get("kind") else {**found, "kind": kind}
