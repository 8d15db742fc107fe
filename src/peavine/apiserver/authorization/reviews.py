"""The kinds that only ask: access reviews, rules reviews, token reviews. Created, answered, never stored."""

from __future__ import annotations

import time
from typing import Any, Protocol

from peavine.apiserver.authentication.user import User
from peavine.apiserver.authorization.attributes import Attributes, decide
from peavine.apiserver.authorization.build import Union
from peavine.base.clock import REAL, Clock
from peavine.machinery import errors
from peavine.machinery.errors import FieldError

AUTHORIZATION, AUTHENTICATION = "authorization.k8s.io", "authentication.k8s.io"


class TokenReviewer(Protocol):
    async def review(self, token: str, audiences: list[str]) -> tuple[User, list[str]] | str: ...


class Reviews:
    """Answers a create of any review resource."""

    RESOURCES = frozenset(
        (
            (AUTHORIZATION, "subjectaccessreviews"),
            (AUTHORIZATION, "selfsubjectaccessreviews"),
            (AUTHORIZATION, "localsubjectaccessreviews"),
            (AUTHORIZATION, "selfsubjectrulesreviews"),
            (AUTHENTICATION, "tokenreviews"),
            (AUTHENTICATION, "selfsubjectreviews"),
        )
    )

    def __init__(self, authorizer: Union, authenticator: TokenReviewer, clock: Clock = REAL) -> None:
        self.authorizer, self.authenticator, self.clock = authorizer, authenticator, clock

    async def create(self, resource: str, user: User, namespace: str, obj: dict[str, Any]) -> dict[str, Any]:
        """`obj` (decoded) with its status filled. Raises ApiError for one that is not valid."""
        answer = getattr(self, "_" + resource)
        return await answer(user, namespace, obj)

    async def _subjectaccessreviews(self, user: User, namespace: str, obj: dict[str, Any]) -> dict[str, Any]:
        spec = obj.get("spec") or {}
        wrong = _spec_errors(spec) + _subject_errors(spec)
        wrong += _metadata_errors(obj)
        if wrong:
            raise errors.invalid("SubjectAccessReview", "", wrong, AUTHORIZATION)
        return await self._answer(obj, _user_of(spec))

    async def _localsubjectaccessreviews(self, user: User, namespace: str, obj: dict[str, Any]) -> dict[str, Any]:
        spec = obj.get("spec") or {}
        wrong = _spec_errors(spec) + _subject_errors(spec) + _metadata_errors(obj)
        asked = (spec.get("resourceAttributes") or {}).get("namespace", "")
        own = (obj.get("metadata") or {}).get("namespace") or namespace
        if own != namespace or asked != namespace:
            raise errors.bad_request(f"namespace on resource: {own} does not match namespace in body: {asked}")
        if spec.get("nonResourceAttributes") is not None:
            detail = "disallowed on this kind of request"
            wrong.append(errors.invalid_value("spec.nonResourceAttributes", spec["nonResourceAttributes"], detail))
        if wrong:
            raise errors.invalid("LocalSubjectAccessReview", "", wrong, AUTHORIZATION)
        return await self._answer(obj, _user_of(spec))

    async def _selfsubjectaccessreviews(self, user: User, namespace: str, obj: dict[str, Any]) -> dict[str, Any]:
        wrong = _spec_errors(obj.get("spec") or {}) + _metadata_errors(obj)
        if wrong:
            raise errors.invalid("SelfSubjectAccessReview", "", wrong, AUTHORIZATION)
        return await self._answer(obj, user)

    async def _answer(self, obj: dict[str, Any], subject: User) -> dict[str, Any]:
        decision = await decide(self.authorizer, _attributes(obj["spec"], subject))
        status: dict[str, Any] = {"allowed": decision.allowed}
        if decision.denied and not decision.allowed:
            status["denied"] = True
        if decision.reason:
            status["reason"] = decision.reason
        return {**obj, "status": status}

    async def _selfsubjectrulesreviews(self, user: User, namespace: str, obj: dict[str, Any]) -> dict[str, Any]:
        asked = (obj.get("spec") or {}).get("namespace", "")
        if not asked:
            raise errors.bad_request("no namespace on request")
        rules, incomplete, problem = self.authorizer.rules_for(user, asked)
        resource_rules, path_rules = [], []
        for rule in rules:
            if rule.get("resources"):
                kept = {key: rule[key] for key in ("verbs", "apiGroups", "resources", "resourceNames") if rule.get(key)}
                resource_rules.append(kept)
            if rule.get("nonResourceURLs"):
                path_rules.append({"verbs": rule["verbs"], "nonResourceURLs": rule["nonResourceURLs"]})
        status = {"resourceRules": resource_rules, "nonResourceRules": path_rules, "incomplete": incomplete}
        if problem:
            status["evaluationError"] = problem
        return {**obj, "status": status}

    async def _selfsubjectreviews(self, user: User, namespace: str, obj: dict[str, Any]) -> dict[str, Any]:
        stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(self.clock.time()))
        metadata = {**(obj.get("metadata") or {}), "creationTimestamp": stamp}
        return {**obj, "metadata": metadata, "status": {"userInfo": user.user_info()}}

    async def _tokenreviews(self, user: User, namespace: str, obj: dict[str, Any]) -> dict[str, Any]:
        spec = obj.get("spec") or {}
        if (obj.get("metadata") or {}).get("namespace"):
            raise errors.bad_request("namespace is not allowed on this type: ")
        if not spec.get("token"):
            raise errors.bad_request("token is required for TokenReview in authentication")
        found = await self.authenticator.review(spec["token"], list(spec.get("audiences") or ()))
        if isinstance(found, str):
            return {**obj, "status": {"user": {}, "error": found}}
        who, audiences = found
        status: dict[str, Any] = {"authenticated": True, "user": who.user_info()}
        if audiences:
            status["audiences"] = audiences
        return {**obj, "status": status}


