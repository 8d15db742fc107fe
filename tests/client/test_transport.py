import asyncio

import pytest

from peavine.base.lifetimes import scope
from peavine.client.transport import Transport, Unreachable


class Server:
    """Answers each request on a connection with the next of `answers`; counts connections."""

    def __init__(self, *answers, close=False):
        self.answers, self.connections, self.close = list(answers), 0, close

    async def __aenter__(self):
        self.server = await asyncio.start_server(self.serve, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self.server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, *_):
        self.server.close()

    async def serve(self, reader, writer):
        self.connections += 1
        while self.answers:
            if not await reader.readuntil(b"\r\n\r\n"):
                break
            writer.write(self.answers.pop(0))
            if self.close:
                break
        writer.close()


OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"


def test_ten_requests_open_one_connection():
    async def main():
        async with Server(*[OK] * 10) as server:
            transport = Transport(server.url, None)
            for _ in range(10):
                assert await (await transport.exchange(GET, idempotent=True)).read() == b"ok"
            assert server.connections == 1

    asyncio.run(main())


def test_an_idempotent_request_survives_a_connection_that_the_server_closed():
    async def main():
        async with Server(OK, OK, close=True) as server:
            transport = Transport(server.url, None)
            for _ in range(2):
                assert await (await transport.exchange(GET, idempotent=True)).read() == b"ok"
            assert server.connections == 2

    asyncio.run(main())


def test_an_answer_cut_short_is_an_error_and_not_a_short_body():
    async def main():
        async with Server(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf", close=True) as server:
            answer = await Transport(server.url, None).exchange(GET, idempotent=True)
            with pytest.raises(Unreachable):
                await answer.read()

    asyncio.run(main())


def test_concurrent_requests_do_not_share_a_connection():
    async def main():
        async with Server(*[OK] * 8) as server:
            transport = Transport(server.url, None)

            async def one():
                assert await (await transport.exchange(GET, idempotent=True)).read() == b"ok"

            async with scope() as tasks:
                await asyncio.gather(*(tasks.start(one()) for _ in range(4)))
            assert server.connections == 4

    asyncio.run(main())


def test_nobody_listening_is_said_with_the_address():
    async def main():
        with pytest.raises(Unreachable, match=r"127\.0\.0\.1:9"):
            await Transport("http://127.0.0.1:9", None).exchange(GET, idempotent=True)

    asyncio.run(main())


def test_a_renewed_certificate_is_used_for_the_next_connection(tmp_path):
    import os

    from peavine.client import Client
    from peavine.cmd.pki import ensure_kubeconfigs, ensure_pki

    pki = ensure_pki(tmp_path)
    path = ensure_kubeconfigs(pki, "https://127.0.0.1:1")["admin"]
    client = Client.from_kubeconfig(path)
    first = client._tls()
    assert client._tls() is first
    os.utime(path, (1, 1))
    assert client._tls() is not first
