"""Bearer tokens of OpenID Connect providers: JWTs checked against the issuer's keys, claims mapped to a user.

Follows the structured authentication configuration (`AuthenticationConfiguration`, apiserver.config.k8s.io/v1): claims
by name or by CEL, rules on claims and on the user they make.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson

from peavine.apiserver.authentication.remote import Fetcher, HttpsFetcher, RemoteError
from peavine.apiserver.authentication.serviceaccount import TokenRefused
from peavine.apiserver.authentication.user import User
from peavine.base.clock import REAL, Clock

ALGORITHMS = ("RS256", "RS384", "RS512", "ES256", "ES384", "ES512", "PS256", "PS384", "PS512")
KEYS_SECONDS_MIN = 10.0  # between two fetches of an issuer's keys
KEYS_SECONDS_MAX = 3600.0


class ConfigError(ValueError):
    """The configuration cannot be used; the message says where and why."""


@dataclass
class Mapping:
    """Where a value comes from: a claim with a prefix, or an expression over `claims`."""

    claim: str = ""
    prefix: str = ""
    expression: Any = None  # a compiled program


@dataclass
class Rule:
    """A claim that must have a value, or an expression that must be true."""

    claim: str = ""
    value: str = ""
    expression: Any = None
    message: str = ""


@dataclass
class Provider:
    """One entry of `jwt`."""

    issuer: str
    audiences: Sequence[str]
    username: Mapping
    groups: Mapping | None = None
    uid: Mapping | None = None
    extra: Sequence[tuple[str, Any]] = ()
    claim_rules: Sequence[Rule] = ()
    user_rules: Sequence[Rule] = ()
    discovery_url: str = ""
    fetcher: Fetcher = field(default_factory=HttpsFetcher)


class OidcTokens:
    """A verifier for one provider."""

    def __init__(self, provider: Provider, clock: Clock = REAL) -> None:
        self.provider, self.clock = provider, clock
        self._keys: dict[str, Any] = {}
        self._fetched = float("-inf")

    async def authenticate_token(self, token: str, audiences: Sequence[str] = ()) -> tuple[User, list[str]] | None:
        header, claims = _unverified(token)
        if claims is None or claims.get("iss") != self.provider.issuer:
            return None
        await self._verify(token, header or {})
        self._check_standard(claims)
        self._check_rules(self.provider.claim_rules, {"claims": claims}, claims)
        user = self._user(claims)
        shown = {"username": user.name, "uid": user.uid, "groups": list(user.groups), "extra": user.extra}
        self._check_rules(self.provider.user_rules, {"user": shown}, claims)
        return user, list(audiences)

    async def _verify(self, token: str, header: dict[str, Any]) -> None:
        import jwt

        if header.get("alg") not in ALGORITHMS:
            raise TokenRefused("oidc: unsupported signing algorithm")
        key = await self._key(str(header.get("kid") or ""))
        try:
            jwt.PyJWS().decode(token, key.key, algorithms=[header["alg"]])
        except (jwt.PyJWTError, TypeError, ValueError) as error:
            raise TokenRefused(f"oidc: verify token: {error}") from None

    async def _key(self, key_id: str) -> Any:
        age = self.clock.monotonic() - self._fetched
        if age > KEYS_SECONDS_MAX or (key_id not in self._keys and age > KEYS_SECONDS_MIN):
            await self._fetch()
        if key_id in self._keys:
            return self._keys[key_id]
        if not key_id and len(self._keys) == 1:
            return next(iter(self._keys.values()))
        raise TokenRefused("oidc: the token's key is not one of the issuer's")

    async def _fetch(self) -> None:
        import jwt

        provider = self.provider
        url = provider.discovery_url or provider.issuer.rstrip("/") + "/.well-known/openid-configuration"
        try:
            discovered = await provider.fetcher.get(url)
            if discovered.get("issuer") != provider.issuer:
                raise TokenRefused(f"oidc: the provider calls itself {discovered.get('issuer')!r}")
            keys = (await provider.fetcher.get(discovered["jwks_uri"]))["keys"]
        except (RemoteError, KeyError, AttributeError) as error:
            if self._keys:
                return  # the known keys go on
            raise TokenRefused(f"oidc: authenticator not initialized: {error}") from None
        fresh = {}
        for raw in keys:
            if raw.get("kty") == "oct" or raw.get("use", "sig") != "sig":
                continue  # a shared secret is no issuer's key
            try:
                fresh[raw.get("kid", "")] = jwt.PyJWK(raw, raw.get("alg") or _usual_algorithm(raw))
            except jwt.PyJWTError:
                continue
        self._keys, self._fetched = fresh, self.clock.monotonic()

    def _check_standard(self, claims: dict[str, Any]) -> None:
        now = self.clock.time()
        expiry, not_before = claims.get("exp"), claims.get("nbf")
        if not isinstance(expiry, (int, float)) or now > expiry:
            raise TokenRefused("oidc: token is expired")
        if isinstance(not_before, (int, float)) and now < not_before - 300:
            raise TokenRefused("oidc: token is not valid yet")
        aud = claims.get("aud")
        named = [aud] if isinstance(aud, str) else aud or []
        if not set(named) & set(self.provider.audiences):
            raise TokenRefused("oidc: verify token: expected audience in the configured list")

    def _check_rules(self, rules: Sequence[Rule], variables: dict[str, Any], claims: dict[str, Any]) -> None:
        for rule in rules:
            if rule.claim:
                if claims.get(rule.claim) != rule.value:
                    raise TokenRefused(f"oidc: claim {rule.claim} does not have the required value")
            elif _evaluate(rule.expression, variables) is not True:
                raise TokenRefused(rule.message or f"oidc: rule failed: {rule.expression.source}")

    def _user(self, claims: dict[str, Any]) -> User:
        provider = self.provider
        name = self._mapped(provider.username, claims)
        if not isinstance(name, str) or not name:
            raise TokenRefused("oidc: the token names no user")
        if provider.username.claim == "email" and claims.get("email_verified", True) is not True:
            raise TokenRefused("oidc: email not verified")
        groups: Any = self._mapped(provider.groups, claims) if provider.groups else None
        if isinstance(groups, str):
            groups = [groups] if groups else []
        if groups is not None and not (isinstance(groups, list) and all(isinstance(g, str) for g in groups)):
            raise TokenRefused("oidc: groups must be a string or a list of strings")
        uid = self._mapped(provider.uid, claims) if provider.uid else ""
        extra = {}
        for key, program in provider.extra:
            value = _evaluate(program, {"claims": claims})
            values = [value] if isinstance(value, str) else list(value or ())
            if values := [str(v) for v in values if v != ""]:
                extra[key] = values
        return User(name, str(uid or ""), tuple(groups or ()), extra)

    @staticmethod
    def _mapped(mapping: Mapping, claims: dict[str, Any]) -> Any:
        if mapping.expression is not None:
            return _evaluate(mapping.expression, {"claims": claims})
        value = claims.get(mapping.claim)
        if isinstance(value, list):
            return [mapping.prefix + item if isinstance(item, str) else item for item in value]
        return mapping.prefix + value if isinstance(value, str) else value


def parse_provider(raw: dict[str, Any], where: str, fetcher: Fetcher | None = None) -> Provider:
    """One entry of `jwt`. Raises ConfigError."""
    issuer = raw.get("issuer") or {}
    url, audiences = issuer.get("url") or "", list(issuer.get("audiences") or ())
    if not url.startswith("https://"):
        raise ConfigError(f'{where}.issuer.url: Invalid value: "{url}": URL scheme must be https')
    if not audiences:
        raise ConfigError(f"{where}.issuer.audiences: Required value: at least one audience is required")
    if len(audiences) > 1 and issuer.get("audienceMatchPolicy") != "MatchAny":
        raise ConfigError(f"{where}.issuer.audienceMatchPolicy: must be MatchAny for multiple audiences")
    mappings = raw.get("claimMappings") or {}
    username = _mapping(mappings.get("username") or {}, f"{where}.claimMappings.username", required=True)
    assert username is not None
    return Provider(
        issuer=url,
        audiences=audiences,
        username=username,
        groups=_mapping(mappings.get("groups") or {}, f"{where}.claimMappings.groups"),
        uid=_mapping(mappings.get("uid") or {}, f"{where}.claimMappings.uid", prefixed=False),
        extra=[
            (item["key"], _compile(item.get("valueExpression", ""), "claims", f"{where}.claimMappings.extra"))
            for item in mappings.get("extra") or ()
        ],
        claim_rules=_rules(raw, "claims", where, "claimValidationRules"),
        user_rules=_rules(raw, "user", where, "userValidationRules"),
        discovery_url=issuer.get("discoveryURL") or "",
        fetcher=fetcher or HttpsFetcher(issuer.get("certificateAuthority") or ""),
    )


def _mapping(raw: dict[str, Any], where: str, *, required: bool = False, prefixed: bool = True) -> Mapping | None:
    claim, expression = raw.get("claim") or "", raw.get("expression") or ""
    if claim and expression:
        raise ConfigError(f"{where}: Invalid value: claim and expression can't both be set")
    if not claim and not expression:
        if required:
            raise ConfigError(f"{where}: Required value: claim or expression is required")
        return None
    if claim and prefixed and raw.get("prefix") is None:
        why = "prefix is required when claim is set. It can be set to an empty string to disable prefixing"
        raise ConfigError(f"{where}.prefix: Required value: {why}")
    return Mapping(claim, raw.get("prefix") or "", _compile(expression, "claims", where) if expression else None)


def _rules(raw: dict[str, Any], variable: str, where: str, name: str) -> list[Rule]:
    return [_rule(rule, variable, f"{where}.{name}") for rule in raw.get(name) or ()]


def _rule(raw: dict[str, Any], variable: str, where: str) -> Rule:
    if raw.get("claim"):
        return Rule(claim=raw["claim"], value=raw.get("requiredValue", ""))
    if not raw.get("expression"):
        raise ConfigError(f"{where}: Required value: claim or expression is required")
    return Rule(expression=_compile(raw["expression"], variable, where, "bool"), message=raw.get("message", ""))


def _compile(source: str, variable: str, where: str, result: str = "") -> Any:
    from peavine.machinery.cel import CompileError, Environment, map_of
    from peavine.machinery.cel.types import DYN, STRING

    kind = map_of(STRING, DYN) if variable == "claims" else DYN
    try:
        return Environment({variable: kind}).compile(source, result)
    except CompileError as error:
        raise ConfigError(f'{where}: Invalid value: "{source}": {error}') from None


def _evaluate(program: Any, variables: dict[str, Any]) -> Any:
    from peavine.machinery.cel import CelError, CostExceeded

    try:
        return program.evaluate(variables)[0]
    except (CelError, CostExceeded) as error:
        raise TokenRefused(f"oidc: error evaluating {program.source}: {error}") from None


def _unverified(token: str) -> tuple[dict[str, Any] | None, dict[str, Any] | None]:
    parts = token.split(".")
    if len(parts) != 3:
        return None, None
    try:
        header, claims = (orjson.loads(base64.urlsafe_b64decode(p + "=" * (-len(p) % 4))) for p in parts[:2])
    except ValueError:
        return None, None
    return (header, claims) if isinstance(header, dict) and isinstance(claims, dict) else (None, None)


def _usual_algorithm(raw: dict[str, Any]) -> str:
    curves = {"P-256": "ES256", "P-384": "ES384", "P-521": "ES512"}
    return curves.get(raw.get("crv", ""), "RS256")
