"""Fills Secrets of type `kubernetes.io/service-account-token` with a token that does not end, and removes those whose
ServiceAccount is gone.

Upstream: pkg/controller/serviceaccount/tokens_controller; "Manage Service Accounts" (long-lived API tokens). Runs where
it is given the key that signs (`--service-account-private-key-file`), as the process itself: a role that may write
every Secret is nobody else's.
"""

from __future__ import annotations

import base64
import hashlib
from pathlib import Path
from typing import Any

from peavine.api.core.secret import ACCOUNT_NAME, TOKEN
from peavine.client.informer import key_of
from peavine.controllers.controller import Context, Controller, Key, Object
from peavine.machinery.errors import ApiError

ACCOUNT_UID = "kubernetes.io/service-account.uid"
ISSUER = "kubernetes/serviceaccount"
CLAIM = "kubernetes.io/serviceaccount/"


class ServiceAccountTokenController(Controller):
    name = "serviceaccount-token-controller"
    account = ""

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self.key_file = str(context.options.get("service_account_private_key_file") or "")
        self.root_ca = str(context.options.get("root_ca") or "")
        self.accounts = self.watch("v1", "serviceaccounts", keys=self._tokens_of)
        self.secrets = self.watch("v1", "secrets", field_selector=f"type={TOKEN}")
        self.resource = self.client.resource("v1", "secrets")
        self._signer: Signer | None = None

    def _tokens_of(self, account: Object) -> list[Key]:
        namespace, name = key_of(account)
        return [key_of(secret) for secret in self.secrets.list(namespace) if _account_of(secret) == name]

    async def reconcile(self, key: Key) -> float | None:
        secret = self.secrets.get(*key)
        name = _account_of(secret) if secret else ""
        if secret is None or not name or not self.key_file or "deletionTimestamp" in secret["metadata"]:
            return None
        account = await self._account(key[0], name)
        annotations = secret["metadata"].get("annotations") or {}
        if account is None or annotations.get(ACCOUNT_UID, account["metadata"]["uid"]) != account["metadata"]["uid"]:
            await self._delete(secret)
            return None
        data = {**(secret.get("data") or {}), "namespace": _encoded(key[0])}
        if self.root_ca:
            data["ca.crt"] = _encoded(self.root_ca)
        if not data.get("token"):
            data["token"] = _encoded(self._sign(account, key[1]))
        wanted = {**annotations, ACCOUNT_UID: account["metadata"]["uid"]}
        if data != secret.get("data") or wanted != annotations:
            meta = {**secret["metadata"], "annotations": wanted}
            await self.resource.update({**secret, "metadata": meta, "data": data})
        return None

    async def _account(self, namespace: str, name: str) -> Object | None:
        """The cache's, or if that has none the server's: a Secret may come right behind its ServiceAccount."""
        cached = self.accounts.get(namespace, name)
        if cached is not None:
            return cached
        try:
            return await self.client.resource("v1", "serviceaccounts").get(name, namespace)
        except ApiError as error:
            if error.code != 404:
                raise
            return None

    async def _delete(self, secret: Object) -> None:
        meta = secret["metadata"]
        try:
            await self.resource.delete(
                meta["name"], meta["namespace"], uid=meta["uid"], resource_version=meta["resourceVersion"]
            )
        except ApiError as error:
            if error.code not in (404, 409):
                raise

    def _sign(self, account: Object, secret: str) -> str:
        self._signer = self._signer or Signer(Path(self.key_file).read_bytes())
        namespace, name = key_of(account)
        return self._signer.sign(
            {
                "iss": ISSUER,
                f"{CLAIM}namespace": namespace,
                f"{CLAIM}secret.name": secret,
                f"{CLAIM}service-account.name": name,
                f"{CLAIM}service-account.uid": account["metadata"]["uid"],
                "sub": f"system:serviceaccount:{namespace}:{name}",
            }
        )


class Signer:
    """Signs tokens with a private key (PEM; RSA, or ECDSA). Raises ValueError for others."""

    def __init__(self, pem: bytes) -> None:
        from cryptography.hazmat.primitives import serialization
        from cryptography.hazmat.primitives.asymmetric import ec

        self._key: Any = serialization.load_pem_private_key(pem, None)
        self._algorithm = "RS256"
        if isinstance(self._key, ec.EllipticCurvePrivateKey):
            self._algorithm = {256: "ES256", 384: "ES384", 521: "ES512"}[self._key.curve.key_size]
        form = (serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
        digest = hashlib.sha256(self._key.public_key().public_bytes(*form)).digest()
        self._key_id = base64.urlsafe_b64encode(digest).rstrip(b"=").decode()

    def sign(self, claims: dict[str, str]) -> str:
        import jwt

        return jwt.encode(claims, self._key, self._algorithm, headers={"kid": self._key_id})


def _account_of(secret: Object) -> str:
    return (secret["metadata"].get("annotations") or {}).get(ACCOUNT_NAME) or ""


def _encoded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()
