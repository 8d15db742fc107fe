"""A cluster's objects without an API server, backends that say who they are, and a controller with a real HAProxy."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import random
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from peavine.base.lifetimes import Scope, scope
from peavine.client.informer import Informer
from peavine.ingress.certificates import ensure_default
from peavine.ingress.controller import Controller
from peavine.ingress.haproxy import HAProxy
from peavine.ingress.settings import Settings
from peavine.machinery.errors import ApiError

Object = dict[str, Any]


class Informers:
    """Informers that are fed by hand."""

    def __init__(self) -> None:
        self.by_plural: dict[str, Informer] = {}
        self.client = self
        self.patched: list[tuple[str, Object]] = []
        self._version = 0

    def informer(self, _: str, plural: str, transform: Any = None, **__: Any) -> Informer:
        if plural not in self.by_plural:
            self.by_plural[plural] = Informer(None, transform=transform)  # type: ignore[arg-type]
            self.by_plural[plural].synced.set()
        return self.by_plural[plural]

    async def run(self) -> None:
        await asyncio.get_running_loop().create_future()

    def resource(self, _: str, plural: str) -> Resource:
        return Resource(self, plural)

    def put(self, plural: str, obj: Object, same_generation: bool = False) -> None:
        self._version += 1
        meta = {"namespace": "default", **obj["metadata"], "resourceVersion": str(self._version)}
        if not same_generation:
            meta["generation"] = self._version
        meta.setdefault("uid", meta["name"])
        meta.setdefault("creationTimestamp", f"2026-01-01T00:00:{self._version % 60:02d}Z")
        self.by_plural[plural]._put({**obj, "metadata": meta})

    def delete(self, plural: str, name: str, namespace: str = "default") -> None:
        self.by_plural[plural]._drop((namespace, name))


class Resource:
    """The API server's side: statuses of the Gateway API come back as they would from there."""

    def __init__(self, informers: Informers, plural: str) -> None:
        self.informers, self.plural = informers, plural

    async def patch(self, name: str, body: Object, namespace: str | None = None, **_: Any) -> None:
        self.informers.patched.append((name, body))
        if self.plural in GATEWAY_API:
            have = self.informers.by_plural[self.plural].get(namespace or "", name)
            if have is None or have["metadata"]["resourceVersion"] != body["metadata"]["resourceVersion"]:
                raise ApiError(409, "Conflict", "the object has been modified")
            self.informers.put(self.plural, {**have, "status": body["status"]}, same_generation=True)


GATEWAY_API = ("gatewayclasses", "gateways", "httproutes", "grpcroutes", "tlsroutes")


