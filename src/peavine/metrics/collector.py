"""Asks every kubelet for its `/stats/summary` and keeps the newest answer."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

from peavine.base.clock import REAL, Clock
from peavine.client import Client, Informer
from peavine.client.transport import Unreachable
from peavine.machinery.errors import ApiError

log = logging.getLogger(__name__)

Object = dict[str, Any]
RESOLUTION_SECONDS = 15.0
# The first rates come from the second look: it follows soon, so that a young cluster has figures at once.
FIRST_SECONDS = 2.0
PARALLEL_MAX = 16


class Collector:
    """`summaries` holds the newest Summary of each node; a node that does not answer has none."""

    def __init__(self, client: Client, nodes: Informer, *, clock: Clock = REAL) -> None:
        self._client, self._nodes, self._clock = client, nodes, clock
        self.summaries: dict[str, Object] = {}
        self.nodes = nodes

    async def run(self) -> None:
        """Collect until cancelled."""
        await self._nodes.synced.wait()
        looks = 0
        while True:
            await self.collect()
            looks += 1
            await self._clock.sleep(RESOLUTION_SECONDS if looks > 2 else FIRST_SECONDS)

    async def collect(self) -> None:
        names = [node["metadata"]["name"] for node in self._nodes.list()]
        for gone in self.summaries.keys() - set(names):
            del self.summaries[gone]
        for first in range(0, len(names), PARALLEL_MAX):
            await asyncio.gather(*(self._ask(name) for name in names[first : first + PARALLEL_MAX]))

    async def _ask(self, node: str) -> None:
        try:
            self.summaries[node] = await self._client.json("GET", f"/api/v1/nodes/{node}/proxy/stats/summary")
        except (ApiError, Unreachable, ConnectionError, TimeoutError) as error:
            log.debug("no figures from node %s: %s", node, error)
            self.summaries.pop(node, None)
