"""The far end of an upgraded connection: dialing it, asking it to switch protocols, reading its answer."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Iterable
from dataclasses import dataclass, field

from peavine.machinery.errors import ApiError

head_bytes_max = 64 * 1024
body_bytes_max = 1 << 20  # of an answer that refuses the upgrade
dial_seconds = 30.0
answer_seconds = 60.0


@dataclass(frozen=True)
class Backend:
    """Where to connect and what to ask for. `target` is path and query; `headers` are added to the request's."""

    host: str
    port: int
    target: str
    tls: ssl.SSLContext | None = None
    server_name: str | None = None
    headers: tuple[tuple[str, str], ...] = ()
    method: str = "POST"


@dataclass
class Answer:
    """The backend's answer. With status 101 the connection is open and `reader`, `writer` carry the new protocol."""

    status: int
    headers: list[tuple[str, str]]
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    body: bytes = b""
    raw_head: bytes = field(default=b"", repr=False)

    def header(self, name: str) -> str:
        return next((value for key, value in self.headers if key.lower() == name), "")


async def ask_spdy(backend: Backend, protocol: str) -> Answer:
    """Ask for SPDY/3.1 with a protocol of streams on it; as `ask`."""
    upgrade = [("Connection", "Upgrade"), ("Upgrade", "SPDY/3.1"), ("X-Stream-Protocol-Version", protocol)]
    return await ask(backend, upgrade)


async def ask(backend: Backend, headers: Iterable[tuple[str, str]]) -> Answer:
    """Connect and send the request's head. Raises ApiError 500 when the backend cannot be reached or makes no sense.

    The caller closes `writer`, except after an answer other than 101, whose connection is closed already.
    """
    try:
        async with asyncio.timeout(dial_seconds):
            reader, writer = await asyncio.open_connection(
                backend.host,
                backend.port,
                ssl=backend.tls,
                server_hostname=(backend.server_name or backend.host) if backend.tls else None,
            )
    except (OSError, TimeoutError) as error:
        why = "i/o timeout" if isinstance(error, TimeoutError) else _why(error)
        where = f"dial tcp {_address(backend)}: {why}"
        raise ApiError(500, "", f"error dialing backend: {where}") from error
    try:
        sent = {name.lower() for name, _ in backend.headers}
        lines = [f"{backend.method} {backend.target} HTTP/1.1", f"Host: {_address(backend)}"]
        lines += [f"{name}: {value}" for name, value in headers if name.lower() not in sent]
        lines += [f"{name}: {value}" for name, value in backend.headers]
        writer.write("\r\n".join([*lines, "", ""]).encode("utf-8", "surrogateescape"))
        async with asyncio.timeout(answer_seconds):
            answer = await read_answer(reader, writer)
    except (OSError, EOFError, ValueError, asyncio.LimitOverrunError, TimeoutError) as error:
        writer.close()
        raise ApiError(500, "", f"error dialing backend: {error or type(error).__name__}") from error
    except BaseException:
        writer.close()
        raise
    if answer.status != 101:
        writer.close()
    return answer


async def read_answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> Answer:
    """The head of an answer, and its body where it has one. Raises ValueError, EOFError or OSError."""
    while True:
        head = await reader.readuntil(b"\r\n\r\n")
        if len(head) > head_bytes_max:
            raise ValueError("the answer's headers are too long")
        lines = head.decode("utf-8", "surrogateescape").split("\r\n")
        parts = lines[0].split(" ", 2)
        if len(parts) < 2 or not parts[0].startswith("HTTP/1.") or not parts[1].isdigit():
            raise ValueError(f"malformed HTTP response {lines[0][:80]!r}")
        status = int(parts[1])
        if status == 101 or status >= 200:
            break
    headers = []
    for line in lines[1:]:
        name, colon, value = line.partition(":")
        if colon:
            headers.append((name.strip(), value.strip()))
    answer = Answer(status, headers, reader, writer, raw_head=head)
    if status != 101:
        answer.body = await _body(answer)
    return answer


async def _body(answer: Answer) -> bytes:
    if answer.header("transfer-encoding").lower() == "chunked":
        body = b""
        while len(body) <= body_bytes_max:
            size = int((await answer.reader.readuntil(b"\r\n")).split(b";")[0], 16)
            if size > body_bytes_max:
                raise ValueError("the answer's body is too long")
            chunk = await answer.reader.readexactly(size + 2)
            if not size:
                return body
            body += chunk[:-2]
        raise ValueError("the answer's body is too long")
    length = answer.header("content-length")
    if length:
        if int(length) > body_bytes_max:
            raise ValueError("the answer's body is too long")
        return await answer.reader.readexactly(int(length))
    return await answer.reader.read(body_bytes_max)


def _address(backend: Backend) -> str:
    host = f"[{backend.host}]" if ":" in backend.host else backend.host
    return f"{host}:{backend.port}"


def _why(error: OSError) -> str:
    """As Go says it, where it is a plain system error."""
    words = {
        111: "connect: connection refused",
        113: "connect: no route to host",
        101: "connect: network is unreachable",
    }
    return words.get(error.errno or 0, error.strerror or str(error))
