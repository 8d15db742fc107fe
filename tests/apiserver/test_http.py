"""The HTTP server on raw sockets: what well-behaved clients may do, and what the others get."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest

from peavine.apiserver.http import Exchange, HttpServer, Limits, Response
from peavine.base.lifetimes import scope

SMALL = Limits(header_bytes=8000, sweep_seconds=0.05)
HASTY = Limits(header_seconds=0.3, body_seconds=0.3, idle_seconds=0.3, sweep_seconds=0.05)


@contextlib.asynccontextmanager
async def echo_server(limits: Limits = SMALL) -> AsyncIterator[tuple[HttpServer, int]]:
    """Answers with method, path and body; /slow after the release event; /up switches protocols."""

    async def handler(exchange: Exchange) -> Response | None:
        info = exchange.info
        if info.path == "/up" and exchange.upgrade:
            raw = exchange.take_over(
                b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: echo\r\nConnection: Upgrade\r\n\r\n"
            )
            while data := await raw.read():
                raw.write(data.upper())
                await raw.drain()
            return None
        if info.path == "/early":
            return Response(403, b"no", "text/plain")
        if info.path == "/stream":
            exchange.start_stream(200, [("Content-Type", "text/plain")])
            for piece in (b"one,", b"two,", b"three"):
                exchange.write(piece)
                await exchange.drain()
            exchange.end_stream()
            return None
        if info.path == "/crash":
            raise RuntimeError("bug")
        body = await exchange.read_body(1000)
        return Response(200, f"{info.method} {info.path} ".encode() + body, "text/plain")

    async with scope() as tasks:
        server = HttpServer(handler, limits=limits)
        port = await server.listen("127.0.0.1", 0, tasks)
        yield server, port
        server.stop_listening()
        await server.drain(0.5)


async def talk(port: int, *pieces: bytes, gap: float = 0.0, seconds: float = 20.0) -> bytes:
    """Send the pieces, then everything that comes until the server closes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        for piece in pieces:
            writer.write(piece)
            with contextlib.suppress(ConnectionError):
                await writer.drain()
            if gap:
                await asyncio.sleep(gap)
        async with asyncio.timeout(seconds):
            with contextlib.suppress(ConnectionError):
                return await reader.read()
        return b""
    finally:
        writer.close()


def exchange(*pieces: bytes, limits: Limits = SMALL, gap: float = 0.0) -> bytes:
    async def scenario() -> bytes:
        async with echo_server(limits) as (_, port):
            return await talk(port, *pieces, gap=gap)

    return asyncio.run(scenario())


HOST = b"Host: x\r\n"
CLOSE = b"Connection: close\r\n"


def test_a_connection_is_kept_and_pipelined_requests_are_answered_in_order():
    answer = exchange(
        b"GET /1 HTTP/1.1\r\n" + HOST + b"\r\nPOST /2 HTTP/1.1\r\n" + HOST + b"Content-Length: 2\r\n\r\nhi"
        b"GET /3 HTTP/1.1\r\n" + HOST + CLOSE + b"\r\n"
    )
    assert answer.count(b"HTTP/1.1 200 OK") == 3
    assert answer.index(b"GET /1 ") < answer.index(b"POST /2 hi") < answer.index(b"GET /3 ")


def test_a_request_may_come_byte_by_byte():
    request = b"POST /slowly HTTP/1.1\r\n" + HOST + CLOSE + b"Content-Length: 3\r\n\r\nabc"
    pieces = [request[i : i + 1] for i in range(len(request))]
    assert b"POST /slowly abc" in exchange(*pieces, limits=Limits(sweep_seconds=0.05))


def test_a_chunked_body_is_put_together():
    body = b"3\r\nabc\r\n4;ext=1\r\ndefg\r\n0\r\n\r\n"
    head = b"POST /c HTTP/1.1\r\n" + HOST + CLOSE + b"Transfer-Encoding: chunked\r\n\r\n"
    assert b"POST /c abcdefg" in exchange(head, body)


