"""Role-based access control, answered from indexes that change with the objects.

A role is compiled once: its rules by resource. Each subject, in each namespace and cluster-wide, has the roles bound
to it; a subject with many has them merged, so an answer costs a few lookups however many roles the cluster has.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from peavine.apiserver.authentication.user import MASTERS, SERVICE_ACCOUNT_PREFIX, User
from peavine.apiserver.authorization.attributes import NO_OPINION, Attributes, Decision
from peavine.apiserver.lister import Lister

GROUP = "rbac.authorization.k8s.io"
MERGE_ABOVE = 6  # roles of one subject; below, asking each is as fast and shares all memory

_ALL = frozenset("*")


class Rule:
    """One PolicyRule with its lists as sets. An empty `names` means every name."""

    __slots__ = ("groups", "names", "resources", "urls", "verbs")

    def __init__(self, rule: dict[str, Any]) -> None:
        self.verbs = frozenset(rule.get("verbs") or ())
        self.groups = frozenset(rule.get("apiGroups") or ())
        self.resources = frozenset(rule.get("resources") or ())
        self.names = frozenset(rule.get("resourceNames") or ())
        self.urls = tuple(rule.get("nonResourceURLs") or ())

    def allows(self, attributes: Attributes) -> bool:
        """The resource has matched already."""
        verbs, groups = self.verbs, self.groups
        return (
            (attributes.verb in verbs or "*" in verbs)
            and (attributes.group in groups or "*" in groups)
            and (not self.names or attributes.name in self.names)
        )

    def allows_path(self, attributes: Attributes) -> bool:
        if attributes.verb not in self.verbs and "*" not in self.verbs:
            return False
        path = attributes.path
        return any(
            url == "*" or url == path or (url.endswith("*") and path.startswith(url.rstrip("*"))) for url in self.urls
        )


class Role:
    """The rules of a Role or ClusterRole, by resource (`pods`, `pods/log`, `*`, `*/scale`)."""

    __slots__ = ("by_resource", "path_rules", "rules")

    def __init__(self, rules: Iterable[dict[str, Any]]) -> None:
        self.rules = list(rules)
        self.by_resource: dict[str, list[Rule]] = {}
        self.path_rules: list[Rule] = []
        for raw in self.rules:
            rule = Rule(raw)
            for resource in rule.resources:
                self.by_resource.setdefault(resource, []).append(rule)
            if rule.urls:
                self.path_rules.append(rule)


class Grant(NamedTuple):
    """A role bound to a subject. `role` is None while the role does not exist."""

    role: Role | None
    role_kind: str
    role_name: str
    binding: str  # in words, for the reason
    subject: str  # in words

    def reason(self) -> str:
        return f'RBAC: allowed by {self.binding} of {self.role_kind} "{self.role_name}" to {self.subject}'

    def missing(self) -> str:
        return f'RBAC: {self.role_kind.lower()}.{GROUP} "{self.role_name}" not found'


class _Merged:
    """What many grants allow, taken apart: (resource, verb, group) and, for rules with names, the name as well."""

    __slots__ = ("grants", "named", "path_rules", "plain")

    def __init__(self, grants: list[Grant]) -> None:
        self.grants = grants
        self.plain: dict[tuple[str, str, str], Grant] = {}
        self.named: dict[tuple[str, str, str, str], Grant] = {}
        self.path_rules: list[tuple[Rule, Grant]] = []
        for grant in grants:
            if grant.role is None:
                continue
            for resource, rules in grant.role.by_resource.items():
                for rule in rules:
                    for verb in rule.verbs:
                        for group in rule.groups:
                            if not rule.names:
                                self.plain.setdefault((resource, verb, group), grant)
                            for name in rule.names:
                                self.named.setdefault((resource, verb, group, name), grant)
            self.path_rules.extend((rule, grant) for rule in grant.role.path_rules)

    def find(self, resources: tuple[str, ...], attributes: Attributes) -> Grant | None:
        verb, group, name = attributes.verb, attributes.group, attributes.name
        plain, named = self.plain, self.named
        for resource in resources:
            for v in (verb, "*"):
                for g in (group, "*"):
                    found = plain.get((resource, v, g)) or (named.get((resource, v, g, name)) if name else None)
                    if found is not None:
                        return found
        return None


# A subject: ("User", name) or ("Group", name); service accounts are users by their user name.
_Subject = tuple[str, str]
_Key = tuple[str, _Subject]  # namespace ("" cluster-wide), subject
_RoleKey = tuple[str, str, str]  # kind, namespace, name


class RoleBasedAuthorizer:
    """`authorize` for RBAC, and the rules of a user for reviews and escalation checks."""

    def __init__(self, lister: Lister) -> None:
        self._roles: dict[_RoleKey, Role] = {}
        self._bindings: dict[tuple[str, str], dict[str, Any]] = {}  # (namespace, name) -> binding
        self._by_subject: dict[_Key, dict[tuple[str, str], str]] = {}  # -> bindings that name it -> the subject's words
        self._by_role: dict[_RoleKey, set[tuple[str, str]]] = {}  # -> bindings that refer to it
        self._ready: dict[_Key, list[Grant] | _Merged] = {}  # made when asked, dropped on change
        lister.on_change(GROUP, "clusterroles", self._role_changed)
        lister.on_change(GROUP, "roles", self._role_changed)
        lister.on_change(GROUP, "clusterrolebindings", self._binding_changed)
        lister.on_change(GROUP, "rolebindings", self._binding_changed)

    def authorize(self, attributes: Attributes) -> Decision:
        user = attributes.user
        subjects: list[_Subject] = [("User", user.name)]
        subjects += [("Group", group) for group in user.groups]
        scopes = ("", attributes.namespace) if attributes.namespace and attributes.is_resource else ("",)
        if not attributes.is_resource:
            keys: tuple[str, ...] = ()
        elif attributes.subresource:
            keys = (f"{attributes.resource}/{attributes.subresource}", "*", f"*/{attributes.subresource}")
        else:
            keys = (attributes.resource, "*")
        missing: list[str] = []
        for scope in scopes:
            for subject in subjects:
                if (scope, subject) not in self._by_subject:
                    continue
                grants = self._grants(scope, subject)
                found = (
                    self._ask_merged(grants, keys, attributes)
                    if isinstance(grants, _Merged)
                    else self._ask_each(grants, keys, attributes, missing)
                )
                if found is not None:
                    return Decision(allowed=True, reason=found.reason())
        return Decision(reason=", ".join(missing)) if missing else NO_OPINION

    def rules_for(self, user: User, namespace: str) -> list[dict[str, Any]]:
        """Every PolicyRule that applies to `user` in `namespace`, cluster-wide ones first."""
        return [rule for grant in self.grants_for(user, namespace) if grant.role for rule in grant.role.rules]

    def grants_for(self, user: User, namespace: str) -> Iterator[Grant]:
        for scope in ("", namespace) if namespace else ("",):
            for subject in [("User", user.name), *(("Group", group) for group in user.groups)]:
                if (scope, subject) in self._by_subject:
                    grants = self._grants(scope, subject)
                    yield from grants.grants if isinstance(grants, _Merged) else grants

    def role_rules(self, kind: str, namespace: str, name: str) -> list[dict[str, Any]] | None:
        """The rules of a role that exists, else None."""
        role = self._roles.get((kind, namespace if kind == "Role" else "", name))
        return None if role is None else role.rules

    @staticmethod
    def _ask_each(
        grants: list[Grant], keys: tuple[str, ...], attributes: Attributes, missing: list[str]
    ) -> Grant | None:
        for grant in grants:
            role = grant.role
            if role is None:
                missing.append(grant.missing())
                continue
            for key in keys:
                for rule in role.by_resource.get(key, ()):
                    if rule.allows(attributes):
                        return grant
            if not keys:
                for rule in role.path_rules:
                    if rule.allows_path(attributes):
                        return grant
        return None

    @staticmethod
    def _ask_merged(merged: _Merged, keys: tuple[str, ...], attributes: Attributes) -> Grant | None:
        if keys:
            return merged.find(keys, attributes)
        for rule, grant in merged.path_rules:
            if rule.allows_path(attributes):
                return grant
        return None

    def _grants(self, scope: str, subject: _Subject) -> list[Grant] | _Merged:
        key = (scope, subject)
        ready = self._ready.get(key)
        if ready is None:
            grants = []
            for (namespace, name), words in self._by_subject[key].items():
                ref = self._bindings[namespace, name]["roleRef"]
                binding = f'RoleBinding "{name}/{namespace}"' if namespace else f'ClusterRoleBinding "{name}"'
                role = self._roles.get(_role_key(ref, namespace))
                grants.append(Grant(role, ref["kind"], ref["name"], binding, words))
            ready = self._ready[key] = _Merged(grants) if len(grants) > MERGE_ABOVE else grants
        return ready

    def _role_changed(self, event: str, obj: dict[str, Any], old: dict[str, Any] | None) -> None:
        metadata = obj["metadata"]
        namespace = metadata.get("namespace") or ""
        key = ("Role" if namespace else "ClusterRole", namespace, metadata["name"])
        if event == "DELETED":
            self._roles.pop(key, None)
        else:
            self._roles[key] = Role(obj.get("rules") or ())
        for binding in self._by_role.get(key, ()):
            self._forget(self._bindings[binding], binding[0])

    def _binding_changed(self, event: str, obj: dict[str, Any], old: dict[str, Any] | None) -> None:
        metadata = obj["metadata"]
        namespace = metadata.get("namespace") or ""
        key = (namespace, metadata["name"])
        before = self._bindings.pop(key, None)
        if before is not None:
            self._forget(before, namespace)
            for subject, _ in _subjects(before, namespace):
                bound = self._by_subject.get((namespace, subject))
                if bound is not None:
                    bound.pop(key, None)
                    if not bound:
                        del self._by_subject[namespace, subject]
            referring = self._by_role.get(_role_key(before["roleRef"], namespace))
            if referring is not None:
                referring.discard(key)
        if event == "DELETED":
            return
        # Only what is asked for later: a whole object kept here would be a second copy of the cache's.
        kept = {"roleRef": obj["roleRef"], "subjects": obj.get("subjects") or []}
        self._bindings[key] = kept
        self._by_role.setdefault(_role_key(kept["roleRef"], namespace), set()).add(key)
        for subject, words in _subjects(kept, namespace):
            self._by_subject.setdefault((namespace, subject), {}).setdefault(key, words)
        self._forget(kept, namespace)

    def _forget(self, binding: dict[str, Any], namespace: str) -> None:
        for subject, _ in _subjects(binding, namespace):
            self._ready.pop((namespace, subject), None)


def _role_key(ref: dict[str, Any], namespace: str) -> _RoleKey:
    return (ref["kind"], namespace if ref["kind"] == "Role" else "", ref["name"])


def _subjects(binding: dict[str, Any], namespace: str) -> Iterator[tuple[_Subject, str]]:
    """Each subject of a binding, and in words."""
    for subject in binding.get("subjects") or ():
        kind, name = subject.get("kind"), subject.get("name", "")
        if kind == "ServiceAccount":
            home = subject.get("namespace") or namespace
            if home:
                yield ("User", f"{SERVICE_ACCOUNT_PREFIX}{home}:{name}"), f'ServiceAccount "{name}/{home}"'
        elif kind in ("User", "Group"):
            yield (kind, name), f'{kind} "{name}"'


class PrivilegedGroup:
    """Members of system:masters may do everything, whatever the roles say: the way back in."""

    def __init__(self, group: str = MASTERS) -> None:
        self.group = group

    def authorize(self, attributes: Attributes) -> Decision:
        return Decision(allowed=True) if self.group in attributes.user.groups else NO_OPINION

    def rules_for(self, user: User, namespace: str) -> list[dict[str, Any]]:
        return []  # the role cluster-admin, bound to the group, says it
