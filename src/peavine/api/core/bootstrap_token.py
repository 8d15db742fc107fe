"""Bootstrap tokens: their form, the Secret that is one, and the mark that they put on the cluster-info ConfigMap.

Follows "Authenticating with Bootstrap Tokens".
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import re
from collections.abc import Iterable
from typing import Any

Object = dict[str, Any]

SECRET_TYPE = "bootstrap.kubernetes.io/token"
NAME_PREFIX = "bootstrap-token-"
NAMESPACE = "kube-system"
FORM = re.compile(r"([a-z0-9]{6})\.([a-z0-9]{16})")
GROUP_FORM = re.compile(r"system:bootstrappers:[a-z0-9:-]{0,255}[a-z0-9]")
USAGES = ("authentication", "signing")

# The ConfigMap that joining machines read before they know anything, and its entries that are signatures.
PUBLIC_NAMESPACE, CONFIG_MAP = "kube-public", "cluster-info"
SIGNATURE_PREFIX = "jws-kubeconfig-"
PUBLIC_PATH = f"/api/v1/namespaces/{PUBLIC_NAMESPACE}/configmaps/{CONFIG_MAP}"


def field(secret: Object, name: str) -> str:
    """A field of the token's Secret; empty where it is missing."""
    return base64.b64decode((secret.get("data") or {}).get(name) or "").decode(errors="replace")


def secret_of(
    token: str, *, expiration: str, usages: Iterable[str] = USAGES, groups: Iterable[str] = (), description: str = ""
) -> Object:
    """The Secret of `token` (ID.SECRET); `expiration` is RFC 3339, or empty for never. Raises ValueError."""
    match = FORM.fullmatch(token)
    if match is None:
        raise ValueError(f"the bootstrap token {token!r} was not of the form {FORM.pattern!r}")
    for group in groups:
        if GROUP_FORM.fullmatch(group) is None:
            raise ValueError(f"bootstrap group {group!r} is invalid (must match {GROUP_FORM.pattern})")
    data = {"token-id": match[1], "token-secret": match[2], "auth-extra-groups": ",".join(groups)}
    data |= {f"usage-bootstrap-{usage}": "true" for usage in usages}
    data |= {"description": description} if description else {}
    data |= {"expiration": expiration} if expiration else {}
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": NAME_PREFIX + match[1], "namespace": NAMESPACE},
        "type": SECRET_TYPE,
        "data": {key: base64.b64encode(value.encode()).decode() for key, value in data.items() if value},
    }


def detached_signature(content: str, identifier: str, secret: str) -> str:
    """A JWS (HS256) without its payload, as kubeadm checks it."""
    header = _base64(json.dumps({"alg": "HS256", "kid": identifier}, separators=(",", ":")).encode())
    signed = f"{header}.{_base64(content.encode())}".encode()
    return f"{header}..{_base64(hmac.new(secret.encode(), signed, hashlib.sha256).digest())}"


def is_signed(config_map: Object, token: str) -> bool:
    """Whether who signed this cluster-info knows the token. False too where the token has not signed it (yet)."""
    identifier, _, secret = token.partition(".")
    data = config_map.get("data") or {}
    given = data.get(SIGNATURE_PREFIX + identifier, "")
    return hmac.compare_digest(given, detached_signature(data.get("kubeconfig", ""), identifier, secret))


def is_public(config_map: Object | None) -> bool:
    """Whether this cluster-info is for everybody to read: while a token has signed it."""
    return config_map is not None and any(key.startswith(SIGNATURE_PREFIX) for key in config_map.get("data") or ())


def _base64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
