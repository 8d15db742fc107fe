"""The names an object goes by: group, version, kind, resource; and the storage key they make."""

from __future__ import annotations

from typing import NamedTuple


def group_version(group: str, version: str) -> str:
    """The `apiVersion` string: `v1` for the core group, else `group/version`."""
    return f"{group}/{version}" if group else version


def split_group_version(api_version: str) -> tuple[str, str]:
    """`apps/v1` -> `("apps", "v1")`, `v1` -> `("", "v1")`. More than one slash is the caller's to refuse."""
    group, _, version = api_version.rpartition("/")
    return group, version


class GVK(NamedTuple):
    """Group, version and kind: what an object is."""

    group: str
    version: str
    kind: str

    @property
    def api_version(self) -> str:
        return group_version(self.group, self.version)


class GVR(NamedTuple):
    """Group, version and resource (plural): where an object is served."""

    group: str
    version: str
    resource: str

    @property
    def api_version(self) -> str:
        return group_version(self.group, self.version)

    @property
    def group_resource(self) -> str:
        """`deployments.apps`; `pods` for the core group: the form of error messages."""
        return f"{self.resource}.{self.group}" if self.group else self.resource

    def path(self, namespace: str | None = None, name: str | None = None, subresource: str | None = None) -> str:
        """The REST path below the server's root; parts are not URL-quoted."""
        parts = ["/apis", self.group, self.version] if self.group else ["/api", self.version]
        if namespace:
            parts += ["namespaces", namespace]
        parts.append(self.resource)
        parts += [part for part in (name, subresource) if part]
        return "/".join(parts)
