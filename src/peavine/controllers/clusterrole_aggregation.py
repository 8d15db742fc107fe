"""Aggregated ClusterRoles: their rules are those of every ClusterRole that their selectors match."""

from __future__ import annotations

from peavine.client.informer import key_of
from peavine.controllers.controller import Context, Controller, Key, Object
from peavine.machinery.selectors import selector_of

API = "rbac.authorization.k8s.io/v1"


class ClusterRoleAggregationController(Controller):
    name = "clusterrole-aggregation-controller"
    account = "clusterrole-aggregation-controller"

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self.roles = self.watch(API, "clusterroles", keys=self._aggregating)

    def _aggregating(self, _: Object) -> list[Key]:
        """Any ClusterRole may be part of any aggregated one: few of those exist, so all are looked at."""
        return [key_of(role) for role in self.roles.list() if role.get("aggregationRule")] if self._informers else []

    async def start(self) -> None:
        for key in self._aggregating({}):
            self.queue.add(key)

    async def reconcile(self, key: Key) -> float | None:
        role = self.roles.get(*key)
        if role is None or not role.get("aggregationRule"):
            return None
        rules: list[Object] = []
        for selector in role["aggregationRule"].get("clusterRoleSelectors") or ():
            matcher = selector_of(selector)
            for other in sorted(self.roles.list(), key=lambda r: r["metadata"]["name"]):
                if other["metadata"]["name"] == role["metadata"]["name"]:
                    continue
                if matcher.matches(other["metadata"].get("labels") or {}):
                    rules += [rule for rule in other.get("rules") or () if rule not in rules]
        if rules != (role.get("rules") or []):
            wanted = {"apiVersion": API, "kind": "ClusterRole", "metadata": {"name": key[1]}, "rules": rules}
            await self.client.resource(API, "clusterroles").patch(
                key[1], wanted, type="apply", field_manager=self.name, force=True
            )
        return None
