"""The loop that keeps a node's NetworkPolicies enforced: informers in, `Policies` decides, `Enforcer` writes.

Without any policy in the cluster only the policies are watched: pods and namespaces are looked at from the first one
on.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Any

from peavine.base.backoff import Backoff
from peavine.base.clock import REAL, Clock
from peavine.base.lifetimes import scope
from peavine.client.informer import Informer, InformerFactory
from peavine.machinery.selectors import SelectorError
from peavine.network.enforcer import Enforcer
from peavine.network.policy import Alias, Policies, view_pod, view_policy

log = logging.getLogger(__name__)

Object = dict[str, Any]

look_seconds = 30.0
# The DNS process of a node publishes itself with this manager; its Service has no pods behind it.
DNS_MANAGER = "peavine-dns"
DNS_LABELS = {"k8s-app": "kube-dns"}


class Guard:
    """Runs until cancelled. `enforced` is set after the first time that the kernel has everything."""

    def __init__(self, informers: InformerFactory, node: str, clock: Clock = REAL) -> None:
        self.policies = Policies(node)
        self.enforced = asyncio.Event()
        self._informers = informers
        self._clock = clock
        self._wake = asyncio.Event()
        self._all: list[Informer] = []
        self._aliases: dict[str, tuple[Alias, ...]] = {}
        informer = informers.informer("networking.k8s.io/v1", "networkpolicies")
        informer.add_handler(self._policy, lambda _, new: self._policy(new), self._policy_gone)
        self._all.append(informer)

    def _policy(self, obj: Object) -> None:
        key = (obj["metadata"]["namespace"], obj["metadata"]["name"])
        try:
            self.policies.set_policy(key, view_policy(obj))
        except (SelectorError, ValueError) as error:
            log.error("network policy %s/%s is not enforced: %s", *key, error)
            self.policies.set_policy(key, None)
        self._watch_peers()
        self._wake.set()

    def _policy_gone(self, obj: Object) -> None:
        self.policies.set_policy((obj["metadata"]["namespace"], obj["metadata"]["name"]), None)
        self._wake.set()

    def _watch_peers(self) -> None:
        if len(self._all) > 1:
            return
        pods = self._informers.informer("v1", "pods", transform=_slim_pod)
        pods.add_handler(self._pod, lambda _, new: self._pod(new), self._pod_gone)
        namespaces = self._informers.informer("v1", "namespaces")
        namespaces.add_handler(self._namespace, lambda _, new: self._namespace(new), self._namespace_gone)
        slices = self._informers.informer(
            "discovery.k8s.io/v1",
            "endpointslices",
            "kube-system",
            label_selector=f"endpointslice.kubernetes.io/managed-by={DNS_MANAGER}",
        )
        slices.add_handler(self._slice, lambda _, new: self._slice(new), self._slice_gone)
        # Not the slices: without them only rules about DNS are too strict, and nothing waits for that.
        self._all += [pods, namespaces]

    def _pod(self, obj: Object) -> None:
        self.policies.set_pod((obj["metadata"]["namespace"], obj["metadata"]["name"]), obj["view"])
        self._changed()

    def _pod_gone(self, obj: Object) -> None:
        self.policies.set_pod((obj["metadata"]["namespace"], obj["metadata"]["name"]), None)
        self._changed()

    def _namespace(self, obj: Object) -> None:
        self.policies.set_namespace(obj["metadata"]["name"], obj["metadata"].get("labels") or {})
        self._changed()

    def _namespace_gone(self, obj: Object) -> None:
        self.policies.set_namespace(obj["metadata"]["name"], None)
        self._changed()

    def _slice(self, obj: Object) -> None:
        self._aliases[obj["metadata"]["name"]] = tuple(
            Alias("kube-system", DNS_LABELS, address, port.get("protocol", "TCP").lower(), 53, port["port"])
            for endpoint in obj.get("endpoints") or []
            for address in endpoint["addresses"]
            for port in obj.get("ports") or []
            if port.get("port")
        )
        self._set_aliases()

    def _slice_gone(self, obj: Object) -> None:
        self._aliases.pop(obj["metadata"]["name"], None)
        self._set_aliases()

    def _set_aliases(self) -> None:
        self.policies.set_aliases(tuple(alias for name in sorted(self._aliases) for alias in self._aliases[name]))
        self._changed()

    def _changed(self) -> None:
        if self.policies.changed:
            self._wake.set()

    async def run(self) -> None:
        enforcer = Enforcer()
        try:
            async with scope() as tasks:
                tasks.start(self._look_again(enforcer), name="look again")
                await self._enforce_for_ever(enforcer)
        finally:
            enforcer.close()

    async def _look_again(self, enforcer: Enforcer) -> None:
        while True:
            await self._clock.sleep(look_seconds)
            if not enforcer.intact():
                enforcer.forget()
                self.policies.changed = True
                self._wake.set()

    async def _enforce_for_ever(self, enforcer: Enforcer) -> None:
        backoff = Backoff(first=0.2, most=30.0)
        while True:
            self._wake.clear()
            for informer in list(self._all):
                # Half of the peers would close connections that the other half allows.
                await informer.synced.wait()
            if self.policies.changed:
                try:
                    sent = enforcer.enforce(self.policies.desired())
                    backoff.forget()
                    self.enforced.set()
                    log.debug("enforced %d policies, %d elements sent", len(self.policies.policies), sent)
                except OSError as error:
                    self.policies.changed = True
                    delay = backoff.next()
                    log.error("network policies, again in %.1f s: %s", delay, error)
                    await self._clock.sleep(delay)
                    continue
            await self._wake.wait()


def _slim_pod(pod: Object) -> Object:
    meta = pod["metadata"]
    return {
        "metadata": {
            "name": meta["name"],
            "namespace": meta["namespace"],
            "uid": meta.get("uid"),
            "resourceVersion": meta.get("resourceVersion"),
        },
        "view": view_pod(pod),
    }