def _user_of(spec: dict[str, Any]) -> User:
    extra = {key.lower(): list(values or ()) for key, values in (spec.get("extra") or {}).items()}
    return User(spec.get("user", ""), spec.get("uid", ""), tuple(spec.get("groups") or ()), extra)


def _attributes(spec: dict[str, Any], user: User) -> Attributes:
    asked = spec.get("resourceAttributes")
    if asked is None:
        path = spec["nonResourceAttributes"]
        return Attributes(user, path.get("verb", ""), path=path.get("path", ""), is_resource=False)
    return Attributes(
        user,
        asked.get("verb", ""),
        asked.get("namespace", ""),
        asked.get("group", ""),
        asked.get("version") or "*",
        asked.get("resource", ""),
        asked.get("subresource", ""),
        asked.get("name", ""),
        "",
        True,
        _selector(asked.get("fieldSelector")),
        _selector(asked.get("labelSelector")),
    )


def _selector(asked: dict[str, Any] | None) -> str:
    """A review's selector as the query parameter it stands for; what is no equality says nothing here."""
    if not asked:
        return ""
    if asked.get("rawSelector"):
        return asked["rawSelector"]
    terms = []
    for requirement in asked.get("requirements") or ():
        values = requirement.get("values") or []
        if requirement.get("operator") == "In" and len(values) == 1:
            terms.append(f"{requirement.get('key')}={values[0]}")
    return ",".join(terms)


def _spec_errors(spec: dict[str, Any]) -> list[FieldError]:
    resource, path = spec.get("resourceAttributes"), spec.get("nonResourceAttributes")
    if resource is not None and path is not None:
        detail = "cannot be specified in combination with resourceAttributes"
        return [errors.invalid_value("spec.nonResourceAttributes", path, detail)]
    if resource is None and path is None:
        detail = "exactly one of nonResourceAttributes or resourceAttributes must be specified"
        return [errors.invalid_value("spec.resourceAttributes", None, detail)]
    return []


def _subject_errors(spec: dict[str, Any]) -> list[FieldError]:
    if spec.get("user") or spec.get("groups"):
        return []
    return [errors.invalid_value("spec.user", "", "at least one of user or group must be specified")]


def _metadata_errors(obj: dict[str, Any]) -> list[FieldError]:
    metadata = {key: value for key, value in (obj.get("metadata") or {}).items() if key != "namespace" and value}
    metadata.pop("managedFields", None)
    metadata.pop("creationTimestamp", None)
    return [errors.invalid_value("metadata", metadata, "must be empty")] if metadata else []
