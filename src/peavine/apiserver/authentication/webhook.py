"""Bearer tokens that a webhook knows: a TokenReview is sent, and its answer remembered for a while."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any, Protocol

from peavine.apiserver.authentication.remote import RemoteError
from peavine.apiserver.authentication.serviceaccount import TokenRefused
from peavine.apiserver.authentication.user import User
from peavine.base.clock import REAL, Clock

REMEMBER_SECONDS = 120.0
TOKENS_REMEMBERED_MAX = 4096


class Asker(Protocol):
    async def ask(self, document: dict[str, Any]) -> dict[str, Any]: ...


class WebhookTokens:
    def __init__(self, sender: Asker, *, remember_seconds: float = REMEMBER_SECONDS, clock: Clock = REAL) -> None:
        self.sender, self.remember_seconds, self.clock = sender, remember_seconds, clock
        self._known: dict[bytes, tuple[float, tuple[User, list[str]] | None]] = {}

    async def authenticate_token(self, token: str, audiences: Sequence[str] = ()) -> tuple[User, list[str]] | None:
        digest = hashlib.sha256("\0".join([token, *audiences]).encode()).digest()
        known = self._known.get(digest)
        if known is not None and known[0] > self.clock.monotonic():
            return known[1]
        spec: dict[str, Any] = {"token": token}
        if audiences:
            spec["audiences"] = list(audiences)
        review = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "spec": spec}
        try:
            status = (await self.sender.ask(review)).get("status") or {}
        except RemoteError as error:
            raise TokenRefused(f"webhook: {error}") from error
        found: tuple[User, list[str]] | None = None
        if status.get("authenticated"):
            user = status.get("user") or {}
            extra = {key.lower(): list(values) for key, values in (user.get("extra") or {}).items()}
            good = [a for a in status.get("audiences") or () if a in audiences] if audiences else []
            if audiences and status.get("audiences") and not good:
                raise TokenRefused("webhook: the token is not for the target audiences")
            who = User(user.get("username", ""), user.get("uid", ""), tuple(user.get("groups") or ()), extra)
            found = (who, good or list(audiences))
        if len(self._known) >= TOKENS_REMEMBERED_MAX:
            self._known.clear()
        self._known[digest] = (self.clock.monotonic() + self.remember_seconds, found)
        return found
