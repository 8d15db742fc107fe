"""Credentials for registries, from pull secrets in every form they take."""

from __future__ import annotations

import base64
import fnmatch
import json
from collections.abc import Awaitable, Callable, Iterable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from peavine.kubelet.options import Options
from peavine.kubelet.pods.environment import ObjectMissing

Object = dict[str, Any]
Lookup = Callable[[str, str, str], Awaitable[Object]]


def parse_docker_config(text: bytes, *, legacy: bool = False) -> dict[str, Object]:
    """Registry -> {username, password, …} of a `config.json` (or, legacy, a `.dockercfg`). Broken text is empty."""
    try:
        doc = json.loads(text)
    except ValueError:
        return {}
    entries = doc if legacy else (doc.get("auths") or {}) if isinstance(doc, dict) else {}
    found = {}
    for registry, entry in entries.items():
        if not isinstance(entry, dict):
            continue
        username, password = entry.get("username", ""), entry.get("password", "")
        if entry.get("auth"):
            try:
                username, _, password = base64.b64decode(entry["auth"]).decode().partition(":")
            except ValueError:
                continue
        auth = {
            "username": username,
            "password": password,
            "identity_token": entry.get("identitytoken", ""),
            "registry_token": entry.get("registrytoken", ""),
        }
        found[registry] = {k: v for k, v in auth.items() if v}
    return found


def registry_of(image: str) -> tuple[str, str]:
    """(host, path) of an image name; Docker Hub is `index.docker.io`."""
    first, slash, rest = image.partition("/")
    if slash and ("." in first or ":" in first or first == "localhost"):
        return first, rest
    return "index.docker.io", image if slash else f"library/{image}"


def matches(pattern: str, image: str) -> bool:
    """Whether an entry's registry covers the image: host with globs a label, port, leading path."""
    host, path = registry_of(image)
    parts = urlsplit(pattern if "://" in pattern else f"https://{pattern}")
    wanted_host, wanted_path = parts.netloc, parts.path.strip("/")
    if wanted_host in ("docker.io", "registry-1.docker.io"):
        wanted_host = "index.docker.io"
    if host == "docker.io":
        host = "index.docker.io"
    wanted_path = wanted_path.removeprefix("v1").removeprefix("v2").strip("/")
    labels, patterns = host.partition(":")[0].split("."), wanted_host.partition(":")[0].split(".")
    if host.partition(":")[2] != wanted_host.partition(":")[2] or len(labels) != len(patterns):
        return False
    if not all(fnmatch.fnmatchcase(label, pattern_) for label, pattern_ in zip(labels, patterns)):
        return False
    return not wanted_path or path == wanted_path or path.startswith(wanted_path)


def select(entries: Mapping[str, Object], image: str) -> list[Object]:
    """Those that cover the image, the most special first."""
    chosen = sorted((name for name in entries if matches(name, image)), reverse=True)
    return [entries[name] for name in chosen]


def of_node(directories: Iterable[Path]) -> dict[str, Object]:
    """The node's own docker configuration: the first `config.json` that is there, else the first `.dockercfg`."""
    places = list(directories)
    for name, legacy in (("config.json", False), (".dockercfg", True)):
        for directory in places:
            try:
                return parse_docker_config((directory / name).read_bytes(), legacy=legacy)
            except OSError:
                continue
    return {}


async def for_pod(pod: Object, image: str, lookup: Lookup, options: Options) -> list[Object]:
    """What the pod's pull secrets, the node's docker configuration and its credential providers have for the image."""
    found: list[Object] = []
    namespace = pod["metadata"].get("namespace", "default")
    for reference in (pod.get("spec") or {}).get("imagePullSecrets") or []:
        try:
            secret = await lookup("Secret", namespace, reference.get("name", ""))
        except ObjectMissing:
            # As upstream: the pull is tried without it, and says what is wrong.
            continue
        data = secret.get("data") or {}
        for key, legacy in ((".dockerconfigjson", False), (".dockercfg", True)):
            if key in data:
                entries = parse_docker_config(base64.b64decode(data[key]), legacy=legacy)
                found += select(entries, image)
    found += select(of_node((options.root_dir, Path.home() / ".docker", Path("/.docker"), Path.home())), image)
    if options.image_credential_provider_config:
        from peavine.kubelet.images.providers import credentials

        found += await credentials(image, options)
    return found
