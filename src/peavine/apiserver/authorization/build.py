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

    def __init__(self, authorizers: Sequence[Authorizer], lister: Lister | None = None) -> None:
        self.authorizers, self._lister = list(authorizers), lister
        self.rbac: RoleBasedAuthorizer | None = None
        self.graph: NodeGraph | None = None

    def use(self, modes: Sequence[str], extra: dict[str, Authorizer] | None = None) -> None:
        """Ask these from now on; what indexes objects is kept. Raises ValueError, and changes nothing then."""
        fresh: list[Authorizer] = [PrivilegedGroup()]
        for mode in modes:
            fresh.append(extra[mode] if extra and mode in extra else self._made(mode))
        self.authorizers = fresh

    def _made(self, mode: str) -> Authorizer:
        assert self._lister is not None
        if mode == "Node":
            from peavine.apiserver.bootstrap.policy import node_rules

            self.graph = self.graph or NodeGraph(self._lister)
            return NodeAuthorizer(self.graph, node_rules())
        if mode == "RBAC":
            self.rbac = self.rbac or RoleBasedAuthorizer(self._lister)
            return self.rbac
        if mode == "AlwaysAllow":
            log.warning("authorization mode AlwaysAllow: every user may do everything")
            return Always(ALLOWED)
        if mode == "AlwaysDeny":
            return Always(Decision(reason="Everything is forbidden."))
        raise ValueError(f"unknown authorization mode {mode!r}: want one of {', '.join(MODES)}")

    def authorize(self, attributes: Attributes) -> Decision:
        reasons: list[str] = []
        authorizers = self.authorizers
        for position, authorizer in enumerate(authorizers):
            decision = authorizer.authorize(attributes)
            if decision.allowed or decision.denied:
                return decision
            if decision.ask is not None:
                first, rest = decision.ask, authorizers[position + 1 :]

                async def ask(first: Any = first, rest: list[Authorizer] = rest) -> Decision:
                    return await self._ask(attributes, first, rest, reasons)

                return Decision(ask=ask)
            if decision.reason:
                reasons.append(decision.reason)
        return Decision(reason="\n".join(reasons)) if reasons else NO_OPINION

    @staticmethod
    async def _ask(attributes: Attributes, ask: Any, others: list[Authorizer], reasons: list[str]) -> Decision:
        decision = await ask()
        if decision.allowed or decision.denied:
            return decision
        rest = Union(others).authorize(attributes)
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
    union = Union([], lister)
    union.use(modes, extra)
    return union
