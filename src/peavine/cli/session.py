"""What every command needs: the client, the namespace, and which resources the server has."""

from __future__ import annotations

import hashlib
import os
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple, TextIO

from peavine.cli import kubeconfig
from peavine.cli.failures import CliError
from peavine.cli.flags import Parsed
from peavine.client.config import ClientConfig
from peavine.client.rest import Client
from peavine.machinery.names import GVR

_DISCOVERY_SECONDS_MAX = 6 * 3600
Object = dict[str, Any]


class Mapping(NamedTuple):
    """A resource that the server has."""

    group: str
    version: str
    plural: str
    kind: str
    namespaced: bool
    verbs: tuple[str, ...]
    short_names: tuple[str, ...]
    categories: tuple[str, ...]
    singular: str
    subresources: tuple[str, ...]

    @property
    def gvr(self) -> GVR:
        return GVR(self.group, self.version, self.plural)

    @property
    def api_version(self) -> str:
        return self.gvr.api_version

    @property
    def named(self) -> str:
        """`deployment.apps`, as `-o name` and messages say it."""
        return f"{self.kind.lower()}.{self.group}" if self.group else self.kind.lower()


class Session:
    """One run of the program."""

    def __init__(self, flags: Parsed, out: TextIO | None = None, err: TextIO | None = None) -> None:
        self.flags = flags
        self.out: TextIO = out or sys.stdout
        self.err: TextIO = err or sys.stderr
        self._config: ClientConfig | None = None
        self._client: Client | None = None
        self._mappings: list[Mapping] | None = None
        self._fresh = False

    @property
    def config(self) -> ClientConfig:
        if self._config is None:
            self._config = kubeconfig.client_config(self.flags)
        return self._config

    @property
    def client(self) -> Client:
        if self._client is None:
            self._client = Client(self.config)
        return self._client

    @property
    def namespace(self) -> str:
        return self.flags.get("namespace") or self.config.namespace

    def print(self, *text: str) -> None:
        print(*text, file=self.out)

    def warn(self, text: str) -> None:
        print(text, file=self.err)

    async def get(self, path: str, **query: Any) -> Object:
        given = {key: value for key, value in query.items() if value not in (None, "")}
        return await self.client.json("GET", path, query=given)

    # --- resources

    async def mappings(self, *, refresh: bool = False) -> list[Mapping]:
        """Every resource in every version, in the server's order."""
        if self._mappings is None or refresh:
            self._mappings = (None if refresh else self._cached()) or await self._discover()
        return self._mappings

    def _cache_file(self) -> Path:
        base = self.flags.get("cache-dir") or os.environ.get("KUBECACHEDIR") or str(Path.home() / ".kube" / "cache")
        identity = f"{self.config.server}\n{self.config.ca}"  # another cluster at the same address is another cluster
        return Path(base) / "peavine" / f"discovery-{hashlib.sha256(identity.encode()).hexdigest()[:16]}.json"

    def _cached(self) -> list[Mapping] | None:
        import orjson

        try:
            path = self._cache_file()
            if time.time() - path.stat().st_mtime > _DISCOVERY_SECONDS_MAX:
                return None
            return [
                Mapping._make(tuple(x) if isinstance(x, list) else x for x in row)
                for row in orjson.loads(path.read_bytes())
            ]
        except (OSError, ValueError, TypeError, RuntimeError):
            return None  # no cache, or not one of ours: ask the server

    async def _discover(self) -> list[Mapping]:
        import orjson

        from peavine.client.discovery import served_resources

        found = [
            Mapping(
                r.gvr.group, r.gvr.version, r.gvr.resource, r.kind, r.namespaced, tuple(sorted(r.verbs)), r.short_names,
                r.categories, r.singular, r.subresources,
            )
            for r in await served_resources(self.client, preferred_only=False)
        ]  # fmt: skip
        self._fresh = True
        try:
            path = self._cache_file()
            path.parent.mkdir(parents=True, exist_ok=True)
            temporary = path.with_suffix(f".{os.getpid()}")
            temporary.write_bytes(orjson.dumps([tuple(mapping) for mapping in found]))
            temporary.replace(path)
        except (OSError, RuntimeError):
            self._fresh = True  # without a cache every run asks the server
        return found

    async def mapping(self, name: str) -> Mapping:
        """The resource that a user means by `po`, `pods`, `Pod`, `deployments.apps`, `deployments.v1.apps`."""
        found = _match(await self.mappings(), name)
        if found is None and not self._fresh:
            found = _match(await self.mappings(refresh=True), name)
        if found is None:
            raise CliError(f'the server doesn\'t have a resource type "{name}"')
        return found

    async def mapping_of(self, api_version: str, kind: str) -> Mapping | None:
        """The resource of an object's apiVersion and kind."""
        for refresh in (False, True):
            if refresh and self._fresh:
                break
            for mapping in await self.mappings(refresh=refresh):
                if mapping.kind == kind and mapping.api_version == api_version:
                    return mapping
        return None

    async def category(self, name: str) -> list[Mapping]:
        """The resources of a category such as `all`, each in its preferred version."""
        seen: set[tuple[str, str]] = set()
        found = []
        for mapping in await self.mappings():
            if name in mapping.categories and (mapping.group, mapping.plural) not in seen:
                seen.add((mapping.group, mapping.plural))
                found.append(mapping)
        return found


def _match(mappings: list[Mapping], name: str) -> Mapping | None:
    lowered = name.lower()
    resource, _, rest = lowered.partition(".")
    for mapping in mappings:
        names = (mapping.plural, mapping.singular, mapping.kind.lower())
        if not rest and lowered in names:
            return mapping
        if rest and resource in (*names, *mapping.short_names) and rest in (
            mapping.group, f"{mapping.version}.{mapping.group}", f"{mapping.version}." if not mapping.group else None,
        ):  # fmt: skip
            return mapping
    for mapping in mappings:
        if not rest and lowered in mapping.short_names:
            return mapping
    for mapping in mappings:  # a prefix of the group is enough: deployments.apps of deployments.apps.example.com
        if rest and mapping.plural == resource and mapping.group.startswith(rest):
            return mapping
    return None
