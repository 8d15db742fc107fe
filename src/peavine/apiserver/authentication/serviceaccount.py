"""Service-account tokens: signed JWTs, bound to objects that must still exist. Issued by TokenRequest.

Signatures are remembered; that the account, pod, secret or node of a token still exists is asked of the lister on every
request, so a token dies with what it is bound to.
"""

from __future__ import annotations

import base64
import calendar
import hashlib
import os
import time
import uuid
from collections.abc import Iterable, Sequence
from typing import Any

import orjson

from peavine.apiserver.authentication.certificates import CREDENTIAL_ID
from peavine.apiserver.authentication.keys import (
    VerificationKey,
    load_signing_key,
    load_verification_keys,
    sign,
    verifies,
)
from peavine.apiserver.authentication.user import SERVICE_ACCOUNT_PREFIX, SERVICE_ACCOUNTS, User
from peavine.apiserver.lister import Lister
from peavine.base.clock import REAL, Clock
from peavine.machinery import errors

DEFAULT_ISSUER = "https://kubernetes.default.svc.cluster.local"
LEGACY_ISSUER = "kubernetes/serviceaccount"
TOKENS_REMEMBERED_MAX = 4096
LEEWAY_SECONDS = 60.0  # an object is gone for its tokens this long after its deletion began, or at once when gone
EXPIRATION_SECONDS_MIN, EXPIRATION_SECONDS_MAX = 600, 1 << 32
DEFAULT_EXPIRATION_SECONDS = 3600
# What the kubelet asks for in pods; extended to a year where old clients that never re-read tokens must go on.
POD_EXPIRATION_SECONDS, EXTENDED_EXPIRATION_SECONDS = 3607, 365 * 24 * 3600
_EXTRA = "authentication.kubernetes.io/"
_LEGACY = "kubernetes.io/serviceaccount/"


class TokenRefused(Exception):
    """The token is a service account's and wrong; the message is for TokenReview's status, not for the bearer."""


class KeyRing:
    """The signing key and the verifying keys, loaded when first used (the library behind them is heavy)."""

    def __init__(
        self,
        signing_key_file: str | os.PathLike[str] | None = None,
        key_files: Sequence[str | os.PathLike[str]] = (),
    ) -> None:
        self._signing_file, self._files = signing_key_file, tuple(key_files)
        self._signing: tuple[Any, VerificationKey] | None = None
        self._stamps: tuple[int, ...] = ()
        self._verifying: list[VerificationKey] = []

    def refresh(self) -> bool:
        """Read the files again where they changed; True where they did."""
        files = [*([self._signing_file] if self._signing_file else []), *self._files]
        stamps = tuple(os.stat(file).st_mtime_ns for file in files)
        if stamps == self._stamps:
            return False
        self._stamps = stamps
        self._signing = load_signing_key(self._signing_file) if self._signing_file else None
        self._verifying = load_verification_keys(files)
        return True

    @property
    def signing(self) -> tuple[Any, VerificationKey]:
        if not self._stamps:
            self.refresh()
        if self._signing is None:
            raise ValueError(
                "no service-account signing key: tokens cannot be issued (--service-account-signing-key-file)"
            )
        return self._signing

    @property
    def verifying(self) -> list[VerificationKey]:
        if not self._stamps:
            self.refresh()
        return self._verifying


