"""The write that admission looks at, and what every plugin promises."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from peavine.apiserver.authentication.user import User
from peavine.machinery.names import GVK, GVR

CREATE, UPDATE, DELETE, CONNECT = "CREATE", "UPDATE", "DELETE", "CONNECT"


@dataclass(slots=True)
class AdmissionRequest:
    """One write. `obj` is the new object (None on DELETE), `old` the stored one (None on CREATE).

    Mutating plugins change `obj` in place or replace it; the caller stores what is in `obj` after `admit`.
    On CONNECT `obj` is the options object (PodExecOptions, ...). `options` are the CreateOptions, UpdateOptions or
    DeleteOptions as sent.
    """

    operation: str
    gvk: GVK
    gvr: GVR
    subresource: str = ""
    namespace: str = ""
    name: str = ""
    obj: dict[str, Any] | None = None
    old: dict[str, Any] | None = None
    options: dict[str, Any] = field(default_factory=dict)
    user: User = field(default_factory=lambda: User(""))
    dry_run: bool = False
    warnings: list[str] = field(default_factory=list)
    annotations: dict[str, str] = field(default_factory=dict)  # for the audit log
    # What a plugin hands from admit to validate, or to `undo`; keys belong to the plugin.
    notes: dict[str, Any] = field(default_factory=dict)

    def is_(self, resource: str, group: str = "", subresource: str = "") -> bool:
        return self.gvr.resource == resource and self.gvr.group == group and self.subresource == subresource

    @property
    def object_name(self) -> str:
        """The name for messages: the object's once it has one, else the request's."""
        return self.name or ((self.obj or {}).get("metadata") or {}).get("name", "")


class Plugin:
    """An admission plugin. `name` is what --enable-admission-plugins knows it by.

    `operations` and `resources` (None: all) are looked at first, so that a plugin costs nothing where it has no say.
    """

    name = ""
    operations: frozenset[str] = frozenset((CREATE, UPDATE))
    resources: frozenset[tuple[str, str]] | None = None  # (group, resource)

    def handles(self, req: AdmissionRequest) -> bool:
        """By operation, group and resource alone: the answer is kept for all requests that have these in common."""
        return req.operation in self.operations and (
            self.resources is None or (req.gvr.group, req.gvr.resource) in self.resources
        )

    async def admit(self, req: AdmissionRequest) -> None:
        """Change the object, or refuse it with `ApiError`."""

    async def validate(self, req: AdmissionRequest) -> None:
        """Refuse the object with `ApiError`; never changes it."""

    async def undo(self, req: AdmissionRequest) -> None:
        """The write failed after `validate`: give back what it had reserved."""
