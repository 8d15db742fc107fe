"""The authorizers a server runs with, asked in order: the first that allows or denies decides."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

from peavine.apiserver.authentication.user import User
from peavine.apiserver.authorization.attributes import ALLOWED, NO_OPINION, Attributes, Authorizer, Decision
from peavine.apiserver.authorization.node import NodeAuthorizer, NodeGraph
from peavine.apiserver.authorization.rbac import PrivilegedGroup, RoleBasedAuthorizer
from peavine.apiserver.lister import Lister

log = logging.getLogger(__name__)

MODES = ("AlwaysAllow", "AlwaysDeny", "Node", "RBAC")


class Union:
    """Several authorizers as one. `rbac` and `graph` are the parts that others ask directly (None: not in use)."""

    def __init__(
        self,
        authorizers: Sequence[Authorizer],
        rbac: RoleBasedAuthorizer | None = None,
        graph: NodeGraph | None = None,
    ) -> None:
        self.authorizers, self.rbac, self.graph = list(authorizers), rbac, graph

    def authorize(self, attributes: Attributes) -> Decision:
        reasons: list[str] = []
        for position, authorizer in enumerate(self.authorizers):
            decision = authorizer.authorize(attributes)
            if decision.allowed or decision.denied:
                return decision
            if decision.ask is not None:
                first = decision.ask

                async def ask(position: int = position, first: Any = first) -> Decision:
                    return await self._ask(attributes, position, first, reasons)

                return Decision(ask=ask)
            if decision.reason:
                reasons.append(decision.reason)
        return Decision(reason="\n".join(reasons)) if reasons else NO_OPINION

    async def _ask(self, attributes: Attributes, position: int, ask: Any, reasons: list[str]) -> Decision:
        decision = await ask()
        if decision.allowed or decision.denied:
            return decision
        rest = Union(self.authorizers[position + 1 :]).authorize(attributes)
        if rest.ask is not None:
            rest = await rest.ask()
        if rest.allowed or rest.denied:
            return rest
        return Decision(reason="\n".join(r for r in [*reasons, decision.reason, rest.reason] if r))

    def rules_for(self, user: User, namespace: str) -> tuple[list[dict[str, Any]], bool, str]:
        """The rules of a user, whether there may be more than these, and why."""
        rules: list[dict[str, Any]] = []
        incomplete, problems = False, []
        for authorizer in self.authorizers:
            rules_of = getattr(authorizer, "rules_for", None)
            try:
                if rules_of is None:
                    raise NotImplementedError("webhook authorizer does not support user rule resolution")
                rules += rules_of(user, namespace)
            except NotImplementedError as error:
                incomplete = True
                problems.append(str(error))
        return rules, incomplete, ", ".join(problems)


class Always:
    def __init__(self, decision: Decision) -> None:
        self.decision = decision

    def authorize(self, attributes: Attributes) -> Decision:
        return self.decision

    def rules_for(self, user: User, namespace: str) -> list[dict[str, Any]]:
        if not self.decision.allowed:
            return []
        return [
            {"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]},
            {"verbs": ["*"], "nonResourceURLs": ["*"]},
        ]


def build_authorizer(
    lister: Lister, modes: Sequence[str] = ("Node", "RBAC"), extra: dict[str, Authorizer] | None = None
) -> Union:
    """The authorizer for `--authorization-mode`. `extra`: mode name -> authorizer (webhooks, say).

    Members of system:masters are always allowed, before any mode. Raises ValueError for an unknown mode.
    """
    from peavine.apiserver.bootstrap.policy import node_rules

    authorizers: list[Authorizer] = [PrivilegedGroup()]
    rbac: RoleBasedAuthorizer | None = None
    graph: NodeGraph | None = None
    for mode in modes:
        if extra and mode in extra:
            authorizers.append(extra[mode])
        elif mode == "Node":
            graph = NodeGraph(lister)
            authorizers.append(NodeAuthorizer(graph, node_rules()))
        elif mode == "RBAC":
            rbac = RoleBasedAuthorizer(lister)
            authorizers.append(rbac)
        elif mode == "AlwaysAllow":
            log.warning("authorization mode AlwaysAllow: every user may do everything")
            authorizers.append(Always(ALLOWED))
        elif mode == "AlwaysDeny":
            authorizers.append(Always(Decision(reason="Everything is forbidden.")))
        else:
            raise ValueError(f"unknown authorization mode {mode!r}: want one of {', '.join(MODES)}")
    return Union(authorizers, rbac, graph)