class TokenAuthenticator:
    """Verifies tokens of `issuers` (the first is the one that issues now)."""

    def __init__(
        self,
        keys: KeyRing,
        lister: Lister,
        *,
        issuers: Sequence[str] = (DEFAULT_ISSUER,),
        audiences: Sequence[str] = (),
        lookup: bool = True,
        clock: Clock = REAL,
    ) -> None:
        self.keys, self.lister, self.clock, self.lookup = keys, lister, clock, lookup
        self.issuers = frozenset((*issuers, LEGACY_ISSUER))
        self.audiences = tuple(audiences) or (issuers[0],)
        self._verified: dict[bytes, dict[str, Any]] = {}
        self._keys_checked = 0.0

    async def authenticate_token(self, token: str, audiences: Sequence[str] = ()) -> tuple[User, list[str]] | None:
        """The user and the audiences the token is good for; None for a token of another issuer.

        Raises TokenRefused. `audiences` are those the caller accepts: the API server's own unless named.
        """
        claims = self._claims(token)
        if claims is None:
            return None
        self._check_time(claims)
        if claims.get("iss") == LEGACY_ISSUER:
            return self._legacy(token, claims, audiences)
        wanted = audiences or self.audiences
        aud = claims.get("aud") or []
        good = [audience for audience in ([aud] if isinstance(aud, str) else aud) if audience in wanted]
        if not good:
            raise TokenRefused(f"token audiences {orjson.dumps(aud).decode()} is invalid for the target audiences")
        return self._user(claims), good

    def _claims(self, token: str) -> dict[str, Any] | None:
        """The claims under a verified signature; None where the token is not one of our issuers."""
        now = self.clock.monotonic()
        if now - self._keys_checked > 10:
            self._keys_checked = now
            if self.keys.refresh():
                self._verified.clear()
        digest = hashlib.sha256(token.encode()).digest()
        if digest in self._verified:
            return self._verified[digest]
        parts = token.split(".")
        if len(parts) != 3:
            return None
        try:
            header, claims = (orjson.loads(_unpadded(part)) for part in parts[:2])
        except ValueError:
            return None
        if not isinstance(claims, dict) or not isinstance(header, dict) or claims.get("iss") not in self.issuers:
            return None
        key_id = header.get("kid")
        candidates = [key for key in self.keys.verifying if key.key_id == key_id] if key_id else self.keys.verifying
        if not any(_verifies(token, key, header.get("alg")) for key in candidates):
            raise TokenRefused("invalid bearer token: signature verification failed")
        if len(self._verified) >= TOKENS_REMEMBERED_MAX:
            self._verified.clear()
        self._verified[digest] = claims
        return claims

    def _check_time(self, claims: dict[str, Any]) -> None:
        now = self.clock.time()
        expiry, not_before = claims.get("exp"), claims.get("nbf")
        if isinstance(expiry, (int, float)) and now > expiry:
            raise TokenRefused("service account token has expired")
        if isinstance(not_before, (int, float)) and now < not_before - LEEWAY_SECONDS:
            raise TokenRefused("service account token is not valid yet")
        if claims.get("iss") != LEGACY_ISSUER and not isinstance(expiry, (int, float)):
            raise TokenRefused("service account token has no expiry")

    def _user(self, claims: dict[str, Any]) -> User:
        private = claims.get("kubernetes.io") or {}
        namespace = private.get("namespace", "")
        account = private.get("serviceaccount") or {}
        name, uid = account.get("name", ""), account.get("uid", "")
        if not namespace or not name or claims.get("sub") != f"{SERVICE_ACCOUNT_PREFIX}{namespace}:{name}":
            raise TokenRefused("sub claim is invalid")
        if self.lookup:
            self._must_live("serviceaccounts", namespace, name, uid, "service account")
        extra: dict[str, list[str]] = {}
        if claims.get("jti"):
            extra[CREDENTIAL_ID] = ["JTI=" + claims["jti"]]
        for kind, resource in (("pod", "pods"), ("secret", "secrets"), ("node", "nodes")):
            bound = private.get(kind)
            if not bound:
                continue
            # A node beside a pod is a note of where the pod ran; alone, it is what the token is bound to.
            if self.lookup and not (kind == "node" and private.get("pod")):
                self._must_live(
                    resource, None if kind == "node" else namespace, bound["name"], bound.get("uid", ""), kind
                )
            if kind != "secret":
                extra[f"{_EXTRA}{kind}-name"] = [bound["name"]]
                if bound.get("uid"):
                    extra[f"{_EXTRA}{kind}-uid"] = [bound["uid"]]
        return service_account_user(namespace, name, uid, extra)

    def _must_live(self, resource: str, namespace: str | None, name: str, uid: str, what: str) -> None:
        found = self.lister.get("", resource, namespace, name)
        if found is None:
            raise TokenRefused(f"{what} {name} has been deleted")
        metadata = found["metadata"]
        if uid != metadata.get("uid"):
            raise TokenRefused(f"{what} UID ({metadata.get('uid')}) does not match claim ({uid})")
        if deleted := metadata.get("deletionTimestamp"):
            began = calendar.timegm(time.strptime(deleted[:19], "%Y-%m-%dT%H:%M:%S"))
            if began < self.clock.time() - LEEWAY_SECONDS:
                raise TokenRefused(f"{what} {name} has been deleted")

    def _legacy(self, token: str, claims: dict[str, Any], audiences: Sequence[str]) -> tuple[User, list[str]]:
        """Tokens without expiry that live in secrets of type kubernetes.io/service-account-token."""
        namespace, name = claims.get(_LEGACY + "namespace", ""), claims.get(_LEGACY + "service-account.name", "")
        uid, secret_name = claims.get(_LEGACY + "service-account.uid", ""), claims.get(_LEGACY + "secret.name", "")
        if claims.get("sub") != f"{SERVICE_ACCOUNT_PREFIX}{namespace}:{name}" or not secret_name:
            raise TokenRefused("sub claim is invalid")
        good = [audience for audience in (audiences or self.audiences) if audience in self.audiences]
        if not good:
            raise TokenRefused("token audiences are invalid for the target audiences")
        if self.lookup:
            secret = self.lister.get("", "secrets", namespace, secret_name)
            if secret is None or secret["metadata"].get("deletionTimestamp"):
                raise TokenRefused("service account token has been invalidated")
            if base64.b64decode((secret.get("data") or {}).get("token") or "") != token.encode():
                raise TokenRefused("service account token does not match server's copy")
            self._must_live("serviceaccounts", namespace, name, uid, "service account")
        return service_account_user(namespace, name, uid, {}), good


