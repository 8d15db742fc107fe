"""The audit policy: which requests are written down, at which level, at which stages. `audit.k8s.io/v1`."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from peavine.apiserver.authentication.user import User
from peavine.apiserver.requests import RequestInfo

VERDICTS_REMEMBERED_MAX = 10_000
LEVELS = ("None", "Metadata", "Request", "RequestResponse")
STAGES = ("RequestReceived", "ResponseStarted", "ResponseComplete", "Panic")

# What is written down where nobody says otherwise: who changed what, and who looked at secrets or asked for tokens;
# not the reads that components do all day, nor bodies.
DEFAULT_POLICY: dict[str, Any] = {
    "apiVersion": "audit.k8s.io/v1",
    "kind": "Policy",
    "omitStages": ["RequestReceived"],
    "rules": [
        {"level": "None", "nonResourceURLs": ["/healthz*", "/livez*", "/readyz*", "/version", "/metrics", "/openapi*"]},
        {"level": "None", "resources": [{"group": "coordination.k8s.io", "resources": ["leases"]}]},
        {"level": "None", "resources": [{"group": "", "resources": ["events"]}, {"group": "events.k8s.io"}]},
        {"level": "Metadata", "resources": [{"group": "", "resources": ["secrets", "serviceaccounts/token"]}]},
        {"level": "Metadata", "resources": [{"group": "authentication.k8s.io", "resources": ["tokenreviews"]}]},
        {
            "level": "Metadata",
            "resources": [{"group": "", "resources": ["pods/exec", "pods/attach", "pods/portforward"]}],
        },
        {"level": "None", "verbs": ["get", "list", "watch"]},
        {"level": "None", "users": ["system:apiserver"]},
        {"level": "None", "userGroups": ["system:nodes"], "resources": [{"group": "", "resources": ["*/status"]}]},
        {"level": "Metadata"},
    ],
}


class PolicyError(ValueError):
    """The policy cannot be used; the message says why."""


@dataclass(frozen=True)
class Verdict:
    level: str
    omit_stages: frozenset[str]
    omit_managed_fields: bool

    @property
    def bodies(self) -> bool:
        return self.level in ("Request", "RequestResponse")


NOTHING = Verdict("None", frozenset(STAGES), False)


class Policy:
    def __init__(self, document: dict[str, Any]) -> None:
        if document.get("kind") != "Policy" or document.get("apiVersion") != "audit.k8s.io/v1":
            raise PolicyError("audit policy: want kind Policy of audit.k8s.io/v1")
        rules = document.get("rules") or []
        if not rules:
            raise PolicyError("audit policy: there are no rules")
        omitted = document.get("omitStages") or []
        managed = bool(document.get("omitManagedFields"))
        self.rules = [(_checked(rule), _verdict(rule, omitted, managed)) for rule in rules]
        # Verdicts on requests for resources; where rules name objects there are too many to remember.
        self._named = any(entry.get("resourceNames") for rule in rules for entry in rule.get("resources") or ())
        self._verdicts: dict[tuple[Any, ...], Verdict] = {}

    def verdict(self, info: RequestInfo, user: User | None) -> Verdict:
        """That of the first rule that matches; nothing where none does."""
        if not info.is_resource or user is None or self._named:
            return self._first(info, user)
        key = (user.name, user.groups, info.verb, info.group, info.resource, info.subresource, info.namespace)
        verdict = self._verdicts.get(key)
        if verdict is None:
            if len(self._verdicts) >= VERDICTS_REMEMBERED_MAX:
                self._verdicts.clear()
            verdict = self._verdicts[key] = self._first(info, user)
        return verdict

    def _first(self, info: RequestInfo, user: User | None) -> Verdict:
        for rule, verdict in self.rules:
            if _matches(rule, info, user):
                return verdict
        return NOTHING


def load_policy(path: str | os.PathLike[str] = "") -> Policy:
    """The policy of a YAML file, or the default one. Raises PolicyError, OSError."""
    if not path:
        return Policy(DEFAULT_POLICY)
    import yaml

    try:
        document = yaml.load(Path(path).read_bytes(), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    except yaml.YAMLError as error:
        raise PolicyError(f"audit policy {path}: {error}") from error
    if not isinstance(document, dict):
        raise PolicyError(f"audit policy {path}: not an object")
    return Policy(document)


def _checked(rule: dict[str, Any]) -> dict[str, Any]:
    if rule.get("level") not in LEVELS:
        raise PolicyError(f"audit policy: unknown level {rule.get('level')!r}: want one of {', '.join(LEVELS)}")
    unknown = set(rule.get("omitStages") or ()) - set(STAGES)
    if unknown:
        raise PolicyError(f"audit policy: unknown stages: {', '.join(sorted(unknown))}")
    if rule.get("nonResourceURLs") and (rule.get("resources") or rule.get("namespaces")):
        raise PolicyError("audit policy: rules cannot apply to both regular resources and non-resource URLs")
    return rule


def _verdict(rule: dict[str, Any], omitted: Iterable[str], managed: bool) -> Verdict:
    own = rule.get("omitManagedFields")
    stages = frozenset([*omitted, *(rule.get("omitStages") or ())])
    return Verdict(rule["level"], stages, managed if own is None else bool(own))


def _matches(rule: dict[str, Any], info: RequestInfo, user: User | None) -> bool:
    if rule.get("users") and (user is None or user.name not in rule["users"]):
        return False
    if rule.get("userGroups") and (user is None or not set(user.groups) & set(rule["userGroups"])):
        return False
    if rule.get("verbs") and info.verb not in rule["verbs"]:
        return False
    if rule.get("namespaces") or rule.get("resources"):
        if not info.is_resource:
            return False
        if rule.get("namespaces") and info.namespace not in rule["namespaces"]:
            return False
        return not rule.get("resources") or any(_resource_matches(entry, info) for entry in rule["resources"])
    if rule.get("nonResourceURLs"):
        return not info.is_resource and any(_path_matches(url, info.path) for url in rule["nonResourceURLs"])
    return True


def _resource_matches(entry: dict[str, Any], info: RequestInfo) -> bool:
    if entry.get("group", "") != info.group:
        return False
    names = entry.get("resources") or []
    if not names:
        return True
    if entry.get("resourceNames") and info.name not in entry["resourceNames"]:
        return False
    full = f"{info.resource}/{info.subresource}" if info.subresource else info.resource
    wanted = {full, "*"} if not info.subresource else {full, "*", f"*/{info.subresource}", f"{info.resource}/*"}
    return bool(wanted & set(names))


def _path_matches(url: str, path: str) -> bool:
    return url == "*" or url == path or (url.endswith("*") and path.startswith(url[:-1]))
