"""Users by bearer token: service accounts, bootstrap tokens, static tokens, and whoever else is plugged in."""

from __future__ import annotations

import base64
import csv
import hmac
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from peavine.api.core import bootstrap_token
from peavine.apiserver.authentication.serviceaccount import TokenRefused
from peavine.apiserver.authentication.user import BOOTSTRAPPERS, User
from peavine.apiserver.lister import Lister
from peavine.apiserver.requests import RequestInfo
from peavine.base.clock import REAL, Clock
from peavine.machinery import errors

_PROTOCOL_PREFIX = "base64url.bearer.authorization.k8s.io."


class TokenVerifier(Protocol):
    async def authenticate_token(self, token: str, audiences: Sequence[str] = ()) -> tuple[User, list[str]] | None:
        """The user and the audiences good for both; None for a token that is not of this kind. Raises TokenRefused."""
        ...


class BearerAuthenticator:
    """Reads the token of a request and asks the verifiers in order; one that refuses does not stop the others."""

    def __init__(self, verifiers: Sequence[TokenVerifier]) -> None:
        self.verifiers = list(verifiers)

    async def authenticate(self, info: RequestInfo) -> User | None:
        token = bearer_token(info)
        if not token:
            return None
        found = await self.review(token)
        if isinstance(found, str):
            raise errors.unauthorized()  # why is not for who shows a wrong token
        return found[0]

    async def review(self, token: str, audiences: Sequence[str] = ()) -> tuple[User, list[str]] | str:
        """The user and audiences, or in words why not."""
        why = "invalid bearer token"
        for verifier in self.verifiers:
            try:
                found = await verifier.authenticate_token(token, audiences)
            except TokenRefused as refused:
                why = str(refused)
                continue
            if found is not None:
                return found
        return why


def bearer_token(info: RequestInfo) -> str:
    """The token of the Authorization header, or of a WebSocket's subprotocols (which it is then taken from)."""
    kind, _, token = info.headers.get("authorization", "").strip().partition(" ")
    if kind.lower() == "bearer" and token.strip():
        return token.strip()
    if "websocket" not in info.headers.get("upgrade", "").lower():
        return ""
    offered = [p.strip() for value in info.header_values("sec-websocket-protocol") for p in value.split(",")]
    tokens = [p[len(_PROTOCOL_PREFIX) :] for p in offered if p.startswith(_PROTOCOL_PREFIX)]
    kept = [p for p in offered if not p.startswith(_PROTOCOL_PREFIX)]
    if not tokens:
        return ""
    if len(tokens) > 1 or not kept:
        raise errors.unauthorized()  # a token alone would leave nothing to answer the handshake with
    info.raw_headers = [(k, v) for k, v in info.raw_headers if k != "sec-websocket-protocol"]
    info.raw_headers.append(("sec-websocket-protocol", ", ".join(kept)))
    info.headers["sec-websocket-protocol"] = ", ".join(kept)
    try:
        return base64.urlsafe_b64decode(tokens[0] + "=" * (-len(tokens[0]) % 4)).decode()
    except ValueError:
        raise errors.unauthorized() from None


class BootstrapTokens:
    """Tokens that let a machine join: secrets `kube-system/bootstrap-token-ID` with usage authentication."""

    def __init__(self, lister: Lister, clock: Clock = REAL) -> None:
        self.lister, self.clock = lister, clock

    async def authenticate_token(self, token: str, audiences: Sequence[str] = ()) -> tuple[User, list[str]] | None:
        match = bootstrap_token.FORM.fullmatch(token)
        if match is None:
            return None
        token_id, token_secret = match.groups()
        secret = self.lister.get("", "secrets", bootstrap_token.NAMESPACE, bootstrap_token.NAME_PREFIX + token_id)
        if secret is None or secret.get("type") != bootstrap_token.SECRET_TYPE:
            return None
        if secret["metadata"].get("deletionTimestamp"):
            return None
        data = {key: base64.b64decode(value).decode() for key, value in (secret.get("data") or {}).items()}
        if not hmac.compare_digest(data.get("token-secret", ""), token_secret) or data.get("token-id") != token_id:
            return None
        if self._expired(data.get("expiration", "")) or data.get("usage-bootstrap-authentication") != "true":
            return None
        groups = [group for group in data.get("auth-extra-groups", "").split(",") if group]
        if not all(bootstrap_token.GROUP_FORM.fullmatch(group) for group in groups):
            return None
        return User(f"system:bootstrap:{token_id}", "", (BOOTSTRAPPERS, *groups)), list(audiences)

    def _expired(self, stamp: str) -> bool:
        if not stamp:
            return False
        from datetime import datetime

        try:
            return datetime.fromisoformat(stamp.replace("Z", "+00:00")).timestamp() <= self.clock.time()
        except ValueError:
            return True  # what cannot be read is over


class StaticTokens:
    """`--token-auth-file`: lines of token,user,uid[,"group1,group2"]. Read once."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._users: dict[str, User] = {}
        with Path(path).open(newline="") as file:
            for row in csv.reader(file, skipinitialspace=True):
                if len(row) >= 3 and row[0]:
                    groups = tuple(g.strip() for g in row[3].split(",") if g.strip()) if len(row) > 3 else ()
                    self._users[row[0]] = User(row[1], row[2], groups)

    async def authenticate_token(self, token: str, audiences: Sequence[str] = ()) -> tuple[User, list[str]] | None:
        found = self._users.get(token)
        return (found, list(audiences)) if found else None
