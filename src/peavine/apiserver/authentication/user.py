"""The user of a request, and what every authenticator promises."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Protocol

from peavine.apiserver.requests import RequestInfo

ALL_AUTHENTICATED = "system:authenticated"
ALL_UNAUTHENTICATED = "system:unauthenticated"
MASTERS = "system:masters"
NODES = "system:nodes"
SERVICE_ACCOUNTS = "system:serviceaccounts"
BOOTSTRAPPERS = "system:bootstrappers"
SERVICE_ACCOUNT_PREFIX = "system:serviceaccount:"
NODE_PREFIX = "system:node:"


@dataclass(frozen=True, slots=True)
class User:
    """An identity. `extra` is what the authenticator knows besides; its keys are lower case."""

    name: str
    uid: str = ""
    groups: tuple[str, ...] = ()
    extra: dict[str, list[str]] = field(default_factory=dict, hash=False)

    def with_groups(self, *groups: str) -> User:
        """The same user, also in `groups`."""
        added = tuple(group for group in groups if group not in self.groups)
        return User(self.name, self.uid, self.groups + added, self.extra) if added else self

    def user_info(self) -> dict[str, Any]:
        """The `UserInfo` of `authentication.k8s.io/v1`."""
        info: dict[str, Any] = {"username": self.name}
        if self.uid:
            info["uid"] = self.uid
        if self.groups:
            info["groups"] = list(self.groups)
        if self.extra:
            info["extra"] = {key: list(values) for key, values in self.extra.items()}
        return info


ANONYMOUS = User("system:anonymous", groups=(ALL_UNAUTHENTICATED,))
SYSTEM_APISERVER = User("system:apiserver", groups=(MASTERS, ALL_AUTHENTICATED))


class Authenticator(Protocol):
    """One way, or all ways, to know a user."""

    async def authenticate(self, info: RequestInfo) -> User | None:
        """The user of the request; None where its credentials are not of this authenticator's kind.

        Raises `ApiError` 401 for credentials of its kind that are wrong. The authenticator of the whole server
        never answers None: who shows nothing is anonymous where anonymous is allowed, else 401.
        """
        ...
