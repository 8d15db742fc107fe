"""Bootstrap tokens: those that have expired go, those that sign put their mark on the cluster-info ConfigMap.

Upstream: pkg/controller/bootstrap.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json

from peavine.api.core.podstate import unix_time
from peavine.controllers.controller import Context, Controller, Key, Object
from peavine.machinery.errors import ApiError

TYPE = "bootstrap.kubernetes.io/token"
PREFIX = "bootstrap-token-"
SIGNATURE = "jws-kubeconfig-"
NAMESPACE, PUBLIC, CONFIG_MAP = "kube-system", "kube-public", "cluster-info"


class TokenCleaner(Controller):
    name = "token-cleaner-controller"
    account = "token-cleaner"

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self.secrets = self.watch("v1", "secrets", namespace=NAMESPACE, field_selector=f"type={TYPE}")

    async def reconcile(self, key: Key) -> float | None:
        secret = self.secrets.get(*key)
        if secret is None or not key[1].startswith(PREFIX):
            return None
        until = unix_time(_field(secret, "expiration"))
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
        self.secrets = self.watch("v1", "secrets", keys=_the_one, namespace=NAMESPACE, field_selector=f"type={TYPE}")
        self.maps = self.watch(
            "v1", "configmaps", keys=_the_one, namespace=PUBLIC, field_selector=f"metadata.name={CONFIG_MAP}"
        )

    async def reconcile(self, key: Key) -> float | None:
        found = self.maps.get(*key)
        if found is None or "kubeconfig" not in (found.get("data") or {}):
            return None
        data = {name: text for name, text in found["data"].items() if not name.startswith(SIGNATURE)}
        again: float | None = None
        for secret in self.secrets.list(NAMESPACE):
            identifier, token = _field(secret, "token-id"), _field(secret, "token-secret")
            if not identifier or not token or _field(secret, "usage-bootstrap-signing") != "true":
                continue
            until = unix_time(_field(secret, "expiration"))
            if until is not None:
                left = until - self.clock.time()
                if left <= 0:
                    continue
                again = left if again is None else min(again, left)
            data[SIGNATURE + identifier] = detached_signature(data["kubeconfig"], identifier, token)
        if data != found["data"]:
            body = {**found, "apiVersion": "v1", "kind": "ConfigMap", "data": data}
            await self.client.resource("v1", "configmaps").update(body)
        return again


def detached_signature(content: str, identifier: str, secret: str) -> str:
    """A JWS (HS256) without its payload, as kubeadm checks it."""
    header = _base64(json.dumps({"alg": "HS256", "kid": identifier}, separators=(",", ":")).encode())
    signed = f"{header}.{_base64(content.encode())}".encode()
    return f"{header}..{_base64(hmac.new(secret.encode(), signed, hashlib.sha256).digest())}"


def _base64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _field(secret: Object, name: str) -> str:
    return base64.b64decode((secret.get("data") or {}).get(name) or "").decode(errors="replace")


def _the_one(_: Object) -> list[Key]:
    return [(PUBLIC, CONFIG_MAP)]