def test_a_streamed_answer_is_chunked_and_closed_for_old_clients():
    assert b"4\r\none,\r\n4\r\ntwo,\r\n5\r\nthree\r\n0\r\n\r\n" in exchange(
        b"GET /stream HTTP/1.1\r\n" + HOST + CLOSE + b"\r\n"
    )
    assert exchange(b"GET /stream HTTP/1.0\r\n\r\n").endswith(b"\r\n\r\none,two,three")


def test_an_upgraded_connection_carries_raw_bytes_also_those_sent_early():
    async def scenario() -> bytes:
        async with echo_server() as (_, port):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(b"GET /up HTTP/1.1\r\n" + HOST + b"Connection: Upgrade\r\nUpgrade: echo\r\n\r\nearly")
            await reader.readuntil(b"\r\n\r\n")
            early = await reader.readexactly(5)
            writer.write(b" later")
            later = await reader.readexactly(6)
            writer.close()
            return early + later

    assert asyncio.run(scenario()) == b"EARLY LATER"


def test_an_upgrade_that_nobody_serves_gets_an_ordinary_answer():
    answer = exchange(b"GET /plain HTTP/1.1\r\n" + HOST + b"Connection: Upgrade\r\nUpgrade: h2c\r\n\r\n")
    assert b"200 OK" in answer and b"GET /plain" in answer


def test_expect_continue_is_answered_before_the_body():
    async def scenario() -> bytes:
        async with echo_server() as (_, port):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(b"POST /e HTTP/1.1\r\n" + HOST + CLOSE + b"Content-Length: 2\r\nExpect: 100-continue\r\n\r\n")
            first = await reader.readuntil(b"\r\n\r\n")
            writer.write(b"ok")
            rest = await reader.read()
            writer.close()
            return first + rest

    answer = asyncio.run(scenario())
    assert answer.startswith(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK") and answer.endswith(b"POST /e ok")


def test_an_answer_before_the_body_has_come_leaves_the_connection_usable():
    body = b"x" * 100_000
    answer = exchange(
        b"POST /early HTTP/1.1\r\n" + HOST + b"Content-Length: 100000\r\n\r\n",
        body + b"GET /next HTTP/1.1\r\n" + HOST + CLOSE + b"\r\n",
    )
    assert b"403 Forbidden" in answer and b"GET /next" in answer


def test_head_has_the_length_and_no_body():
    answer = exchange(b"HEAD /h HTTP/1.1\r\n" + HOST + CLOSE + b"\r\n")
    assert b"Content-Length: 8" in answer and answer.endswith(b"\r\n\r\n")


def test_a_failing_handler_costs_one_answer():
    answer = exchange(b"GET /crash HTTP/1.1\r\n" + HOST + b"\r\n")
    assert b"500 Internal Server Error" in answer


@pytest.mark.parametrize(
    "garbage",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",  # a TLS handshake on a plain port
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET /\r\n\r\n",
        b"NONSENSE\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n",  # no Host
        b"GET / HTTP/1.1\r\nHost: x\r\nBad Header: y\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\n" + b"A: " + b"a" * 20_000 + b"\r\n\r\n",
        b"GET /" + b"a" * 20_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
        b"\x00" * 100,
    ],
)
def test_what_is_no_request_gets_a_4xx_and_a_closed_connection(garbage):
    answer = exchange(garbage)
    assert answer.startswith(b"HTTP/1.1 4") and b"Connection: close" in answer


@pytest.mark.parametrize("body", [b"zz\r\nabc\r\n", b"3\r\nabcdef\r\n", b"-1\r\n\r\n", b"fffffffffffffffff\r\n"])
def test_bad_chunking_ends_the_connection_without_an_answer_of_200(body):
    head = b"POST /c HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n"
    assert b"200 OK" not in exchange(head + body)


