"""Which webhooks (and, by the same rules, which policies) a write concerns."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from typing import Any

from peavine.api.kind import Kind
from peavine.apiserver.admission.request import AdmissionRequest
from peavine.apiserver.lister import Lister
from peavine.machinery.names import GVK, GVR
from peavine.machinery.selectors import selector_of

Object = dict[str, Any]

# What guards the guards: nobody is asked about these, or a wrong webhook could never be taken away.
EXEMPT = frozenset(
    ("admissionregistration.k8s.io", plural)
    for plural in (
        "validatingwebhookconfigurations",
        "mutatingwebhookconfigurations",
        "validatingadmissionpolicies",
        "validatingadmissionpolicybindings",
        "mutatingadmissionpolicies",
        "mutatingadmissionpolicybindings",
    )
)


class Match:
    """A write as a webhook or policy sees it: in the version of the rule that matched."""

    __slots__ = ("gvk", "gvr", "obj", "old")

    def __init__(self, gvk: GVK, gvr: GVR, obj: Object | None, old: Object | None) -> None:
        self.gvk, self.gvr, self.obj, self.old = gvk, gvr, obj, old


def is_exempt(req: AdmissionRequest) -> bool:
    return (req.gvr.group, req.gvr.resource) in EXEMPT


def match(
    req: AdmissionRequest,
    rules: Iterable[Object],
    excluded: Iterable[Object],
    policy: str,
    namespace_selector: Object | None,
    object_selector: Object | None,
    lister: Lister,
    registry: Any,
) -> Match | None:
    """The write as the rules see it, or None when they do not mean it."""
    if not _objects_match(req, object_selector) or not _namespace_matches(req, namespace_selector, lister):
        return None
    if any(_rule_matches(rule, req, req.gvr) for rule in excluded):
        return None
    rules = list(rules)
    if any(_rule_matches(rule, req, req.gvr) for rule in rules):
        return Match(req.gvk, req.gvr, req.obj, req.old)
    if policy == "Exact" or registry is None:
        return None
    for kind in _equivalent(req, registry):
        if any(_rule_matches(rule, req, kind.gvr) for rule in rules):
            if req.subresource and req.gvk != _main_gvk(req, registry):
                return Match(req.gvk, kind.gvr, req.obj, req.old)
            own = registry.kind(req.gvr.group, req.gvr.version, req.gvr.resource)
            return Match(kind.gvk, kind.gvr, converted(req.obj, own, kind), converted(req.old, own, kind))
    return None


def _main_gvk(req: AdmissionRequest, registry: Any) -> GVK | None:
    kind = registry.kind(req.gvr.group, req.gvr.version, req.gvr.resource)
    return kind.gvk if kind is not None else None


def _equivalent(req: AdmissionRequest, registry: Any) -> list[Kind]:
    """The other versions in which the same objects are served."""
    kind = registry.kind(req.gvr.group, req.gvr.version, req.gvr.resource)
    if kind is None or kind.virtual or not kind.storage_prefix:
        return []
    return [other for other in registry.resource(kind).kinds.values() if other is not kind]


def converted(obj: Object | None, source: Kind, target: Kind) -> Object | None:
    """A copy of `obj` in another version of its resource."""
    if obj is None:
        return None
    return target.from_storage(source.to_storage(copy.deepcopy(obj)))


def _rule_matches(rule: Object, req: AdmissionRequest, gvr: GVR) -> bool:
    names = rule.get("resourceNames")
    if names and req.object_name not in names:
        return False
    scope = rule.get("scope") or "*"
    if scope != "*" and scope != ("Namespaced" if req.namespace and gvr.resource != "namespaces" else "Cluster"):
        return False
    return (
        _among(rule.get("operations"), req.operation)
        and _among(rule.get("apiGroups"), gvr.group)
        and _among(rule.get("apiVersions"), gvr.version)
        and any(_resource_matches(text, gvr.resource, req.subresource) for text in rule.get("resources") or ())
    )


def _among(listed: Iterable[str] | None, wanted: str) -> bool:
    return any(text in ("*", wanted) for text in listed or ())


def _resource_matches(text: str, resource: str, subresource: str) -> bool:
    wanted, slash, sub = text.partition("/")
    if wanted not in ("*", resource):
        return False
    return sub in ("*", subresource) if slash else not subresource


def selects(selector: Object | None, labels: dict[str, str]) -> bool:
    if not selector or not (selector.get("matchLabels") or selector.get("matchExpressions")):
        return True
    return bool(selector_of(selector).matches(labels))


def _objects_match(req: AdmissionRequest, selector: Object | None) -> bool:
    if not selector or not (selector.get("matchLabels") or selector.get("matchExpressions")):
        return True
    return any(selects(selector, _labels(obj)) for obj in (req.obj, req.old) if obj is not None)


def _namespace_matches(req: AdmissionRequest, selector: Object | None, lister: Lister) -> bool:
    if not selector or not (selector.get("matchLabels") or selector.get("matchExpressions")):
        return True
    if req.gvr.resource == "namespaces" and not req.gvr.group:
        if req.obj is not None and not req.subresource:
            return selects(selector, _labels(req.obj or {}))
        namespace = lister.get("", "namespaces", None, req.name)
        return selects(selector, _labels(namespace or req.old or {}))
    if not req.namespace:
        return True
    namespace = lister.get("", "namespaces", None, req.namespace)
    return selects(selector, _labels(namespace or {}))


def _labels(obj: Object) -> dict[str, str]:
    return (obj.get("metadata") or {}).get("labels") or {}
