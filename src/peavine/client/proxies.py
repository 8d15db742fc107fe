"""HTTP, HTTPS and SOCKS5 proxies between a client and the API server.

Which one is used follows Go's `http.ProxyFromEnvironment`: HTTPS_PROXY or HTTP_PROXY by the server's scheme, unless
NO_PROXY names the host; never for the machine itself. A kubeconfig's `proxy-url` goes before the environment and has
no exceptions.
"""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    import socket

SCHEMES = ("http", "https", "socks5", "socks5h")


def proxy_from_environment(server: str) -> str:
    """The proxy for a server's URL, or nothing."""
    scheme, _, rest = server.partition("://")
    names = ("HTTPS_PROXY", "https_proxy") if scheme == "https" else ("HTTP_PROXY", "http_proxy")
    proxy = next((os.environ[name] for name in names if os.environ.get(name)), "")
    if not proxy:
        return ""
    from peavine.client.blocking import split_authority

    host, port = split_authority(rest.partition("/")[0].rpartition("@")[2], 443 if scheme == "https" else 80)
    if not _wanted(host.lower().rstrip("."), port):
        return ""
    return proxy if "://" in proxy else f"http://{proxy}"


def _wanted(host: str, port: int) -> bool:
    import ipaddress

    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        address = None
    if host == "localhost" or (address is not None and address.is_loopback):
        return False
    for part in (os.environ.get("NO_PROXY") or os.environ.get("no_proxy") or "").lower().split(","):
        part = part.strip()
        if part == "*":
            return False
        if not part:
            continue
        if "/" in part:
            try:
                if address is not None and address in ipaddress.ip_network(part, strict=False):
                    return False
            except ValueError:
                pass  # not a network: no host is in it
            continue
        name, colon, only = part.partition(":") if part.count(":") == 1 else (part, "", "")
        if colon and only != str(port):
            continue
        name = name.removeprefix("*")
        if name.startswith("."):
            if host.endswith(name):
                return False
        elif host == name or (address is None and host.endswith("." + name)):
            return False
    return True


def request_through(proxy: str, scheme: str, authority: str) -> tuple[dict[str, str], str]:
    """What a request through the proxy needs: headers, and what goes before its path.

    Only an HTTP proxy for plain HTTP needs something: it forwards requests with whole URLs. All else is a tunnel.
    """
    if scheme != "http" or not proxy.startswith("http"):
        return {}, ""
    from urllib.parse import unquote, urlsplit

    parts = urlsplit(proxy)
    named = (
        {"Proxy-Authorization": basic(unquote(parts.username), unquote(parts.password or ""))} if parts.username else {}
    )
    return named, f"http://{authority}"


def open_tunnel(proxy: str, host: str, port: int, seconds: float, plain: bool = False) -> socket.socket:
    """A socket that speaks to `host:port` through the proxy. Raises OSError.

    With `plain` and an HTTP proxy it speaks to the proxy itself, which takes requests with whole URLs.
    """
    import socket
    from urllib.parse import unquote, urlsplit

    parts = urlsplit(proxy)
    if parts.scheme not in SCHEMES or not parts.hostname:
        raise OSError(f"proxyconnect: unsupported proxy {proxy!r}, one of {', '.join(SCHEMES)} is needed")
    usual = {"http": 80, "https": 443}.get(parts.scheme, 1080)
    user, password = unquote(parts.username or ""), unquote(parts.password or "")
    sock = socket.create_connection((parts.hostname, parts.port or usual), seconds)
    try:
        if parts.scheme.startswith("socks5"):
            _socks5(sock, host, port, user, password)
            return sock
        if parts.scheme == "https":
            import ssl

            sock = ssl.create_default_context().wrap_socket(sock, server_hostname=parts.hostname)
        if not plain:
            _connect(sock, host, port, user, password)
        return _relayed(sock) if parts.scheme == "https" else sock
    except BaseException:
        sock.close()
        raise


def _connect(sock: socket.socket, host: str, port: int, user: str, password: str) -> None:
    named = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    head = f"CONNECT {named} HTTP/1.1\r\nHost: {named}\r\n"
    if user:
        head += f"Proxy-Authorization: {basic(user, password)}\r\n"
    sock.sendall((head + "\r\n").encode("latin-1"))
    answer = b""
    while not answer.endswith(b"\r\n\r\n"):
        byte = sock.recv(1)  # one at a time: what follows the head belongs to the server
        if not byte or len(answer) > 65536:
            raise OSError("proxyconnect: the proxy closed the connection")
        answer += byte
    words = answer.split(b"\r\n", 1)[0].decode("latin-1").split(" ", 2)
    if len(words) < 2 or words[1] != "200":
        raise OSError(words[2] if len(words) > 2 else "proxyconnect: malformed answer")


def basic(user: str, password: str) -> str:
    import base64

    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


_SOCKS_ERRORS = {
    1: "general SOCKS server failure", 2: "connection not allowed by ruleset", 3: "network unreachable",
    4: "host unreachable", 5: "connection refused", 6: "TTL expired", 7: "command not supported",
    8: "address type not supported",
}  # fmt: skip


def _socks5(sock: socket.socket, host: str, port: int, user: str, password: str) -> None:
    """RFC 1928, with RFC 1929 where there is a user. Names are resolved by the proxy."""
    import ipaddress

    sock.sendall(b"\x05\x02\x00\x02" if user else b"\x05\x01\x00")
    version, method = _exactly(sock, 2)
    if version != 5 or method == 255:
        raise OSError("socks connect: no acceptable authentication methods")
    if method == 2:
        name, secret = user.encode(), password.encode()
        sock.sendall(bytes((1, len(name))) + name + bytes((len(secret),)) + secret)
        if _exactly(sock, 2)[1] != 0:
            raise OSError("socks connect: username/password authentication failed")
    try:
        address = ipaddress.ip_address(host)
        where = (b"\x01" if address.version == 4 else b"\x04") + address.packed
    except ValueError:
        name = host.encode("idna")
        where = b"\x03" + bytes((len(name),)) + name
    sock.sendall(b"\x05\x01\x00" + where + port.to_bytes(2, "big"))
    _, code, _, kind = _exactly(sock, 4)
    if code:
        raise OSError(f"socks connect: {_SOCKS_ERRORS.get(code, f'unknown code: {code}')}")
    _exactly(sock, {1: 4, 4: 16}.get(kind) or _exactly(sock, 1)[0])
    _exactly(sock, 2)


def _exactly(sock: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count:
        piece = sock.recv(count - len(data))
        if not piece:
            raise OSError("socks connect: unexpected EOF")
        data += piece
    return data


def _relayed(inner: socket.socket) -> socket.socket:
    """A plain socket for one with TLS: TLS to the server goes through TLS to the proxy, which `ssl` cannot nest."""
    import select
    import socket
    import threading

    ours, theirs = socket.socketpair()
    inner.settimeout(None)

    def pump() -> None:
        # One thread: OpenSSL does not let two use a connection at once.
        ends = {inner: theirs, theirs: inner}
        try:
            while True:
                for source in [inner] if inner.pending() else select.select([*ends], [], [])[0]:  # type: ignore[attr-defined]
                    data = source.recv(65536)
                    if not data:
                        return
                    ends[source].sendall(data)
        except OSError:
            return  # either side is gone: so is the tunnel
        finally:
            inner.close()
            theirs.close()

    threading.Thread(target=pump, daemon=True).start()
    return ours
