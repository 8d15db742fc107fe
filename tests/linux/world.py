"""A little internet of network namespaces: two nodes with pods, and a client outside, all from one process.

A socket belongs to the namespace in which it was opened, so servers and clients of every namespace live in this
process: one thread answers for all of them.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import selectors
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from peavine.linux import namespaces, programs

NODE_A, NODE_B, CLIENT_IP = "10.4.7.11", "10.4.7.21", "10.4.7.100"
NODE_A6, NODE_B6, CLIENT_IP6 = "fd04:7::11", "fd04:7::21", "fd04:7::100"
PODS = {
    "a1": ("a", "172.7.11.2", "fd07:11::2"),
    "a2": ("a", "172.7.11.3", "fd07:11::3"),
    "b1": ("b", "172.7.21.2", "fd07:21::2"),
}
POD_CIDRS = ("172.7.0.0/16", "fd07::/16")
SERVICE_CIDRS = ("192.168.0.0/16", "fd08::/108")
wait_seconds = 1.5
# A kind of socket and its protocol's number.
KINDS = {
    "tcp": (socket.SOCK_STREAM, 0),
    "udp": (socket.SOCK_DGRAM, 0),
    "sctp": (socket.SOCK_STREAM, socket.IPPROTO_SCTP),
}


class Refused(Exception):
    """The other side, or a firewall on the way, said no."""


class Silent(Exception):
    """Nothing came back."""


@dataclass
class World:
    """Namespaces by short name: `a` and `b` are nodes, `client` is outside, the rest are pods."""

    names: dict[str, str]
    servers: Servers

    def inside(self, name: str) -> contextlib.AbstractContextManager[None]:
        return namespaces.inside(self.names[name])

    def run(self, name: str, *command: str) -> str:
        return programs.run(["ip", "netns", "exec", self.names[name], *command])

    def serve(self, name: str, port: int, address: str = "", answer: str = "") -> None:
        """Answer TCP and UDP on a port with `answer` (the namespace's name unless given) and the client's address."""
        with self.inside(name):
            self.servers.open(address, port, answer or name)

    def ask(
        self,
        name: str,
        address: str,
        port: int,
        protocol: str = "tcp",
        *,
        source_port: int = 0,
        seconds: float = wait_seconds,
        size: int = 1,
    ) -> tuple[str, str]:
        """(who answered, whom it saw) to a fresh connection from a namespace. Raises Refused or Silent.

        A datagram of more than one byte must arrive in one piece; Refused if it is too large for the first link.
        """
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        if protocol == "sctp" and seconds == wait_seconds:
            seconds = 5.0  # A first packet that is lost is sent again after three.
        with self.inside(name), socket.socket(family, *KINDS[protocol]) as s:
            s.settimeout(seconds)
            if source_port:
                s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                s.bind(("", source_port))
            if protocol == "sctp":
                # With every address of a node in one association no translation can work: it gets the one it would use.
                with socket.socket(family, socket.SOCK_DGRAM) as probe:
                    probe.connect((address, port))
                    s.bind((probe.getsockname()[0], 0))
            if size > 1:
                # Never in fragments: IP_MTU_DISCOVER or IPV6_MTU_DISCOVER is IP_PMTUDISC_DO.
                s.setsockopt(*((41, 23) if family == socket.AF_INET6 else (0, 10)), 2)
            try:
                s.connect((address, port))
                s.send(b"?" * size)
                who, seen = s.recv(200).decode().split(" ")
            except ConnectionError as error:
                raise Refused(str(error)) from error
            except OSError as error:
                if error.errno in (110, None) or isinstance(error, TimeoutError):
                    raise Silent(str(error)) from error
                raise Refused(str(error)) from error
            return who, seen

    def silent(self, name: str, address: str, port: int, protocol: str = "tcp") -> bool:
        """Whether nothing comes back, not even a refusal. An answer that comes at all comes within milliseconds; on a
        machine with better things to do it gets a second chance."""
        for _ in range(2):
            try:
                self.ask(name, address, port, protocol, seconds=0.35)
            except Silent:
                continue
            except Refused:
                return False
            return False
        return True

    def refused(self, name: str, address: str, port: int, protocol: str = "tcp") -> bool:
        try:
            self.ask(name, address, port, protocol)
        except Refused:
            return True
        except Silent:
            return False
        return False

    @contextlib.contextmanager
    def stream(self, name: str, address: str, port: int) -> Iterator[Callable[[str], str]]:
        """A TCP connection that stays open; call it with a word to get the answer and the word back."""
        with self.inside(name), socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET) as s:
            s.settimeout(wait_seconds)
            s.connect((address, port))

            def talk(word: str) -> str:
                s.send(f"+{word}".encode())
                return s.recv(200).decode()

            yield talk

    def everyone(self, name: str, address: str, port: int, protocol: str = "tcp", times: int = 24) -> set[str]:
        """Who answers over many connections."""
        return {self.ask(name, address, port, protocol)[0] for _ in range(times)}


@dataclass
class Servers:
    """TCP and UDP servers of any namespace, answered by one thread."""

    selector: selectors.BaseSelector = field(default_factory=selectors.DefaultSelector)
    opened: list[socket.socket] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._end, self._poke = socket.socketpair()
        self.selector.register(self._end, selectors.EVENT_READ, None)
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def open(self, address: str, port: int, answer: str) -> None:
        family = socket.AF_INET if "." in address else socket.AF_INET6
        for kind, number in KINDS.values():
            try:
                s = socket.socket(family, kind, number)
            except OSError:
                if number == socket.IPPROTO_SCTP:
                    continue  # `has_sctp` says so.
                raise
            s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
            s.bind((address, port))
            s.setblocking(False)
            if kind == socket.SOCK_STREAM:
                s.listen(128)
            self.opened.append(s)
            self.selector.register(s, selectors.EVENT_READ, (kind, answer))
        self._poke.send(b".")

    def close(self) -> None:
        self._poke.close()
        self._thread.join(5)
        for s in self.opened:
            s.close()
        self._end.close()
        self.selector.close()

    def _run(self) -> None:
        while True:
            for key, _ in self.selector.select():
                s = key.fileobj
                assert isinstance(s, socket.socket)
                if key.data is None:
                    if not s.recv(10):
                        return
                    continue
                kind, answer = key.data
                with contextlib.suppress(OSError):
                    if kind is None:
                        self._talk(s, answer)
                    elif kind == socket.SOCK_STREAM:
                        connection, peer = s.accept()
                        self.opened.append(connection)
                        self.selector.register(connection, selectors.EVENT_READ, (None, (answer, _plain(peer[0]))))
                    else:
                        _, peer = s.recvfrom(100)
                        s.sendto(f"{answer} {_plain(peer[0])}".encode(), peer)

    def _talk(self, s: socket.socket, answer: tuple[str, str]) -> None:
        """`?` is answered with who we are and whom we see, and hung up; `+word` with the word, and kept open."""
        heard = b""
        try:
            heard = s.recv(100)
            if heard.startswith(b"+"):
                s.send(f"{answer[0]} {heard[1:].decode()}".encode())
            elif heard:
                s.send(" ".join(answer).encode())
        finally:
            if not heard.startswith(b"+"):
                self.selector.unregister(s)
                self.opened.remove(s)
                s.close()


def _plain(address: str) -> str:
    return address.removeprefix("::ffff:")


@contextlib.contextmanager
def make() -> Iterator[World]:
    suffix = secrets.token_hex(3)
    names = {short: f"pv-{suffix}-{short}" for short in ("switch", "a", "b", "client", *PODS)}
    try:
        for name in names.values():
            namespaces.create(name)
        _wire(names)
        servers = Servers()
        try:
            yield World(names, servers)
        finally:
            servers.close()
    finally:
        for name in names.values():
            namespaces.remove(name)


def _batch(name: str, *lines: str) -> None:
    programs.run(["ip", "-n", name, "-batch", "-"], "\n".join(lines) + "\n")


def _wire(names: dict[str, str]) -> None:
    switch = names["switch"]
    hosts = {"a": (NODE_A, NODE_A6), "b": (NODE_B, NODE_B6), "client": (CLIENT_IP, CLIENT_IP6)}
    _batch(
        switch,
        "link add br0 type bridge",
        "link set br0 up",
        *(f"link add to-{h} type veth peer name eth0 netns {names[h]}" for h in hosts),
        *(f"link set to-{h} master br0 up" for h in hosts),
    )
    for host, (ip, ip6) in hosts.items():
        with namespaces.inside(names[host]):
            # Without duplicate address detection IPv6 works at once.
            for path, value in (
                ("ipv4/ip_forward", "1"),
                ("ipv6/conf/all/forwarding", "1"),
                ("ipv6/conf/default/accept_dad", "0"),
                ("ipv6/conf/eth0/accept_dad", "0"),
                # Refusals are counted here: none may be held back because there were others before.
                ("ipv4/icmp_ratelimit", "0"),
                ("ipv6/icmp/ratelimit", "0"),
            ):
                with open(f"/proc/sys/net/{path}", "w") as f:
                    f.write(value)
        lines = [
            "link set lo up",
            "link set eth0 up",
            f"addr add {ip}/24 dev eth0",
            f"addr add {ip6}/64 dev eth0 nodad",
        ]
        for pod, (home, pod_ip, pod_ip6) in PODS.items():
            if home == host:
                lines += [
                    f"link add {pod} type veth peer name eth0 netns {names[pod]}",
                    f"link set {pod} up",
                    f"addr add {_gateway(pod_ip)}/32 dev {pod}",
                    f"addr add {_gateway(pod_ip6)}/128 dev {pod} nodad",
                    f"route add {pod_ip}/32 dev {pod}",
                    f"route add {pod_ip6}/128 dev {pod}",
                ]
        if host != "b":
            lines += [f"route add 172.7.21.0/24 via {NODE_B}", f"route add fd07:21::/64 via {NODE_B6}"]
        if host != "a":
            lines += [f"route add 172.7.11.0/24 via {NODE_A}", f"route add fd07:11::/64 via {NODE_A6}"]
        if host == "client":
            # Whatever else exists lies behind node a: cluster IPs, load-balancer addresses.
            lines += [f"route add default via {NODE_A}", f"route add default via {NODE_A6}"]
        else:
            # Nodes need a route for unknown addresses, or connections to cluster IPs fail before any rule is asked.
            # Not back to the client: it would be told to go there itself.
            lines += [
                f"link add void type veth peer name void-{host} netns {switch}",
                "link set void up",
                "addr add 10.250.0.2/24 dev void",
                "route add default via 10.250.0.1",
                "addr add fd25::2/64 dev void nodad",
                "route add default via fd25::1",
            ]
        _batch(names[host], *lines)
    for pod, (_, ip, ip6) in PODS.items():
        _batch(
            names[pod],
            "link set lo up",
            "link set eth0 up",
            f"addr add {ip}/32 dev eth0",
            f"addr add {ip6}/128 dev eth0 nodad",
            f"route add {_gateway(ip)} dev eth0",
            f"route add {_gateway(ip6)} dev eth0",
            f"route add default via {_gateway(ip)}",
            f"route add default via {_gateway(ip6)} dev eth0",
        )


def _gateway(ip: str) -> str:
    return ip.rsplit(":" if ":" in ip else ".", 1)[0] + (":1" if ":" in ip else ".1")


def has_sctp() -> bool:
    try:
        socket.socket(socket.AF_INET, *KINDS["sctp"]).close()
    except OSError:
        return False
    return True


def is_root() -> bool:
    return os.geteuid() == 0
