"""What a user logs in with: a bearer token, a client certificate, or a kubeconfig's user.

Only what stands in the text itself counts.

An uploaded kubeconfig names files and programs of the user's machine. Here they would be the server's: they are
refused, never read or run. Its server and CA are ignored: the dashboard is for one cluster.
"""

from __future__ import annotations

import base64
import binascii
from typing import Any

from peavine.client import ClientConfig

KUBECONFIG_BYTES_MAX = 256 << 10
TOKEN_CHARS_MAX = 16 << 10
PEM_CHARS_MAX = 128 << 10


class Unusable(Exception):
    """The credentials cannot be used; the message tells the user why."""


def with_token(cluster: ClientConfig, token: str) -> ClientConfig:
    token = token.strip()
    if not token or len(token) > TOKEN_CHARS_MAX or not token.isascii() or any(c <= " " for c in token):
        raise Unusable("this is no bearer token")
    return cluster.replaced(token=token)


def with_certificate(cluster: ClientConfig, certificate: str, key: str) -> ClientConfig:
    """Both are PEM texts."""
    if len(certificate) + len(key) > PEM_CHARS_MAX:
        raise Unusable("certificate and key are too large")
    if "ENCRYPTED" in key:
        # OpenSSL would ask for the passphrase at the server's terminal.
        raise Unusable("the key is encrypted: use one that is not")
    config = cluster.replaced(certificate=certificate, key=key)
    try:
        config.ssl_context()
    except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
        raise Unusable("client certificate and key do not fit or cannot be read") from error
    return config


def with_kubeconfig(cluster: ClientConfig, text: str, context: str = "") -> ClientConfig:
    """The user of `context` (the current one unless named) at `cluster`."""
    user = _user(text, context)
    for key in ("client-certificate", "client-key", "tokenFile"):
        if user.get(key):
            raise Unusable(f"{key} names a file: use a kubeconfig that holds its data (kubectl config view --flatten)")
    for key in ("exec", "auth-provider", "username", "as"):
        if user.get(key):
            raise Unusable(f"users of kind {key!r} cannot log in here: use a token or a client certificate")
    if user.get("token"):
        return with_token(cluster, str(user["token"]))
    if user.get("client-certificate-data") and user.get("client-key-data"):
        return with_certificate(cluster, _pem(user, "client-certificate-data"), _pem(user, "client-key-data"))
    raise Unusable("the kubeconfig's user has neither a token nor a client certificate")


def _user(text: str, context: str) -> dict[str, Any]:
    import yaml

    if len(text) > KUBECONFIG_BYTES_MAX:
        raise Unusable("the kubeconfig is too large")
    try:
        doc = yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise Unusable("the kubeconfig is not YAML") from error
    if not isinstance(doc, dict):
        raise Unusable("the kubeconfig is not an object")
    chosen = _named(doc, "contexts", "context", context or doc.get("current-context"))
    return _named(doc, "users", "user", chosen.get("user"))


def _named(doc: dict[str, Any], section: str, part: str, name: Any) -> dict[str, Any]:
    entries = doc.get(section)
    for entry in entries if isinstance(entries, list) else []:
        if isinstance(entry, dict) and name and entry.get("name") == name and isinstance(entry.get(part), dict):
            return entry[part]
    raise Unusable(f"the kubeconfig has no {part} {str(name or '')!r}")


def _pem(user: dict[str, Any], key: str) -> str:
    try:
        return base64.b64decode(str(user[key]), validate=True).decode("ascii")
    except (binascii.Error, ValueError) as error:
        raise Unusable(f"{key} is not base64 of a PEM text") from error