class Backend:
    """A plain HTTP server: answers with its name, the path and some headers of the request."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.port = 0
        self.requests = 0
        self.head = ""
        """Of the last request"""
        self.delay = 0.0
        self._server: asyncio.Server | None = None

    async def start(self) -> Backend:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, backlog=1024)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    def close(self) -> None:
        if self._server is not None:
            self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                self.requests += 1
                self.head = head
                first, *headers = head.split("\r\n")
                fields = {k.lower(): v for k, _, v in (h.partition(": ") for h in headers)}
                if fields.get("upgrade") == "websocket":
                    writer.write(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n")
                    writer.write(b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n")
                    while data := await reader.read(1000):
                        writer.write(b"echo:" + data)
                    return
                if "content-length" in fields:
                    await reader.readexactly(int(fields["content-length"]))
                elif fields.get("transfer-encoding") == "chunked":
                    await reader.readuntil(b"0\r\n\r\n")
                if self.delay:
                    await asyncio.sleep(self.delay)
                names = ("x-forwarded-for", "x-forwarded-proto", "x-real-ip")
                seen = " ".join(f"{n}={fields.get(n, '')}" for n in names)
                body = f"{self.name} {first.split(' ')[1]} {seen}".encode()
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
                await writer.drain()
        writer.close()


class Cluster:
    def __init__(self, run_dir: Path, tasks: Scope, gateway_api: bool = False) -> None:
        self.informers = Informers()
        self.backends: dict[str, Backend] = {}
        self.http, self.https = free_port(), free_port()
        self.settings = Settings(
            str(run_dir), "127.0.0.1", self.http, self.https, metrics=f"127.0.0.1:{free_port()}", drain_seconds=5
        )
        ensure_default(run_dir / "certs")
        self.haproxy = HAProxy(run_dir)
        self.controller = Controller(
            self.informers,  # type: ignore[arg-type]
            self.haproxy,
            self.settings,
            ["10.4.7.11"],
            gateway_api=gateway_api,
        )
        self.events: list[tuple[str, str]] = []
        self.controller._recorder = self  # type: ignore[assignment]
        self.informers.put(
            "ingressclasses",
            {
                "metadata": {
                    "name": "peavine",
                    "namespace": "",
                    "annotations": {"ingressclass.kubernetes.io/is-default-class": "true"},
                },
                "spec": {"controller": "peavine.dev/ingress"},
            },
        )
        self.running = tasks.start(self.controller.run())

    def event(self, obj: Object, _: str, reason: str, message: str) -> None:
        self.events.append((obj["metadata"]["name"], reason))

    async def service(
        self, name: str, *backends: str, app_protocol: str = "", port_name: str = "http", namespace: str = "default"
    ) -> None:
        port: Object = {"name": port_name, "port": 80}
        if app_protocol:
            port["appProtocol"] = app_protocol
        meta = {"name": name, "namespace": namespace}
        self.informers.put("services", {"metadata": meta, "spec": {"ports": [port]}})
        await self.endpoints(name, *backends, port_name=port_name, namespace=namespace)

    async def endpoints(self, name: str, *backends: str, port_name: str = "http", namespace: str = "default") -> None:
        """One slice for each backend, since each has a port of its own."""
        slices = self.informers.by_plural["endpointslices"]
        for obj in slices.by_index("service", (namespace, name)):
            if obj["metadata"]["name"].removeprefix(f"{name}-") not in backends:
                self.informers.delete("endpointslices", obj["metadata"]["name"], namespace)
        for backend in backends:
            if backend not in self.backends:
                self.backends[backend] = await Backend(backend).start()
            self.informers.put(
                "endpointslices",
                {
                    "metadata": {
                        "name": f"{name}-{backend}",
                        "namespace": namespace,
                        "labels": {"kubernetes.io/service-name": name},
                    },
                    "addressType": "IPv4",
                    "endpoints": [{"addresses": ["127.0.0.1"], "conditions": {"ready": True}}],
                    "ports": [{"name": port_name, "port": self.backends[backend].port}],
                },
            )

    def ingress(
        self, name: str, *paths: tuple[str, str, str, str], tls: list[Object] | None = None, **more: Any
    ) -> None:
        """Paths are (host, path, path type, service)."""
        rules = []
        for host, path, kind, service in paths:
            backend = {"service": {"name": service, "port": {"number": 80}}}
            rule: Object = {"http": {"paths": [{"path": path, "pathType": kind, "backend": backend}]}}
            if host:
                rule["host"] = host
            rules.append(rule)
        annotations = {f"ingress.peavine.dev/{k.replace('_', '-')}": v for k, v in more.pop("annotations", {}).items()}
        spec = {"rules": rules, **({"tls": tls} if tls else {}), **more}
        self.informers.put("ingresses", {"metadata": {"name": name, "annotations": annotations}, "spec": spec})

    def secret(self, name: str, namespace: str = "default", **data: str) -> None:
        encoded = {k.replace("_", "."): base64.b64encode(v.encode()).decode() for k, v in data.items()}
        self.informers.put("secrets", {"metadata": {"name": name, "namespace": namespace}, "data": encoded})

    async def settled(self) -> None:
        """Return when every change so far is in force."""
        await asyncio.sleep(0)  # The controller sees that it is woken.
        waiting = asyncio.ensure_future(self.controller.idle.wait())
        await asyncio.wait({waiting, self.running}, timeout=20, return_when=asyncio.FIRST_COMPLETED)
        if self.running.done():
            self.running.result()
        assert waiting.done(), "the controller does not settle"
        async with asyncio.timeout(20):
            await self.controller.statuses.idle.wait()

    async def get(
        self,
        host: str,
        path: str = "/",
        *,
        port: int = 0,
        ssl: Any = None,
        method: str = "GET",
        body: bytes = b"",
        sni: str = "",
        address: str = "127.0.0.1",
        **headers: str,
    ) -> tuple[int, dict[str, str], str]:
        reader, writer = await asyncio.open_connection(
            address, port or self.http, ssl=ssl, server_hostname=(sni or host) if ssl else None
        )
        lines = [f"{method} {path} HTTP/1.1", f"Host: {host}", "Connection: close"]
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
        if body:
            lines.append(f"Content-Length: {len(body)}")
        writer.write("\r\n".join([*lines, "", ""]).encode() + body)
        async with asyncio.timeout(5):
            answer = await reader.read()
        writer.close()
        head, _, rest = answer.partition(b"\r\n\r\n")
        first, *found = head.decode().split("\r\n")
        return int(first.split()[1]), {k.lower(): v for k, _, v in (h.partition(": ") for h in found)}, rest.decode()

    async def who(self, host: str, path: str = "/", **more: Any) -> str:
        """The backend that answers, or the status code."""
        code, _, body = await self.get(host, path, **more)
        return body.split(" ")[0] if code == 200 else str(code)


def free_port() -> int:
    """Below those that the kernel gives to clients: nobody takes it by chance until it is used."""
    while True:
        port = random.randrange(20_000, 32_000)
        with socket.socket() as s, contextlib.suppress(OSError):
            s.bind(("127.0.0.1", port))
            return port


@contextlib.asynccontextmanager
async def cluster(run_dir: Path, gateway_api: bool = False) -> AsyncIterator[Cluster]:
    async with scope() as tasks:
        made = Cluster(run_dir, tasks, gateway_api)
        try:
            yield made
        finally:
            for backend in made.backends.values():
                backend.close()
