"""Acting as another: Impersonate-* headers, honoured when the real user may `impersonate` every part of the other."""

from __future__ import annotations

from urllib.parse import unquote

from peavine.apiserver.authentication.user import (
    ALL_AUTHENTICATED,
    ALL_UNAUTHENTICATED,
    ANONYMOUS,
    SERVICE_ACCOUNT_PREFIX,
    SERVICE_ACCOUNTS,
    User,
)
from peavine.apiserver.authorization.attributes import Attributes, Authorizer, decide, refusal
from peavine.apiserver.requests import RequestInfo
from peavine.machinery import errors

_USER, _UID, _GROUP, _EXTRA = "impersonate-user", "impersonate-uid", "impersonate-group", "impersonate-extra-"
_GROUP_AUTHENTICATION = "authentication.k8s.io"


async def impersonate(info: RequestInfo, authorizer: Authorizer) -> None:
    """Replace `info.user` by the user that its headers name, if any, and take the headers off the request.

    Raises ApiError 403 where the real user may not, 400 where the headers make no user.
    """
    if not any(key.startswith("impersonate-") for key in info.headers):
        return
    real = info.user
    assert real is not None, "authentication comes first"
    name, uid = info.headers.get(_USER, ""), info.headers.get(_UID, "")
    groups = [value for value in info.header_values(_GROUP) if value]
    extra: dict[str, list[str]] = {}
    for key, value in info.raw_headers:
        if key.startswith(_EXTRA):
            extra.setdefault(unquote(key[len(_EXTRA) :]).lower(), []).append(value)
    if not name:
        if groups or extra or uid:
            raise errors.internal("requested impersonation without impersonating a user")
        return
    for attributes in _asked(real, name, uid, groups, extra):
        decision = await decide(authorizer, attributes)
        if not decision.allowed:
            words = refusal(attributes, decision.reason)
            raise errors.forbidden(attributes.resource, attributes.name, words, attributes.group)
    info.user = _become(name, uid, groups, extra)
    info.notes["impersonator"] = real
    info.raw_headers = [(key, value) for key, value in info.raw_headers if not key.startswith("impersonate-")]
    for key in [key for key in info.headers if key.startswith("impersonate-")]:
        del info.headers[key]


def _asked(real: User, name: str, uid: str, groups: list[str], extra: dict[str, list[str]]) -> list[Attributes]:
    asked = []
    namespace, account = _service_account(name)
    if account:
        asked.append(Attributes(real, "impersonate", namespace, "", "v1", "serviceaccounts", "", account))
    else:
        asked.append(Attributes(real, "impersonate", "", "", "v1", "users", "", name))
    asked += [Attributes(real, "impersonate", "", "", "v1", "groups", "", group) for group in groups]
    asked += [
        Attributes(real, "impersonate", "", _GROUP_AUTHENTICATION, "v1", "userextras", key, value)
        for key, values in extra.items()
        for value in values
    ]
    if uid:
        asked.append(Attributes(real, "impersonate", "", _GROUP_AUTHENTICATION, "v1", "uids", "", uid))
    return asked


def _become(name: str, uid: str, groups: list[str], extra: dict[str, list[str]]) -> User:
    namespace, account = _service_account(name)
    if account and not groups:
        groups = [SERVICE_ACCOUNTS, f"{SERVICE_ACCOUNTS}:{namespace}"]
    wanted = ALL_UNAUTHENTICATED if name == ANONYMOUS.name else ALL_AUTHENTICATED
    if not {ALL_AUTHENTICATED, ALL_UNAUTHENTICATED} & set(groups):
        groups = [*groups, wanted]
    return User(name, uid, tuple(groups), extra)


def _service_account(name: str) -> tuple[str, str]:
    """Namespace and name of `system:serviceaccount:NAMESPACE:NAME`; two empty strings for other users."""
    if name.startswith(SERVICE_ACCOUNT_PREFIX):
        namespace, _, account = name[len(SERVICE_ACCOUNT_PREFIX) :].partition(":")
        if namespace and account and ":" not in account:
            return namespace, account
    return "", ""
