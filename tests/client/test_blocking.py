"""The client without an event loop, and the proxies that both transports go through."""

import asyncio
import contextlib
import http.server
import socket
import socketserver
import threading

import pytest

from peavine.client.blocking import BlockingTransport, drive, split_authority
from peavine.client.config import ClientConfig
from peavine.client.proxies import open_tunnel, proxy_from_environment
from peavine.client.response import Unreachable
from peavine.client.rest import Client
from peavine.machinery.errors import ApiError


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        self.server.seen.append((self.path, dict(self.headers)))
        if self.path.endswith("/chunked"):
            self.send_response(200)
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            for piece in (b'{"a":', b"1}"):
                self.wfile.write(b"%x\r\n%b\r\n" % (len(piece), piece))
            self.wfile.write(b"0\r\n\r\n")
            return
        code = 404 if self.path.endswith("/missing") else 200
        body = b'{"kind":"Status","reason":"NotFound","code":404,"message":"gone"}' if code == 404 else b'{"ok":true}'
        self.send_response(code)
        self.send_header("Warning", '299 - "one"')
        self.send_header("Warning", '299 - "two"')
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args):
        pass


class ConnectProxy(socketserver.BaseRequestHandler):
    """An HTTP proxy that knows CONNECT."""

    def handle(self):
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            head += self.request.recv(1)
        self.server.seen.append(head.decode())
        host, port = head.split()[1].decode().split(":")
        self.request.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
        relay(self.request, socket.create_connection((host, int(port))))


class Socks(socketserver.BaseRequestHandler):
    """SOCKS5 with a user name, for names only."""

    def handle(self):
        take = self.request.recv
        take(2 + 2)
        self.request.sendall(b"\x05\x02")
        _, length = take(2)
        user = take(length)
        password = take(take(1)[0])
        self.server.seen.append((user, password))
        self.request.sendall(b"\x01\x00")
        take(4)
        host = take(take(1)[0]).decode()
        port = int.from_bytes(take(2), "big")
        self.server.seen.append((host, port))
        self.request.sendall(b"\x05\x00\x00\x01" + b"\0" * 6)
        relay(self.request, socket.create_connection((host, port)))


def relay(a, b):
    def pump(source, sink):
        try:
            while data := source.recv(65536):
                sink.sendall(data)
        except OSError:
            return
        finally:
            for end in (source, sink):
                with contextlib.suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)

    threading.Thread(target=pump, args=(b, a), daemon=True).start()
    pump(a, b)


@pytest.fixture
def serve():
    running = []

    def start(handler, kind=socketserver.ThreadingTCPServer):
        server = kind(("127.0.0.1", 0), handler)
        server.daemon_threads, server.seen = True, []
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        running.append(server)
        return server

    yield start
    for server in running:
        server.shutdown()
        server.server_close()


@pytest.fixture
def api(serve):
    return serve(Handler, http.server.ThreadingHTTPServer)


def url(server, host="127.0.0.1", scheme="http"):
    return f"{scheme}://{host}:{server.server_address[1]}"


def blocking(server, **more):
    return Client(ClientConfig(url(server), **more), transport=BlockingTransport)


def test_one_connection_serves_several_requests(api):
    client = blocking(api)
    warned = []
    client.on_warning = warned.append
    assert [drive(client.json("GET", path)) for path in ("/a", "/chunked", "/b")] == [
        {"ok": True},
        {"a": 1},
        {"ok": True},
    ]
    assert warned == ['299 - "one", 299 - "two"'] * 2
    with pytest.raises(ApiError) as failed:
        drive(client.json("GET", "/missing"))
    assert (failed.value.code, failed.value.message) == (404, "gone")
    client.close()


def test_a_server_that_is_not_there_is_unreachable():
    with socket.create_server(("127.0.0.1", 0)) as unused:
        port = unused.getsockname()[1]
    with pytest.raises(Unreachable):
        drive(Client(ClientConfig(f"http://127.0.0.1:{port}"), transport=BlockingTransport).json("GET", "/"))


def test_a_coroutine_that_waits_is_refused():
    async def waits():
        await asyncio.Event().wait()

    async def inside():
        with pytest.raises(RuntimeError, match="event loop"):
            drive(waits())

    asyncio.run(inside())


