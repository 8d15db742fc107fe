"""The `default` ServiceAccount of every active namespace."""

from __future__ import annotations

from peavine.controllers.controller import Context, Controller, Key
from peavine.machinery.errors import ApiError


class ServiceAccountController(Controller):
    name = "serviceaccount-controller"
    account = "service-account-controller"

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self.namespaces = self.watch("v1", "namespaces")
        self.accounts = self.watch(
            "v1", "serviceaccounts", keys=lambda account: [("", account["metadata"]["namespace"])]
        )

    async def reconcile(self, key: Key) -> float | None:
        namespace = self.namespaces.get(*key)
        if namespace is None or "deletionTimestamp" in namespace["metadata"]:
            return None
        if self.accounts.get(key[1], "default") is None:
            account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default"}}
            await create_unless_terminating(self, "serviceaccounts", account, key[1])
        return None


async def create_unless_terminating(controller: Controller, plural: str, obj: dict, namespace: str) -> None:
    """Create a core object in `namespace`; that it exists by now, or that the namespace is going, is as good."""
    try:
        await controller.client.resource("v1", plural).create(obj, namespace)
    except ApiError as error:
        terminating = error.code == 403 and "being terminated" in error.message
        if error.reason != "AlreadyExists" and error.code != 404 and not terminating:
            raise
