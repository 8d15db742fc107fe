"""Bootstrap tokens: those that have expired go, those that sign put their mark on the cluster-info ConfigMap.

Upstream: pkg/controller/bootstrap.
"""

from __future__ import annotations

from peavine.api.core.bootstrap_token import (
    CONFIG_MAP,
    NAME_PREFIX,
    NAMESPACE,
    SECRET_TYPE,
    SIGNATURE_PREFIX,
    detached_signature,
    field,
)
from peavine.api.core.bootstrap_token import PUBLIC_NAMESPACE as PUBLIC
from peavine.api.core.podstate import unix_time
from peavine.controllers.controller import Context, Controller, Key, Object
from peavine.machinery.errors import ApiError


class TokenCleaner(Controller):
    name = "token-cleaner-controller"
    account = "token-cleaner"

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self.secrets = self.watch("v1", "secrets", namespace=NAMESPACE, field_selector=f"type={SECRET_TYPE}")

    async def reconcile(self, key: Key) -> float | None:
        secret = self.secrets.get(*key)
        if secret is None or not key[1].startswith(NAME_PREFIX):
            return None
        until = unix_time(field(secret, "expiration"))
        if until is None:
            return None
        left = until - self.clock.time()
        if left > 0:
            return left
        try:
            await self.client.resource("v1", "secrets").delete(key[1], key[0], uid=secret["metadata"]["uid"])
        except ApiError as error:
            if error.code not in (404, 409):
                raise
        return None


class BootstrapSigner(Controller):
    name = "bootstrap-signer-controller"
    account = "bootstrap-signer"

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self.secrets = self.watch(
            "v1", "secrets", keys=_the_one, namespace=NAMESPACE, field_selector=f"type={SECRET_TYPE}"
        )
        self.maps = self.watch(
            "v1", "configmaps", keys=_the_one, namespace=PUBLIC, field_selector=f"metadata.name={CONFIG_MAP}"
        )

    async def reconcile(self, key: Key) -> float | None:
        found = self.maps.get(*key)
        if found is None or "kubeconfig" not in (found.get("data") or {}):
            return None
        data = {name: text for name, text in found["data"].items() if not name.startswith(SIGNATURE_PREFIX)}
        again: float | None = None
        for secret in self.secrets.list(NAMESPACE):
            identifier, token = field(secret, "token-id"), field(secret, "token-secret")
            if not identifier or not token or field(secret, "usage-bootstrap-signing") != "true":
                continue
            until = unix_time(field(secret, "expiration"))
            if until is not None:
                left = until - self.clock.time()
                if left <= 0:
                    continue
                again = left if again is None else min(again, left)
            data[SIGNATURE_PREFIX + identifier] = detached_signature(data["kubeconfig"], identifier, token)
        if data != found["data"]:
            body = {**found, "apiVersion": "v1", "kind": "ConfigMap", "data": data}
            await self.client.resource("v1", "configmaps").update(body)
        return again


def _the_one(_: Object) -> list[Key]:
    return [(PUBLIC, CONFIG_MAP)]
