"""Nobody grants what they do not hold: the checks on writes of roles and bindings."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Any

from peavine.apiserver.authentication.user import MASTERS, User
from peavine.apiserver.authorization.attributes import Attributes, Authorizer, decide
from peavine.apiserver.authorization.rbac import GROUP, RoleBasedAuthorizer
from peavine.machinery import errors

PolicyRule = dict[str, Any]


def covers(held: Iterable[PolicyRule], wanted: Iterable[PolicyRule]) -> tuple[bool, list[PolicyRule]]:
    """Whether `held` allow everything that `wanted` allow; and what of it they do not, in the smallest pieces."""
    pieces = [piece for rule in held for piece in _pieces(rule)]
    missing = [piece for rule in wanted for piece in _pieces(rule) if not any(_holds(h, piece) for h in pieces)]
    return not missing, missing


def _pieces(rule: PolicyRule) -> Iterator[PolicyRule]:
    """The rule as rules of one verb, group, resource and name each."""
    for verb in rule.get("verbs") or ():
        for group in rule.get("apiGroups") or ():
            for resource in rule.get("resources") or ():
                piece = {"verbs": [verb], "apiGroups": [group], "resources": [resource]}
                names = rule.get("resourceNames") or ()
                yield from ({**piece, "resourceNames": [name]} for name in names)
                if not names:
                    yield piece
        for url in rule.get("nonResourceURLs") or ():
            yield {"verbs": [verb], "nonResourceURLs": [url]}


def _holds(held: PolicyRule, piece: PolicyRule) -> bool:
    if held["verbs"] != ["*"] and held["verbs"] != piece["verbs"]:
        return False
    if "nonResourceURLs" in piece:
        if "nonResourceURLs" not in held:
            return False
        (own,), (wanted,) = held["nonResourceURLs"], piece["nonResourceURLs"]
        return own == "*" or own == wanted or (own.endswith("*") and wanted.startswith(own.rstrip("*")))
    if "resources" not in held:
        return False
    if held["apiGroups"] != ["*"] and held["apiGroups"] != piece["apiGroups"]:
        return False
    (own,), (wanted,) = held["resources"], piece["resources"]
    _, slash, subresource = wanted.partition("/")
    if own not in ("*", wanted) and not (slash and own == f"*/{subresource}"):
        return False
    return "resourceNames" not in held or held["resourceNames"] == piece.get("resourceNames")


class EscalationCheck:
    """Called for every write of a role or a binding, after the write itself has been authorized."""

    def __init__(self, rbac: RoleBasedAuthorizer, authorizer: Authorizer) -> None:
        self.rbac, self.authorizer = rbac, authorizer

    async def role(self, user: User, new: dict[str, Any], old: dict[str, Any] | None) -> None:
        """Raises ApiError 403 where the new rules, or what an aggregation would gather, exceed what `user` holds."""
        if MASTERS in user.groups:
            return
        same_rules = old is not None and (old.get("rules") or []) == (new.get("rules") or [])
        same_aggregation = old is not None and old.get("aggregationRule") == new.get("aggregationRule")
        if same_rules and same_aggregation:
            return
        metadata = new["metadata"]
        namespace = metadata.get("namespace") or ""
        resource = "roles" if namespace else "clusterroles"
        if await self._may(user, "escalate", namespace, resource, metadata["name"]):
            return
        if new.get("aggregationRule") and not same_aggregation:
            everything = [
                {"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]},
                {"nonResourceURLs": ["*"], "verbs": ["*"]},
            ]
            if not covers(self.rbac.rules_for(user, ""), everything)[0]:
                why = "must have cluster-admin privileges to use the aggregationRule"
                raise errors.forbidden(resource, metadata["name"], why, GROUP)
        self._confirm(user, new.get("rules") or [], namespace, resource, metadata["name"])

    async def binding(self, user: User, new: dict[str, Any], old: dict[str, Any] | None) -> None:
        """Raises ApiError 403 where the bound role exceeds what `user` holds and `user` may not `bind` it."""
        if MASTERS in user.groups:
            return
        if old is not None and all((old.get(part) or []) == (new.get(part) or []) for part in ("roleRef", "subjects")):
            return
        metadata, ref = new["metadata"], new["roleRef"]
        namespace = metadata.get("namespace") or ""
        resource = "rolebindings" if namespace else "clusterrolebindings"
        role_resource = "roles" if ref["kind"] == "Role" else "clusterroles"
        if await self._may(user, "bind", namespace, role_resource, ref["name"]):
            return
        rules = self.rbac.role_rules(ref["kind"], namespace, ref["name"])
        if rules is None:
            raise errors.not_found(role_resource, ref["name"], GROUP)
        self._confirm(user, rules, namespace, resource, metadata["name"])

    async def _may(self, user: User, verb: str, namespace: str, resource: str, name: str) -> bool:
        attributes = Attributes(user, verb, namespace, GROUP, "v1", resource, "", name)
        return (await decide(self.authorizer, attributes)).allowed

    def _confirm(self, user: User, rules: list[PolicyRule], namespace: str, resource: str, name: str) -> None:
        good, missing = covers(self.rbac.rules_for(user, namespace), rules)
        if not good:
            groups = " ".join(json.dumps(group) for group in user.groups)
            listed = "\n".join(dict.fromkeys(_shown(piece) for piece in _compacted(missing)))
            why = (
                f"user {json.dumps(user.name)} (groups=[{groups}]) is attempting to grant RBAC permissions not "
                f"currently held:\n{listed}"
            )
            raise errors.forbidden(resource, name, why, GROUP)


def _compacted(pieces: list[PolicyRule]) -> list[PolicyRule]:
    """Pieces that differ in the verb alone, as one."""
    joined: dict[str, PolicyRule] = {}
    for piece in pieces:
        key = json.dumps({name: value for name, value in piece.items() if name != "verbs"})
        if key in joined:
            joined[key]["verbs"] = [*joined[key]["verbs"], *piece["verbs"]]
        else:
            joined[key] = dict(piece)
    return sorted(joined.values(), key=_shown)


def _shown(rule: PolicyRule) -> str:
    names = {
        "apiGroups": "APIGroups",
        "resources": "Resources",
        "resourceNames": "ResourceNames",
        "nonResourceURLs": "NonResourceURLs",
        "verbs": "Verbs",
    }
    return "{" + ", ".join(f"{word}:{json.dumps(rule[key])}" for key, word in names.items() if rule.get(key)) + "}"
