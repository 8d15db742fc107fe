"""The `authorizer` of expressions: asks whether the user of a request may also do something else."""

from __future__ import annotations

from typing import Any

from peavine.apiserver.admission.request import AdmissionRequest
from peavine.apiserver.authentication.user import User
from peavine.apiserver.authorization.attributes import NO_OPINION, Attributes
from peavine.machinery.cel.errors import CelError
from peavine.machinery.cel.functions import Library
from peavine.machinery.cel.types import BOOL, STRING, Type, opaque

_check_cost = 350_000  # upstream's: an expression asks a few times at most


class Root:
    """`authorizer`."""

    cel_type = "kubernetes.authorization.Authorizer"

    def __init__(self, authorizer: Any, req: AdmissionRequest, user: User | None = None) -> None:
        self.authorizer, self.req, self.user = authorizer, req, user or req.user

    def cel_member(self, name: str) -> Any:
        if name != "requestResource":
            raise CelError(f"no such field '{name}'")
        req = self.req
        return ResourceCheck(
            self,
            group=req.gvr.group,
            version=req.gvr.version,
            resource=req.gvr.resource,
            subresource=req.subresource,
            namespace=req.namespace,
            name=req.object_name,
        )


class PathCheck:
    """`authorizer.path("/healthz")`."""

    cel_type = "kubernetes.authorization.PathCheck"

    def __init__(self, root: Root, path: str) -> None:
        self.root, self.path = root, path

    def check(self, verb: str) -> Outcome:
        return _outcome(self.root, Attributes(self.root.user, verb, path=self.path, is_resource=False))


class GroupCheck:
    """`authorizer.group("apps")`."""

    cel_type = "kubernetes.authorization.GroupCheck"

    def __init__(self, root: Root, group: str) -> None:
        self.root, self.group = root, group


class ResourceCheck:
    """`authorizer.group("apps").resource("deployments")`, narrowed step by step."""

    cel_type = "kubernetes.authorization.ResourceCheck"

    def __init__(self, root: Root, **asked: str) -> None:
        self.root, self.asked = root, asked

    def but(self, **asked: str) -> ResourceCheck:
        return ResourceCheck(self.root, **{**self.asked, **asked})

    def check(self, verb: str) -> Outcome:
        asked: dict[str, Any] = dict(self.asked)
        return _outcome(self.root, Attributes(self.root.user, verb, **asked))


class Outcome:
    """The decision of a check."""

    cel_type = "kubernetes.authorization.Decision"

    def __init__(self, allowed: bool, reason: str, error: str = "") -> None:
        self.allowed, self.reason, self.error = allowed, reason, error


def _outcome(root: Root, attributes: Attributes) -> Outcome:
    decision = root.authorizer.authorize(attributes) if root.authorizer is not None else NO_OPINION
    if decision.ask is not None:
        return Outcome(False, "", "the authorizer can only be asked over the network")
    return Outcome(decision.allowed, decision.reason)


def _service_account(root: Root, namespace: str, name: str) -> Root:
    groups = ("system:serviceaccounts", f"system:serviceaccounts:{namespace}", "system:authenticated")
    return Root(root.authorizer, root.req, User(f"system:serviceaccount:{namespace}:{name}", groups=groups))


def _resource(group: GroupCheck, name: str) -> ResourceCheck:
    return ResourceCheck(group.root, group=group.group, resource=name)


def _build() -> Library:
    library = Library()
    root, path, group = opaque(Root.cel_type), opaque(PathCheck.cel_type), opaque(GroupCheck.cel_type)
    resource, outcome = opaque(ResourceCheck.cel_type), opaque(Outcome.cel_type)

    def narrowed(name: str) -> None:
        library.method(name, (resource, STRING), resource, lambda check, value: check.but(**{_FIELDS[name]: value}))

    library.method("path", (root, STRING), path, PathCheck)
    library.method("group", (root, STRING), group, GroupCheck)
    library.method("serviceAccount", (root, STRING, STRING), root, _service_account)
    library.method("resource", (group, STRING), resource, _resource)
    for name in _FIELDS:
        narrowed(name)
    for kind in (path, resource):
        _checking(library, kind, outcome)
    library.method("allowed", (outcome,), BOOL, lambda o: o.allowed)
    library.method("reason", (outcome,), STRING, lambda o: o.reason)
    library.method("errored", (outcome,), BOOL, lambda o: bool(o.error))
    library.method("error", (outcome,), STRING, lambda o: o.error)
    return library


_FIELDS = {
    "subresource": "subresource",
    "namespace": "namespace",
    "name": "name",
    "fieldSelector": "field_selector",
    "labelSelector": "label_selector",
}


def _checking(library: Library, kind: Type, outcome: Type) -> None:
    library.method("check", (kind, STRING), outcome, lambda c, verb: c.check(verb), lambda *_: _check_cost)


LIBRARY = _build()
