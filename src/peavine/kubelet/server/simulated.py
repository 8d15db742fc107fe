"""exec and attach where there is no container: SPDY answered with the scripted output."""

from __future__ import annotations

from typing import TYPE_CHECKING

from peavine.kubelet.server.http import Answer, HttpError, Request

if TYPE_CHECKING:
    from peavine.kubelet.kubelet import Kubelet


async def stream(kubelet: Kubelet, request: Request, container_id: str, command: list[str]) -> Answer:
    raise HttpError(501, "streams of simulated containers are not implemented")
