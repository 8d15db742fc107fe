"""Credential provider plugins (CredentialProviderConfig, kubelet.config.k8s.io/v1): programs that know passwords.

A program gets a CredentialProviderRequest on its standard input and answers with registries and passwords; answers are
kept as long as it says.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import time
from pathlib import Path
from typing import Any

from peavine.kubelet.images.credentials import matches, registry_of, select
from peavine.kubelet.options import Options
from peavine.machinery.duration import parse_duration

log = logging.getLogger(__name__)
Object = dict[str, Any]
PROGRAM_SECONDS_MAX = 60.0

_configurations: dict[str, list[Object]] = {}
# (provider, cache key) -> (until, registries)
_answers: dict[tuple[str, str], tuple[float, dict[str, Object]]] = {}


def read_configuration(path: str) -> list[Object]:
    """The providers of the file. Raises ValueError, OSError."""
    import yaml

    doc = yaml.load(Path(path).read_text(), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    if not isinstance(doc, dict) or doc.get("kind") != "CredentialProviderConfig":
        raise ValueError(f"{path}: not a CredentialProviderConfig")
    for provider in doc.get("providers") or []:
        if "/" in provider.get("name", "/") or not provider.get("matchImages"):
            raise ValueError(f"{path}: a provider needs a name without slash, and matchImages")
    return doc.get("providers") or []


async def credentials(image: str, options: Options) -> list[Object]:
    """What the configured programs answer for the image; one that fails is logged and skipped."""
    path = options.image_credential_provider_config
    if path not in _configurations:
        _configurations[path] = read_configuration(path)
    found: list[Object] = []
    for provider in _configurations[path]:
        if any(matches(pattern, image) for pattern in provider["matchImages"]):
            try:
                found += select(await _ask(provider, image, options), image)
            except (OSError, ValueError, TimeoutError) as error:
                log.warning("credential provider %s: %s", provider["name"], error)
    return found


async def _ask(provider: Object, image: str, options: Options) -> dict[str, Object]:
    now = time.monotonic()
    for key in (image, registry_of(image)[0], ""):
        kept = _answers.get((provider["name"], key))
        if kept is not None and kept[0] > now:
            return kept[1]
    version = provider.get("apiVersion") or "credentialprovider.kubelet.k8s.io/v1"
    request = {"apiVersion": version, "kind": "CredentialProviderRequest", "image": image}
    environment = {**os.environ, **{e["name"]: e["value"] for e in provider.get("env") or []}}
    process = await asyncio.create_subprocess_exec(
        str(Path(options.image_credential_provider_bin_dir) / provider["name"]),
        *(provider.get("args") or []),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        env=environment,
    )
    try:
        async with asyncio.timeout(PROGRAM_SECONDS_MAX):
            out, _ = await process.communicate(json.dumps(request).encode())
    except TimeoutError:
        process.kill()
        raise
    if process.returncode:
        raise ValueError(f"ended with {process.returncode}")
    answer = json.loads(out)
    if answer.get("kind") != "CredentialProviderResponse":
        raise ValueError("the answer is not a CredentialProviderResponse")
    registries = {
        name: {"username": auth.get("username", ""), "password": auth.get("password", "")}
        for name, auth in (answer.get("auth") or {}).items()
    }
    kind = answer.get("cacheKeyType") or "Image"
    key = {"Image": image, "Registry": registry_of(image)[0], "Global": ""}.get(kind, image)
    lasts = parse_duration(answer.get("cacheDuration") or provider.get("defaultCacheDuration") or "0s")
    _answers[(provider["name"], key)] = (now + lasts, registries)
    return registries
