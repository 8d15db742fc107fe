"""Run a proxy to the Kubernetes API server: requests to this machine's port go there with the user's credentials."""

from __future__ import annotations

import asyncio
import mimetypes
import os
import re
from typing import Any

import httptools

from peavine.base.lifetimes import scope
from peavine.cli.failures import CliError
from peavine.cli.flags import Parsed, boolean, duration, integer, string
from peavine.cli.session import Session
from peavine.client.response import Unreachable
from peavine.machinery.errors import ApiError

CONCURRENT = True
FLAGS = (
    string("accept-hosts", default=r"^localhost$,^127\.0\.0\.1$,^\[::1\]$", help="Hosts that the proxy should accept."),
    string("accept-paths", default="^.*", help="Regular expression for paths that the proxy should accept."),
    string("address", default="127.0.0.1", help="The IP address on which to serve on."),
    string("api-prefix", default="/", help="Prefix to serve the proxied API under."),
    boolean("append-server-path", help="If true, put the path of the server's URL before each request's path."),
    boolean("disable-filter", help="If true, disable request filtering in the proxy. This is dangerous."),
    duration("keepalive", help="Keep-alive period of a connection; 0 leaves it to the system."),
    integer("port", "p", 8001, "The port on which to run the proxy. Set to 0 to pick a random port."),
    string("reject-methods", default="^$", help="Regular expression for HTTP methods that the proxy should reject."),
    string("reject-paths", default="^/api/.*/pods/.*/exec,^/api/.*/pods/.*/attach",
           help="Regular expression for paths that the proxy should reject, accepted or not."),
    string("unix-socket", "u", help="Unix socket on which to run the proxy."),
    string("www", "w", help="Also serve static files from the given directory under the specified prefix."),
    string("www-prefix", "P", "/static/", "Prefix to serve static files under, if static file directory is specified."),
)  # fmt: skip
BODY_BYTES_MAX = 64 << 20
_RECEIVE_BYTES = 1 << 16
# Headers of one connection, not of the message.
_HOP = {"connection", "keep-alive", "proxy-authenticate", "proxy-authorization", "te", "trailers", "transfer-encoding",
        "upgrade", "host", "content-length"}  # fmt: skip


class Filter:
    """Which requests are passed on. Lists of expressions are separated by commas."""

    def __init__(self, flags: Parsed) -> None:
        self.off = flags["disable-filter"]
        self.hosts, self.paths, self.rejected, self.methods = (
            self._compiled(flags[name]) for name in ("accept-hosts", "accept-paths", "reject-paths", "reject-methods")
        )

    def _compiled(self, text: str) -> list[re.Pattern[str]]:
        try:
            return [re.compile(part) for part in text.split(",")]
        except re.error as error:
            raise CliError(f"error parsing regexp: {error}: `{text}`") from None

    def accepts(self, method: str, host: str, path: str) -> bool:
        if self.off:
            return True
        name = host if host.startswith("[") and host.endswith("]") else re.sub(r":\d+$", "", host)

        def any_of(patterns: list[re.Pattern[str]], text: str) -> bool:
            return any(pattern.search(text) for pattern in patterns)

        refused = any_of(self.rejected, path) or any_of(self.methods, method)
        return any_of(self.hosts, name) and any_of(self.paths, path) and not refused


class _Request:
    """A request as the parser hears it."""

    def __init__(self) -> None:
        self.target, self.headers, self.body = b"", [], b""  # type: ignore[var-annotated]
        self.done = False

    def on_url(self, url: bytes) -> None:
        self.target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers.append((name.decode("latin-1"), value.decode("latin-1")))

    def on_body(self, data: bytes) -> None:
        self.body += data
        if len(self.body) > BODY_BYTES_MAX:
            raise ValueError("body too large")

    def on_message_complete(self) -> None:
        self.done = True

    def header(self, name: str) -> str:
        return next((value for key, value in self.headers if key.lower() == name), "")


async def run(session: Session, flags: Parsed) -> int:
    if flags.arguments:
        raise CliError(f"unknown command: {flags.arguments[0]}")
    if flags["www"] and not os.path.isdir(flags["www"]):  # noqa: ASYNC240
        session.warn(f"W Error stat'ing the static file path {flags['www']}")
    filter_ = Filter(flags)
    server = session.client
    if flags["append-server-path"] is False and session.config.server.count("/") > 2:
        server._transport.prefix = ""
    server.unlimited()
    async with scope() as tasks:

        def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            tasks.start(_Connection(session, flags, filter_, reader, writer).serve(), name="proxied")

        try:
            if flags["unix-socket"]:
                listener: Any = await asyncio.start_unix_server(accept, flags["unix-socket"])
                where = flags["unix-socket"]
            else:
                listener = await asyncio.start_server(accept, flags["address"], flags["port"])
                address = listener.sockets[0].getsockname()
                where = f"[{address[0]}]:{address[1]}" if ":" in address[0] else f"{address[0]}:{address[1]}"
        except OSError as error:
            raise CliError(
                f"listen tcp {flags['address']}:{flags['port']}: bind: {(error.strerror or '').lower()}"
            ) from None
        session.print(f"Starting to serve on {where}")
        session.out.flush()
        await listener.serve_forever()
    return 0


