"""ResourceQuota: nothing is made that a namespace's quotas have no room for, however many writers there are.

Room is taken in the quota's status, by compare-and-swap, before the object is written, and given back where the write
fails; the quota controller corrects what a crash in between leaves. Requests that arrive together share one write.
"""

from __future__ import annotations

import asyncio
import copy
from dataclasses import dataclass, field
from typing import Any

from peavine.api.core.quota_usage import Usage, counted, matches, unspecified, usage_of
from peavine.apiserver.admission.chain import PluginContext
from peavine.apiserver.admission.refusals import forbidden
from peavine.apiserver.admission.request import CREATE, UPDATE, AdmissionRequest, Plugin
from peavine.machinery.errors import ApiError
from peavine.machinery.quantity import ZERO, Quantity, parse_quantity

_UPDATED = frozenset(
    (("", "pods"), ("", "services"), ("", "persistentvolumeclaims"), ("resource.k8s.io", "resourceclaims"))
)
_NOTE = "ResourceQuota"


@dataclass(eq=False)
class _Ask:
    """One request's wish: how much more it needs of each quota."""

    req: AdmissionRequest
    deltas: dict[str, Usage]  # quota name -> change
    error: ApiError | None = None
    settled: bool = False
    taken: list[str] = field(default_factory=list)


class ResourceQuota(Plugin):
    name = "ResourceQuota"
    operations = frozenset((CREATE, UPDATE))

    def __init__(self, context: PluginContext) -> None:
        self.lister, self.writer = context.lister, context.writer
        # What may be used only where a quota allows it: `limitedResources` of the plugin's configuration.
        self.limited = (context.config.get(self.name) or {}).get("limitedResources") or []
        self._waiting: dict[str, list[_Ask]] = {}
        self._locks: dict[str, asyncio.Lock] = {}

    def handles(self, req: AdmissionRequest) -> bool:
        return req.operation == CREATE or (req.operation == UPDATE and (req.gvr.group, req.gvr.resource) in _UPDATED)

    async def validate(self, req: AdmissionRequest) -> None:
        if not req.namespace or req.obj is None or req.subresource not in ("", "resize"):
            return
        quotas = self.lister.list("", "resourcequotas", req.namespace)
        if req.operation == UPDATE and req.obj["metadata"].get("deletionTimestamp"):
            return
        if self.limited:
            self._check_limited(req, quotas)
        if not quotas:
            return
        ask = self._wish(req, quotas)
        if not ask.deltas:
            return
        if req.dry_run:
            for name in ask.deltas:
                live = self.lister.get("", "resourcequotas", req.namespace, name)
                if live is not None and (why := _exceeds(live, ask.deltas[name])):
                    raise forbidden(req, why)
            return
        await self._take(req.namespace, ask)
        if ask.error is not None:
            raise ask.error
        req.notes[_NOTE] = ask

    async def undo(self, req: AdmissionRequest) -> None:
        ask = req.notes.pop(_NOTE, None)
        if ask is not None:
            for name in ask.taken:
                await self._change(req.namespace, name, lambda used, ask=ask, name=name: _less(used, ask.deltas[name]))

    def _wish(self, req: AdmissionRequest, quotas: list[dict[str, Any]]) -> _Ask:
        assert req.obj is not None
        group, resource = req.gvr.group, req.gvr.resource
        new = usage_of(group, resource, req.obj)
        old = usage_of(group, resource, req.old) if req.old is not None else {}
        deltas: dict[str, Usage] = {}
        for quota in quotas:
            hard = (quota.get("status") or {}).get("hard") or quota["spec"].get("hard") or {}
            name = quota["metadata"]["name"]
            applies = matches(quota, group, resource, req.obj)
            now = counted(hard, new) if applies else {}
            before = counted(hard, old) if req.old is not None and matches(quota, group, resource, req.old) else {}
            delta = {key: now.get(key, ZERO) - before.get(key, ZERO) for key in now.keys() | before.keys()}
            delta = {key: change for key, change in delta.items() if change}
            if applies and (group, resource) == ("", "pods") and (missing := unspecified(hard, req.obj)):
                raise forbidden(req, f"failed quota: {name}: must specify {missing}")
            if any(change > ZERO for change in delta.values()):
                deltas[name] = delta
        return _Ask(req, deltas)

    def _check_limited(self, req: AdmissionRequest, quotas: list[dict[str, Any]]) -> None:
        """Refuse what is limited by default and covered by no quota."""
        assert req.obj is not None
        group, resource = req.gvr.group, req.gvr.resource
        usage = usage_of(group, resource, req.obj)
        before = usage_of(group, resource, req.old) if req.old is not None else {}
        grown = {name for name, amount in usage.items() if amount > before.get(name, ZERO)}
        names: set[str] = set()
        scopes = []
        for entry in self.limited:
            if (entry.get("apiGroup", ""), entry.get("resource")) != (group, resource):
                continue
            names |= {name for name in grown if any(part in name for part in entry.get("matchContains") or ())}
            for requirement in entry.get("matchScopes") or () if req.operation == CREATE else ():
                if matches({"spec": {"scopeSelector": {"matchExpressions": [requirement]}}}, group, resource, req.obj):
                    scopes.append(requirement)
        covering = [quota for quota in quotas if matches(quota, group, resource, req.obj)]
        for quota in covering:
            names -= (quota.get("status") or {}).get("hard", {}).keys()
        if names:
            raise forbidden(req, f"insufficient quota to consume: {','.join(sorted(names))}")
        for requirement in scopes:
            if not any(requirement["scopeName"] in _scope_names(quota) for quota in covering):
                shown = (
                    f"{{{requirement['scopeName']} {requirement.get('operator')} {requirement.get('values') or []}}}"
                )
                raise forbidden(req, f"insufficient quota to match these scopes: [{shown}]")

    async def _take(self, namespace: str, ask: _Ask) -> None:
        """Settle this wish, and with it all that wait in the namespace: one write a quota for all of them."""
        self._waiting.setdefault(namespace, []).append(ask)
        async with self._locks.setdefault(namespace, asyncio.Lock()):
            if ask.settled:
                return
            batch = self._waiting.pop(namespace, [])
            try:
                await self._settle(namespace, batch)
            except ApiError as error:
                # The quota could not be written: nobody may go past it.
                for one in batch:
                    one.error = one.error or error
            finally:
                for one in batch:
                    one.settled = True

    async def _settle(self, namespace: str, batch: list[_Ask]) -> None:
        for name in sorted({name for ask in batch for name in ask.deltas}):
            concerned = [ask for ask in batch if name in ask.deltas and ask.error is None]
            refused: dict[int, str] = {}

            def change(
                live: dict[str, Any],
                name: str = name,
                concerned: list[_Ask] = concerned,
                refused: dict[int, str] = refused,
            ) -> dict[str, Any] | None:
                refused.clear()
                new = copy.deepcopy(live)
                for position, ask in enumerate(concerned):
                    why = _exceeds(new, ask.deltas[name])
                    if why:
                        refused[position] = why
                    else:
                        new["status"]["used"] = _more(new["status"]["used"], ask.deltas[name])
                return new if len(refused) < len(concerned) else None

            try:
                await self.writer.patch("", "v1", "resourcequotas", namespace, name, change, "status")
            except ApiError as error:
                if error.reason == "NotFound":
                    continue  # the quota has just been deleted: it limits nothing
                raise
            for position, ask in enumerate(concerned):
                if position in refused:
                    ask.error = forbidden(ask.req, refused[position])
                else:
                    ask.taken.append(name)
        for ask in batch:
            if ask.error is not None:
                for name in ask.taken:
                    await self._change(namespace, name, lambda used, ask=ask, name=name: _less(used, ask.deltas[name]))
                ask.taken = []

    async def _change(self, namespace: str, name: str, edit: Any) -> None:
        def change(live: dict[str, Any]) -> dict[str, Any]:
            new = copy.deepcopy(live)
            new["status"]["used"] = edit(new["status"].get("used") or {})
            return new

        try:
            await self.writer.patch("", "v1", "resourcequotas", namespace, name, change, "status")
        except ApiError as error:
            if error.reason != "NotFound":
                raise


