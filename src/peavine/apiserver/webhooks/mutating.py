"""The plugin MutatingAdmissionWebhook: webhooks one after another, each sees what those before it did."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from typing import Any

import orjson

from peavine.apiserver.admission.chain import PluginContext
from peavine.apiserver.admission.request import CONNECT, CREATE, DELETE, UPDATE, AdmissionRequest, Plugin
from peavine.apiserver.registry.conversions import settled
from peavine.apiserver.webhooks.conditions import Conditions
from peavine.apiserver.webhooks.matching import Match, converted
from peavine.apiserver.webhooks.review import Configurations, Webhook, call, patch_of
from peavine.machinery.decode import decode
from peavine.machinery.errors import ApiError, internal
from peavine.machinery.patches import apply_json_patch

log = logging.getLogger(__name__)

Object = dict[str, Any]
_NOTE = "MutatingAdmissionWebhook"


class MutatingAdmissionWebhook(Plugin):
    name = "MutatingAdmissionWebhook"
    operations = frozenset((CREATE, UPDATE, DELETE, CONNECT))

    def __init__(self, context: PluginContext) -> None:
        self._lister, self._registry = context.lister, context.registry
        self._configurations = Configurations(context.lister, "mutatingwebhookconfigurations")
        self._conditions = Conditions(context)

    async def admit(self, req: AdmissionRequest) -> None:
        hooks = self._configurations.concerning(req)
        if not hooks:
            return
        state: Object = req.notes.setdefault(_NOTE, {"asked": [], "again": set(), "left": b""})
        again = bool(req.notes.get("reinvoking"))
        if again and state["left"] != _bytes(req.obj):
            state["again"].update(state["asked"])  # another plugin changed what webhooks had seen
        for place, hook in enumerate(hooks):
            if again and hook.uid not in state["again"]:
                continue
            found = await settled(partial(hook.match, req, self._lister, self._registry))
            if found is None or not await self._conditions.hold(hook, req, found):
                continue
            changed = await self._ask(hook, req, found)
            note = {"configuration": hook.configuration, "webhook": hook.name, "mutated": changed}
            key = f"mutation.webhook.admission.k8s.io/round_{int(again)}_index_{place}"
            req.annotations[key] = orjson.dumps(note).decode()
            if changed:
                # Those asked before have not seen this: they, and the plugins, are asked once more.
                state["again"].update(state["asked"])
                if not again:
                    req.notes["reinvoke"] = True
            if hook.reinvocable and hook.uid not in state["asked"]:
                state["asked"].append(hook.uid)
        state["left"] = _bytes(req.obj)

    async def _ask(self, hook: Webhook, req: AdmissionRequest, found: Match) -> bool:
        """Whether the webhook changed the object."""
        response = await call(hook, req, found, self._lister)
        if response is None or not response.get("patch"):
            return False
        if found.obj is None:
            return False
        try:
            patched = apply_json_patch(found.obj, patch_of(response))
        except (ValueError, ApiError) as error:
            if hook.ignores_failure:
                log.warning("webhook %s sent a patch that does not apply, failing open: %s", hook.name, error)
                return False
            raise internal(f"failed calling webhook {orjson.dumps(hook.name).decode()}: {error}") from error
        new = await settled(lambda: _whole(self._registry, req, found, patched))
        if new == req.obj:
            return False
        req.obj = new
        return True

    @staticmethod
    def whole(registry: Any) -> Callable[[AdmissionRequest, Match, Object], Object]:
        """What makes a patched object whole again: decoded and defaulted, in the version of the request."""
        return lambda req, found, patched: _whole(registry, req, found, patched)


def _whole(registry: Any, req: AdmissionRequest, found: Match, patched: Object) -> Object:
    if registry is None:
        return patched
    own = registry.kind(req.gvr.group, req.gvr.version, req.gvr.resource)
    if own is None:
        return patched
    if req.gvk != own.gvk:
        type = registry.schema.for_kind(req.gvk)
        return decode(patched, type, "Ignore")[0] if type is not None else patched
    kind = registry.kind(found.gvr.group, found.gvr.version, found.gvr.resource)
    decoder, type = kind.hook("decode"), registry.type_of(kind)
    if decoder is not None:
        patched, _ = decoder(patched, "Ignore", [])
    elif type is not None:
        patched, _ = decode(patched, type, "Ignore")
    kind.default(patched)
    if kind is not own:
        patched = converted(patched, kind, own) or patched
        own.default(patched)
    return patched


def _bytes(obj: Object | None) -> bytes:
    return orjson.dumps(obj)
