"""Informers to the zone: every change of a Service, a slice or a namespace is in the next answer."""

from __future__ import annotations

from typing import Any

from peavine.client.informer import InformerFactory
from peavine.dns.server import Server
from peavine.dns.zone import view_service, view_slice

Object = dict[str, Any]


class Feed:
    """Register before the informers run; `synced` then waits for all three."""

    def __init__(self, informers: InformerFactory, server: Server) -> None:
        self._server, self._zone = server, server.zone
        services = informers.informer("v1", "services", transform=lambda obj: _slim(obj, view_service(obj)))
        services.add_handler(self._service, lambda _, new: self._service(new), self._service_gone)
        slices = informers.informer(
            "discovery.k8s.io/v1", "endpointslices", transform=lambda obj: _slim(obj, view_slice(obj))
        )
        slices.add_handler(self._slice, lambda _, new: self._slice(new), self._slice_gone)
        namespaces = informers.informer("v1", "namespaces", transform=lambda obj: _slim(obj, None))
        namespaces.add_handler(self._namespace, None, self._namespace_gone)
        self._informers = (services, slices, namespaces)

    async def synced(self) -> None:
        for informer in self._informers:
            await informer.synced.wait()

    def _service(self, obj: Object) -> None:
        self._zone.set_service(_key(obj), obj["view"])
        self._server.changed()

    def _service_gone(self, obj: Object) -> None:
        self._zone.set_service(_key(obj), None)
        self._server.changed()

    def _slice(self, obj: Object) -> None:
        self._zone.set_slice(_key(obj), obj["view"])
        self._server.changed()

    def _slice_gone(self, obj: Object) -> None:
        self._zone.set_slice(_key(obj), None)
        self._server.changed()

    def _namespace(self, obj: Object) -> None:
        self._zone.set_namespace(obj["metadata"]["name"], True)
        self._server.changed()

    def _namespace_gone(self, obj: Object) -> None:
        self._zone.set_namespace(obj["metadata"]["name"], False)
        self._server.changed()


def _key(obj: Object) -> tuple[str, str]:
    return obj["metadata"]["namespace"], obj["metadata"]["name"]


def _slim(obj: Object, view: Any) -> Object:
    meta = obj["metadata"]
    return {
        "metadata": {
            "name": meta["name"],
            "namespace": meta.get("namespace", ""),
            "uid": meta.get("uid"),
            "resourceVersion": meta.get("resourceVersion"),
        },
        "view": view,
    }
