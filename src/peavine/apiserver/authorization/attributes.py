"""The question an authorizer is asked, and its answer."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Protocol

from peavine.apiserver.authentication.user import User
from peavine.apiserver.requests import RequestInfo


@dataclass(slots=True)
class Attributes:
    """May `user` do `verb` to this? `path` is for what is no resource; "" means absent throughout."""

    user: User
    verb: str
    namespace: str = ""
    group: str = ""
    version: str = ""
    resource: str = ""
    subresource: str = ""
    name: str = ""
    path: str = ""
    is_resource: bool = True
    field_selector: str = ""
    label_selector: str = ""

    @classmethod
    def of(cls, info: RequestInfo, user: User) -> Attributes:
        """The attributes of a request as the authorization filter asks them."""
        return cls(
            user,
            info.verb,
            info.namespace,
            info.group,
            info.version,
            info.resource,
            info.subresource,
            info.name,
            info.path,
            info.is_resource,
            info.parameter("fieldSelector") if info.verb in ("list", "watch", "deletecollection") else "",
            info.parameter("labelSelector") if info.verb in ("list", "watch", "deletecollection") else "",
        )


@dataclass(frozen=True, slots=True)
class Decision:
    """Allowed, denied, or neither (no opinion). Never both.

    `ask`, where set, stands for authorizers that must be asked over the network: the final answer is what awaiting
    `ask()` gives. Only `decide` looks at it.
    """

    allowed: bool = False
    denied: bool = False
    reason: str = ""
    ask: Callable[[], Awaitable[Decision]] | None = None


ALLOWED = Decision(allowed=True)
NO_OPINION = Decision()


class Authorizer(Protocol):
    def authorize(self, attributes: Attributes) -> Decision:
        """Answer from memory; does not await, and is called on every request: tens of microseconds."""
        ...


async def decide(authorizer: Authorizer, attributes: Attributes) -> Decision:
    """The final decision, webhooks included. What is neither allowed nor denied is to be refused by the caller."""
    decision = authorizer.authorize(attributes)
    return decision if decision.ask is None else await decision.ask()


def refusal(attributes: Attributes, reason: str = "") -> str:
    """The words after "is forbidden: " in the 403 for `attributes`."""
    user = attributes.user.name
    if not attributes.is_resource:
        words = f'User "{user}" cannot {attributes.verb} path "{attributes.path}"'
    else:
        resource = attributes.resource
        if attributes.subresource:
            resource += "/" + attributes.subresource
        words = f'User "{user}" cannot {attributes.verb} resource "{resource}" in API group "{attributes.group}"'
        words += f' in the namespace "{attributes.namespace}"' if attributes.namespace else " at the cluster scope"
    return f"{words}: {reason}" if reason else words
