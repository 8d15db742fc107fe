"""The API server's view of its own objects, for code inside the process: authorizers, admission, allocators.

`Lister` answers from the watch cache, without awaiting and without copying; `Writer` goes through the registry
(defaults, validation, watch events), acting as `system:apiserver`, past authorization and admission.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

Object = dict[str, Any]
# (event type "ADDED" | "MODIFIED" | "DELETED", the object, the object before or None)
ChangeCallback = Callable[[str, Object, Object | None], None]


class Lister(Protocol):
    """Objects in storage form (the storage version), as of some recent revision.

    The dicts are shared: copy before changing. A write that this process has acknowledged is always visible.
    """

    def get(self, group: str, resource: str, namespace: str | None, name: str) -> Object | None:
        """One object, or None."""

    def labels(self, group: str, resource: str, namespace: str | None, name: str) -> Mapping[str, str]:
        """The labels of one object, without decoding it; none where there is no such object."""

    def list(self, group: str, resource: str, namespace: str | None = None) -> list[Object]:
        """All objects of a resource, of one namespace or of all, ordered by key."""

    def on_change(self, group: str, resource: str, callback: ChangeCallback) -> None:
        """Call back for every change from now on, synchronously and in revision order.

        Objects that exist already are reported first, as ADDED, at the latest before the server is ready.
        A callback must be quick and must not raise: an error is logged and the others go on.
        """


class Writer(Protocol):
    """Writes inside the process. Every method returns the object as stored, and raises `ApiError` as the API would."""

    async def create(self, group: str, version: str, resource: str, namespace: str | None, obj: Object) -> Object: ...

    async def update(
        self, group: str, version: str, resource: str, namespace: str | None, obj: Object, subresource: str = ""
    ) -> Object:
        """Replace; `metadata.resourceVersion`, where set, must be current."""
        ...

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
        """Read, let `change` answer the new object (None: leave it), write; on conflict again, so it may run twice."""
        ...

    async def delete(
        self, group: str, version: str, resource: str, namespace: str | None, name: str, options: Object | None = None
    ) -> Object: ...
