"""The plugin registry: a driver puts its socket into `plugins_registry`, the kubelet asks who it is and takes it in."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

from peavine.base.lifetimes import scope
from peavine.kubelet.rpc import Channel, Codec, RpcError
from peavine.linux import inotify

log = logging.getLogger(__name__)

CODEC = """
InfoRequest:
PluginInfo: type=1:string name=2:string endpoint=3:string supported_versions=4:string*
RegistrationStatus: plugin_registered=1:bool error=2:string
RegistrationStatusResponse:
"""
RETRY_SECONDS = 1.0
CALL_SECONDS = 10.0

# (name, endpoint, supported versions) -> nothing; raises an error whose text is told to the plugin
Register = Callable[[str, str, Sequence[str]], Awaitable[None]]
Unregister = Callable[[str], None]


class PluginRegistry:
    """`kinds`: plugin type (`CSIPlugin`, `DevicePlugin`, `DRAPlugin`) -> (register, unregister)."""

    def __init__(self, directory: Path, kinds: dict[str, tuple[Register, Unregister]]) -> None:
        self._directory, self._kinds = directory, kinds
        # socket -> (type, name)
        self._known: dict[Path, tuple[str, str]] = {}

    async def run(self) -> None:
        """Ends by cancellation."""
        nudge = asyncio.Event()

        async def watch() -> None:
            async for _ in inotify.changes(self._directory):
                nudge.set()

        async with scope() as tasks:
            tasks.start(watch(), name="plugin sockets")
            while True:
                missed = await self._look()
                nudge.clear()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(RETRY_SECONDS if missed else None):
                        await nudge.wait()

    async def _look(self) -> bool:
        """Take in new sockets and let go of those that are gone; True if one has to be tried again."""
        found = {path for path in self._directory.rglob("*.sock") if path.is_socket()}
        for path in self._known.keys() - found:
            kind, name = self._known.pop(path)
            self._kinds[kind][1](name)
        missed = False
        for path in found - self._known.keys():
            try:
                self._known[path] = await self._register(path)
            except RpcError as error:
                log.info("plugin %s: %s", path.name, error)
                missed = True
        return missed

    async def _register(self, path: Path) -> tuple[str, str]:
        channel = Channel(str(path), Codec(CODEC))
        prefix = "/pluginregistration.Registration/"
        try:
            info = await channel.call(prefix + "GetInfo", "InfoRequest", "PluginInfo", {}, CALL_SECONDS)
            kind, name = info.get("type", ""), info.get("name", "")
            problem = ""
            if kind not in self._kinds:
                problem = f"no handler registered for plugin type: {kind} at socket {path}"
            else:
                try:
                    versions = info.get("supported_versions", [])
                    await self._kinds[kind][0](name, info.get("endpoint") or str(path), versions)
                except Exception as error:
                    problem = str(error)
            status = {"plugin_registered": not problem, "error": problem}
            await channel.call(
                prefix + "NotifyRegistrationStatus",
                "RegistrationStatus",
                "RegistrationStatusResponse",
                status,
                CALL_SECONDS,
            )
            if problem:
                raise RpcError("UNKNOWN", problem)
            return kind, name
        finally:
            await channel.close()
