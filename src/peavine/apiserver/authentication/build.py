"""All ways to know a user, in upstream's order, as one authenticator."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from peavine.api.core import bootstrap_token
from peavine.apiserver.authentication.bearer import BearerAuthenticator, BootstrapTokens, StaticTokens, TokenVerifier
from peavine.apiserver.authentication.certificates import Authorities, CertificateAuthenticator
from peavine.apiserver.authentication.requestheader import RequestHeaderAuthenticator
from peavine.apiserver.authentication.serviceaccount import DEFAULT_ISSUER, KeyRing, TokenAuthenticator
from peavine.apiserver.authentication.user import ALL_AUTHENTICATED, ALL_UNAUTHENTICATED, ANONYMOUS, User
from peavine.apiserver.lister import Lister
from peavine.apiserver.requests import RequestInfo
from peavine.base.clock import REAL, Clock
from peavine.machinery import errors

log = logging.getLogger(__name__)

HEALTH_PATHS = ("/healthz", "/livez", "/readyz")


@dataclass
class AuthenticationConfig:
    """What the API server's flags say about authentication. Files; "" means not configured."""

    client_ca_file: str = ""
    requestheader_client_ca_file: str = ""
    requestheader_allowed_names: Sequence[str] = ()
    requestheader_username_headers: Sequence[str] = ("X-Remote-User",)
    requestheader_uid_headers: Sequence[str] = ("X-Remote-Uid",)
    requestheader_group_headers: Sequence[str] = ("X-Remote-Group",)
    requestheader_extra_headers_prefix: Sequence[str] = ("X-Remote-Extra-",)
    service_account_keys: KeyRing | None = None
    service_account_issuers: Sequence[str] = (DEFAULT_ISSUER,)
    service_account_lookup: bool = True
    api_audiences: Sequence[str] = ()
    bootstrap_tokens: bool = True
    token_auth_file: str = ""
    anonymous: bool = True
    anonymous_paths: Sequence[str] | None = HEALTH_PATHS  # None: everywhere, as upstream's default
    verifiers: Sequence[TokenVerifier] = field(default_factory=tuple)  # OIDC and webhooks


class ServerAuthenticator:
    """The authenticator of the whole server: answers a user, or raises 401. `review` is TokenReview's way in."""

    def __init__(
        self,
        authenticators: Sequence[Any],
        bearer: BearerAuthenticator,
        *,
        anonymous: bool = True,
        anonymous_paths: Sequence[str] | None = HEALTH_PATHS,
        request_header: RequestHeaderAuthenticator | None = None,
        public: Callable[[RequestInfo], bool] | None = None,
    ) -> None:
        """`public` says which other requests need no credentials."""
        self.authenticators, self.bearer, self.request_header = list(authenticators), bearer, request_header
        self.anonymous, self.public = anonymous, public or _nothing
        self.anonymous_paths = None if anonymous_paths is None else frozenset(anonymous_paths)

    async def authenticate(self, info: RequestInfo) -> User:
        refused: errors.ApiError | None = None
        for authenticator in self.authenticators:
            try:
                user = await authenticator.authenticate(info)
            except errors.ApiError as error:
                refused = error
                continue
            if user is not None:
                self._strip(info)
                return with_authenticated(user)
        self._strip(info)
        if refused is not None:
            raise refused
        if self.anonymous and (self.anonymous_paths is None or info.path in self.anonymous_paths or self.public(info)):
            return ANONYMOUS
        raise errors.unauthorized()

    async def review(self, token: str, audiences: Sequence[str] = ()) -> tuple[User, list[str]] | str:
        """The user of a bearer token and the audiences it is good for, or why it is not."""
        found = await self.bearer.review(token, audiences)
        return found if isinstance(found, str) else (with_authenticated(found[0]), found[1])

    def _strip(self, info: RequestInfo) -> None:
        """Credentials end here: nothing behind this filter sees or forwards them."""
        if "authorization" in info.headers:
            del info.headers["authorization"]
            info.raw_headers = [(key, value) for key, value in info.raw_headers if key != "authorization"]
        if self.request_header is not None:
            self.request_header.strip(info)


def with_authenticated(user: User) -> User:
    if ALL_AUTHENTICATED in user.groups or ALL_UNAUTHENTICATED in user.groups:
        return user
    return user.with_groups(ALL_AUTHENTICATED)


def build_authenticator(config: AuthenticationConfig, lister: Lister, *, clock: Clock = REAL) -> ServerAuthenticator:
    authenticators: list[Any] = []
    request_header = None
    if config.requestheader_client_ca_file:
        request_header = RequestHeaderAuthenticator(
            Authorities(config.requestheader_client_ca_file),
            config.requestheader_allowed_names,
            username_headers=config.requestheader_username_headers,
            uid_headers=config.requestheader_uid_headers,
            group_headers=config.requestheader_group_headers,
            extra_prefixes=config.requestheader_extra_headers_prefix,
            clock=clock,
        )
        authenticators.append(request_header)
    if config.client_ca_file:
        authenticators.append(CertificateAuthenticator(Authorities(config.client_ca_file), clock))
    verifiers: list[TokenVerifier] = []
    if config.anonymous and config.anonymous_paths is None:
        log.warning("anonymous requests are allowed everywhere that authorization lets them")
    if config.token_auth_file:
        log.warning("static tokens in %s never expire; prefer certificates or service accounts", config.token_auth_file)
        verifiers.append(StaticTokens(config.token_auth_file))
    if config.service_account_keys is not None:
        verifiers.append(
            TokenAuthenticator(
                config.service_account_keys,
                lister,
                issuers=config.service_account_issuers,
                audiences=config.api_audiences,
                lookup=config.service_account_lookup,
                clock=clock,
            )
        )
    if config.bootstrap_tokens:
        verifiers.append(BootstrapTokens(lister, clock))
    verifiers.extend(config.verifiers)
    bearer = BearerAuthenticator(verifiers)
    authenticators.append(bearer)
    return ServerAuthenticator(
        authenticators,
        bearer,
        anonymous=config.anonymous,
        anonymous_paths=config.anonymous_paths,
        request_header=request_header,
        public=_cluster_info(lister) if config.bootstrap_tokens and config.anonymous_paths is HEALTH_PATHS else None,
    )


def _nothing(info: RequestInfo) -> bool:
    return False


def _cluster_info(lister: Lister) -> Callable[[RequestInfo], bool]:
    """What a joining machine reads before it trusts anybody: to be had while some bootstrap token signs it."""

    def public(info: RequestInfo) -> bool:
        if info.path != bootstrap_token.PUBLIC_PATH or info.method != "GET":
            return False
        name = bootstrap_token.CONFIG_MAP
        return bootstrap_token.is_public(lister.get("", "configmaps", bootstrap_token.PUBLIC_NAMESPACE, name))

    return public