def test_impersonation_names_user_uid_groups_and_extra(api):
    more = {"impersonate": "bob", "impersonate_uid": "7", "impersonate_groups": ["g"]}
    drive(blocking(api, **more, impersonate_extra={"a/b": ["x"]}).json("GET", "/"))
    headers = api.seen[-1][1]
    assert headers["Impersonate-User"] == "bob" and headers["Impersonate-Uid"] == "7"
    assert headers["Impersonate-Group"] == "g" and headers["Impersonate-Extra-a%2Fb"] == "x"


def test_plain_http_through_an_http_proxy_asks_for_whole_urls(api, serve):
    proxy = serve(Handler, http.server.ThreadingHTTPServer)
    through = url(proxy).replace("//", "//me:secret@")
    assert drive(blocking(api, proxy=through).json("GET", "/x")) == {"ok": True}
    path, headers = proxy.seen[-1]
    assert path == f"{url(api)}/x" and headers["Proxy-Authorization"] == "Basic bWU6c2VjcmV0"


@pytest.mark.parametrize("loop", [False, True])
def test_socks_takes_both_transports_to_the_server(api, serve, loop):
    proxy = serve(Socks)
    config = ClientConfig(url(api, "localhost"), proxy=url(proxy, scheme="socks5").replace("//", "//me:pw@"))
    if loop:
        answer = asyncio.run(Client(config).json("GET", "/x"))
    else:
        answer = drive(Client(config, transport=BlockingTransport).json("GET", "/x"))
    assert answer == {"ok": True}
    assert proxy.seen == [(b"me", b"pw"), ("localhost", api.server_address[1])]


def test_a_tunnel_is_asked_for_by_connect(api, serve):
    proxy = serve(ConnectProxy)
    through = url(proxy).replace("//", "//me:pw@")
    with open_tunnel(through, "127.0.0.1", api.server_address[1], 10) as sock:
        sock.sendall(b"GET /t HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        answer = b""
        while piece := sock.recv(65536):
            answer += piece
    assert b'{"ok":true}' in answer and "Proxy-Authorization: Basic bWU6cHc=" in proxy.seen[0]


def test_an_unknown_proxy_is_an_error(api):
    with pytest.raises(Unreachable, match="unsupported proxy"):
        drive(blocking(api, proxy="ftp://127.0.0.1:1").json("GET", "/"))


@pytest.mark.parametrize(
    ("server", "environment", "wanted"),
    [
        ("https://api.example.com", {"HTTPS_PROXY": "http://p:1"}, "http://p:1"),
        ("https://api.example.com", {"https_proxy": "p:1"}, "http://p:1"),
        ("http://api.example.com", {"HTTPS_PROXY": "http://p:1"}, ""),
        ("https://127.0.0.1:6443", {"HTTPS_PROXY": "http://p:1"}, ""),
        ("https://localhost", {"HTTPS_PROXY": "http://p:1"}, ""),
        ("https://api.example.com", {"HTTPS_PROXY": "http://p:1", "NO_PROXY": "example.com"}, ""),
        ("https://api.example.com", {"HTTPS_PROXY": "http://p:1", "NO_PROXY": ".example.com"}, ""),
        ("https://example.com", {"HTTPS_PROXY": "http://p:1", "NO_PROXY": ".example.com"}, "http://p:1"),
        ("https://api.example.com", {"HTTPS_PROXY": "http://p:1", "NO_PROXY": "api.example.com:443"}, ""),
        ("https://api.example.com", {"HTTPS_PROXY": "http://p:1", "NO_PROXY": "api.example.com:1"}, "http://p:1"),
        ("https://10.1.2.3", {"HTTPS_PROXY": "http://p:1", "NO_PROXY": "10.0.0.0/8"}, ""),
        ("https://11.1.2.3", {"HTTPS_PROXY": "http://p:1", "NO_PROXY": "10.0.0.0/8"}, "http://p:1"),
        ("https://api.example.com", {"HTTPS_PROXY": "http://p:1", "no_proxy": "*"}, ""),
    ],
)
def test_the_environment_names_a_proxy_and_its_exceptions(monkeypatch, server, environment, wanted):
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert proxy_from_environment(server) == wanted


def test_authorities():
    assert split_authority("[::1]:1", 2) == ("::1", 1)
    assert split_authority("[::1]", 2) == ("::1", 2)
    assert split_authority("h:1", 2) == ("h", 1) and split_authority("h", 2) == ("h", 2)