def _scope_names(quota: dict[str, Any]) -> set[str]:
    spec = quota["spec"]
    expressions = (spec.get("scopeSelector") or {}).get("matchExpressions") or ()
    return {*(spec.get("scopes") or ()), *(expression["scopeName"] for expression in expressions)}


def _exceeds(quota: dict[str, Any], delta: Usage) -> str:
    """Why this much more does not fit; "" where it does."""
    status = quota.get("status") or {}
    hard, used = status.get("hard") or {}, status.get("used") or {}
    name = quota["metadata"]["name"]
    unknown = sorted(key for key in delta if key not in used or key not in hard)
    if unknown:
        return f"status unknown for quota: {name}, resources: {','.join(unknown)}"
    over = sorted(
        key
        for key, change in delta.items()
        if change > ZERO and parse_quantity(used[key]) + change > parse_quantity(hard[key])
    )
    if not over:
        return ""
    requested = {key: delta[key] for key in over}
    return (
        f"exceeded quota: {name}, requested: {_shown(requested)}, "
        f"used: {_shown({key: used[key] for key in over})}, limited: {_shown({key: hard[key] for key in over})}"
    )


def _shown(amounts: dict[str, Any]) -> str:
    return ",".join(f"{key}={parse_quantity(value)}" for key, value in sorted(amounts.items()))


def _more(used: dict[str, str], delta: Usage) -> dict[str, str]:
    return {**used, **{key: str(parse_quantity(used[key]) + change) for key, change in delta.items()}}


def _less(used: dict[str, str], delta: Usage) -> dict[str, str]:
    def without(key: str, change: Quantity) -> str:
        left = parse_quantity(used.get(key, "0")) - change
        return str(left if left > ZERO else ZERO)

    return {**used, **{key: without(key, change) for key, change in delta.items() if key in used}}
