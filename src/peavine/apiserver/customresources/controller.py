"""The loop over CustomResourceDefinitions: names, conditions, serving, and the cleaning up after a deleted one."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

from peavine.api.apiextensions.customresourcedefinition import FINALIZER
from peavine.apiserver.customresources import names
from peavine.apiserver.customresources.versions import kinds_of
from peavine.apiserver.lister import Lister, Writer
from peavine.apiserver.registry import Registry
from peavine.base.backoff import Backoff
from peavine.base.clock import REAL, Clock
from peavine.base.lifetimes import Scope
from peavine.machinery.errors import ApiError
from peavine.machinery.meta import now
from peavine.store.interface import Conflict, StoreError

log = logging.getLogger(__name__)

Object = dict[str, Any]
GROUP, VERSION, PLURAL = "apiextensions.k8s.io", "v1", "customresourcedefinitions"
_PAGE_OBJECTS = 500
conversion_seconds = 30.0


class CustomResources:
    """Serves what definitions define. `start` returns once every established definition is served."""

    def __init__(self, registry: Registry, lister: Lister, writer: Writer, clock: Clock = REAL) -> None:
        self._registry, self._lister, self._writer, self._clock = registry, lister, writer, clock
        self._pending: dict[str, None] = {}
        self._wake = asyncio.Event()
        # name -> (what it was built from, group, plural)
        self._served: dict[str, tuple[Any, str, str]] = {}

    async def start(self, tasks: Scope) -> None:
        self._lister.on_change(GROUP, PLURAL, self._changed)
        for definition in self._lister.list(GROUP, PLURAL):
            if names.is_true(definition, "Established"):
                await self._serve(definition)
        tasks.start(self._run(), name="custom-resources")

    def _changed(self, event: str, obj: Object, old: Object | None) -> None:
        self._enqueue(obj["metadata"]["name"])
        if event == "DELETED":  # its names are free again
            for other in self._lister.list(GROUP, PLURAL):
                if not names.is_true(other, "NamesAccepted"):
                    self._enqueue(other["metadata"]["name"])

    def _enqueue(self, name: str) -> None:
        self._pending[name] = None
        self._wake.set()

    async def _run(self) -> None:
        backoff = Backoff(first=0.1, most=5.0)
        while True:
            await self._wake.wait()
            if not self._pending:
                self._wake.clear()
                continue
            name = next(iter(self._pending))
            del self._pending[name]
            try:
                await self._reconcile(name)
                backoff.forget()
            except (ApiError, StoreError) as error:
                log.warning("CustomResourceDefinition %s: %s", name, error)
                self._enqueue(name)
                await self._clock.sleep(backoff.next())
            except Exception:
                # One definition that trips a bug must not stop the others.
                log.exception("CustomResourceDefinition %s", name)

    async def _reconcile(self, name: str) -> None:
        definition = self._lister.get(GROUP, PLURAL, None, name)
        if definition is None:
            await self._forget(name)
            return
        if definition["metadata"].get("deletionTimestamp"):
            await self._finalize(definition)
            return
        definition = await self._write_status(definition)
        if definition is not None and names.is_true(definition, "Established"):
            await self._serve(definition)

    async def _write_status(self, definition: Object) -> Object | None:
        own = definition["metadata"]["name"]
        others = [other for other in self._lister.list(GROUP, PLURAL) if other["metadata"]["name"] != own]

        def change(live: Object) -> Object | None:
            accepted, named = names.accepted_names(live, others)
            found = [named, names.established(live, named), names.approval(live)]
            conditions = names.with_conditions(live, [c for c in found if c], now(self._clock.time()))
            status = dict(live.get("status") or {})
            before = dict(status)
            status["conditions"], status["acceptedNames"] = conditions, accepted
            return None if status == before else {**live, "status": status}

        if change(definition) is None:
            return definition
        try:
            name = definition["metadata"]["name"]
            return await self._writer.patch(GROUP, VERSION, PLURAL, None, name, change, subresource="status")
        except ApiError as error:
            if error.reason == "NotFound":
                return None
            raise

    # --- serving

    async def _serve(self, definition: Object) -> None:
        meta, spec = definition["metadata"], definition["spec"]
        key = (meta["uid"], meta.get("generation"), repr((definition.get("status") or {}).get("acceptedNames")))
        known = self._served.get(meta["name"])
        if known is not None and known[0] == key:
            return
        group, plural = spec["group"], spec["names"]["plural"]
        kinds = kinds_of(definition, self._ask)
        self._served[meta["name"]] = (key, group, plural)
        if kinds:
            await self._registry.serve_custom(kinds)
        else:
            self._registry.stop_custom(group, plural)

    async def _ask(self, client: Object, review: Object) -> Object:
        """A conversion webhook's answer. Raises ValueError."""
        from peavine.apiserver.webhooks.client import WebhookError, ask

        try:
            return await ask(self._lister, client, review, conversion_seconds)
        except WebhookError as error:
            raise ValueError(str(error)) from error

    async def _forget(self, name: str) -> None:
        """The definition is gone: so is its serving, and whatever of its objects a forced removal left."""
        known = self._served.pop(name, None)
        if known is not None:
            _, group, plural = known
            await self._delete_stored(group, plural)
            self._registry.stop_custom(group, plural)

    # --- deletion

    async def _finalize(self, definition: Object) -> None:
        """Delete all objects, with their finalizers honoured, and then let the definition go."""
        meta, spec = definition["metadata"], definition["spec"]
        if FINALIZER not in (meta.get("finalizers") or ()):
            return
        group, plural = spec["group"], spec["names"]["plural"]
        left = await self._delete_objects(group, plural) if meta["name"] in self._served else 0
        reason, message = ("InstanceDeletionInProgress", "CustomResource deletion is in progress")
        if not left:
            reason, message = ("InstanceDeletionCompleted", "removed all instances")
        await self._terminating(meta["name"], "True" if left else "False", reason, message)
        if left:
            # Somebody's finalizers: they tell nobody here when they are done.
            self._pending.pop(meta["name"], None)
            asyncio.get_running_loop().call_later(1.0, self._enqueue, meta["name"])
            return

        def without(live: Object) -> Object:
            kept = [f for f in live["metadata"].get("finalizers") or () if f != FINALIZER]
            return {**live, "metadata": {**live["metadata"], "finalizers": kept}}

        try:
            await self._writer.patch(GROUP, VERSION, PLURAL, None, meta["name"], without)
        except ApiError as error:
            if error.reason != "NotFound":
                raise

    async def _terminating(self, name: str, status: str, reason: str, message: str) -> None:
        wanted = names.condition("Terminating", status, reason, message)

        def change(live: Object) -> Object | None:
            conditions = names.with_conditions(live, [wanted], now(self._clock.time()))
            if conditions == (live.get("status") or {}).get("conditions"):
                return None
            return {**live, "status": {**(live.get("status") or {}), "conditions": conditions}}

        try:
            await self._writer.patch(GROUP, VERSION, PLURAL, None, name, change, subresource="status")
        except ApiError as error:
            if error.reason != "NotFound":
                raise

    async def _delete_objects(self, group: str, plural: str) -> int:
        """Delete every object; how many are still there, waiting for their finalizers."""
        served = next((key for key in self._registry.custom if (key[0], key[2]) == (group, plural)), None)
        if served is None:
            await self._delete_stored(group, plural)
            return 0
        for obj in self._lister.list(group, plural):
            meta = obj["metadata"]
            if meta.get("deletionTimestamp"):
                continue
            try:
                await self._writer.delete(group, served[1], plural, meta.get("namespace"), meta["name"])
            except ApiError as error:
                if error.reason != "NotFound":
                    raise
        return len(self._lister.list(group, plural))

    async def _delete_stored(self, group: str, plural: str) -> None:
        store, prefix = self._registry.store, f"/registry/{group}/{plural}/"
        while True:
            page = await store.range(prefix, limit=_PAGE_OBJECTS)
            for item in page.items:
                try:
                    await store.delete(item.key, expect=item.mod_revision)
                except Conflict:
                    continue
            if not page.more:
                return
