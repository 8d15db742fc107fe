"""What is in use is not removed: a finalizer from the object's first day until it is deleted and nobody uses it."""

from __future__ import annotations

from typing import ClassVar

from peavine.controllers.controller import Context, Controller, Key, Object


class ProtectionController(Controller):
    """Subclasses name the resource and its finalizer, watch whatever uses it, and say whether anything does."""

    api_version: ClassVar[str]
    plural: ClassVar[str]
    finalizer: ClassVar[str]

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self.protected = self.watch(self.api_version, self.plural)

    async def in_use(self, obj: Object) -> bool:
        raise NotImplementedError

    async def reconcile(self, key: Key) -> float | None:
        obj = self.protected.get(*key)
        if obj is None:
            return None
        finalizers = obj["metadata"].get("finalizers") or []
        held = self.finalizer in finalizers
        if "deletionTimestamp" not in obj["metadata"]:
            wanted = finalizers if held else [*finalizers, self.finalizer]
        elif held and not await self.in_use(obj):
            wanted = [f for f in finalizers if f != self.finalizer]
        else:
            return None
        if wanted != finalizers:
            changed = {**obj, "metadata": {**obj["metadata"], "finalizers": wanted}}
            await self.client.resource(self.api_version, self.plural).update(changed)
        return None