class _Connection:
    def __init__(
        self, session: Session, flags: Parsed, filter_: Filter, reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:  # fmt: skip
        self.session, self.flags, self.filter = session, flags, filter_
        self.reader, self.writer = reader, writer

    async def serve(self) -> None:
        try:
            while await self._one():
                pass
        except (ConnectionError, httptools.HttpParserError, ValueError):
            return  # the client is gone, or what it says is not HTTP
        finally:
            self.writer.close()

    async def _one(self) -> bool:
        """Answer one request; whether another may follow."""
        request = _Request()
        parser = httptools.HttpRequestParser(request)
        rest = b""
        while not request.done:
            data = await self.reader.read(_RECEIVE_BYTES)
            if not data:
                return False
            try:
                parser.feed_data(data)
            except httptools.HttpParserUpgrade as upgrade:
                rest = data[upgrade.args[0] :]
                break
        method, path = parser.get_method().decode(), request.target.decode("latin-1")
        bare = path.partition("?")[0]
        if not self.filter.accepts(method, request.header("host"), bare):
            return await self._say(403, "text/plain; charset=utf-8", b"Forbidden\n")
        prefix = "/" + self.flags["www-prefix"].strip("/") + "/"
        if self.flags["www"] and bare.startswith(prefix):
            return await self._file(bare[len(prefix) :])
        below = "/" + self.flags["api-prefix"].strip("/")
        if below != "/":
            if not bare.startswith(below + "/"):
                return await self._say(404, "text/plain; charset=utf-8", b"404 page not found\n")
            path = path[len(below) :]
        if request.header("upgrade"):
            await self._upgraded(method, path, request, rest)
            return False
        return await self._forward(method, path, request, bool(parser.should_keep_alive()))

    async def _say(self, status: int, kind: str, body: bytes) -> bool:
        reason = {200: "OK", 403: "Forbidden", 404: "Not Found", 502: "Bad Gateway"}.get(status, "")
        head = f"HTTP/1.1 {status} {reason}\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n\r\n"
        self.writer.write(head.encode() + body)
        await self.writer.drain()
        return True

    async def _file(self, name: str) -> bool:
        root = os.path.realpath(self.flags["www"])  # noqa: ASYNC240
        path = os.path.realpath(os.path.join(root, name or "index.html"))  # noqa: ASYNC240
        if not path.startswith(root + os.sep) or not os.path.isfile(path):  # noqa: ASYNC240
            return await self._say(404, "text/plain; charset=utf-8", b"404 page not found\n")
        with open(path, "rb") as file:  # noqa: ASYNC230 (files of the user, on this machine)
            return await self._say(200, mimetypes.guess_type(path)[0] or "application/octet-stream", file.read())

    async def _forward(self, method: str, path: str, request: _Request, kept: bool) -> bool:
        headers = {name: value for name, value in request.headers if name.lower() not in (*_HOP, "authorization")}
        try:
            answer = await self.session.client.answer(method, path, body=request.body, headers=headers)
        except Unreachable as error:
            return await self._say(502, "text/plain; charset=utf-8", str(error).encode())
        lines = [f"HTTP/1.1 {answer.status} "]
        lines += [f"{name}: {value}" for name, value in answer.headers.items() if name not in _HOP]
        length = answer.headers.get("content-length")
        empty = method == "HEAD" or answer.status in (204, 304)
        if length is not None:
            lines.append(f"Content-Length: {length}")
        elif not empty:
            lines.append("Transfer-Encoding: chunked")
        self.writer.write(("\r\n".join(lines) + "\r\n\r\n").encode("latin-1"))
        if empty:
            answer.close()
            return kept
        async for piece in answer.chunks():
            self.writer.write(piece if length is not None else b"%x\r\n%b\r\n" % (len(piece), piece))
            await self.writer.drain()
        if length is None:
            self.writer.write(b"0\r\n\r\n")
        await self.writer.drain()
        return kept

    async def _upgraded(self, method: str, path: str, request: _Request, rest: bytes) -> None:
        headers = {name: value for name, value in request.headers if name.lower() not in ("host", "authorization")}
        try:
            far = await self.session.client.upgrade(method, path, headers=headers)
        except ApiError as error:
            import orjson

            await self._say(error.code, "application/json", orjson.dumps(error.status()))
            return
        lines = ["HTTP/1.1 101 Switching Protocols", *(f"{name}: {value}" for name, value in far.headers.items())]
        self.writer.write(("\r\n".join(lines) + "\r\n\r\n").encode("latin-1"))
        if rest:
            far.write(rest)

        async def out() -> None:
            while data := await self.reader.read(_RECEIVE_BYTES):
                far.write(data)
            far.close()

        async with scope() as tasks:
            tasks.start(out(), name="upstream")
            while data := await far.read():
                self.writer.write(data)
                await self.writer.drain()
            tasks.cancel()
        far.close()