def service_account_user(namespace: str, name: str, uid: str, extra: dict[str, list[str]]) -> User:
    groups = (SERVICE_ACCOUNTS, f"{SERVICE_ACCOUNTS}:{namespace}")
    return User(f"{SERVICE_ACCOUNT_PREFIX}{namespace}:{name}", uid, groups, extra)


def _unpadded(part: str) -> bytes:
    return base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))


def _verifies(token: str, key: VerificationKey, algorithm: Any) -> bool:
    if algorithm != key.algorithm:  # the key decides: never "none", never a public key as an HMAC secret
        return False
    signed, _, signature = token.rpartition(".")
    try:
        return verifies(key, _unpadded(signature), signed.encode())
    except ValueError:
        return False  # no base64


class TokenIssuer:
    """Signs tokens, and answers TokenRequest."""

    def __init__(
        self,
        keys: KeyRing,
        lister: Lister,
        *,
        issuer: str = DEFAULT_ISSUER,
        audiences: Sequence[str] = (),
        expiration_seconds_max: int = EXPIRATION_SECONDS_MAX,
        extend_expiration: bool = False,
        clock: Clock = REAL,
    ) -> None:
        self.keys, self.lister, self.issuer, self.clock = keys, lister, issuer, clock
        self.audiences = tuple(audiences) or (issuer,)
        self.expiration_seconds_max, self.extend_expiration = expiration_seconds_max, extend_expiration

    def sign(self, claims: dict[str, Any]) -> str:
        private, public = self.keys.signing
        header = orjson.dumps({"alg": public.algorithm, "kid": public.key_id})
        signed = b".".join(base64.urlsafe_b64encode(part).rstrip(b"=") for part in (header, orjson.dumps(claims)))
        signature = base64.urlsafe_b64encode(sign(private, public.algorithm, signed)).rstrip(b"=")
        return (signed + b"." + signature).decode()

    def issue(
        self,
        account: dict[str, Any],
        *,
        audiences: Iterable[str] = (),
        seconds: int = DEFAULT_EXPIRATION_SECONDS,
        bound: dict[str, dict[str, str]] | None = None,
        warn_after_seconds: int = 0,
    ) -> tuple[str, float]:
        """A token for a ServiceAccount object, and when it ends. `bound`: kind in lower case -> {"name", "uid"}."""
        now, metadata = int(self.clock.time()), account["metadata"]
        private: dict[str, Any] = {"namespace": metadata["namespace"]}
        private.update(bound or {})
        private["serviceaccount"] = {"name": metadata["name"], "uid": metadata["uid"]}
        if warn_after_seconds:
            private["warnafter"] = now + warn_after_seconds
        claims: dict[str, Any] = {
            "aud": list(audiences) or list(self.audiences),
            "exp": now + seconds,
            "iat": now,
            "iss": self.issuer,
            "jti": str(uuid.uuid4()),
            "kubernetes.io": private,
            "nbf": now,
            "sub": f"{SERVICE_ACCOUNT_PREFIX}{metadata['namespace']}:{metadata['name']}",
        }
        return self.sign(claims), float(claims["exp"])

    def token_request(self, namespace: str, name: str, request: dict[str, Any]) -> dict[str, Any]:
        """The answer to a create of `serviceaccounts/NAME/token`: the TokenRequest with its status.

        Raises ApiError. The caller has authorized the request and run admission.
        """
        account = self.lister.get("", "serviceaccounts", namespace, name)
        if account is None:
            raise errors.not_found("serviceaccounts", name)
        given = (request.get("metadata") or {}).get("name")
        if given and given != name:
            raise errors.bad_request(f"the name of the object ({given}) does not match the name on the URL ({name})")
        spec = dict(request.get("spec") or {})
        seconds = spec.get("expirationSeconds")
        seconds = DEFAULT_EXPIRATION_SECONDS if seconds is None else seconds
        wrong = []
        if seconds < EXPIRATION_SECONDS_MIN:
            wrong.append(
                errors.invalid_value(
                    "spec.expirationSeconds", seconds, "may not specify a duration less than 10 minutes"
                )
            )
        if seconds > EXPIRATION_SECONDS_MAX:
            wrong.append(
                errors.invalid_value(
                    "spec.expirationSeconds", seconds, "may not specify a duration larger than 2^32 seconds"
                )
            )
        if wrong:
            raise errors.invalid("TokenRequest", "", wrong, "authentication.k8s.io")
        seconds = min(seconds, self.expiration_seconds_max)
        audiences = list(spec.get("audiences") or self.audiences)
        bound = self._bound(namespace, name, spec.get("boundObjectRef"))
        warn_after = 0
        ours = all(audience in self.audiences for audience in audiences)
        signed_seconds = seconds
        if self.extend_expiration and seconds == POD_EXPIRATION_SECONDS and "pod" in bound and ours:
            warn_after, signed_seconds = seconds, EXTENDED_EXPIRATION_SECONDS
        token, end = self.issue(
            account, audiences=audiences, seconds=signed_seconds, bound=bound, warn_after_seconds=warn_after
        )
        if warn_after:
            end = self.clock.time() + seconds  # what the bearer is told, so that it refreshes in time
        stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(self.clock.time()))
        return {
            "kind": "TokenRequest",
            "apiVersion": "authentication.k8s.io/v1",
            "metadata": {"name": name, "namespace": namespace, "creationTimestamp": stamp},
            "spec": {
                "audiences": audiences,
                "expirationSeconds": seconds,
                "boundObjectRef": spec.get("boundObjectRef"),
            },
            "status": {
                "token": token,
                "expirationTimestamp": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(end)),
            },
        }

    def _bound(self, namespace: str, account: str, ref: dict[str, Any] | None) -> dict[str, dict[str, str]]:
        if not ref:
            return {}
        kind, name = ref.get("kind", ""), ref.get("name", "")
        resources = {"Pod": "pods", "Secret": "secrets", "Node": "nodes"}
        if kind not in resources or ref.get("apiVersion", "v1") not in ("v1", ""):
            raise errors.bad_request(
                f"cannot bind token for serviceaccount to object of type {ref.get('apiVersion', '')}, Kind={kind}"
            )
        found = self.lister.get("", resources[kind], None if kind == "Node" else namespace, name)
        if found is None:
            raise errors.not_found(resources[kind], name)
        uid = found["metadata"]["uid"]
        if ref.get("uid") and ref["uid"] != uid:
            why = (
                f"the UID in the bound object reference ({ref['uid']}) does not match the UID in record. "
                "The object might have been deleted and then recreated"
            )
            raise errors.conflict(resources[kind], name, why=why)
        bound = {kind.lower(): {"name": name, "uid": uid}}
        if kind == "Pod":
            if account != found["spec"].get("serviceAccountName"):
                raise errors.bad_request(
                    f'cannot bind token for serviceaccount "{account}" to pod running with different '
                    "serviceaccount name."
                )
            if node_name := found["spec"].get("nodeName"):
                node = self.lister.get("", "nodes", None, node_name)
                bound["node"] = {"name": node_name, **({"uid": node["metadata"]["uid"]} if node else {})}
        return bound

    def openid_configuration(self, jwks_uri: str = "") -> dict[str, Any]:
        """The document at `/.well-known/openid-configuration`."""
        return {
            "issuer": self.issuer,
            "jwks_uri": jwks_uri or self.issuer.rstrip("/") + "/openid/v1/jwks",
            "response_types_supported": ["id_token"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": sorted({key.algorithm for key in self.keys.verifying}),
        }

    def jwks(self) -> dict[str, Any]:
        """The document at `/openid/v1/jwks`."""
        return {"keys": [key.jwk() for key in self.keys.verifying]}
