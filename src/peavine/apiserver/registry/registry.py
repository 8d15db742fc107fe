"""All served resources, built-in and custom, and what they are made of: kinds, types, cache, store, admission."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from itertools import islice
from typing import Any

from peavine.api.catalogue import CATALOGUE
from peavine.api.kind import Kind
from peavine.apiserver.admission.chain import Chain
from peavine.apiserver.authentication.user import User
from peavine.apiserver.cache import Cache, Entry, ResourceCache
from peavine.apiserver.cache.entries import Form
from peavine.apiserver.registry.conversions import settled
from peavine.base.clock import REAL, Clock
from peavine.machinery import errors
from peavine.machinery.schema import DEFAULT_VERSION, Schema, Type
from peavine.store.interface import Store

Object = dict[str, Any]
TOGETHER_MAX = 500  # objects that a webhook converts at once
OWN_COMPONENTS = frozenset(("system:kube-controller-manager", "system:kube-scheduler"))


class Resource:
    """One stored resource: its hub kind, the kinds of every served version, and its part of the cache."""

    def __init__(self, hub: Kind, cache: ResourceCache) -> None:
        self.hub, self.cache = hub, cache
        self.kinds: dict[str, Kind] = {}

    def current(self, namespace: str, name: str) -> Entry | None:
        return self.cache.get(namespace if self.hub.namespaced else "", name)


class Registry:
    """Finds kinds and their storage; the operations are in the modules beside this one."""

    def __init__(self, store: Store, cache: Cache, schema: Schema, clock: Clock = REAL) -> None:
        self.store, self.cache, self.schema, self.clock = store, cache, schema, clock
        self.chain = Chain([])
        self.trackings: dict[tuple[int, str], Any] = {}  # of managed fields; see `fields.tracking`
        self.newest = schema.version == DEFAULT_VERSION  # else kinds that are newer than the schema are not served
        self.event_ttl_seconds = 3600.0
        self.event_lease = (0, 0.0)  # the lease that new events share, and until when (monotonic)
        self.disabled_groups: set[str] = set()
        # Custom resources: (group, version, plural) -> Kind.
        self.custom: dict[tuple[str, str, str], Kind] = {}
        self._resources: dict[tuple[str, str], Resource] = {}
        self._types: dict[str, Type | None] = {}
        self.on_kinds: list[Callable[[], None]] = []  # told when the set of served kinds changes
        for kind in CATALOGUE.kinds():
            if kind.storage_prefix and not kind.virtual:
                self._resource_of(kind)

    # --- lookups -------------------------------------------------------------------------------
    def kind(self, group: str, version: str, plural: str) -> Kind | None:
        """The kind that is served there, or None."""
        found = CATALOGUE.resource(group, version, plural)
        return found if found is not None else self.custom.get((group, version, plural))

    def kinds(self) -> Iterable[Kind]:
        """Every served kind with a resource of its own."""
        yield from CATALOGUE.kinds()
        yield from self.custom.values()

    def serves(self, kind: Kind) -> bool:
        """Whether the version being served knows the kind."""
        if self.newest or (kind.group, kind.version, kind.plural) in self.custom:
            return True
        return self.schema.for_kind(kind.gvk) is not None

    def sees_all(self, user: User | None) -> bool:
        """Whether kinds that are newer than the served version are there for that user: for Peavine's own components,
        which are of the newest version whatever is served, and would wait for those kinds for ever."""
        return not self.newest and user is not None and user.name in OWN_COMPONENTS

    def resource(self, kind: Kind) -> Resource:
        """Where objects of a (stored) kind live."""
        return self._resources[kind.hub.group, kind.hub.plural]

    def named(self, group: str, plural: str) -> Resource | None:
        return self._resources.get((group, plural))

    def type_of(self, kind: Kind) -> Type | None:
        """The schema of a kind; None where there is none (then anything goes)."""
        own = kind.hook("schema_type")
        if own is not None:
            return own()
        if not kind.definition:
            return None
        if kind.definition not in self._types:
            self._types[kind.definition] = self.schema.for_kind(kind.gvk)
        return self._types[kind.definition]

    def _resource_of(self, kind: Kind) -> Resource:
        hub = kind.hub
        found = self._resources.get((hub.group, hub.plural))
        if found is None:
            form = Form(hub.group, hub.version, hub.kind, lambda: hub.field_labels)
            cached = self.cache.register(hub.group, hub.plural, form, hub.storage_prefix, hub.namespaced)
            found = self._resources[hub.group, hub.plural] = Resource(hub, cached)
        found.kinds[kind.version if kind.group == hub.group else f"{kind.group}/{kind.version}"] = kind
        return found

    # --- custom resources ----------------------------------------------------------------------
    async def serve_custom(self, kinds: list[Kind]) -> None:
        """Serve the versions of one custom resource (replacing what was served of it); `kinds` share one hub."""
        hub = kinds[0].hub
        converts = hub.hook("upgrade") is not None
        form = Form(hub.group, hub.version, hub.kind, lambda: hub.field_labels, converts=converts)
        known = self._resources.get((hub.group, hub.plural))
        if known is None or not known.cache.form.same(form):
            if known is not None:
                self.cache.drop(hub.group, hub.plural)
            cached = await self.cache.add(hub.group, hub.plural, form, hub.storage_prefix, hub.namespaced)
        else:
            cached = known.cache
        made = Resource(hub, cached)
        for key in [k for k in self.custom if (k[0], k[2]) == (hub.group, hub.plural)]:
            del self.custom[key]
        for kind in kinds:
            made.kinds[kind.version] = kind
            self.custom[kind.group, kind.version, kind.plural] = kind
        self._resources[hub.group, hub.plural] = made
        self._changed()

    def stop_custom(self, group: str, plural: str) -> None:
        """Serve a custom resource no more; its watches end."""
        for key in [k for k in self.custom if (k[0], k[2]) == (group, plural)]:
            del self.custom[key]
        if self._resources.pop((group, plural), None) is not None:
            self.cache.drop(group, plural)
        self._changed()

    def _changed(self) -> None:
        for told in self.on_kinds:
            told()

    # --- objects -------------------------------------------------------------------------------
    async def read(self, kind: Kind, namespace: str, name: str) -> Entry:
        """The newest state of an object. Raises ApiError 404."""
        await self.cache.fresh()
        entry = self.resource(kind).current(namespace, name)
        if entry is None:
            raise errors.not_found(kind.plural, name, kind.group)
        await self.prepare(kind, (entry,))
        return entry

    async def prepare(self, kind: Kind, entries: Iterable[Entry]) -> None:
        """Before many objects are read in another version: one that a webhook converts is asked for all at once."""
        if self.waits(kind):
            form = self.resource(kind).cache.form
            await self.prepare_objects(kind, [form.load(entry) for entry in entries])

    def waits(self, kind: Kind) -> bool:
        """Whether objects of that version may first have to be converted by a webhook."""
        return kind.hub is not kind and kind.hook("prefetch") is not None

    async def prepare_objects(self, kind: Kind, objects: list[Object]) -> None:
        """The same as `prepare` for stored objects that are decoded already."""
        ask: Any = kind.hook("prefetch")
        await ask(objects)

    async def read_object(self, kind: Kind, entry: Entry) -> Object:
        """An entry as a dict in the version of `kind`; the caller's own."""
        return await settled(lambda: self.object(kind, entry))

    async def stored(self, kind: Kind, entry: Entry) -> Object:
        """An entry as a dict in the version that is stored today; the caller's own."""
        form = self.resource(kind).cache.form
        if not entry.stored:
            return form.load(entry)
        upgrade: Any = kind.hub.hook("upgrade")
        return await settled(lambda: upgrade(form.load(entry)))

    async def read_objects(self, kind: Kind, entries: Iterable[Entry]) -> list[Object]:
        """Many entries at once: a webhook is asked for some hundred together."""
        form, found = self.resource(kind).cache.form, iter(entries)
        objects: list[Object] = []
        while some := [form.load(entry) for entry in islice(found, TOGETHER_MAX)]:
            if self.waits(kind):
                await self.prepare_objects(kind, some)
            for obj in some:
                objects.append(await settled(partial(kind.from_storage, obj)))
        return objects

    def object(self, kind: Kind, entry: Entry) -> Object:
        """The same for who takes part in a conversion. Raises Unconverted."""
        return kind.from_storage(self.resource(kind).cache.form.load(entry))

    def stale(self, key: str) -> bool:
        """Whether the stored value is to be written anew although it is the same (encrypted with an old key)."""
        ask = getattr(self.store, "stale", None)
        return ask is not None and ask(key)

    async def settle(self, kind: Kind, namespace: str, name: str, revision: int, value: bytes) -> Entry:
        """After a write: the entry at `revision`, once the cache has it (so that whoever reads next sees it)."""
        await self.cache.reached(revision)
        resource = self.resource(kind)
        entry = resource.current(namespace, name)
        if entry is None or entry.revision != revision:
            entry = resource.cache.form.entry(namespace if kind.namespaced else "", name, revision, value)
        await self.prepare(kind, (entry,))
        return entry
