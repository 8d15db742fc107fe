"""What every command needs: the client, the namespace, and which resources the server has."""

from __future__ import annotations

import os
import sys
import time
from typing import TYPE_CHECKING, Any, NamedTuple

from peavine.cli import kubeconfig
from peavine.cli.failures import CliError
from peavine.cli.flags import Parsed
from peavine.client.bodies import dumps, loads
from peavine.client.rest import Client
from peavine.machinery.names import GVR

if TYPE_CHECKING:
    from typing import TextIO

    from peavine.client.config import ClientConfig

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
    """One run of the program. `blocking` sessions need no event loop (see `client.blocking`)."""

    def __init__(self, flags: Parsed, *, blocking: bool = False) -> None:
        self.flags, self.blocking = flags, blocking
        self.out: TextIO = sys.stdout
        self.err: TextIO = sys.stderr
        self._config: ClientConfig | None = None
        self._client: Client | None = None
        self._mappings: list[Mapping] | None = None
        self._fresh = False
        self._warnings: set[str] = set()

    @property
    def config(self) -> ClientConfig:
        if self._config is None:
            self._config = kubeconfig.client_config(self.flags)
        return self._config

    @property
    def client(self) -> Client:
        if self._client is None:
            self._client = self.client_for(self.config)
            self._client.on_warning = self._warned
            if self.flags.get("v", 0) >= 6:
                self._client.on_request = lambda method, path: self.warn(f"{method} {self.config.server}{path}")
        return self._client

    def client_for(self, config: ClientConfig) -> Client:
        if not self.blocking:
            return Client(config)
        from peavine.client.blocking import BlockingClock, BlockingTransport

        return Client(config, transport=BlockingTransport, clock=BlockingClock())

    def _warned(self, header: str) -> None:
        """Say what the server warns of, each thing once."""
        for text in warnings_of(header):
            if text not in self._warnings:
                self._warnings.add(text)
                self.out.flush()
                self.warn(f"Warning: {text}")

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

    def _cache_file(self) -> str:
        from zlib import crc32

        base = self.flags.get("cache-dir") or os.environ.get("KUBECACHEDIR") or os.path.expanduser("~/.kube/cache")
        # Another cluster at the same address is another cluster.
        server = "".join(c if c.isalnum() or c in ".-" else "_" for c in self.config.server.partition("://")[2])
        return f"{base}/peavine/discovery-{server}-{crc32(self.config.ca.encode()):08x}.json"

    def _cached(self) -> list[Mapping] | None:
        try:
            with open(self._cache_file(), "rb") as file:
                if time.time() - os.fstat(file.fileno()).st_mtime > _DISCOVERY_SECONDS_MAX:
                    return None
                rows = loads(file.read())
            return [Mapping._make([tuple(x) if isinstance(x, list) else x for x in row]) for row in rows]
        except (OSError, ValueError, TypeError):
            return None  # no cache, or not one of ours: ask the server

    async def _discover(self) -> list[Mapping]:
        from peavine.client.discovery import served_resources

        found = [
            Mapping(
                r.gvr.group, r.gvr.version, r.gvr.resource, r.kind, r.namespaced, tuple(sorted(r.verbs)), r.short_names,
                r.categories, r.singular, r.subresources,
            )
            for r in await served_resources(self.client, preferred_only=False)
        ]  # fmt: skip
        self._fresh = True  # whether it can be kept or not: this run need not ask again
        self._keep(found)
        return found

    def _keep(self, found: list[Mapping]) -> None:
        path = self._cache_file()
        temporary = f"{path}.{os.getpid()}"
        try:
            os.makedirs(os.path.dirname(path), exist_ok=True)
            with open(temporary, "wb") as file:
                file.write(dumps([tuple(mapping) for mapping in found]))
            os.replace(temporary, path)
        except OSError:
            return  # without a cache every run asks the server

    async def mapping(self, name: str) -> Mapping:
        """The resource that a user means by `po`, `pods`, `Pod`, `deployments.apps`, `deployments.v1.apps`."""
        found = _match(await self.mappings(), name)
        if found is None and not self._fresh:
            found = _match(await self.mappings(refresh=True), name)
        if found is None:
            from peavine.cli.terminal import suggestion

            known = [n for m in await self.mappings() for n in (m.plural, m.singular, *m.short_names)]
            close = suggestion(name.lower(), known, self.err)
            raise CliError(f'the server doesn\'t have a resource type "{name}"{close}')
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


def warnings_of(header: str) -> list[str]:
    """The texts of Warning headers: `299 - "text"`, joined by commas where there are several."""
    import re

    return [re.sub(r"\\(.)", r"\1", text) for text in re.findall(r'299 \S+ "((?:\\.|[^"\\])*)"', header)]
