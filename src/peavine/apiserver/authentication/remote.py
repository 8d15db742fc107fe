"""JSON over HTTPS to what sits outside the cluster: identity providers, and webhooks named by a kubeconfig."""

from __future__ import annotations

import asyncio
import os
import ssl
from typing import Any, Protocol

import orjson

from peavine.client.transport import Transport

ANSWER_BYTES_MAX = 4 << 20


class RemoteError(Exception):
    """No answer, or none that can be used."""


class Fetcher(Protocol):
    async def get(self, url: str) -> Any:
        """The JSON at `url`. Raises RemoteError."""
        ...


class HttpsFetcher:
    """GETs that trust `ca_pem`, or the system's authorities where it is empty."""

    def __init__(self, ca_pem: str = "", seconds_max: float = 30.0) -> None:
        self.ca_pem, self.seconds_max = ca_pem, seconds_max

    async def get(self, url: str) -> Any:
        from urllib.parse import urlsplit

        parts = urlsplit(url)
        if parts.scheme != "https":
            raise RemoteError(f"{url}: only https is allowed")
        context = ssl.create_default_context(cadata=self.ca_pem or None)
        transport = Transport(f"https://{parts.netloc}", lambda: context)
        path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        status, body = await _exchange(transport, "GET", path, {}, b"", self.seconds_max)
        transport.close()
        if status != 200:
            raise RemoteError(f"{url}: HTTP {status}")
        return _json(body, url)


class KubeconfigSender:
    """POSTs to the server that a kubeconfig file names, with the credentials in it. Keeps its connection."""

    def __init__(self, path: str | os.PathLike[str], seconds_max: float = 30.0) -> None:
        from peavine.client.config import load_kubeconfig

        config = load_kubeconfig(path)
        self.seconds_max = seconds_max
        context = config.ssl_context()
        self._transport = Transport(config.server, lambda: context, config.tls_server_name)
        self._headers: dict[str, str] = {}
        if config.token:
            self._headers["Authorization"] = f"Bearer {config.token}"

    async def post(self, body: bytes) -> int:
        """The HTTP status. Raises ConnectionError."""
        try:
            status, _ = await self._send(body)
        except RemoteError as error:
            raise ConnectionError(str(error)) from error
        return status

    async def ask(self, document: dict[str, Any]) -> dict[str, Any]:
        """The answer's JSON object. Raises RemoteError."""
        status, body = await self._send(orjson.dumps(document))
        if status not in (200, 201):
            raise RemoteError(f"{self._transport.authority}: HTTP {status}")
        answer = _json(body, self._transport.authority)
        if not isinstance(answer, dict):
            raise RemoteError(f"{self._transport.authority}: the answer is no object")
        return answer

    async def _send(self, body: bytes) -> tuple[int, bytes]:
        path = self._transport.prefix or "/"
        return await _exchange(self._transport, "POST", path, self._headers, body, self.seconds_max)


async def _exchange(
    transport: Transport, method: str, path: str, headers: dict[str, str], body: bytes, seconds_max: float
) -> tuple[int, bytes]:
    lines = [f"{method} {path} HTTP/1.1", f"Host: {transport.authority}", "Accept: application/json"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    if method == "POST":
        lines += ["Content-Type: application/json", f"Content-Length: {len(body)}"]
    request = "\r\n".join([*lines, "", ""]).encode() + body
    try:
        async with asyncio.timeout(seconds_max):
            response = await transport.exchange(request, idempotent=True)
            received = b""
            async for piece in response.chunks():
                received += piece
                if len(received) > ANSWER_BYTES_MAX:
                    response.close()
                    raise RemoteError(f"{transport.authority}: the answer is larger than {ANSWER_BYTES_MAX} bytes")
            return response.status, received
    except (OSError, TimeoutError) as error:
        raise RemoteError(f"{transport.authority}: {error or 'no answer in time'}") from error


def _json(body: bytes, where: str) -> Any:
    try:
        return orjson.loads(body)
    except ValueError:
        raise RemoteError(f"{where}: the answer is no JSON") from None
