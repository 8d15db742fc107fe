"""The structured authentication configuration: `AuthenticationConfiguration` of apiserver.config.k8s.io."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from peavine.apiserver.authentication.oidc import ConfigError, OidcTokens, parse_provider
from peavine.apiserver.authentication.user import User
from peavine.base.clock import REAL, Clock

API_VERSIONS = ("apiserver.config.k8s.io/v1", "apiserver.config.k8s.io/v1beta1")
ISSUERS_MAX = 64
RELOAD_SECONDS = 10.0

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Structured:
    """What the file says. `anonymous` None: the flag decides; `anonymous_paths` None: every path."""

    verifiers: Sequence[OidcTokens]
    anonymous: bool | None = None
    anonymous_paths: Sequence[str] | None = None


def load_authentication(path: str | os.PathLike[str], clock: Clock = REAL) -> Structured:
    """Raises ConfigError, OSError."""
    import yaml

    try:
        document = yaml.load(Path(path).read_bytes(), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}: {error}") from None
    return parse(document, clock)


def parse(document: Any, clock: Clock = REAL) -> Structured:
    if not isinstance(document, dict) or document.get("kind") != "AuthenticationConfiguration":
        raise ConfigError("want kind AuthenticationConfiguration")
    if document.get("apiVersion") not in API_VERSIONS:
        raise ConfigError(f"unknown apiVersion {document.get('apiVersion')!r}: want {API_VERSIONS[0]}")
    entries = document.get("jwt") or []
    if len(entries) > ISSUERS_MAX:
        raise ConfigError(f"jwt: Too many: {len(entries)}: must have at most {ISSUERS_MAX} items")
    providers = [parse_provider(entry, f"jwt[{position}]") for position, entry in enumerate(entries)]
    issuers = [provider.issuer for provider in providers]
    for position, issuer in enumerate(issuers):
        if issuer in issuers[:position]:
            raise ConfigError(f'jwt[{position}].issuer.url: Duplicate value: "{issuer}"')
    anonymous = document.get("anonymous")
    paths = None
    if anonymous is not None and anonymous.get("conditions"):
        paths = [condition["path"] for condition in anonymous["conditions"]]
    enabled = None if anonymous is None else bool(anonymous.get("enabled"))
    return Structured([OidcTokens(provider, clock) for provider in providers], enabled, paths)


class Reloading:
    """The verifiers of a file, read again when it changes; a file that cannot be used leaves the last good one."""

    def __init__(self, path: str | os.PathLike[str], clock: Clock = REAL) -> None:
        self.path, self.clock = Path(path), clock
        self._stamp = self.path.stat().st_mtime_ns
        self.current = load_authentication(path, clock)
        self._looked = clock.monotonic()

    async def authenticate_token(self, token: str, audiences: Sequence[str] = ()) -> tuple[User, list[str]] | None:
        if self.clock.monotonic() - self._looked > RELOAD_SECONDS:
            self._looked = self.clock.monotonic()
            self._reload()
        for verifier in self.current.verifiers:
            found = await verifier.authenticate_token(token, audiences)
            if found is not None:
                return found
        return None

    def _reload(self) -> None:
        try:
            stamp = self.path.stat().st_mtime_ns
            if stamp != self._stamp:
                self._stamp = stamp
                self.current = load_authentication(self.path, self.clock)
        except (ConfigError, OSError) as error:
            log.error("authentication configuration %s not taken into use: %s", self.path, error)


def from_flags(
    issuer: str,
    client_id: str,
    *,
    username_claim: str = "sub",
    username_prefix: str = "",
    groups_claim: str = "",
    groups_prefix: str = "",
    required_claims: dict[str, str] | None = None,
    ca_pem: str = "",
    clock: Clock = REAL,
) -> OidcTokens:
    """The verifier that the `--oidc-*` flags describe. Raises ConfigError."""
    prefix = username_prefix
    if not prefix and username_claim != "email":
        prefix = f"{issuer}#"
    if prefix == "-":
        prefix = ""
    mappings: dict[str, Any] = {"username": {"claim": username_claim, "prefix": prefix}}
    if groups_claim:
        mappings["groups"] = {"claim": groups_claim, "prefix": groups_prefix}
    rules = [{"claim": claim, "requiredValue": value} for claim, value in (required_claims or {}).items()]
    raw = {
        "issuer": {"url": issuer, "audiences": [client_id], "certificateAuthority": ca_pem},
        "claimMappings": mappings,
        "claimValidationRules": rules,
    }
    return OidcTokens(parse_provider(raw, "oidc"), clock)
