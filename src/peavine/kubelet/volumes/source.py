"""The shape of a volume source, and what one may ask of the kubelet."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from peavine.base.clock import REAL, Clock
from peavine.kubelet.paths import Paths
from peavine.kubelet.pods import downward

Object = dict[str, Any]


class VolumeError(Exception):
    """The volume cannot be set up now; the message goes into a FailedMount event, and it is tried again."""


@dataclass
class Ready:
    """A volume that is there: `path` on the host. A block device has `device` set instead of a directory."""

    path: Path
    readonly: bool = False
    device: bool = False
    # A GID that processes need to use it (from a PersistentVolume's annotation).
    group: int | None = None
    # An image volume has no path: the runtime mounts the image.
    image: str = ""


@dataclass
class VolumeHost:
    """What sources need: objects of the API, tokens, and the facts of the downward API."""

    paths: Paths
    # (kind, namespace, name) -> object; raises environment.ObjectMissing
    lookup: Callable[[str, str, str], Awaitable[Object]]
    # (namespace, service account, pod, audience, seconds) -> (token, expiry in Unix seconds)
    token: Callable[[str, str, Object, str, int], Awaitable[tuple[str, float]]]
    facts: Callable[[Object], downward.Facts]
    node_name: str = ""
    clock: Clock = REAL
    get: Callable[[str, str, str | None, str], Awaitable[Object]] | None = None
    # (apiVersion, plural, namespace, object) -> the object as it was made
    create: Callable[[str, str, str, Object], Awaitable[Object]] | None = None
    list: Callable[[str, str], Awaitable[list[Object]]] | None = None
    ensure_image: Callable[[Object, str, str], Awaitable[str]] | None = None
    drivers: dict[str, Any] = field(default_factory=dict)


class Source(Protocol):
    plugin: str

    async def set_up(self, host: VolumeHost, pod: Object, volume: Object, where: Path) -> Ready:
        """Make the volume so, or make it current. Raises VolumeError, ConfigError or OSError."""

    async def tear_down(self, host: VolumeHost, where: Path) -> None:
        """Undo `set_up`; the directory itself is removed by the caller."""
