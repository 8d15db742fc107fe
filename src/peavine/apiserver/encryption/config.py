"""`EncryptionConfiguration` (apiserver.config.k8s.io/v1): which resources, which providers, in which order."""

from __future__ import annotations

import base64
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from peavine.apiserver.encryption.kms import KmsProvider, Plugin
from peavine.apiserver.encryption.providers import AesCbc, AesGcm, Identity, Provider, Secretbox

API_VERSIONS = ("apiserver.config.k8s.io/v1",)
_KEYED: dict[str, tuple[Callable[..., Provider], tuple[int, ...]]] = {
    "aesgcm": (AesGcm, (16, 24, 32)),
    "aescbc": (AesCbc, (16, 24, 32)),
    "secretbox": (Secretbox, (32,)),
}


class ConfigError(ValueError):
    """The configuration cannot be used; the message says why and never quotes a key."""


@dataclass(frozen=True)
class Entry:
    """Resources (`secrets`, `widgets.example.com`, `*.apps`, `*.`, `*.*`) and their providers; the first one writes."""

    resources: tuple[str, ...]
    providers: tuple[Provider, ...]


@dataclass(frozen=True)
class Encryption:
    entries: tuple[Entry, ...]

    def providers_for(self, group: str, resource: str) -> tuple[Provider, ...] | None:
        """Those of the first entry that names the resource; None where it is stored as it is."""
        exact = f"{resource}.{group}" if group else resource
        for entry in self.entries:
            if exact in entry.resources or f"*.{group}" in entry.resources or "*.*" in entry.resources:
                return entry.providers
        return None


def load_encryption(path: str | os.PathLike[str]) -> Encryption:
    """Read the file (YAML or JSON). Raises ConfigError, OSError."""
    import orjson

    text = Path(path).read_bytes()
    try:
        return parse(orjson.loads(text))  # what `peavine` writes itself; the YAML parser is heavy
    except orjson.JSONDecodeError:
        import yaml
    try:
        document = yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        raise ConfigError(f"{path}: no YAML" + (f" (line {mark.line + 1})" if mark else "")) from None
    return parse(document)


def parse(document: Any) -> Encryption:
    if not isinstance(document, dict) or document.get("kind") != "EncryptionConfiguration":
        raise ConfigError("want kind EncryptionConfiguration")
    if document.get("apiVersion") not in API_VERSIONS:
        raise ConfigError(f"unknown apiVersion {document.get('apiVersion')!r}: want {API_VERSIONS[0]}")
    entries = []
    for position, raw in enumerate(document.get("resources") or ()):
        where = f"resources[{position}]"
        resources = tuple(raw.get("resources") or ())
        if not resources:
            raise ConfigError(f"{where}.resources: at least one resource is needed")
        providers = [_provider(p, f"{where}.providers[{i}]") for i, p in enumerate(raw.get("providers") or ())]
        if not providers:
            raise ConfigError(f"{where}.providers: at least one provider is needed")
        entries.append(Entry(resources, tuple(providers)))
    if not entries:
        raise ConfigError("resources: at least one entry is needed")
    return Encryption(tuple(entries))


def _provider(raw: dict[str, Any], where: str) -> Provider:
    if not isinstance(raw, dict) or len(raw) != 1:
        raise ConfigError(f"{where}: exactly one provider is needed")
    ((kind, config),) = raw.items()
    if kind == "identity":
        return Identity()
    if kind in _KEYED:
        make, sizes = _KEYED[kind]
        return make(_keys((config or {}).get("keys") or (), sizes, f"{where}.{kind}"))
    if kind == "kms":
        if config.get("apiVersion") != "v2":
            raise ConfigError(f"{where}.kms: apiVersion must be v2")
        name, endpoint = config.get("name") or "", config.get("endpoint") or ""
        if not name or ":" in name:
            raise ConfigError(f"{where}.kms.name: needed, without a colon")
        if not endpoint.startswith("unix:///"):
            raise ConfigError(f"{where}.kms.endpoint: want unix:///path")
        return KmsProvider(name, Plugin(endpoint, _seconds(config.get("timeout", "3s"), where)))
    raise ConfigError(f"{where}: unknown provider {kind!r}")


def _keys(raw: Sequence[dict[str, Any]], sizes: tuple[int, ...], where: str) -> list[tuple[str, bytes]]:
    keys: list[tuple[str, bytes]] = []
    for position, item in enumerate(raw):
        name = item.get("name") or ""
        if not name or ":" in name:
            raise ConfigError(f"{where}.keys[{position}].name: needed, without a colon")
        if name in dict(keys):
            raise ConfigError(f"{where}.keys[{position}].name: {name!r} is there twice")
        try:
            secret = base64.b64decode(item.get("secret") or "", validate=True)
        except ValueError:
            raise ConfigError(f"{where}.keys[{position}].secret: must be base64 encoded") from None
        if len(secret) not in sizes:
            wanted = ", ".join(map(str, sizes))
            raise ConfigError(f"{where}.keys[{position}].secret: has {len(secret)} bytes, want one of {wanted}")
        keys.append((name, secret))
    if not keys:
        raise ConfigError(f"{where}.keys: at least one key is needed")
    return keys


def _seconds(text: str, where: str) -> float:
    from peavine.machinery.duration import parse_duration

    try:
        return parse_duration(text)
    except ValueError:
        raise ConfigError(f"{where}.kms.timeout: {text!r} is no duration") from None