def test_half_a_request_is_cut_after_a_while():
    assert exchange(b"GET / HT", limits=HASTY) == b""
    assert exchange(b"GET / HTTP/1.1\r\nHost:", limits=HASTY) == b""
    assert b"200" not in exchange(b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: 10\r\n\r\nabc", limits=HASTY)


def test_an_idle_connection_is_closed_after_a_while():
    assert exchange(b"GET /once HTTP/1.1\r\n" + HOST + b"\r\n", limits=HASTY).count(b"200 OK") == 1


def test_the_server_stays_up_through_all_of_it():
    async def scenario() -> bytes:
        async with echo_server() as (server, port):
            for _ in range(50):
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.write(b"POST /x HTTP/1.1\r\n" + HOST + b"Content-Length: 100\r\n\r\nabc")
                writer.transport.abort()
                del reader
            answer = await talk(port, b"GET /alive HTTP/1.1\r\n" + HOST + CLOSE + b"\r\n")
            async with asyncio.timeout(10):
                while server.connections:
                    await asyncio.sleep(0.02)
            return answer

    assert b"GET /alive" in asyncio.run(scenario())


def test_a_header_value_cannot_smuggle_another_header():
    from peavine.apiserver.http.messages import head

    assert b"\r\nEvil" not in head(200, [("Location", "/a\r\nEvil: yes")], b"now")


def test_an_answer_that_breaks_off_never_looks_whole():
    async def scenario() -> bytes:
        async def handler(exchange: Exchange) -> Response | None:
            exchange.start_stream(200, [])
            exchange.write(b"half")
            return Response(500, b"failed")  # as the filters do with an error after the answer began

        async with scope() as tasks:
            server = HttpServer(handler)
            port = await server.listen("127.0.0.1", 0, tasks)
            answer = await talk(port, b"GET / HTTP/1.1\r\n" + HOST + b"\r\n")
            server.stop_listening()
            return answer

    answer = asyncio.run(scenario())
    assert answer.endswith(b"4\r\nhalf\r\n")


def test_a_peer_that_takes_nothing_does_not_hold_up_the_end():
    async def scenario() -> list[str]:
        done = []

        async def handler(exchange: Exchange) -> Response | None:
            if exchange.info.path == "/slow":
                await asyncio.sleep(0.6)
                done.append("slow")
                return Response(200, b"late, but whole", "text/plain")
            return Response(200, bytes(32 << 20), "application/octet-stream")

        async with scope() as tasks:
            server = HttpServer(handler, limits=Limits(linger_seconds=0.2))
            port = await server.listen("127.0.0.1", 0, tasks)
            _, gone = await asyncio.open_connection("127.0.0.1", port)
            gone.transport.pause_reading()
            gone.write(b"GET /much HTTP/1.1\r\n" + HOST + b"\r\n")
            slow = asyncio.ensure_future(talk(port, b"GET /slow HTTP/1.1\r\n" + HOST + b"\r\n"))
            async with asyncio.timeout(20):
                while (
                    sum(connection.current is not None or connection.unsent > 0 for connection in server.connections)
                    < 2
                ):
                    await asyncio.sleep(0.01)
                server.stop_listening()
                await server.drain(60)
                done.append(str(await slow).count("whole") * "whole")
            gone.transport.abort()
            return done

    assert asyncio.run(scenario()) == ["slow", "whole"]


def test_a_client_that_leaves_amid_a_large_answer_ends_its_own_connection_only():
    async def scenario() -> bytes:
        async def handler(exchange: Exchange) -> Response | None:
            return Response(200, bytes(32 << 20) if exchange.info.path == "/much" else b"alive", "text/plain")

        async with scope() as tasks:
            server = HttpServer(handler)
            port = await server.listen("127.0.0.1", 0, tasks)
            _, leaving = await asyncio.open_connection("127.0.0.1", port)
            leaving.transport.pause_reading()
            leaving.write(b"GET /much HTTP/1.1\r\n" + HOST + b"\r\n")
            async with asyncio.timeout(20):
                while not any(connection.unsent for connection in server.connections):
                    await asyncio.sleep(0.01)
                leaving.transport.abort()
                while server.connections:
                    await asyncio.sleep(0.01)
            answer = await talk(port, b"GET / HTTP/1.1\r\n" + HOST + CLOSE + b"\r\n")
            server.stop_listening()
            return answer

    assert asyncio.run(scenario()).endswith(b"alive")
