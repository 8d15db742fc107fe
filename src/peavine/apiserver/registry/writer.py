"""`Writer`: the registry for code inside the process, acting as `system:apiserver`."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

from peavine.api.kind import Kind
from peavine.apiserver.authentication.user import SYSTEM_APISERVER
from peavine.apiserver.cache import Entry
from peavine.apiserver.registry.create import create
from peavine.apiserver.registry.delete import delete
from peavine.apiserver.registry.registry import Registry
from peavine.apiserver.registry.request import Object, WriteRequest
from peavine.apiserver.registry.update import modify, update
from peavine.machinery import errors
from peavine.store.interface import StoreError

MANAGER = "kube-apiserver"


class RegistryWriter:
    """Past authorization and admission; defaults, validation and watch events as for everybody."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry

    def _request(
        self, group: str, version: str, resource: str, namespace: str | None, name: str, subresource: str = ""
    ) -> WriteRequest:
        kind = self._registry.kind(group, version, resource)
        if kind is None:
            raise errors.not_found(resource, name, group)
        return WriteRequest(kind, namespace or "", name, SYSTEM_APISERVER, subresource, manager=MANAGER, admit=False)

    async def _object(self, kind: Kind, result: Entry | Object) -> Object:
        return await self._registry.read_object(kind, result) if isinstance(result, Entry) else result

    async def create(self, group: str, version: str, resource: str, namespace: str | None, obj: Object) -> Object:
        request = self._request(group, version, resource, namespace, "")
        obj = {**obj, "apiVersion": request.kind.api_version, "kind": request.kind.kind}
        obj["metadata"] = dict(obj.get("metadata") or {})
        request.kind.default(obj)
        with _as_api_errors():
            return await self._object(request.kind, await create(self._registry, request, obj))

    async def update(
        self, group: str, version: str, resource: str, namespace: str | None, obj: Object, subresource: str = ""
    ) -> Object:
        name = obj["metadata"]["name"]
        request = self._request(group, version, resource, namespace, name, subresource)
        obj = {**obj, "metadata": dict(obj["metadata"])}
        request.kind.default(obj)
        with _as_api_errors():
            result, _ = await update(self._registry, request, obj)
        return await self._object(request.kind, result)

    async def patch(
        self,
        group: str,
        version: str,
        resource: str,
        namespace: str | None,
        name: str,
        change: Callable[[Object], Object | None],
        subresource: str = "",
    ) -> Object:
        request = self._request(group, version, resource, namespace, name, subresource)

        def changed(live: Object | None) -> Object:
            assert live is not None
            new = change(live)
            if new is None:
                return live
            request.kind.default(new)
            return new

        with _as_api_errors():
            result, _ = await modify(self._registry, request, changed)
        return await self._object(request.kind, result)

    async def delete(
        self, group: str, version: str, resource: str, namespace: str | None, name: str, options: Object | None = None
    ) -> Object:
        request = self._request(group, version, resource, namespace, name)
        request.options = options or {}
        with _as_api_errors():
            return (await delete(self._registry, request))[0]


@contextlib.contextmanager
def _as_api_errors() -> Iterator[None]:
    """Failures of the store as the API would tell them: who writes inside the process knows only those."""
    try:
        yield
    except StoreError as error:
        raise errors.unavailable(f"the store is not available: {error}") from error
