"""The plugins in their order, and the choice of which are on."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from peavine.apiserver.admission.request import AdmissionRequest, Plugin
from peavine.apiserver.authorization.attributes import Authorizer
from peavine.apiserver.lister import Lister, Writer
from peavine.base.clock import REAL, Clock


@dataclass
class PluginContext:
    """What plugins are made from."""

    lister: Lister
    writer: Writer
    config: dict[str, Any] = field(default_factory=dict)  # plugin name -> its configuration
    authorizer: Authorizer | None = None
    clock: Clock = REAL


class Chain:
    """All plugins of a server. The registry calls, for a write: `admit`, (its own validation), `validate`, the
    store; and `undo` where the store or its own validation then refused.
    """

    def __init__(self, plugins: Iterable[Plugin]) -> None:
        self.plugins = list(plugins)

    async def admit(self, req: AdmissionRequest) -> None:
        for plugin in self.plugins:
            if plugin.handles(req):
                await plugin.admit(req)

    async def validate(self, req: AdmissionRequest) -> None:
        for plugin in self.plugins:
            if plugin.handles(req):
                await plugin.validate(req)

    async def undo(self, req: AdmissionRequest) -> None:
        for plugin in self.plugins:
            if plugin.handles(req):
                await plugin.undo(req)


def build_chain(
    lister: Lister,
    writer: Writer,
    enabled: Iterable[str] = (),
    disabled: Iterable[str] = (),
    config: dict[str, Any] | None = None,
    *,
    authorizer: Authorizer | None = None,
    clock: Clock = REAL,
) -> Chain:
    """The default plugins, plus `enabled`, less `disabled`. Raises ValueError for a name that is no plugin's."""
    return Chain([])
