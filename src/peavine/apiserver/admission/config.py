"""`--admission-control-config-file`: the configuration of single plugins (AdmissionConfiguration)."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

API_VERSIONS = ("apiserver.config.k8s.io/v1", "apiserver.k8s.io/v1alpha1")


class ConfigError(ValueError):
    """The configuration cannot be used; the message says why."""


def load_admission(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Plugin name -> its configuration, for `build_chain`. Raises ConfigError, OSError."""
    document = _read(Path(path))
    if document.get("kind") != "AdmissionConfiguration" or document.get("apiVersion") not in API_VERSIONS:
        raise ConfigError(f"{path}: want kind AdmissionConfiguration of {API_VERSIONS[0]}")
    found: dict[str, Any] = {}
    for position, plugin in enumerate(document.get("plugins") or ()):
        name = plugin.get("name") or ""
        if not name:
            raise ConfigError(f"{path}: plugins[{position}].name: Required value")
        if plugin.get("configuration") is not None:
            found[name] = plugin["configuration"]
        elif plugin.get("path"):
            found[name] = _read(Path(path).parent / plugin["path"])  # relative to the file that names it
    return found


def _read(path: Path) -> dict[str, Any]:
    import yaml

    try:
        document = yaml.load(path.read_bytes(), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}: {error}") from error
    if not isinstance(document, dict):
        raise ConfigError(f"{path}: not an object")
    return document
