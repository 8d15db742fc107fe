"""The `kubernetes` package's exec, which speaks WebSocket v4, against the streams and a stand-in for the kubelet."""

import asyncio

import pytest

from peavine.apiserver.http import HttpServer
from peavine.apiserver.streams import Backend, Streams, serve
from peavine.base.lifetimes import scope
from tests.apiserver.streams.test_streams import FAILURE, Kubelet

kubernetes = pytest.importorskip("kubernetes")


class Talkative(Kubelet):
    """Says something on both outputs at once, and how the command went."""

    async def _serve(self, reader, writer):
        from peavine.wire import spdy

        self.heads.append((await reader.readuntil(b"\r\n\r\n")).decode().lower())
        writer.write(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\n\r\n")
        session, streams = spdy.Spdy(client=False), {}
        while len(streams) < 3:
            for event in session.receive(await reader.read(4096)):
                streams[event.headers["streamtype"]] = event.stream
                writer.write(session.reply(event.stream))
        writer.write(session.data(streams["stdout"], b"out", fin=True))
        writer.write(session.data(streams["stderr"], b"err", fin=True))
        writer.write(session.data(streams["error"], self.result, fin=True))
        await writer.drain()
        await reader.read()


async def test_exec_of_the_python_client_gets_outputs_and_exit_code():
    kubelet = Talkative(result=FAILURE)
    kubelet_server = await asyncio.start_server(kubelet, "127.0.0.1", 0)
    port = kubelet_server.sockets[0].getsockname()[1]

    async def handler(exchange):
        return await serve(exchange, Backend("127.0.0.1", port, "/exec/x"), Streams(stdout=True, stderr=True))

    def run(api):
        from kubernetes import client, stream

        configuration = client.Configuration(host=f"http://127.0.0.1:{api}")
        core = client.CoreV1Api(client.ApiClient(configuration))
        response = stream.stream(
            core.connect_get_namespaced_pod_exec, "p", "default", command=["x"], stdout=True, stderr=True, stdin=False,
            tty=False, _preload_content=False,
        )  # fmt: skip
        response.run_forever(timeout=5)
        return response.read_stdout(), response.read_stderr(), response.returncode

    async with scope() as tasks:
        api = await HttpServer(handler).listen("127.0.0.1", 0, tasks)
        assert await asyncio.to_thread(run, api) == ("out", "err", 7)
    kubelet_server.close()
    assert "upgrade: spdy/3.1" in kubelet.heads[0]
