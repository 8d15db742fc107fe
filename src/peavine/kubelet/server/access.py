"""Who may ask the kubelet: client certificates of the cluster's authority, tokens by TokenReview, rights by
SubjectAccessReview on `nodes/…`. Answers of the API server are kept for a short while, as upstream does it."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

from peavine.client.transport import Unreachable
from peavine.kubelet.server.http import HttpError, Request
from peavine.machinery.errors import ApiError

if TYPE_CHECKING:
    from peavine.kubelet.kubelet import Kubelet

TOKEN_SECONDS = 120.0
ALLOWED_SECONDS, DENIED_SECONDS = 300.0, 30.0
REMEMBERED_MAX = 1024

User = tuple[str, tuple[str, ...]]

# First part of the path -> subresources of the node, any of which opens it (the fine-grained one first).
_SUBRESOURCES = {
    "stats": ("stats",),
    "metrics": ("metrics",),
    "logs": ("log",),
    "checkpoint": ("checkpoint",),
    "pods": ("pods", "proxy"),
    "runningpods": ("pods", "proxy"),
    "healthz": ("healthz", "proxy"),
    "configz": ("configz", "proxy"),
}
_VERBS = {"POST": "create", "GET": "get", "HEAD": "get", "PUT": "update", "PATCH": "patch", "DELETE": "delete"}


def certificate_user(der: bytes) -> User:
    """(common name, organizations) of a client certificate."""
    from cryptography import x509
    from cryptography.x509.oid import NameOID

    subject = x509.load_der_x509_certificate(der).subject
    names = [str(a.value) for a in subject.get_attributes_for_oid(NameOID.COMMON_NAME)]
    groups = tuple(str(a.value) for a in subject.get_attributes_for_oid(NameOID.ORGANIZATION_NAME))
    return names[0] if names else "", (*groups, "system:authenticated")


class Access:
    def __init__(self, kubelet: Kubelet) -> None:
        self._kubelet = kubelet
        self._users: dict[bytes, tuple[float, User | None]] = {}
        self._decisions: dict[tuple[Any, ...], tuple[float, bool]] = {}

    async def check(self, request: Request) -> None:
        """Raises HttpError 401 or 403."""
        user = await self._user(request)
        options = self._kubelet.options
        if user is None:
            if not options.anonymous_auth:
                raise HttpError(401, "Unauthorized")
            user = ("system:anonymous", ("system:unauthenticated",))
        if options.authorization_mode == "AlwaysAllow" or "system:masters" in user[1]:
            return
        first = request.path.strip("/").split("/")[0]
        verb = _VERBS.get(request.method, "get")
        subresources = _SUBRESOURCES.get(first, ("proxy",))
        for subresource in subresources:
            if await self._allowed(user, verb, subresource):
                return
        raise HttpError(
            403,
            f"Forbidden (user={user[0]}, verb={verb}, resource=nodes, subresource(s)={list(subresources)})",
        )

    async def _user(self, request: Request) -> User | None:
        if request.peer_certificate:
            key = hashlib.sha256(request.peer_certificate).digest()
            if key not in self._users:
                self._remember(self._users, key, float("inf"), certificate_user(request.peer_certificate))
            return self._users[key][1]
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not token or not self._kubelet.options.authentication_token_webhook:
            return None
        return await self._token_user(token.strip())

    def _remember(self, memory: dict[Any, Any], key: Any, until: float, value: Any) -> None:
        while len(memory) >= REMEMBERED_MAX:
            memory.pop(next(iter(memory)))
        memory[key] = (until, value)

    async def _token_user(self, token: str) -> User | None:
        key, now = hashlib.sha256(token.encode()).digest(), self._kubelet.clock.monotonic()
        known = self._users.get(key)
        if known is not None and known[0] > now:
            return known[1]
        review = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "spec": {"token": token}}
        answer = await self._ask("authentication.k8s.io/v1", "tokenreviews", review)
        status = answer.get("status") or {}
        user = None
        if status.get("authenticated"):
            found = status.get("user") or {}
            user = (found.get("username", ""), tuple(found.get("groups") or ()))
        self._remember(self._users, key, now + TOKEN_SECONDS, user)
        return user

    async def _allowed(self, user: User, verb: str, subresource: str) -> bool:
        node = self._kubelet.options.node_name
        key, now = (user, verb, subresource), self._kubelet.clock.monotonic()
        known = self._decisions.get(key)
        if known is not None and known[0] > now:
            return known[1]
        review = {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SubjectAccessReview",
            "spec": {
                "user": user[0],
                "groups": list(user[1]),
                "resourceAttributes": {
                    "verb": verb,
                    "version": "v1",
                    "resource": "nodes",
                    "subresource": subresource,
                    "name": node,
                },
            },
        }
        answer = await self._ask("authorization.k8s.io/v1", "subjectaccessreviews", review)
        allowed = bool((answer.get("status") or {}).get("allowed"))
        self._remember(self._decisions, key, now + (ALLOWED_SECONDS if allowed else DENIED_SECONDS), allowed)
        return allowed

    async def _ask(self, version: str, plural: str, review: dict[str, Any]) -> dict[str, Any]:
        try:
            return await self._kubelet.client.resource(version, plural).create(review)
        except (ApiError, Unreachable) as error:
            raise HttpError(500, f"the API server cannot be asked: {error}") from error
