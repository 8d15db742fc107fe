"""Which FlowSchema a request belongs to: the first, by precedence and name, with a rule that fits."""

from __future__ import annotations

from typing import Any

from peavine.apiserver.authentication.user import SERVICE_ACCOUNT_PREFIX, User
from peavine.apiserver.requests import RequestInfo

USERS_REMEMBERED_MAX = 2000
ANSWERS_REMEMBERED_MAX = 10_000


class Schema:
    """A FlowSchema, ready to be asked."""

    __slots__ = ("distinguisher", "level", "name", "precedence", "rules", "uid")

    def __init__(self, obj: dict[str, Any]) -> None:
        spec, metadata = obj["spec"], obj["metadata"]
        self.name, self.uid = metadata["name"], metadata.get("uid", "")
        self.level = spec["priorityLevelConfiguration"]["name"]
        self.precedence = spec.get("matchingPrecedence", 1000)
        self.distinguisher = (spec.get("distinguisherMethod") or {}).get("type", "")
        self.rules = spec.get("rules") or []

    def flow(self, info: RequestInfo, user: User) -> str:
        """What tells this schema's flows apart."""
        if self.distinguisher == "ByUser":
            return user.name
        return info.namespace if self.distinguisher == "ByNamespace" else ""


class Matcher:
    """All schemas. Which rules concern a user is remembered: most requests come from few users."""

    def __init__(self, schemas: list[Schema]) -> None:
        self.schemas = sorted(schemas, key=lambda schema: (schema.precedence, schema.name))
        self._by_user: dict[tuple[str, tuple[str, ...]], list[tuple[Schema, list[dict[str, Any]]]]] = {}
        self._answers: dict[tuple[Any, ...], Schema | None] = {}  # of requests on resources

    def match(self, info: RequestInfo, user: User) -> Schema | None:
        if not info.is_resource:
            return self._match(info, user)
        question = (user.name, user.groups, info.verb, info.group, info.resource, info.subresource, info.namespace)
        try:
            return self._answers[question]
        except KeyError:
            if len(self._answers) >= ANSWERS_REMEMBERED_MAX:
                self._answers.clear()
            answer = self._answers[question] = self._match(info, user)
            return answer

    def _match(self, info: RequestInfo, user: User) -> Schema | None:
        key = (user.name, user.groups)
        candidates = self._by_user.get(key)
        if candidates is None:
            if len(self._by_user) >= USERS_REMEMBERED_MAX:
                self._by_user.clear()
            candidates = self._by_user[key] = [
                (schema, rules) for schema in self.schemas if (rules := _rules_of(schema, user))
            ]
        for schema, rules in candidates:
            for rule in rules:
                if _fits(rule, info):
                    return schema
        return None


def _rules_of(schema: Schema, user: User) -> list[dict[str, Any]]:
    return [rule for rule in schema.rules if any(_is(subject, user) for subject in rule.get("subjects") or ())]


def _is(subject: dict[str, Any], user: User) -> bool:
    kind = subject.get("kind")
    if kind == "User":
        return (subject.get("user") or {}).get("name") in ("*", user.name)
    if kind == "Group":
        name = (subject.get("group") or {}).get("name")
        return name == "*" or name in user.groups
    if kind == "ServiceAccount":
        account = subject.get("serviceAccount") or {}
        prefix = f"{SERVICE_ACCOUNT_PREFIX}{account.get('namespace')}:"
        if account.get("name") == "*":
            return user.name.startswith(prefix)
        return user.name == prefix + str(account.get("name"))
    return False


def _fits(rule: dict[str, Any], info: RequestInfo) -> bool:
    if info.is_resource:
        return any(_resource_fits(part, info) for part in rule.get("resourceRules") or ())
    return any(_path_fits(part, info) for part in rule.get("nonResourceRules") or ())


def _resource_fits(rule: dict[str, Any], info: RequestInfo) -> bool:
    if not _one_of(rule["verbs"], info.verb) or not _one_of(rule["apiGroups"], info.group):
        return False
    resource = f"{info.resource}/{info.subresource}" if info.subresource else info.resource
    if not _one_of(rule["resources"], resource):
        return False
    if not info.namespace:
        return bool(rule.get("clusterScope"))
    return _one_of(rule.get("namespaces") or (), info.namespace)


def _path_fits(rule: dict[str, Any], info: RequestInfo) -> bool:
    if not _one_of(rule["verbs"], info.verb):
        return False
    for url in rule.get("nonResourceURLs") or ():
        if url in ("*", info.path) or (url.endswith("/*") and info.path.startswith(url[:-1])):
            return True
    return False


def _one_of(values: Any, value: str) -> bool:
    return "*" in values or value in values
